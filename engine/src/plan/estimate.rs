//! How long a run would take, going by what its steps took before. Reads run logs, and those only where something would execute.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{Action, Plan, PlannedRows, StepPlan};
use crate::graph::{Graph, Step};
use crate::history::{History, Run, RunStep, StepState};
use crate::problem::Failure;
use crate::recipe::device_class;
use crate::run::Context;
use crate::run::rehearsal::side_by_side;

/// Executions of a step that count: the last ones, as data and machines change.
const SAMPLES: usize = 5;

/// Runs looked through: more take longer to read than a plan may take.
const RUNS: usize = 200;

/// How long a run would take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Seconds from its begin to its end, steps side by side as this machine runs them. Steps without an estimate count as nothing.
    pub seconds: f64,
    /// Steps that would execute, and never did before.
    pub without: Vec<String>,
}

/// A past execution of a step.
#[derive(Clone, Copy, Debug)]
struct Sample {
    seconds: f64,
    /// Rows that were executed, where the step counts them.
    rows: Option<u64>,
}

impl Plan {
    /// Tells how long its steps would take, by their last executions in this pipeline, under this profile, on this class of device.
    ///
    /// # Errors
    /// When the run logs cannot be listed.
    pub fn estimate(&mut self, graph: &Graph, profile: Option<&str>, context: &Context<'_>) -> Result<(), Failure> {
        if self.is_nothing() {
            return Ok(());
        }
        let history = History::open(context.store)?;
        let device = device_class(&context.workers.setup().device);
        let alike = |run: &Run| {
            let origin = &run.origin;
            run.pipeline == graph.name && origin.profile.as_deref() == profile && device_class(&origin.device) == device
        };
        let samples = samples(&self.steps, history.runs().take(RUNS).filter(alike));
        let (mut wanted, mut times) = (vec![false; graph.steps.len()], vec![None; graph.steps.len()]);
        let places: HashMap<&str, usize> =
            graph.steps.iter().enumerate().map(|(at, step)| (step.name.as_str(), at)).collect();
        let mut without = Vec::new();
        for step in &mut self.steps {
            let Some(at) = places.get(step.step.as_str()).copied() else { continue };
            wanted[at] = true;
            if step.action == Action::Run {
                step.seconds =
                    samples.get(&step.step).and_then(|samples| seconds(&graph.steps[at], step.rows, samples));
                times[at] = Some(step.seconds.unwrap_or_default());
                without.extend(step.seconds.is_none().then(|| step.step.clone()));
            }
        }
        self.estimate = Some(Estimate { seconds: side_by_side(graph, &wanted, &times, context.limits), without });
        Ok(())
    }
}

/// The last executions of the steps that would execute, from runs of which the newest comes first.
fn samples(steps: &[StepPlan], runs: impl Iterator<Item = Run>) -> BTreeMap<String, Vec<Sample>> {
    let running = steps.iter().filter(|step| step.action == Action::Run);
    let mut wanted: BTreeMap<&str, &str> = running.map(|step| (step.step.as_str(), step.stage)).collect();
    let mut samples: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    for run in runs {
        for RunStep { step, stage, seconds, rows, state, .. } in run.steps {
            if state != StepState::Executed || wanted.get(step.as_str()) != Some(&stage.as_str()) {
                continue;
            }
            let found = samples.entry(step.clone()).or_default();
            found.push(Sample { seconds, rows: rows.map(|rows| rows.executed) });
            if found.len() == SAMPLES {
                wanted.remove(step.as_str());
            }
        }
        if wanted.is_empty() {
            break;
        }
    }
    samples
}

/// What a step would take: of one that works row by row, the rows it would execute times its pace; of any other, the median of what it took.
fn seconds(step: &Step, rows: Option<PlannedRows>, samples: &[Sample]) -> Option<f64> {
    match (step.stage.execute.transforms(), rows) {
        (true, Some(rows)) => of_rows(rows.execute, samples),
        // How many rows there will be is not known, so neither is how long they take.
        (true, None) => None,
        (false, _) => median(samples.iter().map(|sample| (sample.seconds, 1))),
    }
}

/// Rows times the median of seconds a row, in which an execution weighs as much as it has rows; but no less than the quickest
/// execution of as many rows or fewer, because some of the time goes by before the first row.
fn of_rows(rows: u64, samples: &[Sample]) -> Option<f64> {
    let counted = || samples.iter().filter_map(|sample| Some((sample.seconds, sample.rows.filter(|rows| *rows > 0)?)));
    #[expect(clippy::cast_precision_loss, reason = "rows below 2⁵³")]
    let pace = median(counted().map(|(seconds, rows)| (seconds / rows as f64, rows)))?;
    let of_fewer = counted().filter(|(_, fewer)| *fewer <= rows).map(|(seconds, _)| seconds);
    #[expect(clippy::cast_precision_loss, reason = "rows below 2⁵³")]
    let seconds = rows as f64 * pace;
    Some(of_fewer.min_by(f64::total_cmp).map_or(seconds, |least| least.max(seconds)))
}

/// The median of values, each as often as its weight says; `None` of none.
fn median(weighted: impl Iterator<Item = (f64, u64)>) -> Option<f64> {
    let mut values: Vec<(f64, u64)> = weighted.collect();
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = values.iter().map(|(_, weight)| weight).sum::<u64>().div_ceil(2);
    let mut passed = 0;
    let at = |(value, weight): &(f64, u64)| {
        passed += weight;
        (passed >= half).then_some(*value)
    };
    values.iter().find_map(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: f64, rows: u64) -> Sample {
        Sample { seconds, rows: Some(rows) }
    }

    #[test]
    fn rows_take_their_number_times_the_pace() {
        assert_eq!(of_rows(500, &[sample(100.0, 1000)]), Some(50.0));
        assert_eq!(of_rows(0, &[sample(100.0, 1000)]), Some(0.0));
        assert_eq!(of_rows(10, &[]), None);
        assert_eq!(of_rows(10, &[sample(3.0, 0), Sample { seconds: 3.0, rows: None }]), None);
    }

    #[test]
    fn an_execution_of_few_rows_does_not_set_the_pace_of_many() {
        let past = [sample(20.0, 2), sample(21.0, 3), sample(120.0, 1000)];
        assert_eq!(of_rows(2000, &past), Some(240.0), "not ten seconds a row");
        assert_eq!(of_rows(5, &past), Some(20.0), "what goes by before the first row");
        assert_eq!(of_rows(1, &past), Some(0.12), "nothing is known of so few");
    }

    #[test]
    fn the_median_goes_by_weight() {
        assert_eq!(median([(1.0, 1), (9.0, 1), (2.0, 1)].into_iter()), Some(2.0));
        assert_eq!(median([(1.0, 1), (9.0, 5), (2.0, 1)].into_iter()), Some(9.0));
        assert_eq!(median(std::iter::empty()), None);
    }
}
