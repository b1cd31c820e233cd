//! Digests of local files, without reading those that did not change.
//!
//! A file is taken as unchanged when size, modification time, change time, inode and device are those of the last look, and
//! both times lie well before that look (a write in the same tick as the look would leave no trace: the "racy clean" case). The index
//! belongs to one host and can be deleted at any time.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::cores::map_many;
use crate::hash::hash;
use crate::store::lock;

const FORMAT: &[u8] = b"stat-index/3\n";
/// A file touched less than this before it was read is read again next time. Covers file systems with one-second
/// and FAT's two-second times.
const RACY: i64 = 2_000_000_000;
/// An index of so many bytes is read beside other work.
const LARGE: usize = 1 << 18;

/// What is known of a file without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Stamp {
    len: u64,
    /// Nanoseconds since 1970, as all times here.
    modified: i64,
    changed: i64,
    inode: u64,
    device: u64,
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        Self {
            len: meta.len(),
            modified: nanos(meta.mtime(), meta.mtime_nsec()),
            changed: nanos(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
            device: meta.dev(),
        }
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Entry {
    stamp: Stamp,
    looked: i64,
    digest: Digest,
}

impl Entry {
    fn holds_for(&self, stamp: &Stamp) -> bool {
        self.stamp == *stamp && stamp.modified.max(stamp.changed).saturating_add(RACY) < self.looked
    }
}

/// By the bytes of absolute paths.
type Entries = HashMap<Vec<u8>, Entry>;

/// The digest and size of a local file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileDigest {
    /// BLAKE3 of its content.
    pub digest: Digest,
    /// Bytes.
    pub len: u64,
}

/// The index of one host; see the module.
pub struct StatIndex {
    file: Option<PathBuf>,
    /// Where relative paths start.
    directory: PathBuf,
    entries: OnceLock<RwLock<Entries>>,
    /// Reads what is kept, while others find out which files there are.
    reading: Mutex<Option<JoinHandle<Entries>>>,
    dirty: std::sync::atomic::AtomicBool,
}

impl StatIndex {
    /// Opens the index kept in `file`; one that is missing or damaged is as good as empty.
    #[must_use]
    pub fn open(file: &Path) -> Self {
        let bytes = fs::read(file).unwrap_or_default();
        let index = Self { file: Some(file.to_owned()), ..Self::in_memory() };
        if bytes.len() < LARGE {
            return Self { entries: OnceLock::from(RwLock::new(decode(&bytes))), ..index };
        }
        let reading = std::thread::Builder::new().spawn(move || decode(&bytes));
        Self { reading: Mutex::new(reading.ok()), ..index }
    }

    /// An index that is not kept.
    #[must_use]
    pub fn in_memory() -> Self {
        Self {
            file: None,
            directory: current(),
            entries: OnceLock::new(),
            reading: Mutex::default(),
            dirty: false.into(),
        }
    }

