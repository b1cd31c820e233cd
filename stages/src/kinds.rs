//! The kinds of artifact that stages pass to each other, and what each must hold.
//!
//! A kind's layout is part of its name: a change that a reader could notice raises the version.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pipe_engine::problem::Failure;
use pipe_engine::step::FileSet;
use serde_json::{Map, Value};
use walkdir::WalkDir;

/// Rows with a unique id and typed columns.
pub const DATASET: &str = pipe_engine::stage::DATASET;
/// A model in the layout of Hugging Face.
pub const MODEL: &str = "model/1";
/// A LoRA adapter in the layout of PEFT.
pub const ADAPTER: &str = "adapter/1";
/// Numbers of an evaluation or a training.
pub const METRICS: &str = pipe_engine::stage::METRICS;
/// What is published.
pub const RELEASE: &str = "release/1";
/// Any files.
pub const FILES: &str = "files/1";

type Check = fn(&Layout<'_>) -> Result<(), Failure>;

/// A row of the table of kinds.
pub struct Kind {
    /// The name with its version.
    pub name: &'static str,
    /// What it holds.
    pub about: &'static str,
    /// Nothing is asked of those that have none.
    check: Option<Check>,
}

/// Every kind.
pub const TABLE: &[Kind] = &[
    Kind { name: DATASET, about: "rows with a unique id and typed columns", check: None },
    Kind {
        name: MODEL,
        about: "config.json, *.safetensors, tokenizer files: a Hugging Face model",
        check: Some(check_model),
    },
    Kind {
        name: ADAPTER,
        about: "adapter_config.json, adapter_model.safetensors: a PEFT adapter",
        check: Some(check_adapter),
    },
    Kind {
        name: METRICS,
        about: "metrics.json, with table.md and rows.jsonl where there are any",
        check: Some(check_metrics),
    },
    Kind { name: RELEASE, about: "a directory ready to be published, with README.md", check: Some(check_release) },
    Kind { name: FILES, about: "any files", check: None },
];

/// The kind of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Kind> {
    TABLE.iter().find(|kind| kind.name == name)
}

impl Kind {
    /// Checks that these files have the layout of the kind.
    ///
    /// # Errors
    /// Says which file is missing or wrong.
    pub fn check(&self, files: &FileSet) -> Result<(), Failure> {
        let Some(check) = self.check else { return Ok(()) };
        let sizes = files.0.iter().map(|(name, blob)| (name.clone(), blob.len)).collect();
        check(&Layout { kind: self.name, sizes, read: &|name| files.read(name) })
    }

    /// Checks that the files below `dir` have the layout of the kind.
    ///
    /// # Errors
    /// Says which file is missing or wrong.
    pub fn check_dir(&self, dir: &Path) -> Result<(), Failure> {
        let entries = WalkDir::new(dir).into_iter().filter_map(Result::ok).filter(|entry| !entry.file_type().is_dir());
        let named = |path: &Path| path.strip_prefix(dir).unwrap_or(path).to_string_lossy().into_owned();
        let files: Vec<(String, PathBuf)> = entries.map(|entry| (named(entry.path()), entry.into_path())).collect();
        self.check_local(files.iter().map(|(name, path)| (name.as_str(), path.as_path())))
    }

    /// Checks that files, by name and where they lie, have the layout of the kind.
    ///
    /// # Errors
    /// Says which file is missing or wrong.
    pub fn check_local<'a>(&self, files: impl Iterator<Item = (&'a str, &'a Path)>) -> Result<(), Failure> {
        let Some(check) = self.check else { return Ok(()) };
        let files: BTreeMap<&str, &Path> = files.collect();
        let sized = |(name, path): (&&str, &&Path)| match std::fs::metadata(path) {
            Ok(meta) => Ok(((*name).to_owned(), meta.len())),
            Err(error) => Err(Failure::io("read", path, &error)),
        };
        let sizes = files.iter().map(sized).collect::<Result<_, _>>()?;
        let read = |name: &str| {
            let path = files.get(name).copied().unwrap_or(Path::new(name));
            std::fs::read(path).map_err(|error| Failure::io("read", path, &error))
        };
        check(&Layout { kind: self.name, sizes, read: &read })
    }
}

/// Files to be checked, wherever they lie.
struct Layout<'a> {
    kind: &'static str,
    sizes: BTreeMap<String, u64>,
    read: &'a dyn Fn(&str) -> Result<Vec<u8>, Failure>,
}

