//! Making files visible: written aside, synced, then linked under their final name, which must not exist yet.
//!
//! `link` fails where the name exists on every file system (renaming without replacing does not, on NFS), so creation is exclusive
//! without locks. Losing the race is success.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, StoreError};

/// From this many files on, one sync of the whole file system is cheaper than one per file.
const SYNC_ALL_FROM: usize = 12;

/// Files written aside, waiting to be made durable and visible together.
#[derive(Default)]
pub(crate) struct Publication {
    files: Vec<(PathBuf, PathBuf)>,
}

/// Whether a name was made, or existed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Published {
    Made,
    Existed,
}

impl Publication {
    /// Adds a file already written at `aside`, to appear at `name`.
    pub(crate) fn add(&mut self, aside: PathBuf, name: PathBuf) {
        self.files.push((aside, name));
    }

    /// Writes `bytes` to `aside`, to appear at `name`.
    pub(crate) fn write(&mut self, aside: PathBuf, name: PathBuf, bytes: &[u8]) -> Result<(), StoreError> {
        fs::write(&aside, bytes).context("write", &aside)?;
        self.add(aside, name);
        Ok(())
    }

    /// The files written aside.
    pub(crate) fn asides(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(aside, _)| aside.as_path())
    }

    /// Links every file under its name and syncs the directories. The files must be durable (see [`sync_files`]).
    pub(crate) fn link(&self) -> Result<Vec<Published>, StoreError> {
        let mut results = Vec::with_capacity(self.files.len());
        let mut directories: Vec<&Path> = Vec::new();
        for (aside, name) in &self.files {
            let directory = name.parent().unwrap_or(Path::new("."));
            if !directories.contains(&directory) {
                directories.push(directory);
            }
            results.push(link_new(aside, name)?);
        }
        for directory in directories {
            sync_directory(directory)?;
        }
        Ok(results)
    }

    /// Removes the names the files were written under; their final names stay.
    pub(crate) fn remove_asides(&self) {
        for aside in self.asides() {
            // A leftover is removed when the directory of this process is.
            let _ = fs::remove_file(aside);
        }
    }
}

/// Makes files durable: each by itself, or all at once where there are many.
pub(crate) fn sync_files<'a>(root: &Path, files: impl Iterator<Item = &'a Path>) -> Result<(), StoreError> {
    let files: Vec<&Path> = files.collect();
    if files.len() >= SYNC_ALL_FROM {
        let directory = File::open(root).context("open", root)?;
        return rustix::fs::syncfs(directory.as_fd()).map_err(io::Error::from).context("sync", root);
    }
    for path in files {
        File::open(path).and_then(|file| file.sync_data()).context("sync", path)?;
    }
    Ok(())
}

fn link_new(aside: &Path, name: &Path) -> Result<Published, StoreError> {
    match fs::hard_link(aside, name) {
        Ok(()) => Ok(Published::Made),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = name.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(directory).context("create", directory)?;
            fs::hard_link(aside, name).map(|()| Published::Made).or_else(|error| existed(error, aside, name))
        }
        Err(error) => existed(error, aside, name),
    }
}

/// On a network file system the answer to our own successful `link` may be lost and the repeated call then say that the name
/// exists: the link count of the file tells.
fn existed(error: io::Error, aside: &Path, name: &Path) -> Result<Published, StoreError> {
    if error.kind() != io::ErrorKind::AlreadyExists {
        return Err(error).context("create", name);
    }
    let ours = fs::metadata(aside).and_then(|a| fs::metadata(name).map(|n| a.ino() == n.ino() && a.dev() == n.dev()));
    Ok(if ours.unwrap_or(false) { Published::Made } else { Published::Existed })
}

fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    match File::open(directory).and_then(|file| file.sync_all()) {
        // Some file systems cannot sync a directory; there the names are durable by themselves.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        result => result.context("sync", directory),
    }
}
