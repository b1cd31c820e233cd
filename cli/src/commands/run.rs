//! `pipe run`: do the work that is not done.

use std::io::IsTerminal;
use std::path::PathBuf;

use pipe_engine::event::{Events, Reporter};
use pipe_engine::graph::{Graph, Step};
use pipe_engine::lock::{self, Lock, LockError, LockedStep, LockedSteps};
use pipe_engine::problem::FailureClass;
use pipe_engine::run::{self, Answers, Context, Summary};
use pipe_engine::run_name;
use pipe_engine::spec::SpecError;

use crate::args::RunArgs;
use crate::error::CliError;
use crate::interrupt::InOrder;
use crate::report::{Bars, JsonLines, PlainLines};
use crate::session::Session;
use crate::{exit, text};

/// Runs a pipeline.
pub fn run(args: &RunArgs, json: bool) -> Result<u8, CliError> {
    let mut session = Session::with_worker(&args.target.spec, args.worker.clone(), args.threads)?;
    let anew = session.graph.named(&args.force)?;
    let wanted = wanted(args, &session.graph)?;
    let missing = session.look(|context| run::missing_credentials(&session.graph, &wanted, context))?;
    if !missing.is_empty() {
        return Err(SpecError::wrong(missing).into());
    }
    let refresh = refresh(args, &session.graph)?;
    let mut lock = LockFile::open(args)?;
    let reporter = reporter(json);
    let answers = {
        // A run that does not begin has no log.
        let events = Events::silent(&reporter);
        let context = Context { locked: lock.held_to(), ..session.context(&events, args.keep_going) };
        run::ask(&session.graph, &wanted, refresh.as_deref(), &context)?
    };
    lock.pin(&answers);
    session.graph.take(&answers);
    let summary = {
        let origin = session.origin(&args.target.steps);
        let logs = session.store.runs();
        let events = Events::new(&reporter, &logs, &run_name::begin(&logs)).with_origin(origin);
        let context = session.context(&events, args.keep_going);
        run::run_anew(&session.graph, &wanted, &anew, &Context { locked: lock.held_to(), ..context })
    };
    drop(reporter);
    session.save_index();
    lock.update(&session.graph, &summary);
    if !json {
        print_tables(&session, &summary);
        print_end(&summary);
    }
    let code = code(&summary);
    // Freed with the process.
    std::mem::forget(summary);
    Ok(code)
}

/// The steps that are to be done, and those they need: all, or those named, and those forced.
fn wanted(args: &RunArgs, graph: &Graph) -> Result<Vec<bool>, SpecError> {
    match args.target.steps.as_slice() {
        [] => graph.select(&[]),
        named => graph.select(&[named, &args.force].concat()),
    }
}

/// The steps whose pins are asked for anew, with those they need; all where `--refresh` names none.
fn refresh(args: &RunArgs, graph: &Graph) -> Result<Option<Vec<bool>>, SpecError> {
    let Some(named) = &args.refresh else { return Ok(None) };
    let everything = named.iter().any(String::is_empty);
    graph.select(if everything { &[] } else { named }).map(Some)
}

/// The lock beside the pipeline, and what the run has to do with it.
struct LockFile<'a> {
    args: &'a RunArgs,
    path: PathBuf,
    /// Read when it is needed: mostly it says already what it is to say.
    lock: Option<Lock>,
}

impl<'a> LockFile<'a> {
    fn open(args: &'a RunArgs) -> Result<Self, CliError> {
        let path = lock::path_of(&args.target.spec.spec);
        let lock = if args.locked { Lock::load(&path)? } else { None };
        let file = Self { args, path, lock };
        match args.locked && file.held_to().is_none() {
            true => {
                let profile = file.lock.is_some().then(|| file.profile().unwrap_or_default().to_owned());
                Err(LockError::Missing { path: file.path, profile }.into())
            }
            false => Ok(file),
        }
    }

    /// The lock as it lies there, to be changed.
    fn read(&mut self) -> &mut Lock {
        self.lock.get_or_insert_with(|| match Lock::load(&self.path) {
            Ok(found) => found.unwrap_or_default(),
            Err(error) => {
                text::err(&format!("warning: {error}; it will be written anew"));
                Lock::default()
            }
        })
    }

