//! Row memory: what became of each row of a recipe, in immutable sorted segments. No database; segments of two machines can be put
//! side by side.
//!
//! Segment: a line naming the format, the number of entries (u32), the sorted 16-byte keys, `entries + 1` offsets (u64) into the
//! values, the values, and the BLAKE3 of all that. Little endian.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::Mmap;

use crate::error::{Context, StoreError};
use crate::{Digest, Key};

const HEADER: &[u8] = b"row-memory/1\n\0\0\0";
const KEY: usize = 16;
/// More segments than this are merged into one when the memory is closed.
const MERGE_FROM: usize = 8;

/// The first 16 bytes of a [`Key`]: enough to tell 10¹⁵ rows apart with a chance of error below 10⁻⁸.
pub type RowKey = [u8; KEY];

/// Shortens a key for row memory.
#[must_use]
pub fn row_key(key: &Key) -> RowKey {
    key.bytes()[..KEY].try_into().expect("a key has 32 bytes")
}

/// What is remembered under one recipe.
pub struct RowMemory {
    directory: PathBuf,
    segments: Vec<Segment>,
    fresh: Mutex<Fresh>,
}

#[derive(Default)]
struct Fresh {
    /// Everything added since the memory was opened.
    known: HashMap<RowKey, Vec<u8>>,
    /// The keys among them that no commit has taken yet.
    unsaved: Vec<RowKey>,
}

impl RowMemory {
    /// Opens the segments in `directory`, which need not exist. Damaged segments are left out: their rows are computed again.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        let mut segments = Vec::new();
        if let Ok(entries) = fs::read_dir(directory) {
            for entry in entries.flatten() {
                segments.extend(Segment::open(&entry.path())?);
            }
        }
        Ok(Self { directory: directory.to_owned(), segments, fresh: Mutex::default() })
    }

    /// What is remembered under a key.
    #[must_use]
    pub fn get(&self, key: &RowKey) -> Option<Vec<u8>> {
        if let Some(value) = self.segments.iter().find_map(|segment| segment.find(key)) {
            return Some(value.to_vec());
        }
        self.fresh().known.get(key).cloned()
    }

    /// Remembers a value; the first one under a key stays. Durable after the next commit.
    pub fn insert(&self, key: RowKey, value: Vec<u8>) {
        let mut fresh = self.fresh();
        if let std::collections::hash_map::Entry::Vacant(entry) = fresh.known.entry(key) {
            entry.insert(value);
            fresh.unsaved.push(key);
        }
    }

    /// The directory of its segments.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The bytes of a segment with what was added since the last call; `None` if nothing was.
    pub(crate) fn take_unsaved(&self) -> Option<Vec<u8>> {
        let mut fresh = self.fresh();
        let mut keys = std::mem::take(&mut fresh.unsaved);
        if keys.is_empty() {
            return None;
        }
        keys.sort_unstable();
        let values: Vec<(&RowKey, &[u8])> = keys.iter().map(|key| (key, fresh.known[key].as_slice())).collect();
        Some(segment_bytes(&values))
    }

    /// One segment holding everything, and the files it replaces, where there are too many of them.
    pub(crate) fn merged(&self) -> Option<(Vec<u8>, Vec<PathBuf>)> {
        let files: Vec<PathBuf> = fs::read_dir(&self.directory).ok()?.flatten().map(|entry| entry.path()).collect();
        if files.len() <= MERGE_FROM {
            return None;
        }
        let segments: Vec<Segment> = files.iter().filter_map(|path| Segment::open(path).ok().flatten()).collect();
        let mut values: Vec<(&RowKey, &[u8])> = segments.iter().flat_map(Segment::entries).collect();
        values.sort_by_key(|(key, _)| **key);
        values.dedup_by_key(|(key, _)| **key);
        Some((segment_bytes(&values), files))
    }

    fn fresh(&self) -> MutexGuard<'_, Fresh> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of a segment is the digest of its bytes.
pub(crate) fn segment_name(bytes: &[u8]) -> String {
    format!("{}.rows", Digest::of(bytes))
}

fn segment_bytes(sorted: &[(&RowKey, &[u8])]) -> Vec<u8> {
    let mut bytes = HEADER.to_vec();
    bytes.extend_from_slice(&u32::try_from(sorted.len()).expect("fewer than 2³² rows in a commit").to_le_bytes());
    for (key, _) in sorted {
        bytes.extend_from_slice(*key);
    }
    let mut offset = 0_u64;
    for (_, value) in sorted {
        bytes.extend_from_slice(&offset.to_le_bytes());
        offset += value.len() as u64;
    }
    bytes.extend_from_slice(&offset.to_le_bytes());
    for (_, value) in sorted {
        bytes.extend_from_slice(value);
    }
    let check = *Digest::of(&bytes).bytes();
    bytes.extend_from_slice(&check);
    bytes
}

