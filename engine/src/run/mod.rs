//! Running a graph: which steps must execute, in what order, within which resources.
//!
//! A step's life: waiting → (its result is there → done) | ready → running → done | failed; or skipped. Only this file changes it.

pub(crate) mod evaluate;
mod find;
mod ingest;
pub(crate) mod rows;
mod sink;
mod step;
pub(crate) mod table;
pub(crate) mod transform;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use pipe_cache::{Digest, StatIndex, Store};

use crate::artifact::{Manifest, store_failure};
use crate::event::{Event, Events, StepReport};
use crate::graph::{Graph, Step};
use crate::problem::{Failure, FailureClass};
use crate::source::Credentials;
use crate::stage::Resources;
use crate::step::{Ancestor, Level};
use crate::worker::client::{Cancel, Workers, is_cancelled};

pub use evaluate::{Evaluation, Prepared};
pub use find::{Found, find_all};
pub(crate) use rows::{ChunkScan, RowScanner};
pub use step::LeftOut;

/// How often finished work is made durable.
const COMMIT_EVERY: Duration = Duration::from_millis(300);

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
}

/// What an artifact is and holds.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// Its name.
    pub digest: Digest,
    /// Its manifest.
    pub manifest: Arc<Manifest>,
}

/// What a step gave.
#[derive(Clone, Debug)]
pub struct StepResult {
    /// Artifacts by port.
    pub outputs: BTreeMap<String, Artifact>,
    /// The step as its descendants will name it.
    pub ancestor: Ancestor,
    /// What it did.
    pub report: StepReport,
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

/// Where a step stands.
enum State {
    /// Not looked at: something it needs is not done.
    Waiting,
    /// Must execute; waits for resources.
    Ready(Box<Prepared>),
    Running(Resources),
    Done(Box<StepResult>),
    Failed,
    Skipped,
    /// Not asked for.
    Unwanted,
}

type Message = (usize, Result<StepResult, Failure>);

/// Runs the steps of `wanted` (a mask over the graph's steps).
#[must_use]
pub fn run(graph: &Graph, wanted: &[bool], context: &Context<'_>) -> Summary {
    let started = Instant::now();
    let steps =
        graph.steps.iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(step, _)| step.name.clone()).collect();
    context.events.tell(&Event::RunStarted {
        run: context.events.run().to_owned(),
        pipeline: graph.name.clone(),
        steps,
    });
    let mut scheduler = Scheduler::new(graph, wanted, context);
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
    });
    summary
}

struct Scheduler<'a> {
    graph: &'a Graph,
    context: &'a Context<'a>,
    states: Vec<State>,
    /// Steps whose lost results were already made again once in this run.
    healed: Vec<bool>,
    failures: Vec<(String, Failure)>,
    cores: u32,
}

impl<'a> Scheduler<'a> {
    fn new(graph: &'a Graph, wanted: &[bool], context: &'a Context<'a>) -> Self {
        let states = wanted.iter().map(|wanted| if *wanted { State::Waiting } else { State::Unwanted }).collect();
        let cores = u32::try_from(rayon::current_num_threads()).unwrap_or(1);
        Self { graph, context, states, healed: vec![false; graph.steps.len()], failures: Vec::new(), cores }
    }

    fn run(&mut self) {
        let (sender, messages) = channel();
        std::thread::scope(|scope| {
            loop {
                self.look();
                self.start(scope, &sender);
                if !self.states.iter().any(|state| matches!(state, State::Running(_))) {
                    break;
                }
                match messages.recv_timeout(COMMIT_EVERY) {
                    Ok((at, result)) => self.finish(at, result),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
                }
                self.commit();
            }
        });
        self.skip_the_rest();
    }

    /// Whether nothing new is to begin.
    fn ending(&self) -> bool {
        is_cancelled(self.context.cancel) || (!self.context.keep_going && !self.failures.is_empty())
    }

    /// Looks at every waiting step whose inputs are there: its result may be, too.
    fn look(&mut self) {
        let mut at = 0;
        while at < self.states.len() && !self.ending() {
            let ready = matches!(self.states[at], State::Waiting)
                && self.graph.steps[at].upstream().all(|from| matches!(self.states[from], State::Done(_)));
            if ready {
                at = self.evaluate(at);
            } else {
                at += 1;
            }
        }
    }

    /// Returns the step to look at next: an earlier one, if what it gave turned out to be lost.
    fn evaluate(&mut self, at: usize) -> usize {
        let step = &self.graph.steps[at];
        let inputs = self.inputs(step);
        match evaluate::evaluate(step, &inputs, self.lineage(at), self.context) {
            Ok(Evaluation::Hit(result)) => {
                let (step, report) = (step.name.clone(), result.report.clone());
                self.context.events.tell(&Event::StepDone { step, report });
                self.states[at] = State::Done(result);
            }
            Ok(Evaluation::Miss(prepared)) => {
                if let Some(from) = self.lost_input(at) {
                    return from;
                }
                self.states[at] = State::Ready(prepared);
            }
            Err(failure) => self.fail(at, failure),
        }
        at + 1
    }

    /// The step whose result this one needs but the store has lost, set back to waiting.
    fn lost_input(&mut self, at: usize) -> Option<usize> {
        let step = &self.graph.steps[at];
        let lost = step.inputs.iter().find(|edge| {
            let State::Done(result) = &self.states[edge.step] else { return false };
            let artifact = &result.outputs[&edge.output];
            !self.healed[edge.step] && !evaluate::is_complete(self.context.store, &artifact.manifest)
        })?;
        let from = lost.step;
        self.healed[from] = true;
        evaluate::forget(
            &self.graph.steps[from],
            &self.inputs(&self.graph.steps[from]),
            self.lineage(from),
            self.context,
        );
        self.states[from] = State::Waiting;
        Some(from)
    }

