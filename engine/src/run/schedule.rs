//! Which steps must execute, in what order, within which resources.
//!
//! A step's life: waiting → (its result is there → done) | ready → running → done | failed | waiting again; or skipped. Only this file
//! changes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use pipe_cache::map_many;

use pipe_cache::Raced;

use super::evaluate::{self, Evaluation, Prepared};
use super::queue::Queue;
use super::room::Room;
use super::waits::Waits;
use super::{Artifact, Context, DELTA, StepResult, Summary, differ, judge, step};
use crate::artifact::store_failure;
use crate::event::Event;
use crate::graph::{Graph, Step};
use crate::lock;
use crate::problem::{Failure, FailureClass};
use crate::step::{Ancestor, Level};
use crate::worker::client::is_cancelled;

/// How often finished work is made durable.
const COMMIT_EVERY: Duration = Duration::from_millis(300);

/// How often a run makes the lost results of a step again.
const MOST_HEALED: u32 = 3;

/// How many steps are looked up before any of them starts.
const MOST_AT_ONCE: usize = 256;

/// The longest wait before a step is tried again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Where a step stands.
enum State {
    /// Something it needs is not done, or it is about to be looked at.
    Waiting,
    /// Must execute; waits for resources.
    Ready(Box<Prepared>),
    Running,
    Done(Box<StepResult>),
    Failed,
    Skipped,
    /// Not asked for.
    Unwanted,
}

type Message = (usize, Result<StepResult, Failure>);

/// A run under way.
pub(super) struct Scheduler<'a> {
    graph: &'a Graph,
    context: &'a Context<'a>,
    states: Vec<State>,
    waits: Waits,
    queue: Queue,
    room: Arc<Room>,
    /// How often the lost results of each step were made again in this run.
    healed: Vec<u32>,
    /// Steps that were tried once more because an input was lost and then found.
    reread: BTreeSet<usize>,
    /// How often each step was tried and failed.
    tries: Vec<u32>,
    /// Steps to be tried again, by when; with why they failed.
    later: BTreeMap<(Instant, usize), Failure>,
    failures: Vec<(String, Failure)>,
    /// Steps that are to execute although their results are there.
    anew: Vec<bool>,
    /// What was recorded of those that do.
    before: BTreeMap<usize, Box<StepResult>>,
    /// Whether it was told that the run is stopping.
    stopping: bool,
}

impl<'a> Scheduler<'a> {
    pub(super) fn new(graph: &'a Graph, wanted: &[bool], anew: &[bool], context: &'a Context<'a>) -> Self {
        Self {
            graph,
            context,
            states: wanted.iter().map(|wanted| if *wanted { State::Waiting } else { State::Unwanted }).collect(),
            waits: Waits::new(graph, wanted),
            queue: Queue::new(context.limits),
            room: Arc::new(Room::new(&graph.name)),
            healed: vec![0; graph.steps.len()],
            reread: BTreeSet::new(),
            tries: vec![0; graph.steps.len()],
            later: BTreeMap::new(),
            failures: Vec::new(),
            anew: anew.to_vec(),
            before: BTreeMap::new(),
            stopping: false,
        }
    }

    /// Runs to the end.
    pub(super) fn run(&mut self) {
        let (sender, messages) = channel();
        let mut committed = Instant::now();
        std::thread::scope(|scope| {
            loop {
                self.wake();
                self.look();
                self.start(scope, &sender);
                if self.queue.running() == 0 && self.later.is_empty() {
                    break;
                }
                let patience = self.patience().min(COMMIT_EVERY.saturating_sub(committed.elapsed()));
                match messages.recv_timeout(patience) {
                    Ok((at, result)) => self.finish(at, result),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
                }
                self.tell_of_stopping();
                if committed.elapsed() >= COMMIT_EVERY {
                    self.commit();
                    committed = Instant::now();
                }
            }
        });
        self.commit();
        self.skip_the_rest();
    }

    /// Says once, when the user has interrupted the run, which steps it still waits for.
    fn tell_of_stopping(&mut self) {
        if self.stopping || !is_cancelled(self.context.cancel) || self.queue.running() == 0 {
            return;
        }
        self.stopping = true;
        let running = self.states.iter().zip(&self.graph.steps).filter(|(state, _)| matches!(state, State::Running));
        let waits_for = running.map(|(_, step)| step.name.clone()).collect();
        self.context.events.tell(&Event::Stopping { waits_for });
    }

    /// Whether nothing new is to begin.
    fn ending(&self) -> bool {
        is_cancelled(self.context.cancel) || (!self.context.keep_going && !self.failures.is_empty())
    }

    /// How long it is until a step is to be tried again.
    fn patience(&self) -> Duration {
        self.later.keys().next().map_or(COMMIT_EVERY, |(when, _)| when.saturating_duration_since(Instant::now()))
    }

