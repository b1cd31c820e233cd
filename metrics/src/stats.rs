//! Uncertainty over items: percentile bootstrap intervals of corpus values and of differences between two systems.
//!
//! A corpus value is a function `f` of the sum of per-item statistics `s_i`. One resample draws `n` items with replacement and
//! computes `f(sum of s over the draw)`; the interval of level `c` runs from the `(1-c)/2` to the `(1+c)/2` quantile of the
//! resampled values (linear between order statistics). Because sums are resampled, BLEU is resampled exactly, not as a mean of
//! item scores. For a difference both systems get the same draws, which takes out the variation between items (Koehn 2004).
//!
//! Draws come from PCG-64 with a fixed seed, so the same items always give the same interval. CIDEr's document frequencies are
//! held fixed.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;
use serde::Serialize;

/// Item draws that a bootstrap makes at most, so that large corpora stay cheap.
const MOST_DRAWS: usize = 200_000_000;

/// Resamples that are made whatever the size of the corpus.
const LEAST_RESAMPLES: usize = 1_000;

/// The stream of the generator; with the seed it fixes all draws.
const STREAM: u128 = 0x0a02_bdbf_7bb3_c0a7_ac28_fa16_a64a_bf96;

/// The numbers of one item whose sum over items decides a corpus value.
pub trait Statistic: Clone + Default {
    /// Adds the numbers of another item.
    fn add(&mut self, other: &Self);
}

/// A value to average: the corpus value is `total / count`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    /// Sum of the values.
    pub total: f64,
    /// Number of values.
    pub count: f64,
}

impl Mean {
    /// The statistic of one item.
    #[must_use]
    pub fn of(value: f64) -> Self {
        Self { total: value, count: 1.0 }
    }

    /// The mean; 0 of nothing.
    #[must_use]
    pub fn value(&self) -> f64 {
        ratio(self.total, self.count)
    }
}

impl Statistic for Mean {
    fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.count += other.count;
    }
}

/// A share of sums: the corpus value is `part / whole`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share {
    /// What is counted.
    pub part: f64,
    /// Out of how much.
    pub whole: f64,
}

impl Share {
    /// The share; 0 of nothing.
    #[must_use]
    pub fn value(&self) -> f64 {
        ratio(self.part, self.whole)
    }
}

impl Statistic for Share {
    fn add(&mut self, other: &Self) {
        self.part += other.part;
        self.whole += other.whole;
    }
}

impl<A: Statistic, B: Statistic> Statistic for (A, B) {
    fn add(&mut self, other: &Self) {
        self.0.add(&other.0);
        self.1.add(&other.1);
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

/// How to resample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Resampling {
    /// Resamples wanted; fewer (at least 1,000) are made where items times resamples would exceed 2e8.
    pub resamples: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// Level of the interval, inside 0..1.
    pub level: f64,
}

impl Default for Resampling {
    fn default() -> Self {
        Self { resamples: 10_000, seed: 12_345, level: 0.95 }
    }
}

/// A percentile bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Level, such as 0.95.
    pub level: f64,
    /// Resamples that were made.
    pub resamples: usize,
}

/// A difference between two systems on the same items.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// First corpus value minus second.
    pub difference: f64,
    /// Interval of the difference.
    pub interval: Interval,
    /// Items that both systems have a value for.
    pub items: usize,
}

/// The sum of the statistics of all items.
#[must_use]
pub fn sum<S: Statistic>(items: &[S]) -> S {
    let mut sum = S::default();
    for item in items {
        sum.add(item);
    }
    sum
}

/// The interval of a corpus value; none without items.
pub fn interval<S: Statistic>(items: &[S], value: impl Fn(&S) -> f64, resampling: Resampling) -> Option<Interval> {
    intervals(items, |sum| [value(sum)], resampling).map(|[interval]| interval)
}

/// The intervals of several corpus values of the same statistics, from the same draws; none without items.
pub fn intervals<S: Statistic, const N: usize>(
    items: &[S],
    values: impl Fn(&S) -> [f64; N],
    resampling: Resampling,
) -> Option<[Interval; N]> {
    if items.is_empty() {
        return None;
    }
    let resamples = affordable(resampling.resamples, items.len());
    let mut generator = Pcg64::new(u128::from(resampling.seed), STREAM);
    let mut drawn: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(resamples));
    for _ in 0..resamples {
        let mut sum = S::default();
        for _ in 0..items.len() {
            sum.add(&items[below(&mut generator, items.len())]);
        }
        for (drawn, value) in drawn.iter_mut().zip(values(&sum)) {
            drawn.push(value);
        }
    }
    Some(drawn.map(|drawn| percentile_interval(drawn, resampling.level)))
}

