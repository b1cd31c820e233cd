//! The rows a step would give, as far as they can be told: stored chunks where nothing changed, single rows elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use pipe_cache::{Digest, Store};

use crate::artifact::{Chunk, DatasetManifest, ID, Manifest, store_failure};
use crate::cell::{Cell, Row, Schema};
use crate::column::Column;
use crate::dataset::{ends_chunk, load_column, locate};
use crate::delta::{ChunkDelta, Remembered};
use crate::graph::Step;
use crate::problem::Failure;
use crate::recipe::row_columns;
use crate::run::rows::cell_of;
use crate::run::{Artifact, ChunkScan, Context, RowScanner, table};
use crate::source::{DatasetOutput, RowSource, SourceContext};
use crate::stage::{Assignment, Resolution};
use crate::step::{Inputs, Level, Sink};

pub(super) type RunSource = fn(&SourceContext<'_>) -> Result<(), Failure>;

/// Rows of a dataset that is not made yet.
#[derive(Clone)]
pub(super) struct Rows {
    schema: Schema,
    parts: Vec<Part>,
}

#[derive(Clone)]
enum Part {
    /// A chunk that is in the store, column by column.
    Chunk(Chunk),
    /// Single rows.
    Rows(Vec<Forecast>),
}

/// A row that may or will be there.
#[derive(Clone)]
struct Forecast {
    id: String,
    /// Whether it is certain to be there.
    certain: bool,
    /// Its known cells, as columns of one row.
    cells: BTreeMap<String, Column>,
}

type Read<'a> = BTreeSet<&'a str>;

impl Rows {
    pub(super) fn of(dataset: &DatasetManifest) -> Self {
        Self { schema: dataset.schema.clone(), parts: dataset.chunks.iter().cloned().map(Part::Chunk).collect() }
    }

    pub(super) fn with_schema(self, schema: Schema) -> Self {
        Self { schema, ..self }
    }

    pub(super) fn len(&self) -> u64 {
        let len = |part: &Part| match part {
            Part::Chunk(chunk) => chunk.rows,
            Part::Rows(rows) => rows.len() as u64,
        };
        self.parts.iter().map(len).sum()
    }

    /// Whether every row is certain to be there.
    pub(super) fn is_certain(&self) -> bool {
        self.parts.iter().all(|part| match part {
            Part::Chunk(_) => true,
            Part::Rows(rows) => rows.iter().all(|row| row.certain),
        })
    }

    /// What a row step gives for these rows, and how many of them it must execute.
    pub(super) fn through_row_step(
        self,
        step: &Step,
        scanner: &RowScanner<'_>,
        store: &Store,
        read: &Read<'_>,
    ) -> Result<(Self, u64), Failure> {
        let (mut parts, mut execute) = (Vec::new(), 0);
        for part in self.parts {
            let (part, missing) = match part {
                Part::Chunk(chunk) => chunk_through(chunk, step, scanner, store, read)?,
                Part::Rows(rows) => {
                    let (rows, missing) = rows_through(rows, step, scanner);
                    (Part::Rows(rows), missing)
                }
            };
            parts.push(part);
            execute += missing;
        }
        Ok((Self { schema: self.schema, parts }, execute))
    }

    /// What a row step gives whose other inputs are not known: every row must execute.
    pub(super) fn through_unknown(self, step: &Step, store: &Store, read: &Read<'_>) -> Result<(Self, u64), Failure> {
        let total = self.len();
        let mut parts = Vec::new();
        for part in self.parts {
            let rows = part.into_rows(store, read)?;
            parts.push(Part::Rows(rows.into_iter().map(|row| row.executed(step)).collect()));
        }
        Ok((Self { schema: self.schema, parts }, total))
    }

    /// What a table step gives, per port.
    ///
    /// # Errors
    /// When it cannot be told without executing: a cell it reads is not known, or it has further inputs.
    pub(super) fn through_table_step(self, step: &Step, store: &Store, read: &Read<'_>) -> Result<Vec<Self>, Failure> {
        let columns = table::cell_columns(step);
        let mut schema = self.schema.clone();
        schema.0.retain(|name, _| columns.contains(name));
        let mut stage = table::load(step, &Inputs::new(), &schema)?;
        let mut wanted = read.clone();
        wanted.extend(columns.iter().map(String::as_str));
        let mut parts = Vec::new();
        for part in self.parts {
            parts.push(part.into_rows(store, &wanted)?);
        }
        let shown = parts.iter().map(|rows| show(rows, &columns, store)).collect::<Result<Vec<_>, _>>()?;
        shown.iter().try_for_each(|rows| stage.scan(rows))?;
        let mut ports = vec![Vec::new(); step.outputs.len()];
        for (forecasts, rows) in parts.into_iter().zip(&shown) {
            for (mut forecast, assignment) in forecasts.into_iter().zip(stage.assign(rows)?) {
                if let Assignment::Keep { port, cells } = assignment {
                    for ((name, column_type), cell) in step.contract.writes.iter().zip(cells) {
                        let mut column = Column::empty(*column_type);
                        column.push(cell).map_err(Failure::internal)?;
                        forecast.cells.insert(name.clone(), column);
                    }
                    ports.get_mut(port).ok_or_else(|| Failure::internal("no such port"))?.push(forecast);
                }
            }
        }
        Ok(ports.into_iter().map(|rows| Self { schema: self.schema.clone(), parts: vec![Part::Rows(rows)] }).collect())
    }
}

impl Part {
    /// Single rows with the cells of the columns that some step reads.
    fn into_rows(self, store: &Store, read: &Read<'_>) -> Result<Vec<Forecast>, Failure> {
        match self {
            Self::Rows(rows) => Ok(rows),
            Self::Chunk(chunk) => {
                let mut columns = Vec::new();
                for (name, digest) in chunk.columns.iter().filter(|(name, _)| read.contains(name.as_str())) {
                    columns.push((name.clone(), load_column(store, digest)?));
                }
                let ids = load_column(store, &chunk.columns[ID])?.into_texts().map_err(Failure::internal)?;
                let row = |(at, id): (usize, String)| Forecast {
                    id,
                    certain: true,
                    cells: columns.iter().map(|(name, column)| (name.clone(), column.slice(at))).collect(),
                };
                Ok(ids.into_iter().enumerate().map(row).collect())
            }
        }
    }
}

impl Forecast {
    /// The row after a step that must execute it: it may leave, and what the step writes is not known.
    fn executed(mut self, step: &Step) -> Self {
        self.certain = false;
        for (name, _) in &step.contract.writes {
            self.cells.remove(name);
        }
        self
    }
}

fn chunk_through(
    chunk: Chunk,
    step: &Step,
    scanner: &RowScanner<'_>,
    store: &Store,
    read: &Read<'_>,
) -> Result<(Part, u64), Failure> {
    let scan = scanner.scan(&chunk)?;
    if let ChunkScan::Known(_, delta) = &scan
        && delta.removed.is_empty()
    {
        let mut columns = chunk.columns;
        columns.extend(delta.columns.clone());
        return Ok((Part::Chunk(Chunk { rows: chunk.rows, columns }), 0));
    }
    let rows = Part::Chunk(chunk).into_rows(store, read)?;
    Ok(match scan {
        ChunkScan::Known(_, delta) => (Part::Rows(apply(rows, &delta, store)?), 0),
        ChunkScan::Rows(scanned) => {
            let missing = scanned.missing().count() as u64;
            let rows = rows.into_iter().zip(scanned.found).filter_map(|(row, found)| after(row, found, step));
            (Part::Rows(rows.collect()), missing)
        }
    })
}

/// The rows of a chunk after a known delta.
fn apply(rows: Vec<Forecast>, delta: &ChunkDelta, store: &Store) -> Result<Vec<Forecast>, Failure> {
    let mut written = Vec::new();
    for (name, digest) in &delta.columns {
        written.push((name, load_column(store, digest)?));
    }
    let kept = rows.into_iter().zip(delta.kept()).filter(|(_, kept)| *kept).enumerate();
    Ok(kept
        .map(|(at, (mut row, _))| {
            row.cells.extend(written.iter().map(|(name, column)| ((*name).clone(), column.slice(at))));
            row
        })
        .collect())
}

fn rows_through(rows: Vec<Forecast>, step: &Step, scanner: &RowScanner<'_>) -> (Vec<Forecast>, u64) {
    let mut execute = 0;
    let through = rows.into_iter().filter_map(|row| {
        let cells: Option<Vec<Column>> = row_columns(step)
            .iter()
            .map(|name| if name == ID { Some(Column::texts([row.id.clone()])) } else { row.cells.get(name).cloned() })
            .collect();
        let found = cells.and_then(|cells| scanner.remembered_row(&cells));
        execute += u64::from(found.is_none());
        after(row, found, step)
    });
    (through.collect(), execute)
}

/// A row after a step that remembers it, or must execute it.
fn after(mut row: Forecast, found: Option<Remembered>, step: &Step) -> Option<Forecast> {
    match found {
        None => Some(row.executed(step)),
        Some(Remembered::Keep(cells)) => {
            row.cells.extend(step.contract.writes.iter().zip(cells).map(|((name, _), cell)| (name.clone(), cell)));
            Some(row)
        }
        Some(Remembered::Drop(_) | Remembered::Fail(_)) => None,
    }
}

/// Rows as a table stage sees them.
fn show(rows: &[Forecast], columns: &[String], store: &Store) -> Result<Vec<Row>, Failure> {
    let cell = |row: &Forecast, name: &String| {
        let column =
            row.cells.get(name).ok_or_else(|| Failure::input(format!("`{name}` of `{}` is not known", row.id)))?;
        // An image that is not stored yet has its digest only; that is all a table stage may ask of it.
        cell_of(column, 0, |digest| locate(store, digest).or_else(|_| Ok(unstored(digest))))
    };
    rows.iter()
        .map(|row| {
            let cells = columns.iter().map(|name| cell(row, name)).collect::<Result<_, _>>()?;
            Ok(Row { id: row.id.clone(), cells })
        })
        .collect()
}

fn unstored(digest: &Digest) -> pipe_cache::Blob {
    pipe_cache::Blob { digest: *digest, path: Path::new("").into(), offset: 0, len: 0 }
}

/// Reads a local source in memory: what its datasets would be. Nothing is stored.
pub(super) fn read_source(
    step: &Step,
    run: RunSource,
    resolution: &Resolution,
    context: &Context<'_>,
    read: &Read<'_>,
) -> Result<BTreeMap<String, Rows>, Failure> {
    let taken = Taken {
        store: context.store,
        read: read.iter().map(|&name| name.to_owned()).collect(),
        ports: Mutex::default(),
    };
    run(&SourceContext {
        params: &step.params,
        resolution,
        base: context.base,
        scratch: Path::new(""),
        outputs: &BTreeMap::new(),
        datasets: &taken,
        credentials: context.credentials,
        sink: &Silent,
    })?;
    Ok(taken.ports.into_inner().unwrap_or_else(PoisonError::into_inner))
}

struct Taken<'a> {
    store: &'a Store,
    read: BTreeSet<String>,
    ports: Mutex<BTreeMap<String, Rows>>,
}

