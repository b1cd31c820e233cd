//! The rows a step would give, as far as they can be told: stored chunks where nothing changed, single rows elsewhere.

mod source;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use pipe_cache::{Digest, RowKey, Store};

use crate::artifact::{Chunk, DatasetManifest, ID, Manifest};
use crate::assembly::{Assembly, groups};
use crate::cell::{Row, Schema};
use crate::column::Column;
use crate::dataset::{ends_chunk, load_column, locate};
use crate::delta::{ChunkDelta, Remembered};
use crate::graph::Step;
use crate::problem::Failure;
use crate::recipe::row_columns;
use crate::run::preview::unstored;
use crate::run::rows::cell_of;
use crate::run::table::Table;
use crate::run::transform::actual_schema;
use crate::run::{Artifact, ChunkScan, RowScanner};
use crate::stage::{Assignment, Mark, Verdict};

use source::LOOKED_AT;
pub(super) use source::read_source;

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
    /// So many rows of which nothing is known.
    Many(u64),
}

/// A row that may or will be there. What steps do not change of it they share: a matrix gives the same rows to thousands.
#[derive(Clone)]
struct Forecast {
    id: Arc<str>,
    /// Whether it is certain to be there.
    certain: bool,
    /// Its known cells, as columns of one row.
    cells: Arc<BTreeMap<String, Column>>,
}

type Read<'a> = BTreeSet<&'a str>;

/// What a step must execute.
#[derive(Default)]
pub(super) struct Missing {
    /// Rows.
    pub(super) rows: u64,
    /// What they will be remembered under.
    keys: HashSet<RowKey>,
    /// Some of them are the same, or may be.
    repeats: bool,
}

impl Missing {
    /// Rows that will be remembered together.
    fn add(&mut self, rows: u64, key: Option<RowKey>) {
        self.rows += rows;
        let is_new = key.is_some_and(|key| (self.keys.len() as u64) < LOOKED_AT && self.keys.insert(key));
        self.repeats |= rows > 0 && !is_new;
    }

    /// Whether as many will execute: of what is the same some is remembered by the time it is looked up.
    pub(super) const fn is_exact(&self) -> bool {
        !self.repeats
    }
}

impl Rows {
    pub(super) fn of(dataset: &DatasetManifest) -> Self {
        Self { schema: dataset.schema.clone(), parts: dataset.chunks.iter().cloned().map(Part::Chunk).collect() }
    }

    /// The dataset, where every chunk of it is known as far as anyone reads it.
    pub(super) fn known(&self) -> Option<Artifact> {
        let chunk = |part: &Part| if let Part::Chunk(chunk) = part { Some(chunk.clone()) } else { None };
        let chunks = self.parts.iter().map(chunk).collect::<Option<_>>()?;
        Some(Artifact::unstored(Manifest::Dataset(DatasetManifest::new(self.schema.clone(), chunks))))
    }

    pub(super) const fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(super) fn len(&self) -> u64 {
        self.parts.iter().map(Part::len).sum()
    }

    /// Whether every row is certain to be there.
    pub(super) fn is_certain(&self) -> bool {
        self.parts.iter().all(|part| match part {
            Part::Chunk(_) => true,
            Part::Rows(rows) => rows.iter().all(|row| row.certain),
            Part::Many(_) => false,
        })
    }

    /// Which of these rows a row step must execute, where nobody takes what it gives.
    pub(super) fn missing_in_row_step(&self, step: &Step, scanner: &RowScanner<'_>) -> Result<Missing, Failure> {
        let mut missing = Missing::default();
        for part in &self.parts {
            match part {
                Part::Many(rows) => missing.add(*rows, None),
                Part::Chunk(chunk) => {
                    if let ChunkScan::Rows(scanned) = scanner.scan(chunk)? {
                        scanned.missing_keys().for_each(|key| missing.add(1, Some(key)));
                    }
                }
                Part::Rows(rows) => {
                    for row in rows {
                        // What is found is of no use here.
                        let _ = row.remembered(step, scanner, &mut missing);
                    }
                }
            }
        }
        Ok(missing)
    }

