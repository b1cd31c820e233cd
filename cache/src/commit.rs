//! Group commit: objects of many steps made durable by one sync, then what refers to them.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::action::ActionRecord;
use crate::error::{Context, StoreError};
use crate::memory::{RowMemory, Written, write_merged};
use crate::pack::{Entry, PackWriter, index_bytes};
use crate::publish::{Publication, Published, sync_files};
use crate::store::{Store, encode_record, lock};
use crate::{Blob, Digest, Key, owner};

/// Objects from this size on are files of their own: they can be mapped, linked and removed by themselves.
pub(crate) const LOOSE_FROM: u64 = 1 << 20;

/// What this process has written and nobody else can see yet.
#[derive(Default)]
pub(crate) struct Pending {
    pack: Option<PackWriter>,
    parts: u32,
    entries: Vec<Entry>,
    loose: Vec<(PathBuf, Digest)>,
    blobs: HashMap<Digest, Blob>,
    records: BTreeMap<Key, ActionRecord>,
    checkpoints: Vec<(Key, u64, BTreeMap<String, Digest>)>,
}

impl Pending {
    pub(crate) fn blob(&self, digest: &Digest) -> Option<Blob> {
        self.blobs.get(digest).cloned()
    }

    pub(crate) fn release(&mut self, digest: &Digest) {
        self.blobs.remove(digest);
    }

    pub(crate) fn record(&self, key: &Key) -> Option<ActionRecord> {
        self.records.get(key).cloned()
    }

    pub(crate) fn add_record(&mut self, record: ActionRecord) {
        self.records.entry(record.key).or_insert(record);
    }

    pub(crate) fn forget(&mut self, key: &Key) {
        self.records.remove(key);
    }

    pub(crate) fn add_checkpoint(&mut self, key: Key, at: u64, files: BTreeMap<String, Digest>) {
        self.checkpoints.push((key, at, files));
    }

    pub(crate) fn put(&mut self, store: &Store, digest: Digest, bytes: &[u8]) -> Result<(), StoreError> {
        if self.blobs.contains_key(&digest) {
            return Ok(());
        }
        if bytes.len() as u64 >= LOOSE_FROM {
            let aside = store.own.join(owner::unique_name());
            fs::write(&aside, bytes).context("write", &aside)?;
            return self.add_loose(digest, aside, bytes.len() as u64);
        }
        let blob = self.pack(store)?.append(digest, bytes)?;
        self.entries.push(Entry { digest, offset: blob.offset, len: blob.len });
        self.blobs.insert(digest, blob);
        Ok(())
    }

    /// Takes over a file of this process as a large object.
    pub(crate) fn add_loose(&mut self, digest: Digest, aside: PathBuf, len: u64) -> Result<(), StoreError> {
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o444)).context("protect", &aside)?;
        self.blobs.insert(digest, Blob { digest, path: aside.as_path().into(), offset: 0, len });
        self.loose.push((aside, digest));
        Ok(())
    }

    /// Removes a pack that no index was published for: nobody will ever read it.
    pub(crate) fn remove_unpublished(&mut self) {
        if let Some(pack) = self.pack.take_if(|_| self.parts == 0) {
            owner::remove(pack.path());
        }
    }

    fn pack(&mut self, store: &Store) -> Result<&mut PackWriter, StoreError> {
        if self.pack.is_none() {
            let path = store.root.join("packs").join(format!("{}.pack", owner::unique_name()));
            self.pack = Some(PackWriter::create(&path)?);
        }
        Ok(self.pack.as_mut().expect("was just made"))
    }
}

/// What one commit makes visible.
#[derive(Default)]
struct Batch {
    /// The pack that grew.
    pack: Option<PathBuf>,
    /// Objects, indexes, row memory: first.
    objects: Publication,
    /// Records and checkpoints, which refer to them: second.
    records: Publication,
    /// The objects the pack grew by.
    packed: Vec<Digest>,
    /// The keys of the first records.
    keys: Vec<Key>,
    /// The segments of row memory among the objects.
    memories: Vec<(Arc<RowMemory>, Written)>,
}