    /// The digest of the file at `path`, read only if it may have changed since the last look.
    ///
    /// # Errors
    /// When it cannot be read, is no regular file, or changes while it is read (three times in a row).
    pub fn digest(&self, path: &Path) -> io::Result<FileDigest> {
        let path = if path.is_absolute() { path.to_owned() } else { self.directory.join(path) };
        for _ in 0..3 {
            let meta = fs::metadata(&path)?;
            if meta.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            // Whoever opened a pipe would wait for what may never come.
            if !meta.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a folder"));
            }
            let stamp = Stamp::of(&meta);
            if let Some(entry) = self.entry(&path).filter(|entry| entry.holds_for(&stamp)) {
                return Ok(FileDigest { digest: entry.digest, len: stamp.len });
            }
            let looked = now();
            let (digest, after) = hash_file(&path)?;
            if after == stamp {
                self.entries_mut().insert(path.into_os_string().into_vec(), Entry { stamp, looked, digest });
                self.dirty.store(true, std::sync::atomic::Ordering::Relaxed);
                return Ok(FileDigest { digest, len: stamp.len });
            }
        }
        Err(io::Error::other("the file keeps changing while it is read"))
    }

    /// The digests of many files, on all cores.
    #[must_use]
    pub fn digests<P: AsRef<Path> + Sync>(&self, paths: &[P]) -> Vec<io::Result<FileDigest>> {
        map_many(paths, |path| self.digest(path.as_ref()))
    }

    /// Writes the index back, if anything in it changed. Losing it costs time only, so it is not synced.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if !self.dirty.swap(false, std::sync::atomic::Ordering::Relaxed) {
            return Ok(());
        }
        let entries = postcard::to_stdvec(&*self.entries()).map_err(io::Error::other)?;
        let bytes = [FORMAT, Digest::of(&entries).bytes(), &entries].concat();
        let aside = file.with_extension(format!("{}.tmp", std::process::id()));
        fs::write(&aside, bytes)?;
        fs::rename(&aside, file)
    }

    fn entry(&self, path: &Path) -> Option<Entry> {
        self.entries().get(path.as_os_str().as_bytes()).copied()
    }

    fn table(&self) -> &RwLock<Entries> {
        self.entries.get_or_init(|| {
            let reading = lock(&self.reading).take();
            // An index that cannot be read is as good as empty.
            RwLock::new(reading.and_then(|reading| reading.join().ok()).unwrap_or_default())
        })
    }

    fn entries(&self) -> RwLockReadGuard<'_, Entries> {
        self.table().read().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries_mut(&self) -> RwLockWriteGuard<'_, Entries> {
        self.table().write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is kept; nothing, if that is damaged: a digest with a wrong bit would be taken for that of the file.
fn decode(bytes: &[u8]) -> Entries {
    let whole = || {
        let (check, entries) = bytes.strip_prefix(FORMAT)?.split_first_chunk()?;
        (Digest::from_bytes(*check) == Digest::of(entries)).then(|| postcard::from_bytes(entries).ok())?
    };
    whole().unwrap_or_default()
}

/// Where this process is; where that cannot be told, relative paths are as good.
fn current() -> PathBuf {
    std::env::current_dir().unwrap_or_default()
}

fn hash_file(path: &Path) -> io::Result<(Digest, Stamp)> {
    let (digest, _) = hash(&File::open(path)?)?;
    Ok((digest, Stamp::of(&fs::metadata(path)?)))
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| i64::try_from(elapsed.as_nanos()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_keeps_size_and_mtime_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, b"one").unwrap();
        let index = StatIndex::in_memory();
        let before = index.digest(&path).unwrap();
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, b"two").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        assert_ne!(index.digest(&path).unwrap(), before);
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        for path in ["/", "/dev/zero"] {
            let error = StatIndex::in_memory().digest(Path::new(path)).unwrap_err();
            let kind = if path == "/" { io::ErrorKind::IsADirectory } else { io::ErrorKind::InvalidInput };
            assert_eq!(error.kind(), kind, "{path}: {error}");
        }
    }

    #[test]
    fn an_old_file_is_not_read_again_and_survives_saving() {
        let dir = tempfile::tempdir().unwrap();
        let (path, kept) = (dir.path().join("a"), dir.path().join("index"));
        fs::write(&path, b"one").unwrap();
        let stamp = Stamp::of(&fs::metadata(&path).unwrap());
        let digest = Digest::of(b"as recorded");
        let index = StatIndex::open(&kept);
        index
            .entries_mut()
            .insert(path.as_os_str().as_bytes().to_vec(), Entry { stamp, looked: stamp.changed + RACY + 1, digest });
        index.dirty.store(true, std::sync::atomic::Ordering::Relaxed);
        index.save().unwrap();
        assert_eq!(StatIndex::open(&kept).digest(&path).unwrap().digest, digest);
        fs::write(&kept, b"damaged").unwrap();
        assert_eq!(StatIndex::open(&kept).digest(&path).unwrap().digest, Digest::of(b"one"));
    }

    #[test]
    fn a_flipped_bit_never_gives_a_wrong_digest() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("index");
        let index = StatIndex::open(&kept);
        index.digest(Path::new(env!("CARGO_MANIFEST_PATH"))).unwrap();
        index.save().unwrap();
        let bytes = fs::read(&kept).unwrap();
        assert_eq!(decode(&bytes).len(), 1);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(decode(&damaged).is_empty(), "byte {at}");
        }
    }
}
