//! Sources that are not at hand as files: web addresses, repositories of the Hub, and archives of either or of this machine.
//!
//! Planning asks no network: a checksum or a commit, in the pipeline or its lock, says what will come. Their format and columns must be said.

use std::fs;
use std::path::{Path, PathBuf};

use pipe_engine::cell::{ColumnType, Schema};
use pipe_engine::problem::{Failure, Problem};
use pipe_engine::source::{Asking, Credentials, SourceContext};
use pipe_engine::stage::{Moving, Resolution, ResolveContext};

use super::archive::{self, Archive};
use super::http::{Budget, Checksum, Client, Patience, Wanted};
use super::local::{self, LocalFile};
use super::schema::IMAGE;
use super::source::{Address, Repo, Source, is_commit};
use super::{Format, Params, hub, layout};
use crate::records::RecordFormat;

/// What is known of a source before it is fetched.
pub fn resolution(source: &Source, params: &Params, context: &ResolveContext<'_>) -> Result<Resolution, Problem> {
    let format = format(source, params)?;
    layout::patterns(params)?;
    let schema = schema(format, params)?;
    let State { pin, moving, fetched } = State::of(source, params, context)?;
    let name = match source {
        Source::Web(address) if pin.is_some() => Some(address.file_name()),
        _ => None,
    };
    let words: Vec<String> = pin.into_iter().chain(name).chain([format.name().to_owned()]).collect();
    let notes = moving.iter().filter(|moving| !moving.is_pinned).map(no_pin).collect();
    Ok(Resolution { pin: words.join(" "), moving, fetched, schema, notes, ..Resolution::default() })
}

fn no_pin(moving: &Moving) -> String {
    format!("{} has no pin yet: the next run asks what it holds, and the lock keeps the answer", moving.source)
}

/// The state of a source: what the pipeline says, else what the lock says, else what the place says now.
#[derive(Default)]
struct State {
    /// `sha256:DIGITS` or `hf://owner/name@commit`; not of a local archive.
    pin: Option<String>,
    moving: Option<Moving>,
    fetched: Option<PathBuf>,
}

impl State {
    fn of(source: &Source, params: &Params, context: &ResolveContext<'_>) -> Result<Self, Problem> {
        let name = match (source, &params.sha256) {
            (Source::Local(_), _) => return Ok(Self::default()),
            (Source::Web(_), Some(digits)) => return Ok(Self::fixed(format!("{SHA256}{digits}"))),
            (Source::Hub(repo), _) if repo.is_fixed() => return Ok(Self::fixed(repo.to_string())),
            (Source::Web(address), None) if !address.is_private() => return Err(unsafe_to_pin(address)),
            (Source::Web(address), None) => address.name(),
            (Source::Hub(repo), _) => repo.to_string(),
        };
        let locked = (context.pinned)(&name)?.map(|pin| state_of(source, &pin)).transpose()?;
        let (pin, fetched) = match (locked, context.ask) {
            (Some(pin), _) => (Some(pin), None),
            (None, Some(asking)) => ask(source, params, asking).map_err(problem)?,
            (None, None) => (None, None),
        };
        Ok(Self { moving: Some(Moving { source: name, is_pinned: pin.is_some() }), pin, fetched })
    }

    fn fixed(pin: String) -> Self {
        Self { pin: Some(pin), ..Self::default() }
    }
}

/// What stands before the digits of a checksum in a pin.
const SHA256: &str = "sha256:";

fn unsafe_to_pin(address: &Address) -> Problem {
    Problem::param("source", format!("{address} is not encrypted, so that anyone on the way could answer for it"))
        .help("use https://, or say with `sha256` what is meant")
}

fn problem(failure: Failure) -> Problem {
    let problem = Problem::param("source", failure.message);
    Problem { help: failure.help, ..problem }
}

