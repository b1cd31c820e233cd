//! Work that is recorded, done again and compared: a sample of rows, and of whole steps. Nothing of it is recorded or remembered.

use std::collections::{BTreeMap, BTreeSet};

use pipe_cache::{Digest, Fields, Store};
use serde::Serialize;

use super::differ::{self, Difference};
use super::executor::Executor;
use super::rows::cell_of;
use super::{Context, Found, Quiet, find_all, step as whole, transform};
use crate::artifact::{Chunk, ID, store_failure};
use crate::cell::{Cell, Row};
use crate::column::Column;
use crate::dataset::{load_column, locate};
use crate::delta::{ChunkDelta, Why};
use crate::graph::{Graph, Step};
use crate::problem::{Failure, FailureClass};
use crate::recipe::row_columns;
use crate::stage::{Execute, Outcome};

/// Numbers that tensors compute may differ by this share: threads change their last digits.
const TOLERANCE: f64 = 1e-4;

/// How much is done again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Size {
    /// A share of the rows of all row steps, and of the other steps; at least one of each.
    Share(f64),
    /// So many rows over all row steps, and so many other steps; all where there are fewer.
    Count(u64),
}

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// How much.
    pub size: Size,
    /// Decides what.
    pub seed: u64,
}

/// What doing a step again showed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Again {
    /// The step.
    pub step: String,
    /// Its stage.
    pub stage: String,
    /// Whether single rows were done again, rather than the whole step.
    pub rows: bool,
    /// Units done again: rows, or the one execution.
    pub checked: u64,
    /// Units there are.
    pub of: u64,
    /// Units that came out another way.
    pub differ: u64,
    /// What was different, for the first of them.
    pub differences: Vec<Difference>,
    /// Why it was not done again.
    pub skipped: Option<String>,
}

/// Differences told of a step, at most.
const TOLD: usize = 100;

impl Again {
    fn of(step: &Step, rows: bool, of: u64) -> Self {
        let (step, stage) = (step.name.clone(), step.stage.name.to_owned());
        Self { step, stage, rows, of, ..Self::default() }
    }

    fn differs(&mut self, what: &str, how: String) {
        self.differ += 1;
        if self.differences.len() < TOLD {
            self.differences.push(Difference { what: what.to_owned(), how });
        }
    }
}

/// Does a sample of the recorded work of a pipeline again; `progress` is told each step.
///
/// # Errors
/// When the store cannot be read, or the user interrupts.
pub fn again(
    graph: &Graph,
    sample: &Sample,
    context: &Context<'_>,
    progress: &dyn Fn(&str),
) -> Result<Vec<Again>, Failure> {
    let found = find_all(graph, context)?;
    // What is stored through it is never committed, and goes with it.
    let aside = Store::open(context.store.root()).map_err(store_failure)?;
    let aside = Context { store: &aside, ..*context };
    let drawn = Drawn::new(graph, &found, sample)?;
    let mut all = Vec::new();
    for (at, (step, found)) in graph.steps.iter().zip(&found).enumerate() {
        progress(&step.name);
        let Some(found) = found else {
            let skipped = Some("it has no result".to_owned());
            all.push(Again { skipped, ..Again::of(step, is_row_step(step), 0) });
            continue;
        };
        let (mut result, done) = if let Some(places) = drawn.rows.get(&at) {
            let mut result = Again::of(step, true, transform::primary(step, &found.prepared.inputs)?.1.rows());
            let done = rows_again(step, found, places, &aside, &mut result);
            (result, done)
        } else if drawn.steps.contains(&at) {
            let mut result = Again::of(step, false, 1);
            let done = step_again(step, found, context.store, &aside, &mut result);
            (result, done)
        } else {
            let rows = is_row_step(step);
            all.push(Again { skipped: Some("it was not drawn".to_owned()), ..Again::of(step, rows, 0) });
            continue;
        };
        match done {
            Err(failure) if failure.class == FailureClass::Interrupted => return Err(failure),
            Err(failure) => result = Again { skipped: Some(failure.to_string()), checked: 0, ..result },
            Ok(()) => {}
        }
        all.push(result);
    }
    Ok(all)
}

const fn is_row_step(step: &Step) -> bool {
    matches!(step.stage.execute, Execute::Rows(_) | Execute::TorchRows)
}

/// What is done again.
struct Drawn {
    /// Places of rows in the input, by step.
    rows: BTreeMap<usize, Vec<u64>>,
    steps: BTreeSet<usize>,
}

