//! Collecting: removing what nothing needs. What is needed the caller says; this file knows no more than files, ages and packs.
//!
//! Safe beside living runs and other collections, by four rules. Nothing that was used within the grace period is removed, by the
//! clock of the store's file system; whoever relies on a record or an object that is there notes its use ([`Store::lookup`],
//! [`Store::put`]). A file is moved aside before it is removed, and put back if its use was noted meanwhile. Records go before what
//! they name, and what the remaining ones name is asked for again in between. A pack that holds something needed is only rewritten
//! while no other process has the store open.
//!
//! A kill at any moment leaves records whose objects are all there, and perhaps objects that the next collection removes.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::error::{Context, StoreError};
use crate::inventory::{Listed, fanned, files, list_names};
use crate::pack::{Entry, Index, PackWriter, index_bytes};
use crate::publish::Publication;
use crate::{Blob, Digest, Key, Store, owner};

/// What must stay.
#[derive(Clone, Debug, Default)]
pub struct Keep {
    /// Action records.
    pub records: HashSet<Key>,
    /// Objects.
    pub objects: HashSet<Digest>,
    /// Row memory, by recipe.
    pub memories: HashSet<Key>,
    /// Checkpoints.
    pub checkpoints: HashSet<Key>,
}

/// Files that were removed, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// How many.
    pub count: u64,
    /// Bytes that they take.
    pub bytes: u64,
}

impl Removed {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// What a collection removed, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Action records.
    pub records: Removed,
    /// Large objects.
    pub objects: Removed,
    /// Packs in which nothing is needed.
    pub packs: Removed,
    /// Packs of which most is not needed, rewritten without it.
    pub rewritten: Removed,
    /// Packs that would be rewritten if no other process had the store open.
    pub postponed: Removed,
    /// Segments of row memory.
    pub memories: Removed,
    /// Checkpoint records.
    pub checkpoints: Removed,
    /// What dead processes left, and what was set aside as damaged.
    pub leftovers: Removed,
    /// Why packs could not be rewritten, where they could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl Swept {
    /// Bytes freed.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.records.bytes
            + self.objects.bytes
            + self.packs.bytes
            + self.rewritten.bytes
            + self.memories.bytes
            + self.checkpoints.bytes
            + self.leftovers.bytes
    }
}

/// A collection, acting or only looking.
pub struct Collector<'a> {
    store: &'a Store,
    now: SystemTime,
    grace: Duration,
    act: bool,
}

impl<'a> Collector<'a> {
    /// A collection that spares what was used within `grace`; it removes nothing unless `act` is set.
    ///
    /// # Errors
    /// When the clock of the file system cannot be read.
    pub fn new(store: &'a Store, grace: Duration, act: bool) -> Result<Self, StoreError> {
        // A directory that is there already needs no room on a full disk.
        owner::touch(&store.own).context("touch", &store.own)?;
        let now = fs::metadata(&store.own).and_then(|meta| meta.modified()).context("read", &store.own)?;
        Ok(Self { store, now, grace, act })
    }

    /// Now, by the clock of the store's file system.
    #[must_use]
    pub const fn now(&self) -> SystemTime {
        self.now
    }

    /// Whether something was last used before the grace period.
    #[must_use]
    pub fn is_old(&self, used: SystemTime) -> bool {
        self.now.duration_since(used).is_ok_and(|age| age >= self.grace)
    }

