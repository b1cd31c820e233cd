//! Reading an object that is not where it was, or not as it was: it may lie elsewhere, or be about to be seen.
//!
//! On the file system of a network what another machine wrote may show late: its record before its objects, an index before its pack.
//! There, and nowhere else, what a record names is waited for, a short time, and what seems damaged is not yet taken for that: of a pack that
//! grew a client may still know the old length. Opening a file or a directory makes a client ask its server anew.

use std::fs;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::damage::is_damage;
use crate::error::{Context, StoreError};
use crate::{Blob, Digest, Store};

/// How long to wait before each further look, in milliseconds: about two seconds in all. Clients keep what they know of a file for one or more.
const WAITS: [u64; 6] = [10, 40, 150, 300, 500, 1000];

/// Having waited for nothing, nothing is waited for this long: a store that lost much is to be healed soon.
const GIVEN_UP: Duration = Duration::from_secs(60);

/// Whether it is worth waiting for what is not there.
#[derive(Default)]
pub(crate) struct Patience {
    in_vain: Mutex<Option<Instant>>,
}

impl Patience {
    fn is_left(&self) -> bool {
        let in_vain = self.in_vain.lock().unwrap_or_else(PoisonError::into_inner);
        in_vain.is_none_or(|since| since.elapsed() > GIVEN_UP)
    }

    fn lose(&self) {
        *self.in_vain.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

impl Store {
    /// Where an object lies that a record or a manifest names, and so should be there; `None` if the store has none of that name. On
    /// the file system of a network it may be waited for, about a second.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn locate_named(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        match self.locate(digest)? {
            Some(blob) => Ok(Some(blob)),
            None => self.wait_for(|| self.locate(digest), Some(digest)),
        }
    }

    /// Reads an object from wherever it is whole, checked against its digest, and tells where that is. What is damaged is set aside.
    pub(crate) fn read_somewhere(&self, digest: &Digest) -> Result<(Blob, Vec<u8>), StoreError> {
        let blob = self.locate_named(digest)?.ok_or(StoreError::Missing(*digest))?;
        match self.packs.bytes_of(&blob) {
            Ok(bytes) => Ok((blob, bytes)),
            Err(error) if is_damage(&error) => {
                self.packs.close();
                let late = || Ok(blob.read().ok().map(|bytes| (blob.clone(), bytes)));
                if let Some(whole) = self.wait_for(late, Some(digest))? {
                    return Ok(whole);
                }
                self.set_aside(&blob);
                self.read_elsewhere(blob)
            }
            Err(error) if is_stale(&error) => {
                self.packs.close();
                self.read_elsewhere(blob)
            }
            Err(error) => Err(error).context("read", &blob.path),
        }
    }

    /// The same, where it could not be read at `blob`: a collection may have moved it to another pack, or it was stored twice.
    pub(crate) fn read_elsewhere(&self, blob: Blob) -> Result<(Blob, Vec<u8>), StoreError> {
        let read = |found: Blob| found.read().ok().map(|bytes| (found, bytes));
        let whole = || Ok(self.places(&blob.digest).into_iter().find_map(read));
        let found = match whole()? {
            Some(found) => Some(found),
            None => self.wait_for(whole, Some(&blob.digest))?,
        };
        found.ok_or_else(|| StoreError::Damaged { digest: blob.digest, path: blob.path.to_path_buf() })
    }

    /// Looks again a few times, where another machine's writing may show late; for an object of this digest, if it is one that is sought.
    pub(crate) fn wait_for<T>(
        &self,
        look: impl Fn() -> Result<Option<T>, StoreError>,
        digest: Option<&Digest>,
    ) -> Result<Option<T>, StoreError> {
        if !self.patience.is_left() || !self.is_on_network() {
            return Ok(None);
        }
        for wait in WAITS {
            std::thread::sleep(Duration::from_millis(wait));
            self.look_anew(digest);
            if let Some(found) = look()? {
                return Ok(Some(found));
            }
        }
        self.patience.lose();
        Ok(None)
    }

    /// Opens and lists the directories that an object may lie in.
    fn look_anew(&self, digest: Option<&Digest>) {
        let entries = digest.and_then(|digest| fs::read_dir(self.object_path(digest).parent()?).ok());
        entries.into_iter().flatten().for_each(drop);
        self.packs.forget();
    }

    /// Whether the store lies on the file system of a network.
    fn is_on_network(&self) -> bool {
        self.disk().is_ok_and(|disk| disk.network)
    }
}

