//! From what `pipe` hands over to what the models take.

use pipe_engine::problem::Failure;
use pipe_engine::step::{Data, FileSet, Inputs};
use pipe_engine::worker::frame::LoadRows;
use pipe_models::{FileRef, ModelFiles};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The parameters of a row stage.
pub fn params<P: DeserializeOwned>(load: &LoadRows) -> Result<P, Failure> {
    P::deserialize(&load.params).map_err(|error| Failure::internal(format!("parameters do not fit: {error}")))
}

/// The files on a port, if it is connected.
pub fn files<'a>(inputs: &'a Inputs, port: &str) -> Result<Option<&'a FileSet>, Failure> {
    match inputs.get(port).and_then(|inputs| inputs.first()).map(|input| &input.data) {
        Some(Data::Files(files)) => Ok(Some(files)),
        Some(Data::Dataset(_)) => Err(Failure::internal(format!("port `{port}` carries rows, not files"))),
        None => Ok(None),
    }
}

/// The files on a port that must be connected.
pub fn required_files<'a>(inputs: &'a Inputs, port: &str) -> Result<&'a FileSet, Failure> {
    files(inputs, port)?.ok_or_else(|| Failure::internal(format!("port `{port}` carries nothing")))
}

/// The same files, read where they lie.
pub fn model_files(files: &FileSet) -> ModelFiles {
    let refer =
        |blob: &pipe_engine::Blob| FileRef { path: blob.path.to_path_buf(), offset: blob.offset, len: blob.len };
    files.0.iter().map(|(name, blob)| (name.clone(), refer(blob))).collect()
}

/// The name that the model's own `config.json` gives it, unless it is a place on somebody's disk.
pub fn base_name(model: &FileSet) -> Result<Option<String>, Failure> {
    let config: Value = serde_json::from_slice(&model.read("config.json")?)
        .map_err(|error| Failure::input(format!("config.json: {error}")))?;
    let name = config.get("_name_or_path").and_then(Value::as_str);
    Ok(name.filter(|name| !name.is_empty() && !name.starts_with(['/', '.', '~'])).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use pipe_engine::{Blob, Digest};

    use super::*;

    fn model(dir: &std::path::Path, config: &str) -> FileSet {
        let path = dir.join("pack");
        std::fs::write(&path, format!("...{config}...")).unwrap();
        let blob =
            Blob { digest: Digest::of(config.as_bytes()), path: path.into(), offset: 3, len: config.len() as u64 };
        FileSet([("config.json".to_owned(), blob)].into())
    }

    #[test]
    fn files_are_read_where_they_lie() {
        let dir = tempfile::tempdir().unwrap();
        let files = model_files(&model(dir.path(), r#"{"model_type":"qwen2"}"#));
        assert_eq!(files.require("config.json").unwrap().read().unwrap(), br#"{"model_type":"qwen2"}"#);
    }

    #[test]
    fn a_model_is_known_by_its_name_and_not_by_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let name = |config: &str| base_name(&model(dir.path(), config)).unwrap();
        assert_eq!(name(r#"{"_name_or_path":"Qwen/Qwen2.5-3B"}"#).as_deref(), Some("Qwen/Qwen2.5-3B"));
        for nameless in ["{}", r#"{"_name_or_path":""}"#, r#"{"_name_or_path":"/home/a/model"}"#] {
            assert_eq!(name(nameless), None);
        }
        assert!(base_name(&model(dir.path(), "{")).is_err());
    }
}
