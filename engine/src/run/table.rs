//! Table steps: every chunk is marked, all marks are decided on, every chunk is assigned. Marks and assignments are remembered by
//! chunk, so that an edit costs the chunks it touches and those on which the verdict changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pipe_cache::{Digest, Fields, Key, RowKey, RowMemory, Store, row_key};
use rayon::prelude::*;
use serde::de::DeserializeOwned;

use super::Context;
use super::evaluate::Prepared;
use super::rows::Executed;
use super::transform::{self, Tally};
use crate::artifact::{Chunk, ID, store_failure};
use crate::cell::{Row, Schema};
use crate::dataset::view;
use crate::delta::{ChunkDelta, DeltaBuilder, Why};
use crate::event::RowCounts;
use crate::graph::Step;
use crate::problem::Failure;
use crate::recipe;
use crate::stage::{Assignment, Load, Mark, TableStage, Verdict};
use crate::step::{Inputs, Sink};

/// Executes a table step.
pub(super) fn execute(
    step: &Step,
    prepared: &Prepared,
    inputs: &Inputs,
    context: &Context<'_>,
    sink: &dyn Sink,
) -> Result<Executed, Failure> {
    let (_, dataset) = transform::primary(step, &prepared.inputs)?;
    let table = Table::new(step, inputs, &dataset.schema, (context.store, prepared.memory()))?;
    let progress = Progress { halves: AtomicU64::new(0), total: dataset.rows(), sink };
    let marks: Vec<Vec<Mark>> = dataset
        .chunks
        .par_iter()
        .map(|chunk| table.marks(chunk, &|rows| progress.advance(rows, "looking at rows")))
        .collect::<Result<_, _>>()?;
    progress.advance(0, "comparing")?;
    let verdicts = table.stage.decide(&marks);
    let executed = AtomicU64::new(0);
    let deltas: Vec<Vec<Changed>> = dataset
        .chunks
        .par_iter()
        .zip(&verdicts)
        .map(|(chunk, verdicts)| {
            let known = table.known_deltas(chunk, verdicts);
            let deltas = known.map_or_else(|| table.assign(chunk, verdicts, &executed), Ok)?;
            progress.advance(chunk.rows, "writing").map(|()| deltas)
        })
        .collect::<Result<_, Failure>>()?;
    let moved = table.moved(&dataset.chunks, &marks, &verdicts)?;
    let mut tally = Tally::default();
    for ports in &deltas {
        ports.iter().enumerate().for_each(|(port, (_, delta))| tally.add(port, delta));
    }
    let outputs = step.outputs.iter().enumerate().map(|(port, output)| {
        let digests: Vec<Digest> = deltas.iter().map(|ports| ports[port].0).collect();
        transform::store_deltas(&output.port, &digests, context.store)
    });
    let counts = RowCounts { moved, ..tally.finish(executed.into_inner()) };
    Ok(Executed { outputs: outputs.collect::<Result<_, _>>()?, counts, unfinished: false })
}

/// Every row is passed twice: to look at it, and to write what became of it.
struct Progress<'a> {
    halves: AtomicU64,
    total: u64,
    sink: &'a dyn Sink,
}

impl Progress<'_> {
    fn advance(&self, rows: u64, what: &str) -> Result<(), Failure> {
        let halves = self.halves.fetch_add(rows, Ordering::Relaxed) + rows;
        self.sink.progress(halves / 2, self.total, what);
        if self.sink.cancelled() { Err(Failure::interrupted()) } else { Ok(()) }
    }
}

/// Is told how many more rows were passed.
pub(crate) type Passed<'a> = &'a (dyn Fn(u64) -> Result<(), Failure> + Sync);

/// Rows marked at once: looking at a picture takes milliseconds.
const MARKED_AT_ONCE: usize = 32;

/// A delta and its name.
type Changed = (Digest, ChunkDelta);

/// A table stage at work on stored chunks.
pub(crate) struct Table<'a> {
    step: &'a Step,
    store: &'a Store,
    memory: Arc<RowMemory>,
    columns: Vec<String>,
    schema: Schema,
    pub(crate) stage: Box<dyn TableStage>,
}

