//! What a run would do, and how many rows it would execute, without doing it.
//!
//! The plan looks up the same keys as a run. Where a step's result is not there, it goes on with a forecast of its output: rows that
//! are remembered are known, those that must execute are taken to stay, with the cells they will get unknown.

mod estimate;
mod forecast;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use pipe_cache::Key;
use serde::Serialize;

use crate::cell::Schema;
use crate::event::RowCounts;
use crate::graph::{Graph, Step};
use crate::problem::Failure;
use crate::recipe;
use crate::run::evaluate::{ancestor, find, lineage, prepare, row_recipe};
use crate::run::table::Table;
use crate::run::{Artifact, Context, RowScanner, StepResult};
use crate::stage::{Execute, Reads};
use crate::step::{Ancestor, Inputs};

pub use estimate::Estimate;
use forecast::Rows;

/// What a run would do.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The pipeline's name.
    pub pipeline: String,
    /// Its steps, in order.
    pub steps: Vec<StepPlan>,
    /// How long it would take, where that was asked for ([`Plan::estimate`]) and something would execute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Estimate>,
}

/// What a run would do with one step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepPlan {
    /// The step.
    pub step: String,
    /// Its stage.
    pub stage: &'static str,
    /// What would be done.
    pub action: Action,
    /// Why, in words.
    pub reason: String,
    /// Rows, where they can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<PlannedRows>,
    /// Seconds it would take, where past executions tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Things worth saying that stop nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What would be done with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Nothing: its result is there.
    Reuse,
    /// Its result follows from what is remembered: no row executes.
    Assemble,
    /// It would execute.
    Run,
}

/// The rows of a step that would execute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedRows {
    /// Rows it would be given.
    pub total: u64,
    /// Rows it would execute; where `exact` is false, if every row that is not certain stays and no two are the same.
    pub execute: u64,
    /// Whether both are certain.
    pub exact: bool,
}

impl Plan {
    /// Whether nothing would execute.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.steps.iter().all(|step| step.action != Action::Run)
    }
}

/// What is known of an output.
enum Output {
    Known(Artifact),
    /// What it will be, as far as anyone reads it; it is not made yet.
    Told(Artifact),
    Rows(Rows),
    Unknown,
}

/// Plans the steps of `wanted` (a mask over the graph's steps).
///
/// # Errors
/// When the store cannot be read.
pub fn plan(graph: &Graph, wanted: &[bool], context: &Context<'_>) -> Result<Plan, Failure> {
    let read = columns_read(graph);
    let taken = taken(graph, wanted);
    let mut planner = Planner { graph, context, read, taken, outputs: Vec::new(), ancestors: Vec::new() };
    let mut steps: Vec<StepPlan> = Vec::new();
    let mut memories: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (at, step) in graph.steps.iter().enumerate() {
        if !wanted[at] {
            planner.outputs.push(unknown(step));
            planner.ancestors.push(None);
            continue;
        }
        let (mut planned, outputs) = planner.step(at, step)?;
        planned.notes.clone_from(&step.contract.notes);
        if planned.rows.is_some_and(|rows| rows.execute > 0) {
            memories.entry(planner.memory(step)).or_default().push(steps.len());
        }
        steps.push(planned);
        planner.outputs.push(outputs);
    }
    for at in memories.into_values().filter(|sharing| sharing.len() > 1).flatten() {
        // What one of them executes, another finds remembered.
        steps[at].rows = steps[at].rows.map(|rows| PlannedRows { exact: false, ..rows });
    }
    Ok(Plan { pipeline: graph.name.clone(), steps, estimate: None })
}

/// The columns that any step reads: the only ones a forecast carries.
fn columns_read(graph: &Graph) -> BTreeSet<&str> {
    let mut read = BTreeSet::new();
    for (step, edge) in graph.steps.iter().flat_map(|step| step.inputs.iter().map(move |edge| (step, edge))) {
        let whole = graph.steps[edge.step].output(&edge.output).and_then(|output| output.schema.as_ref());
        match step.contract.reads.get(&edge.port) {
            Some(Reads::Columns(columns)) => read.extend(columns.iter().map(String::as_str)),
            _ => read.extend(whole.into_iter().flat_map(Schema::names)),
        }
    }
    read
}

/// The steps that one of those wanted takes from.
fn taken(graph: &Graph, wanted: &[bool]) -> Vec<bool> {
    let mut taken = vec![false; graph.steps.len()];
    for (step, _) in graph.steps.iter().zip(wanted).filter(|(_, wanted)| **wanted) {
        step.upstream().for_each(|from| taken[from] = true);
    }
    taken
}

