//! Asking what moving places hold now, before a run: the answers are pins, which the lock keeps. Besides executing sources nothing else needs a
//! network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Context, Scratch};
use crate::artifact::store_failure;
use crate::event::Event;
use crate::graph::{Graph, Step};
use crate::problem::{Failure, FailureClass, Problem};
use crate::source::Asking;
use crate::stage::{Moving, Resolution, ResolveContext};
use crate::step::{Level, Sink};
use crate::worker::client::is_cancelled;

/// A place that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// The step.
    pub step: String,
    /// Its stage and version.
    pub stage: String,
    /// The moving place.
    pub source: String,
    /// What it is pinned to from now on.
    pub pin: String,
}

/// What asking found. Holds what was fetched meanwhile, until the run is over.
#[derive(Default)]
pub struct Answers {
    /// By step.
    pub pinned: Vec<Pinned>,
    resolutions: Vec<(usize, Resolution)>,
    scratch: Option<Scratch>,
}

/// Asks what the moving places of `wanted` steps hold, as far as they have no pin, or are to be asked again (`refresh`; both are masks over the
/// graph's steps).
///
/// # Errors
/// When one does not answer, there is none to be asked again, or a run that keeps to its lock finds no pin there.
pub fn ask(
    graph: &Graph,
    wanted: &[bool],
    refresh: Option<&[bool]>,
    context: &Context<'_>,
) -> Result<Answers, Failure> {
    let again = |at: usize| refresh.is_some_and(|refresh| refresh[at]);
    let steps = || graph.steps.iter().enumerate().filter(|(at, _)| wanted[*at]);
    if refresh.is_some() && !steps().any(|(at, step)| again(at) && moving(step).is_some()) {
        return Err(Failure::input("there is nothing to refresh").help(
            "a lock pins addresses without `sha256` and repositories without a commit; of these steps none takes from such a place",
        ));
    }
    let mut answers = Answers::default();
    let mut known = BTreeMap::new();
    for (at, step) in steps() {
        let Some(moving) = moving(step).filter(|moving| !moving.is_pinned || again(at)) else { continue };
        if context.locked.is_some() {
            return Err(no_pin(step, moving));
        }
        let scratch = match &mut answers.scratch {
            Some(scratch) => scratch.0.clone(),
            none => none.insert(Scratch(context.store.scratch().map_err(store_failure)?)).0.clone(),
        };
        let resolution = answer(step, moving, (&mut known, &scratch.join(at.to_string())), context)?;
        answers.pinned.push(Pinned {
            step: step.name.clone(),
            stage: step.stage.versioned(),
            source: moving.source.clone(),
            pin: resolution.pin.clone(),
        });
        answers.resolutions.push((at, resolution));
    }
    Ok(answers)
}

impl Graph {
    /// Takes over what asking found.
    pub fn take(&mut self, answers: &Answers) {
        for (at, resolution) in &answers.resolutions {
            self.steps[*at].resolution = Some(resolution.clone());
        }
    }
}

fn moving(step: &Step) -> Option<&Moving> {
    step.resolution.as_ref()?.moving.as_ref()
}

fn no_pin(step: &Step, moving: &Moving) -> Failure {
    let message = format!("step `{}`: the lock holds no pin of {}", step.name, moving.source);
    Failure::new(FailureClass::Locked, message).help("a run without `--locked` asks for it and writes it down")
}

/// Places that were asked in this run: their pins, and what was fetched of them. Two steps that name one place get one state.
type Known = BTreeMap<String, (String, Option<PathBuf>)>;

fn answer(
    step: &Step,
    moving: &Moving,
    (known, scratch): (&mut Known, &Path),
    context: &Context<'_>,
) -> Result<Resolution, Failure> {
    let Some(resolve) = step.stage.resolve else { return Err(Failure::internal("a source without `resolve`")) };
    let source = &moving.source;
    context.events.tell(&Event::SourceAsked { step: step.name.clone(), source: source.clone() });
    std::fs::create_dir_all(scratch).map_err(|error| Failure::io("create", scratch, &error))?;
    let sink = AskSink { step: &step.name, context };
    let asking = Asking { credentials: context.credentials, scratch, sink: &sink };
    let pinned = |source: &str| Ok(known.get(source).map(|(pin, _)| pin.clone()));
    let (base, index) = (context.base, context.index);
    let resolved = resolve(&ResolveContext { params: &step.params, base, index, pinned: &pinned, ask: Some(&asking) });
    let mut resolution = resolved.map_err(|problem| refused(step, problem, context))?;
    match known.get(source) {
        Some((_, fetched)) => resolution.fetched.clone_from(fetched),
        None => drop(known.insert(source.clone(), (resolution.pin.clone(), resolution.fetched.clone()))),
    }
    let before = step.resolution.as_ref().filter(|_| moving.is_pinned).map(|before| before.pin.clone());
    let (step, source, pin) = (step.name.clone(), source.clone(), resolution.pin.clone());
    context.events.tell(&Event::SourcePinned { step, source, pin, before });
    Ok(resolution)
}

fn refused(step: &Step, problem: Problem, context: &Context<'_>) -> Failure {
    if is_cancelled(context.cancel) {
        return Failure::interrupted();
    }
    let failure = Failure::transient(format!("step `{}`: {}", step.name, problem.message));
    Failure { help: problem.help, ..failure }
}

/// Tells how far a source is that is being asked.
struct AskSink<'a> {
    step: &'a str,
    context: &'a Context<'a>,
}

impl Sink for AskSink<'_> {
    fn progress(&self, done: u64, total: u64, note: &str) {
        let (step, note) = (self.step.to_owned(), note.to_owned());
        self.context.events.tell(&Event::Progress { step, done, total, remembered: 0, note });
    }

    fn log(&self, level: Level, message: &str) {
        self.context.events.tell(&Event::Log { step: self.step.to_owned(), level, message: message.to_owned() });
    }

    fn measure(&self, _: &str, _: f64) {}

    fn checkpoint(&self, _: u64, _: &Path) -> Result<(), Failure> {
        Ok(())
    }

    fn cancelled(&self) -> bool {
        is_cancelled(self.context.cancel)
    }
}
