//! Packs: many small objects in one file, with an index beside it.
//!
//! A pack grows by appending and is written by one process only. Its bytes count for nothing until an index part that lists
//! them is published; a pack without an index is what a dead process left.
//!
//! Index: a line naming the format, then entries of 48 bytes sorted by digest: digest, offset, length (little endian).

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Context, StoreError};
use crate::publish::create_new;
use crate::view::View;
use crate::{Blob, Digest};

const HEADER: &[u8] = b"pack-index/1\n\0\0\0";
const ENTRY: usize = 48;

/// Where an object lies in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) digest: Digest,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// A pack being written by this process.
pub(crate) struct PackWriter {
    path: Arc<Path>,
    file: File,
    offset: u64,
}

impl PackWriter {
    pub(crate) fn create(path: &Path) -> Result<Self, StoreError> {
        let file = create_new(path).context("create", path)?;
        Ok(Self { path: path.into(), file, offset: 0 })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends an object; readable at once by this process, durable and visible to others after the next commit.
    pub(crate) fn append(&mut self, digest: Digest, bytes: &[u8]) -> Result<Blob, StoreError> {
        // What a full disk cut short is written over by the next one.
        self.file.write_all_at(bytes, self.offset).context("write", &self.path)?;
        let blob = Blob { digest, path: self.path.clone(), offset: self.offset, len: bytes.len() as u64 };
        self.offset += blob.len;
        Ok(blob)
    }
}

/// The bytes of an index of these entries.
pub(crate) fn index_bytes(entries: &mut [Entry]) -> Vec<u8> {
    entries.sort_by_key(|entry| (entry.digest, entry.offset));
    let mut bytes = HEADER.to_vec();
    bytes.reserve(entries.len() * ENTRY);
    for entry in entries {
        bytes.extend_from_slice(entry.digest.bytes());
        bytes.extend_from_slice(&entry.offset.to_le_bytes());
        bytes.extend_from_slice(&entry.len.to_le_bytes());
    }
    bytes
}

/// A published index.
pub(crate) struct Index {
    map: View,
    pack: Arc<Path>,
}

impl Index {
    /// Opens the index at `path`; its pack is `NAME.pack` beside it, for `NAME.idx` and `NAME.N.idx` alike.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        let map = View::open(path)?;
        if !map.starts_with(HEADER) || !(map.len() - HEADER.len()).is_multiple_of(ENTRY) {
            return Ok(None);
        }
        let pack = pack_of(path);
        // A collection removes the pack before its index.
        Ok(pack.exists().then(|| Self { map, pack: pack.into() }))
    }

    fn len(&self) -> usize {
        (self.map.len() - HEADER.len()) / ENTRY
    }

    fn entry(&self, at: usize) -> Entry {
        let start = HEADER.len() + at * ENTRY;
        let bytes = &self.map[start..start + ENTRY];
        let number = |from: usize| u64::from_le_bytes(bytes[from..from + 8].try_into().expect("eight bytes"));
        let digest = Digest::from_bytes(bytes[..32].try_into().expect("thirty-two bytes"));
        Entry { digest, offset: number(32), len: number(40) }
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        (0..self.len()).map(|at| self.entry(at))
    }

    pub(crate) fn find(&self, digest: &Digest) -> Option<Blob> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            let entry = self.entry(middle);
            match entry.digest.cmp(digest) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    return Some(Blob {
                        digest: *digest,
                        path: self.pack.clone(),
                        offset: entry.offset,
                        len: entry.len,
                    });
                }
            }
        }
        None
    }
}

/// The indexes in the directory of packs.
pub(crate) fn index_files(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(directory).context("read", directory)?;
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "idx"))
        .collect())
}

/// The pack that an index is of.
pub(crate) fn pack_of(index: &Path) -> PathBuf {
    let name = index.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split('.').next().unwrap_or_default();
    index.with_file_name(format!("{stem}.pack"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_by_digest() {
        let dir = tempfile::tempdir().unwrap();
        let mut pack = PackWriter::create(&dir.path().join("p.pack")).unwrap();
        let mut entries: Vec<Entry> = (0..100_u32)
            .map(|n| {
                let bytes = n.to_string().into_bytes();
                let blob = pack.append(Digest::of(&bytes), &bytes).unwrap();
                Entry { digest: blob.digest, offset: blob.offset, len: blob.len }
            })
            .collect();
        let path = dir.path().join("p.3.idx");
        fs::write(&path, index_bytes(&mut entries)).unwrap();
        let index = Index::open(&path).unwrap().unwrap();
        for n in 0..100_u32 {
            let bytes = n.to_string().into_bytes();
            assert_eq!(index.find(&Digest::of(&bytes)).unwrap().read().unwrap(), bytes);
        }
        assert!(index.find(&Digest::of(b"none")).is_none());
        fs::write(&path, b"short").unwrap();
        assert!(Index::open(&path).unwrap().is_none());
    }
}