/// What is known of rows: all, where every chunk is.
fn told(rows: Rows) -> Output {
    rows.known().map_or(Output::Rows(rows), Output::Told)
}

impl Output {
    const fn artifact(&self) -> Option<&Artifact> {
        match self {
            Self::Known(artifact) | Self::Told(artifact) => Some(artifact),
            Self::Rows(_) | Self::Unknown => None,
        }
    }
}

struct Planner<'a> {
    graph: &'a Graph,
    context: &'a Context<'a>,
    /// See [`columns_read`].
    read: BTreeSet<&'a str>,
    /// Whether anyone takes what a step gives; what nobody takes is not forecast.
    taken: Vec<bool>,
    /// What each step gives, by step and output.
    outputs: Vec<Vec<Output>>,
    /// The steps whose result is there, as their descendants name them.
    ancestors: Vec<Option<Ancestor>>,
}

type Planned = (StepPlan, Vec<Output>);

impl Planner<'_> {
    fn step(&mut self, at: usize, step: &Step) -> Result<Planned, Failure> {
        self.ancestors.push(None);
        let changed = self.inputs_that(step, |output| output.artifact().is_none());
        let made = self.inputs_that(step, |output| matches!(output, Output::Told(_)));
        // What a row or table step does to rows that are not put together yet, its memory tells.
        if changed.is_empty() && (made.is_empty() || !step.stage.execute.transforms()) {
            return self.with_known_inputs(at, step);
        }
        let reason = match changed.is_empty() {
            true => format!("{} will be put together anew", made.join(" and ")),
            false => format!("{} will change", changed.join(" and ")),
        };
        match step.stage.execute {
            Execute::Rows(_) | Execute::TorchRows => self.rows(at, step, &reason),
            Execute::Table(_) => Ok(self.table(step, &reason)),
            _ => Ok((planned(step, Action::Run, &reason), unknown(step))),
        }
    }

    fn with_known_inputs(&mut self, at: usize, step: &Step) -> Result<Planned, Failure> {
        let inputs = self.known_inputs(step);
        let lineage = lineage(self.graph, at, |from| self.ancestors[from].clone());
        let prepared = prepare(step, &inputs, lineage, &self.context.workers.setup().device);
        if let Some(result) = find(step, &prepared, self.context.store)? {
            self.ancestors[at] = Some(ancestor(step, &result));
            return Ok(reuse(step, result));
        }
        let reason = "no result of this recipe is recorded";
        match step.stage.execute {
            Execute::Rows(_) | Execute::TorchRows => self.rows(at, step, reason),
            Execute::Table(_) => Ok(self.table(step, reason)),
            Execute::Source(_) => Ok(self.source(step)),
            _ => Ok((planned(step, Action::Run, reason), unknown(step))),
        }
    }

    /// A source that reads local files only is read to see what it would give.
    fn source(&self, step: &Step) -> Planned {
        let moving = step.resolution.as_ref().and_then(|resolution| resolution.moving.as_ref());
        let plan = match moving.filter(|moving| !moving.is_pinned) {
            Some(moving) => planned(step, Action::Run, &format!("{} has no pin yet", moving.source)),
            None => planned(step, Action::Run, "the source is new or changed"),
        };
        let Some(mut ports) = forecast::read_source(step, self.context, &self.read) else {
            return (plan, unknown(step));
        };
        let outputs = step.outputs.iter().map(|o| ports.remove(&o.port).map_or(Output::Unknown, told)).collect();
        (plan, outputs)
    }

    /// A row step whose result is not there: looks up every row.
    fn rows(&self, at: usize, step: &Step, reason: &str) -> Result<Planned, Failure> {
        let mut plan = planned(step, Action::Run, reason);
        let Some(input) = self.primary_rows(step) else { return Ok((plan, unknown(step))) };
        let total = input.len();
        let certain = input.is_certain();
        let primary = step.primary_port();
        let mut others = step.inputs.iter().filter(|edge| edge.port != primary);
        let others_known = others.all(|edge| self.output(edge).artifact().is_some());
        let (outputs, missing) = if others_known {
            let scanner = RowScanner::new(step, self.memory(step), self.context.store)?;
            match self.taken[at] {
                true => {
                    let (rows, missing) =
                        input.into_owned().through_row_step(step, &scanner, self.context.store, &self.read)?;
                    (vec![told(rows)], missing)
                }
                false => (unknown(step), input.missing_in_row_step(step, &scanner)?),
            }
        } else {
            let (rows, missing) = input.into_owned().through_unknown(step, self.context.store, &self.read)?;
            (vec![told(rows)], missing)
        };
        let exact = certain && missing.is_exact();
        plan.rows = Some(PlannedRows { total, execute: missing.rows, exact });
        if missing.rows == 0 && certain {
            plan.action = Action::Assemble;
        }
        Ok((plan, outputs))
    }

    /// A table step whose result is not there: it is cheap enough to be tried, if all it reads is known.
    fn table(&self, step: &Step, reason: &str) -> Planned {
        let mut plan = planned(step, Action::Run, reason);
        let Some(input) = self.primary_rows(step) else { return (plan, unknown(step)) };
        let (total, certain) = (input.len(), input.is_certain());
        plan.rows = Some(PlannedRows { total, execute: total, exact: false });
        let setup = (self.context.store, self.memory(step));
        let tried = Table::new(step, &Inputs::new(), input.schema(), setup)
            .and_then(|table| input.into_owned().through_table_step(step, &table, self.context.store, &self.read));
        let Ok((ports, missing)) = tried else { return (plan, unknown(step)) };
        plan.rows = Some(PlannedRows { total, execute: missing.rows, exact: certain && missing.is_exact() });
        if missing.rows == 0 && certain {
            plan.action = Action::Assemble;
        }
        (plan, ports.into_iter().map(told).collect())
    }

    /// Names the row memory of a step; its recipe does not look at the rows themselves.
    fn memory(&self, step: &Step) -> Key {
        recipe::key(&row_recipe(step, &self.scannable_inputs(step), &self.context.workers.setup().device))
    }

    fn output(&self, edge: &crate::graph::Edge) -> &Output {
        let producer = &self.graph.steps[edge.step];
        let at = producer.outputs.iter().position(|output| output.port == edge.output);
        at.and_then(|at| self.outputs[edge.step].get(at)).unwrap_or(&Output::Unknown)
    }

    /// The inputs of which this holds, as the pipeline names them.
    fn inputs_that(&self, step: &Step, holds: impl Fn(&Output) -> bool) -> Vec<String> {
        let mut names: Vec<String> =
            step.inputs.iter().filter(|edge| holds(self.output(edge))).map(|edge| format!("`{}`", edge.from)).collect();
        names.dedup();
        names
    }

    fn known_inputs(&self, step: &Step) -> Vec<Artifact> {
        step.inputs.iter().filter_map(|edge| self.output(edge).artifact().cloned()).collect()
    }

    /// Inputs for a row recipe, which does not look at the first: a forecast one is stood in for by an empty dataset.
    fn scannable_inputs(&self, step: &Step) -> Vec<Artifact> {
        let stand_in = || forecast::empty_dataset(Schema::default());
        step.inputs.iter().map(|edge| self.output(edge).artifact().cloned().unwrap_or_else(stand_in)).collect()
    }

    /// The rows a row or table step works on, as far as they are known.
    fn primary_rows(&self, step: &Step) -> Option<Cow<'_, Rows>> {
        debug_assert!(step.stage.execute.transforms());
        let port = step.primary_port();
        let edge = step.inputs.iter().find(|edge| edge.port == port)?;
        match self.output(edge) {
            Output::Known(artifact) | Output::Told(artifact) => {
                artifact.manifest.as_dataset().map(|dataset| Cow::Owned(Rows::of(dataset)))
            }
            Output::Rows(rows) => Some(Cow::Borrowed(rows)),
            Output::Unknown => None,
        }
    }
}

fn reuse(step: &Step, result: StepResult) -> Planned {
    let mut plan = planned(step, Action::Reuse, "");
    plan.rows = result.report.rows.map(|RowCounts { total, .. }| PlannedRows { total, execute: 0, exact: true });
    let mut found = result.outputs;
    let outputs = step.outputs.iter().map(|o| found.remove(&o.port).map_or(Output::Unknown, Output::Known)).collect();
    (plan, outputs)
}

fn planned(step: &Step, action: Action, reason: &str) -> StepPlan {
    StepPlan {
        step: step.name.clone(),
        stage: step.stage.name,
        action,
        reason: reason.to_owned(),
        rows: None,
        seconds: None,
        notes: Vec::new(),
    }
}

fn unknown(step: &Step) -> Vec<Output> {
    step.outputs.iter().map(|_| Output::Unknown).collect()
}
