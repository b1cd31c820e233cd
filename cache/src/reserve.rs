//! Room kept aside in the store itself, so that records can be written and collections begin on a disk that others have filled.

use std::fs;
use std::path::Path;

use crate::{Store, directory};

const DIRECTORY: &str = "reserve";
/// So many files, so that there are inodes, too, each of so many bytes: together more than a commit of many records takes.
const FILES: u32 = 8;
const BYTES: usize = 128 << 10;

/// Makes the reserve, as far as there is room for it.
pub(crate) fn keep(root: &Path) {
    let directory = root.join(DIRECTORY);
    let last = directory.join((FILES - 1).to_string());
    // It is spent as a whole.
    if last.exists() || directory::make(&directory).is_err() {
        return;
    }
    for n in 0..FILES {
        let path = directory.join(n.to_string());
        if fs::write(&path, filling(n)).is_err() {
            // A disk that is this full keeps no more.
            let _ = fs::remove_file(&path);
            return;
        }
    }
}

/// Gives the reserve up; false if there was none.
pub(crate) fn spend(root: &Path) -> bool {
    (0..FILES).filter(|n| fs::remove_file(root.join(DIRECTORY).join(n.to_string())).is_ok()).count() > 0
}

/// Bytes that a file system cannot compress or share.
fn filling(n: u32) -> Vec<u8> {
    let mut bytes = vec![0; BYTES];
    blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

impl Store {
    /// Makes the reserve again, if it was spent and there is room.
    pub(crate) fn keep_reserve(&self) {
        keep(&self.root);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_spent_once_and_made_again() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path()).unwrap());
        assert!(spend(dir.path()) && !spend(dir.path()));
        let store = Store::open(dir.path()).unwrap();
        assert!(!spend(dir.path()), "opening costs nothing");
        store.keep_reserve();
        let bytes: u64 =
            fs::read_dir(dir.path().join(DIRECTORY)).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(bytes, 1 << 20);
    }
}