impl Drawn {
    fn new(graph: &Graph, found: &[Option<Found>], sample: &Sample) -> Result<Self, Failure> {
        let (mut pools, mut others) = (Vec::new(), Vec::new());
        for (at, (step, found)) in graph.steps.iter().zip(found).enumerate() {
            let Some(found) = found else { continue };
            if is_row_step(step) {
                pools.push((at, transform::primary(step, &found.prepared.inputs)?.1.rows()));
            } else {
                others.push(at);
            }
        }
        let mut rows: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        for mut place in draw("rows", pools.iter().map(|(_, rows)| rows).sum(), sample) {
            for (at, len) in &pools {
                if place < *len {
                    rows.entry(*at).or_default().push(place);
                    break;
                }
                place -= len;
            }
        }
        let steps = draw("steps", others.len() as u64, sample);
        let steps = others.iter().enumerate().filter(|(n, _)| steps.contains(&(*n as u64))).map(|(_, at)| *at);
        Ok(Self { rows, steps: steps.collect() })
    }
}

/// Numbers below `total`, each as likely as any other.
fn draw(what: &str, total: u64, sample: &Sample) -> BTreeSet<u64> {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
    let wanted = match sample.size {
        Size::Share(share) => ((total as f64 * share).ceil() as u64).max(1),
        Size::Count(count) => count,
    };
    if wanted >= total {
        return (0..total).collect();
    }
    let mut drawn = BTreeSet::new();
    for n in 0_u64.. {
        if drawn.len() as u64 == wanted {
            break;
        }
        let digest = Fields::new(what).push(&sample.seed.to_le_bytes()).push(&n.to_le_bytes()).digest();
        let number = u64::from_le_bytes(digest.bytes()[..8].try_into().expect("eight bytes"));
        drawn.insert(number % total);
    }
    drawn
}

fn rows_again(
    step: &Step,
    found: &Found,
    places: &[u64],
    context: &Context<'_>,
    result: &mut Again,
) -> Result<(), Failure> {
    let (_, dataset) = transform::primary(step, &found.prepared.inputs)?;
    let port = step.outputs.first().map_or("", |output| output.port.as_str());
    let deltas = transform::load_deltas(&found.record, port, context.store)?;
    let inputs = whole::inputs(step, &found.prepared, context, Some(step.primary_port()))?;
    let executor = Executor::new(step, &inputs, &dataset.schema, context)?;
    let (mut first, mut places) = (0, places.iter().copied().peekable());
    for (chunk, delta) in dataset.chunks.iter().zip(deltas) {
        let mut here = Vec::new();
        while let Some(place) = places.next_if(|place| *place < first + chunk.rows) {
            here.push(usize::try_from(place - first).map_err(|_| Failure::internal("a chunk too large"))?);
        }
        first += chunk.rows;
        if here.is_empty() {
            continue;
        }
        let rows = load_rows(step, chunk, &here, context.store)?;
        let delta = Expectation::load(context.store, &delta)?;
        let sink = Quiet { cancel: context.cancel };
        let mut outcomes: Vec<Option<Outcome>> = vec![None; rows.len()];
        executor.run(&rows, &sink, &mut |part| {
            for (at, outcome) in part {
                *outcomes.get_mut(at).ok_or_else(|| Failure::internal("an outcome of no row"))? = Some(outcome);
            }
            Ok(())
        })?;
        for ((row, place), outcome) in rows.iter().zip(here).zip(outcomes) {
            result.checked += 1;
            if let Some(how) = delta.difference(step, place, outcome)? {
                result.differs(&row.id, how);
            }
        }
    }
    Ok(())
}

fn load_rows(step: &Step, chunk: &Chunk, places: &[usize], store: &Store) -> Result<Vec<Row>, Failure> {
    let load = |name: &str| {
        let digest = chunk.columns.get(name).ok_or_else(|| Failure::internal(format!("a chunk lacks `{name}`")))?;
        load_column(store, digest)
    };
    let ids = load(ID)?.into_texts().map_err(Failure::internal)?;
    let columns = row_columns(step).iter().map(|name| load(name)).collect::<Result<Vec<_>, _>>()?;
    let row = |place: &usize| {
        let cells = columns.iter().map(|column| cell_of(column, *place, |digest| locate(store, digest)));
        Ok(Row { id: ids[*place].clone(), cells: cells.collect::<Result<_, Failure>>()? })
    };
    places.iter().map(row).collect()
}

/// What is recorded of the rows of a chunk.
struct Expectation {
    delta: ChunkDelta,
    columns: BTreeMap<String, Column>,
}

impl Expectation {
    fn load(store: &Store, delta: &Digest) -> Result<Self, Failure> {
        let delta = ChunkDelta::load(store, delta)?;
        let mut columns = BTreeMap::new();
        for (name, digest) in &delta.columns {
            columns.insert(name.clone(), load_column(store, digest)?);
        }
        Ok(Self { delta, columns })
    }

