//! Why a step would run, or did: its recipe against an earlier one of the same step, line by line, and what changed upstream.
//!
//! Compares the texts that keys are made of, so it cannot tell anything but what decided.

mod lines;
mod past;
mod source;

use pipe_cache::{Digest, Key, Store};
use serde::Serialize;

use crate::artifact::{Manifest, store_failure};
use crate::compare::{self, RowChanges};
use crate::dataset::load_column;
use crate::graph::{Edge, Graph, Step};
use crate::history::{History, Run};
use crate::plan::{self, Action, PlannedRows};
use crate::problem::Failure;
use crate::recipe;
use crate::run::evaluate::partial_recipe;
use crate::run::{Context, Standing, survey};
use crate::source_list::{FileChanges, SourceList};
use crate::stage::{DATASET, Reads};

pub use lines::{Change, Fact, diff as lines_that_differ};
use past::Past;

/// Why a step would run, or did.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The step.
    pub step: String,
    /// What a run would do with it.
    pub action: Action,
    /// The rows it would execute, where they can be told.
    pub rows: Option<PlannedRows>,
    /// Its key, where its inputs are known.
    pub key: Option<Key>,
    /// The run that made the result it has.
    pub made_by: Option<String>,
    /// Whether a run of this pipeline had a result of it.
    pub ran: bool,
    /// What it is compared with; `None` where no earlier result of it is known.
    pub compared_with: Option<Compared>,
    /// From the step to each first cause, by names of steps.
    pub chains: Vec<Vec<String>>,
    /// The steps on the way: what changed in each.
    pub steps: Vec<Node>,
}

/// An earlier result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// The key.
    pub key: Key,
    /// The run that had it.
    pub run: String,
    /// When that run began, in seconds since 1970.
    pub started: f64,
}

/// What changed in a step.
#[derive(Clone, Debug, Serialize)]
pub struct Node {
    /// The step.
    pub step: String,
    /// Its stage.
    pub stage: &'static str,
    /// How it stands.
    pub state: State,
    /// The facts of its recipe that differ.
    pub changes: Vec<Change>,
    /// The local files that differ, for sources whose earlier files are known.
    pub files: Option<FileChanges>,
    /// The rows that differ, of inputs that changed and of what sources give.
    pub rows: Vec<Rows>,
    /// Inputs whose content is not known yet.
    pub waits: Vec<Wait>,
}

/// How a step stands against its earlier result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The same recipe, whose result is there.
    Same,
    /// The same recipe, but its result is gone from the store.
    Gone,
    /// Another recipe.
    Changed,
    /// Nothing of its own changed; what it reads may have.
    Waiting,
    /// There is no earlier result.
    New,
}

/// Rows that differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rows {
    /// The output they are of, as a pipeline names it.
    pub of: String,
    /// The output they were of before, where that was another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_before: Option<String>,
    /// How they differ, in the columns that are read.
    #[serde(flatten)]
    pub changes: RowChanges,
}

/// An input that is not known yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// The port.
    pub port: String,
    /// The output it takes, as the pipeline names it.
    pub from: String,
    /// The step that must run first.
    pub step: String,
}

/// Explains the step at `at`.
///
/// # Errors
/// When the store cannot be read.
pub fn explain(graph: &Graph, at: usize, context: &Context<'_>) -> Result<Explanation, Failure> {
    let step = &graph.steps[at];
    let wanted = graph.select(std::slice::from_ref(&step.name)).map_err(|e| Failure::internal(e.to_string()))?;
    let plan = plan::plan(graph, &wanted, context)?;
    let planned = plan.steps.into_iter().find(|planned| planned.step == step.name);
    let standings = survey(graph, context)?;
    let key = standings[at].recipe.as_deref().map(recipe::key);
    let history = History::open(context.store)?;
    let past = earlier(graph, at, &standings[at], &history, context.store);
    let ran = past.is_some() || past::is_in_a_run(&history, &graph.name, &step.name);
    let made_by = standings[at].found.as_ref().map(|found| found.record.run.clone()).filter(|run| !run.is_empty());
    let compared_with =
        past.as_ref().map(|past| Compared { key: past.key, run: past.run.run.clone(), started: past.run.started });
    let run = past.as_ref().map(|past| past.run.clone());
    let mut search = Search {
        graph,
        context,
        standings: &standings,
        run,
        seen: vec![false; at + 1],
        explanation: Vec::new(),
        chains: Vec::new(),
    };
    search.visit(at, past, &mut Vec::new())?;
    let (action, rows) = planned.map_or((Action::Run, None), |planned| (planned.action, planned.rows));
    let (chains, steps) = (search.chains, search.explanation);
    Ok(Explanation { step: step.name.clone(), action, rows, key, made_by, ran, compared_with, chains, steps })
}

