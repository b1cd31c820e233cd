//! The file system that a store lies on: what it has left, whether a network is between, and making files on it durable.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::error::{Context, StoreError};

/// From this many files on, one sync of the whole file system is cheaper than one per file.
const SYNC_ALL_FROM: usize = 12;

/// Room that steps leave to records and collections: this many bytes and files, or a fiftieth of a small file system.
const RESERVED_BYTES: u64 = 64_000_000;
const RESERVED_FILES: u64 = 1000;
const RESERVED_PART: u64 = 50;

/// What `statfs` calls the file systems of networks, and those that a program serves, which may well use one (`linux/magic.h` and
/// the file systems' own sources).
const NETWORK: [u64; 14] = [
    0x6969,      // NFS
    0x517B,      // SMB
    0xFF53_4D42, // CIFS
    0xFE53_4D42, // SMB 2
    0x6573_5546, // FUSE: sshfs, JuiceFS, virtiofs
    0x00C3_6400, // Ceph
    0x0BD0_0BD0, // Lustre
    0x4750_4653, // GPFS
    0x1983_0326, // BeeGFS
    0x2003_0528, // OrangeFS
    0x5346_414F, // AFS
    0x0102_1997, // 9P
    0x7461_636F, // OCFS2
    0x0116_1970, // GFS2
];

/// What is left of something, and how much of that is not for steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// What this user may still take.
    pub free: u64,
    /// The part of it that stays for records and collections.
    pub reserve: u64,
}

impl Left {
    /// Of a total of zero nothing is counted: the file system sets no limit.
    fn of(total: u64, free: u64, reserve: u64) -> Self {
        if total == 0 {
            return Self { free: u64::MAX, reserve: 0 };
        }
        Self { free, reserve: reserve.min(total / RESERVED_PART) }
    }

    /// Whether so much can be taken without touching the reserve.
    #[must_use]
    pub const fn holds(&self, needed: u64) -> bool {
        needed.saturating_add(self.reserve) <= self.free
    }
}

/// What is left of the file system of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub bytes: Left,
    /// Files and directories (inodes).
    pub files: Left,
}

/// The file system of a store.
pub(crate) struct Disk {
    root: PathBuf,
    /// Open from before the first write on, so that a sync of all tells of every error since.
    directory: File,
    pub(crate) network: bool,
}

impl Disk {
    pub(crate) fn open(root: &Path) -> Result<Self, StoreError> {
        let directory = File::open(root).context("open", root)?;
        let network = is_network(&directory);
        Ok(Self { root: root.to_owned(), directory, network })
    }

    pub(crate) fn room(&self) -> Result<Room, StoreError> {
        let found = rustix::fs::fstatvfs(&self.directory).map_err(io::Error::from).context("read", &self.root)?;
        Ok(Room {
            bytes: Left::of(
                found.f_blocks.saturating_mul(found.f_frsize),
                found.f_bavail.saturating_mul(found.f_frsize),
                RESERVED_BYTES,
            ),
            files: Left::of(found.f_files, found.f_favail, RESERVED_FILES),
        })
    }

    /// Makes files and directories durable: each by itself, or all at once where there are many. A network is not trusted to pass a
    /// sync of all on to its server.
    pub(crate) fn sync<'a>(&self, paths: impl IntoIterator<Item = &'a Path>) -> Result<(), StoreError> {
        let paths: Vec<&Path> = paths.into_iter().collect();
        // An error may be of another program's file; by itself each of ours tells.
        if paths.len() >= SYNC_ALL_FROM && !self.network && rustix::fs::syncfs(self.directory.as_fd()).is_ok() {
            return Ok(());
        }
        paths.into_iter().try_for_each(sync_one)
    }
}

fn sync_one(path: &Path) -> Result<(), StoreError> {
    let file = File::open(path).context("open", path)?;
    match if file.metadata().is_ok_and(|meta| meta.is_dir()) { file.sync_all() } else { file.sync_data() } {
        // Some file systems cannot sync a directory; there the names are durable by themselves.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        result => result.map_err(|source| StoreError::NotDurable { path: path.to_owned(), source }),
    }
}

/// Whether what other machines do to the files of this file system may be seen late.
pub(crate) fn is_network(file: &File) -> bool {
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "the kernel's numbers have 32 bits")]
    rustix::fs::fstatfs(file).is_ok_and(|found| NETWORK.contains(&u64::from(found.f_type as u32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_stays() {
        let left = Left::of(1_000_000_000_000, 100_000_000, RESERVED_BYTES);
        assert!(left.holds(36_000_000) && !left.holds(36_000_001) && !left.holds(u64::MAX));
        assert_eq!(Left::of(10_000_000, 10, RESERVED_BYTES).reserve, 200_000, "a small file system keeps less");
        assert!(Left::of(0, 0, RESERVED_FILES).holds(1 << 60), "no limit");
    }

    #[test]
    fn what_is_left_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let room = Disk::open(dir.path()).unwrap().room().unwrap();
        assert!(room.bytes.free > 0 && room.files.free > 0);
    }

    #[test]
    fn many_files_and_directories_are_synced_as_few_are() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let paths: Vec<PathBuf> = (0..SYNC_ALL_FROM).map(|n| dir.path().join(n.to_string())).collect();
        paths.iter().for_each(|path| std::fs::write(path, "x").unwrap());
        let of = |n: usize| paths[..n].iter().map(PathBuf::as_path).chain([dir.path()]);
        disk.sync(of(1)).unwrap();
        disk.sync(of(SYNC_ALL_FROM)).unwrap();
        let gone = dir.path().join("gone");
        assert!(disk.sync([gone.as_path()]).is_err());
    }
}
