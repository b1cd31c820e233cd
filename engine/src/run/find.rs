//! Looking at what was done, without doing anything.

use pipe_cache::{ActionRecord, Store};

use super::evaluate::{Prepared, find, lineage, prepare};
use super::step::{LeftOut, rows_left_out};
use super::{Artifact, Context, StepResult};
use crate::artifact::store_failure;
use crate::graph::{Graph, Step};
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

/// The results of a pipeline as it stands; `None` for steps that have none.
///
/// # Errors
/// When the store cannot be read.
pub fn find_all(graph: &Graph, context: &Context<'_>) -> Result<Vec<Option<Found>>, Failure> {
    let mut found: Vec<Option<Found>> = Vec::new();
    for (at, step) in graph.steps.iter().enumerate() {
        let inputs: Option<Vec<Artifact>> = step
            .inputs
            .iter()
            .map(|edge| found[edge.step].as_ref()?.result.outputs.get(&edge.output).cloned())
            .collect();
        found.push(match inputs {
            Some(inputs) => {
                let lineage =
                    lineage(graph, at, |from| found[from].as_ref().map(|found| found.result.ancestor.clone()));
                find_one(step, &inputs, lineage, context)?
            }
            None => None,
        });
    }
    Ok(found)
}

fn find_one(
    step: &Step,
    inputs: &[Artifact],
    lineage: Vec<Ancestor>,
    context: &Context<'_>,
) -> Result<Option<Found>, Failure> {
    let prepared = prepare(step, inputs, lineage, &context.workers.setup().device);
    let Some(result) = find(step, &prepared, context.store)? else { return Ok(None) };
    let record = context.store.lookup(&prepared.key).map_err(store_failure)?;
    Ok(record.map(|record| Found { prepared, result, record }))
}