    fn start<'scope, 'env>(&mut self, scope: &'scope std::thread::Scope<'scope, 'env>, sender: &Sender<Message>)
    where
        'a: 'scope,
    {
        for at in 0..self.states.len() {
            if self.ending() {
                return;
            }
            let needs = self.graph.steps[at].stage.resources;
            if !matches!(self.states[at], State::Ready(_)) || !self.fits(needs) {
                continue;
            }
            let State::Ready(prepared) = std::mem::replace(&mut self.states[at], State::Running(needs)) else {
                continue;
            };
            let (step, context, sender) = (&self.graph.steps[at], self.context, sender.clone());
            context.events.tell(&Event::StepStarted {
                step: step.name.clone(),
                stage: step.stage.name,
                key: prepared.key,
            });
            scope.spawn(move || {
                let result = execute(step, *prepared, context);
                // The scheduler waits for every running step, so it is there to hear.
                let _ = sender.send((at, result));
            });
        }
    }

    /// Whether a step with these needs may start beside those running. The first one always may.
    fn fits(&self, needs: Resources) -> bool {
        let running: Vec<&Resources> =
            self.states.iter().filter_map(|s| if let State::Running(needs) = s { Some(needs) } else { None }).collect();
        let cores = |needs: &Resources| needs.cpu.min(self.cores);
        let free_cores = running.iter().map(|r| cores(r)).sum::<u32>() + cores(&needs) <= self.cores;
        let free_device = !needs.device || !running.iter().any(|r| r.device);
        running.is_empty() || needs.cpu == 0 && free_device || free_cores && free_device
    }

    fn finish(&mut self, at: usize, result: Result<StepResult, Failure>) {
        match result {
            Ok(result) => {
                let (step, report) = (self.graph.steps[at].name.clone(), result.report.clone());
                self.context.events.tell(&Event::StepDone { step, report });
                self.states[at] = State::Done(Box::new(result));
            }
            Err(failure) if failure.class == FailureClass::Lost && self.heal(at) => {}
            Err(failure) => self.fail(at, failure),
        }
    }

    /// If the step failed because an input is lost or damaged, makes that input again and tries once more.
    fn heal(&mut self, at: usize) -> bool {
        for artifact in self.inputs(&self.graph.steps[at]) {
            evaluate::examine(self.context.store, &artifact.manifest);
        }
        if is_cancelled(self.context.cancel) || self.lost_input(at).is_none() {
            return false;
        }
        self.states[at] = State::Waiting;
        true
    }

    fn fail(&mut self, at: usize, failure: Failure) {
        let step = self.graph.steps[at].name.clone();
        self.states[at] = State::Failed;
        if failure.class == FailureClass::Interrupted {
            return;
        }
        self.context.events.tell(&Event::StepFailed { step: step.clone(), failure: failure.clone() });
        self.failures.push((step, failure));
    }

    fn commit(&mut self) {
        match self.context.store.commit() {
            Ok(raced) => {
                for key in raced {
                    let message = format!("another run recorded {key} first; its result stays");
                    self.context.events.tell(&Event::Log { step: String::new(), level: Level::Info, message });
                }
            }
            Err(error) => {
                let failure = store_failure(error);
                if !self.failures.iter().any(|(step, _)| step == "store") {
                    self.context.events.tell(&Event::StepFailed { step: "store".to_owned(), failure: failure.clone() });
                    self.failures.push(("store".to_owned(), failure));
                }
            }
        }
    }

    /// Every step that still waits is skipped, because of the first failed or skipped one it needs.
    fn skip_the_rest(&mut self) {
        for at in 0..self.states.len() {
            if !matches!(self.states[at], State::Waiting | State::Ready(_)) {
                continue;
            }
            let because = self.graph.steps[at]
                .upstream()
                .find(|from| matches!(self.states[*from], State::Failed | State::Skipped))
                .map_or_else(|| "the run is ending".to_owned(), |from| self.graph.steps[from].name.clone());
            self.states[at] = State::Skipped;
            self.context.events.tell(&Event::StepSkipped { step: self.graph.steps[at].name.clone(), because });
        }
    }

    fn inputs(&self, step: &Step) -> Vec<Artifact> {
        step.inputs
            .iter()
            .filter_map(|edge| match &self.states[edge.step] {
                State::Done(result) => result.outputs.get(&edge.output).cloned(),
                _ => None,
            })
            .collect()
    }

    fn lineage(&self, at: usize) -> Vec<Ancestor> {
        evaluate::lineage(self.graph, at, |from| match &self.states[from] {
            State::Done(result) => Some(result.ancestor.clone()),
            _ => None,
        })
    }

    fn summary(self) -> Summary {
        let mut summary = Summary {
            results: BTreeMap::new(),
            failures: self.failures,
            skipped: Vec::new(),
            interrupted: is_cancelled(self.context.cancel),
        };
        for (step, state) in self.graph.steps.iter().zip(self.states) {
            match state {
                State::Done(result) => {
                    summary.results.insert(step.name.clone(), *result);
                }
                State::Skipped => summary.skipped.push(step.name.clone()),
                _ => {}
            }
        }
        summary
    }
}

/// Executes a step in this thread. A panic of a stage is a fault of ours, and costs that step only.
fn execute(step: &Step, prepared: Prepared, context: &Context<'_>) -> Result<StepResult, Failure> {
    let run = std::panic::AssertUnwindSafe(|| step::execute(step, prepared, context));
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Failure::internal(format!("a fault in pipe: {}", text.unwrap_or("unknown"))).help("please report it"))
    })
}

/// A directory of this attempt alone, removed when the attempt ends.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now goes with the process's own directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
