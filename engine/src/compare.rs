//! How two datasets differ, row by row.
//!
//! Chunks with the same columns are skipped by their digests; of the others only ids and the columns that differ are read, a chunk of
//! each side at a time.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};

use pipe_cache::Digest;
use serde::Serialize;

use crate::artifact::{Chunk, DatasetManifest, ID};
use crate::column::Column;
use crate::problem::Failure;

/// Ids given as examples, at most.
const EXAMPLES: usize = 5;

/// Finds a column by its digest.
pub type ReadColumn<'a> = dyn Fn(&Digest) -> Result<Column, Failure> + 'a;

/// How the rows of a dataset differ from those of an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowChanges {
    /// Rows before.
    pub before: u64,
    /// Rows now.
    pub now: u64,
    /// Rows whose ids are only there now.
    pub added: Ids,
    /// Rows whose ids were only there before.
    pub removed: Ids,
    /// Rows with another cell in a column that both have.
    pub changed: Ids,
    /// In how many rows each column changed.
    pub by_column: BTreeMap<String, u64>,
    /// Columns that are only there now.
    pub columns_added: Vec<String>,
    /// Columns that were only there before.
    pub columns_removed: Vec<String>,
}

/// Some rows: how many, and the ids of the first few.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ids {
    /// How many.
    pub count: u64,
    /// The ids of the first of them.
    pub first: Vec<String>,
}

impl Ids {
    fn add(&mut self, id: &str) {
        self.count += 1;
        if self.first.len() < EXAMPLES {
            self.first.push(id.to_owned());
        }
    }
}

impl RowChanges {
    /// Whether the rows are the same.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.added.count == 0
            && self.removed.count == 0
            && self.changed.count == 0
            && self.columns_added.is_empty()
            && self.columns_removed.is_empty()
    }
}

/// Compares two datasets in the columns that `wanted` names; in all of them where it is `None`.
///
/// # Errors
/// When a column cannot be read.
pub fn rows(
    before: &DatasetManifest,
    now: &DatasetManifest,
    wanted: Option<&[String]>,
    read: &ReadColumn<'_>,
) -> Result<RowChanges, Failure> {
    let wanted = |name: &&str| wanted.is_none_or(|wanted| wanted.iter().any(|one| one == name));
    let columns = |of: &DatasetManifest| of.schema.names().filter(wanted).map(str::to_owned).collect::<Vec<_>>();
    let (then, mut common) = (columns(before), columns(now));
    let mut changes = RowChanges { before: before.rows(), now: now.rows(), ..RowChanges::default() };
    changes.columns_added = common.iter().filter(|name| !then.contains(name)).cloned().collect();
    changes.columns_removed = then.iter().filter(|name| !common.contains(name)).cloned().collect();
    common.retain(|name| then.contains(name));
    let (old, new) = differing(before, now, &common);
    let mut merge = Merge { old: Side::new(old, read), new: Side::new(new, read), columns: &common, changes };
    while merge.step()? {}
    Ok(merge.changes)
}

/// The chunks of both that the other has not.
fn differing<'a>(
    before: &'a DatasetManifest,
    now: &'a DatasetManifest,
    columns: &[String],
) -> (Vec<&'a Chunk>, Vec<&'a Chunk>) {
    let mut named = columns.to_vec();
    named.push(ID.to_owned());
    let names = |of: &DatasetManifest| of.chunks.iter().map(|chunk| chunk.projection(&named)).collect::<HashSet<_>>();
    let (then, here) = (names(before), names(now));
    let left = |of: &'a DatasetManifest, other: &HashSet<Digest>| {
        of.chunks.iter().filter(|chunk| !other.contains(&chunk.projection(&named))).collect()
    };
    (left(before, &here), left(now, &then))
}

/// Walks two sorted datasets side by side.
struct Merge<'a> {
    old: Side<'a>,
    new: Side<'a>,
    columns: &'a [String],
    changes: RowChanges,
}

impl Merge<'_> {
    /// Takes the next id of either; false at the end of both.
    fn step(&mut self) -> Result<bool, Failure> {
        self.old.fill()?;
        self.new.fill()?;
        let order = match (self.old.id(), self.new.id()) {
            (None, None) => return Ok(false),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.cmp(new),
        };
        match order {
            Ordering::Less => self.changes.removed.add(self.old.id().unwrap_or_default()),
            Ordering::Greater => self.changes.added.add(self.new.id().unwrap_or_default()),
            Ordering::Equal => self.compare()?,
        }
        if order != Ordering::Greater {
            self.old.row += 1;
        }
        if order != Ordering::Less {
            self.new.row += 1;
        }
        Ok(true)
    }

    fn compare(&mut self) -> Result<(), Failure> {
        let mut changed = false;
        for name in self.columns {
            let same_place = self.old.row == self.new.row && self.old.digest(name) == self.new.digest(name);
            if !same_place && self.old.cell(name)? != self.new.cell(name)? {
                changed = true;
                *self.changes.by_column.entry(name.clone()).or_default() += 1;
            }
        }
        if changed {
            self.changes.changed.add(self.new.id().unwrap_or_default());
        }
        Ok(())
    }
}