/// What a step is compared with.
fn earlier(graph: &Graph, at: usize, standing: &Standing, history: &History<'_>, store: &Store) -> Option<Past> {
    let now = standing.recipe.as_deref().map(recipe::key);
    // A result that was recorded under the present key and is gone explains itself.
    let lost = standing.found.is_none().then_some(now).flatten();
    let differs_from = if lost.is_some() { None } else { now };
    past::last(history, store, (&graph.name, &graph.steps[at].name), differs_from)
}

fn recipe_now(step: &Step, standing: &Standing, context: &Context<'_>) -> String {
    let device = &context.workers.setup().device;
    standing.recipe.clone().unwrap_or_else(|| partial_recipe(step, &standing.inputs, device))
}

/// Walks from a step to what changed first.
struct Search<'a> {
    graph: &'a Graph,
    context: &'a Context<'a>,
    standings: &'a [Standing],
    /// The run that everything is compared with.
    run: Option<Run>,
    seen: Vec<bool>,
    explanation: Vec<Node>,
    chains: Vec<Vec<String>>,
}

impl Search<'_> {
    fn visit(&mut self, at: usize, past: Option<Past>, path: &mut Vec<String>) -> Result<(), Failure> {
        let step = &self.graph.steps[at];
        path.push(step.name.clone());
        if !std::mem::replace(&mut self.seen[at], true) {
            let (node, mut upstream) = self.node(at, past.as_ref())?;
            if node.state == State::Same && path.len() > 1 && step.stage.execute.transforms() {
                // What it hands on without reading it changed further up.
                upstream.extend(step.inputs.iter().find(|edge| edge.port == step.primary_port()).map(|edge| edge.step));
            }
            let own = node.changes.iter().any(|change| !matches!(change.fact, Fact::Input { .. } | Fact::From { .. }));
            let unchanged = node.state == State::Same && path.len() == 1;
            if (own || upstream.is_empty()) && !unchanged {
                self.chains.push(path.clone());
            }
            self.explanation.push(node);
            for from in upstream {
                let past = self.past_of(from);
                self.visit(from, past, path)?;
            }
        }
        path.pop();
        Ok(())
    }

    /// What a step upstream was in the run that is compared with.
    fn past_of(&self, at: usize) -> Option<Past> {
        let run = self.run.as_ref()?;
        let key = run.step(&self.graph.steps[at].name)?.key?;
        let recipe = past::recipe(self.context.store, &key)?;
        Some(Past { run: run.clone(), key, recipe })
    }

    /// What changed in a step, and the steps to look at next.
    fn node(&self, at: usize, past: Option<&Past>) -> Result<(Node, Vec<usize>), Failure> {
        let (step, standing) = (&self.graph.steps[at], &self.standings[at]);
        let mut node = Node {
            step: step.name.clone(),
            stage: step.stage.name,
            state: State::New,
            changes: Vec::new(),
            files: None,
            rows: Vec::new(),
            waits: Vec::new(),
        };
        let Some(past) = past else { return Ok((node, Vec::new())) };
        let now = recipe_now(step, standing, self.context);
        node.changes = lines::diff(&past.recipe, &now);
        let mut upstream = self.changed_inputs(step, standing, &mut node)?;
        if standing.recipe.is_some() {
            upstream.extend(self.changed_lineage(at, &node));
        }
        let partial = standing.recipe.is_none();
        let unknown = |fact: &Fact| {
            let mut inputs = step.inputs.iter().zip(&standing.inputs);
            partial && matches!(fact, Fact::From { .. })
                || inputs.any(|(edge, input)| input.is_none() && is_of(fact, edge))
        };
        node.changes.retain(|change| !unknown(&change.fact));
        if node.changes.iter().any(|change| change.fact == Fact::Source) {
            self.add_source(step, standing, past, &mut node)?;
        }
        node.state = match () {
            () if !node.changes.is_empty() => State::Changed,
            () if !node.waits.is_empty() => State::Waiting,
            () if standing.found.is_some() => State::Same,
            () => State::Gone,
        };
        Ok((node, upstream))
    }

    /// Adds what is known of the inputs that changed; gives the steps to look at for why.
    fn changed_inputs(&self, step: &Step, standing: &Standing, node: &mut Node) -> Result<Vec<usize>, Failure> {
        let mut upstream = Vec::new();
        for (edge, input) in step.inputs.iter().zip(&standing.inputs) {
            let changed = node.changes.iter().find(|change| is_of(&change.fact, edge)).cloned();
            match (input, changed) {
                (None, _) => {
                    let from = self.graph.steps[edge.step].name.clone();
                    node.waits.push(Wait { port: edge.port.clone(), from: edge.from.clone(), step: from });
                }
                (Some(artifact), Some(change)) => {
                    let before = change.before.as_deref().and_then(|text| self.artifact_of(edge, text));
                    // What was taken from another step before changed here, not there.
                    let rewired = before.as_ref().is_some_and(|(from, _)| *from != edge.from);
                    node.rows.extend(self.input_rows(step, edge, &artifact.manifest, before)?);
                    if rewired {
                        continue;
                    }
                }
                (Some(_), None) => continue,
            }
            if !upstream.contains(&edge.step) {
                upstream.push(edge.step);
            }
        }
        Ok(upstream)
    }

    /// A step that tells of the steps that led to it changes with them, even where they gave the same.
    fn changed_lineage(&self, at: usize, node: &Node) -> Vec<usize> {
        let told = node.changes.iter().filter_map(|change| match &change.fact {
            Fact::From { step } => self.graph.find(step),
            _ => None,
        });
        told.filter(|from| *from < at).collect()
    }

    /// The rows of an input that changed, where the dataset that was read before is still known.
    fn input_rows(
        &self,
        step: &Step,
        edge: &Edge,
        now: &Manifest,
        before: Option<(String, Manifest)>,
    ) -> Result<Option<Rows>, Failure> {
        let (Some(now), Some((from, Manifest::Dataset(before)))) = (now.as_dataset(), before) else { return Ok(None) };
        let columns = match step.contract.reads.get(&edge.port) {
            Some(Reads::Columns(columns)) => Some(columns.as_slice()),
            _ => None,
        };
        let read = |digest: &Digest| load_column(self.context.store, digest);
        let changes = compare::rows(&before, now, columns, &read)?;
        Ok(Some(Rows { of: edge.from.clone(), taken_before: Some(from).filter(|from| *from != edge.from), changes }))
    }

    /// The artifact of the earlier run whose projection a line of a recipe names: of the same output, or of another.
    fn artifact_of(&self, edge: &Edge, projection: &str) -> Option<(String, Manifest)> {
        let reads = reads_of(projection)?;
        let run = self.run.as_ref()?;
        let producer = &self.graph.steps[edge.step].name;
        let mut outputs: Vec<(&str, &str, &Digest)> = run
            .steps
            .iter()
            .flat_map(|step| step.outputs.iter().map(|(port, digest)| (step.step.as_str(), port.as_str(), digest)))
            .collect();
        outputs.sort_by_key(|(step, port, _)| (*step != producer.as_str(), *port != edge.output));
        outputs.into_iter().find_map(|(step, port, digest)| {
            let manifest = Manifest::load(self.context.store, digest).ok()?;
            let same = manifest.projection(digest, &reads) == projection;
            let single = run.step(step).is_some_and(|step| step.outputs.len() == 1);
            let name = match () {
                () if step == producer && port == edge.output => edge.from.clone(),
                () if single => step.to_owned(),
                () => format!("{step}.{port}"),
            };
            same.then_some((name, manifest))
        })
    }

    /// The files and rows of a source that differ.
    fn add_source(&self, step: &Step, standing: &Standing, past: &Past, node: &mut Node) -> Result<(), Failure> {
        let store = self.context.store;
        let Some(record) = store.peek(&past.key).map_err(store_failure)? else { return Ok(()) };
        if let (Some(before), Some(resolution)) = (SourceList::load(store, &record)?, &step.resolution) {
            node.files = Some(SourceList::of(&resolution.files).since(&before));
        }
        let unstored = if standing.found.is_none() { source::read(step, self.context) } else { None };
        for output in step.outputs.iter().filter(|output| output.kind == DATASET) {
            let before = record.outputs.get(&output.port).and_then(|digest| Manifest::load(store, digest).ok());
            let Some(before) = before.as_ref().and_then(Manifest::as_dataset) else { continue };
            let stored = standing.found.as_ref().and_then(|found| found.result.outputs.get(&output.port));
            let changes = match (stored.and_then(|artifact| artifact.manifest.as_dataset()), &unstored) {
                (Some(now), _) => compare::rows(before, now, None, &|digest| load_column(store, digest))?,
                (None, Some(read)) => {
                    let Some(now) = read.get(&output.port) else { continue };
                    let column = |digest: &Digest| {
                        now.columns.get(digest).cloned().map_or_else(|| load_column(store, digest), Ok)
                    };
                    compare::rows(before, &now.manifest, None, &column)?
                }
                (None, None) => continue,
            };
            let of = if step.outputs.len() == 1 { step.name.clone() } else { format!("{}.{}", step.name, output.port) };
            node.rows.push(Rows { of, taken_before: None, changes });
        }
        Ok(())
    }
}

/// Whether a fact is what a recipe says of this edge.
fn is_of(fact: &Fact, edge: &Edge) -> bool {
    matches!(fact, Fact::Input { port, label } if *port == edge.port && label.as_ref().is_none_or(|label| *label == edge.label))
}

/// What was read, from the projection in a recipe: `DIGEST columns A, B of KIND`.
fn reads_of(projection: &str) -> Option<Reads> {
    let (_, rest) = projection.split_once(' ')?;
    let (what, _) = rest.rsplit_once(" of ")?;
    let names = |list: &str| list.split(", ").map(str::to_owned).collect();
    match what.split_once(' ') {
        Some(("columns", list)) => Some(Reads::Columns(names(list))),
        Some(("files", list)) => Some(Reads::Files(names(list))),
        _ => (what == "all").then_some(Reads::All),
    }
}