/// The state that a pin of the lock names.
fn state_of(source: &Source, pin: &str) -> Result<String, Problem> {
    let state = pin.split(' ').next().unwrap_or_default();
    let fits = match source {
        Source::Local(_) => false,
        Source::Web(_) => checksum(state).is_some(),
        Source::Hub(repo) => {
            state.rsplit_once('@').is_some_and(|(_, commit)| repo.at(commit).to_string() == state)
                && commit(state).is_some()
        }
    };
    fits.then(|| state.to_owned()).ok_or_else(|| {
        Problem::param("source", format!("the lock pins it to `{pin}`, which is no state of it"))
            .help("correct the lock, or delete the block of the step there: the next run pins it anew")
    })
}

fn checksum(pin: &str) -> Option<&str> {
    let digits = pin.split(' ').next()?.strip_prefix(SHA256)?;
    (digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(digits)
}

fn commit(pin: &str) -> Option<&str> {
    pin.split(' ').next()?.rsplit_once('@').map(|(_, commit)| commit).filter(|commit| is_commit(commit))
}

/// Asks a place what it holds: a branch for its commit; an address for its file, since nothing less tells its digest.
fn ask(source: &Source, params: &Params, asking: &Asking<'_>) -> Result<(Option<String>, Option<PathBuf>), Failure> {
    match source {
        Source::Local(_) => Ok((None, None)),
        Source::Hub(repo) => {
            let endpoint = endpoint(asking.credentials)?;
            let client = Client::new(Patience::default(), asking.credentials.get("HF_TOKEN"), asking.sink);
            let commit = hub::commit(&client, &endpoint, repo)?;
            Ok((Some(repo.at(&commit).to_string()), None))
        }
        Source::Web(address) => {
            let path = asking.scratch.join(address.file_name());
            let wanted = Wanted { address, size: None, checksum: None };
            let client = Client::new(Patience::default(), None, asking.sink);
            let digits = client.fetch(&wanted, &path, &Budget::new(params.max_bytes))?;
            Ok((Some(format!("{SHA256}{digits}")), Some(path)))
        }
    }
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
        Source::Web(address) => fetch_address(context, address, &dir, &budget)?,
        Source::Hub(repo) => {
            let repo = &repo.at(commit(&context.resolution.pin).ok_or_else(no_state)?);
            let endpoint = endpoint(context.credentials)?;
            let client = Client::new(Patience::default(), context.credentials.get("HF_TOKEN"), context.sink);
            return hub::fetch(&client, (&endpoint, repo), patterns.as_ref(), &dir, &budget);
        }
    };
    let Some(archive) = Archive::of(&single.name) else { return Ok(vec![single]) };
    let unpacked = subdirectory(context.scratch, "unpacked")?;
    archive::unpack(&single.path, archive, &unpacked, &Budget::new(params.max_bytes), context.sink)?;
    let listed = local::list(&params.source, &unpacked, patterns.as_ref());
    let mut files = listed.map_err(|problem| Failure::internal(problem.message))?.files;
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
    dir: &Path,
    budget: &Budget,
) -> Result<LocalFile, Failure> {
    let name = address.file_name();
    if let Some(path) = &context.resolution.fetched {
        return Ok(LocalFile::new(name, path.clone()));
    }
    let checksum = Checksum::Sha256(checksum(&context.resolution.pin).ok_or_else(no_state)?.to_owned());
    let path = dir.join(&name);
    let wanted = Wanted { address, size: None, checksum: Some(&checksum) };
    Client::new(Patience::default(), None, context.sink).fetch(&wanted, &path, budget)?;
    Ok(LocalFile::new(name, path))
}

fn no_state() -> Failure {
    Failure::internal("the source was not pinned before it was fetched")
}

/// Where the Hub is. A token goes only where nobody can listen.
fn endpoint(credentials: &Credentials) -> Result<String, Failure> {
    let text = credentials.get("HF_ENDPOINT").map_or(hub::ENDPOINT, |endpoint| endpoint.reveal());
    let text = text.trim_end_matches('/');
    let address = Address::parse(text).map_err(|wrong| Failure::input(format!("HF_ENDPOINT: {wrong}")))?;
    if credentials.get("HF_TOKEN").is_some() && !address.is_private() {
        return Err(
            Failure::input("HF_ENDPOINT is not encrypted: HF_TOKEN could be read on the way").help("use https://")
        );
    }
    Ok(text.to_owned())
}
