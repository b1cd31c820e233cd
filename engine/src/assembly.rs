//! From an input dataset and what a stage did to its chunks to the output dataset, which shares every column that did not change.
//!
//! Borders of the output lie where kept rows have them in the input, so consecutive input chunks form groups, each the source of one
//! chunk of the output. What came of a group is remembered: an edit costs the groups it touches.

use std::collections::BTreeMap;

use pipe_cache::{Digest, Fields, RowKey, RowMemory, Store, row_key};
use rayon::prelude::*;

use crate::artifact::{Chunk, DatasetManifest, ID, store_failure};
use crate::cell::Schema;
use crate::column::Column;
use crate::dataset::load_column;
use crate::delta::ChunkDelta;
use crate::problem::Failure;

/// A chunk of the input with what a stage did to it.
pub type Changed<'a> = (&'a Chunk, &'a Digest, &'a ChunkDelta);

/// Consecutive chunks of the input whose rows make at most one chunk of the output.
pub struct Group<'a>(Vec<Changed<'a>>);

/// Puts datasets together, remembering how.
pub struct Assembly<'a> {
    store: &'a Store,
    schema: &'a Schema,
    memory: &'a RowMemory,
}

/// Cuts changed chunks into groups: one ends where the last row of a chunk is kept.
pub fn groups<'a>(changed: impl IntoIterator<Item = Changed<'a>>) -> Vec<Group<'a>> {
    let mut groups = Vec::new();
    let mut open = Vec::new();
    for chunk in changed {
        open.push(chunk);
        if chunk.2.keeps_border() {
            groups.push(Group(std::mem::take(&mut open)));
        }
    }
    if !open.is_empty() {
        groups.push(Group(open));
    }
    groups
}

impl<'a> Group<'a> {
    /// Its chunks.
    pub fn members(&self) -> &[Changed<'a>] {
        &self.0
    }

    /// Number of rows that stay.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.0.iter().map(|(_, _, delta)| delta.kept_count()).sum()
    }

    /// The one chunk of which every row stays.
    fn whole(&self) -> Option<(&Chunk, &ChunkDelta)> {
        match self.0.as_slice() {
            [(chunk, _, delta)] if delta.removed.is_empty() => Some((chunk, delta)),
            _ => None,
        }
    }
}

impl<'a> Assembly<'a> {
    /// For a dataset with these columns, remembered in `memory`.
    #[must_use]
    pub const fn new(store: &'a Store, schema: &'a Schema, memory: &'a RowMemory) -> Self {
        Self { store, schema, memory }
    }

    /// The dataset that follows from the chunks of the input.
    ///
    /// # Errors
    /// When columns cannot be read or written.
    pub fn dataset<'c>(&self, changed: impl IntoIterator<Item = Changed<'c>>) -> Result<DatasetManifest, Failure> {
        let groups = groups(changed);
        let chunks: Vec<Option<Chunk>> = groups.par_iter().map(|group| self.chunk(group)).collect::<Result<_, _>>()?;
        Ok(DatasetManifest::new(self.schema.clone(), chunks.into_iter().flatten().collect()))
    }

    /// The columns of the chunk that a group makes, as far as they are known without reading rows; `None` if no row stays.
    #[must_use]
    pub fn known_columns(&self, group: &Group<'_>) -> Option<BTreeMap<String, Digest>> {
        if group.rows() == 0 {
            return None;
        }
        let known = |name: &str| Some((name.to_owned(), self.known_column(group, name)?));
        Some(self.names().filter_map(known).collect())
    }

    /// The columns of the dataset, `id` among them.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.schema.names().chain([ID])
    }

    /// Where no row left, a column is shared; else what came of the same columns before is remembered.
    fn known_column(&self, group: &Group<'_>, name: &str) -> Option<Digest> {
        if let Some((chunk, delta)) = group.whole() {
            return delta.columns.get(name).or_else(|| chunk.columns.get(name)).copied();
        }
        let digest = Digest::from_bytes(self.memory.get(&key(group, name)?)?.try_into().ok()?);
        matches!(self.store.locate(&digest), Ok(Some(_))).then_some(digest)
    }

    fn chunk(&self, group: &Group<'_>) -> Result<Option<Chunk>, Failure> {
        let Some(mut columns) = self.known_columns(group) else { return Ok(None) };
        for name in self.names() {
            if !columns.contains_key(name) {
                columns.insert(name.to_owned(), self.column(group, name)?);
            }
        }
        Ok(Some(Chunk { rows: group.rows(), columns }))
    }

    /// Makes a column of the chunk of a group, and remembers it.
    fn column(&self, group: &Group<'_>, name: &str) -> Result<Digest, Failure> {
        let lacking = || Failure::internal(format!("a chunk lacks column `{name}`"));
        let mut made: Option<Column> = None;
        for (chunk, _, delta) in group.members().iter().filter(|(_, _, delta)| delta.kept_count() > 0) {
            let kept = match (delta.columns.get(name), chunk.columns.get(name)) {
                (Some(digest), _) => load_column(self.store, digest)?,
                (None, Some(digest)) => load_column(self.store, digest)?.filter(&delta.kept()),
                (None, None) => return Err(lacking()),
            };
            match &mut made {
                Some(made) => made.append(kept).map_err(Failure::internal)?,
                None => made = Some(kept),
            }
        }
        let digest = self.store.put(&made.ok_or_else(lacking)?.encode()).map_err(store_failure)?;
        if let Some(key) = key(group, name) {
            self.memory.insert(key, digest.bytes().to_vec());
        }
        Ok(digest)
    }
}

/// Names what a column of a group is made from; `None` where a chunk lacks it.
fn key(group: &Group<'_>, name: &str) -> Option<RowKey> {
    let mut fields = Fields::new("assembled");
    for (chunk, delta, changes) in group.members() {
        let column = changes.columns.get(name).or_else(|| chunk.columns.get(name))?;
        fields.push(&chunk.rows.to_le_bytes()).push(delta.bytes()).push(column.bytes());
    }
    Some(row_key(&fields.key()))
}
