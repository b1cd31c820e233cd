//! Row memory: what became of each row of a recipe, in immutable sorted segments. No database; segments of two machines can be put
//! side by side.
//!
//! A segment is named by the BLAKE3 of its bytes: a line naming the format, the number of entries (u32), the sorted 16-byte keys,
//! `entries + 1` offsets (u64) into the values, and the values, each followed by the first 8 bytes of the BLAKE3 of its key and itself.
//! Little endian. Since every value carries its own check, nothing is read but what is looked up, however large the segment; damage
//! costs entries and never gives a wrong one.

use std::collections::HashMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::error::{Context, StoreError};
use crate::publish::create_new;
use crate::view::View;
use crate::{Digest, Key, owner};

const HEADER: &[u8] = b"row-memory/2\n\0\0\0";
const KEY: usize = 16;
const CHECK: usize = 8;
/// More segments than this are merged when the store is left tidy.
const MERGE_FROM: usize = 8;
/// How often a directory is listed again because segments were merged away between listing and opening.
const LISTINGS: usize = 3;

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
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Published segments, the newest last.
    segments: Vec<Segment>,
    /// Those among them that this process wrote, by size: each at least twice as large as the next, so that there are few.
    own: Vec<(PathBuf, u64)>,
    /// Added since a commit last took what there was.
    fresh: HashMap<RowKey, Vec<u8>>,
    /// Taken by a commit that is not done.
    saving: HashMap<RowKey, Vec<u8>>,
}

/// A segment written aside.
pub(crate) struct Written {
    /// The name it is to appear under.
    pub(crate) name: PathBuf,
    /// Segments it takes the place of.
    pub(crate) replaces: Vec<PathBuf>,
}

