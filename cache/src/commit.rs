//! Group commit: objects of many steps made durable by one sync, then what refers to them.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::action::ActionRecord;
use crate::error::{Context, StoreError};
use crate::memory::{RowMemory, Written, write_merged};
use crate::pack::{Entry, PackWriter, index_bytes};
use crate::publish::{Publication, Published, create_new};
use crate::store::{Store, encode_record, lock};
use crate::{Blob, Digest, Key, owner, reserve};

/// Objects from this size on are files of their own: they can be mapped, linked and removed by themselves.
pub(crate) const LOOSE_FROM: u64 = 1 << 20;

/// What this process has written and nobody else can see yet.
#[derive(Default)]
pub(crate) struct Pending {
    pack: Option<PackWriter>,
    /// Published indexes of the pack.
    parts: Vec<PathBuf>,
    /// The number of the next one.
    next_part: u32,
    blobs: HashMap<Digest, Blob>,
    fresh: Fresh,
}

/// What is stored and recorded since the last commit.
#[derive(Default)]
struct Fresh {
    /// Objects in the pack.
    entries: Vec<Entry>,
    /// Objects in files of their own, aside.
    loose: Vec<(PathBuf, Digest)>,
    records: BTreeMap<Key, ActionRecord>,
    checkpoints: Vec<(Key, u64, BTreeMap<String, Digest>)>,
}

/// A key that another process had recorded first: its record stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raced {
    /// The key.
    pub key: Key,
    /// The outputs of which this process made something else: what the key names is not deterministic.
    pub differs: Vec<String>,
}

impl Pending {
    pub(crate) fn blob(&self, digest: &Digest) -> Option<Blob> {
        self.blobs.get(digest).cloned()
    }

    pub(crate) fn release(&mut self, digest: &Digest) {
        self.blobs.remove(digest);
    }

    pub(crate) fn record(&self, key: &Key) -> Option<ActionRecord> {
        self.fresh.records.get(key).cloned()
    }

    pub(crate) fn add_record(&mut self, record: ActionRecord) {
        self.fresh.records.entry(record.key).or_insert(record);
    }

    pub(crate) fn forget(&mut self, key: &Key) {
        self.fresh.records.remove(key);
    }

    pub(crate) fn add_checkpoint(&mut self, key: Key, at: u64, files: BTreeMap<String, Digest>) {
        self.fresh.checkpoints.push((key, at, files));
    }

    pub(crate) fn put(&mut self, store: &Store, digest: Digest, bytes: &[u8]) -> Result<(), StoreError> {
        if self.blobs.contains_key(&digest) {
            return Ok(());
        }
        if bytes.len() as u64 >= LOOSE_FROM {
            let aside = store.aside();
            whole_or_gone(&aside, create_new(&aside).and_then(|mut file| file.write_all(bytes)))?;
            return self.add_loose(digest, aside, bytes.len() as u64);
        }
        let blob = self.pack(store)?.append(digest, bytes)?;
        self.fresh.entries.push(Entry { digest, offset: blob.offset, len: blob.len });
        self.blobs.insert(digest, blob);
        Ok(())
    }

    /// Takes over a file of this process as a large object.
    pub(crate) fn add_loose(&mut self, digest: Digest, aside: PathBuf, len: u64) -> Result<(), StoreError> {
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o444)).context("protect", &aside)?;
        self.blobs.insert(digest, Blob { digest, path: aside.as_path().into(), offset: 0, len });
        self.fresh.loose.push((aside, digest));
        Ok(())
    }

    /// Removes a pack that no index was published for: nobody will ever read it.
    pub(crate) fn remove_unpublished(&mut self) {
        if let Some(pack) = self.pack.take_if(|_| self.parts.is_empty()) {
            owner::remove(pack.path());
        }
    }

    /// What a commit did not make visible is for the next one.
    fn give_back(&mut self, mut taken: Fresh) {
        let since = std::mem::take(&mut self.fresh);
        taken.entries.extend(since.entries);
        taken.loose.extend(since.loose);
        for (key, record) in since.records {
            taken.records.entry(key).or_insert(record);
        }
        taken.checkpoints.extend(since.checkpoints);
        self.fresh = taken;
    }

    fn pack(&mut self, store: &Store) -> Result<&mut PackWriter, StoreError> {
        if self.pack.is_none() {
            let path = store.root.join("packs").join(format!("{}.pack", owner::unique_name()));
            self.pack = Some(PackWriter::create(&path)?);
        }
        Ok(self.pack.as_mut().expect("was just made"))
    }
}