    /// Removes the action records that need not stay. To be followed by asking what the remaining ones name, then by
    /// [`Collector::content`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn records(&self, keep: &Keep) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        for (name, file) in fanned(&self.store.root.join("actions"))? {
            let Ok(key) = name.parse::<Key>() else { continue };
            if !keep.records.contains(&key) {
                self.remove(&file, &mut swept.records);
            }
        }
        Ok(swept)
    }

    /// Removes everything besides records that need not stay; adds to what was swept before.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn content(&self, keep: &Keep, mut swept: Swept) -> Result<Swept, StoreError> {
        self.directories("checkpoints", &keep.checkpoints, &mut swept.checkpoints)?;
        self.directories("rows", &keep.memories, &mut swept.memories)?;
        for (name, file) in fanned(&self.store.root.join("objects"))? {
            let Ok(digest) = name.parse::<Digest>() else { continue };
            if !keep.objects.contains(&digest) {
                self.remove(&file, &mut swept.objects);
            }
        }
        for file in files(&self.store.root.join("damaged"))? {
            self.remove(&file, &mut swept.leftovers);
        }
        self.indexes(&mut swept)?;
        self.packs(keep, &mut swept)?;
        if self.act {
            self.store.keep_reserve();
        }
        Ok(swept)
    }

    /// Removes subdirectories named by keys that need not stay.
    fn directories(&self, kind: &str, keep: &HashSet<Key>, removed: &mut Removed) -> Result<(), StoreError> {
        for directory in list_names(&self.store.root.join(kind))? {
            let key = directory.file_name().and_then(|name| name.to_str()?.parse::<Key>().ok());
            if key.is_none_or(|key| keep.contains(&key)) {
                continue;
            }
            let files = files(&directory)?;
            if files.iter().all(|file| self.is_old(file.modified)) {
                files.iter().for_each(|file| self.remove(file, removed));
                if self.act {
                    // One that got a new file meanwhile is not empty and stays.
                    let _ = fs::remove_dir(&directory);
                }
            }
        }
        Ok(())
    }

    /// Removes a file that is old, unless its use is noted meanwhile.
    fn remove(&self, file: &Listed, removed: &mut Removed) {
        if self.is_old(file.modified) && (!self.act || self.take_away(file)) {
            removed.add(file.len);
        }
    }

    fn take_away(&self, file: &Listed) -> bool {
        let aside = self.store.own.join(owner::unique_name());
        // Where that fails another collection was first, or the file may not be removed.
        if fs::rename(&file.path, &aside).is_err() {
            return false;
        }
        let used = fs::metadata(&aside).and_then(|meta| meta.modified()).is_ok_and(|now| now > file.modified);
        let put_back = used && put_back(&aside, &file.path);
        owner::remove(&aside);
        !put_back
    }

    /// What a process left that was killed while it saved a stat index.
    fn indexes(&self, swept: &mut Swept) -> Result<(), StoreError> {
        for file in files(&self.store.root.join("index"))? {
            if file.path.extension().is_some_and(|extension| extension == "tmp") {
                self.remove(&file, &mut swept.leftovers);
            }
        }
        Ok(())
    }

    fn packs(&self, keep: &Keep, swept: &mut Swept) -> Result<(), StoreError> {
        let mut rewrite = Vec::new();
        for pack in Pack::all(&self.store.root.join("packs"))? {
            // A living process may still write to its pack, or hold what it has not committed.
            if !owner::is_orphan(&pack.file.path, || Some(self.now))
                || !pack.files().all(|file| self.is_old(file.modified))
            {
                continue;
            }
            let needed: Vec<Entry> =
                pack.entries.values().filter(|entry| keep.objects.contains(&entry.digest)).copied().collect();
            let needed_bytes = bytes_of(&needed);
            if pack.entries.is_empty() {
                self.remove_pack(&pack, &mut swept.leftovers);
            } else if needed.is_empty() {
                self.remove_pack(&pack, &mut swept.packs);
            } else if pack.file.len > needed_bytes.saturating_mul(2) {
                rewrite.push((pack, needed));
            }
        }
        self.rewrite(&rewrite, swept)
    }

    /// The pack first, whose time tells of its use; an index without its pack counts for nothing.
    fn remove_pack(&self, pack: &Pack, removed: &mut Removed) {
        if self.act && !self.take_away(&pack.file) {
            return;
        }
        removed.add(pack.files().map(|file| file.len).sum());
        if self.act {
            pack.indexes.iter().for_each(|index| owner::remove(&index.path));
        }
    }

    /// Puts what is needed of several packs into a new one, makes it durable, then removes them.
    fn rewrite(&self, packs: &[(Pack, Vec<Entry>)], swept: &mut Swept) -> Result<(), StoreError> {
        let freed = |(pack, needed): &(Pack, Vec<Entry>)| pack.file.len.saturating_sub(bytes_of(needed));
        if packs.is_empty() {
            return Ok(());
        }
        if !self.store.others()?.is_empty() {
            packs.iter().for_each(|pack| swept.postponed.add(freed(pack)));
            return Ok(());
        }
        if self.act
            && let Err(error) = self.copy_needed(packs)
        {
            // The disk may be full: the old packs stay, and nothing is lost.
            swept.trouble = Some(error.to_string());
            return Ok(());
        }
        for one in packs {
            if self.act {
                self.remove_pack(&one.0, &mut Removed::default());
            }
            swept.rewritten.add(freed(one));
        }
        Ok(())
    }

    fn copy_needed(&self, packs: &[(Pack, Vec<Entry>)]) -> Result<(), StoreError> {
        let path = self.store.root.join("packs").join(format!("{}.pack", owner::unique_name()));
        let copied = self.copy_into(&path, packs);
        if copied.is_err() {
            owner::remove(&path);
        }
        copied
    }

    fn copy_into(&self, path: &Path, packs: &[(Pack, Vec<Entry>)]) -> Result<(), StoreError> {
        let mut writer = PackWriter::create(path)?;
        let mut entries = Vec::new();
        for (pack, needed) in packs {
            for entry in needed {
                let from: std::sync::Arc<Path> = pack.file.path.as_path().into();
                let blob = Blob { digest: entry.digest, path: from, offset: entry.offset, len: entry.len };
                let bytes = blob.read().context("read", &pack.file.path)?;
                let blob = writer.append(entry.digest, &bytes)?;
                entries.push(Entry { offset: blob.offset, ..*entry });
            }
        }
        let mut publication = Publication::default();
        let aside = self.store.own.join(owner::unique_name());
        publication.write(aside, path.with_extension("idx"), &index_bytes(&mut entries))?;
        let disk = self.store.writing()?;
        disk.sync(publication.asides().chain([path]))?;
        publication.link(disk)?;
        publication.remove_asides();
        Ok(())
    }
}

