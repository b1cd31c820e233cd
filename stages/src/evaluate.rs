//! `evaluate`: scores the predictions of several systems on the same rows, with intervals and paired differences.
//!
//! Knows which rows belong together; what a metric is, `pipe-metrics` knows. What cannot be computed is said, never guessed.

mod align;
pub mod report;
mod rows;
mod scoring;
mod selection;
pub mod table;

use std::path::Path;

use pipe_engine::cell::ColumnType;
use pipe_engine::problem::{Failure, Problem, Subject, nearest};
use pipe_engine::stage::{Contract, DATASET, Declare, Execute, Port, Resources, Shape, Stage, params_schema};
use pipe_engine::step::{Level, StepContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kinds;
pub use report::Report;
pub use table::table;

/// See the module.
pub const STAGE: Stage = Stage {
    name: "evaluate",
    version: 1,
    about: "scores the predictions of one or more systems on the same rows",
    inputs: &[Port::one("systems", &[DATASET], "the rows of each system, with its predictions").many()],
    outputs: &[Port::one("metrics", &[kinds::METRICS], "numbers, a table of them, and the scores of each row")],
    params: params_schema::<Params>,
    resources: Resources::CORES,
    resolve: None,
    declare,
    execute: Execute::Step(execute),
};

/// The parameters of `evaluate`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The column of what a system said.
    #[serde(default = "prediction")]
    pub prediction: String,
    /// The column of what it was given; metrics that need it are not computed where it is not there.
    #[serde(default = "source")]
    pub source: String,
    /// The column of what people wrote; metrics that need it are not computed where it is not there.
    #[serde(default = "references")]
    pub references: String,
    /// Metrics; a name stands for all that begin with it and `_`, so that `bleu` is `bleu_1` to `bleu_4`.
    #[serde(default = "metrics")]
    pub metrics: Vec<String>,
    /// The attribute words whose pairs are looked for; the eleven basic colours where none are given.
    #[serde(default)]
    pub attributes: Vec<String>,
    /// The system that the others are compared with; the first where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    /// What to do when a system lacks rows that another has: `error`, `skip` them for all, or score them as `empty`.
    #[serde(default)]
    pub missing: Missing,
    /// The probability that an interval covers the true value.
    #[serde(default = "confidence")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub confidence: f64,
    /// Resamples of the bootstrap.
    #[serde(default = "resamples")]
    #[schemars(range(min = 100, max = 1_000_000))]
    pub resamples: u32,
    /// The seed of the bootstrap.
    #[serde(default = "seed")]
    pub seed: u64,
}

/// What to do when a system lacks rows that another has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// Stop and list them.
    #[default]
    Error,
    /// Score the rows that all systems have, and list the others.
    Skip,
    /// Score them as if the system had said nothing, and list them.
    Empty,
}

fn prediction() -> String {
    "text".to_owned()
}

fn source() -> String {
    "caption".to_owned()
}

fn references() -> String {
    "references".to_owned()
}

fn metrics() -> Vec<String> {
    ["adjectives", "pairs_kept", "bleu", "rouge_l", "cider_d"].map(str::to_owned).into()
}

const fn confidence() -> f64 {
    0.95
}

const fn resamples() -> u32 {
    10_000
}

const fn seed() -> u64 {
    12_345
}

fn declare(declare: &Declare<'_>) -> Result<Contract, Problem> {
    let params: Params = declare.params()?;
    let metrics = selection::select(&params.metrics)?;
    let systems = declare.inputs.get("systems").map_or(&[][..], Vec::as_slice);
    check_labels(systems, params.baseline.as_deref())?;
    for system in systems {
        check_column(system, "prediction", &params.prediction, &[ColumnType::Text])?;
    }
    let mut contract = Contract::default().gives("metrics", kinds::METRICS);
    let mut columns = vec!["id".to_owned(), params.prediction.clone()];
    let optional = [
        ("source", &params.source, &[ColumnType::Text][..], metrics.iter().any(|metric| metric.needs_source)),
        ("references", &params.references, REFERENCES, metrics.iter().any(|metric| metric.needs_references)),
    ];
    for (param, column, types, needed) in optional {
        if in_all_or_none(systems, param, column, types)? {
            columns.push(column.clone());
        } else if needed {
            contract.notes.push(not_there(systems, param, column));
        }
    }
    columns.dedup();
    contract.metrics.insert("metrics".to_owned(), report::shape(systems, &metrics));
    Ok(contract.reads_columns("systems", columns))
}

