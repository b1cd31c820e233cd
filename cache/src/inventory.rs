//! What there is in a store, listed: for whoever cleans it, checks it or searches it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Context, StoreError};
use crate::{ActionRecord, Digest, Key, Store};

/// A key that is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The key.
    pub key: Key,
    /// When it was last looked up or recorded, by the clock of the store's file system.
    pub used: SystemTime,
    /// Bytes of the record.
    pub len: u64,
}

/// A file of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) path: PathBuf,
    pub(crate) modified: SystemTime,
    pub(crate) len: u64,
}

impl Store {
    /// The keys that are recorded, in no order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn recorded(&self) -> Result<Vec<Recorded>, StoreError> {
        let files = fanned(&self.root.join("actions"))?;
        Ok(files
            .into_iter()
            .filter_map(|(name, file)| Some(Recorded { key: name.parse().ok()?, used: file.modified, len: file.len }))
            .collect())
    }

    /// The recipes that have row memory, in no order; `used` is when something was last remembered.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn remembered(&self) -> Result<Vec<Recorded>, StoreError> {
        by_key(&self.root.join("rows"))
    }

    /// The keys that have checkpoints, in no order; `used` is when the last one was stored.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn checkpointed(&self) -> Result<Vec<Recorded>, StoreError> {
        by_key(&self.root.join("checkpoints"))
    }

    /// The objects that the checkpoints of a key name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn checkpoint_objects(&self, key: &Key) -> Result<Vec<Digest>, StoreError> {
        let records = files(&self.checkpoint_directory(key))?;
        let named = records.iter().filter_map(|file| {
            let bytes = fs::read(&file.path).ok()?;
            crate::store::decode_record::<BTreeMap<String, Digest>>(&bytes)
        });
        Ok(named.flat_map(BTreeMap::into_values).collect())
    }

    /// When a run's log was last written, by the clock of the store's file system.
    #[must_use]
    pub fn last_written(&self, log: &Path) -> Option<SystemTime> {
        fs::metadata(log).and_then(|meta| meta.modified()).ok()
    }

    /// The record of a key as it lies in the store, without noting that it was used.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn peek(&self, key: &Key) -> Result<Option<ActionRecord>, StoreError> {
        let path = self.action_path(key);
        match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            bytes => {
                let record = crate::store::decode_record::<ActionRecord>(&bytes.context("read", &path)?);
                Ok(record.filter(|record| record.key == *key))
            }
        }
    }
}

/// Subdirectories named by key, with what lies in each.
fn by_key(directory: &Path) -> Result<Vec<Recorded>, StoreError> {
    let mut found = Vec::new();
    for part in list_names(directory)? {
        let Some(key) = part.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
        let files = files(&part)?;
        let used = files.iter().map(|file| file.modified).max().unwrap_or(SystemTime::UNIX_EPOCH);
        found.push(Recorded { key, used, len: files.iter().map(|file| file.len).sum() });
    }
    Ok(found)
}

/// The files of a directory that spreads its names over subdirectories, each with its whole name.
pub(crate) fn fanned(directory: &Path) -> Result<Vec<(String, Listed)>, StoreError> {
    let mut found = Vec::new();
    for part in list_names(directory)? {
        let name = part.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for file in files(&part)? {
            let rest = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push((format!("{name}{rest}"), file));
        }
    }
    Ok(found)
}

/// The files right in a directory; none where there is no directory. One that goes meanwhile is left out.
pub(crate) fn files(directory: &Path) -> Result<Vec<Listed>, StoreError> {
    let listed = |path: PathBuf| {
        let meta = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        Some(Listed { modified: meta.modified().ok()?, len: meta.len(), path })
    };
    Ok(list_names(directory)?.into_iter().filter_map(listed).collect())
}

/// The names right in a directory; none where there is no directory.
pub(crate) fn list_names(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    match fs::read_dir(directory) {
        // A file where a directory is expected holds no names.
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        entries => Ok(entries.context("read", directory)?.flatten().map(|entry| entry.path()).collect()),
    }
}
