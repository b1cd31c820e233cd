//! What was run: the run logs of a store, read back.
//!
//! A log is read as far as it goes: one that a kill cut short, or that an older version wrote, tells what it has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pipe_cache::{Digest, Key, Store};
use serde::{Deserialize, Serialize};

use crate::event::{RowCounts, log_path};
use crate::origin::Origin;
use crate::problem::{Failure, nearest};
use crate::run_name;
use crate::step::Level;

/// The runs of a store.
pub struct History<'a> {
    store: &'a Store,
    /// Newest first.
    names: Vec<String>,
}

/// A run, as its log tells it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// Its name.
    pub run: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// When it began, in seconds since 1970.
    pub started: f64,
    /// Seconds from its begin to the last that is known of it.
    pub seconds: f64,
    /// How it ended.
    pub end: End,
    /// Where it came from.
    pub origin: Origin,
    /// Its steps, in order.
    pub steps: Vec<RunStep>,
    /// Warnings of its steps.
    pub warnings: Vec<Warning>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// Everything asked for was there.
    Done,
    /// A step failed.
    Failed,
    /// The user ended it.
    Interrupted,
    /// It has not ended.
    Running,
    /// It was killed, or its machine went down.
    Killed,
}

impl End {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Running => "running",
            Self::Killed => "killed",
        }
    }
}

/// What became of a step in a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RunStep {
    /// Its name.
    pub step: String,
    /// Its stage, where the run came to it.
    pub stage: String,
    /// How far it came.
    pub state: StepState,
    /// Its key, where the run came to it.
    pub key: Option<Key>,
    /// Seconds it took.
    pub seconds: f64,
    /// Rows, for steps that work on datasets.
    pub rows: Option<RowCounts>,
    /// The artifacts it gave, by port.
    pub outputs: BTreeMap<String, Digest>,
    /// What was measured.
    pub measures: BTreeMap<String, f64>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Why it was not tried.
    pub because: Option<String>,
}

/// How far a step came in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// The run did not come to it.
    #[default]
    Waiting,
    /// It began and did not end.
    Started,
    /// It executed.
    Executed,
    /// Its result was there.
    Reused,
    /// It failed.
    Failed,
    /// It was not tried.
    Skipped,
}

impl StepState {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "not reached",
            Self::Started => "not finished",
            Self::Executed => "executed",
            Self::Reused => "reused",
            Self::Failed => "FAILED",
            Self::Skipped => "not tried",
        }
    }
}

/// A warning of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The step.
    pub step: String,
    /// The message.
    pub message: String,
}

