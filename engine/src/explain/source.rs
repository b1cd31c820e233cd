//! What a local source would give now, read in memory: nothing is stored.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use pipe_cache::{Blob, Digest};

use crate::artifact::{Chunk, DatasetManifest, ID};
use crate::cell::{Cell, Row, Schema};
use crate::column::Column;
use crate::dataset::ends_chunk;
use crate::graph::Step;
use crate::problem::Failure;
use crate::run::{Context, Quiet};
use crate::source::{DatasetOutput, RowSource, SourceContext};
use crate::stage::{DATASET, Execute};

/// A dataset that lies in memory.
pub(super) struct Unstored {
    pub(super) manifest: DatasetManifest,
    pub(super) columns: HashMap<Digest, Column>,
}

/// The datasets a source would give, by port; `None` where that cannot be told without fetching it.
pub(super) fn read(step: &Step, context: &Context<'_>) -> Option<BTreeMap<String, Unstored>> {
    let Execute::Source(run) = step.stage.execute else { return None };
    let resolution = step.resolution.as_ref().filter(|resolution| !resolution.files.is_empty())?;
    if step.outputs.iter().any(|output| output.kind != DATASET) {
        return None;
    }
    let taken = Taken::default();
    let sink = Quiet { cancel: context.cancel };
    let read = run(&SourceContext {
        params: &step.params,
        resolution,
        base: context.base,
        scratch: Path::new(""),
        outputs: &BTreeMap::new(),
        datasets: &taken,
        credentials: context.credentials,
        sink: &sink,
    });
    read.ok()?;
    Some(taken.0.into_inner().unwrap_or_else(PoisonError::into_inner))
}

#[derive(Default)]
struct Taken(Mutex<BTreeMap<String, Unstored>>);

impl DatasetOutput for Taken {
    fn dataset(&self, port: &str, schema: &Schema, rows: &mut RowSource<'_>) -> Result<(), Failure> {
        let mut rows: Vec<Row> = rows.filter_map(Result::ok).collect();
        // Of several rows with one id the first stays, as when a dataset is built.
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        rows.dedup_by(|a, b| a.id == b.id);
        let (mut chunks, mut columns) = (Vec::new(), HashMap::new());
        for rows in rows.chunk_by(|row, _| !ends_chunk(&row.id)) {
            chunks.push(chunk(schema, rows, &mut columns)?);
        }
        let dataset = Unstored { manifest: DatasetManifest::new(schema.clone(), chunks), columns };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(port.to_owned(), dataset);
        Ok(())
    }
}

fn chunk(schema: &Schema, rows: &[Row], all: &mut HashMap<Digest, Column>) -> Result<Chunk, Failure> {
    let mut columns = vec![(ID.to_owned(), Column::texts(rows.iter().map(|row| row.id.clone())))];
    for (at, (name, column_type)) in schema.0.iter().enumerate() {
        let mut column = Column::empty(*column_type);
        for row in rows {
            let cell = row.cells.get(at).cloned().unwrap_or(Cell::Null);
            // Of an image only the digest counts.
            let cell = cell.image_digest().map_or(cell, |digest| Cell::Image(nowhere(digest)));
            column.push(cell).map_err(Failure::input)?;
        }
        columns.push((name.clone(), column));
    }
    let mut named = BTreeMap::new();
    for (name, column) in columns {
        let digest = Digest::of(&column.encode());
        named.insert(name, digest);
        all.insert(digest, column);
    }
    Ok(Chunk { rows: rows.len() as u64, columns: named })
}

fn nowhere(digest: Digest) -> Blob {
    Blob { digest, path: Path::new("").into(), offset: 0, len: 0 }
}
