//! Taking files into the store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use pipe_cache::Store;
use rayon::prelude::*;

use crate::artifact::{FileEntry, store_failure};
use crate::dataset::changed_meanwhile;
use crate::problem::Failure;
use crate::source::GivenFile;
use crate::step::Sink;

/// Stores files on all cores, by name; what the store has already is not read again.
///
/// # Errors
/// When a file is not what was seen, cannot be read, or the store cannot be written.
pub fn files(store: &Store, files: &[GivenFile], sink: &dyn Sink) -> Result<BTreeMap<String, FileEntry>, Failure> {
    let done = AtomicU64::new(0);
    let told = files.len() as u64 / 100 + 1;
    let one = |file: &GivenFile| {
        if sink.cancelled() {
            return Err(Failure::interrupted());
        }
        let entry = take(store, file)?;
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(told) {
            sink.progress(done, files.len() as u64, &file.name);
        }
        Ok((file.name.clone(), entry))
    };
    files.par_iter().map(one).collect()
}

fn take(store: &Store, file: &GivenFile) -> Result<FileEntry, Failure> {
    if let Some(seen) = &file.seen
        && let Some(blob) = store.rely_on(seen).map_err(store_failure)?
    {
        return Ok(FileEntry { digest: *seen, len: blob.len });
    }
    let (digest, len) = store.put_file(&file.path).map_err(store_failure)?;
    match file.seen {
        Some(seen) if seen != digest => Err(changed_meanwhile(&file.path)),
        _ => Ok(FileEntry { digest, len }),
    }
}

/// Every file below `dir`, by relative path with `/`.
///
/// # Errors
/// When one cannot be listed, has a name that is not Unicode, or is neither file nor directory.
pub fn below(dir: &Path) -> Result<Vec<GivenFile>, Failure> {
    let mut files = Vec::new();
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
        files.push(GivenFile { name: name.to_owned(), path: entry.path().to_owned(), seen: None });
    }
    Ok(files)
}