impl Store {
    /// Makes everything stored so far durable and visible. Returns the keys that another process had recorded first: its
    /// records stay.
    ///
    /// # Errors
    /// When something cannot be written; nothing that refers to it is visible then.
    pub fn commit(&self) -> Result<Vec<Key>, StoreError> {
        let _one_at_a_time = lock(&self.committing);
        let Some(mut batch) = self.take_batch()? else { return Ok(Vec::new()) };
        let files = batch.pack.iter().map(PathBuf::as_path).chain(batch.objects.asides()).chain(batch.records.asides());
        sync_files(&self.root, files)?;
        batch.objects.link()?;
        for (memory, written) in batch.memories.drain(..) {
            memory.published(&written)?;
            written.remove_replaced();
        }
        self.close_memories();
        let published = batch.records.link()?;
        batch.records.remove_asides();
        self.refresh_packs()?;
        self.release(&batch.packed);
        let raced = batch.keys.iter().zip(&published).filter(|(_, p)| **p == Published::Existed).map(|(key, _)| *key);
        Ok(raced.collect())
    }

    /// Writes aside everything pending. What is taken stays readable by this process through the files it was written to.
    fn take_batch(&self) -> Result<Option<Batch>, StoreError> {
        let mut pending = self.pending();
        let mut batch = Batch::default();
        for (aside, digest) in std::mem::take(&mut pending.loose) {
            batch.objects.add(aside, self.object_path(&digest));
        }
        self.take_pack(&mut pending, &mut batch)?;
        self.take_memories(&mut batch)?;
        for (key, record) in std::mem::take(&mut pending.records) {
            batch.records.write(self.aside(), self.action_path(&key), &encode_record(&record))?;
            batch.keys.push(key);
        }
        for (key, at, files) in std::mem::take(&mut pending.checkpoints) {
            let name = self.checkpoint_directory(&key).join(at.to_string());
            batch.records.write(self.aside(), name, &encode_record(&files))?;
        }
        let empty = batch.objects.asides().next().is_none() && batch.records.asides().next().is_none();
        Ok(if empty { None } else { Some(batch) })
    }

    fn take_pack(&self, pending: &mut Pending, batch: &mut Batch) -> Result<(), StoreError> {
        let Some(pack) = pending.pack.as_ref().filter(|_| !pending.entries.is_empty()) else { return Ok(()) };
        let path = pack.path().to_owned();
        let index = path.with_extension(format!("{}.idx", pending.parts));
        let mut entries = std::mem::take(&mut pending.entries);
        batch.packed = entries.iter().map(|entry| entry.digest).collect();
        pending.parts += 1;
        batch.objects.write(self.aside(), index, &index_bytes(&mut entries))?;
        batch.pack = Some(path);
        Ok(())
    }

    fn take_memories(&self, batch: &mut Batch) -> Result<(), StoreError> {
        for memory in self.memories() {
            let aside = self.aside();
            if let Some(written) = memory.write_fresh(&aside)? {
                batch.objects.add(aside, written.name.clone());
                batch.memories.push((memory, written));
            }
        }
        Ok(())
    }

    /// Commits, and leaves the store tidy: one index for the pack of this process, few segments of row memory.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn finish(&self) -> Result<Vec<Key>, StoreError> {
        let raced = self.commit()?;
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
        let pending = self.pending();
        let Some(pack) = pending.pack.as_ref().filter(|_| pending.parts > 1) else { return Ok(()) };
        let parts: Vec<PathBuf> = (0..pending.parts).map(|n| pack.path().with_extension(format!("{n}.idx"))).collect();
        let mut entries = Vec::new();
        for part in &parts {
            entries.extend(crate::pack::Index::open(part)?.iter().flat_map(crate::pack::Index::entries));
        }
        let aside = self.aside();
        fs::write(&aside, index_bytes(&mut entries)).context("write", &aside)?;
        self.publish_one(aside, &pack.path().with_extension("idx"))?;
        parts.iter().for_each(|part| owner::remove(part));
        Ok(())
    }

    fn publish_one(&self, aside: PathBuf, name: &Path) -> Result<(), StoreError> {
        let mut publication = Publication::default();
        publication.add(aside, name.to_owned());
        sync_files(&self.root, publication.asides())?;
        publication.link()?;
        publication.remove_asides();
        Ok(())
    }

    fn aside(&self) -> PathBuf {
        self.own.join(owner::unique_name())
    }
}