impl<'a> History<'a> {
    /// The runs of a store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(store: &'a Store) -> Result<Self, Failure> {
        let directory = store.runs();
        let names = run_name::list(&directory).map_err(|error| Failure::io("read", &directory, &error))?;
        Ok(Self { store, names })
    }

    /// The names of the runs, newest first.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The runs, newest first. One whose log cannot be read, or tells nothing, is left out.
    pub fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.names.iter().filter_map(|name| self.read(name).ok())
    }

    /// The runs before the one of that name, newest first.
    pub fn before(&self, name: &str) -> impl Iterator<Item = Run> + '_ {
        let at = self.names.iter().position(|one| one == name).map_or(self.names.len(), |at| at + 1);
        self.names[at..].iter().filter_map(|name| self.read(name).ok())
    }

    /// The log of a run.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        log_path(&self.store.runs(), name)
    }

    /// Reads the log of a run.
    ///
    /// # Errors
    /// When it cannot be read, or does not begin as a log does.
    pub fn read(&self, name: &str) -> Result<Run, Failure> {
        let path = self.path(name);
        let bytes = fs::read(&path).map_err(|error| Failure::io("read", &path, &error))?;
        let text = String::from_utf8_lossy(&bytes);
        let mut reading = None;
        for line in text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
            match &mut reading {
                None => reading = Reading::begin(name, line),
                Some(reading) => reading.add(line),
            }
        }
        let reading = reading.ok_or_else(|| Failure::input(format!("{} is not the log of a run", path.display())))?;
        Ok(reading.finish(|owner| self.store.is_living(owner)))
    }

    /// The run that a name means: a name, the unique beginning of one, `last`, or `last~N` for the N-th before it.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find(&self, wanted: &str) -> Result<&str, Failure> {
        if let Some(back) = wanted.strip_prefix("last") {
            let back = if back.is_empty() { Some(0) } else { back.strip_prefix('~').and_then(|n| n.parse().ok()) };
            if let Some(back) = back {
                return self.back(back);
            }
        }
        let found: Vec<&str> = self.names.iter().map(String::as_str).filter(|name| name.starts_with(wanted)).collect();
        match found.as_slice() {
            _ if wanted.is_empty() => {
                Err(Failure::input("the name of a run is empty").help("`pipe log` lists the runs"))
            }
            [only] => Ok(only),
            [] => Err(self.unknown(wanted)),
            several if several.contains(&wanted) => Ok(several[several.iter().position(|n| *n == wanted).unwrap_or(0)]),
            several => {
                let list = several.iter().take(5).copied().collect::<Vec<_>>().join(", ");
                let message = format!("{} runs begin with `{wanted}`: {list}", several.len());
                Err(Failure::input(message).help("write more of the name"))
            }
        }
    }

    fn back(&self, back: usize) -> Result<&str, Failure> {
        self.names.get(back).map(String::as_str).ok_or_else(|| match self.names.len() {
            0 => Failure::input("there are no runs in this store").help("`pipe run` makes one"),
            len => Failure::input(format!("there are only {len} runs in this store")).help("`pipe log` lists them"),
        })
    }

    fn unknown(&self, wanted: &str) -> Failure {
        let near = nearest(wanted, self.names.iter().map(String::as_str));
        let is_file = Path::new(wanted).extension().is_some_and(|extension| extension == "toml");
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None if is_file => {
                "a run is named, not a pipeline: `pipe log --pipeline NAME` lists those of a pipeline, by the `name` in it".to_owned()
            }
            None => "`pipe log` lists the runs".to_owned(),
        };
        Failure::input(format!("there is no run `{wanted}`")).help(help)
    }
}

impl Run {
    /// A step of the run.
    #[must_use]
    pub fn step(&self, name: &str) -> Option<&RunStep> {
        self.steps.iter().find(|step| step.step == name)
    }

    /// How many steps came that far.
    #[must_use]
    pub fn count(&self, state: StepState) -> usize {
        self.steps.iter().filter(|step| step.state == state).count()
    }
}

#[derive(Deserialize)]
struct Line {
    time: f64,
    what: Logged,
}