impl DatasetOutput for Taken<'_> {
    fn dataset(&self, port: &str, schema: &Schema, rows: &mut RowSource<'_>) -> Result<(), Failure> {
        let mut rows: Vec<Row> = rows.filter_map(Result::ok).collect();
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        rows.dedup_by(|a, b| a.id == b.id);
        let mut parts = Vec::new();
        for chunk in rows.chunk_by(|row, _| !ends_chunk(&row.id)) {
            parts.push(self.part(schema, chunk)?);
        }
        let forecast = Rows { schema: schema.clone(), parts };
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).insert(port.to_owned(), forecast);
        Ok(())
    }
}

impl Taken<'_> {
    /// A chunk whose columns are all in the store is the one it was.
    fn part(&self, schema: &Schema, rows: &[Row]) -> Result<Part, Failure> {
        let mut columns = BTreeMap::new();
        columns.insert(ID.to_owned(), Column::texts(rows.iter().map(|row| row.id.clone())));
        for (at, (name, column_type)) in schema.0.iter().enumerate() {
            let mut column = Column::empty(*column_type);
            for row in rows {
                let cell = row.cells.get(at).cloned().unwrap_or(Cell::Null);
                let cell = cell.image_digest().map_or(cell, |digest| Cell::Image(unstored(&digest)));
                column.push(cell).map_err(Failure::input)?;
            }
            columns.insert(name.clone(), column);
        }
        let digests: BTreeMap<String, Digest> =
            columns.iter().map(|(name, column)| (name.clone(), Digest::of(&column.encode()))).collect();
        if self.store.locate_all(&digests).map_err(store_failure)?.is_some() {
            return Ok(Part::Chunk(Chunk { rows: rows.len() as u64, columns: digests }));
        }
        columns.retain(|name, _| self.read.contains(name));
        let row = |(at, row): (usize, &Row)| Forecast {
            id: row.id.clone(),
            certain: true,
            cells: columns.iter().map(|(name, column)| (name.clone(), column.slice(at))).collect(),
        };
        Ok(Part::Rows(rows.iter().enumerate().map(row).collect()))
    }
}

/// A plan reports nothing while it is made.
struct Silent;

impl Sink for Silent {
    fn progress(&self, _: u64, _: u64, _: &str) {}
    fn log(&self, _: Level, _: &str) {}
    fn measure(&self, _: &str, _: f64) {}
    fn checkpoint(&self, _: u64, _: &Path) -> Result<(), Failure> {
        Err(Failure::internal("a plan takes no checkpoints"))
    }
    fn cancelled(&self) -> bool {
        false
    }
}

/// Stands in for a dataset that is not made yet where only its presence matters.
pub(super) fn empty_dataset(schema: Schema) -> Artifact {
    let manifest = Manifest::Dataset(DatasetManifest::new(schema, Vec::new()));
    Artifact { digest: Digest::of(&manifest.encode()), manifest: Arc::new(manifest) }
}
