//! What the file system of a store can do, tried out: which of the store's promises hold there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use serde::Serialize;

use crate::error::{Context, StoreError};
use crate::{Store, owner};

/// Clocks further apart than this make times of files hard to read.
const SKEW: Duration = Duration::from_secs(300);

/// What was found of one ability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ability {
    /// What was tried.
    pub name: &'static str,
    /// Whether it works.
    pub works: bool,
    /// What happened: `ok`, or what the system said.
    pub found: String,
    /// What that means for the store.
    pub means: &'static str,
    /// Whether the store is unsafe there without it.
    pub needed: bool,
}

type Probe = fn(&Path) -> io::Result<()>;

/// Name, probe, what it means where it works, what it means where it does not, whether the store needs it.
const PROBES: [(&str, Probe, &str, &str, bool); 8] = [
    (
        "link of an existing name is refused",
        exclusive_link,
        "records are made once: the first stays",
        "of two runs that record the same key at once the later one's result stays",
        false,
    ),
    (
        "hard links",
        hard_link,
        "files become visible whole, without a copy",
        "files are copied once more as they become visible",
        false,
    ),
    ("sync of a file", sync_file, "what is recorded survives a power cut", "a power cut may lose results", true),
    (
        "sync of a directory",
        sync_directory,
        "names survive a power cut",
        "names may be lost in a power cut; where they are, steps run again",
        false,
    ),
    ("mapping a file", map_file, "indexes are read in place", "no large index can be read", true),
    ("unnamed files (O_TMPFILE)", unnamed, "not used", "not used: files are written aside under names", false),
    ("reflink", reflink, "copies of large files could share their blocks", "large files are copied", false),
    ("flock", flock, "not used: nothing rests on locks", "no harm: nothing rests on locks", false),
];

impl Store {
    /// Tries out the file system that the store lies on, in the directory of this process.
    ///
    /// # Errors
    /// When no directory can be made there.
    pub fn probe(&self) -> Result<Vec<Ability>, StoreError> {
        let mut found = Vec::new();
        for (name, probe, works, fails, needed) in PROBES {
            let directory = self.scratch()?;
            let result = probe(&directory);
            owner::remove(&directory);
            found.push(match result {
                Ok(()) => Ability { name, works: true, found: "ok".to_owned(), means: works, needed },
                Err(error) => Ability { name, works: false, found: error.to_string(), means: fails, needed },
            });
        }
        found.push(clock(&self.scratch()?)?);
        found.push(network(self.disk()?.network));
        Ok(found)
    }
}

/// Not tried out, but known by the kind of the file system.
fn network(is_one: bool) -> Ability {
    let (found, means) = if is_one {
        (
            "no",
            "what other machines write may show late and is waited for; indexes are read, not mapped; files are synced one by one",
        )
    } else {
        ("ok", "what is written shows at once")
    };
    Ability { name: "a disk of this machine", works: !is_one, found: found.to_owned(), means, needed: false }
}

/// How far the clock of the file system is from that of this machine.
fn clock(directory: &Path) -> Result<Ability, StoreError> {
    let path = directory.join("clock");
    fs::write(&path, "x").context("write", &path)?;
    let there = fs::metadata(&path).and_then(|meta| meta.modified()).context("read", &path)?;
    let here = SystemTime::now();
    let skew = there.duration_since(here).or_else(|_| here.duration_since(there)).unwrap_or_default();
    let works = skew <= SKEW;
    let means = if works {
        "ages are told by the clock of the file system"
    } else {
        "ages are told by the clock of the file system, which is not this machine's: times shown may look odd"
    };
    let found = format!("{:.3} s apart", skew.as_secs_f64());
    Ok(Ability { name: "clock", works, found, means, needed: false })
}

fn file(directory: &Path, name: &str) -> io::Result<PathBuf> {
    let path = directory.join(name);
    fs::write(&path, [7; 8192])?;
    Ok(path)
}

fn hard_link(directory: &Path) -> io::Result<()> {
    fs::hard_link(file(directory, "a")?, directory.join("b"))
}

fn exclusive_link(directory: &Path) -> io::Result<()> {
    let (one, other) = (file(directory, "a")?, file(directory, "b")?);
    match fs::hard_link(one, other) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err(io::Error::other("an existing name was replaced")),
    }
}

fn sync_file(directory: &Path) -> io::Result<()> {
    let mut file = File::create(directory.join("a"))?;
    file.write_all(b"x")?;
    file.sync_all()
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[expect(unsafe_code, reason = "mapping a file")]
fn map_file(directory: &Path) -> io::Result<()> {
    let file = File::open(file(directory, "a")?)?;
    // SAFETY: the file is this process's own, and nobody else writes to it.
    let map = unsafe { memmap2::Mmap::map(&file) }?;
    if map.first() == Some(&7) { Ok(()) } else { Err(io::Error::other("the mapping shows other bytes")) }
}

fn unnamed(directory: &Path) -> io::Result<()> {
    let file = rustix::fs::open(directory, OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR)?;
    let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    Ok(rustix::fs::linkat(CWD, name, CWD, directory.join("named"), AtFlags::SYMLINK_FOLLOW)?)
}

fn reflink(directory: &Path) -> io::Result<()> {
    let (from, to) = (File::open(file(directory, "a")?)?, File::create(directory.join("b"))?);
    Ok(rustix::fs::ioctl_ficlone(to.as_fd(), from.as_fd())?)
}

fn flock(directory: &Path) -> io::Result<()> {
    let path = file(directory, "a")?;
    let (one, other) = (File::open(&path)?, File::open(&path)?);
    rustix::fs::flock(one.as_fd(), FlockOperation::NonBlockingLockExclusive)?;
    match rustix::fs::flock(other.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Err(_) => Ok(()),
        Ok(()) => Err(io::Error::other("two have the same lock at once")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_of_the_tests_has_what_a_store_needs() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let found = store.probe().unwrap();
        let lacking: Vec<&Ability> = found.iter().filter(|ability| ability.needed && !ability.works).collect();
        assert!(lacking.is_empty(), "{lacking:?}");
        assert_eq!(found.len(), PROBES.len() + 2);
    }
}
