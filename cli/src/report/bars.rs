//! Progress bars on a terminal: one line per running step, a line for each that is done, one for the whole run.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use pipe_engine::event::{Event, Reporter};
use pipe_engine::step::Level;

use super::words;
use crate::text;

/// Draws bars on standard error.
pub struct Bars {
    all: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: HashMap<String, ProgressBar>,
    /// Counts the steps of the run.
    run: Option<ProgressBar>,
    width: usize,
}

impl Bars {
    /// Nothing drawn yet.
    pub fn new() -> Self {
        Self { all: MultiProgress::new(), state: Mutex::default() }
    }

    fn begin(&self, state: &mut State, steps: &[String]) {
        state.width = steps.iter().map(|step| step.chars().count()).max().unwrap_or(0);
        let bar = self.all.add(ProgressBar::new(steps.len() as u64));
        bar.set_style(style("{msg}  {pos}/{len} steps  {elapsed}"));
        bar.enable_steady_tick(Duration::from_millis(200));
        state.run = Some(bar);
    }

    fn start(&self, state: &mut State, step: &str, stage: &str) {
        let bar = ProgressBar::new_spinner();
        let bar = match &state.run {
            Some(run) => self.all.insert_before(run, bar),
            None => self.all.add(bar),
        };
        bar.set_prefix(format!("{step:<width$}", width = state.width));
        bar.set_message(stage.to_owned());
        bar.set_style(style("{prefix}  {spinner} {msg}  {elapsed}"));
        bar.enable_steady_tick(Duration::from_millis(100));
        state.running.insert(step.to_owned(), bar);
    }

    /// A step that does not run for now becomes a line above the bars.
    fn pause(&self, state: &mut State, step: &str, words: &str) {
        if let Some(bar) = state.running.remove(step) {
            bar.finish_and_clear();
        }
        let line = format!("{step:<width$}  {words}", width = state.width);
        // A terminal that went away is no reason to stop.
        let _ = self.all.println(line);
    }

    /// So does one that is done, and it counts.
    fn end(&self, state: &mut State, step: &str, words: &str) {
        self.pause(state, step, words);
        if let Some(run) = &state.run {
            run.inc(1);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is fixed").progress_chars("━╸ ")
}

fn progress(bar: &ProgressBar, done: u64, total: u64, note: &str) {
    if total > 0 && bar.length() != Some(total) {
        bar.set_length(total);
        bar.set_style(style("{prefix}  {bar:24} {pos}/{len}  {msg}  {elapsed}, {eta} left"));
        // What was remembered took no time: the rate counts from here.
        bar.set_message("");
        bar.set_position(done);
        bar.reset_eta();
    }
    bar.set_position(done);
    if !note.is_empty() {
        bar.set_message(note.to_owned());
    }
}

impl Reporter for Bars {
    fn report(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::RunStarted { steps, .. } => self.begin(&mut state, steps),
            Event::SourceAsked { step, source } => self.start(&mut state, step, source),
            Event::SourcePinned { step, source, pin, before } => {
                self.pause(&mut state, step, &words::pinned(source, pin, before.as_deref()));
            }
            Event::StepStarted { step, stage, .. } => self.start(&mut state, step, stage),
            Event::Progress { step, done, total, note } => {
                if let Some(bar) = state.running.get(step) {
                    progress(bar, *done, *total, note);
                }
            }
            Event::StepDone { step, report } => self.end(&mut state, step, &words::done(report)),
            Event::StepRetried { step, retry, retries, wait, failure } => {
                self.pause(&mut state, step, &words::retried(*retry, *retries, *wait, failure));
            }
            Event::StepFailed { step, failure } => self.end(&mut state, step, words::failed(failure)),
            Event::StepSkipped { step, because } => {
                self.end(&mut state, step, &format!("not tried, because of {because}"));
            }
            Event::Log { step, level: Level::Warning, message } => {
                let _ = self.all.println(format!("{step}: warning: {message}"));
            }
            Event::RunFinished { executed, reused, seconds, .. } => {
                if let Some(run) = state.run.take() {
                    run.finish_and_clear();
                }
                let _ = self.all.println(format!("{executed} executed, {reused} reused, {}", text::duration(*seconds)));
            }
            Event::Log { .. } | Event::Measure { .. } => {}
        }
    }
}
