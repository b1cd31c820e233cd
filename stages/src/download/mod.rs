//! `download`: brings data, models and files in from outside.
//!
//! Planning *resolves* the source: local files to their digests, remote ones to the checksum or commit they are pinned by, in the
//! pipeline or its lock (without a network). A run asks for the pins that are not there.
//! Running fetches what is remote and gives a dataset, a model or files. What is brought in decides the key, not where it lies.
//! Knows nothing of what is done with it.

mod archive;
mod http;
mod hub;
mod layout;
mod local;
#[cfg(test)]
mod pin_tests;
mod remote;
#[cfg(test)]
mod remote_tests;
mod rows;
mod schema;
mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use pipe_engine::cell::ColumnType;
use pipe_engine::problem::{Failure, Problem};
use pipe_engine::source::{GivenFile, SourceContext};
use pipe_engine::stage::{
    Contract, Declare, Execute, Port, Resolution, ResolveContext, Resources, Stage, params_schema,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::image_file::has_image_extension;
use crate::kinds;
use crate::left_out::LeftOut;
use archive::Archive;
use layout::{Layout, Wrong};
use local::{Listed, LocalFile};
use source::Source;

/// The row of the stage table.
pub const STAGE: Stage = Stage {
    name: "download",
    version: 1,
    about: "brings in a dataset, a model or files, from this machine or a place on the network",
    inputs: &[],
    outputs: &[Port::one(OUTPUT, &["*"], "what was brought in")],
    params: params_schema::<Params>,
    resources: Resources::NET,
    resolve: Some(resolve),
    declare,
    execute: Execute::Source(execute),
};

const OUTPUT: &str = "data";

/// The parameters of `download`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Where it lies: a folder, an archive (.zip, .tar, .tar.gz) or a file (.jsonl, .csv, …) beside the pipeline; `https://…`, with
    /// or without its `sha256`; or `hf://owner/name@REVISION`, `hf://datasets/owner/name@REVISION` (by default `main`). What may change is
    /// pinned by the lock.
    #[schemars(length(min = 1), extend("x-performance" = true))]
    source: String,
    /// The SHA-256 of the file at an `https://` address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    sha256: Option<String>,
    /// What to make of it; `auto` tells by the names of local files, takes a model from the Hub, and must be said of archives.
    #[serde(default)]
    format: Format,
    /// The column that holds the id of a row; without one, `id` where there is such a column, the path of an image, or a digest of the row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// The columns and their types, such as `{ caption = "text", image = "image" }`; others are then left out. Images are paths relative
    /// to the file that names them. Without it, the types are told by the first thousand records of a local file; of what is not local they must be said.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    columns: BTreeMap<String, ColumnType>,
    /// Only the files that match one of these patterns: `*.png` (at any depth), `train/**`. A model has by default only
    /// safetensors, configuration and tokenizer files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    include: Vec<String>,
    /// Bytes that may be downloaded, and that archives may unpack to.
    #[serde(default = "max_bytes")]
    #[schemars(range(min = 1), extend("x-performance" = true))]
    max_bytes: u64,
}

fn max_bytes() -> u64 {
    64 << 30
}

/// What to make of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Tell by the names of the files.
    #[default]
    Auto,
    /// A dataset of the images of a folder, with columns from metadata.jsonl or metadata.csv.
    Images,
    /// A dataset of the objects of a JSON Lines file.
    Jsonl,
    /// A dataset of the rows of a CSV file.
    Csv,
    /// A model in the layout of Hugging Face.
    Model,
    /// A LoRA adapter in the layout of PEFT.
    Adapter,
    /// The files as they are.
    Files,
}

impl Format {
    const NAMES: &[(Self, &'static str)] = &[
        (Self::Auto, "auto"),
        (Self::Images, "images"),
        (Self::Jsonl, "jsonl"),
        (Self::Csv, "csv"),
        (Self::Model, "model"),
        (Self::Adapter, "adapter"),
        (Self::Files, "files"),
    ];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(format, _)| *format == self).map_or("", |(_, name)| name)
    }

    fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, other)| *other == name).map(|(format, _)| *format)
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Images | Self::Jsonl | Self::Csv => kinds::DATASET,
            Self::Model => kinds::MODEL,
            Self::Adapter => kinds::ADAPTER,
            Self::Auto | Self::Files => kinds::FILES,
        }
    }
}

fn resolve(context: &ResolveContext<'_>) -> Result<Resolution, Problem> {
    let params: Params = context.params()?;
    let source = Source::parse(&params.source, context.base)?;
    if params.sha256.is_some() && !matches!(source, Source::Web(_)) {
        return Err(Problem::param("sha256", "only a file at an https:// address is checked by `sha256`")
            .help("local files are known by their content, and the Hub's by their commit"));
    }
    match &source {
        Source::Local(path) if !is_archive(path) => local_resolution(path, context, &params),
        Source::Local(path) => {
            let files = local::digests(&local::list(&params.source, path, None)?.files, context.index)?;
            Ok(Resolution { files, ..remote::resolution(&source, &params, context)? })
        }
        Source::Web(_) | Source::Hub(_) => remote::resolution(&source, &params, context),
    }
}

