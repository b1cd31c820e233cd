//! Whether what a step gave is what the pipeline expects of it. Looked at whenever a step is done, also when its result was there.

use pipe_cache::Store;
use serde_json::{Map, Value, json};

use super::StepResult;
use crate::artifact::{Manifest, store_failure};
use crate::event::RowCounts;
use crate::graph::{Graph, Step};
use crate::problem::{Failure, FailureClass};
use crate::spec::settings::{Expectation, Otherwise};
use crate::stage::METRICS;

/// Where a `metrics/1` keeps its numbers.
const METRICS_FILE: &str = "metrics.json";

/// What is not as expected, but may be so.
///
/// # Errors
/// What is not as expected and fails the step.
pub(super) fn judge(graph: &Graph, step: &Step, result: &StepResult, store: &Store) -> Result<Vec<String>, Failure> {
    if let Some(rows) = &result.report.rows {
        failed_rows(graph, step, rows)?;
    }
    if step.settings.expect.is_empty() {
        return Ok(Vec::new());
    }
    let known = variables(result, store)?;
    let (mut failed, mut warnings) = (Vec::new(), Vec::new());
    for expectation in &step.settings.expect {
        if let Some(message) = unmet(expectation, &known) {
            let fails = expectation.otherwise == Otherwise::Fail;
            if fails { &mut failed } else { &mut warnings }.push(message);
        }
    }
    if failed.is_empty() {
        return Ok(warnings);
    }
    Err(Failure::new(FailureClass::Expectation, failed.join("\n"))
        .help("what the step gave is kept; what depends on it is not made"))
}

/// Checks the limit on failed rows. Where none is set not all may fail: then it is the step that failed.
fn failed_rows(graph: &Graph, step: &Step, rows: &RowCounts) -> Result<(), Failure> {
    let (failed, total) = (rows.failed.values().sum::<u64>(), rows.total);
    let (message, others) = match step.settings.max_failed_rows.map(|limit| limit.of(total)) {
        Some(most) if failed > most => {
            (format!("{failed} of {total} rows failed, and `max_failed_rows` allows {most}"), "the others are kept")
        }
        None if failed > 0 && failed == total => {
            let all = if total == 1 { "its only row failed".to_owned() } else { format!("all {total} rows failed") };
            (all, "if that is as it should be, write `max_failed_rows = \"100%\"`")
        }
        _ => return Ok(()),
    };
    let classes = rows.failed.iter().map(|(class, n)| format!("{n} {class}")).collect::<Vec<_>>().join(", ");
    let file = graph.text.path.display();
    Err(Failure::new(FailureClass::Expectation, format!("{message}: {classes}"))
        .help(format!("`pipe show {file} {} --left-out` lists them; {others}", quoted(&step.name))))
}

/// A step's name as a shell takes it.
fn quoted(name: &str) -> String {
    if name.contains('[') { format!("'{}'", name.replace('\'', "'\\''")) } else { name.to_owned() }
}

/// Why an expectation is not met, if it is not.
fn unmet(expectation: &Expectation, known: &Map<String, Value>) -> Option<String> {
    let (source, place) = (expectation.expression.source(), &expectation.place);
    match expectation.expression.truth(known) {
        Ok(true) => None,
        Ok(false) => {
            let values = expectation.expression.values(known);
            let values: Vec<String> = values.iter().map(|(path, value)| format!("{path} is {value}")).collect();
            let but = if values.is_empty() { "it is not so".to_owned() } else { values.join(", ") };
            Some(format!("expected `{source}` ({place}), but {but}"))
        }
        Err(fault) => {
            let help = fault.help.map_or_else(String::new, |help| format!("; {help}"));
            Some(format!("cannot tell whether `{source}` ({place}): {}{help}", fault.message))
        }
    }
}