/// Whether the server no longer knows the file that is open.
fn is_stale(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::StaleNetworkFileHandle
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use std::path::Path;

    /// A store that takes its file system for one of a network.
    fn on_network(dir: &Path) -> Store {
        let store = Store::open(dir).unwrap();
        let mut disk = Disk::open(dir).unwrap();
        disk.network = true;
        assert!(store.disk.set(disk).is_ok());
        store
    }

    fn stored(dir: &Path, bytes: &[u8]) -> Digest {
        let store = Store::open(dir).unwrap();
        let digest = store.put(bytes).unwrap();
        store.finish().unwrap();
        digest
    }

    #[test]
    fn what_shows_late_is_waited_for() {
        for size in [100, 2 << 20] {
            let dir = tempfile::tempdir().unwrap();
            let digest = stored(dir.path(), &vec![1; size]);
            let kind = if size == 100 { "packs" } else { "objects" };
            let (there, hidden) = (dir.path().join(kind), dir.path().join("hidden"));
            fs::rename(&there, &hidden).unwrap();
            fs::create_dir(&there).unwrap();
            let store = on_network(dir.path());
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(60));
                    fs::remove_dir(&there).unwrap();
                    fs::rename(&hidden, &there).unwrap();
                });
                assert_eq!(store.read(&digest).unwrap(), vec![1; size]);
            });
        }
    }

    /// A client that still knows the old length of a pack reads less than there is: no reason to give up what another machine stored.
    #[test]
    fn what_seems_damaged_is_looked_at_again() {
        let dir = tempfile::tempdir().unwrap();
        let digest = stored(dir.path(), b"all of it");
        let store = on_network(dir.path());
        let pack = store.locate(&digest).unwrap().unwrap().path;
        let whole = fs::read(&pack).unwrap();
        for verify in [false, true] {
            fs::remove_file(&pack).unwrap();
            fs::write(&pack, &whole[..3]).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(60));
                    fs::write(&pack, &whole).unwrap();
                });
                if verify {
                    let parts = store.parts().unwrap();
                    let damage: Vec<_> = parts.iter().flat_map(|part| store.check(part).unwrap()).collect();
                    assert!(damage.is_empty(), "{damage:?}");
                } else {
                    assert_eq!(store.read(&digest).unwrap(), b"all of it");
                }
            });
            assert_eq!(store.places(&digest).len(), 1, "it was not set aside");
        }
    }

    #[test]
    fn what_is_lost_is_given_up_soon_and_then_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = on_network(dir.path());
        let started = Instant::now();
        for n in 0..100_u8 {
            assert!(matches!(store.read(&Digest::of(&[n])), Err(StoreError::Missing(_))));
        }
        let seconds = started.elapsed().as_secs_f64();
        assert!((2.0..12.0).contains(&seconds), "{seconds}");
    }

    #[test]
    fn nothing_is_waited_for_on_a_disk_of_our_own() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        if store.is_on_network() {
            return println!("skipped: the temporary directory is on a network");
        }
        let started = Instant::now();
        assert!(store.locate_named(&Digest::of(b"gone")).unwrap().is_none());
        assert!(started.elapsed() < Duration::from_millis(WAITS.iter().sum()));
        assert!(store.patience.is_left());
    }

    /// Two processes stored the same object; whichever copy is damaged, the other is read.
    #[test]
    fn another_copy_is_read_instead_of_a_damaged_one() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (Store::open(dir.path()).unwrap(), Store::open(dir.path()).unwrap());
        let digest = one.put(b"twice").unwrap();
        assert_eq!(two.put(b"twice").unwrap(), digest);
        one.finish().unwrap();
        two.finish().unwrap();
        drop((one, two));
        let store = Store::open(dir.path()).unwrap();
        let places = store.places(&digest);
        assert_eq!(places.len(), 2);
        let damaged = store.locate(&digest).unwrap().unwrap();
        fs::remove_file(&damaged.path).unwrap();
        fs::write(&damaged.path, b"wrong").unwrap();
        assert_eq!(store.read(&digest).unwrap(), b"twice");
        let index = store.stat_index();
        let found = store.locate_whole(&digest, &index).unwrap();
        assert_ne!(found.path, damaged.path);
        assert_eq!(store.places(&digest).len(), 1, "the damaged one is out of use");
    }

    /// The pack goes while it is open, as when another machine's collection moves what it holds.
    #[test]
    fn an_object_that_moved_is_read_where_it_lies_now() {
        let dir = tempfile::tempdir().unwrap();
        let digest = stored(dir.path(), b"moved");
        let store = Store::open(dir.path()).unwrap();
        let before = store.locate(&digest).unwrap().unwrap();
        let index = store.stat_index();
        assert_eq!(stored_again(dir.path(), &before), digest);
        let found = store.locate_whole(&digest, &index).unwrap();
        assert_ne!(found.path, before.path);
        assert_eq!(found.read().unwrap(), b"moved");
    }

    /// Stores an object whose pack is gone.
    fn stored_again(dir: &Path, gone: &Blob) -> Digest {
        fs::remove_file(&gone.path).unwrap();
        stored(dir, b"moved")
    }
}
