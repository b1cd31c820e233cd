//! Looking at what was done, without doing anything.

use pipe_cache::{ActionRecord, Store};

use super::evaluate::{self, Prepared, ancestor, find, forget, is_complete, lineage, prepare};
use super::step::{LeftOut, rows_left_out};
use super::{Artifact, Context, StepResult};
use crate::artifact::store_failure;
use crate::graph::{Edge, Graph, Step};
use crate::problem::Failure;
use crate::step::Ancestor;

/// A step whose result is there.
pub struct Found {
    /// Its recipe, key and inputs.
    pub prepared: Prepared,
    /// What it gave.
    pub result: StepResult,
    /// The record of its execution.
    pub record: ActionRecord,
}

impl Found {
    /// The rows the step did not keep, with why.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn left_out(&self, step: &Step, store: &Store) -> Result<Vec<LeftOut>, Failure> {
        rows_left_out(step, &self.prepared, &self.record, store)
    }
}

/// Where a step of a pipeline stands.
pub struct Standing {
    /// What its inputs hold, in the order of its edges; `None` where that is not known before another step has run.
    pub inputs: Vec<Option<Artifact>>,
    /// Its recipe, where every input is known.
    pub recipe: Option<String>,
    /// Its result, where it is there.
    pub found: Option<Found>,
}

/// The results of a pipeline as it stands; `None` for steps that have none.
///
/// # Errors
/// When the store cannot be read.
pub fn find_all(graph: &Graph, context: &Context<'_>) -> Result<Vec<Option<Found>>, Failure> {
    Ok(survey(graph, context)?.into_iter().map(|standing| standing.found).collect())
}

/// Where every step of a pipeline stands.
///
/// # Errors
/// When the store cannot be read.
pub fn survey(graph: &Graph, context: &Context<'_>) -> Result<Vec<Standing>, Failure> {
    let mut standings: Vec<Standing> = Vec::new();
    for (at, step) in graph.steps.iter().enumerate() {
        let output = |edge: &Edge| standings[edge.step].found.as_ref()?.result.outputs.get(&edge.output).cloned();
        let inputs: Vec<Option<Artifact>> = step.inputs.iter().map(output).collect();
        let known: Option<Vec<Artifact>> = inputs.iter().cloned().collect();
        let (recipe, found) = match known {
            Some(known) => {
                let found = |from: usize| {
                    let found: &Found = standings[from].found.as_ref()?;
                    Some(ancestor(&graph.steps[from], &found.result))
                };
                find_one(step, &known, lineage(graph, at, found), context)?
            }
            None => (None, None),
        };
        standings.push(Standing { inputs, recipe, found });
    }
    Ok(standings)
}

fn find_one(
    step: &Step,
    inputs: &[Artifact],
    lineage: Vec<Ancestor>,
    context: &Context<'_>,
) -> Result<(Option<String>, Option<Found>), Failure> {
    let prepared = prepare(step, inputs, lineage, &context.workers.setup().device);
    let recipe = Some(prepared.recipe.clone());
    let Some(result) = find(step, &prepared, context.store)? else { return Ok((recipe, None)) };
    let record = context.store.lookup(&prepared.key).map_err(store_failure)?;
    Ok((recipe, record.map(|record| Found { prepared, result, record })))
}

/// Reads everything that a step gave. Results that turn out to be damaged or incomplete, its own or of a step it depends on, are
/// forgotten, so that the next run makes them again.
pub fn examine(graph: &Graph, at: usize, found: &[Option<Found>], context: &Context<'_>) {
    let artifacts = |at: usize| found[at].iter().flat_map(|found| found.result.outputs.values());
    artifacts(at).for_each(|artifact| evaluate::examine(context.store, context.index, &artifact.manifest));
    let mut concerned = vec![false; graph.steps.len()];
    concerned[at] = true;
    for at in (0..=at).rev() {
        if concerned[at] {
            graph.steps[at].upstream().for_each(|from| concerned[from] = true);
        }
        let broken = concerned[at] && artifacts(at).any(|artifact| !is_complete(context.store, &artifact.manifest));
        if let (true, Some(found)) = (broken, &found[at]) {
            forget(&graph.steps[at], &found.prepared.inputs, found.prepared.lineage.clone(), context);
        }
    }
}
