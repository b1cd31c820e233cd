//! Row steps: find what is remembered, execute the rest, remember it.

use std::sync::Arc;

use pipe_cache::{Blob, Digest, Fields, Key, RowKey, RowMemory, Store, row_key};

use super::evaluate::Prepared;
use super::executor::Executor;
use super::transform::Tally;
use super::{Context, room, transform};
use crate::artifact::{Chunk, store_failure};
use crate::cell::{Cell, ColumnType, Row};
use crate::column::Column;
use crate::dataset::{load_column, locate, store_image};
use crate::delta::{ChunkDelta, DeltaBuilder, Remembered, Why};
use crate::event::RowCounts;
use crate::graph::Step;
use crate::problem::{Failure, FailureClass};
use crate::recipe;
use crate::stage::Outcome;
use crate::step::{Inputs, Sink};

/// Chunks are scanned until this many rows must execute, or this many chunks lie in memory.
const WINDOW_ROWS: usize = 4096;
const WINDOW_CHUNKS: usize = 64;

/// The name under which the record of a row step holds the recipe of its rows, whose digest names their memory.
pub(crate) const ROW_RECIPE: &str = "@rows";

/// Looks up the rows of a step in row memory.
pub(crate) struct RowScanner<'a> {
    store: &'a Store,
    memory: Arc<RowMemory>,
    recipe: Key,
    columns: &'a [String],
    writes: &'a [(String, ColumnType)],
}

/// What is remembered of a chunk.
pub(crate) enum ChunkScan {
    /// All of it: nothing was read but this delta.
    Known(Digest, ChunkDelta),
    /// Some rows, or none.
    Rows(ScannedRows),
}

/// The rows of a chunk, with what is remembered of each.
pub(crate) struct ScannedRows {
    pub(crate) columns: Vec<Column>,
    keys: Vec<RowKey>,
    pub(crate) found: Vec<Option<Remembered>>,
}

impl ScannedRows {
    /// Places of the rows that must execute.
    pub(crate) fn missing(&self) -> impl Iterator<Item = usize> + '_ {
        self.found.iter().enumerate().filter(|(_, found)| found.is_none()).map(|(row, _)| row)
    }

    /// What they will be remembered under.
    pub(crate) fn missing_keys(&self) -> impl Iterator<Item = RowKey> + '_ {
        self.missing().map(|row| self.keys[row])
    }
}

impl<'a> RowScanner<'a> {
    /// `recipe` is the key of the step's [`recipe::row_recipe`].
    pub(crate) fn new(step: &'a Step, recipe: Key, store: &'a Store) -> Result<Self, Failure> {
        let memory = store.memory(&recipe).map_err(store_failure)?;
        Ok(Self { store, memory, recipe, columns: recipe::row_columns(step), writes: &step.contract.writes })
    }

    /// Where what the step does is remembered.
    pub(crate) fn memory(&self) -> &RowMemory {
        &self.memory
    }

    pub(crate) fn scan(&self, chunk: &Chunk) -> Result<ChunkScan, Failure> {
        if let Some((digest, delta)) = self.known_chunk(chunk) {
            return Ok(ChunkScan::Known(digest, delta));
        }
        let (columns, keys) = self.rows(chunk)?;
        let found = keys.iter().map(|key| self.remembered(key)).collect();
        Ok(ChunkScan::Rows(ScannedRows { columns, keys, found }))
    }

    /// Forgets a chunk and each of its rows.
    fn forget(&self, chunk: &Chunk) -> Result<(), Failure> {
        self.memory.forget(self.chunk_key(chunk));
        self.rows(chunk)?.1.into_iter().for_each(|key| self.memory.forget(key));
        Ok(())
    }

    /// The columns of a chunk that the step reads, and the keys of its rows.
    fn rows(&self, chunk: &Chunk) -> Result<(Vec<Column>, Vec<RowKey>), Failure> {
        let load = |name: &String| {
            let digest = chunk.columns.get(name);
            load_column(self.store, digest.ok_or_else(|| Failure::internal(format!("a chunk lacks column `{name}`")))?)
        };
        let columns: Vec<Column> = self.columns.iter().map(load).collect::<Result<_, _>>()?;
        let rows = usize::try_from(chunk.rows).map_err(|_| Failure::internal("a chunk too large"))?;
        let keys = (0..rows).map(|row| self.key(&columns, row)).collect();
        Ok((columns, keys))
    }

