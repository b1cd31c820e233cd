//! Taking a directory into the store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pipe_cache::Store;

use super::Artifact;
use crate::artifact::{FileEntry, FilesManifest, Manifest, store_failure};
use crate::problem::Failure;

/// Stores every file below `dir`, by relative path with `/`.
///
/// # Errors
/// When a file cannot be read, has a name that is not Unicode, or is neither file nor directory.
pub fn files(store: &Store, dir: &Path) -> Result<BTreeMap<String, FileEntry>, Failure> {
    let mut files = BTreeMap::new();
    for entry in walkdir::WalkDir::new(dir).sort_by_file_name() {
        let entry = entry.map_err(|error| Failure::transient(format!("cannot read an output: {error}")))?;
        if entry.file_type().is_dir() {
            continue;
        }
        let name = entry.path().strip_prefix(dir).unwrap_or(entry.path());
        let name = name
            .to_str()
            .ok_or_else(|| Failure::input(format!("an output has a name that is not Unicode: {}", name.display())))?;
        if !entry.file_type().is_file() {
            let message = format!("output `{name}` is neither a file nor a directory");
            return Err(Failure::input(message).help("write files; links are not followed"));
        }
        let (digest, len) = store.put_file(entry.path()).map_err(store_failure)?;
        files.insert(name.to_owned(), FileEntry { digest, len });
    }
    Ok(files)
}

/// Stores a directory as an artifact of some kind.
///
/// # Errors
/// When a file cannot be read or stored.
pub fn directory(store: &Store, kind: &str, dir: &Path) -> Result<Artifact, Failure> {
    let manifest = Manifest::Files(FilesManifest { kind: kind.to_owned(), files: files(store, dir)? });
    Ok(Artifact { digest: manifest.store(store)?, manifest: Arc::new(manifest) })
}
