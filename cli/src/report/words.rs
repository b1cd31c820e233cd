//! What a step did, in words.

use pipe_engine::event::{RowCounts, StepReport};
use pipe_engine::problem::{Failure, FailureClass};
use pipe_engine::run::Difference;

use crate::text;

/// `done in 2.1 s: 3 of 212 rows executed, 209 remembered; dropped 6 (duplicate)`.
pub fn done(report: &StepReport) -> String {
    let mut words = match (&report.rows, report.executed) {
        (_, false) => "nothing to do".to_owned(),
        (None, true) => format!("done in {}", text::duration(report.seconds)),
        (Some(rows), true) => format!("done in {}: {}", text::duration(report.seconds), executed(rows)),
    };
    if let Some(rows) = &report.rows {
        words.push_str(&left_out("dropped", &rows.dropped));
        words.push_str(&left_out("FAILED", &rows.failed));
    }
    if let Some(differences) = &report.again {
        words.push_str(&again(differences));
    }
    words
}

/// Whether what was done again gave the same.
fn again(differences: &[Difference]) -> String {
    if differences.is_empty() {
        return "; gave the same as before".to_owned();
    }
    let told: Vec<String> = differences.iter().map(|one| format!("{} {}", one.what, one.how)).collect();
    format!("; DIFFERS from before: {}", told.join("; "))
}

/// `12 of 400`; nothing where the end is not known.
pub fn so_far(done: u64, total: u64) -> String {
    if total == 0 { String::new() } else { format!("{done} of {total}") }
}

/// `failed, tried again in 4 s (retry 3 of 5): the network is down`.
pub fn retried(retry: u32, retries: u32, wait: f64, failure: &Failure) -> String {
    let first = failure.message.lines().next().unwrap_or_default();
    format!("failed, tried again in {wait:.0} s (retry {retry} of {retries}): {first}")
}

/// `hf://org/tiny@main is pinned to hf://org/tiny@0123… model, was …`.
pub fn pinned(source: &str, pin: &str, before: Option<&str>) -> String {
    match before {
        Some(before) if before == pin => format!("{source} is what it was: {pin}"),
        Some(before) => format!("{source} is now pinned to {pin}; it was {before}"),
        None => format!("{source} is pinned to {pin}"),
    }
}

fn executed(rows: &RowCounts) -> String {
    let total = text::count(rows.total, "row");
    match rows.total.saturating_sub(rows.executed) {
        0 => total,
        remembered => format!("{} of {total}, {remembered} remembered", rows.executed),
    }
}

fn left_out(how: &str, reasons: &std::collections::BTreeMap<String, u64>) -> String {
    if reasons.is_empty() {
        return String::new();
    }
    let list = reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect::<Vec<_>>().join(", ");
    format!("; {how} {list}")
}

/// Why a step was not tried: a step, or that the run is ending.
pub fn skipped(because: &str) -> String {
    let is_step = because != pipe_engine::run::ENDING;
    if is_step { format!("not tried, because of {because}") } else { format!("not tried: {because}") }
}

/// That an interruption was heard, and what it takes.
pub fn stopping(waits_for: &[String]) -> String {
    format!("stopping: waits for what {} is at, to keep it; Ctrl-C again ends at once", waits_for.join(", "))
}

/// How a step failed, in a word.
pub fn failed(failure: &Failure) -> &'static str {
    if failure.class == FailureClass::Interrupted { "interrupted" } else { "FAILED" }
}