    /// The key of a row: its recipe and the cells it reads.
    pub(crate) fn key(&self, columns: &[Column], row: usize) -> RowKey {
        let mut fields = Fields::new("row");
        fields.push(self.recipe.bytes());
        let mut cell = Vec::new();
        for column in columns {
            cell.clear();
            column.encode_cell(row, &mut cell);
            fields.push(&cell);
        }
        row_key(&fields.key())
    }

    /// What is remembered under a key, if all of it is still there.
    pub(crate) fn remembered(&self, key: &RowKey) -> Option<Remembered> {
        let remembered = Remembered::decode(&self.memory.get(key)?)?;
        if let Remembered::Keep(cells) = &remembered {
            let typed = cells.len() == self.writes.len()
                && cells.iter().zip(self.writes).all(|(cell, (_, column_type))| cell.column_type() == *column_type);
            let mut images =
                cells.iter().filter_map(|cell| if let Column::Image(images) = cell { Some(images) } else { None });
            let there =
                images.all(|images| images.iter().flatten().all(|d| matches!(self.store.locate(d), Ok(Some(_)))));
            return (typed && there).then_some(remembered);
        }
        Some(remembered)
    }

    fn chunk_key(&self, chunk: &Chunk) -> RowKey {
        let projection = chunk.projection(self.columns);
        row_key(&Fields::new("chunk").push(self.recipe.bytes()).push(projection.bytes()).key())
    }

    fn known_chunk(&self, chunk: &Chunk) -> Option<(Digest, ChunkDelta)> {
        let digest = Digest::from_bytes(self.memory.get(&self.chunk_key(chunk))?.try_into().ok()?);
        let delta = ChunkDelta::load(self.store, &digest).ok()?;
        let there = delta.columns.iter().all(|(name, column)| self.has_column(name, column));
        (there && delta.rows == chunk.rows).then_some((digest, delta))
    }

    /// Whether a column that the step wrote is there, with the images it names.
    fn has_column(&self, name: &str, column: &Digest) -> bool {
        let has = |digest: &Digest| matches!(self.store.locate(digest), Ok(Some(_)));
        if !self.writes.iter().any(|(written, column_type)| written == name && *column_type == ColumnType::Image) {
            return has(column);
        }
        matches!(load_column(self.store, column), Ok(Column::Image(cells)) if cells.iter().flatten().all(has))
    }
}

/// What executing a row or table step gave.
pub(super) struct Executed {
    /// What the record names: the deltas of each port.
    pub(super) outputs: Vec<(String, Digest)>,
    /// What became of the rows.
    pub(super) counts: RowCounts,
    /// Whether some rows must be tried again by a later run.
    pub(super) unfinished: bool,
}

/// Executes the rows of a step that are not remembered.
pub(super) fn execute(
    step: &Step,
    prepared: &Prepared,
    inputs: &Inputs,
    context: &Context<'_>,
    sink: &dyn Sink,
) -> Result<Executed, Failure> {
    let (_, dataset) = transform::primary(step, &prepared.inputs)?;
    let scanner = RowScanner::new(step, prepared.memory(), context.store)?;
    let executor = Executor::new(step, inputs, &dataset.schema, context)?;
    let total = dataset.rows();
    let mut run = Run { scanner, executor, sink, total, done: 0, executed: 0, unfinished: false };
    let mut tally = Tally::default();
    let all = run.all(&dataset.chunks, &mut tally).map_err(|failure| room::explain(failure, context.store));
    let deltas = match all {
        Err(failure) if failure.class == FailureClass::Doubt => {
            dataset.chunks.iter().try_for_each(|chunk| run.scanner.forget(chunk))?;
            return Err(failure);
        }
        deltas => deltas?,
    };
    let port = step.outputs.first().map_or("", |output| output.port.as_str());
    let outputs = vec![transform::store_deltas(port, &deltas, context.store)?];
    Ok(Executed { outputs, counts: tally.finish(run.executed), unfinished: run.unfinished })
}

