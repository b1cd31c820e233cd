//! Plain lines, for logs and pipes: a line when a step starts, one when it ends, and at most one every ten seconds between.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pipe_engine::event::{Event, Reporter};
use pipe_engine::step::Level;

use super::words;
use crate::text;

const EVERY: Duration = Duration::from_secs(10);

/// Prints lines to standard error.
pub struct PlainLines {
    /// When each running step was last heard of.
    heard: Mutex<HashMap<String, Instant>>,
}

impl PlainLines {
    /// Nothing printed yet.
    pub fn new() -> Self {
        Self { heard: Mutex::default() }
    }

    /// Whether it is time for another line on this step.
    fn due(&self, step: &str) -> bool {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let last = heard.entry(step.to_owned()).or_insert_with(Instant::now);
        let due = last.elapsed() >= EVERY;
        if due {
            *last = Instant::now();
        }
        due
    }
}

impl Reporter for PlainLines {
    fn report(&self, event: &Event) {
        match event {
            Event::StepStarted { step, stage, .. } => {
                self.due(step);
                text::err(&format!("{step}: {stage} …"));
            }
            Event::SourceAsked { step, source } => {
                self.due(step);
                text::err(&format!("{step}: asking what {source} holds …"));
            }
            Event::SourcePinned { step, source, pin, before } => {
                text::err(&format!("{step}: {}", words::pinned(source, pin, before.as_deref())));
            }
            Event::Progress { step, done, total, note, .. } if self.due(step) => {
                let words = [words::so_far(*done, *total), note.clone()];
                text::err(&format!("{step}: {}", words.join("  ").trim()));
            }
            Event::Stopping { waits_for } => text::err(&words::stopping(waits_for)),
            // How many needed nothing the end says; what they leave out, whoever executes them.
            Event::StepDone { report, .. } if !report.executed => {}
            Event::StepDone { step, report } => text::err(&format!("{step}: {}", words::done(report))),
            Event::StepRetried { step, retry, retries, wait, failure } => {
                text::err(&format!("{step}: {}", words::retried(*retry, *retries, *wait, failure)));
            }
            Event::StepFailed { step, failure } => text::err(&format!("{step}: {}", words::failed(failure))),
            Event::Log { step, level: Level::Warning, message } => text::err(&format!("{step}: warning: {message}")),
            Event::RunFinished { executed, reused, seconds, .. } => {
                text::err(&format!("{executed} executed, {reused} reused, {}", text::duration(*seconds)));
            }
            _ => {}
        }
    }
}
