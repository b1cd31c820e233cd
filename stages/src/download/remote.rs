//! Sources that are not at hand as files: web addresses, repositories of the Hub, and archives of either or of this machine.
//!
//! Planning asks no network: a checksum or a commit says what will come. Their format and columns must be said.

use std::fs;
use std::path::{Path, PathBuf};

use pipe_engine::cell::{ColumnType, Schema};
use pipe_engine::problem::{Failure, Problem};
use pipe_engine::source::SourceContext;
use pipe_engine::stage::Resolution;

use super::archive::{self, Archive};
use super::http::{Budget, Checksum, Client, Patience, Wanted};
use super::local::{self, LocalFile};
use super::schema::IMAGE;
use super::source::{Address, Repo, Source};
use super::{Format, Params, hub, layout};
use crate::records::RecordFormat;

/// What is known of a source before it is fetched.
pub fn resolution(source: &Source, params: &Params) -> Result<Resolution, Problem> {
    let format = format(source, params)?;
    layout::patterns(params)?;
    let pin = match source {
        Source::Local(_) => format.name().to_owned(),
        Source::Web(address) => {
            format!("sha256:{} {} {}", checksum(address, params)?, address.file_name(), format.name())
        }
        Source::Hub(repo) => format!("{repo} {}", format.name()),
    };
    Ok(Resolution { pin, schema: schema(format, params)?, ..Resolution::default() })
}

fn checksum<'a>(address: &Address, params: &'a Params) -> Result<&'a str, Problem> {
    params.sha256.as_deref().ok_or_else(|| {
        Problem::param(
            "source",
            format!("what {address} holds may change from day to day: `sha256` must say what is meant"),
        )
        .help("download it once, and take what `sha256sum FILE` says")
    })
}

/// The format that was asked for, or that the source has by its nature.
fn format(source: &Source, params: &Params) -> Result<Format, Problem> {
    let name = match source {
        Source::Local(path) => path.to_string_lossy().into_owned(),
        Source::Web(address) => address.file_name(),
        Source::Hub(_) => String::new(),
    };
    match (params.format, source) {
        (Format::Auto, Source::Hub(Repo { dataset: false, .. })) => Ok(Format::Model),
        (Format::Auto, Source::Web(_)) if RecordFormat::of(&name) == Some(RecordFormat::Jsonl) => Ok(Format::Jsonl),
        (Format::Auto, Source::Web(_)) if RecordFormat::of(&name) == Some(RecordFormat::Csv) => Ok(Format::Csv),
        (Format::Auto, _) => Err(Problem::param("format", "what it holds cannot be told before it is fetched")
            .help("say it with `format`: images, jsonl, csv, model, adapter or files")),
        (format, _) => Ok(format),
    }
}

/// The columns of a dataset that cannot be looked at yet.
fn schema(format: Format, params: &Params) -> Result<Option<Schema>, Problem> {
    let mut schema = Schema(params.columns.clone());
    if schema.get("id").is_some() {
        return Err(Problem::param("columns.id", "`id` is the name of every dataset's key, not of a column")
            .help("to take ids from a column, write `id = \"COLUMN\"`"));
    }
    match format {
        Format::Images => {
            if schema.0.insert(IMAGE.to_owned(), ColumnType::Image).is_some_and(|other| other != ColumnType::Image) {
                return Err(Problem::param("columns.image", "the images of a folder are an image column"));
            }
            Ok(Some(schema))
        }
        Format::Jsonl | Format::Csv if schema.0.is_empty() => {
            Err(Problem::param("columns", "its columns cannot be told before it is fetched")
                .help("declare them: columns = { caption = \"text\", score = \"float\" }"))
        }
        Format::Jsonl | Format::Csv => Ok(Some(schema)),
        _ if !schema.0.is_empty() => Err(Problem::param("columns", "these are files; only a dataset has `columns`")),
        _ => Ok(None),
    }
}

/// Fetches and unpacks a source into the scratch directory; its files.
pub fn fetch(context: &SourceContext<'_>, source: &Source, params: &Params) -> Result<Vec<LocalFile>, Failure> {
    let budget = Budget::new(params.max_bytes);
    let dir = subdirectory(context.scratch, "fetched")?;
    let patterns = layout::patterns(params).map_err(|problem| Failure::input(problem.message))?;
    let single = match source {
        Source::Local(_) => local_archive(context)?,
        Source::Web(address) => fetch_address(context, address, (params, &dir), &budget)?,
        Source::Hub(repo) => {
            let endpoint = endpoint(context)?;
            let client = Client::new(Patience::default(), context.credentials.get("HF_TOKEN"), context.sink);
            return hub::fetch(&client, (&endpoint, repo), patterns.as_ref(), &dir, &budget);
        }
    };
    let Some(archive) = Archive::of(&single.name) else { return Ok(vec![single]) };
    let unpacked = subdirectory(context.scratch, "unpacked")?;
    archive::unpack(&single.path, archive, &unpacked, &Budget::new(params.max_bytes), context.sink)?;
    let mut files = local::list(&unpacked, patterns.as_ref()).map_err(|problem| Failure::internal(problem.message))?;
    if matches!(params.format, Format::Model | Format::Adapter) {
        strip_folder(&mut files);
    }
    Ok(files)
}

/// Archives of a model often hold one folder, with the model in it.
fn strip_folder(files: &mut [LocalFile]) {
    let Some((folder, _)) = files.first().and_then(|file| file.name.split_once('/')) else { return };
    let prefix = format!("{folder}/");
    if files.iter().all(|file| file.name.starts_with(&prefix)) {
        files.iter_mut().for_each(|file| drop(file.name.drain(..prefix.len())));
    }
}

fn subdirectory(scratch: &Path, name: &str) -> Result<PathBuf, Failure> {
    let dir = scratch.join(name);
    fs::create_dir_all(&dir).map_err(|error| Failure::io("create", &dir, &error))?;
    Ok(dir)
}

fn local_archive(context: &SourceContext<'_>) -> Result<LocalFile, Failure> {
    let file = context.resolution.files.first().map(LocalFile::of);
    let file = file.ok_or_else(|| Failure::internal("the archive was not resolved"))?;
    file.verify()?;
    Ok(file)
}

fn fetch_address(
    context: &SourceContext<'_>,
    address: &Address,
    (params, dir): (&Params, &Path),
    budget: &Budget,
) -> Result<LocalFile, Failure> {
    let sha256 = checksum(address, params).map_err(|problem| Failure::input(problem.message))?;
    let name = address.file_name();
    let path = dir.join(&name);
    let wanted = Wanted { address, size: None, checksum: &Checksum::Sha256(sha256.to_owned()) };
    Client::new(Patience::default(), None, context.sink).fetch(&wanted, &path, budget)?;
    Ok(LocalFile::new(name, path))
}

/// Where the Hub is. A token goes only where nobody can listen.
fn endpoint(context: &SourceContext<'_>) -> Result<String, Failure> {
    let text = context.credentials.get("HF_ENDPOINT").map_or(hub::ENDPOINT, |endpoint| endpoint.reveal());
    let text = text.trim_end_matches('/');
    let address = Address::parse(text).map_err(|wrong| Failure::input(format!("HF_ENDPOINT: {wrong}")))?;
    if context.credentials.get("HF_TOKEN").is_some() && !address.is_private() {
        return Err(
            Failure::input("HF_ENDPOINT is not encrypted: HF_TOKEN could be read on the way").help("use https://")
        );
    }
    Ok(text.to_owned())
}
