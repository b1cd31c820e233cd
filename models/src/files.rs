//! The files of a model, wherever their bytes lie.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Where the bytes of one file lie: a whole file, or a stretch of a larger one (a pack).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRef {
    /// The file that holds the bytes.
    pub path: PathBuf,
    /// The first byte.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
}

impl FileRef {
    /// The whole of the file at `path`. Fails where its size cannot be read.
    pub fn whole(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let len = std::fs::metadata(&path).map_err(Error::io(&path))?.len();
        Ok(Self { path, offset: 0, len })
    }

    /// The bytes. Fails where the file is shorter than said.
    pub fn read(&self) -> Result<Vec<u8>> {
        let file = File::open(&self.path).map_err(Error::io(&self.path))?;
        let held = file.metadata().map_err(Error::io(&self.path))?.len();
        self.check_within(held)?;
        let mut bytes = vec![0; usize::try_from(self.len).map_err(|_| Error::input("a file is too large"))?];
        file.read_exact_at(&mut bytes, self.offset).map_err(Error::io(&self.path))?;
        Ok(bytes)
    }

    /// Fails where the stretch reaches past `held`, the size of the file on disk.
    pub(crate) fn check_within(&self, held: u64) -> Result<()> {
        match self.offset.checked_add(self.len) {
            Some(end) if end <= held => Ok(()),
            _ => Err(Error::damaged(
                &self.path.display().to_string(),
                format_args!("{} bytes from {} are asked for, it has {held}", self.len, self.offset),
            )),
        }
    }
}

/// The files of one model or adapter, by their names relative to its directory (`config.json`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelFiles {
    files: BTreeMap<String, FileRef>,
}

impl ModelFiles {
    /// The regular files of a directory (not of its subdirectories).
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(dir).map_err(Error::io(dir))? {
            let path = entry.map_err(Error::io(dir))?.path();
            if let (true, Some(name)) = (path.is_file(), path.file_name().and_then(|name| name.to_str())) {
                files.insert(name.to_owned(), FileRef::whole(&path)?);
            }
        }
        Ok(Self { files })
    }

    /// The file of this name, if there is one.
    pub fn get(&self, name: &str) -> Option<&FileRef> {
        self.files.get(name)
    }

    /// The file of this name, or an error that lists the names there are.
    pub fn require(&self, name: &str) -> Result<&FileRef> {
        self.get(name).ok_or_else(|| Error::MissingFile {
            name: name.to_owned(),
            found: self.files.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The JSON file of this name as a `T`, or `None` where there is no such file.
    pub(crate) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(file) = self.get(name) else { return Ok(None) };
        let value = serde_json::from_slice(&file.read()?).map_err(|error| Error::config(name, error.to_string()))?;
        Ok(Some(value))
    }

    /// The JSON file of this name as a `T`, or an error where there is no such file.
    pub(crate) fn require_json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        self.require(name)?;
        let found = self.json(name)?;
        Ok(found.expect("the file was just found"))
    }
}

impl FromIterator<(String, FileRef)> for ModelFiles {
    fn from_iter<I: IntoIterator<Item = (String, FileRef)>>(files: I) -> Self {
        Self { files: files.into_iter().collect() }
    }
}

/// Writes a file so that its name never stands for half of it: aside, synced, renamed.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".part");
    let aside = PathBuf::from(aside);
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&aside, path)
    };
    write().map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_of_a_pack_reads_as_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pack");
        std::fs::write(&path, b"abc{\"x\": 1}def").unwrap();
        let files = ModelFiles::from_iter([("config.json".into(), FileRef { path, offset: 3, len: 8 })]);
        let value: serde_json::Value = files.require_json("config.json").unwrap();
        assert_eq!(value["x"], 1);
    }

    #[test]
    fn a_stretch_past_the_end_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pack");
        std::fs::write(&path, b"abc").unwrap();
        for (offset, len) in [(1, 3), (u64::MAX, 2)] {
            let error = FileRef { path: path.clone(), offset, len }.read().unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn a_missing_file_names_those_there_are() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), b"{}").unwrap();
        let error = ModelFiles::from_dir(dir.path()).unwrap().require("model.safetensors").unwrap_err();
        assert_eq!(error.to_string(), "the model has no `model.safetensors`; it has: config.json");
    }
}
