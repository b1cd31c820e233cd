//! Making files visible: written aside, synced, then linked under their final name, which must not exist yet.
//!
//! `link` fails where the name exists on every file system (renaming without replacing does not, on NFS), so creation is exclusive
//! without locks. Losing the race is success.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::directory;
use crate::disk::Disk;
use crate::error::{Context, StoreError};

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

/// Makes a file that is there to be read, once it is written.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o444).open(path)
}

impl Publication {
    /// Adds a file already written at `aside`, to appear at `name`.
    pub(crate) fn add(&mut self, aside: PathBuf, name: PathBuf) {
        self.files.push((aside, name));
    }

    /// Writes `bytes` to `aside`, to appear at `name`.
    pub(crate) fn write(&mut self, aside: PathBuf, name: PathBuf, bytes: &[u8]) -> Result<(), StoreError> {
        let written = create_new(&aside).and_then(|mut file| file.write_all(bytes)).context("write", &aside);
        self.add(aside, name);
        written
    }

    /// The files written aside.
    pub(crate) fn asides(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(aside, _)| aside.as_path())
    }

    /// Links every file under its name and makes the names durable. The files must be durable already (see [`Disk::sync`]).
    pub(crate) fn link(&self, disk: &Disk) -> Result<Vec<Published>, StoreError> {
        let mut results = Vec::with_capacity(self.files.len());
        let mut directories = BTreeSet::new();
        for (aside, name) in &self.files {
            let directory = name.parent().unwrap_or(Path::new("."));
            let (published, is_new) = link_new(aside, name, directory)?;
            results.push(published);
            directories.insert(directory);
            directories.extend(directory.parent().filter(|_| is_new));
        }
        disk.sync(directories)?;
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

/// Links a file under its name; says whether its directory had to be made.
fn link_new(aside: &Path, name: &Path, directory: &Path) -> Result<(Published, bool), StoreError> {
    match link_or_move(aside, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let is_new = directory::make(directory)?;
            Ok((link_or_move(aside, name).context("create", name)?, is_new))
        }
        published => Ok((published.context("create", name)?, false)),
    }
}

fn link_or_move(aside: &Path, name: &Path) -> io::Result<Published> {
    use io::ErrorKind::{AlreadyExists, CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    match fs::hard_link(aside, name) {
        Ok(()) => Ok(Published::Made),
        Err(error) if error.kind() == AlreadyExists => Ok(existed(aside, name)),
        // Not on this file system, or no more of this file. A read-only store says so again.
        Err(error) if matches!(error.kind(), CrossesDevices | PermissionDenied | TooManyLinks | Unsupported) => {
            move_copy(aside, name)
        }
        Err(error) => Err(error),
    }
}

/// On a network file system the answer to our own successful `link` may be lost and the repeated call then say that the name
/// exists: the inode tells.
fn existed(aside: &Path, name: &Path) -> Published {
    let ours = fs::metadata(aside).and_then(|a| fs::metadata(name).map(|n| a.ino() == n.ino() && a.dev() == n.dev()));
    if ours.unwrap_or(false) { Published::Made } else { Published::Existed }
}

/// Where a file cannot have two names: a durable copy, renamed. Of two processes that do so at the same moment the later one's stays,
/// which is as good a result of its key as the other.
fn move_copy(aside: &Path, name: &Path) -> io::Result<Published> {
    if name.exists() {
        return Ok(Published::Existed);
    }
    // Beside its name, which may lie on another file system; the aside stays for those who read it.
    let mut copy = name.as_os_str().to_owned();
    copy.push(format!(".{}", crate::owner::unique_name()));
    let copied =
        fs::copy(aside, &copy).and_then(|_| File::open(&copy)?.sync_all()).and_then(|()| fs::rename(&copy, name));
    if copied.is_err() {
        // What stays of it bears no name of the store, and counts for nothing.
        let _ = fs::remove_file(&copy);
    }
    copied.map(|()| Published::Made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(aside: &Path, name: &Path) -> Published {
        link_or_move(aside, name).unwrap()
    }

    #[test]
    fn a_name_is_made_once_and_our_own_is_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let [ours, theirs, name] = ["ours", "theirs", "name"].map(|file| dir.path().join(file));
        fs::write(&ours, "ours").unwrap();
        fs::write(&theirs, "theirs").unwrap();
        assert_eq!(publish(&ours, &name), Published::Made);
        assert_eq!(publish(&ours, &name), Published::Made, "the answer to the first call was lost");
        assert_eq!(publish(&theirs, &name), Published::Existed);
        assert_eq!(fs::read(&name).unwrap(), b"ours");
    }

    #[test]
    fn where_there_are_no_links_a_copy_takes_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let [ours, theirs, name] = ["ours", "theirs", "name"].map(|file| dir.path().join(file));
        fs::write(&ours, "ours").unwrap();
        fs::write(&theirs, "theirs").unwrap();
        assert_eq!(move_copy(&ours, &name).unwrap(), Published::Made);
        assert_eq!(move_copy(&theirs, &name).unwrap(), Published::Existed);
        assert_eq!(fs::read(&name).unwrap(), b"ours");
        assert!(ours.exists(), "who reads it aside goes on");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_lies_on_another_file_system_is_copied() {
        let (dir, shm) = (tempfile::tempdir().unwrap(), Path::new("/dev/shm"));
        let Ok(elsewhere) = tempfile::tempdir_in(shm) else { return println!("skipped: no second file system") };
        if fs::metadata(dir.path()).unwrap().dev() == fs::metadata(shm).unwrap().dev() {
            return println!("skipped: no second file system");
        }
        let (aside, name) = (elsewhere.path().join("aside"), dir.path().join("name"));
        fs::write(&aside, "x").unwrap();
        assert_eq!(publish(&aside, &name), Published::Made);
        assert_eq!(fs::read(&name).unwrap(), b"x");
    }

    #[test]
    fn published_files_are_read_only_and_their_directories_made() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let mut publication = Publication::default();
        let name = dir.path().join("ab/cd");
        publication.write(dir.path().join("aside"), name.clone(), b"x").unwrap();
        assert_eq!(publication.link(&disk).unwrap(), [Published::Made]);
        publication.remove_asides();
        assert_eq!(fs::metadata(&name).unwrap().mode() & 0o777, 0o444);
    }
}