impl RowMemory {
    /// Opens the segments in `directory`, which need not exist. What is no segment is left out: its rows are computed again.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        let state = State { segments: open_all(directory)?, ..State::default() };
        Ok(Self { directory: directory.to_owned(), state: Mutex::new(state) })
    }

    /// What is remembered under a key: the latest, where it was remembered twice.
    #[must_use]
    pub fn get(&self, key: &RowKey) -> Option<Vec<u8>> {
        let state = self.state();
        let young = state.fresh.get(key).or_else(|| state.saving.get(key)).cloned();
        let found =
            young.or_else(|| state.segments.iter().rev().find_map(|segment| segment.find(key)).map(<[u8]>::to_vec));
        found.filter(|value| !value.is_empty())
    }

    /// Remembers no more, in this process, what earlier ones remembered. It stays for others until something else is remembered in its place.
    pub fn let_go(&self) {
        let mut state = self.state();
        let State { segments, own, .. } = &mut *state;
        segments.retain(|segment| own.iter().any(|(path, _)| *path == segment.path));
    }

    /// Remembers a value; an empty one is none. Durable after the next commit.
    pub fn insert(&self, key: RowKey, value: Vec<u8>) {
        self.state().fresh.insert(key, value);
    }

    /// Forgets what is remembered under a key, in segments that were published too: nothing, the latest value, stands in their stead.
    pub fn forget(&self, key: RowKey) {
        self.insert(key, Vec::new());
    }

    /// Writes a segment with what was added since the last call to `aside`; `None` if nothing was. To be followed by
    /// [`RowMemory::published`], or by another call if publishing failed.
    pub(crate) fn write_fresh(&self, aside: &Path) -> Result<Option<Written>, StoreError> {
        let mut state = self.state();
        let fresh = std::mem::take(&mut state.fresh);
        state.saving.extend(fresh);
        if state.saving.is_empty() {
            return Ok(None);
        }
        let mut entries: Vec<Entry<'_>> = state.saving.iter().map(|(key, value)| (key, value.as_slice())).collect();
        let mut bytes: u64 = entries.iter().map(|(_, value)| entry_len(value)).sum();
        let mut replaces = Vec::new();
        for (path, len) in state.own.iter().rev().take_while(|(_, len)| {
            let absorb = *len < 2 * bytes;
            bytes += if absorb { *len } else { 0 };
            absorb
        }) {
            let absorbed =
                state.segments.iter().find(|segment| segment.path == *path && segment.map.len() as u64 == *len);
            entries.extend(absorbed.into_iter().flat_map(Segment::entries));
            replaces.push(path.clone());
        }
        let name = self.directory.join(write_segment(aside, entries)?);
        Ok(Some(Written { name, replaces }))
    }

    /// Takes up a segment that is published now, and lets go of what it holds.
    pub(crate) fn published(&self, written: &Written) -> Result<(), StoreError> {
        let Some(segment) = Segment::open(&written.name)? else { return Ok(()) };
        let mut state = self.state();
        state.saving.clear();
        state.segments.retain(|old| !written.replaces.contains(&old.path) && old.path != written.name);
        state.own.retain(|(path, _)| !written.replaces.contains(path));
        state.own.push((written.name.clone(), segment.map.len() as u64));
        state.segments.push(segment);
        Ok(())
    }

    /// Calls `see` with every value remembered.
    pub fn each(&self, see: &mut dyn FnMut(&[u8])) {
        let state = self.state();
        state.segments.iter().flat_map(Segment::entries).for_each(|(_, value)| see(value));
        state.saving.values().chain(state.fresh.values()).for_each(|value| see(value));
    }

    /// The directory of its segments.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether it has segments of this process.
    pub(crate) fn has_grown(&self) -> bool {
        !self.state().own.is_empty()
    }

    /// Whether everything added is published.
    pub(crate) fn is_clean(&self) -> bool {
        let state = self.state();
        state.fresh.is_empty() && state.saving.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a directory has too many segments, writes one to `aside` that holds what the smaller ones do.
pub(crate) fn write_merged(directory: &Path, aside: &Path) -> Result<Option<Written>, StoreError> {
    let mut segments = open_all(directory)?;
    if segments.len() <= MERGE_FROM {
        return Ok(None);
    }
    let mut sizes: Vec<usize> = segments.iter().map(|segment| segment.map.len()).collect();
    sizes.sort_unstable();
    // All but the largest, and of those the ones that are not much larger than what is merged anyway.
    let (small, large) = sizes.split_at(sizes.len() - (MERGE_FROM - 1));
    let (mut limit, mut total) = (small.last().copied().unwrap_or(0), small.iter().sum::<usize>());
    for size in large {
        if *size >= 2 * total {
            break;
        }
        limit = *size;
        total += size;
    }
    segments.retain(|segment| segment.map.len() <= limit);
    let entries = segments.iter().rev().flat_map(Segment::entries).collect();
    let name = directory.join(write_segment(aside, entries)?);
    let replaces = segments.iter().map(|segment| segment.path.clone()).filter(|path| *path != name).collect();
    Ok(Some(Written { name, replaces }))
}

/// Whether these are the bytes of the segment at `path`.
pub(crate) fn is_whole_segment(path: &Path, bytes: &[u8]) -> bool {
    let name = format!("{}.rows", Digest::of(bytes));
    bytes.starts_with(HEADER) && path.file_name().is_some_and(|found| found.to_string_lossy() == name)
}

impl Written {
    /// Removes the segments it takes the place of.
    pub(crate) fn remove_replaced(&self) {
        self.replaces.iter().for_each(|path| owner::remove(path));
    }
}

type Entry<'a> = (&'a RowKey, &'a [u8]);

const fn entry_len(value: &[u8]) -> u64 {
    (KEY + 8 + value.len() + CHECK) as u64
}

/// What follows a value, so that damage is seen where it is.
fn check_of(key: &RowKey, value: &[u8]) -> [u8; CHECK] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key).update(value);
    hasher.finalize().as_bytes()[..CHECK].try_into().expect("a hash has 32 bytes")
}

/// Writes a segment; of entries with the same key the first stays. Returns the name that its content gives it.
fn write_segment(path: &Path, mut entries: Vec<Entry<'_>>) -> Result<String, StoreError> {
    entries.sort_by_key(|(key, _)| **key);
    entries.dedup_by_key(|(key, _)| **key);
    let mut out =
        Hashing { file: BufWriter::new(create_new(path).context("create", path)?), hasher: blake3::Hasher::new() };
    write_entries(&mut out, &entries).context("write", path)?;
    Ok(format!("{}.rows", Digest::from_bytes(*out.hasher.finalize().as_bytes())))
}