    /// How an outcome differs from what is recorded of the row at `place`.
    fn difference(&self, step: &Step, place: usize, outcome: Option<Outcome>) -> Result<Option<String>, Failure> {
        let before: usize =
            self.delta.removed.iter().map(|removed| removed.rows.partition_point(|row| (*row as usize) < place)).sum();
        let here = |row: &u32| *row as usize == place;
        let removed = self.delta.removed.iter().find(|removed| removed.rows.iter().any(here));
        Ok(match (removed.map(|removed| &removed.why), outcome) {
            (_, Some(Outcome::Fail(failure))) if failure.transient => return Err(Failure::transient(failure.message)),
            (None, Some(Outcome::Keep(cells))) => self.cells_differ(step, place - before, cells)?,
            (Some(Why::Dropped(then)), Some(Outcome::Drop(now))) if *then == now => None,
            (Some(Why::Failed(then)), Some(Outcome::Fail(now))) if then.class == now.class => None,
            (then, now) => Some(format!("was {}, is {}", recorded(then), told(now.as_ref()))),
        })
    }

    fn cells_differ(&self, step: &Step, kept: usize, cells: Vec<Cell>) -> Result<Option<String>, Failure> {
        for ((name, column_type), cell) in step.contract.writes.iter().zip(cells) {
            let then = self.columns.get(name).map(|column| column.slice(kept));
            let now = match cell.image_digest() {
                Some(digest) => Column::Image(vec![Some(digest)]),
                None => {
                    let mut column = Column::empty(*column_type);
                    column.push(cell).map_err(|why| Failure::internal(format!("column `{name}`: {why}")))?;
                    column
                }
            };
            let near = matches!(step.stage.execute, Execute::TorchRows);
            if !then.as_ref().is_some_and(|then| *then == now || near && are_near(then, &now)) {
                let then = then.map_or_else(|| "nothing".to_owned(), |then| text(&then));
                return Ok(Some(format!("{name} was {then}, is {}", text(&now))));
            }
        }
        Ok(None)
    }
}

fn recorded(why: Option<&Why>) -> String {
    match why {
        None => "kept".to_owned(),
        Some(Why::Dropped(reason)) => format!("dropped ({reason})"),
        Some(Why::Failed(failure)) => format!("failed ({})", failure.class),
        Some(Why::Elsewhere) => "on another port".to_owned(),
    }
}

fn told(outcome: Option<&Outcome>) -> String {
    match outcome {
        None => "nothing".to_owned(),
        Some(Outcome::Keep(_)) => "kept".to_owned(),
        Some(Outcome::Drop(reason)) => format!("dropped ({reason})"),
        Some(Outcome::Fail(failure)) => format!("failed ({})", failure.class),
    }
}

fn are_near(one: &Column, other: &Column) -> bool {
    let (Column::Float(one), Column::Float(other)) = (one, other) else { return false };
    one.iter().zip(other).all(|pair| match pair {
        (Some(one), Some(other)) => (one - other).abs() <= TOLERANCE * one.abs().max(other.abs()).max(1.0),
        (one, other) => one == other,
    })
}

/// One cell, as text.
fn text(cell: &Column) -> String {
    let cells = match cell {
        Column::Image(cells) => {
            return cells.first().copied().flatten().map_or("null".to_owned(), |d| format!("image {}", d.short()));
        }
        other => other.clone().into_cells(|_| None).unwrap_or_default(),
    };
    match cells.into_iter().next() {
        None | Some(Cell::Null) => "null".to_owned(),
        Some(Cell::Text(text)) => format!("{text:?}"),
        Some(Cell::Texts(texts)) => format!("{texts:?}"),
        Some(Cell::Ints(values)) => format!("{values:?}"),
        Some(Cell::Int(value)) => value.to_string(),
        Some(Cell::Float(value)) => value.to_string(),
        Some(Cell::Bool(value)) => value.to_string(),
        Some(Cell::Image(_) | Cell::NewImage(_) | Cell::ImageFile(_)) => "image".to_owned(),
    }
}

fn step_again(
    step: &Step,
    found: &Found,
    store: &Store,
    aside: &Context<'_>,
    result: &mut Again,
) -> Result<(), Failure> {
    let local = step.resolution.as_ref().is_none_or(|resolution| !resolution.files.is_empty());
    if matches!(step.stage.execute, Execute::Source(_)) && !local {
        result.skipped = Some("it is fetched from elsewhere".to_owned());
        return Ok(());
    }
    let sink = Quiet { cancel: aside.cancel };
    let now = whole::outputs_of(step, &found.prepared, aside, &sink)?;
    result.checked = 1;
    for (name, digest) in &found.record.outputs {
        let other = now.get(name);
        if other != Some(digest) {
            let how = other.map_or_else(
                || "is not given".to_owned(),
                |other| differ::artifacts(digest, store, other, aside.store),
            );
            result.differ = 1;
            result.differences.push(Difference { what: name.trim_start_matches(transform::DELTA).to_owned(), how });
        }
    }
    Ok(())
}
