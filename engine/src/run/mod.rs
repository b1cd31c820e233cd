//! Running a graph: what a run has, what it gives, and its beginning and end.

mod again;
mod ask;
mod credentials;
mod differ;
pub(crate) mod evaluate;
mod executor;
mod find;
mod ingest;
mod judge;
pub(crate) mod preview;
mod queue;
mod quiet;
pub(crate) mod rehearsal;
mod room;
pub(crate) mod rows;
mod schedule;
mod sink;
mod step;
pub(crate) mod table;
pub(crate) mod transform;
mod waits;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use pipe_cache::{Digest, Key, StatIndex, Store};

use crate::artifact::{Manifest, store_failure};
use crate::event::{Event, Events, StepReport};
use crate::graph::Graph;
use crate::lock::LockedSteps;
use crate::problem::Failure;
use crate::source::Credentials;
use crate::worker::client::{Cancel, Workers};
use schedule::Scheduler;

pub use again::{Again, Sample, Size, again};
pub use ask::{Answers, Pinned, ask};
pub use credentials::missing_credentials;
pub use differ::Difference;
pub(crate) use evaluate::BOOKKEEPING;
pub use evaluate::{Evaluation, Prepared};
pub use find::{Found, Standing, examine, find_all, survey};
pub use queue::Limits;
pub use quiet::Quiet;
pub(crate) use rows::{ChunkScan, ROW_RECIPE, RowScanner};
pub use schedule::ENDING;
pub use step::LeftOut;
pub(crate) use transform::DELTA;

/// What a run has at its disposal.
pub struct Context<'a> {
    /// Where results lie.
    pub store: &'a Store,
    /// The torch worker.
    pub workers: &'a Workers,
    /// Digests of local files, as planning found them.
    pub index: &'a StatIndex,
    /// The directory of the pipeline file.
    pub base: &'a Path,
    /// Tokens and endpoints.
    pub credentials: &'a Credentials,
    /// Where to tell what happens.
    pub events: &'a Events<'a>,
    /// Set to end the run early.
    pub cancel: &'a Cancel,
    /// Go on with what does not depend on a failed step.
    pub keep_going: bool,
    /// What steps may occupy together.
    pub limits: Limits,
    /// What every step must be and give, if the run is to keep to a lock.
    pub locked: Option<&'a LockedSteps>,
}

/// What an artifact is and holds.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// Its name.
    pub digest: Digest,
    /// Its manifest.
    pub manifest: Arc<Manifest>,
}

impl Artifact {
    /// An artifact whose manifest is stored now.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn store(manifest: Manifest, store: &Store) -> Result<Self, Failure> {
        Ok(Self { digest: manifest.store(store)?, manifest: Arc::new(manifest) })
    }

    /// An artifact as it would be called, stored or not.
    #[must_use]
    pub fn unstored(manifest: Manifest) -> Self {
        Self { digest: Digest::of(&manifest.encode()), manifest: Arc::new(manifest) }
    }
}

/// What a step gave.
#[derive(Clone, Debug)]
pub struct StepResult {
    /// Artifacts by port.
    pub outputs: BTreeMap<String, Artifact>,
    /// Its key.
    pub key: Key,
    /// What it did.
    pub report: StepReport,
    /// What was measured while it executed, in this run or an earlier one.
    pub measures: BTreeMap<String, f64>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Summary {
    /// What each step gave, by name, as far as the run came.
    pub results: BTreeMap<String, StepResult>,
    /// Steps that failed, with why.
    pub failures: Vec<(String, Failure)>,
    /// Steps that were not tried.
    pub skipped: Vec<String>,
    /// Whether the user ended it.
    pub interrupted: bool,
}

impl Summary {
    /// Whether everything asked for is there.
    #[must_use]
    pub const fn complete(&self) -> bool {
        self.failures.is_empty() && self.skipped.is_empty() && !self.interrupted
    }
}

/// Runs the steps of `wanted` (a mask over the graph's steps).
#[must_use]
pub fn run(graph: &Graph, wanted: &[bool], context: &Context<'_>) -> Summary {
    run_anew(graph, wanted, &vec![false; graph.steps.len()], context)
}

/// The same; the steps of `anew` execute although their results are there, with nothing remembered. What they give takes the place of
/// what was recorded, and is compared with it.
#[must_use]
pub fn run_anew(graph: &Graph, wanted: &[bool], anew: &[bool], context: &Context<'_>) -> Summary {
    let started = Instant::now();
    let steps =
        graph.steps.iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(step, _)| step.name.clone()).collect();
    context.events.tell(&Event::RunStarted {
        run: context.events.run().to_owned(),
        pipeline: graph.name.clone(),
        steps,
        origin: Box::new(context.events.origin().clone()),
    });
    let mut scheduler = Scheduler::new(graph, wanted, anew, context);
    scheduler.run();
    let mut summary = scheduler.summary();
    if let Err(failure) = context.store.finish().map_err(store_failure) {
        summary.failures.push(("store".to_owned(), failure));
    }
    let executed = summary.results.values().filter(|result| result.report.executed).count();
    context.events.tell(&Event::RunFinished {
        run: context.events.run().to_owned(),
        executed,
        reused: summary.results.len() - executed,
        failed: summary.failures.len() + summary.skipped.len(),
        seconds: started.elapsed().as_secs_f64(),
        interrupted: summary.interrupted,
    });
    summary
}

/// A directory of this attempt alone, removed when the attempt ends.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now goes with the process's own directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
