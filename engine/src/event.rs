//! What a run tells while it goes: the engine's only way out. Reporters, the run log and tests read the same stream.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use pipe_cache::{Digest, Key};
use serde::{Deserialize, Serialize};

use crate::origin::Origin;
use crate::problem::Failure;
use crate::run::Difference;
use crate::step::Level;

/// Something that happened. The JSON of `--json` and of run logs is this enum.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A run begins.
    RunStarted {
        /// Its name.
        run: String,
        /// The pipeline's name.
        pipeline: String,
        /// The steps it covers, in order.
        steps: Vec<String>,
        /// Where it came from.
        origin: Box<Origin>,
    },
    /// A moving place is asked what it holds, before the run begins.
    SourceAsked {
        /// The step.
        step: String,
        /// The place.
        source: String,
    },
    /// It answered.
    SourcePinned {
        /// The step.
        step: String,
        /// The place.
        source: String,
        /// Its state from now on.
        pin: String,
        /// Its state before, where it had one.
        #[serde(skip_serializing_if = "Option::is_none")]
        before: Option<String>,
    },
    /// A step begins to execute.
    StepStarted {
        /// The step.
        step: String,
        /// Its stage.
        stage: &'static str,
        /// Its key.
        key: Key,
    },
    /// A step has come further.
    Progress {
        /// The step.
        step: String,
        /// Units done.
        done: u64,
        /// Units in all; 0 if unknown.
        total: u64,
        /// Of those done, how many took no work, because they were remembered.
        remembered: u64,
        /// Shown beside the bar.
        note: String,
    },
    /// A step needed no execution, or is done.
    StepDone {
        /// The step.
        step: String,
        /// What it did.
        report: StepReport,
    },
    /// A step failed.
    StepFailed {
        /// The step.
        step: String,
        /// Why.
        failure: Failure,
    },
    /// A step failed and will be tried again.
    StepRetried {
        /// The step.
        step: String,
        /// Which retry this will be, from 1.
        retry: u32,
        /// How many it has.
        retries: u32,
        /// Seconds until then.
        wait: f64,
        /// Why it failed.
        failure: Failure,
    },
    /// A step was not tried, because one it needs failed or the run was ending.
    StepSkipped {
        /// The step.
        step: String,
        /// The step that stopped it.
        because: String,
    },
    /// A message of a step.
    Log {
        /// The step.
        step: String,
        /// How loud.
        level: Level,
        /// The message.
        message: String,
    },
    /// A measurement of a step.
    Measure {
        /// The step.
        step: String,
        /// What.
        name: String,
        /// How much.
        value: f64,
    },
    /// The user interrupted the run, and some steps have not stopped yet.
    Stopping {
        /// Those steps.
        waits_for: Vec<String>,
    },
    /// The run is over.
    RunFinished {
        /// Its name.
        run: String,
        /// Steps that executed.
        executed: usize,
        /// Steps whose results were there.
        reused: usize,
        /// Steps that failed or were not tried.
        failed: usize,
        /// Seconds from start to end.
        seconds: f64,
        /// Whether the user ended it.
        interrupted: bool,
    },
}

/// What a step did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StepReport {
    /// The stage.
    pub stage: &'static str,
    /// Whether anything executed: false if the result was there.
    pub executed: bool,
    /// Rows, for steps that work on datasets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<RowCounts>,
    /// Seconds it took.
    pub seconds: f64,
    /// The artifacts it gave, by port.
    pub outputs: BTreeMap<String, Digest>,
    /// Its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// How what it gave differs from what was recorded, where it was to execute all the same; empty where it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again: Option<Vec<Difference>>,
}

/// What became of the rows a step saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    /// Rows that came in.
    pub total: u64,
    /// Rows that were executed; the others were remembered.
    pub executed: u64,
    /// Rows that stayed.
    pub kept: u64,
    /// Of the rows that the last execution saw, too, how many a table step now treats differently, because others changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<u64>,
    /// Rows dropped, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped: BTreeMap<String, u64>,
    /// Rows that failed, by class.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<String, u64>,
}

/// Shows events to someone.
pub trait Reporter: Sync {
    /// Takes the next event. Called from several threads.
    fn report(&self, event: &Event);
}

/// An event in the log of a run.
#[derive(Serialize)]
struct LogLine<'a> {
    time: f64,
    what: &'a Event,
}

/// Hands every event to a reporter and to the run log.
pub struct Events<'a> {
    reporter: &'a dyn Reporter,
    log: Option<Mutex<BufWriter<File>>>,
    run: String,
    origin: Origin,
}

impl<'a> Events<'a> {
    /// Events of the run named `run`, kept in `directory`. A log that cannot be written is done without.
    #[must_use]
    pub fn new(reporter: &'a dyn Reporter, directory: &Path, run: &str) -> Self {
        let log = File::create(log_path(directory, run)).ok().map(|file| Mutex::new(BufWriter::new(file)));
        Self { reporter, log, run: run.to_owned(), origin: Origin::default() }
    }

    /// The same, saying where the run came from.
    #[must_use]
    pub fn with_origin(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }

    /// Events that are kept nowhere.
    #[must_use]
    pub fn silent(reporter: &'a dyn Reporter) -> Self {
        Self { reporter, log: None, run: String::new(), origin: Origin::default() }
    }

    /// The name of the run.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Where the run came from.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Tells an event.
    pub fn tell(&self, event: &Event) {
        if let (Some(log), false) = (&self.log, matches!(event, Event::Progress { .. })) {
            let line = serde_json::to_string(&LogLine { time: unix_seconds(), what: event });
            let line = format!("{}\n", line.expect("an event becomes JSON"));
            let mut file = log.lock().unwrap_or_else(PoisonError::into_inner);
            // That a result was there is soon said again; of what was done nothing is to be lost.
            let waits = matches!(event, Event::StepDone { report, .. } if !report.executed);
            // A full disk must not take the run down with its log.
            let _ = file.write_all(line.as_bytes()).and_then(|()| if waits { Ok(()) } else { file.flush() });
        }
        self.reporter.report(event);
    }
}

/// Where the log of a run lies.
#[must_use]
pub fn log_path(directory: &Path, run: &str) -> PathBuf {
    directory.join(format!("{run}.jsonl"))
}

/// Seconds since 1970.
#[must_use]
pub fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64())
}