struct Segment {
    map: Mmap,
    count: usize,
}

impl Segment {
    /// `None` for a file that is not a whole segment.
    #[expect(unsafe_code, reason = "mapping a file")]
    fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        if path.extension().is_none_or(|extension| extension != "rows") {
            return Ok(None);
        }
        let file = match File::open(path) {
            // Another process merged it away between listing and opening.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.context("open", path)?,
        };
        // SAFETY: a published segment is never written to nor truncated; removing it leaves the mapping valid.
        let map = unsafe { Mmap::map(&file) }.context("map", path)?;
        Ok(Self::check(map))
    }

    fn check(map: Mmap) -> Option<Self> {
        let body = map.len().checked_sub(32)?;
        let whole = map.starts_with(HEADER) && Digest::of(&map[..body]).bytes() == &map[body..];
        let count = u32::from_le_bytes(map.get(HEADER.len()..HEADER.len() + 4)?.try_into().ok()?) as usize;
        whole.then_some(Self { map, count })
    }

    fn keys(&self) -> usize {
        HEADER.len() + 4
    }

    fn key(&self, at: usize) -> &RowKey {
        let start = self.keys() + at * KEY;
        self.map[start..start + KEY].try_into().expect("sixteen bytes")
    }

    fn value(&self, at: usize) -> &[u8] {
        let offsets = self.keys() + self.count * KEY;
        let values = offsets + (self.count + 1) * 8;
        let offset = |n: usize| {
            let start = offsets + n * 8;
            let bytes = self.map[start..start + 8].try_into().expect("eight bytes");
            values + usize::try_from(u64::from_le_bytes(bytes)).expect("offsets lie within the mapped file")
        };
        &self.map[offset(at)..offset(at + 1)]
    }

    fn find(&self, key: &RowKey) -> Option<&[u8]> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            match self.key(middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(self.value(middle)),
            }
        }
        None
    }

    fn entries(&self) -> impl Iterator<Item = (&RowKey, &[u8])> {
        (0..self.count).map(|at| (self.key(at), self.value(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> RowKey {
        row_key(&Key::of(&n.to_le_bytes()))
    }

    #[test]
    fn what_was_saved_is_found_and_damage_is_a_miss() {
        let dir = tempfile::tempdir().unwrap();
        let memory = RowMemory::open(dir.path()).unwrap();
        for n in 0..50 {
            memory.insert(key(n), vec![u8::try_from(n).unwrap(); n as usize]);
        }
        memory.insert(key(3), b"later".to_vec());
        let bytes = memory.take_unsaved().unwrap();
        assert!(memory.take_unsaved().is_none());
        let path = dir.path().join(segment_name(&bytes));
        fs::write(&path, &bytes).unwrap();

        let again = RowMemory::open(dir.path()).unwrap();
        for n in 0..50 {
            assert_eq!(again.get(&key(n)).unwrap(), vec![u8::try_from(n).unwrap(); n as usize]);
        }
        assert!(again.get(&key(50)).is_none());

        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert!(RowMemory::open(dir.path()).unwrap().get(&key(1)).is_none());
        fs::write(&path, &bytes[..10]).unwrap();
        assert!(RowMemory::open(dir.path()).unwrap().get(&key(1)).is_none());
    }

    #[test]
    fn merging_keeps_every_entry() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..10 {
            let memory = RowMemory::open(dir.path()).unwrap();
            memory.insert(key(n), n.to_string().into_bytes());
            let bytes = memory.take_unsaved().unwrap();
            fs::write(dir.path().join(segment_name(&bytes)), bytes).unwrap();
        }
        let (bytes, replaced) = RowMemory::open(dir.path()).unwrap().merged().unwrap();
        assert_eq!(replaced.len(), 10);
        for path in replaced {
            fs::remove_file(path).unwrap();
        }
        fs::write(dir.path().join(segment_name(&bytes)), bytes).unwrap();
        let memory = RowMemory::open(dir.path()).unwrap();
        assert!((0..10).all(|n| memory.get(&key(n)).unwrap() == n.to_string().into_bytes()));
    }
}
