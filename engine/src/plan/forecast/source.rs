//! What the datasets of a local source would be: it is read, and what changed is looked at row by row.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use pipe_cache::{Digest, Store};
use rayon::prelude::*;

use super::{Forecast, Part, Read, Rows};
use crate::artifact::{Chunk, ID, store_failure};
use crate::build::{EncodedRows, TakeChunks};
use crate::cell::Schema;
use crate::column::Column;
use crate::graph::Step;
use crate::problem::Failure;
use crate::run::{Context, preview};
use crate::source::{Outputs, RowSource};

/// More new rows of a source than this are counted only: every one must execute anyway.
pub(super) const LOOKED_AT: u64 = 50_000;

/// What the datasets of a local source would be; `None` where that cannot be told.
pub fn read_source(step: &Step, context: &Context<'_>, read: &Read<'_>) -> Option<BTreeMap<String, Rows>> {
    let taken = Taken { store: context.store, read, ports: Mutex::default() };
    let told = preview::read(step, context, &taken).ok()?;
    told.then(|| taken.ports.into_inner().unwrap_or_else(PoisonError::into_inner))
}

struct Taken<'a> {
    store: &'a Store,
    read: &'a Read<'a>,
    ports: Mutex<BTreeMap<String, Rows>>,
}

impl Outputs for Taken<'_> {
    fn dataset(&self, port: &str, schema: &Schema, rows: &mut RowSource<'_>) -> Result<(), Failure> {
        let mut parts = Parts { taken: self, schema, parts: Vec::new(), new: 0 };
        preview::chunks(self.store, rows, &mut parts)?;
        let forecast = Rows { schema: schema.clone(), parts: parts.parts };
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).insert(port.to_owned(), forecast);
        Ok(())
    }
}

/// The parts of a source's dataset, as they are read.
struct Parts<'a> {
    taken: &'a Taken<'a>,
    schema: &'a Schema,
    parts: Vec<Part>,
    /// Rows in chunks that are not in the store.
    new: u64,
}

impl TakeChunks for Parts<'_> {
    fn take(&mut self, chunks: Vec<EncodedRows>) -> Result<(), Failure> {
        let parts: Vec<Part> = chunks.into_par_iter().map(|rows| self.part(rows)).collect::<Result<_, _>>()?;
        for part in parts {
            if !matches!(part, Part::Chunk(_)) {
                self.new += part.len();
            }
            self.parts.push(part);
        }
        if self.new > LOOKED_AT {
            self.parts.retain(|part| matches!(part, Part::Chunk(_)));
            self.parts.push(Part::Many(self.new));
        }
        Ok(())
    }
}

impl Parts<'_> {
    /// A chunk whose columns are in the store, those that someone reads, is as good as stored.
    fn part(&self, rows: EncodedRows) -> Result<Part, Failure> {
        let mut piece = rows.into_piece(self.schema)?;
        let digests: BTreeMap<String, Digest> =
            piece.columns.iter().map(|(name, column)| (name.clone(), Digest::of(&column.encode()))).collect();
        let mut read = digests.clone();
        read.retain(|name, _| name == ID || self.taken.read.contains(name.as_str()));
        if self.taken.store.locate_all(&read).map_err(store_failure)?.is_some() {
            return Ok(Part::Chunk(Chunk { rows: piece.rows, columns: digests }));
        }
        let ids =
            piece.columns.remove(ID).map_or_else(|| Ok(Vec::new()), Column::into_texts).map_err(Failure::internal)?;
        piece.columns.retain(|name, _| self.taken.read.contains(name.as_str()));
        Ok(Part::Rows(Forecast::certain(ids, || piece.columns.iter())))
    }
}