    /// Hands out the steps whose time has come to be tried again; none, if the run is ending.
    fn wake(&mut self) {
        while let Some(&(when, at)) = self.later.keys().next() {
            if !self.ending() && when > Instant::now() {
                return;
            }
            let failure = self.later.remove(&(when, at));
            match failure.filter(|_| self.ending()) {
                // The user's interruption stopped it, not what went wrong before.
                Some(_) if is_cancelled(self.context.cancel) => self.fail(at, Failure::interrupted()),
                Some(failure) => self.fail(at, failure),
                None => self.waits.again(at),
            }
        }
    }

    /// Looks at every step whose inputs are there: its result may be, too.
    fn look(&mut self) {
        while !self.ending() {
            let free: Vec<usize> = std::iter::from_fn(|| self.waits.next()).take(MOST_AT_ONCE).collect();
            if free.is_empty() {
                return;
            }
            for (at, found) in self.evaluate(&free) {
                // What one of them needs may have turned out to be lost; then it is handed out again.
                let needed = self.graph.steps[at].upstream().all(|from| matches!(self.states[from], State::Done(_)));
                if needed && matches!(self.states[at], State::Waiting) && !self.ending() {
                    self.settle(at, found);
                }
            }
        }
    }

    /// Looks the results of steps up, on all cores.
    fn evaluate(&self, steps: &[usize]) -> Vec<(usize, Result<Evaluation, Failure>)> {
        map_many(steps, |at| {
            let step = &self.graph.steps[*at];
            (*at, evaluate::evaluate(step, &self.inputs(step), self.lineage(*at), self.context))
        })
    }

    /// A step has its result, or is to make it.
    fn settle(&mut self, at: usize, evaluated: Result<Evaluation, Failure>) {
        let step = &self.graph.steps[at];
        match evaluated.and_then(|found| self.keep_to_lock(step, &found).map(|()| found)) {
            Ok(Evaluation::Hit(result)) if self.anew[at] => {
                self.before.insert(at, result);
                let device = &self.context.workers.setup().device;
                let prepared = evaluate::prepare(step, &self.inputs(step), self.lineage(at), device);
                self.ready(at, Box::new(Prepared { anew: true, ..prepared }));
            }
            Ok(Evaluation::Hit(result)) => self.done(at, result),
            Ok(Evaluation::Miss(prepared)) => self.ready(at, prepared),
            Err(failure) => self.fail(at, failure),
        }
    }

    /// A step is to execute, if its inputs are still there.
    fn ready(&mut self, at: usize, prepared: Box<Prepared>) {
        if !self.lacks_input(at) {
            self.states[at] = State::Ready(prepared);
            self.queue.push(at, self.graph.steps[at].settings.resources);
        }
    }

    fn keep_to_lock(&self, step: &Step, found: &Evaluation) -> Result<(), Failure> {
        let key = match found {
            Evaluation::Hit(result) => result.key,
            Evaluation::Miss(prepared) => prepared.key,
        };
        self.context.locked.map_or(Ok(()), |locked| lock::check_key(locked, &step.name, key))
    }

    /// The result of a step is there. It may not be what the pipeline expects.
    fn done(&mut self, at: usize, result: Box<StepResult>) {
        let step = &self.graph.steps[at];
        let kept = self.context.locked.map_or(Ok(()), |locked| lock::check_outputs(locked, &step.name, &result));
        match kept.and_then(|()| judge::judge(self.graph, step, &result, self.context.store)) {
            Ok(warnings) => {
                self.context.events.tell(&Event::StepDone { step: step.name.clone(), report: result.report.clone() });
                for message in warnings {
                    let level = Level::Warning;
                    self.context.events.tell(&Event::Log { step: step.name.clone(), level, message });
                }
                self.states[at] = State::Done(result);
                self.waits.done(at);
            }
            Err(failure) => self.fail(at, failure),
        }
    }

    /// Whether the store has lost an input of this step. Then the step that gave it waits to make it again, and this one for it.
    fn lacks_input(&mut self, at: usize) -> bool {
        let step = &self.graph.steps[at];
        let lost = step.inputs.iter().find(|edge| {
            let State::Done(result) = &self.states[edge.step] else { return false };
            let artifact = &result.outputs[&edge.output];
            self.healed[edge.step] < MOST_HEALED && !evaluate::is_complete(self.context.store, &artifact.manifest)
        });
        let Some(from) = lost.map(|edge| edge.step) else { return false };
        self.healed[from] += 1;
        evaluate::forget(
            &self.graph.steps[from],
            &self.inputs(&self.graph.steps[from]),
            self.lineage(from),
            self.context,
        );
        self.states[from] = State::Waiting;
        self.waits.undone(from);
        true
    }