/// The events that a reader of logs needs, with what it needs of them.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Logged {
    RunStarted {
        pipeline: String,
        steps: Vec<String>,
        #[serde(default)]
        origin: Box<Origin>,
    },
    StepStarted {
        step: String,
        stage: String,
        key: Key,
    },
    StepDone {
        step: String,
        report: Report,
    },
    StepFailed {
        step: String,
        failure: Failure,
    },
    StepSkipped {
        step: String,
        because: String,
    },
    Log {
        step: String,
        level: Level,
        message: String,
    },
    Measure {
        step: String,
        name: String,
        value: f64,
    },
    RunFinished {
        failed: usize,
        seconds: f64,
        #[serde(default)]
        interrupted: bool,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Report {
    stage: String,
    executed: bool,
    #[serde(default)]
    rows: Option<RowCounts>,
    seconds: f64,
    #[serde(default)]
    outputs: BTreeMap<String, Digest>,
    #[serde(default)]
    key: Option<Key>,
}

/// A log that is being read.
struct Reading {
    run: Run,
    finished: bool,
}

impl Reading {
    fn begin(name: &str, line: Line) -> Option<Self> {
        let Logged::RunStarted { pipeline, steps, origin } = line.what else { return None };
        let steps = steps.into_iter().map(|step| RunStep { step, ..RunStep::default() }).collect();
        let run = Run {
            run: name.to_owned(),
            pipeline,
            started: line.time,
            seconds: 0.0,
            end: End::Killed,
            origin: *origin,
            steps,
            warnings: Vec::new(),
        };
        Some(Self { run, finished: false })
    }

    fn step(&mut self, name: &str) -> &mut RunStep {
        let steps = &mut self.run.steps;
        let at = steps.iter().position(|step| step.step == name).unwrap_or_else(|| {
            steps.push(RunStep { step: name.to_owned(), ..RunStep::default() });
            steps.len() - 1
        });
        &mut steps[at]
    }

    fn add(&mut self, line: Line) {
        self.run.seconds = line.time - self.run.started;
        match line.what {
            Logged::StepStarted { step, stage, key } => {
                let step = self.step(&step);
                (step.stage, step.key, step.state) = (stage, Some(key), StepState::Started);
            }
            Logged::StepDone { step, report } => self.done(&step, report),
            Logged::StepFailed { step, failure } => {
                let step = self.step(&step);
                (step.state, step.failure) = (StepState::Failed, Some(failure));
            }
            Logged::StepSkipped { step, because } => {
                let step = self.step(&step);
                (step.state, step.because) = (StepState::Skipped, Some(because));
            }
            Logged::Log { step, level: Level::Warning, message } => self.run.warnings.push(Warning { step, message }),
            Logged::Measure { step, name, value } => {
                self.step(&step).measures.insert(name, value);
            }
            Logged::RunFinished { failed, seconds, interrupted } => {
                self.finished = true;
                self.run.seconds = seconds;
                self.run.end = match failed {
                    _ if interrupted => End::Interrupted,
                    0 => End::Done,
                    _ => End::Failed,
                };
            }
            Logged::RunStarted { .. } | Logged::Log { .. } | Logged::Other => {}
        }
    }

    fn done(&mut self, name: &str, report: Report) {
        let step = self.step(name);
        // A step whose result was lost is done twice: that it executed is what counts.
        let executed = report.executed || step.state == StepState::Executed;
        step.state = if executed { StepState::Executed } else { StepState::Reused };
        (step.stage, step.seconds, step.rows) = (report.stage, report.seconds, report.rows);
        (step.outputs, step.key) = (report.outputs, report.key.or(step.key));
    }

    fn finish(mut self, living: impl Fn(&str) -> bool) -> Run {
        if !self.finished && living(&self.run.origin.owner) {
            self.run.end = End::Running;
        }
        self.run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"{"time":100.0,"what":{"event":"run_started","run":"r","pipeline":"p","steps":["a","b","c"]}}
{"time":100.5,"what":{"event":"step_done","step":"a","report":{"stage":"s","executed":false,"seconds":0.1,"outputs":{}}}}
{"time":101.0,"what":{"event":"something_new","x":1}}
{"time":102.0,"what":{"event":"step_started","step":"b","stage":"t","key":"0000000000000000000000000000000000000000000000000000000000000000"}}
{"time":103.0,"what":{"event":"step_fail"#;

    fn history(dir: &std::path::Path, names: &[&str]) -> Store {
        let store = Store::open(dir).unwrap();
        for name in names {
            fs::write(log_path(&store.runs(), name), LOG).unwrap();
        }
        store
    }

    #[test]
    fn a_log_that_was_cut_tells_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let store = history(dir.path(), &["100-000-1"]);
        let run = History::open(&store).unwrap().read("100-000-1").unwrap();
        let states: Vec<StepState> = run.steps.iter().map(|step| step.state).collect();
        assert_eq!(states, [StepState::Reused, StepState::Started, StepState::Waiting]);
        assert_eq!((run.end, run.seconds), (End::Killed, 2.0));
    }

    #[test]
    fn runs_are_named_in_several_ways() {
        let dir = tempfile::tempdir().unwrap();
        let store = history(dir.path(), &["100-000-1", "100-000-12", "205-000-1"]);
        let history = History::open(&store).unwrap();
        assert_eq!(history.find("last").unwrap(), "205-000-1");
        assert_eq!(history.find("last~2").unwrap(), "100-000-1");
        assert_eq!(history.find("2").unwrap(), "205-000-1");
        assert_eq!(history.find("100-000-1").unwrap(), "100-000-1", "a whole name, though another begins with it");
        for wrong in ["last~3", "100", "300", "last~x", ""] {
            assert!(history.find(wrong).is_err(), "{wrong}");
        }
    }
}
