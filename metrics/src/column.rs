//! The values of one metric for all items of a task, as the statistics they are resampled from.

use std::collections::BTreeMap;

use crate::bleu::BleuCounts;
use crate::error::Reason;
use crate::stats::{self, Difference, Interval, Mean, Resampling, Share, Statistic};

/// One entry per item: its statistic, or why it has none.
pub(crate) type Entries<S> = Vec<Result<S, Reason>>;

/// One metric over all items.
#[derive(Clone, Debug)]
pub(crate) enum Column {
    /// The corpus value is the mean of the item values.
    Means(Entries<Mean>),
    /// The corpus value is a share of sums, times a factor.
    Shares(Entries<Share>, f64),
    /// BLEU of some order.
    Bleu(usize, Entries<BleuCounts>),
    /// The corpus value is no sum; it is given, and there is nothing to resample.
    Whole(Entries<f64>, f64),
}

impl Column {
    /// The corpus value, or why there is none.
    pub(crate) fn corpus(&self) -> Result<f64, Reason> {
        match self {
            Self::Means(entries) => total(entries).map(|sum| sum.value()),
            Self::Shares(entries, factor) => total(entries).map(|sum| sum.value() * factor),
            Self::Bleu(order, entries) => total(entries).map(|sum| sum.bleu(*order)),
            Self::Whole(entries, corpus) => first_or_reason(entries).map(|_| *corpus),
        }
    }

    /// The value of every item; none where the metric leaves it out.
    pub(crate) fn items(&self) -> Vec<Option<f64>> {
        match self {
            Self::Means(entries) => values(entries, Mean::value),
            Self::Shares(entries, factor) => values(entries, |share| share.value() * factor),
            Self::Bleu(order, entries) => values(entries, |counts| counts.bleu(*order)),
            Self::Whole(entries, _) => values(entries, |&value| value),
        }
    }

    /// How many items were left out, by reason.
    pub(crate) fn left_out(&self) -> BTreeMap<Reason, usize> {
        match self {
            Self::Means(entries) => reasons(entries),
            Self::Shares(entries, _) => reasons(entries),
            Self::Bleu(_, entries) => reasons(entries),
            Self::Whole(entries, _) => reasons(entries),
        }
    }

    /// The interval of the corpus value.
    pub(crate) fn interval(&self, resampling: Resampling) -> Option<Interval> {
        match self {
            Self::Means(entries) => stats::interval(&present(entries), Mean::value, resampling),
            Self::Shares(entries, factor) => {
                stats::interval(&present(entries), |share| share.value() * factor, resampling)
            }
            Self::Bleu(order, entries) => stats::interval(&present(entries), |counts| counts.bleu(*order), resampling),
            Self::Whole(..) => None,
        }
    }

    /// The difference to another column over the items that both have; none if there are none or nothing can be resampled.
    pub(crate) fn difference(&self, other: &Self, resampling: Resampling) -> Option<Difference> {
        match (self, other) {
            (Self::Means(mine), Self::Means(theirs)) => {
                stats::difference(&common(mine, theirs), Mean::value, resampling)
            }
            (Self::Shares(mine, factor), Self::Shares(theirs, _)) => {
                stats::difference(&common(mine, theirs), |share| share.value() * factor, resampling)
            }
            (Self::Bleu(order, mine), Self::Bleu(_, theirs)) => {
                stats::difference(&common(mine, theirs), |counts| counts.bleu(*order), resampling)
            }
            _ => None,
        }
    }
}

/// The statistics of the items that have one.
pub(crate) fn present<S: Clone>(entries: &Entries<S>) -> Vec<S> {
    entries.iter().filter_map(|entry| entry.as_ref().ok()).cloned().collect()
}

fn total<S: Statistic>(entries: &Entries<S>) -> Result<S, Reason> {
    first_or_reason(entries)?;
    Ok(stats::sum(&present(entries)))
}

/// Any entry that is present, else the commonest reason.
fn first_or_reason<S>(entries: &Entries<S>) -> Result<&S, Reason> {
    let commonest = || {
        reasons(entries).into_iter().max_by_key(|&(_, count)| count).map_or(Reason::NoHypotheses, |(reason, _)| reason)
    };
    entries.iter().find_map(|entry| entry.as_ref().ok()).ok_or_else(commonest)
}

fn values<S>(entries: &Entries<S>, value: impl Fn(&S) -> f64) -> Vec<Option<f64>> {
    entries.iter().map(|entry| entry.as_ref().ok().map(&value)).collect()
}

fn reasons<S>(entries: &Entries<S>) -> BTreeMap<Reason, usize> {
    let mut counts = BTreeMap::new();
    for reason in entries.iter().filter_map(|entry| entry.as_ref().err()) {
        *counts.entry(*reason).or_default() += 1;
    }
    counts
}

fn common<S: Clone>(mine: &Entries<S>, theirs: &Entries<S>) -> Vec<(S, S)> {
    let both = mine
        .iter()
        .zip(theirs)
        .filter_map(|(mine, theirs)| Some((mine.as_ref().ok()?.clone(), theirs.as_ref().ok()?.clone())));
    both.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_without_values_says_why() {
        let column =
            Column::Means(vec![Err(Reason::NoReferences), Err(Reason::NoReferences), Err(Reason::NoHypotheses)]);
        assert_eq!(column.corpus(), Err(Reason::NoReferences));
        assert_eq!(column.left_out()[&Reason::NoReferences], 2);
    }

    #[test]
    fn differences_use_the_items_both_sides_have() {
        let mine = Column::Means(vec![Ok(Mean::of(1.0)), Ok(Mean::of(5.0)), Err(Reason::NoHypotheses)]);
        let theirs = Column::Means(vec![Ok(Mean::of(0.0)), Err(Reason::NoHypotheses), Ok(Mean::of(9.0))]);
        let found = mine.difference(&theirs, Resampling::default()).expect("one item is common");
        assert_eq!((found.difference, found.items), (1.0, 1));
    }
}
