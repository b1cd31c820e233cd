//! Where rows are executed: on the cores of this process, or by the torch worker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

use super::rows::stray;
use super::step::program_log;
use super::{Context, Scratch};
use crate::artifact::store_failure;
use crate::cell::{Row, Schema};
use crate::graph::Step;
use crate::problem::Failure;
use crate::recipe;
use crate::stage::{Execute, Load, Outcome, Place, RowStage};
use crate::step::{Inputs, Sink};
use crate::worker::frame::LoadRows;

/// Rows given to a CPU stage at once.
const CPU_BATCH: usize = 16;
/// Rows sent to the worker at once; it cuts them into batches itself and answers as they are done.
const WORKER_BATCH: usize = 256;

/// Where rows are executed.
pub(super) enum Executor<'a> {
    /// Dropped in this order: what it runs ends before its directory goes.
    Cpu {
        stage: Box<dyn RowStage>,
        _scratch: Scratch,
    },
    Torch {
        load: LoadRows,
        context: &'a Context<'a>,
    },
}

impl<'a> Executor<'a> {
    pub(super) fn new(
        step: &'a Step,
        inputs: &Inputs,
        schema: &Schema,
        context: &'a Context<'a>,
    ) -> Result<Self, Failure> {
        let columns = recipe::row_columns(step);
        let mut types = schema.clone();
        types.0.retain(|name, _| columns.contains(name));
        match step.stage.execute {
            Execute::Rows(load) => {
                let scratch = Scratch(context.store.scratch().map_err(store_failure)?);
                let log = program_log(step, context);
                let place = Place {
                    sources: step.resolution.as_ref().map_or(&[], |resolution| &resolution.files),
                    scratch: &scratch.0,
                    log: log.as_deref(),
                    threads: context.workers.setup().threads,
                    credentials: context.credentials,
                };
                let stage = load(&Load { params: &step.params, inputs, columns, schema: &types, place })?;
                Ok(Executor::Cpu { stage, _scratch: scratch })
            }
            _ => Ok(Executor::Torch {
                load: LoadRows {
                    step: step.name.clone(),
                    stage: step.stage.name.to_owned(),
                    params: step.params.clone(),
                    inputs: inputs.clone(),
                    columns: columns.to_vec(),
                    schema: types,
                },
                context,
            }),
        }
    }

    /// Rows to give it at once.
    pub(super) fn batch(&self) -> usize {
        match self {
            Self::Cpu { .. } => CPU_BATCH * 4 * rayon::current_num_threads(),
            Self::Torch { .. } => WORKER_BATCH,
        }
    }

    /// Ends what executing rows started, once each has its outcome.
    pub(super) fn finish(&self, sink: &dyn Sink) -> Result<(), Failure> {
        match self {
            Self::Torch { .. } => Ok(()),
            Self::Cpu { stage, .. } => stage.finish(sink),
        }
    }

    pub(super) fn run(
        &self,
        rows: &[Row],
        sink: &dyn Sink,
        emit: &mut dyn FnMut(Vec<(usize, Outcome)>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self {
            Self::Torch { load, context } => context.workers.rows(load, rows.to_vec(), sink, emit),
            Self::Cpu { stage, .. } => run_on_cores(stage.as_ref(), rows, sink, emit),
        }
    }
}

/// Gives the rows to all cores, part by part; what a part gave is kept at once, also where another fails.
fn run_on_cores(
    stage: &dyn RowStage,
    rows: &[Row],
    sink: &dyn Sink,
    emit: &mut dyn FnMut(Vec<(usize, Outcome)>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (sender, parts) = channel();
    let failed = AtomicBool::new(false);
    rayon::in_place_scope(|scope| {
        for (at, part) in rows.chunks(CPU_BATCH).enumerate() {
            let (sender, failed) = (sender.clone(), &failed);
            scope.spawn(move |_| {
                if !failed.load(Ordering::Relaxed) {
                    // The receiver is there until all parts are done.
                    let _ = sender.send((at * CPU_BATCH, part.len(), stage.run(part, sink)));
                }
            });
        }
        drop(sender);
        let mut all = Ok(());
        for (from, len, outcomes) in parts {
            let emitted = outcomes.and_then(|outcomes| match outcomes.len() == len {
                true => emit((from..).zip(outcomes).collect()),
                false => Err(stray()),
            });
            failed.fetch_or(emitted.is_err(), Ordering::Relaxed);
            all = all.and(emitted);
        }
        all
    })
}