fn write_entries(out: &mut impl Write, sorted: &[Entry<'_>]) -> std::io::Result<()> {
    out.write_all(HEADER)?;
    out.write_all(&u32::try_from(sorted.len()).map_err(std::io::Error::other)?.to_le_bytes())?;
    for (key, _) in sorted {
        out.write_all(*key)?;
    }
    let mut offset = 0_u64;
    out.write_all(&offset.to_le_bytes())?;
    for (_, value) in sorted {
        offset += (value.len() + CHECK) as u64;
        out.write_all(&offset.to_le_bytes())?;
    }
    for (key, value) in sorted {
        out.write_all(value)?;
        out.write_all(&check_of(key, value))?;
    }
    out.flush()
}

struct Hashing<W> {
    file: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// The segments of a directory, the newest last.
fn open_all(directory: &Path) -> Result<Vec<Segment>, StoreError> {
    let mut segments = Vec::new();
    for _ in 0..LISTINGS {
        segments.clear();
        let Ok(entries) = fs::read_dir(directory) else { return Ok(segments) };
        let mut files: Vec<(Option<SystemTime>, PathBuf)> = entries
            .flatten()
            .map(|entry| (entry.metadata().and_then(|meta| meta.modified()).ok(), entry.path()))
            .filter(|(_, path)| path.extension().is_some_and(|extension| extension == "rows"))
            .collect();
        files.sort();
        let mut complete = true;
        for (_, path) in files {
            match Segment::open(&path) {
                Ok(segment) => segments.extend(segment),
                Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => complete = false,
                Err(error) => return Err(error),
            }
        }
        if complete {
            break;
        }
    }
    Ok(segments)
}

struct Segment {
    path: PathBuf,
    map: View,
    count: usize,
}

impl Segment {
    /// `None` for a file that is not a whole segment.
    fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        Ok(Self::checked(path, View::open(path)?))
    }

    fn checked(path: &Path, map: View) -> Option<Self> {
        let count = map.strip_prefix(HEADER)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize)?;
        let segment = Self { path: path.to_owned(), map, count };
        (segment.offset(count)? == segment.map.len().checked_sub(segment.values())?).then_some(segment)
    }

    const fn keys() -> usize {
        HEADER.len() + 4
    }

    const fn values(&self) -> usize {
        Self::keys() + self.count * KEY + (self.count + 1) * 8
    }

    fn key(&self, at: usize) -> &RowKey {
        let start = Self::keys() + at * KEY;
        self.map[start..start + KEY].try_into().expect("sixteen bytes")
    }

    /// Where the value at `at` begins, from the first value on.
    fn offset(&self, at: usize) -> Option<usize> {
        let start = Self::keys() + self.count * KEY + at * 8;
        let bytes = self.map.get(start..start + 8)?;
        usize::try_from(u64::from_le_bytes(bytes.try_into().expect("eight bytes"))).ok()
    }

    /// `None` if it is damaged.
    fn value(&self, at: usize) -> Option<&[u8]> {
        let stored = self.map.get(self.values()..)?.get(self.offset(at)?..self.offset(at + 1)?)?;
        let (value, check) = stored.split_at_checked(stored.len().checked_sub(CHECK)?)?;
        (check_of(self.key(at), value) == check).then_some(value)
    }

    fn find(&self, key: &RowKey) -> Option<&[u8]> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            match self.key(middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return self.value(middle),
            }
        }
        None
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        (0..self.count).filter_map(|at| Some((self.key(at), self.value(at)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> RowKey {
        row_key(&Key::of(&n.to_le_bytes()))
    }

    /// What a commit does with a memory.
    fn save(memory: &RowMemory) -> Option<PathBuf> {
        let aside = memory.directory.join("aside");
        let written = memory.write_fresh(&aside).unwrap()?;
        fs::rename(&aside, &written.name).unwrap();
        memory.published(&written).unwrap();
        written.remove_replaced();
        Some(written.name)
    }

    /// Segments are read-only.
    fn replace(path: &Path, bytes: &[u8]) {
        fs::remove_file(path).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn files(directory: &Path) -> usize {
        fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn what_was_saved_is_found_and_damage_is_a_miss() {
        let dir = tempfile::tempdir().unwrap();
        let memory = RowMemory::open(dir.path()).unwrap();
        for n in 0..50 {
            memory.insert(key(n), vec![u8::try_from(n).unwrap(); n as usize + 1]);
        }
        let path = save(&memory).unwrap();
        assert!(memory.is_clean() && save(&memory).is_none());
        let bytes = fs::read(&path).unwrap();
        assert!(path.ends_with(format!("{}.rows", Digest::of(&bytes))));

        let again = RowMemory::open(dir.path()).unwrap();
        for n in 0..50 {
            assert_eq!(again.get(&key(n)).unwrap(), vec![u8::try_from(n).unwrap(); n as usize + 1]);
        }
        assert!(again.get(&key(50)).is_none());

        replace(&path, &bytes[..bytes.len() - 1]);
        assert!(RowMemory::open(dir.path()).unwrap().get(&key(1)).is_none());
    }

    #[test]
    fn a_flipped_bit_never_gives_a_wrong_value_and_in_a_value_costs_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let memory = RowMemory::open(dir.path()).unwrap();
        for n in 0..20 {
            memory.insert(key(n), n.to_string().into_bytes());
        }
        let path = save(&memory).unwrap();
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            replace(&path, &damaged);
            let memory = RowMemory::open(dir.path()).unwrap();
            let found: Vec<Option<Vec<u8>>> = (0..20).map(|n| memory.get(&key(n))).collect();
            for (n, value) in (0..).zip(&found) {
                assert!(
                    value.as_ref().is_none_or(|value| *value == n.to_string().into_bytes()),
                    "byte {at}, entry {n}"
                );
            }
            let in_values = at >= Segment::keys() + 20 * (KEY + 8) + 8;
            assert!(!in_values || found.iter().filter(|value| value.is_none()).count() == 1, "byte {at}");
        }
    }

    #[test]
    fn many_commits_leave_few_segments_and_the_latest_values() {
        let dir = tempfile::tempdir().unwrap();
        let memory = RowMemory::open(dir.path()).unwrap();
        for n in 0..200 {
            memory.insert(key(n), n.to_string().into_bytes());
            memory.insert(key(0), format!("later {n}").into_bytes());
            save(&memory);
            assert!(memory.get(&key(n)).is_some() && memory.get(&key(0)).unwrap() == format!("later {n}").into_bytes());
        }
        assert!(files(dir.path()) < 12, "{} segments", files(dir.path()));
        let again = RowMemory::open(dir.path()).unwrap();
        assert!((1..200).all(|n| again.get(&key(n)).unwrap() == n.to_string().into_bytes()));
    }

    #[test]
    fn what_a_failed_commit_took_is_in_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let memory = RowMemory::open(dir.path()).unwrap();
        memory.insert(key(1), b"one".to_vec());
        memory.write_fresh(&dir.path().join("lost")).unwrap().unwrap();
        memory.insert(key(2), b"two".to_vec());
        save(&memory);
        let again = RowMemory::open(dir.path()).unwrap();
        assert_eq!((again.get(&key(1)), again.get(&key(2))), (Some(b"one".to_vec()), Some(b"two".to_vec())));
    }

    #[test]
    fn merging_keeps_every_entry() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..10 {
            let memory = RowMemory::open(dir.path()).unwrap();
            memory.insert(key(n), n.to_string().into_bytes());
            save(&memory);
        }
        assert_eq!(files(dir.path()), 10);
        let aside = dir.path().join("aside");
        let merged = write_merged(dir.path(), &aside).unwrap().unwrap();
        fs::rename(&aside, &merged.name).unwrap();
        merged.remove_replaced();
        assert_eq!(files(dir.path()), 1);
        let memory = RowMemory::open(dir.path()).unwrap();
        assert!((0..10).all(|n| memory.get(&key(n)).unwrap() == n.to_string().into_bytes()));
    }
}