    /// What a row step gives for these rows, and which of them it must execute.
    pub(super) fn through_row_step(
        self,
        step: &Step,
        scanner: &RowScanner<'_>,
        store: &Store,
        read: &Read<'_>,
    ) -> Result<(Self, Missing), Failure> {
        let schema = output_schema(step, &self.schema);
        let mut former = Former { store, read, parts: Vec::new(), known: Vec::new() };
        let assembly = Assembly::new(store, &schema, scanner.memory());
        let mut missing = Missing::default();
        for part in self.parts {
            match part {
                Part::Chunk(chunk) => match scanner.scan(&chunk)? {
                    ChunkScan::Known(digest, delta) => former.known.push((chunk, digest, delta)),
                    ChunkScan::Rows(scanned) => {
                        scanned.missing_keys().for_each(|key| missing.add(1, Some(key)));
                        let rows = Part::Chunk(chunk).into_rows(store, read)?.into_iter().zip(scanned.found);
                        let rows = rows.filter_map(|(row, found)| after(row, found, step)).collect();
                        former.push(Part::Rows(rows), &assembly)?;
                    }
                },
                Part::Rows(rows) => {
                    let rows = rows_through(rows, step, scanner, &mut missing);
                    former.push(Part::Rows(rows), &assembly)?;
                }
                Part::Many(rows) => {
                    missing.add(rows, None);
                    former.push(Part::Many(rows), &assembly)?;
                }
            }
        }
        Ok((Self { parts: former.finish(&assembly)?, schema }, missing))
    }

    /// What a row step gives whose other inputs are not known: every row must execute.
    pub(super) fn through_unknown(
        self,
        step: &Step,
        store: &Store,
        read: &Read<'_>,
    ) -> Result<(Self, Missing), Failure> {
        let total = self.len();
        let mut missing = Missing::default();
        missing.add(total, None);
        if total > LOOKED_AT {
            return Ok((Self { schema: output_schema(step, &self.schema), parts: vec![Part::Many(total)] }, missing));
        }
        let mut parts = Vec::new();
        for part in self.parts {
            let rows = part.into_rows(store, read)?;
            parts.push(Part::Rows(rows.into_iter().map(|row| row.executed(step)).collect()));
        }
        Ok((Self { schema: output_schema(step, &self.schema), parts }, missing))
    }

    /// What a table step gives, per port, and which rows it must execute.
    ///
    /// # Errors
    /// When it cannot be told without executing: a cell it reads is not known, or it has further inputs.
    pub(super) fn through_table_step(
        self,
        step: &Step,
        table: &Table<'_>,
        store: &Store,
        read: &Read<'_>,
    ) -> Result<(Vec<Self>, Missing), Failure> {
        let schema = output_schema(step, &self.schema);
        let mut wanted = read.clone();
        wanted.extend(row_columns(step).iter().map(String::as_str));
        let parts = cut(self.parts, store, &wanted)?;
        let marks = parts.iter().map(|part| marks(part, table, store)).collect::<Result<Vec<_>, _>>()?;
        let verdicts = table.stage.decide(&marks);
        let former = || Former { store, read: &wanted, parts: Vec::new(), known: Vec::new() };
        let mut formers: Vec<Former<'_>> = step.outputs.iter().map(|_| former()).collect();
        let assembly = Assembly::new(store, &schema, table.memory());
        let mut missing = Missing::default();
        for (part, verdicts) in parts.into_iter().zip(&verdicts) {
            let chunk = part.as_chunk(row_columns(step));
            let known = chunk.as_ref().and_then(|chunk| table.known_deltas(chunk, verdicts));
            match (&part, known) {
                (Part::Chunk(chunk), Some(ports)) => {
                    for (former, (digest, delta)) in formers.iter_mut().zip(ports) {
                        former.known.push((chunk.clone(), digest, delta));
                    }
                    continue;
                }
                (_, None) => missing.add(part.len(), chunk.map(|chunk| table.assigned_key(&chunk, verdicts))),
                (_, Some(_)) => {}
            }
            let ports = assigned(part.into_rows(store, &wanted)?, step, table, (store, verdicts))?;
            for (former, rows) in formers.iter_mut().zip(ports) {
                former.push(Part::Rows(rows), &assembly)?;
            }
        }
        let finish = |former: Former<'_>| Ok(Self { parts: former.finish(&assembly)?, schema: schema.clone() });
        Ok((formers.into_iter().map(finish).collect::<Result<_, Failure>>()?, missing))
    }
}

