//! What the names of files say they are.
//!
//! Looks at names only, so that planning and running, which see the same names, come to the same answer.

use std::collections::BTreeSet;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use pipe_engine::problem::{Failure, Problem};

use super::local::LocalFile;
use super::{Format, Params};
use crate::image_file::has_image_extension;
use crate::records::RecordFormat;

/// What a set of files is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A folder of images.
    Images {
        /// Files of metadata, each about the images in and below its folder.
        metadata: Vec<String>,
    },
    /// A file of records.
    Records {
        /// Its name.
        file: String,
        /// How it is written.
        format: RecordFormat,
    },
    /// A model.
    Model,
    /// An adapter.
    Adapter,
    /// Anything.
    Files,
}

/// Why files are not what they were said to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The parameter that says otherwise.
    param: &'static str,
    message: String,
    help: Option<String>,
}

impl Wrong {
    fn new(message: impl Into<String>) -> Self {
        Self { param: "source", message: message.into(), help: None }
    }

    /// Files that are not of the format that was asked for, and the one they may be of.
    fn format(names: &[&str], params: &Params, lacks: &str) -> Self {
        let asked = params.format.name();
        let file_itself = names.iter().any(|name| params.source.ends_with(name));
        let found =
            if file_itself { "is no such file".to_owned() } else { format!("holds {lacks}: {}", some_names(names)) };
        let message = format!("`format` is {asked}, but `{}` {found}", params.source);
        let found = guess(names, params).ok().map(|layout| layout.format()).filter(|found| *found != params.format);
        let help = match found {
            Some(found) => format!("write `format = \"{}\"`, or leave it out", found.name()),
            None => "say what it is with `format`: images, jsonl, csv, model, adapter or files".to_owned(),
        };
        Self { param: "format", ..Self::new(message).help(help) }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// As found while planning.
    pub fn problem(self) -> Problem {
        let problem = Problem::param(self.param, self.message);
        match self.help {
            Some(help) => problem.help(help),
            None => problem,
        }
    }

    /// As found while running.
    pub fn failure(self) -> Failure {
        let failure = Failure::input(self.message);
        match self.help {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}

const METADATA: &[&str] = &["metadata.jsonl", "metadata.csv"];

/// The files of a model that the stages read: weights that cannot run code, configuration, tokenizers, chat templates.
const MODEL_FILES: &[&str] = &["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"];

impl Layout {
    /// Tells what the files are, or checks that they are what `format` says.
    pub fn of(files: &[LocalFile], params: &Params) -> Result<Self, Wrong> {
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        if names.is_empty() {
            return Err(nothing(params));
        }
        match params.format {
            Format::Auto => guess(&names, params),
            Format::Images => images(&names, params),
            Format::Jsonl => records(&names, RecordFormat::Jsonl, params),
            Format::Csv => records(&names, RecordFormat::Csv, params),
            Format::Model if !names.contains(&"config.json") => {
                Err(Wrong::format(&names, params, "no config.json, which a model has"))
            }
            Format::Adapter if !names.contains(&"adapter_config.json") => {
                Err(Wrong::format(&names, params, "no adapter_config.json, which an adapter has"))
            }
            Format::Model => Ok(Self::Model),
            Format::Adapter => Ok(Self::Adapter),
            Format::Files => Ok(Self::Files),
        }
    }

    /// The format that means this layout, so that it need not be guessed again.
    pub fn format(&self) -> Format {
        match self {
            Self::Images { .. } => Format::Images,
            Self::Records { format: RecordFormat::Jsonl, .. } => Format::Jsonl,
            Self::Records { format: RecordFormat::Csv, .. } => Format::Csv,
            Self::Model => Format::Model,
            Self::Adapter => Format::Adapter,
            Self::Files => Format::Files,
        }
    }

    /// The files of records, and how each is written.
    pub fn tables(&self) -> Vec<(&str, RecordFormat)> {
        match self {
            Self::Images { metadata } => metadata
                .iter()
                .map(|name| (name.as_str(), RecordFormat::of(name).unwrap_or(RecordFormat::Jsonl)))
                .collect(),
            Self::Records { file, format } => vec![(file.as_str(), *format)],
            Self::Model | Self::Adapter | Self::Files => Vec::new(),
        }
    }

    /// Whether the file is an image of a row.
    pub fn is_image(&self, name: &str) -> bool {
        match self {
            Self::Images { metadata } => !metadata.iter().any(|file| file == name),
            Self::Records { file, .. } => file != name,
            Self::Model | Self::Adapter | Self::Files => false,
        }
    }

    /// Whether the file is part of what is given, and so of the key.
    pub fn uses(&self, name: &str) -> bool {
        match self {
            Self::Images { metadata } => has_image_extension(name) || metadata.iter().any(|file| file == name),
            Self::Records { file, .. } => file == name,
            Self::Model | Self::Adapter | Self::Files => true,
        }
    }
}

/// No file is there, or none that the patterns let through.
fn nothing(params: &Params) -> Wrong {
    let wrong = Wrong::new(format!("there are no files in `{}`", params.source));
    match params.format {
        _ if !params.include.is_empty() => wrong.help("`include` may be too narrow"),
        Format::Model | Format::Adapter => Wrong {
            param: "format",
            ..Wrong::new(format!("there are no files of a model in `{}`", params.source))
                .help(format!("a model is made of {}; other files have another `format`", MODEL_FILES.join(", ")))
        },
        _ => wrong,
    }
}

fn guess(names: &[&str], params: &Params) -> Result<Layout, Wrong> {
    let tables: Vec<_> = names.iter().filter_map(|name| Some((*name, RecordFormat::of(name)?))).collect();
    if names.contains(&"config.json") && names.iter().any(|name| name.ends_with(".safetensors")) {
        Ok(Layout::Model)
    } else if names.contains(&"adapter_config.json") {
        Ok(Layout::Adapter)
    } else if let [(file, format)] = tables[..]
        && (names.len() == 1 || !METADATA.contains(&file))
    {
        Ok(Layout::Records { file: file.to_owned(), format })
    } else if names.iter().any(|name| has_image_extension(name)) {
        images(names, params)
    } else {
        Err(unclear(names, &tables, params))
    }
}

/// Why files are nothing in particular.
fn unclear(names: &[&str], tables: &[(&str, RecordFormat)], params: &Params) -> Wrong {
    let alone = matches!(names, [only] if params.source.ends_with(only));
    let holds = if alone { " by its name".to_owned() } else { format!(": it holds {}", some_names(names)) };
    let wrong = Wrong::new(format!("cannot tell what `{}` is{holds}", params.source));
    match tables {
        [(first, _), _, ..] => wrong.help(format!("there are several files of records: choose one with `include = [\"{first}\"]`, or take all as `format = \"files\"`")),
        _ => wrong.help("say it with `format`: images, jsonl, csv, model, adapter or files"),
    }
}

fn images(names: &[&str], params: &Params) -> Result<Layout, Wrong> {
    if !names.iter().any(|name| has_image_extension(name)) {
        return Err(Wrong::format(names, params, "no images"));
    }
    let is_metadata = |name: &&&str| METADATA.contains(&name.rsplit('/').next().unwrap_or(name));
    let metadata: Vec<String> = names.iter().filter(is_metadata).map(|name| (*name).to_owned()).collect();
    let mut folders = BTreeSet::new();
    for file in &metadata {
        if !folders.insert(folder(file)) {
            let wrong = format!("`{}` has both metadata.jsonl and metadata.csv", folder(file));
            return Err(Wrong::new(wrong).help("leave one out with `include`"));
        }
    }
    Ok(Layout::Images { metadata })
}

fn records(names: &[&str], format: RecordFormat, params: &Params) -> Result<Layout, Wrong> {
    let plain: Vec<&str> = names.iter().copied().filter(|name| !has_image_extension(name)).collect();
    let matching: Vec<&str> = match plain[..] {
        // The ending may be any, but not that of another format.
        [only] if RecordFormat::of(only).is_none_or(|found| found == format) => vec![only],
        _ => plain.iter().copied().filter(|name| RecordFormat::of(name) == Some(format)).collect(),
    };
    match matching[..] {
        [file] => Ok(Layout::Records { file: file.to_owned(), format }),
        [] => Err(Wrong::format(names, params, &format!("no {} file", params.format.name()))),
        [first, ..] => Err(Wrong::new(format!(
            "there are {} {} files in `{}`, and a dataset is made of one: {}",
            matching.len(),
            params.format.name(),
            params.source,
            some_names(&matching)
        ))
        .help(format!("name the file itself as `source`, or choose it: `include = [\"{first}\"]`"))),
    }
}

/// The folder of a file, with a `/` at its end; empty for the root.
pub fn folder(name: &str) -> &str {
    name.rfind('/').map_or("", |at| &name[..=at])
}

fn some_names(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown}, … ({} files)", names.len()) } else { shown }
}

/// The patterns that files must match: those of the user, or those of the format.
pub fn patterns(params: &Params) -> Result<Option<GlobSet>, Problem> {
    let patterns: Vec<&str> = match params.format {
        _ if !params.include.is_empty() => params.include.iter().map(String::as_str).collect(),
        Format::Model | Format::Adapter => MODEL_FILES.to_vec(),
        _ => return Ok(None),
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        // As in .gitignore: a pattern without a slash is about names, at any depth.
        let anchored = if pattern.contains('/') { pattern.to_owned() } else { format!("**/{pattern}") };
        let glob = GlobBuilder::new(&anchored).literal_separator(true).build();
        set.add(glob.map_err(|error| {
            Problem::param("include", format!("`{pattern}` is not a pattern: {}", error.kind()))
                .help("`*` stands for any characters, `**` for any folders, `{a,b}` for either")
        })?);
    }
    set.build().map(Some).map_err(|error| Problem::param("include", error.to_string()))
}