/// Bytes of packed objects; a damaged index may tell any length.
fn bytes_of(entries: &[Entry]) -> u64 {
    entries.iter().fold(0, |bytes, entry| bytes.saturating_add(entry.len))
}

/// A file that belongs to another user may only be renamed. Whoever made one of that name meanwhile made the same, or as good a record.
fn put_back(aside: &Path, path: &Path) -> bool {
    match fs::hard_link(aside, path) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => fs::rename(aside, path).is_ok(),
        linked => linked.is_ok(),
    }
}

/// A pack with its indexes.
struct Pack {
    file: Listed,
    indexes: Vec<Listed>,
    entries: BTreeMap<Digest, Entry>,
}

impl Pack {
    fn all(directory: &Path) -> Result<Vec<Self>, StoreError> {
        let (mut packs, mut indexes): (BTreeMap<String, Self>, Vec<Listed>) = (BTreeMap::new(), Vec::new());
        for file in files(directory)? {
            match file.path.extension().and_then(|extension| extension.to_str()) {
                Some("idx") => indexes.push(file),
                Some("pack") => {
                    let pack = Self { file, indexes: Vec::new(), entries: BTreeMap::new() };
                    packs.insert(stem(&pack.file.path), pack);
                }
                _ => {}
            }
        }
        for file in indexes {
            let Some(pack) = packs.get_mut(&stem(&file.path)) else { continue };
            // One that cannot be opened was merged into another meanwhile.
            if let Ok(Some(index)) = Index::open(&file.path) {
                pack.entries.extend(index.entries().map(|entry| (entry.digest, entry)));
            }
            pack.indexes.push(file);
        }
        Ok(packs.into_values().collect())
    }

    fn files(&self) -> impl Iterator<Item = &Listed> {
        self.indexes.iter().chain([&self.file])
    }
}

