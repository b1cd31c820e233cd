//! What is damaged is taken out of use, where it can be looked at, so that it is made again.

use std::fs;
use std::path::Path;

use crate::pack::{Entry, Index, index_bytes, index_files};
use crate::{Blob, Store, directory};

/// Whether an error of reading tells of damage, rather than of a fault that may pass.
pub(crate) fn is_damage(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, IsADirectory, UnexpectedEof};
    matches!(error.kind(), InvalidData | UnexpectedEof | IsADirectory)
}

impl Store {
    /// Takes a damaged object out of use: a large one by moving it, a packed one by moving the indexes that name its pack.
    pub(crate) fn set_aside(&self, blob: &Blob) {
        self.packs.close();
        if blob.path.starts_with(self.root.join("objects")) {
            return self.quarantine(&blob.path);
        }
        for file in index_files(&self.packs.directory).unwrap_or_default() {
            let Ok(Some(index)) = Index::open(&file) else { continue };
            if index.find(&blob.digest).is_some_and(|found| found.path == blob.path) {
                self.drop_damaged(&file, &index);
            }
        }
        self.packs.forget();
    }

    /// Replaces an index by one without its damaged objects: where one is, there may be others, and each found by itself would cost a
    /// run an attempt.
    fn drop_damaged(&self, file: &Path, index: &Index) {
        let whole = |entry: &Entry| index.find(&entry.digest).is_some_and(|blob| blob.read().is_ok());
        let mut entries: Vec<Entry> = index.entries().filter(whole).collect();
        let aside = self.aside();
        let written = fs::write(&aside, index_bytes(&mut entries)).and_then(|()| fs::File::open(&aside)?.sync_all());
        if written.is_ok() {
            // If it fails the object stays known as damaged and the read reports it again.
            let _ = fs::rename(&aside, file);
        }
    }

    /// Moves a file out of use, where it can be looked at.
    pub(crate) fn quarantine(&self, path: &Path) {
        let damaged = self.root.join("damaged");
        let name = path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().replace('/', "-");
        // A store that cannot be written to keeps the entry, and every reader sees the damage again.
        let _ = directory::make(&damaged).is_ok() && fs::rename(path, damaged.join(name)).is_ok();
    }
}