const REFERENCES: &[ColumnType] = &[ColumnType::Texts, ColumnType::Text];

fn check_labels(systems: &[Shape], baseline: Option<&str>) -> Result<(), Problem> {
    let labels: Vec<&str> = systems.iter().map(|system| system.label.as_str()).collect();
    if let Some(twice) = labels.iter().enumerate().find(|(at, label)| labels[..*at].contains(label)) {
        return Err(Problem::input("systems", format!("two systems are labelled `{}`", twice.1)));
    }
    match baseline {
        Some(name) if !labels.contains(&name) => {
            let near = nearest(name, labels.iter().copied())
                .map_or_else(String::new, |near| format!("did you mean `{near}`? "));
            Err(Problem::param("baseline", format!("there is no system `{name}`"))
                .help(format!("{near}there are {}", labels.join(", "))))
        }
        _ => Ok(()),
    }
}

fn check_column(system: &Shape, param: &str, column: &str, types: &[ColumnType]) -> Result<(), Problem> {
    let schema = system.schema.as_ref().ok_or_else(|| Problem::input("systems", "port `systems` needs datasets"))?;
    if schema.get(column).is_some_and(|found| types.contains(&found)) {
        return Ok(());
    }
    let problem = Problem::missing_column(Subject::Param(param.to_owned()), column, types, schema);
    Err(Problem { message: format!("system `{}`: {}", system.label, problem.message), ..problem })
}

/// Whether the systems have a column; a system that lacks one which another has was made from other data.
fn in_all_or_none(systems: &[Shape], param: &str, column: &str, types: &[ColumnType]) -> Result<bool, Problem> {
    let has = |system: &&Shape| system.schema.as_ref().is_some_and(|schema| schema.get(column).is_some());
    if !systems.iter().any(|system| has(&system)) {
        return Ok(false);
    }
    systems.iter().try_for_each(|system| check_column(system, param, column, types))?;
    Ok(true)
}

fn not_there(systems: &[Shape], param: &str, column: &str) -> String {
    let names = systems.iter().filter_map(|system| system.schema.as_ref()).flat_map(pipe_engine::cell::Schema::names);
    let near = nearest(column, names).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
    format!("there is no column `{column}`{near}: metrics that need {param} will not be computed")
}

fn execute(ctx: &StepContext<'_>) -> Result<(), Failure> {
    let params: Params = ctx.params()?;
    let aligned = align::align(ctx.inputs("systems"), &params)?;
    let scored = scoring::score(&aligned, &params, ctx.sink)?;
    let dir = ctx.output("metrics")?;
    let table = table(&scored.report);
    write(dir, "metrics.json", &scored.report.to_json())?;
    write(dir, "table.md", table.as_bytes())?;
    write(dir, "rows.jsonl", &rows::to_jsonl(&aligned, &scored))?;
    table.lines().filter(|line| !line.is_empty()).for_each(|line| ctx.sink.log(Level::Info, line));
    Ok(())
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let path = dir.join(name);
    std::fs::write(&path, bytes).map_err(|error| Failure::io("write", &path, &error))
}

/// The table of a `metrics.json` that `evaluate` wrote.
///
/// # Errors
/// When it is not that of an evaluation.
pub fn table_of(metrics_json: &[u8]) -> Result<String, String> {
    Report::parse(metrics_json).map(|report| table(&report))
}

#[cfg(test)]
mod tests;