/// The difference between two systems; `pairs` holds both systems' statistics of each item. None without items.
pub fn difference<S: Statistic>(
    pairs: &[(S, S)],
    value: impl Fn(&S) -> f64,
    resampling: Resampling,
) -> Option<Difference> {
    let of = |both: &(S, S)| value(&both.0) - value(&both.1);
    let interval = interval(pairs, of, resampling)?;
    Some(Difference { difference: of(&sum(pairs)), interval, items: pairs.len() })
}

/// The resamples that are made of those wanted.
fn affordable(wanted: usize, items: usize) -> usize {
    wanted.min((MOST_DRAWS / items.max(1)).max(LEAST_RESAMPLES)).max(1)
}

/// A uniform index below `count`: the upper half of a 128-bit product (Lemire 2019, without the rejection that would matter
/// for counts near 2^64).
fn below(generator: &mut Pcg64, count: usize) -> usize {
    ((u128::from(generator.next_u64()) * count as u128) >> 64) as usize
}

fn percentile_interval(mut values: Vec<f64>, level: f64) -> Interval {
    values.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - level.clamp(0.0, 1.0)) / 2.0;
    Interval { low: quantile(&values, tail), high: quantile(&values, 1.0 - tail), level, resamples: values.len() }
}

/// A quantile of sorted values, linear between order statistics.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(values: &[f64]) -> Vec<Mean> {
        values.iter().copied().map(Mean::of).collect()
    }

    #[test]
    fn quantiles_are_linear_between_order_statistics() {
        let sorted = [0.0, 1.0, 2.0, 4.0];
        assert_eq!(quantile(&sorted, 0.0), 0.0);
        assert_eq!(quantile(&sorted, 1.0), 4.0);
        assert_eq!(quantile(&sorted, 0.5), 1.5);
    }

    #[test]
    fn the_interval_of_a_mean_is_that_of_the_normal_approximation() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i % 20)).collect();
        let interval = interval(&means(&values), Mean::value, Resampling::default()).expect("items");
        let deviation = (values.iter().map(|v| (v - 9.5) * (v - 9.5)).sum::<f64>() / 400.0).sqrt() / 20.0;
        assert!((interval.low - (9.5 - 1.96 * deviation)).abs() < 0.1 * deviation, "{interval:?}");
        assert!((interval.high - (9.5 + 1.96 * deviation)).abs() < 0.1 * deviation, "{interval:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_interval_and_another_seed_another() {
        let items = means(&[1.0, 2.0, 5.0, 7.0, 11.0]);
        let with = |seed| interval(&items, Mean::value, Resampling { seed, resamples: 500, ..Resampling::default() });
        assert_eq!(with(1), with(1));
        assert_ne!(with(1), with(2));
    }

    #[test]
    fn a_constant_has_an_interval_of_no_width() {
        let interval = interval(&means(&[3.0; 7]), Mean::value, Resampling::default()).expect("items");
        assert_eq!((interval.low, interval.high), (3.0, 3.0));
    }

    #[test]
    fn paired_draws_take_out_the_variation_between_items() {
        let pairs: Vec<(Mean, Mean)> =
            (0..50).map(|i| (Mean::of(f64::from(i) + 1.0), Mean::of(f64::from(i)))).collect();
        let found = difference(&pairs, Mean::value, Resampling::default()).expect("items");
        assert_eq!((found.difference, found.items), (1.0, 50));
        assert!((found.interval.low - 1.0).abs() < 1e-9 && (found.interval.high - 1.0).abs() < 1e-9);
    }

    #[test]
    fn large_corpora_get_fewer_resamples() {
        assert_eq!(affordable(10_000, 5_000), 10_000);
        assert_eq!(affordable(10_000, 50_000), 4_000);
        assert_eq!(affordable(10_000, 10_000_000), 1_000);
        assert_eq!(affordable(0, 5), 1);
    }

    #[test]
    fn nothing_has_no_interval() {
        assert_eq!(interval(&means(&[]), Mean::value, Resampling::default()), None);
    }
}