struct Run<'a> {
    scanner: RowScanner<'a>,
    executor: Executor<'a>,
    sink: &'a dyn Sink,
    total: u64,
    done: u64,
    executed: u64,
    unfinished: bool,
}

type Window<'a> = Vec<(&'a Chunk, ChunkScan)>;

impl Run<'_> {
    /// Executes every chunk; the digests of their deltas.
    fn all(&mut self, chunks: &[Chunk], tally: &mut Tally) -> Result<Vec<Digest>, Failure> {
        let mut deltas = Vec::with_capacity(chunks.len());
        let mut chunks = chunks.iter().peekable();
        while chunks.peek().is_some() {
            let mut window = self.window(&mut chunks)?;
            self.fill(&mut window)?;
            for (chunk, scan) in window {
                let (digest, delta) = self.finish_chunk(chunk, scan)?;
                tally.add(0, &delta);
                deltas.push(digest);
            }
        }
        self.executor.finish(self.sink)?;
        Ok(deltas)
    }

    /// Scans the next chunks.
    fn window<'c>(&mut self, chunks: &mut impl Iterator<Item = &'c Chunk>) -> Result<Window<'c>, Failure> {
        let (mut window, mut rows) = (Vec::new(), 0);
        while rows < WINDOW_ROWS && window.len() < WINDOW_CHUNKS {
            let Some(chunk) = chunks.next() else { break };
            let scan = self.scanner.scan(chunk)?;
            let missing = if let ChunkScan::Rows(rows) = &scan { rows.missing().count() } else { 0 };
            rows += missing;
            self.done += chunk.rows - missing as u64;
            self.sink.remembered(chunk.rows - missing as u64);
            window.push((chunk, scan));
        }
        self.sink.progress(self.done, self.total, "");
        Ok(window)
    }

    /// Executes the rows of a window that are not remembered.
    fn fill(&mut self, window: &mut Window<'_>) -> Result<(), Failure> {
        let mut places = Vec::new();
        let mut rows = Vec::new();
        for (at, (chunk, scan)) in window.iter().enumerate() {
            if let ChunkScan::Rows(scanned) = scan {
                let ids = self.ids(chunk, scanned)?;
                for row in scanned.missing() {
                    places.push((at, row));
                    rows.push(Row { id: ids[row].clone(), cells: self.cells(scanned, row)? });
                }
            }
        }
        let mut from = 0;
        for batch in rows.chunks(self.executor.batch()) {
            if self.sink.cancelled() {
                return Err(Failure::interrupted());
            }
            let places = &places[from..from + batch.len()];
            from += batch.len();
            self.execute(batch, places, window)?;
        }
        Ok(())
    }

    fn execute(&mut self, batch: &[Row], places: &[(usize, usize)], window: &mut Window<'_>) -> Result<(), Failure> {
        let (mut outcomes, mut given) = (0_usize, vec![false; batch.len()]);
        let (scanner, sink, total) = (&self.scanner, self.sink, self.total);
        let (done, executed, unfinished) = (&mut self.done, &mut self.executed, &mut self.unfinished);
        let mut emit = |part: Vec<(usize, Outcome)>| {
            for (place, outcome) in part {
                let &(at, row) = places.get(place).ok_or_else(stray)?;
                if std::mem::replace(&mut given[place], true) {
                    return Err(stray());
                }
                let ChunkScan::Rows(scanned) = &mut window[at].1 else { return Err(stray()) };
                let transient = matches!(&outcome, Outcome::Fail(failure) if failure.transient);
                let remembered = remember(outcome, scanner.writes, scanner.store)?;
                if transient {
                    check_images(scanned, row, scanner.store)?;
                    *unfinished = true;
                } else {
                    scanner.memory.insert(scanned.keys[row], remembered.encode());
                }
                scanned.found[row] = Some(remembered);
                outcomes += 1;
                *done += 1;
                *executed += 1;
            }
            sink.progress(*done, total, "");
            Ok(())
        };
        self.executor.run(batch, sink, &mut emit)?;
        if outcomes == batch.len() { Ok(()) } else { Err(stray()) }
    }

    fn ids(&self, chunk: &Chunk, scanned: &ScannedRows) -> Result<Vec<String>, Failure> {
        if scanned.missing().next().is_none() {
            return Ok(Vec::new());
        }
        let digest =
            chunk.columns.get(crate::artifact::ID).ok_or_else(|| Failure::internal("a chunk lacks its ids"))?;
        load_column(self.scanner.store, digest)?.into_texts().map_err(Failure::internal)
    }

    fn cells(&self, scanned: &ScannedRows, row: usize) -> Result<Vec<Cell>, Failure> {
        scanned.columns.iter().map(|column| cell_of(column, row, |digest| locate(self.scanner.store, digest))).collect()
    }

    /// The delta of a chunk whose rows are all known by now; remembered, unless some must be tried again.
    fn finish_chunk(&self, chunk: &Chunk, scan: ChunkScan) -> Result<(Digest, ChunkDelta), Failure> {
        let scanned = match scan {
            ChunkScan::Known(digest, delta) => return Ok((digest, delta)),
            ChunkScan::Rows(scanned) => scanned,
        };
        let mut builder = DeltaBuilder::new(self.scanner.writes);
        let mut final_ = true;
        for remembered in scanned.found {
            match remembered.ok_or_else(stray)? {
                Remembered::Keep(cells) => builder.keep_remembered(cells)?,
                Remembered::Drop(reason) => builder.remove(Why::Dropped(reason)),
                Remembered::Fail(failure) => {
                    final_ &= !failure.transient;
                    builder.remove(Why::Failed(failure));
                }
            }
        }
        let delta = builder.finish(self.scanner.store)?;
        let digest = delta.store(self.scanner.store)?;
        if final_ {
            self.scanner.memory.insert(self.scanner.chunk_key(chunk), digest.bytes().to_vec());
        }
        Ok((digest, delta))
    }
}

