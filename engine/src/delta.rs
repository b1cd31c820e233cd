//! What a stage did to one chunk of a dataset: which rows stayed, and the cells it wrote. `input + delta = output`.

use std::collections::BTreeMap;

use pipe_cache::{Digest, Store};
use serde::{Deserialize, Serialize};

use crate::artifact::store_failure;
use crate::cell::{Cell, ColumnType};
use crate::column::Column;
use crate::problem::Failure;
use crate::stage::RowFailure;

/// The format of a stored delta.
const HEADER: &[u8] = b"delta/1\n";

/// What became of the rows of a chunk on one output port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkDelta {
    /// Rows of the input chunk.
    pub rows: u64,
    /// Rows that are not in the output, by the reason they share.
    pub removed: Vec<Removed>,
    /// The columns written, with the cells of the rows that stayed.
    pub columns: BTreeMap<String, Digest>,
}

/// Rows that are not in the output for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Why.
    pub why: Why,
    /// Their places in the input chunk, from 0, in order.
    pub rows: Vec<u32>,
}

/// Why a row is not in the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// The stage dropped it, for this reason.
    Dropped(String),
    /// The stage could not work on it.
    Failed(RowFailure),
    /// It went to another output port.
    Elsewhere,
}

impl ChunkDelta {
    /// Which rows of the input chunk stay.
    #[must_use]
    pub fn kept(&self) -> Vec<bool> {
        let mut kept = vec![true; usize::try_from(self.rows).expect("a chunk fits in memory")];
        for row in self.removed.iter().flat_map(|removed| &removed.rows) {
            if let Some(row) = kept.get_mut(*row as usize) {
                *row = false;
            }
        }
        kept
    }

    /// How many rows of the input chunk stay.
    #[must_use]
    pub fn kept_count(&self) -> u64 {
        self.rows.saturating_sub(self.removed.iter().map(|removed| removed.rows.len() as u64).sum())
    }

    /// Whether the last row of the input chunk stays: then the output has a border where the input has one.
    #[must_use]
    pub fn keeps_border(&self) -> bool {
        let last = self.rows.checked_sub(1).and_then(|last| u32::try_from(last).ok());
        last.is_some() && !self.removed.iter().any(|removed| removed.rows.last() == last.as_ref())
    }

    /// Stores the delta.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn store(&self, store: &Store) -> Result<Digest, Failure> {
        let bytes = postcard::to_extend(self, HEADER.to_vec()).expect("encoding plain data into memory cannot fail");
        store.put(&bytes).map_err(store_failure)
    }

    /// Reads a delta.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn load(store: &Store, digest: &Digest) -> Result<Self, Failure> {
        let bytes = store.read(digest).map_err(store_failure)?;
        Self::decode(&bytes).ok_or_else(|| Failure::internal(format!("{digest} is not a delta")))
    }

    /// Reads the bytes of a delta; `None` if they are none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes.strip_prefix(HEADER)?).ok()
    }
}

/// The cells that a stage wrote for one row, as they are remembered: one column of one row each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Remembered {
    /// It stayed.
    Keep(Vec<Column>),
    /// It was dropped, for this reason.
    Drop(String),
    /// It could not be worked on, and never will be.
    Fail(RowFailure),
}

impl Remembered {
    /// The bytes kept in row memory.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("encoding plain data into memory cannot fail")
    }

    /// Reads the bytes kept in row memory; `None` if they are of another program's making.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

/// Gathers the outcomes of the rows of one chunk, in order.
pub struct DeltaBuilder<'a> {
    names: &'a [(String, ColumnType)],
    columns: Vec<Column>,
    delta: ChunkDelta,
}

impl<'a> DeltaBuilder<'a> {
    /// For a stage that writes these columns.
    #[must_use]
    pub fn new(writes: &'a [(String, ColumnType)]) -> Self {
        let columns = writes.iter().map(|(_, column_type)| Column::empty(*column_type)).collect();
        Self { names: writes, columns, delta: ChunkDelta::default() }
    }

    /// The next row stays, with these cells.
    ///
    /// # Errors
    /// When they are not the cells of the columns written.
    pub fn keep(&mut self, cells: Vec<Cell>) -> Result<(), Failure> {
        self.delta.rows += 1;
        if cells.len() != self.columns.len() {
            let message = format!("a stage gave {} cells for {} columns", cells.len(), self.columns.len());
            return Err(Failure::internal(message));
        }
        for ((column, cell), (name, _)) in self.columns.iter_mut().zip(cells).zip(self.names) {
            column.push(cell).map_err(|error| Failure::internal(format!("column `{name}`: {error}")))?;
        }
        Ok(())
    }

    /// The next row stays, with the cells remembered.
    ///
    /// # Errors
    /// When they are not the cells of the columns written.
    pub fn keep_remembered(&mut self, cells: Vec<Column>) -> Result<(), Failure> {
        self.delta.rows += 1;
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            column.append(cell).map_err(Failure::internal)?;
        }
        Ok(())
    }

    /// The next row leaves.
    pub fn remove(&mut self, why: Why) {
        let row = u32::try_from(self.delta.rows).expect("a chunk has fewer than 2³² rows");
        match self.delta.removed.iter_mut().find(|removed| removed.why == why) {
            Some(removed) => removed.rows.push(row),
            None => self.delta.removed.push(Removed { why, rows: vec![row] }),
        }
        self.delta.rows += 1;
    }

    /// Stores the columns and gives the delta.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn finish(self, store: &Store) -> Result<ChunkDelta, Failure> {
        let mut delta = self.delta;
        for ((name, _), column) in self.names.iter().zip(self.columns) {
            let digest = store.put(&column.encode()).map_err(store_failure)?;
            delta.columns.insert(name.clone(), digest);
        }
        Ok(delta)
    }
}
