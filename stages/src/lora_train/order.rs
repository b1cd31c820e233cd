//! In which order rows are learnt: from ids, phases and weights to the rows of each step.
//!
//! Each row draws its place in each epoch from the seed and its id, so that a row more or less leaves the order of the others as
//! it was. The plan is made anew from the same rows when training goes on after an interruption; nothing of it is saved.

use std::collections::BTreeMap;

use pipe_engine::problem::Failure;

use super::params::{Length, Order, Params};
use crate::ordering::{self, Rank};

/// A row, as far as its place in the order goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Item<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its phase; lower ones are learnt first. Of no effect unless the order is by curriculum.
    pub phase: i64,
    /// How often it is learnt per epoch, on average: 0, or from 0.001 to 1000.
    pub weight: f64,
}

/// Which rows each step learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Indices of rows, one step after the other.
    rows: Vec<u32>,
    /// Rows to a step.
    batch: usize,
    /// Rows computed at once.
    micro_batch: usize,
}

/// The most often that rows can be learnt in one training, all counted.
const LIMIT: f64 = (1_u64 << 30) as f64;
/// Weights that are not 0 lie between these.
pub const WEIGHTS: std::ops::RangeInclusive<f64> = 0.001..=1000.0;

impl Plan {
    /// Decides on the rows of every step.
    ///
    /// # Errors
    /// When there is nothing to learn, a weight is out of range, or the training is longer than 2³⁰ rows.
    pub fn new(items: &[Item<'_>], params: &Params) -> Result<Self, Failure> {
        check(items)?;
        let phases = phases(items, params.order);
        let batch = params.batch();
        let total = match params.length() {
            Length::Epochs(epochs) => f64::from(epochs) * phases.iter().map(Phase::mass).sum::<f64>(),
            Length::Steps(steps) => f64::from(steps) * as_f64(batch),
        };
        if total > LIMIT {
            return Err(Failure::input(format!("this training would learn {total:.0} rows, {LIMIT:.0} at most"))
                .help("lower `epochs`, `max_steps` or the weights"));
        }
        let rows = match params.length() {
            Length::Epochs(epochs) => {
                phases.iter().flat_map(|phase| phase.passes(params.seed).take(epochs as usize).flatten()).collect()
            }
            Length::Steps(steps) => by_steps(&phases, steps as usize * batch, params.seed),
        };
        let plan = Self { rows, batch, micro_batch: params.micro_batch_size as usize };
        if plan.rows.is_empty() {
            return Err(Failure::input("the weights are so small that no row came to be learnt").help("raise `epochs`"));
        }
        Ok(plan)
    }

    /// Number of steps.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.rows.len().div_ceil(self.batch)
    }

    /// The rows of a step, counted from 0; the last step may have fewer. Empty beyond it.
    #[must_use]
    pub fn step(&self, step: usize) -> &[u32] {
        let end = self.rows.len();
        &self.rows[(step * self.batch).min(end)..((step + 1) * self.batch).min(end)]
    }

    /// The rows of a step, in portions that are computed at once.
    pub fn micro_batches(&self, step: usize) -> impl ExactSizeIterator<Item = &[u32]> {
        self.step(step).chunks(self.micro_batch)
    }
}

fn check(items: &[Item<'_>]) -> Result<(), Failure> {
    if items.is_empty() {
        return Err(Failure::input("there are no rows to learn"));
    }
    if u32::try_from(items.len()).is_err() {
        return Err(Failure::input(format!("{} rows are more than can be learnt ({})", items.len(), u32::MAX)));
    }
    for item in items {
        if item.weight != 0.0 && !WEIGHTS.contains(&item.weight) {
            let message = format!(
                "its weight is {}, which is neither 0 nor from {} to {}",
                item.weight,
                WEIGHTS.start(),
                WEIGHTS.end()
            );
            return Err(Failure { row: Some(item.id.to_owned()), ..Failure::input(message) });
        }
    }
    if items.iter().all(|item| item.weight == 0.0) {
        return Err(Failure::input("every row has weight 0: there is nothing to learn"));
    }
    Ok(())
}

/// Rows that are learnt together, shuffled.
struct Phase<'a> {
    rows: Vec<(u32, Item<'a>)>,
}

fn phases<'a>(items: &[Item<'a>], order: Order) -> Vec<Phase<'a>> {
    let mut phases: BTreeMap<i64, Vec<(u32, Item<'a>)>> = BTreeMap::new();
    for (index, item) in (0..).zip(items) {
        let phase = if order == Order::Curriculum { item.phase } else { 0 };
        phases.entry(phase).or_default().push((index, *item));
    }
    phases.into_values().map(|rows| Phase { rows }).collect()
}

