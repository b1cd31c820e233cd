//! What a local source would give now: nothing is stored.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use pipe_cache::{Digest, Store};

use crate::artifact::{Chunk, DatasetManifest, store_failure};
use crate::build::{EncodedRows, TakeChunks};
use crate::cell::Schema;
use crate::column::Column;
use crate::graph::Step;
use crate::problem::Failure;
use crate::run::{Context, preview};
use crate::source::{Outputs, RowSource};

/// A dataset of which the columns that the store lacks lie in memory.
pub(super) struct Unstored {
    pub(super) manifest: DatasetManifest,
    pub(super) columns: HashMap<Digest, Column>,
}

/// The datasets a source would give, by port; `None` where that cannot be told without fetching it.
pub(super) fn read(step: &Step, context: &Context<'_>) -> Option<BTreeMap<String, Unstored>> {
    let taken = Taken { store: context.store, ports: Mutex::default() };
    let told = preview::read(step, context, &taken).ok()?;
    told.then(|| taken.ports.into_inner().unwrap_or_else(PoisonError::into_inner))
}

struct Taken<'a> {
    store: &'a Store,
    ports: Mutex<BTreeMap<String, Unstored>>,
}

impl Outputs for Taken<'_> {
    fn dataset(&self, port: &str, schema: &Schema, rows: &mut RowSource<'_>) -> Result<(), Failure> {
        let mut taking = Taking { store: self.store, schema, chunks: Vec::new(), columns: HashMap::new() };
        preview::chunks(self.store, rows, &mut taking)?;
        let manifest = DatasetManifest::new(schema.clone(), taking.chunks);
        let dataset = Unstored { manifest, columns: taking.columns };
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).insert(port.to_owned(), dataset);
        Ok(())
    }
}

/// A dataset as it is read.
struct Taking<'a> {
    store: &'a Store,
    schema: &'a Schema,
    chunks: Vec<Chunk>,
    columns: HashMap<Digest, Column>,
}

impl TakeChunks for Taking<'_> {
    fn take(&mut self, chunks: Vec<EncodedRows>) -> Result<(), Failure> {
        for rows in chunks {
            let piece = rows.into_piece(self.schema)?;
            let mut named = BTreeMap::new();
            for (name, column) in piece.columns {
                let digest = Digest::of(&column.encode());
                named.insert(name, digest);
                if self.store.locate(&digest).map_err(store_failure)?.is_none() {
                    self.columns.insert(digest, column);
                }
            }
            self.chunks.push(Chunk { rows: piece.rows, columns: named });
        }
        Ok(())
    }
}
