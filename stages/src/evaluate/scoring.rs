//! From aligned rows to numbers: every metric for every system, with intervals and differences.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use pipe_engine::problem::Failure;
use pipe_engine::step::Sink;
use pipe_metrics::stats::Resampling;
use pipe_metrics::{AttributeWords, Metric, Missing as Policy, Options, Outcome, Scores, Task, TaskItem, Value};
use rayon::prelude::*;

use super::align::{Aligned, Predictions};
use super::report::{Difference, FORMAT, Intervals, Measure, NotComputed, Range, Report, Score, System};
use super::{Missing, Params, selection};

/// What was found.
pub(super) struct Scored {
    pub report: Report,
    /// Of each system, in order.
    pub scores: Vec<Scores>,
}

/// Scores all systems.
pub(super) fn score(aligned: &Aligned, params: &Params, sink: &dyn Sink) -> Result<Scored, Failure> {
    let metrics = selection::select(&params.metrics).map_err(|problem| Failure::input(problem.message))?;
    let task = task(aligned, params)?;
    let names: Vec<&str> = metrics.iter().map(|metric| metric.name).collect();
    let done = AtomicU64::new(0);
    let total = (aligned.systems.len() + metrics.len()) as u64;
    let advance = |note: &str| {
        sink.progress(done.fetch_add(1, Ordering::Relaxed) + 1, total, note);
        if sink.cancelled() { Err(Failure::interrupted()) } else { Ok(()) }
    };
    let score = |system: &Predictions| {
        let scores = task.score(&names, hypotheses(aligned, system), &options(params)).map_err(refused)?;
        advance(&system.name).map(|()| scores)
    };
    let scores = aligned.systems.par_iter().map(score).collect::<Result<Vec<_>, _>>()?;
    let baseline = params.baseline.as_deref().unwrap_or(&aligned.systems[0].name);
    let table = Table { aligned, params, scores: &scores, baseline };
    let measure = |metric: &&Metric| {
        let measure = table.measure(metric);
        advance(metric.name).map(|()| measure)
    };
    let measures = metrics.par_iter().map(measure).collect::<Result<Vec<_>, _>>()?;
    let report = Report {
        format: FORMAT.to_owned(),
        rows: aligned.ids.len() as u64,
        missing: params.missing,
        baseline: baseline.to_owned(),
        systems: aligned.systems.iter().map(system).collect(),
        intervals: Intervals {
            method: "percentile bootstrap over rows".to_owned(),
            confidence: params.confidence,
            resamples: params.resamples,
            seed: params.seed,
        },
        measures: measures.into_iter().flatten().collect(),
        not_computed: metrics.iter().flat_map(|metric| table.not_computed(metric)).collect(),
    };
    Ok(Scored { report, scores })
}

fn task(aligned: &Aligned, params: &Params) -> Result<Task, Failure> {
    let item = |(at, id): (usize, &String)| TaskItem {
        id: id.clone(),
        references: aligned.references.as_ref().map_or_else(Vec::new, |references| references[at].clone()),
        source: aligned.sources.as_ref().and_then(|sources| sources[at].clone()),
    };
    let task = Task::new(aligned.ids.iter().enumerate().map(item).collect()).map_err(refused)?;
    Ok(if params.attributes.is_empty() { task } else { task.with_attributes(AttributeWords::new(&params.attributes)) })
}

fn hypotheses<'a>(aligned: &'a Aligned, system: &'a Predictions) -> impl Iterator<Item = (&'a str, &'a str)> {
    aligned.ids.iter().zip(&system.texts).filter_map(|(id, text)| Some((id.as_str(), text.as_deref()?)))
}

fn options(params: &Params) -> Options {
    let missing = match params.missing {
        Missing::Error => Policy::Error,
        Missing::Skip => Policy::Skip,
        Missing::Empty => Policy::Empty,
    };
    Options { missing, resampling: resampling(params) }
}

fn resampling(params: &Params) -> Resampling {
    Resampling { resamples: params.resamples as usize, seed: params.seed, level: params.confidence }
}

fn refused(error: pipe_metrics::Error) -> Failure {
    Failure::input(error.to_string())
}

fn system(predictions: &Predictions) -> System {
    System { name: predictions.name.clone(), missing: predictions.missing.clone() }
}

/// The scores of all systems, to be read metric by metric.
struct Table<'a> {
    aligned: &'a Aligned,
    params: &'a Params,
    scores: &'a [Scores],
    baseline: &'a str,
}