impl Phase<'_> {
    /// How many rows an epoch learns, on average.
    fn mass(&self) -> f64 {
        self.rows.iter().map(|(_, item)| item.weight).sum()
    }

    /// The rows of each epoch, without end.
    fn passes(&self, seed: u64) -> impl Iterator<Item = Vec<u32>> {
        (0_u64..).map(move |epoch| self.pass(seed, epoch))
    }

    fn pass(&self, seed: u64, epoch: u64) -> Vec<u32> {
        let mut places: Vec<(Rank, u32)> = Vec::with_capacity(self.rows.len());
        for (index, item) in &self.rows {
            for copy in 0..times(item, seed, epoch) {
                let fields: [&[u8]; 3] = [&epoch.to_le_bytes(), &copy.to_le_bytes(), item.id.as_bytes()];
                places.push((ordering::rank("lora_train: order", seed, &fields), *index));
            }
        }
        places.sort_unstable();
        places.into_iter().map(|(_, index)| index).collect()
    }
}

/// How often a row is learnt in this epoch: its weight, rounded up with the probability of its fraction.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "weights are at most 1000")]
fn times(item: &Item<'_>, seed: u64, epoch: u64) -> u32 {
    let draw =
        || ordering::unit(ordering::rank("lora_train: times", seed, &[&epoch.to_le_bytes(), item.id.as_bytes()]));
    let extra = item.weight.fract() > 0.0 && draw() < item.weight.fract();
    item.weight as u32 + u32::from(extra)
}