    fn save(&self) -> Result<(), LockError> {
        self.lock.iter().try_for_each(|lock| lock.save(&self.path).map(drop))
    }

    fn profile(&self) -> Option<&str> {
        self.args.target.spec.profile.as_deref()
    }

    /// What the run must keep to.
    fn held_to(&self) -> Option<&LockedSteps> {
        self.lock.as_ref()?.steps(self.profile()).filter(|_| self.args.locked)
    }

    /// A complete run of the pipeline as it is written is the next to keep to.
    fn update(mut self, graph: &Graph, summary: &Summary) {
        if self.args.locked || !self.is_as_written() || !self.args.target.steps.is_empty() || !summary.complete() {
            return;
        }
        let locked = |step: &Step| Some((step.name.clone(), LockedStep::of(step, summary.results.get(&step.name)?)));
        let steps: LockedSteps = graph.steps.iter().filter_map(locked).collect();
        let mut alone = Lock::default();
        alone.set(self.profile(), steps);
        if alone.lies_at(&self.path) {
            return;
        }
        self.read().adopt(alone);
        if let Err(error) = self.save() {
            text::err(&format!("warning: {error}; the run is complete without it"));
        }
    }

    /// What sources answered is kept before anything relies on it, so that a run that is killed is gone on with from the same state.
    fn pin(&mut self, answers: &Answers) {
        if answers.pinned.is_empty() || !self.is_as_written() {
            return;
        }
        let profile = self.profile().map(str::to_owned);
        let lock = self.read();
        answers.pinned.iter().for_each(|pinned| lock.set_pin(profile.as_deref(), pinned));
        if let Err(error) = self.save() {
            text::err(&format!("warning: {error}; the next run will ask again what the sources hold"));
        }
    }

    fn is_as_written(&self) -> bool {
        self.args.target.spec.set.is_empty()
    }
}

fn reporter(json: bool) -> InOrder {
    InOrder(reporter_of(json))
}

fn reporter_of(json: bool) -> Box<dyn Reporter> {
    if json {
        return Box::new(JsonLines);
    }
    // Bars need a terminal that can move its cursor.
    let moves = std::env::var("TERM").is_ok_and(|term| !term.is_empty() && term != "dumb");
    if moves && std::io::stderr().is_terminal() { Box::new(Bars::new()) } else { Box::new(PlainLines::new()) }
}

/// The tables of the metrics that the pipeline ends in.
fn print_tables(session: &Session, summary: &Summary) {
    for (step, result) in &summary.results {
        for artifact in result.outputs.values() {
            if let Some(table) = metrics_table(session, artifact) {
                text::out(&format!("\n{step}\n{table}"));
            }
        }
    }
}

fn metrics_table(session: &Session, artifact: &run::Artifact) -> Option<String> {
    let pipe_engine::artifact::Manifest::Files(files) = artifact.manifest.as_ref() else { return None };
    let table = files.files.get("table.md").filter(|_| files.kind.starts_with("metrics/"))?;
    String::from_utf8(session.store.read(&table.digest).ok()?).ok()
}

fn print_end(summary: &Summary) {
    if summary.interrupted {
        text::err(&format!("\ninterrupted; what was finished is kept. Go on with: {}", command_line()));
    }
    for (step, failure) in &summary.failures {
        text::err(&format!("\nerror: step `{step}` failed: {failure}"));
        failure.help.iter().for_each(|help| text::err(&format!("  = help: {help}")));
        failure.log.iter().for_each(|log| text::err(&format!("  = log: {}", log.display())));
    }
    if !summary.skipped.is_empty() && !summary.interrupted {
        text::err(&format!("not tried: {}", summary.skipped.join(", ")));
    }
}

/// The command as it was given, for a shell.
fn command_line() -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,+@%".contains(c);
    let quote = |word: String| {
        let bare = !word.is_empty() && word.chars().all(plain);
        if bare { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    std::env::args().map(quote).collect::<Vec<_>>().join(" ")
}

fn code(summary: &Summary) -> u8 {
    if summary.interrupted {
        return exit::INTERRUPTED;
    }
    match summary.failures.as_slice() {
        [] if summary.complete() => exit::DONE,
        failures if failures.iter().any(|(_, failure)| failure.class == FailureClass::Store) => exit::STORE,
        _ => exit::FAILED,
    }
}