/// A full disk leaves a part of a file, which is only in the way.
pub(crate) fn whole_or_gone(path: &Path, written: std::io::Result<()>) -> Result<(), StoreError> {
    if written.is_err() {
        owner::remove(path);
    }
    written.context("write", path)
}

/// What one commit makes visible.
#[derive(Default)]
struct Batch {
    /// The pack that grew.
    pack: Option<PathBuf>,
    /// Its index of what is new.
    index: Option<PathBuf>,
    /// Large objects: their asides stay for those who read them.
    loose: Publication,
    /// Indexes and row memory.
    lists: Publication,
    /// Records and checkpoints, which refer to the others: last.
    records: Publication,
    /// The keys of the first records.
    keys: Vec<Key>,
    /// The segments of row memory among the lists.
    memories: Vec<(Arc<RowMemory>, Written)>,
}

impl Batch {
    fn asides(&self) -> impl Iterator<Item = &Path> {
        self.loose.asides().chain(self.lists.asides()).chain(self.records.asides())
    }
}

impl Store {
    /// Makes everything stored so far durable and visible. Returns the keys that another process had recorded first: its
    /// records stay.
    ///
    /// # Errors
    /// When something cannot be written; nothing that refers to it is visible then, and the next commit tries again. After a failed
    /// sync no commit succeeds any more.
    pub fn commit(&self) -> Result<Vec<Raced>, StoreError> {
        let _one_at_a_time = lock(&self.committing);
        if self.in_doubt.load(Ordering::Relaxed) {
            let source = std::io::Error::other("an earlier sync failed");
            return Err(StoreError::NotDurable { path: self.root.clone(), source });
        }
        match self.commit_fresh() {
            Err(error) if error.is_full() && !self.in_doubt.load(Ordering::Relaxed) && reserve::spend(&self.root) => {
                self.commit_fresh()
            }
            committed => committed,
        }
    }

    fn commit_fresh(&self) -> Result<Vec<Raced>, StoreError> {
        let mut batch = Batch::default();
        let (fresh, written) = {
            // Held meanwhile, so that no row is remembered whose objects are not in this batch.
            let mut pending = self.pending();
            let fresh = std::mem::take(&mut pending.fresh);
            let written = self.write_batch(&mut pending, &fresh, &mut batch);
            (fresh, written)
        };
        let committed = written.and_then(|()| self.publish(&mut batch));
        batch.lists.remove_asides();
        batch.records.remove_asides();
        match committed {
            Ok(published) => {
                self.release(&fresh.entries);
                let raced = batch.keys.iter().zip(published).filter(|(_, p)| *p == Published::Existed);
                Ok(raced.filter_map(|(key, _)| self.raced(&fresh.records[key])).collect())
            }
            Err(error) => {
                // A sync that failed once may succeed the next time without having written anything.
                self.in_doubt.fetch_or(matches!(error, StoreError::NotDurable { .. }), Ordering::Relaxed);
                self.pending().give_back(fresh);
                Err(error)
            }
        }
    }

    /// Makes files durable, then objects visible, then what refers to them.
    fn publish(&self, batch: &mut Batch) -> Result<Vec<Published>, StoreError> {
        if batch.asides().next().is_none() {
            return Ok(Vec::new());
        }
        let disk = self.writing()?;
        disk.sync(batch.pack.iter().map(PathBuf::as_path).chain(batch.asides()))?;
        batch.loose.link(disk)?;
        batch.lists.link(disk)?;
        self.pending().parts.extend(batch.index.take());
        for (memory, written) in batch.memories.drain(..) {
            memory.published(&written)?;
            written.remove_replaced();
        }
        self.close_memories();
        let published = batch.records.link(disk)?;
        self.packs.refresh()?;
        Ok(published)
    }

