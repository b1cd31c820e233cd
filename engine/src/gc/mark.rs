//! From a record to everything it needs.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use pipe_cache::{Digest, Keep, Key, Store};

use super::{Holding, Root};
use crate::artifact::{Manifest, store_failure};
use crate::cell::ColumnType;
use crate::column::Column;
use crate::delta::{ChunkDelta, Remembered};
use crate::problem::Failure;
use crate::run::{BOOKKEEPING, DELTA, ROW_RECIPE};

/// Walks what is needed.
#[derive(Clone)]
pub(crate) struct Marker<'a> {
    store: &'a Store,
    /// What was found to be needed.
    pub(crate) keep: Keep,
    /// Bytes of it.
    pub(crate) bytes: u64,
    /// Objects that are needed and gone.
    pub(crate) missing: BTreeSet<Digest>,
    /// The records that put a dataset together, by the dataset.
    assemblies: Rc<HashMap<Digest, Vec<Key>>>,
}

impl<'a> Marker<'a> {
    pub(crate) fn new(store: &'a Store) -> Result<Self, Failure> {
        let mut assemblies: HashMap<Digest, Vec<Key>> = HashMap::new();
        for recorded in store.recorded().map_err(store_failure)? {
            let Some(record) = store.peek(&recorded.key).map_err(store_failure)? else { continue };
            // Any other record has its own key as the digest of its recipe.
            if record.outputs.values().any(|output| *output == record.recipe) {
                assemblies.entry(record.recipe).or_default().push(recorded.key);
            }
        }
        Ok(Self { store, keep: Keep::default(), bytes: 0, missing: BTreeSet::new(), assemblies: assemblies.into() })
    }

    /// A walk through the same store that has marked nothing.
    pub(crate) fn anew(&self) -> Self {
        let (store, assemblies) = (self.store, Rc::clone(&self.assemblies));
        Self { store, keep: Keep::default(), bytes: 0, missing: BTreeSet::new(), assemblies }
    }