/// So many rows, shared among the phases by their mass.
fn by_steps(phases: &[Phase<'_>], total: usize, seed: u64) -> Vec<u32> {
    let mass: f64 = phases.iter().map(Phase::mass).sum();
    let mut rows: Vec<u32> = Vec::with_capacity(total);
    let mut before = 0.0;
    for phase in phases.iter().filter(|phase| phase.mass() > 0.0) {
        before += phase.mass();
        let border = nearest(as_f64(total) * (before / mass)).min(total);
        let wanted = border.saturating_sub(rows.len());
        rows.extend(phase.passes(seed).flatten().take(wanted));
    }
    rows
}

#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
const fn as_f64(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are not negative and below 2^53")]
fn nearest(count: f64) -> usize {
    count.round() as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn params(value: Value) -> Params {
        serde_json::from_value(value).unwrap()
    }

    fn items(ids: &[String]) -> Vec<Item<'_>> {
        ids.iter().map(|id| Item { id, phase: 0, weight: 1.0 }).collect()
    }

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|id| format!("row {id}")).collect()
    }

    fn counts(rows: &[u32], of: usize) -> Vec<usize> {
        let mut counts = vec![0; of];
        for row in rows {
            counts[*row as usize] += 1;
        }
        counts
    }

    #[test]
    fn phases_follow_each_other_with_all_their_epochs() {
        let ids = ids(12);
        let mut items = items(&ids);
        for (index, item) in (0..).zip(&mut items) {
            item.phase = index % 3;
        }
        let plan = Plan::new(&items, &params(json!({ "order": "curriculum", "epochs": 2 }))).unwrap();
        let phases: Vec<i64> = plan.rows.iter().map(|row| items[*row as usize].phase).collect();
        assert_eq!(phases, [[0; 8], [1; 8], [2; 8]].concat());
        let shuffled = Plan::new(&items, &params(json!({ "epochs": 2 }))).unwrap();
        assert!(!shuffled.rows[..12].iter().map(|row| items[*row as usize].phase).is_sorted());
    }

    #[test]
    fn each_epoch_and_seed_shuffles_anew() {
        let ids = ids(50);
        let plan = |seed| Plan::new(&items(&ids), &params(json!({ "epochs": 2, "seed": seed }))).unwrap();
        assert_ne!(plan(0).rows[..50], plan(0).rows[50..]);
        assert_ne!(plan(0), plan(1));
        assert_eq!(plan(1), plan(1));
    }

    #[test]
    fn steps_cut_the_rows_into_batches() {
        let ids = ids(10);
        let settings = params(json!({ "micro_batch_size": 2, "gradient_accumulation_steps": 2 }));
        let plan = Plan::new(&items(&ids), &settings).unwrap();
        assert_eq!(plan.steps(), 3);
        assert_eq!([0, 1, 2, 3].map(|step| plan.step(step).len()), [4, 4, 2, 0]);
        assert_eq!(plan.micro_batches(0).map(<[u32]>::len).collect::<Vec<_>>(), [2, 2]);
        assert_eq!([plan.step(0), plan.step(1), plan.step(2)].concat(), plan.rows);
    }

    #[test]
    fn steps_are_shared_among_phases_by_their_mass() {
        let ids = ids(40);
        let mut items = items(&ids);
        for item in &mut items[10..] {
            item.phase = 1;
        }
        let settings = params(json!({ "order": "curriculum", "max_steps": 25, "micro_batch_size": 4 }));
        let plan = Plan::new(&items, &settings).unwrap();
        assert_eq!(plan.rows.len(), 100);
        assert!(plan.rows[..25].iter().all(|row| *row < 10) && plan.rows[25..].iter().all(|row| *row >= 10));
    }

    #[test]
    fn a_weight_is_how_often_a_row_is_learnt_per_epoch() {
        let ids = ids(4);
        let weights = [1.0, 2.0, 0.25, 0.0];
        let items: Vec<Item<'_>> = ids.iter().zip(weights).map(|(id, weight)| Item { id, phase: 0, weight }).collect();
        let plan = Plan::new(&items, &params(json!({ "epochs": 4000 }))).unwrap();
        let counts = counts(&plan.rows, 4);
        assert_eq!([counts[0], counts[1], counts[3]], [4000, 8000, 0]);
        assert!((900..1100).contains(&counts[2]), "{}", counts[2]);
    }

    #[test]
    fn what_cannot_be_learnt_is_refused() {
        let message = |items: &[Item<'_>], value| Plan::new(items, &params(value)).unwrap_err().to_string();
        assert_eq!(message(&[], json!({})), "there are no rows to learn");
        let item = Item { id: "a", phase: 0, weight: 1.0 };
        let weighted = |weight| [Item { weight, ..item }];
        assert_eq!(message(&weighted(0.0), json!({})), "every row has weight 0: there is nothing to learn");
        let out_of_range = "row `a`: its weight is -1, which is neither 0 nor from 0.001 to 1000";
        assert_eq!(message(&weighted(-1.0), json!({})), out_of_range);
        assert!(message(&weighted(f64::NAN), json!({})).contains("its weight is NaN"));
        assert!(message(&[item], json!({ "max_steps": 1_000_000_000 })).contains("8000000000 rows"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_epoch_learns_every_row_once(count in 1..80_usize, epochs in 1..4_u32, batch in 1..9_u32) {
            let ids = ids(count);
            let plan = Plan::new(&items(&ids), &params(json!({ "epochs": epochs, "micro_batch_size": batch }))).unwrap();
            prop_assert_eq!(plan.steps(), (count * epochs as usize).div_ceil(batch as usize));
            for epoch in plan.rows.chunks(count) {
                prop_assert_eq!(counts(epoch, count), vec![1; count]);
            }
        }

        #[test]
        fn a_row_less_leaves_the_order_of_the_others(count in 2..60_usize, gone in any::<prop::sample::Index>(), seed: u32) {
            let ids = ids(count);
            let gone = gone.index(count);
            let settings = params(json!({ "seed": seed }));
            let name = |ids: &[String], plan: Plan| -> Vec<String> {
                plan.rows.iter().map(|row| ids[*row as usize].clone()).collect()
            };
            let mut before = name(&ids, Plan::new(&items(&ids), &settings).unwrap());
            before.retain(|id| *id != ids[gone]);
            let mut rest = ids.clone();
            rest.remove(gone);
            let after = name(&rest, Plan::new(&items(&rest), &settings).unwrap());
            prop_assert_eq!(before, after);
        }

        #[test]
        fn steps_are_as_many_as_asked(count in 1..30_usize, steps in 1..40_u32, phases in 1..5_i64) {
            let ids = ids(count);
            let mut items = items(&ids);
            for (index, item) in (0..).zip(&mut items) {
                item.phase = index % phases;
                item.weight = [0.5, 1.0, 0.0, 3.0][index as usize % 4];
            }
            let settings = params(json!({ "order": "curriculum", "max_steps": steps, "micro_batch_size": 3 }));
            let plan = Plan::new(&items, &settings).unwrap();
            prop_assert_eq!(plan.steps(), steps as usize);
            prop_assert_eq!(plan.rows.len(), steps as usize * 3);
            prop_assert!(plan.rows.iter().map(|row| items[*row as usize].phase).is_sorted());
        }
    }
}
