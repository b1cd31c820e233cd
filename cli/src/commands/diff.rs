//! `pipe diff`: what two runs have that the other has not.

use pipe_cache::{Digest, Store};
use pipe_engine::artifact::Manifest;
use pipe_engine::diff::{self, How, OutputDiff, RunDiff, StepDiff};
use pipe_engine::history::{History, Run};
use pipe_engine::problem::Failure;
use serde_json::{Value, json};

use crate::args::DiffArgs;
use crate::error::CliError;
use crate::metrics::{self, MetricDiff, Number};
use crate::session::open_store;
use crate::{changes, exit, text};

/// Compares two runs.
pub fn diff(args: &DiffArgs, json: bool) -> Result<u8, CliError> {
    let store = open_store(&args.store)?;
    let history = History::open(&store)?;
    let (before, now) = runs(&history, args)?;
    let diff = diff::diff(&store, &before, &now)?;
    text::out(&if json { to_json(&store, &diff).to_string() } else { render(&store, &diff) });
    Ok(exit::DONE)
}

/// The two runs named; else the last run of the pipeline, and the one before.
fn runs(history: &History<'_>, args: &DiffArgs) -> Result<(Run, Run), Failure> {
    let named = |name: &String| history.read(history.find(name)?);
    let now = match &args.now {
        Some(name) => named(name)?,
        None => {
            let pipeline = args.before.as_ref().map(named).transpose()?.map(|run| run.pipeline);
            let last = history.runs().find(|run| pipeline.as_ref().is_none_or(|name| *name == run.pipeline));
            last.ok_or_else(|| Failure::input("there are no runs in this store").help("`pipe run` makes one"))?
        }
    };
    let before = match &args.before {
        Some(name) => named(name)?,
        None => history.before(&now.run).find(|run| run.pipeline == now.pipeline).ok_or_else(|| {
            Failure::input(format!("there is only one run of `{}`", now.pipeline)).help("`pipe log` lists the runs")
        })?,
    };
    Ok((before, now))
}

/// The numbers of an output that holds metrics.
fn metrics_of(store: &Store, output: &OutputDiff) -> Vec<MetricDiff> {
    if !output.kind.as_ref().is_some_and(|kind| kind.starts_with("metrics/")) {
        return Vec::new();
    }
    let file = |digest: Option<Digest>| {
        let Manifest::Files(files) = Manifest::load(store, &digest?).ok()? else { return None };
        store.read(&files.files.get("metrics.json")?.digest).ok()
    };
    match (file(output.before), file(output.now)) {
        (Some(before), Some(now)) => metrics::compare(&before, &now),
        _ => Vec::new(),
    }
}

fn to_json(store: &Store, diff: &RunDiff) -> Value {
    let mut value = json!(diff);
    for (step, shown) in diff.steps.iter().zip(value["steps"].as_array_mut().into_iter().flatten()) {
        for (output, shown) in step.outputs.iter().zip(shown["outputs"].as_array_mut().into_iter().flatten()) {
            let metrics = metrics_of(store, output);
            if !metrics.is_empty() {
                shown["metrics"] = json!(metrics);
            }
        }
    }
    value
}

fn render(store: &Store, diff: &RunDiff) -> String {
    let run = |run: &diff::Named| {
        format!("{} of {} ({}, {})", run.run, run.pipeline, text::when(run.started), run.end.name())
    };
    let mut lines = vec![format!("before  {}", run(&diff.before)), format!("now     {}", run(&diff.now))];
    let settings: Vec<Vec<String>> = diff
        .settings
        .iter()
        .map(|setting| {
            vec![format!("  {}", setting.name), format!("{} → {}", value(&setting.before), value(&setting.now))]
        })
        .collect();
    if !settings.is_empty() {
        lines.push(String::new());
        lines.push(text::table(&settings));
    }
    for step in &diff.steps {
        lines.push(format!("\n{} ({}){}", step.step, step.stage, how(step.how)));
        let facts = facts(step);
        if !facts.is_empty() {
            lines.push(text::table(&facts));
        }
        for output in &step.outputs {
            lines.extend(table(&metrics_of(store, output)));
        }
    }
    let differ = text::count(diff.steps.len() as u64, "step");
    lines.push(format!(
        "\n{differ} {}, {} the same",
        if diff.steps.len() == 1 { "differs" } else { "differ" },
        diff.same
    ));
    lines.join("\n")
}

fn value(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(value) if value.is_empty() => "nothing".to_owned(),
        Value::String(value) => text::shorten(value, 60),
        other => text::shorten(&other.to_string(), 60),
    }
}

const fn how(how: How) -> &'static str {
    match how {
        How::Added => ": new",
        How::Removed => ": gone",
        How::Unknown => ": one of the runs has no result of it",
        How::Recipe => "",
        How::Result => ": the same recipe on other content",
    }
}

/// What differs in the recipe and the outputs of a step, a line each.
fn facts(step: &StepDiff) -> Vec<Vec<String>> {
    let mut facts: Vec<(String, String)> = step.changes.iter().map(changes::fact).collect();
    if step.outputs.iter().any(|output| output.before.is_none() && output.files.is_some()) {
        // The files say what the digest of all of them only hints at.
        facts.retain(|(name, _)| name != "source");
    }
    for output in &step.outputs {
        let differs = match (&output.rows, &output.files) {
            (Some(rows), _) => changes::rows(rows),
            (None, Some(files)) => changes::files(files),
            (None, None) => "one of both is gone from the store".to_owned(),
        };
        facts.push((output.port.clone(), differs));
    }
    if step.how == How::Recipe && step.outputs.is_empty() {
        facts.push(("outputs".to_owned(), "the same".to_owned()));
    }
    facts.into_iter().map(|(name, how)| vec![format!("  {name}"), how]).collect()
}

/// Numbers side by side.
fn table(metrics: &[MetricDiff]) -> Option<String> {
    let number = |number: &Option<Number>| match number {
        None => "none".to_owned(),
        Some(Number { value, interval: None }) => round(*value),
        Some(Number { value, interval: Some((low, high)) }) => {
            format!("{} [{}, {}]", round(*value), round(*low), round(*high))
        }
    };
    let mut rows = vec![["", "system", "before", "now", "difference", ""].map(str::to_owned).to_vec()];
    rows[0][0] = "  number".to_owned();
    rows.extend(metrics.iter().map(|metric| {
        vec![
            format!("  {}", metric.name),
            metric.system.clone().unwrap_or_default(),
            number(&metric.before),
            number(&metric.now),
            metric.difference.map_or_else(String::new, |difference| {
                format!("{}{}", if difference > 0.0 { "+" } else { "" }, round(difference))
            }),
            metric.verdict.words().to_owned(),
        ]
    }));
    (!metrics.is_empty()).then(|| text::table(&rows))
}

/// Four significant digits, whole numbers whole.
fn round(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of digits from 0 to 12")]
    let digits = (3.0 - value.abs().log10().floor()).clamp(0.0, 12.0) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::round;

    #[test]
    fn numbers_have_four_digits() {
        assert_eq!([0.0, 12.0, 0.123_456, 12.345_6, -3.0e-5].map(round), ["0", "12", "0.1235", "12.35", "-0.00003000"]);
    }
}