/// One of two datasets, at a row.
struct Side<'a> {
    chunks: std::vec::IntoIter<&'a Chunk>,
    chunk: Option<&'a Chunk>,
    ids: Vec<String>,
    row: usize,
    columns: BTreeMap<String, Column>,
    read: &'a ReadColumn<'a>,
}

impl<'a> Side<'a> {
    fn new(chunks: Vec<&'a Chunk>, read: &'a ReadColumn<'a>) -> Self {
        let chunks = chunks.into_iter();
        Self { chunks, chunk: None, ids: Vec::new(), row: 0, columns: BTreeMap::new(), read }
    }

    /// Goes to the next chunk at the end of one.
    fn fill(&mut self) -> Result<(), Failure> {
        while self.row >= self.ids.len() {
            let Some(chunk) = self.chunks.next() else { break };
            (self.chunk, self.row) = (Some(chunk), 0);
            self.columns.clear();
            self.ids = self.load(ID)?.into_texts().map_err(Failure::internal)?;
        }
        Ok(())
    }

    fn id(&self) -> Option<&str> {
        self.ids.get(self.row).map(String::as_str)
    }

    fn digest(&self, name: &str) -> Option<Digest> {
        self.chunk.and_then(|chunk| chunk.columns.get(name).copied())
    }

    fn load(&self, name: &str) -> Result<Column, Failure> {
        let digest = self.digest(name).ok_or_else(|| Failure::internal(format!("a chunk lacks column `{name}`")))?;
        (self.read)(&digest)
    }

    /// The cell, as a column of one row.
    fn cell(&mut self, name: &str) -> Result<Column, Failure> {
        if !self.columns.contains_key(name) {
            let column = self.load(name)?;
            self.columns.insert(name.to_owned(), column);
        }
        Ok(self.columns[name].slice(self.row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::build;
    use crate::cell::{Cell, ColumnType, Row, Schema};
    use crate::dataset::load_column;
    use pipe_cache::Store;
    use proptest::prelude::*;

    type Table = BTreeMap<u32, (i64, i64)>;

    fn dataset(store: &Store, table: &Table) -> DatasetManifest {
        let schema = Schema([("a".to_owned(), ColumnType::Int), ("b".to_owned(), ColumnType::Int)].into());
        let row = |(id, (a, b)): (&u32, &(i64, i64))| {
            Ok(Row { id: format!("row-{id:06}"), cells: vec![Cell::Int(*a), Cell::Int(*b)] })
        };
        build(store, &schema, &mut table.iter().map(row)).unwrap().manifest
    }

    fn counted(before: &Table, now: &Table, column_b_too: bool) -> (u64, u64, u64) {
        let cells = |row: &(i64, i64)| (row.0, if column_b_too { row.1 } else { 0 });
        let changed = now.iter().filter(|(id, row)| before.get(id).is_some_and(|old| cells(old) != cells(row))).count();
        let missing = |of: &Table, other: &Table| of.keys().filter(|id| !other.contains_key(id)).count() as u64;
        (missing(now, before), missing(before, now), changed as u64)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Whatever changed between two datasets of several chunks, the counts are those of comparing row by row.
        #[test]
        fn counts_are_those_of_a_plain_comparison(
            edits in proptest::collection::btree_map(0..4000_u32, (0..9_i64, 0..9_i64), 0..40),
            dropped in proptest::collection::btree_set(0..4000_u32, 0..40),
            from in 0..900_u32,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).unwrap();
            let before: Table = (from..3500).map(|id| (id, (1, 1))).collect();
            let mut now = before.clone();
            now.extend(edits);
            now.retain(|id, _| !dropped.contains(id));
            let (old, new) = (dataset(&store, &before), dataset(&store, &now));
            let read = |digest: &Digest| load_column(&store, digest);
            for wanted in [None, Some(vec!["a".to_owned()])] {
                let found = rows(&old, &new, wanted.as_deref(), &read).unwrap();
                let counts = (found.added.count, found.removed.count, found.changed.count);
                prop_assert_eq!(counts, counted(&before, &now, wanted.is_none()));
                prop_assert_eq!((found.before, found.now), (before.len() as u64, now.len() as u64));
            }
        }
    }
}
