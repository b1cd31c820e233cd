//! Progress bars on a terminal: one line per running step, a line for each that is done, one for the whole run.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use pipe_engine::event::{Event, Reporter};
use pipe_engine::step::Level;

use super::pace::Pace;
use super::{terminal, words};
use crate::text;

/// Draws bars on standard error.
pub struct Bars {
    all: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: HashMap<String, Running>,
    /// Counts the steps of the run.
    run: Option<ProgressBar>,
    /// Of the longest name of a step.
    width: usize,
}

/// The line of a running step.
struct Running {
    bar: ProgressBar,
    pace: Arc<Mutex<Pace>>,
    /// The template it is drawn by.
    drawn: &'static str,
}

/// Widths from which a terminal has room for a bar, and for all there is to say.
const ROOM_FOR_A_BAR: usize = 60;
const ROOM_FOR_ALL: usize = 76;

impl Bars {
    /// Nothing drawn yet.
    pub fn new() -> Self {
        terminal::hide_control_characters();
        Self { all: MultiProgress::new(), state: Mutex::default() }
    }

    fn begin(&self, state: &mut State, steps: &[String]) {
        state.width = steps.iter().map(|step| step.chars().count()).max().unwrap_or(0);
        let bar = self.all.add(ProgressBar::new(steps.len() as u64));
        bar.set_style(style("{pos}/{len} steps  {elapsed}  {wide_msg}"));
        bar.enable_steady_tick(Duration::from_millis(200));
        state.run = Some(bar);
    }

    fn start(&self, state: &mut State, step: &str, stage: &str) {
        let bar = ProgressBar::new_spinner();
        let bar = match &state.run {
            Some(run) => self.all.insert_before(run, bar),
            None => self.all.add(bar),
        };
        // Names take a third of the line at most.
        let width = state.width.min(terminal::width() / 3);
        bar.set_prefix(format!("{:<width$}", text::shorten(step, width)));
        bar.set_message(stage.to_owned());
        let running = Running { bar, pace: Arc::default(), drawn: SPINNER };
        running.draw(SPINNER);
        running.bar.enable_steady_tick(Duration::from_millis(100));
        state.running.insert(step.to_owned(), running);
    }

    /// A step that does not run for now becomes a line above the bars.
    fn pause(&self, state: &mut State, step: &str, words: &str) {
        if let Some(running) = state.running.remove(step) {
            running.bar.finish_and_clear();
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

const SPINNER: &str = "{prefix}  {spinner} {elapsed}  {wide_msg}";

/// The template for a step whose end is known. Only the message gives way, so the rest must fit the terminal.
const fn template(width: usize) -> &'static str {
    match width {
        ROOM_FOR_ALL.. => "{prefix}  {bar:24} {pos}/{len}  {elapsed}{left}  {wide_msg}",
        ROOM_FOR_A_BAR.. => "{prefix}  {bar:10} {pos}/{len}{left}  {wide_msg}",
        _ => "{prefix}  {pos}/{len}{left}  {wide_msg}",
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        terminal::restore();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is fixed").progress_chars("━╸ ")
}

impl Running {
    fn draw(&self, template: &str) {
        let pace = Arc::clone(&self.pace);
        let left = move |state: &ProgressState, out: &mut dyn Write| {
            let pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(left) = pace.left(state.pos(), state.len().unwrap_or(0), Instant::now()) {
                // It writes into memory.
                let _ = write!(out, ", {} left", text::duration(left.as_secs_f64().max(1.0).round()));
            }
        };
        self.bar.set_style(style(template).with_key("left", left));
    }

    fn progress(&mut self, done: u64, total: u64, remembered: u64, note: &str) {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).heard(done, remembered, Instant::now());
        // Where the end is not known a number would say too much.
        let template = if total > 0 { template(terminal::width()) } else { SPINNER };
        if template != self.drawn {
            self.drawn = template;
            self.draw(template);
        }
        if total > 0 {
            self.bar.set_length(total);
            self.bar.set_position(done);
        }
        self.bar.set_message(note.to_owned());
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
            Event::Progress { step, done, total, remembered, note } => {
                if let Some(running) = state.running.get_mut(step) {
                    running.progress(*done, *total, *remembered, note);
                }
            }
            Event::StepDone { step, report } => self.end(&mut state, step, &words::done(report)),
            Event::StepRetried { step, retry, retries, wait, failure } => {
                self.pause(&mut state, step, &words::retried(*retry, *retries, *wait, failure));
            }
            Event::StepFailed { step, failure } => self.end(&mut state, step, words::failed(failure)),
            Event::StepSkipped { step, because } => {
                self.end(&mut state, step, &words::skipped(because));
            }
            Event::Stopping { waits_for } => {
                let _ = self.all.println(words::stopping(waits_for));
                if let Some(run) = &state.run {
                    run.set_message("stopping");
                }
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