fn local_resolution(path: &Path, context: &ResolveContext<'_>, params: &Params) -> Result<Resolution, Problem> {
    let Listed { mut files, odd } = local::list(&params.source, path, layout::patterns(params)?.as_ref())?;
    let layout = Layout::of(&files, params).map_err(Wrong::problem)?;
    // An image like that costs its row; in a set of files nothing may be missing.
    let (lost, odd): (Vec<_>, Vec<_>) =
        odd.into_iter().partition(|(name, _)| matches!(layout, Layout::Images { .. }) && has_image_extension(name));
    if let (kind @ (kinds::FILES | kinds::MODEL | kinds::ADAPTER), Some((name, why))) =
        (layout.format().kind(), odd.first())
    {
        let problem = Problem::param("source", format!("{name} cannot be part of a {kind}: {why}"));
        return Err(problem.help("rename or remove it, or choose other files with `include`"));
    }
    let all = files.len();
    files.retain(|file| layout.uses(&file.name));
    let mut told = schema::tell(&layout, &files, params)?;
    let format = layout.format().name();
    if files.len() < all {
        told.notes.push(format!("{} of {all} files are left out: they are no {format}", all - files.len()));
    }
    files.extend(schema::referenced_images(&layout, &files, params)?);
    // An image that cannot be read costs its row; without another file there is nothing to go on with.
    let (images, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| layout.is_image(&file.name));
    let (mut files, mut unreadable) = local::readable(&images, context.index)?;
    let sought = images.len() + lost.len();
    unreadable.extend(lost);
    unreadable.sort();
    told.notes.extend(odd.iter().map(|(name, why)| format!("{name} is left out: {why}")));
    files.extend(local::digests(&others, context.index)?);
    files.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some((name, why)) = unreadable.first() {
        let message =
            format!("{} of {} images cannot be read and become failed rows: {name}: {why}", unreadable.len(), sought);
        told.notes.push(message);
    }
    let (pin, schema, notes) = (format.to_owned(), told.schema, told.notes);
    Ok(Resolution { pin, files, unreadable, schema, notes, ..Resolution::default() })
}

fn is_archive(path: &Path) -> bool {
    Archive::of(&path.to_string_lossy()).is_some() && !path.is_dir()
}

/// The format that planning settled on: the last word of what it pinned.
fn settled(resolution: &Resolution, params: &Params) -> Format {
    resolution.pin.rsplit(' ').next().and_then(Format::named).unwrap_or(params.format)
}

fn declare(step: &Declare<'_>) -> Result<Contract, Problem> {
    let params: Params = step.params()?;
    let resolution = step.resolution.ok_or_else(|| Problem::step("`download` was not resolved"))?;
    Ok(match settled(resolution, &params).kind() {
        kinds::DATASET => Contract::default().gives_dataset(OUTPUT, resolution.schema.clone().unwrap_or_default()),
        kind => Contract::default().gives(OUTPUT, kind),
    })
}

fn execute(context: &SourceContext<'_>) -> Result<(), Failure> {
    let mut params: Params = context.params()?;
    params.format = settled(context.resolution, &params);
    let source = Source::parse(&params.source, context.base).map_err(|problem| Failure::input(problem.message))?;
    let files = match &source {
        Source::Local(path) if !is_archive(path) => context.resolution.files.iter().map(LocalFile::of).collect(),
        _ => remote::fetch(context, &source, &params)?,
    };
    let layout = Layout::of(&files, &params).map_err(Wrong::failure)?;
    match layout.format().kind() {
        kinds::DATASET => {
            let schema = context.resolution.schema.clone().unwrap_or_default();
            let unreadable = context.resolution.unreadable.iter().cloned().collect();
            rows::give(
                context,
                &rows::Making { layout, files, unreadable, params, schema, left_out: LeftOut::default() },
            )
        }
        kind => give_files(context, &files, kind),
    }
}

fn give_files(context: &SourceContext<'_>, files: &[LocalFile], kind: &str) -> Result<(), Failure> {
    let kind = kinds::find(kind).ok_or_else(|| Failure::internal(format!("there is no kind `{kind}`")))?;
    kind.check_local(files.iter().map(|file| (file.name.as_str(), file.path.as_path())))?;
    let given: Vec<GivenFile> = files.iter().map(LocalFile::given).collect();
    context.outputs.files(OUTPUT, &given, context.sink)
}