    fn start<'scope, 'env>(&mut self, scope: &'scope std::thread::Scope<'scope, 'env>, sender: &Sender<Message>)
    where
        'a: 'scope,
    {
        while !self.ending()
            && let Some(at) = self.queue.start()
        {
            let State::Ready(prepared) = std::mem::replace(&mut self.states[at], State::Running) else {
                unreachable!("only ready steps are in the queue");
            };
            let (step, context, sender) = (&self.graph.steps[at], self.context, sender.clone());
            let room = self.room.clone();
            context.events.tell(&Event::StepStarted {
                step: step.name.clone(),
                stage: step.stage.name,
                key: prepared.key,
            });
            scope.spawn(move || {
                // The memory of the GPU is for this step, not for a model that waits.
                if step.settings.resources.device && !step.stage.execute.is_torch() {
                    context.workers.rest();
                }
                let result = room.check(step, context.store).and_then(|()| execute(step, *prepared, context));
                // The scheduler waits for every running step, so it is there to hear.
                let _ = sender.send((at, result));
            });
        }
    }

    fn finish(&mut self, at: usize, result: Result<StepResult, Failure>) {
        self.queue.end(self.graph.steps[at].settings.resources);
        match result {
            Ok(mut result) => {
                self.anew[at] = false;
                let before = self.before.remove(&at);
                result.report.again =
                    before.map(|before| differ::outputs(&before.outputs, &result.outputs, self.context.store));
                self.done(at, Box::new(result));
            }
            Err(failure) if failure.class == FailureClass::Lost && self.heal(at) => {}
            Err(failure) if self.may_pass(at, &failure) => self.try_later(at, failure),
            Err(failure) => self.fail(at, failure),
        }
    }

    /// If the step failed because an input is lost or damaged, makes that input again and tries once more.
    fn heal(&mut self, at: usize) -> bool {
        for artifact in self.inputs(&self.graph.steps[at]) {
            evaluate::examine(self.context.store, self.context.index, &artifact.manifest);
        }
        // Another step that takes from the same may have found the loss first.
        let upstream = &mut self.graph.steps[at].upstream();
        let found = upstream.any(|from| matches!(self.states[from], State::Waiting | State::Ready(_) | State::Running));
        // Where nothing is lacking, it lies elsewhere now: in another pack, or it shows late.
        if is_cancelled(self.context.cancel) || !(found || self.lacks_input(at) || self.reread.insert(at)) {
            return false;
        }
        self.states[at] = State::Waiting;
        self.waits.again(at);
        true
    }

    /// Whether the step is to be tried again after this failure.
    fn may_pass(&self, at: usize, failure: &Failure) -> bool {
        let passes = matches!(failure.class, FailureClass::Transient | FailureClass::Store | FailureClass::Worker);
        passes && self.tries[at] < self.graph.steps[at].settings.retries && !self.ending()
    }

    /// Tries the step again after 1 s, 2 s, 4 s and so on.
    fn try_later(&mut self, at: usize, failure: Failure) {
        let step = &self.graph.steps[at];
        let wait = Duration::from_secs(1 << self.tries[at].min(16)).min(LONGEST_WAIT);
        self.tries[at] += 1;
        self.context.events.tell(&Event::StepRetried {
            step: step.name.clone(),
            retry: self.tries[at],
            retries: step.settings.retries,
            wait: wait.as_secs_f64(),
            failure: failure.clone(),
        });
        self.states[at] = State::Waiting;
        self.later.insert((Instant::now() + wait, at), failure);
    }

    fn fail(&mut self, at: usize, failure: Failure) {
        let step = self.graph.steps[at].name.clone();
        self.states[at] = State::Failed;
        self.context.events.tell(&Event::StepFailed { step: step.clone(), failure: failure.clone() });
        if failure.class == FailureClass::Interrupted {
            return;
        }
        self.failures.push((step, failure));
    }

    fn commit(&mut self) {
        match self.context.store.commit() {
            Ok(raced) => {
                raced.iter().for_each(|raced| self.tell_raced(raced));
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

    /// Says that another run recorded a key first, and loudly if it made something else of it.
    fn tell_raced(&self, Raced { key, differs }: &Raced) {
        let of_key = |state: &State| matches!(state, State::Done(result) if result.key == *key);
        let step = self.states.iter().position(of_key).map(|at| self.graph.steps[at].name.clone()).unwrap_or_default();
        let first = format!("another run recorded {key} first; its result stays");
        let (level, message) = if differs.is_empty() {
            (Level::Info, first)
        } else {
            let names: Vec<&str> = differs.iter().map(|name| name.trim_start_matches(DELTA)).collect();
            let what = "is another: the step is not deterministic";
            (Level::Warning, format!("{first}, and what this run made ({}) {what}", names.join(", ")))
        };
        self.context.events.tell(&Event::Log { step, level, message });
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
                .map_or_else(|| ENDING.to_owned(), |from| self.graph.steps[from].name.clone());
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
            State::Done(result) => Some(evaluate::ancestor(&self.graph.steps[from], result)),
            _ => None,
        })
    }

    /// What came of it.
    pub(super) fn summary(self) -> Summary {
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

/// What stops a step that no other one stops.
pub const ENDING: &str = "the run is ending";

/// Executes a step in this thread. A panic of a stage is a fault of ours, and costs that step only.
fn execute(step: &Step, prepared: Prepared, context: &Context<'_>) -> Result<StepResult, Failure> {
    let run = std::panic::AssertUnwindSafe(|| step::execute(step, prepared, context));
    std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Failure::internal(format!("a fault in pipe: {}", text.unwrap_or("unknown"))).help("please report it"))
    })
}
