//! The sink of a running step: reports become events, checkpoints become objects.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pipe_cache::Key;

use super::{Context, ingest};
use crate::artifact::store_failure;
use crate::event::Event;
use crate::graph::Step;
use crate::problem::{Failure, FailureClass};
use crate::step::{Level, Sink};
use crate::worker::client::is_cancelled;

/// The sink of one execution of one step.
pub struct StepSink<'a> {
    step: &'a str,
    key: Key,
    context: &'a Context<'a>,
    /// How long the step may take, and when that is over.
    limit: Option<(Duration, Instant)>,
    measures: Mutex<BTreeMap<String, f64>>,
    remembered: AtomicU64,
}

impl<'a> StepSink<'a> {
    /// A sink whose step's time begins now.
    pub fn new(step: &'a Step, key: Key, context: &'a Context<'a>) -> Self {
        let limit = step.settings.timeout.and_then(|limit| Some((limit, Instant::now().checked_add(limit)?)));
        Self { step: &step.name, key, context, limit, measures: Mutex::default(), remembered: AtomicU64::new(0) }
    }

    /// Why the step failed: one that stopped because its time was over did not stop for the user.
    pub fn explain(&self, failure: Failure) -> Failure {
        match self.limit {
            Some((limit, _)) if failure.class == FailureClass::Interrupted && !is_cancelled(self.context.cancel) => {
                let message = format!("took longer than {} and was ended", humantime::format_duration(limit));
                let help = "`timeout` of the step sets the limit; rows and checkpoints that were finished are kept";
                Failure { log: failure.log, ..Failure::transient(message).help(help) }
            }
            _ => failure,
        }
    }

    /// What was measured, for the action record.
    pub fn measures(&self) -> BTreeMap<String, f64> {
        self.measures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sink for StepSink<'_> {
    fn progress(&self, done: u64, total: u64, note: &str) {
        let remembered = self.remembered.load(Ordering::Relaxed);
        let (step, note) = (self.step.to_owned(), note.to_owned());
        self.context.events.tell(&Event::Progress { step, done, total, remembered, note });
    }

    fn remembered(&self, units: u64) {
        self.remembered.fetch_add(units, Ordering::Relaxed);
    }

    fn log(&self, level: Level, message: &str) {
        let message = self.context.credentials.mask(message);
        self.context.events.tell(&Event::Log { step: self.step.to_owned(), level, message });
    }

    fn measure(&self, name: &str, value: f64) {
        self.measures.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), value);
        self.context.events.tell(&Event::Measure { step: self.step.to_owned(), name: name.to_owned(), value });
    }

    fn checkpoint(&self, at: u64, dir: &Path) -> Result<(), Failure> {
        let files = ingest::files(self.context.store, &ingest::below(dir)?, self)?;
        let digests = files.into_iter().map(|(name, entry)| (name, entry.digest)).collect();
        self.context.store.add_checkpoint(&self.key, at, digests);
        self.context.store.commit().map(drop).map_err(store_failure)
    }

    fn cancelled(&self) -> bool {
        is_cancelled(self.context.cancel) || self.limit.is_some_and(|(_, end)| Instant::now() >= end)
    }
}
