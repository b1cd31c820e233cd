//! From an input dataset and what a stage did to its chunks to the output dataset, which shares every column that did not change.
//!
//! Borders of the output lie where kept rows have them in the input, so consecutive input chunks form groups, each the source of one
//! chunk of the output. What came of a group is remembered: an edit costs the groups it touches.

use std::collections::BTreeMap;

use pipe_cache::{Digest, Fields, RowKey, RowMemory, Store, row_key};
use rayon::prelude::*;

use crate::artifact::{Chunk, DatasetManifest, ID};
use crate::cell::Schema;
use crate::column::Column;
use crate::dataset::{Piece, load_column};
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

    /// The chunk that a group makes, if that is known without reading rows: `None` if not, `Some(None)` if no row stays.
    #[must_use]
    pub fn known_chunk(&self, group: &Group<'_>) -> Option<Option<Chunk>> {
        if group.rows() == 0 {
            return Some(None);
        }
        if let Some((chunk, delta)) = group.whole() {
            return Some(Some(self.shared(chunk, delta)));
        }
        let chunk: Chunk = postcard::from_bytes(&self.memory.get(&self.key(group))?).ok()?;
        let there = chunk.columns.values().all(|column| matches!(self.store.locate(column), Ok(Some(_))));
        (there && chunk.rows == group.rows()).then_some(Some(chunk))
    }

    fn chunk(&self, group: &Group<'_>) -> Result<Option<Chunk>, Failure> {
        if let Some(known) = self.known_chunk(group) {
            return Ok(known);
        }
        let mut made = Piece::empty(self.schema);
        for (chunk, _, delta) in group.members().iter().filter(|(_, _, delta)| delta.kept_count() > 0) {
            made.append(self.kept(chunk, delta)?)?;
        }
        let chunk = made.store(self.store)?;
        let value = postcard::to_stdvec(&chunk).expect("encoding plain data into memory cannot fail");
        self.memory.insert(self.key(group), value);
        Ok(Some(chunk))
    }

    /// Where no row left, columns are shared.
    fn shared(&self, chunk: &Chunk, delta: &ChunkDelta) -> Chunk {
        let mut columns = chunk.columns.clone();
        columns.retain(|name, _| name == ID || self.schema.get(name).is_some());
        columns.extend(delta.columns.clone());
        Chunk { rows: chunk.rows, columns }
    }

    fn kept(&self, input: &Chunk, delta: &ChunkDelta) -> Result<Piece, Failure> {
        let kept = delta.kept();
        let mut columns = BTreeMap::new();
        for name in self.schema.names().chain([ID]) {
            let column: Column = match (delta.columns.get(name), input.columns.get(name)) {
                (Some(digest), _) => load_column(self.store, digest)?,
                (None, Some(digest)) => load_column(self.store, digest)?.filter(&kept),
                (None, None) => return Err(Failure::internal(format!("a chunk lacks column `{name}`"))),
            };
            columns.insert(name.to_owned(), column);
        }
        Ok(Piece { rows: delta.kept_count(), columns })
    }

    fn key(&self, group: &Group<'_>) -> RowKey {
        let mut fields = Fields::new("assembled");
        for name in self.schema.names() {
            fields.push(name.as_bytes());
        }
        for (chunk, delta, _) in group.members() {
            fields.push(&chunk.rows.to_le_bytes()).push(delta.bytes());
            for (name, digest) in &chunk.columns {
                fields.push(name.as_bytes()).push(digest.bytes());
            }
        }
        row_key(&fields.key())
    }
}