/// The name up to the first dot.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ActionRecord;

    fn all_old<'a>(store: &'a Store, act: bool) -> Collector<'a> {
        Collector::new(store, Duration::ZERO, act).unwrap()
    }

    fn committed(dir: &Path, objects: &[&[u8]]) -> Vec<Digest> {
        let store = Store::open(dir).unwrap();
        let digests = objects.iter().map(|bytes| store.put(bytes).unwrap()).collect();
        store.finish().unwrap();
        drop(store);
        disown(&dir.join("packs"));
        digests
    }

    /// Gives packs the name of a process that is dead: this one lives.
    fn disown(packs: &Path) {
        let dead = owner::unique_name().rsplitn(3, '-').last().map(|process| format!("{process}-1-0")).unwrap();
        for file in files(packs).unwrap() {
            let name = file.path.file_name().unwrap().to_string_lossy().replace(&stem(&file.path), &dead);
            fs::rename(&file.path, file.path.with_file_name(name)).unwrap();
        }
    }

    #[test]
    fn the_pack_of_a_living_process_stays() {
        let dir = tempfile::tempdir().unwrap();
        let writer = Store::open(dir.path()).unwrap();
        let digest = writer.put(b"not committed yet").unwrap();
        let store = Store::open(dir.path()).unwrap();
        let swept = all_old(&store, true).content(&Keep::default(), Swept::default()).unwrap();
        assert_eq!(swept.bytes(), 0);
        writer.commit().unwrap();
        assert!(Store::open(dir.path()).unwrap().read(&digest).is_ok());
    }

    #[test]
    fn a_file_whose_use_is_noted_meanwhile_is_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let large = vec![1; 2 << 20];
        let digest = committed(dir.path(), &[&large])[0];
        let store = Store::open(dir.path()).unwrap();
        let (_, listed) = fanned(&dir.path().join("objects")).unwrap().remove(0);
        let collector = all_old(&store, true);
        let before = Listed { modified: listed.modified - Duration::from_secs(60), ..listed };
        assert!(!collector.take_away(&before), "its time is later than when it was listed");
        assert_eq!(store.read(&digest).unwrap(), large);
    }

    #[test]
    fn a_pack_that_is_mostly_unneeded_is_rewritten_under_the_eyes_of_a_reader() {
        let dir = tempfile::tempdir().unwrap();
        let (needed, other) = (vec![1; 1000], vec![2; 9000]);
        let digests = committed(dir.path(), &[&needed, &other]);
        let (store, reader) = (Store::open(dir.path()).unwrap(), Store::open(dir.path()).unwrap());
        let located = reader.locate(&digests[0]).unwrap().unwrap();
        let keep = Keep { objects: [digests[0]].into(), ..Keep::default() };
        let planned = all_old(&store, false).content(&keep, Swept::default()).unwrap();
        assert!(located.path.exists());
        let swept = all_old(&store, true).content(&keep, Swept::default()).unwrap();
        assert_eq!((planned.rewritten, swept.rewritten.bytes), (swept.rewritten, 9000));
        assert!(!located.path.exists());
        assert_eq!(reader.read(&digests[0]).unwrap(), needed, "the reader finds it where it lies now");
        assert!(reader.read(&digests[1]).is_err());
        assert_eq!(Store::open(dir.path()).unwrap().read(&digests[0]).unwrap(), needed);
    }

    #[test]
    fn an_object_that_was_collected_is_stored_again() {
        let dir = tempfile::tempdir().unwrap();
        let bytes = vec![3; 500];
        let digest = committed(dir.path(), &[&bytes])[0];
        let (store, writer) = (Store::open(dir.path()).unwrap(), Store::open(dir.path()).unwrap());
        all_old(&store, true).content(&Keep::default(), Swept::default()).unwrap();
        writer.put(&bytes).unwrap();
        writer.commit().unwrap();
        assert_eq!(Store::open(dir.path()).unwrap().read(&digest).unwrap(), bytes);
    }

    #[test]
    fn looking_up_and_storing_note_the_use() {
        let dir = tempfile::tempdir().unwrap();
        let key = Key::of(b"k");
        let store = Store::open(dir.path()).unwrap();
        let object = store.put(b"x").unwrap();
        store.record(ActionRecord::new(key, object, [("out".to_owned(), object)].into()));
        store.finish().unwrap();
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(10_000);
        let files = [store.action_path(&key), store.locate(&object).unwrap().unwrap().path.to_path_buf()];
        for path in &files {
            fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
        }
        store.lookup(&key).unwrap();
        store.put(b"x").unwrap();
        let hour = Collector::new(&store, Duration::from_secs(3600), true).unwrap();
        for path in &files {
            assert!(!hour.is_old(fs::metadata(path).unwrap().modified().unwrap()), "{}", path.display());
        }
    }
}