impl Layout<'_> {
    fn wrong(&self, message: impl std::fmt::Display) -> Failure {
        Failure::input(format!("not a {}: {message}", self.kind))
    }

    fn require(&self, name: &str) -> Result<(), Failure> {
        match self.sizes.get(name) {
            Some(0) => Err(self.wrong(format_args!("{name} is empty"))),
            Some(_) => Ok(()),
            None => Err(self.wrong(format_args!("there is no {name} among {}", self.names()))),
        }
    }

    fn names(&self) -> String {
        const SHOWN: usize = 8;
        let shown = self.sizes.keys().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        match self.sizes.len() {
            0 => "no files at all".to_owned(),
            n if n > SHOWN => format!("{shown}, … ({n} files)"),
            _ => shown,
        }
    }

    fn object(&self, name: &str) -> Result<Map<String, Value>, Failure> {
        self.require(name)?;
        serde_json::from_slice(&(self.read)(name)?)
            .map_err(|error| self.wrong(format_args!("{name} is not a JSON object: {error}")))
    }

    fn text_field(&self, name: &str, field: &str) -> Result<(), Failure> {
        match self.object(name)?.get(field) {
            Some(Value::String(_)) => Ok(()),
            _ => Err(self.wrong(format_args!("{name} has no text `{field}`"))),
        }
    }
}

const INDEX: &str = "model.safetensors.index.json";

fn check_model(layout: &Layout<'_>) -> Result<(), Failure> {
    layout.text_field("config.json", "model_type")?;
    if layout.sizes.contains_key(INDEX) {
        return check_shards(layout);
    }
    if layout.sizes.keys().any(|name| name.ends_with(".safetensors")) {
        return Ok(());
    }
    let failure = layout.wrong(format_args!("there are no weights (*.safetensors) among {}", layout.names()));
    let pickled = layout.sizes.keys().any(|name| name.starts_with("pytorch_model"));
    Err(if pickled {
        failure.help("pickled weights can run code when opened: convert them to safetensors")
    } else {
        failure
    })
}

fn check_shards(layout: &Layout<'_>) -> Result<(), Failure> {
    let index = layout.object(INDEX)?;
    let shards = index
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| layout.wrong(format_args!("{INDEX} has no `weight_map`")))?;
    for shard in shards.values() {
        let name = shard.as_str().ok_or_else(|| layout.wrong(format_args!("{INDEX} names a shard that is no text")))?;
        layout.require(name)?;
    }
    Ok(())
}

fn check_adapter(layout: &Layout<'_>) -> Result<(), Failure> {
    layout.text_field("adapter_config.json", "peft_type")?;
    layout.require("adapter_model.safetensors")
}

fn check_metrics(layout: &Layout<'_>) -> Result<(), Failure> {
    layout.object("metrics.json").map(|_| ())
}

fn check_release(layout: &Layout<'_>) -> Result<(), Failure> {
    layout.require("README.md")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    fn message(kind: &str, files: &[(&str, &str)]) -> String {
        find(kind).unwrap().check_dir(dir(files).path()).unwrap_err().to_string()
    }

    #[test]
    fn a_model_needs_config_and_weights() {
        let config = ("config.json", r#"{"model_type":"opt"}"#);
        let whole = dir(&[config, ("model.safetensors", "x")]);
        find(MODEL).unwrap().check_dir(whole.path()).unwrap();
        assert_eq!(message(MODEL, &[]), "not a model/1: there is no config.json among no files at all");
        assert_eq!(
            message(MODEL, &[config, ("pytorch_model.bin", "x")]),
            "not a model/1: there are no weights (*.safetensors) among config.json, pytorch_model.bin"
        );
        assert_eq!(message(MODEL, &[("config.json", "{}")]), "not a model/1: config.json has no text `model_type`");
    }

    #[test]
    fn every_shard_of_an_index_must_be_there() {
        let index = (INDEX, r#"{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#);
        let files = [("config.json", r#"{"model_type":"opt"}"#), index, ("one.safetensors", "x")];
        assert!(message(MODEL, &files).starts_with("not a model/1: there is no two.safetensors among"));
    }

    #[test]
    fn an_adapter_is_checked_from_a_file_set_too() {
        let dir = dir(&[("adapter_config.json", r#"{"peft_type":"LORA"}"#), ("adapter_model.safetensors", "")]);
        let files = ["adapter_config.json", "adapter_model.safetensors"].map(|name| {
            let path = dir.path().join(name);
            let bytes = fs::read(&path).unwrap();
            let digest = pipe_engine::Digest::of(&bytes);
            (name.to_owned(), pipe_engine::Blob { digest, path: path.into(), offset: 0, len: bytes.len() as u64 })
        });
        let failure = find(ADAPTER).unwrap().check(&FileSet(files.into())).unwrap_err();
        assert_eq!(failure.to_string(), "not a adapter/1: adapter_model.safetensors is empty");
    }

    #[test]
    fn names_are_unique_and_versioned() {
        for kind in TABLE {
            assert!(kind.name.split_once('/').is_some_and(|(_, version)| version.parse::<u32>().is_ok()));
            assert_eq!(TABLE.iter().filter(|other| other.name == kind.name).count(), 1);
        }
    }
}
