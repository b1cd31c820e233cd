//! `metrics.json` of an evaluation: the numbers, unrounded, with all that is needed to read them.

use std::collections::BTreeMap;

use pipe_engine::expression::Type;
use pipe_engine::stage::Shape;
use pipe_metrics::Metric;
use serde::{Deserialize, Serialize};

use super::Missing;

/// The name of the layout, raised with every change that a reader could notice.
pub const FORMAT: &str = "evaluation/1";

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: String,
    /// Rows scored.
    pub rows: u64,
    /// What became of rows that a system lacks.
    pub missing: Missing,
    /// The system that the others are compared with.
    pub baseline: String,
    /// What was scored.
    pub systems: Vec<System>,
    /// How intervals were made.
    pub intervals: Intervals,
    /// The numbers.
    pub measures: Vec<Measure>,
    /// What was asked for and could not be computed.
    pub not_computed: Vec<NotComputed>,
}

/// A set of predictions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// Its label.
    pub name: String,
    /// Rows that other systems have and this one lacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// How confidence intervals were made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    /// How.
    pub method: String,
    /// The probability that an interval covers the true value.
    pub confidence: f64,
    /// Resamples asked for.
    pub resamples: u32,
    /// Where they started.
    pub seed: u64,
}

/// One number for every system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Its name: `bleu_4`.
    pub name: String,
    /// The metric that it is a part of: `bleu`.
    pub metric: String,
    /// What it says, in a sentence.
    pub about: String,
    /// Everything that decides its value: variant, tokenizer, versions.
    pub signature: String,
    /// By system.
    pub scores: BTreeMap<String, Score>,
}

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The value.
    pub value: f64,
    /// Rows it was computed on.
    pub n: u64,
    /// Rows it leaves out, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u64>,
    /// Its confidence interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Range>,
    /// How far it lies from the baseline's, item by item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
}

/// How far a system lies from the baseline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Its value less the baseline's, on the rows that both have a value for.
    pub value: f64,
    /// Those rows.
    pub n: u64,
    /// Its confidence interval, from the same resamples of both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Range>,
}

/// A confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// Resamples that were made; very many rows are given fewer than asked for.
    pub resamples: u64,
}

/// A number that there is not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotComputed {
    /// The metric or measure.
    pub metric: String,
    /// The system, where it is that of one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Why.
    pub reason: String,
}

/// What expectations may name of a report: the fields of it, and the scores of each system; what cannot be computed is missed after
/// the run alone.
pub(super) fn shape(systems: &[Shape], metrics: &[&Metric]) -> Type {
    const FIELDS: [&str; 8] =
        ["format", "rows", "missing", "baseline", "systems", "intervals", "measures", "not_computed"];
    let named = |fields: &[(&str, Type)]| {
        Type::Table(fields.iter().map(|(name, found)| ((*name).to_owned(), found.clone())).collect())
    };
    let range = named(&[("low", Type::Float), ("high", Type::Float), ("resamples", Type::Int)]);
    let difference = named(&[("value", Type::Float), ("n", Type::Int), ("interval", range.clone())]);
    let score = named(&[
        ("value", Type::Float),
        ("n", Type::Int),
        ("left_out", Type::Any),
        ("interval", range),
        ("difference", difference),
    ]);
    let scores = Type::Table(metrics.iter().map(|metric| (metric.name.to_owned(), score.clone())).collect());
    let of_systems = systems.iter().map(|system| (system.label.clone(), scores.clone()));
    let fields = FIELDS.map(|name| (name.to_owned(), Type::Any));
    Type::Table(of_systems.chain(fields).collect())
}

impl Report {
    /// Reads `metrics.json`.
    ///
    /// # Errors
    /// When it is not that of an evaluation.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let report: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("metrics.json is not that of an evaluation: {error}"))?;
        if report.format != FORMAT {
            return Err(format!("metrics.json has format `{}`, expected `{FORMAT}`", report.format));
        }
        Ok(report)
    }

    /// The bytes of `metrics.json`.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("plain data with text keys can be written as JSON");
        bytes.push(b'\n');
        bytes
    }
}