    /// How what is recorded of a key differs from what this process made; `None` if it is ours after all, or gone.
    fn raced(&self, ours: &ActionRecord) -> Option<Raced> {
        let theirs = self.peek(&ours.key).ok().flatten().filter(|theirs| theirs != ours)?;
        let names = ours.outputs.keys().chain(theirs.outputs.keys()).collect::<std::collections::BTreeSet<_>>();
        let differs = names.into_iter().filter(|name| ours.outputs.get(*name) != theirs.outputs.get(*name));
        Some(Raced { key: ours.key, differs: differs.cloned().collect() })
    }

    /// Writes aside what is to be made visible. It stays readable by this process through the files it was written to.
    fn write_batch(&self, pending: &mut Pending, fresh: &Fresh, batch: &mut Batch) -> Result<(), StoreError> {
        for (aside, digest) in &fresh.loose {
            batch.loose.add(aside.clone(), self.object_path(digest));
        }
        if let Some(pack) = pending.pack.as_ref().filter(|_| !fresh.entries.is_empty()) {
            // A number whose index may have become visible, although its commit failed, is not used again.
            let index = pack.path().with_extension(format!("{}.idx", pending.next_part));
            pending.next_part += 1;
            batch.pack = Some(pack.path().to_owned());
            batch.index = Some(index.clone());
            batch.lists.write(self.aside(), index, &index_bytes(&mut fresh.entries.clone()))?;
        }
        self.write_memories(batch)?;
        for (key, record) in &fresh.records {
            batch.records.write(self.aside(), self.action_path(key), &encode_record(record))?;
            batch.keys.push(*key);
        }
        for (key, at, files) in &fresh.checkpoints {
            let name = self.checkpoint_directory(key).join(at.to_string());
            batch.records.write(self.aside(), name, &encode_record(files))?;
        }
        Ok(())
    }

    fn write_memories(&self, batch: &mut Batch) -> Result<(), StoreError> {
        for memory in self.memories() {
            let aside = self.aside();
            if let Some(written) = memory.write_fresh(&aside)? {
                batch.lists.add(aside, written.name.clone());
                batch.memories.push((memory, written));
            }
        }
        Ok(())
    }

    /// Commits, and leaves the store tidy: one index for the pack of this process, few segments of row memory.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn finish(&self) -> Result<Vec<Raced>, StoreError> {
        let raced = self.commit()?;
        if self.pending().pack.is_some() {
            self.keep_reserve();
        }
        self.merge_index()?;
        for directory in self.take_grown_memories() {
            let aside = self.aside();
            if let Some(written) = write_merged(&directory, &aside)? {
                self.publish_one(aside, &written.name)?;
                written.remove_replaced();
            }
        }
        Ok(raced)
    }

    fn merge_index(&self) -> Result<(), StoreError> {
        let mut pending = self.pending();
        let Some(pack) = pending.pack.as_ref().filter(|_| pending.parts.len() > 1) else { return Ok(()) };
        let mut entries = Vec::new();
        for part in &pending.parts {
            entries.extend(crate::pack::Index::open(part)?.iter().flat_map(crate::pack::Index::entries));
        }
        // What a commit failed with is in a later part, too.
        entries.sort_by_key(|entry| entry.digest);
        entries.dedup();
        let merged = pack.path().with_extension("idx");
        let aside = self.aside();
        whole_or_gone(&aside, create_new(&aside).and_then(|mut file| file.write_all(&index_bytes(&mut entries))))?;
        self.publish_one(aside, &merged)?;
        pending.parts.iter().for_each(|part| owner::remove(part));
        pending.parts = vec![merged];
        Ok(())
    }

    fn publish_one(&self, aside: PathBuf, name: &Path) -> Result<(), StoreError> {
        let mut publication = Publication::default();
        publication.add(aside, name.to_owned());
        let disk = self.writing()?;
        disk.sync(publication.asides())?;
        publication.link(disk)?;
        publication.remove_asides();
        Ok(())
    }

    /// A new name in the directory of this process.
    pub(crate) fn aside(&self) -> PathBuf {
        self.own.join(owner::unique_name())
    }
}