impl<'a> Table<'a> {
    /// Sets up the stage of a step; `memory` is where what it does is remembered.
    pub(crate) fn new(
        step: &'a Step,
        inputs: &Inputs,
        schema: &Schema,
        (store, memory): (&'a Store, Key),
    ) -> Result<Self, Failure> {
        let crate::stage::Execute::Table(load) = step.stage.execute else {
            return Err(Failure::internal(format!("`{}` is not a table stage", step.stage.name)));
        };
        let columns = cell_columns(step);
        let mut schema = schema.clone();
        schema.0.retain(|name, _| columns.contains(name));
        let stage = load(&Load {
            params: &step.params,
            inputs,
            columns: &columns,
            schema: &schema,
            place: crate::stage::Place::default(),
        })?;
        let memory = store.memory(&memory).map_err(store_failure)?;
        Ok(Self { step, store, memory, columns, schema, stage })
    }

    /// The columns whose cells its rows hold.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Where what it does is remembered.
    pub(crate) fn memory(&self) -> &RowMemory {
        &self.memory
    }

    /// The marks of the rows of a chunk, remembered or made. `passed` is told how many more rows have theirs; an error it returns ends this.
    pub(crate) fn marks(&self, chunk: &Chunk, passed: Passed<'_>) -> Result<Vec<Mark>, Failure> {
        let key = key("marks", &self.projection(chunk), None);
        let known = self.memory.get(&key).and_then(|value| decode_marks(&value));
        if let Some(marks) = known.filter(|marks| marks.len() as u64 == chunk.rows) {
            return passed(chunk.rows).map(|()| marks);
        }
        let marks = |rows: &[Row]| {
            let marks = self.stage.mark(rows)?;
            if marks.len() != rows.len() {
                return Err(Failure::internal(format!("a stage gave {} marks for {} rows", marks.len(), rows.len())));
            }
            passed(rows.len() as u64).map(|()| marks)
        };
        let marks: Vec<Vec<Mark>> =
            self.rows(chunk)?.par_chunks(MARKED_AT_ONCE).map(marks).collect::<Result<_, _>>()?;
        let marks = marks.concat();
        self.memory.insert(key, marks.iter().flat_map(|mark| mark.to_le_bytes()).collect());
        Ok(marks)
    }

    /// What the stage did to a chunk under these verdicts, per output port, if it is remembered.
    pub(crate) fn known_deltas(&self, chunk: &Chunk, verdicts: &[Verdict]) -> Option<Vec<Changed>> {
        let value = self.memory.get(&self.assigned_key(chunk, verdicts))?;
        let digests: Vec<Digest> = postcard::from_bytes(&value).ok()?;
        let load = |digest: Digest| {
            let delta = ChunkDelta::load(self.store, &digest).ok()?;
            let there = delta.columns.values().all(|column| matches!(self.store.locate(column), Ok(Some(_))));
            (there && delta.rows == chunk.rows).then_some((digest, delta))
        };
        (digests.len() == self.step.outputs.len()).then(|| digests.into_iter().map(load).collect())?
    }

    /// What that is remembered under.
    pub(crate) fn assigned_key(&self, chunk: &Chunk, verdicts: &[Verdict]) -> RowKey {
        key("assigned", &self.projection(chunk), Some(verdicts))
    }

    fn assign(&self, chunk: &Chunk, verdicts: &[Verdict], executed: &AtomicU64) -> Result<Vec<Changed>, Failure> {
        let assignments = self.stage.assign(&self.rows(chunk)?, verdicts)?;
        if assignments.len() as u64 != chunk.rows {
            return Err(Failure::internal(format!("a stage assigned {} of {} rows", assignments.len(), chunk.rows)));
        }
        let mut deltas = Vec::with_capacity(self.step.outputs.len());
        for builder in builders(self.step, assignments)? {
            let delta = builder.finish(self.store)?;
            deltas.push((delta.store(self.store)?, delta));
        }
        let digests: Vec<Digest> = deltas.iter().map(|(digest, _)| *digest).collect();
        let value = postcard::to_stdvec(&digests).expect("encoding plain data into memory cannot fail");
        self.memory.insert(self.assigned_key(chunk, verdicts), value);
        executed.fetch_add(chunk.rows, Ordering::Relaxed);
        Ok(deltas)
    }

    fn rows(&self, chunk: &Chunk) -> Result<Vec<Row>, Failure> {
        let dataset = crate::artifact::DatasetManifest::new(self.schema.clone(), vec![chunk.clone()]);
        let names: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        view(self.store, &dataset, Some(&self.columns))?.all_rows(&names)
    }

    /// How many rows that the last execution of this recipe saw, too, got another verdict this time. Remembers this one for the next.
    fn moved(&self, chunks: &[Chunk], marks: &[Vec<Mark>], verdicts: &[Vec<Verdict>]) -> Result<Option<u64>, Failure> {
        let mut now = Vec::with_capacity(chunks.len());
        for (chunk, verdicts) in chunks.iter().zip(verdicts) {
            let digest = self.store.put(&encode_verdicts(verdicts)).map_err(store_failure)?;
            now.push((self.projection(chunk), digest));
        }
        let key = row_key(&Fields::new("last verdicts").key());
        let before = self.memory.get(&key).and_then(|digest| self.load::<Decided>(&digest.try_into().ok()?));
        let bytes = postcard::to_stdvec(&now).expect("encoding plain data into memory cannot fail");
        let digest = self.store.put(&bytes).map_err(store_failure)?;
        self.memory.insert(key, digest.bytes().to_vec());
        Ok(before.and_then(|before| self.compare(&before, &now, marks, verdicts)))
    }

    /// Rows of unchanged chunks are compared by place, those of changed chunks by mark. `None` if what was before is gone.
    fn compare(&self, before: &Decided, now: &Decided, marks: &[Vec<Mark>], verdicts: &[Vec<Verdict>]) -> Option<u64> {
        let mut gone: HashMap<Digest, Digest> = before.iter().copied().collect();
        let (mut moved, mut changed) = (0, Vec::new());
        for (at, (projection, digest)) in now.iter().enumerate() {
            match gone.remove(projection) {
                Some(then) if then == *digest => {}
                Some(then) => {
                    let then = self.load::<Vec<Verdict>>(then.bytes())?;
                    moved += then.iter().zip(&verdicts[at]).filter(|(then, now)| then != now).count() as u64;
                }
                None => changed.push(at),
            }
        }
        let mut then = HashMap::new();
        for (projection, digest) in gone {
            let marks = self.memory.get(&key("marks", &projection, None))?;
            then.extend(decode_marks(&marks)?.into_iter().zip(self.load::<Vec<Verdict>>(digest.bytes())?));
        }
        let after = changed.into_iter().flat_map(|at| marks[at].iter().zip(&verdicts[at]));
        Some(moved + after.filter(|(mark, now)| then.get(mark).is_some_and(|then| then != *now)).count() as u64)
    }

    fn projection(&self, chunk: &Chunk) -> Digest {
        chunk.projection(recipe::row_columns(self.step))
    }

    fn load<T: DeserializeOwned>(&self, digest: &[u8; 32]) -> Option<T> {
        postcard::from_bytes(&self.store.read(&Digest::from_bytes(*digest)).ok()?).ok()
    }
}

/// What was decided on all chunks: the projection of each, and its verdicts.
type Decided = Vec<(Digest, Digest)>;

fn encode_verdicts(verdicts: &[Verdict]) -> Vec<u8> {
    postcard::to_stdvec(verdicts).expect("encoding plain data into memory cannot fail")
}

fn key(what: &str, projection: &Digest, verdicts: Option<&[Verdict]>) -> RowKey {
    let mut fields = Fields::new(what);
    fields.push(projection.bytes());
    if let Some(verdicts) = verdicts {
        fields.push(&encode_verdicts(verdicts));
    }
    row_key(&fields.key())
}

fn decode_marks(bytes: &[u8]) -> Option<Vec<Mark>> {
    let (marks, rest) = bytes.as_chunks();
    rest.is_empty().then(|| marks.iter().map(|mark| Mark::from_le_bytes(*mark)).collect())
}

/// The columns whose cells the rows of a table stage hold: those it reads, but the id, which every row has.
pub(crate) fn cell_columns(step: &Step) -> Vec<String> {
    recipe::row_columns(step).iter().filter(|name| *name != ID).cloned().collect()
}

/// What was assigned to the rows of a chunk, per output port.
fn builders<'a>(step: &'a Step, assignments: Vec<Assignment>) -> Result<Vec<DeltaBuilder<'a>>, Failure> {
    let mut builders: Vec<DeltaBuilder<'a>> =
        step.outputs.iter().map(|_| DeltaBuilder::new(&step.contract.writes)).collect();
    for assignment in assignments {
        match assignment {
            Assignment::Keep { port, cells } => {
                let mut cells = Some(cells);
                for (at, builder) in builders.iter_mut().enumerate() {
                    match cells.take_if(|_| at == port) {
                        Some(cells) => builder.keep(cells)?,
                        None => builder.remove(Why::Elsewhere),
                    }
                }
            }
            Assignment::Drop(reason) => remove(&mut builders, &Why::Dropped(reason)),
            Assignment::Fail(failure) => remove(&mut builders, &Why::Failed(failure)),
        }
    }
    Ok(builders)
}

fn remove(builders: &mut [DeltaBuilder<'_>], why: &Why) {
    builders.iter_mut().for_each(|builder| builder.remove(why.clone()));
}