/// What expectations may name (`graph/expectations.rs` tells it before): the content of the metrics, what was measured, counts of rows.
fn variables(result: &StepResult, store: &Store) -> Result<Map<String, Value>, Failure> {
    let mut known = Map::new();
    let metrics: Vec<_> = result.outputs.iter().filter(|(_, artifact)| artifact.manifest.kind() == METRICS).collect();
    for (port, artifact) in &metrics {
        let content = content(&artifact.manifest, store)?;
        known.insert((*port).clone(), content.clone());
        if metrics.len() == 1 {
            add_metrics(&mut known, &content);
        }
    }
    known.extend(result.measures.iter().map(|(name, value)| (name.clone(), json!(value))));
    if let Some(rows) = &result.report.rows {
        let (dropped, failed) = (rows.dropped.values().sum::<u64>(), rows.failed.values().sum::<u64>());
        let counts = json!({ "total": rows.total, "kept": rows.kept, "dropped": dropped, "failed": failed });
        known.insert("rows".to_owned(), counts);
    }
    Ok(known)
}

fn content(manifest: &Manifest, store: &Store) -> Result<Value, Failure> {
    let Manifest::Files(files) = manifest else { return Ok(Value::Null) };
    let Some(entry) = files.files.get(METRICS_FILE) else { return Ok(Value::Null) };
    let bytes = store.read(&entry.digest).map_err(store_failure)?;
    serde_json::from_slice(&bytes).map_err(|error| Failure::input(format!("{METRICS_FILE} is not JSON: {error}")))
}

/// Every name of `metrics.json`; and of a list `measures`, whose members have a `name` and `scores` by system, each score as
/// `SYSTEM.NAME` and as `scores["SYSTEM"].NAME`.
fn add_metrics(known: &mut Map<String, Value>, content: &Value) {
    let mut scores = Map::new();
    for measure in content["measures"].as_array().into_iter().flatten() {
        let Some(name) = measure["name"].as_str() else { continue };
        for (system, score) in measure["scores"].as_object().into_iter().flatten() {
            scores.entry(system.as_str()).or_insert_with(|| json!({}))[name] = score.clone();
        }
    }
    known.extend(scores.clone());
    known.insert("scores".to_owned(), Value::Object(scores));
    known.extend(content.as_object().cloned().unwrap_or_default());
    known.insert("metrics".to_owned(), content.clone());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::Expression;

    fn told(source: &str, metrics: &Value) -> Option<String> {
        let mut known = Map::new();
        add_metrics(&mut known, metrics);
        let expression = Expression::parse(source).unwrap();
        unmet(&Expectation { expression, otherwise: Otherwise::Fail, place: "p.toml:3:1".to_owned() }, &known)
    }

    #[test]
    fn scores_go_by_system_and_measure() {
        let score = |value: f64| json!({ "value": value, "interval": { "low": value - 0.5, "high": value + 0.5 } });
        let metrics = json!({
            "rows": 9,
            "measures": [{ "name": "adjectives", "scores": { "tuned": score(4.75), "r=8": score(5.0) } }],
        });
        assert_eq!(told("tuned.adjectives.value > 4.5 && rows == 9 && metrics.rows == 9", &metrics), None);
        assert_eq!(told("scores.all(s, scores[s].adjectives.value > 4)", &metrics), None);
        assert_eq!(
            told("tuned.adjectives.interval.low >= 5 || rows > 10", &metrics).unwrap(),
            "expected `tuned.adjectives.interval.low >= 5 || rows > 10` (p.toml:3:1), but tuned.adjectives.interval.low is 4.25, rows is 9"
        );
        assert_eq!(
            told("tuned.adjectivs.value > 1", &metrics).unwrap(),
            "cannot tell whether `tuned.adjectivs.value > 1` (p.toml:3:1): there is no `tuned.adjectivs`; did you mean `tuned.adjectives`?"
        );
        assert_eq!(told("1 > 2", &metrics).unwrap(), "expected `1 > 2` (p.toml:3:1), but it is not so");
    }
}
