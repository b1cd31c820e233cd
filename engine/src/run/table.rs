//! Table steps: every chunk is shown once, then asked about.

use pipe_cache::Digest;

use super::Context;
use super::evaluate::Prepared;
use super::rows::Executed;
use super::transform::{self, Tally};
use crate::artifact::ID;
use crate::cell::Row;
use crate::dataset::view;
use crate::delta::{DeltaBuilder, Why};
use crate::graph::Step;
use crate::problem::Failure;
use crate::recipe;
use crate::stage::{Assignment, Load, TableStage};
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
    let columns = recipe::row_columns(step);
    let view = view(context.store, dataset, Some(columns))?;
    let mut stage = load(step, inputs, &view.schema)?;
    let names = cell_columns(step);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let total = 2 * view.rows;
    let mut done = 0;
    let mut advance = |rows: usize| {
        done += rows as u64;
        sink.progress(done, total, "");
        if sink.cancelled() { Err(Failure::interrupted()) } else { Ok(()) }
    };
    for rows in view.chunks(&names) {
        let rows = rows?;
        stage.scan(&rows)?;
        advance(rows.len())?;
    }
    let mut deltas: Vec<Vec<Digest>> = vec![Vec::new(); step.outputs.len()];
    let mut tally = Tally::default();
    for rows in view.chunks(&names) {
        let rows = rows?;
        let builders = assign(step, stage.as_mut(), &rows)?;
        for (port, builder) in builders.into_iter().enumerate() {
            let delta = builder.finish(context.store)?;
            if port == 0 {
                tally.add(&delta);
            } else {
                tally.add_kept(&delta);
            }
            deltas[port].push(delta.store(context.store)?);
        }
        advance(rows.len())?;
    }
    let outputs =
        step.outputs.iter().zip(&deltas).map(|(o, deltas)| transform::store_deltas(&o.port, deltas, context.store));
    let counts = tally.finish(dataset.rows());
    Ok(Executed { outputs: outputs.collect::<Result<_, _>>()?, counts, unfinished: false })
}

/// Sets up the stage of a table step.
pub(crate) fn load(step: &Step, inputs: &Inputs, schema: &crate::cell::Schema) -> Result<Box<dyn TableStage>, Failure> {
    let crate::stage::Execute::Table(load) = step.stage.execute else {
        return Err(Failure::internal(format!("`{}` is not a table stage", step.stage.name)));
    };
    load(&Load { params: &step.params, inputs, columns: &cell_columns(step), schema })
}

/// The columns whose cells the rows of a table stage hold: those it reads, but the id, which every row has.
pub(crate) fn cell_columns(step: &Step) -> Vec<String> {
    recipe::row_columns(step).iter().filter(|name| *name != ID).cloned().collect()
}

/// What a table stage does with the rows of a chunk, per output port.
fn assign<'a>(step: &'a Step, stage: &mut dyn TableStage, rows: &[Row]) -> Result<Vec<DeltaBuilder<'a>>, Failure> {
    let assignments = stage.assign(rows)?;
    if assignments.len() != rows.len() {
        return Err(Failure::internal(format!("a stage assigned {} of {} rows", assignments.len(), rows.len())));
    }
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
