//! The packs of a store as a process sees them: the indexes it has read, and the pack it read last.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use crate::error::StoreError;
use crate::pack::{Index, index_files};
use crate::store::lock;
use crate::{Blob, Digest};

/// The packs in a directory.
pub(crate) struct Packs {
    pub(crate) directory: PathBuf,
    read: RwLock<Indexes>,
    /// Its name is never used again, so that it stands for the same bytes as long as it is open.
    last: Mutex<Option<OpenPack>>,
}

#[derive(Default)]
struct Indexes {
    /// When the directory last changed, as far as it was read.
    seen: Option<SystemTime>,
    files: HashSet<PathBuf>,
    all: Vec<Index>,
}

/// A pack that is open, and as long as it was then: this process may append to it.
#[derive(Clone)]
struct OpenPack {
    path: Arc<Path>,
    len: u64,
    file: Arc<File>,
}

impl Packs {
    /// Nothing is read yet.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, read: RwLock::default(), last: Mutex::default() }
    }

    /// Where an object lies, as far as the indexes read tell.
    pub(crate) fn find(&self, digest: &Digest) -> Option<Blob> {
        let read = self.read.read().unwrap_or_else(PoisonError::into_inner);
        read.all.iter().rev().find_map(|index| index.find(digest))
    }

    /// Everywhere that it lies.
    pub(crate) fn find_all(&self, digest: &Digest) -> Vec<Blob> {
        let read = self.read.read().unwrap_or_else(PoisonError::into_inner);
        read.all.iter().rev().filter_map(|index| index.find(digest)).collect()
    }

    /// Opens indexes that appeared since the last look; says whether there were any.
    pub(crate) fn refresh(&self) -> Result<bool, StoreError> {
        let changed = fs::metadata(&self.directory).and_then(|meta| meta.modified()).ok();
        let mut read = self.read.write().unwrap_or_else(PoisonError::into_inner);
        if read.seen == changed && changed.is_some() {
            return Ok(false);
        }
        let files = index_files(&self.directory)?;
        read.seen = changed;
        if read.files.iter().any(|known| !files.contains(known)) {
            // Some were merged into others, or collected.
            read.files.clear();
            read.all.clear();
        }
        let before = read.all.len();
        for file in files {
            if !read.files.contains(&file) {
                // One that vanished was merged into another by its owner; that one is listed too, or will be next time.
                if let Ok(Some(index)) = Index::open(&file) {
                    read.all.push(index);
                }
                read.files.insert(file);
            }
        }
        Ok(read.all.len() > before)
    }

    /// Reads all indexes anew.
    pub(crate) fn forget(&self) {
        *self.read.write().unwrap_or_else(PoisonError::into_inner) = Indexes::default();
        // The next look-up reads the directory again if this one fails.
        let _ = self.refresh();
    }

    /// Reads an object; the pack last read stays open, since the next is often in it.
    pub(crate) fn bytes_of(&self, blob: &Blob) -> io::Result<Vec<u8>> {
        if !blob.path.starts_with(&self.directory) {
            return blob.read();
        }
        let mut last = lock(&self.last);
        let pack = match last.take().filter(|pack| pack.path == blob.path && blob.ends_by(pack.len)) {
            Some(pack) => pack,
            None => {
                let file = blob.open()?;
                OpenPack { path: blob.path.clone(), len: file.metadata()?.len(), file: Arc::new(file) }
            }
        };
        *last = Some(pack.clone());
        drop(last);
        blob.read_from(&pack.file, pack.len)
    }

    /// Closes the pack last read from.
    pub(crate) fn close(&self) {
        *lock(&self.last) = None;
    }
}