/// Cuts parts where chunks will end: a table step looks at whole chunks.
fn cut(parts: Vec<Part>, store: &Store, read: &Read<'_>) -> Result<Vec<Part>, Failure> {
    let (mut whole, mut open) = (Vec::with_capacity(parts.len()), Vec::new());
    for part in parts {
        if open.is_empty() && !matches!(part, Part::Rows(_)) {
            whole.push(part);
            continue;
        }
        open.extend(part.into_rows(store, read)?);
        if open.last().is_some_and(|row| ends_chunk(&row.id)) {
            whole.push(Part::Rows(std::mem::take(&mut open)));
        }
    }
    if !open.is_empty() {
        whole.push(Part::Rows(open));
    }
    Ok(whole)
}

/// The columns a row or table step gives.
fn output_schema(step: &Step, input: &Schema) -> Schema {
    let declared = step.outputs.first().and_then(|output| output.schema.clone()).unwrap_or_default();
    actual_schema(&declared, input)
}

fn marks(part: &Part, table: &Table<'_>, store: &Store) -> Result<Vec<Mark>, Failure> {
    match part {
        Part::Chunk(chunk) => table.marks(chunk, &|_| Ok(())),
        Part::Rows(rows) => table.stage.mark(&show(rows, table.columns(), store)?),
        Part::Many(_) => Err(Failure::input("the rows are not known")),
    }
}

/// What a table stage does with single rows, per output port.
fn assigned(
    rows: Vec<Forecast>,
    step: &Step,
    table: &Table<'_>,
    (store, verdicts): (&Store, &[Verdict]),
) -> Result<Vec<Vec<Forecast>>, Failure> {
    let assignments = table.stage.assign(&show(&rows, table.columns(), store)?, verdicts)?;
    let mut ports = vec![Vec::new(); step.outputs.len()];
    for (mut forecast, assignment) in rows.into_iter().zip(assignments) {
        if let Assignment::Keep { port, cells } = assignment {
            for ((name, column_type), cell) in step.contract.writes.iter().zip(cells) {
                let mut column = Column::empty(*column_type);
                column.push(cell).map_err(Failure::internal)?;
                Arc::make_mut(&mut forecast.cells).insert(name.clone(), column);
            }
            ports.get_mut(port).ok_or_else(|| Failure::internal("no such port"))?.push(forecast);
        }
    }
    Ok(ports)
}

/// Forms the parts of an output: chunks where what a step did to them is known and was put together before, single rows elsewhere.
struct Former<'a> {
    store: &'a Store,
    read: &'a Read<'a>,
    parts: Vec<Part>,
    /// Consecutive chunks of the input with what the step did to them.
    known: Vec<(Chunk, Digest, ChunkDelta)>,
}

impl Former<'_> {
    fn push(&mut self, part: Part, assembly: &Assembly<'_>) -> Result<(), Failure> {
        self.flush(assembly, false)?;
        self.parts.push(part);
        Ok(())
    }

    /// Forms what is known up to here; `end` says that nothing follows.
    fn flush(&mut self, assembly: &Assembly<'_>, end: bool) -> Result<(), Failure> {
        let known = std::mem::take(&mut self.known);
        for group in groups(known.iter().map(|(chunk, digest, delta)| (chunk, digest, delta))) {
            let Some(mut columns) = assembly.known_columns(&group) else { continue };
            let is_read = |name: &str| name == ID || self.read.contains(name);
            let names = || assembly.names().filter(|name| !columns.contains_key(*name));
            // A group without a border makes one chunk with what follows.
            let is_open = !end && !group.members().last().is_some_and(|(_, _, delta)| delta.keeps_border());
            if is_open || names().any(is_read) {
                for (chunk, _, delta) in group.members() {
                    let rows = Part::Chunk((*chunk).clone()).into_rows(self.store, self.read)?;
                    self.parts.push(Part::Rows(apply(rows, delta, self.store)?));
                }
                continue;
            }
            let unread: Vec<String> = names().map(str::to_owned).collect();
            columns.extend(unread.into_iter().map(|name| (name, unread_column())));
            self.parts.push(Part::Chunk(Chunk { rows: group.rows(), columns }));
        }
        Ok(())
    }

    fn finish(mut self, assembly: &Assembly<'_>) -> Result<Vec<Part>, Failure> {
        self.flush(assembly, true)?;
        Ok(self.parts)
    }
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Self::Chunk(chunk) => chunk.rows,
            Self::Rows(rows) => rows.len() as u64,
            Self::Many(rows) => *rows,
        }
    }

    /// The chunk that these rows make, as far as these columns go; `None` where a cell is not known.
    fn as_chunk(&self, columns: &[String]) -> Option<Chunk> {
        let rows = match self {
            Self::Chunk(chunk) => return Some(chunk.clone()),
            Self::Many(_) => return None,
            Self::Rows(rows) => rows,
        };
        let column = |name: &String| {
            let cell = |row: &Forecast| match name == ID {
                true => Some(Column::texts([row.id.to_string()])),
                false => row.cells.get(name).cloned(),
            };
            let mut cells = rows.iter().map(cell);
            let mut column = cells.next()??;
            cells.try_for_each(|cell| column.append(cell?).ok())?;
            Some((name.clone(), Digest::of(&column.encode())))
        };
        let columns = columns.iter().map(column).collect::<Option<_>>()?;
        Some(Chunk { rows: self.len(), columns })
    }

    /// Single rows with the cells of the columns that some step reads.
    fn into_rows(self, store: &Store, read: &Read<'_>) -> Result<Vec<Forecast>, Failure> {
        match self {
            Self::Rows(rows) => Ok(rows),
            Self::Many(_) => Err(Failure::input("the rows are not known")),
            Self::Chunk(chunk) => {
                let mut columns = Vec::new();
                for (name, digest) in chunk.columns.iter().filter(|(name, _)| read.contains(name.as_str())) {
                    columns.push((name.clone(), load_column(store, digest)?));
                }
                let ids = load_column(store, &chunk.columns[ID])?.into_texts().map_err(Failure::internal)?;
                Ok(Forecast::certain(ids, || columns.iter().map(|(name, column)| (name, column))))
            }
        }
    }
}

