//! What the files of a store take on the disk, by kind.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::Store;
use crate::error::StoreError;
use crate::inventory::{files, list_names};

/// Files of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    /// How many.
    pub count: u64,
    /// Bytes in them.
    pub bytes: u64,
}

/// The directories of a store, as `docs/formats.md` has them.
const KINDS: [&str; 9] = ["objects", "packs", "actions", "rows", "checkpoints", "runs", "index", "damaged", "tmp"];

impl Store {
    /// What the files of each of its directories take; empty ones are left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn held(&self) -> Result<BTreeMap<&'static str, Held>, StoreError> {
        let mut kinds = BTreeMap::new();
        for kind in KINDS {
            let mut held = Held::default();
            add(&self.root.join(kind), &mut held)?;
            if held.count > 0 {
                kinds.insert(kind, held);
            }
        }
        Ok(kinds)
    }
}

/// Adds the files below a directory. No directory of a store holds links, so there is an end.
fn add(directory: &Path, held: &mut Held) -> Result<(), StoreError> {
    for file in files(directory)? {
        held.count += 1;
        held.bytes += file.len;
    }
    list_names(directory)?.iter().filter(|path| path.is_dir()).try_for_each(|path| add(path, held))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_for_their_kind() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.put(&vec![1; 2 << 20]).unwrap();
        store.put(b"small").unwrap();
        store.finish().unwrap();
        let held = store.held().unwrap();
        assert_eq!(held["objects"], Held { count: 1, bytes: 2 << 20 });
        assert_eq!(held["packs"].count, 2, "a pack and its index");
        assert!(!held.contains_key("rows"));
    }
}