    /// Marks what any record needs.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn of_everything(store: &'a Store) -> Result<Self, Failure> {
        let mut marker = Self::new(store)?;
        for recorded in store.recorded().map_err(store_failure)? {
            marker.record(&recorded.key)?;
        }
        Ok(marker)
    }

    /// Marks what a root needs; says what that adds.
    pub(crate) fn root(&mut self, root: &Root) -> Result<Holding, Failure> {
        let (records, bytes) = (self.keep.records.len(), self.bytes);
        root.keys.iter().try_for_each(|key| self.record(key))?;
        // A run or a lock file may name what was removed long ago.
        let there = |digest: &&Digest| self.store.locate(digest).is_ok_and(|found| found.is_some());
        let artifacts: Vec<&Digest> = root.artifacts.iter().filter(there).collect();
        artifacts.into_iter().try_for_each(|artifact| self.artifact(artifact))?;
        self.keep.checkpoints.extend(&root.unfinished);
        let records = (self.keep.records.len() - records) as u64;
        Ok(Holding { kind: root.kind, root: root.name.clone(), records, bytes: self.bytes - bytes })
    }

    /// Marks a record and all it names.
    pub(crate) fn record(&mut self, key: &Key) -> Result<(), Failure> {
        if self.keep.records.contains(key) {
            return Ok(());
        }
        let Some(record) = self.store.peek(key).map_err(store_failure)? else { return Ok(()) };
        self.keep.records.insert(*key);
        self.object(&record.recipe)?;
        for (name, digest) in &record.outputs {
            if name.starts_with(DELTA) {
                self.deltas(digest)?;
            } else if !name.starts_with(BOOKKEEPING) {
                self.artifact(digest)?;
            } else {
                self.object(digest)?;
            }
            if name == ROW_RECIPE {
                self.keep.memories.insert(Key::from_bytes(*digest.bytes()));
            }
        }
        Ok(())
    }

    /// Marks a manifest, what it lists, and the images that its rows name.
    fn artifact(&mut self, digest: &Digest) -> Result<(), Failure> {
        if let Some(keys) = self.assemblies.clone().get(digest) {
            self.keep.records.extend(keys);
        }
        if !self.object(digest)? {
            return Ok(());
        }
        let Some(manifest) = self.bytes(digest).and_then(|bytes| Manifest::decode(&bytes).ok()) else { return Ok(()) };
        for object in manifest.objects() {
            self.object(&object)?;
        }
        let Some(dataset) = manifest.as_dataset() else { return Ok(()) };
        let images = dataset.schema.0.iter().filter(|(_, column_type)| **column_type == ColumnType::Image);
        for name in images.map(|(name, _)| name) {
            for chunk in &dataset.chunks {
                chunk.columns.get(name).map_or(Ok(()), |column| self.images(column))?;
            }
        }
        Ok(())
    }

    fn images(&mut self, column: &Digest) -> Result<(), Failure> {
        if let Some(Ok(Column::Image(cells))) = self.bytes(column).map(|bytes| Column::decode(&bytes)) {
            for image in cells.into_iter().flatten() {
                self.object(&image)?;
            }
        }
        Ok(())
    }

    /// Marks a list of deltas and what they wrote.
    fn deltas(&mut self, list: &Digest) -> Result<(), Failure> {
        if !self.object(list)? {
            return Ok(());
        }
        let Some(bytes) = self.bytes(list) else { return Ok(()) };
        let deltas: Vec<Digest> = postcard::from_bytes(&bytes).unwrap_or_default();
        deltas.iter().try_for_each(|delta| self.delta(delta))
    }

    fn delta(&mut self, digest: &Digest) -> Result<(), Failure> {
        if !self.object(digest)? {
            return Ok(());
        }
        let Some(delta) = self.bytes(digest).and_then(|bytes| ChunkDelta::decode(&bytes)) else {
            return Ok(());
        };
        for column in delta.columns.values() {
            if self.object(column)? {
                self.images(column)?;
            }
        }
        Ok(())
    }

    /// Marks the checkpoints of a key and their files.
    pub(crate) fn checkpoints(&mut self, key: &Key) -> Result<(), Failure> {
        self.keep.checkpoints.insert(*key);
        for object in self.store.checkpoint_objects(key).map_err(store_failure)? {
            self.object(&object)?;
        }
        Ok(())
    }

    /// Marks row memory that no record names yet, and what it remembers.
    pub(crate) fn memory(&mut self, recipe: &Key) -> Result<(), Failure> {
        self.keep.memories.insert(*recipe);
        let memory = self.store.memory(recipe).map_err(store_failure)?;
        let (mut deltas, mut images) = (Vec::new(), Vec::new());
        memory.each(&mut |value| {
            // A value is the outcome of a row or the digest of a delta; what is not there under that name, it does not name.
            deltas.extend(value.try_into().ok().map(Digest::from_bytes));
            if let Some(Remembered::Keep(cells)) = Remembered::decode(value) {
                let columns =
                    cells.into_iter().filter_map(|cell| if let Column::Image(cell) = cell { Some(cell) } else { None });
                images.extend(columns.flatten().flatten());
            }
        });
        let there = |digest: &Digest| self.store.locate(digest).is_ok_and(|found| found.is_some());
        deltas.retain(there);
        images.retain(there);
        deltas.iter().try_for_each(|delta| self.delta(delta))?;
        images.iter().try_for_each(|image| self.object(image).map(drop))
    }

    /// The bytes of an object; `None` where it is gone or damaged. Whoever only looks sets nothing aside.
    fn bytes(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.store.locate(digest).ok().flatten()?.read().ok()
    }

    /// Marks an object; false if it was marked before, or is gone.
    fn object(&mut self, digest: &Digest) -> Result<bool, Failure> {
        if !self.keep.objects.insert(*digest) {
            return Ok(false);
        }
        match self.store.locate(digest).map_err(store_failure)? {
            Some(blob) => self.bytes += blob.len,
            None => {
                self.missing.insert(*digest);
                return Ok(false);
            }
        }
        Ok(true)
    }
}