/// A row may have failed because an image of it is damaged in the store: then the image must be made again.
fn check_images(scanned: &ScannedRows, row: usize, store: &Store) -> Result<(), Failure> {
    for column in &scanned.columns {
        if let Column::Image(cells) = column
            && let Some(Some(digest)) = cells.get(row)
        {
            store.read(digest).map_err(store_failure)?;
        }
    }
    Ok(())
}

pub(super) fn stray() -> Failure {
    Failure::internal("a stage did not give exactly one outcome per row")
}

/// One cell of a column, images looked up.
pub(crate) fn cell_of(
    column: &Column,
    row: usize,
    find: impl Fn(&Digest) -> Result<Blob, Failure>,
) -> Result<Cell, Failure> {
    if let Column::Image(cells) = column {
        return match cells.get(row).ok_or_else(stray)? {
            Some(digest) => find(digest).map(Cell::Image),
            None => Ok(Cell::Null),
        };
    }
    let cells = column.slice(row).into_cells(|_| None).map_err(Failure::internal)?;
    cells.into_iter().next().ok_or_else(stray)
}

/// The outcome of a row, as it is remembered: new images stored, cells checked against the columns written.
fn remember(outcome: Outcome, writes: &[(String, ColumnType)], store: &Store) -> Result<Remembered, Failure> {
    let cells = match outcome {
        Outcome::Keep(cells) => cells,
        Outcome::Drop(reason) => return Ok(Remembered::Drop(reason)),
        Outcome::Fail(failure) => return Ok(Remembered::Fail(failure)),
    };
    if cells.len() != writes.len() {
        return Err(Failure::internal(format!("a stage gave {} cells for {} columns", cells.len(), writes.len())));
    }
    let columns = writes.iter().zip(cells).map(|((name, column_type), mut cell)| {
        store_image(store, &mut cell)?;
        let mut column = Column::empty(*column_type);
        column.push(cell).map_err(|why| Failure::internal(format!("column `{name}`: {why}")))?;
        Ok(column)
    });
    columns.collect::<Result<_, Failure>>().map(Remembered::Keep)
}