impl Forecast {
    /// Rows that are certain to be there, with the cells of these columns.
    fn certain<'a, C: Iterator<Item = (&'a String, &'a Column)>>(
        ids: Vec<String>,
        columns: impl Fn() -> C,
    ) -> Vec<Self> {
        let cells = |at: usize| columns().map(|(name, column)| (name.clone(), column.slice(at))).collect();
        let row = |(at, id): (usize, String)| Self { id: id.into(), certain: true, cells: Arc::new(cells(at)) };
        ids.into_iter().enumerate().map(row).collect()
    }

    /// What a row step remembers of it; one that it must execute is missing.
    fn remembered(&self, step: &Step, scanner: &RowScanner<'_>, missing: &mut Missing) -> Option<Remembered> {
        let cell = |name: &String| match name == ID {
            true => Some(Column::texts([self.id.to_string()])),
            false => self.cells.get(name).cloned(),
        };
        let cells: Option<Vec<Column>> = row_columns(step).iter().map(cell).collect();
        let key = cells.map(|cells| scanner.key(&cells, 0));
        let found = key.as_ref().and_then(|key| scanner.remembered(key));
        if found.is_none() {
            missing.add(1, key);
        }
        found
    }

    /// The row after a step that must execute it: it may leave, and what the step writes is not known.
    fn executed(mut self, step: &Step) -> Self {
        self.certain = false;
        for (name, _) in &step.contract.writes {
            if self.cells.contains_key(name) {
                Arc::make_mut(&mut self.cells).remove(name);
            }
        }
        self
    }
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
            if !written.is_empty() {
                let cells = written.iter().map(|(name, column)| ((*name).clone(), column.slice(at)));
                Arc::make_mut(&mut row.cells).extend(cells);
            }
            row
        })
        .collect())
}

fn rows_through(rows: Vec<Forecast>, step: &Step, scanner: &RowScanner<'_>, missing: &mut Missing) -> Vec<Forecast> {
    let through = rows.into_iter().filter_map(|row| {
        let found = row.remembered(step, scanner, missing);
        after(row, found, step)
    });
    through.collect()
}

/// A row after a step that remembers it, or must execute it.
fn after(mut row: Forecast, found: Option<Remembered>, step: &Step) -> Option<Forecast> {
    match found {
        None => Some(row.executed(step)),
        Some(Remembered::Keep(cells)) => {
            if !cells.is_empty() {
                let cells = step.contract.writes.iter().zip(cells).map(|((name, _), cell)| (name.clone(), cell));
                Arc::make_mut(&mut row.cells).extend(cells);
            }
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
            Ok(Row { id: row.id.to_string(), cells })
        })
        .collect()
}

/// Stands in for a column that nobody reads: it enters no key.
fn unread_column() -> Digest {
    Digest::of(b"a column that nobody reads")
}

/// Stands in for a dataset that is not made yet where only its presence matters.
pub(super) fn empty_dataset(schema: Schema) -> Artifact {
    Artifact::unstored(Manifest::Dataset(DatasetManifest::new(schema, Vec::new())))
}