impl Table<'_> {
    fn systems(&self) -> impl Iterator<Item = (&str, &Scores)> {
        self.aligned.systems.iter().map(|system| system.name.as_str()).zip(self.scores)
    }

    /// The row of a metric; `None` where no system has a value.
    fn measure(&self, metric: &Metric) -> Option<Measure> {
        let values = || self.systems().filter_map(|(name, scores)| Some((name, scores, finite(scores, metric)?)));
        let (_, _, first) = values().next()?;
        let scored =
            |(name, scores, value): (&str, &Scores, &Value)| (name.to_owned(), self.score(metric, name, scores, value));
        Some(Measure {
            name: metric.name.to_owned(),
            metric: metric.name.split('_').next().unwrap_or(metric.name).to_owned(),
            about: metric.about.to_owned(),
            signature: first.signature.to_string(),
            scores: values().map(scored).collect(),
        })
    }

    fn score(&self, metric: &Metric, name: &str, scores: &Scores, value: &Value) -> Score {
        Score {
            value: value.corpus,
            n: value.counted as u64,
            left_out: value.left_out.iter().map(|(reason, count)| (said(reason), *count as u64)).collect(),
            interval: value.interval.map(range),
            difference: if name == self.baseline { None } else { self.difference(metric, scores, value) },
        }
    }

    fn difference(&self, metric: &Metric, scores: &Scores, value: &Value) -> Option<Difference> {
        let (_, baseline) = self.systems().find(|(name, _)| *name == self.baseline)?;
        match scores.difference(baseline, metric.name, resampling(self.params)) {
            Ok(found) => Some(Difference {
                value: found.difference,
                n: found.items as u64,
                interval: Some(range(found.interval)),
            }),
            // A count over all rows has no interval, and its difference none.
            Err(_) if !metric.has_interval => {
                let value = value.corpus - finite(baseline, metric)?.corpus;
                Some(Difference { value, n: self.aligned.ids.len() as u64, interval: None })
            }
            Err(_) => None,
        }
    }

    /// Why systems have no value of a metric; said once where it is the same for all.
    fn not_computed(&self, metric: &Metric) -> Vec<NotComputed> {
        let reasons: Vec<(&str, String)> =
            self.systems().filter_map(|(name, scores)| Some((name, self.why_not(metric, scores)?))).collect();
        let entry = |system: Option<&str>, reason: &str| NotComputed {
            metric: metric.name.to_owned(),
            system: system.map(str::to_owned),
            reason: reason.to_owned(),
        };
        match reasons.as_slice() {
            [(_, first), ..]
                if reasons.len() == self.scores.len() && reasons.iter().all(|(_, reason)| reason == first) =>
            {
                vec![entry(None, first)]
            }
            _ => reasons.iter().map(|(name, reason)| entry(Some(name), reason)).collect(),
        }
    }

    fn why_not(&self, metric: &Metric, scores: &Scores) -> Option<String> {
        let no_column = |column: &str| Some(format!("there is no column `{column}`"));
        match scores.metrics.get(metric.name)? {
            Outcome::Computed(value) if value.corpus.is_finite() => None,
            Outcome::Computed(value) => Some(format!("it came out as {}", value.corpus)),
            Outcome::NotComputed(_) if metric.needs_references && self.aligned.references.is_none() => {
                no_column(&self.params.references)
            }
            Outcome::NotComputed(_) if metric.needs_source && self.aligned.sources.is_none() => {
                no_column(&self.params.source)
            }
            Outcome::NotComputed(reason) => Some(said(reason)),
        }
    }
}

/// The value of a metric, where it is a number that can be written down.
fn finite<'s>(scores: &'s Scores, metric: &Metric) -> Option<&'s Value> {
    scores.value(metric.name).filter(|value| value.corpus.is_finite())
}

/// A reason without the words that the report says itself.
fn said(reason: &pipe_metrics::Reason) -> String {
    let text = reason.to_string();
    text.strip_prefix("not computed: ").map_or(text.clone(), str::to_owned)
}

fn range(interval: pipe_metrics::Interval) -> Range {
    Range { low: interval.low, high: interval.high, resamples: interval.resamples as u64 }
}

/// The value of every row, by measure and system; rows that a metric leaves out have none.
pub(super) type RowScores<'a> = BTreeMap<&'a str, BTreeMap<&'a str, Option<f64>>>;

impl Scored {
    /// The scores of the row at this place.
    pub fn of_row<'a>(&'a self, aligned: &'a Aligned, place: usize) -> RowScores<'a> {
        let mut row = RowScores::new();
        for measure in &self.report.measures {
            for (system, scores) in aligned.systems.iter().zip(&self.scores) {
                let value = scores.value(&measure.name).and_then(|value| *value.items.get(place)?);
                row.entry(&measure.name).or_default().insert(&system.name, value.filter(|value| value.is_finite()));
            }
        }
        row
    }
}
