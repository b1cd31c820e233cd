//! Where one phase ends and the next begins.

use pipe_engine::problem::Problem;
use pipe_engine::stage::{Mark, NO_MARK};

use super::Phase;
use crate::ordering::{self, nearest_count};

/// The place of a row among all: by difficulty, equally hard ones by a hash of their ids. Never [`NO_MARK`], whose upper half is a
/// NaN's.
pub(super) fn place(difficulty: f64, id: &str) -> Mark {
    let tie = ordering::rank("curriculum: tie", 0, &[id.as_bytes()]) as u64;
    (Mark::from(sortable(difficulty)) << 64) | Mark::from(tie)
}

/// A number whose order is that of the floats ([`f64::total_cmp`]): the sign bit of positive floats is set, all bits of negative ones are
/// flipped.
const fn sortable(float: f64) -> u64 {
    let bits = float.to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

/// The borders between phases: one less than there are phases.
#[derive(Debug)]
pub(super) enum Borders {
    /// The highest difficulty before each border.
    UpTo(Vec<f64>),
    /// The shares of rows before each border.
    Shares(Vec<f64>),
}

/// How far shares may be from 1 in sum.
const TOLERANCE: f64 = 1e-9;

impl Borders {
    /// Reads the borders that phases state.
    pub fn new(phases: &[Phase]) -> Result<Self, Problem> {
        let wrong = |message: String| Err(Problem::param("phases", message));
        let up_to = phases.iter().any(|phase| phase.up_to.is_some());
        let share = phases.iter().any(|phase| phase.share.is_some());
        match (up_to, share) {
            (true, true) => {
                wrong("some phases have `up_to`, some `share`: cut all by the one or all by the other".to_owned())
            }
            (true, false) => by_difficulty(phases),
            (false, true) => by_share(phases),
            (false, false) if phases.len() == 1 => Ok(Self::UpTo(Vec::new())),
            (false, false) => {
                wrong("nothing says where a phase ends; give all but the last `up_to` or `share`".to_owned())
            }
        }
    }

    /// The first place beyond each border among these rows; `None` where no row lies beyond. Borders by share are each rounded by
    /// themselves, so that one row more moves each by one row at most.
    pub fn settle(&self, marks: &[Vec<Mark>]) -> Vec<Option<Mark>> {
        match self {
            Self::UpTo(limits) => {
                limits.iter().map(|limit| Some(Mark::from(sortable(*limit + 0.0) + 1) << 64)).collect()
            }
            Self::Shares(shares) => {
                let mut places: Vec<Mark> = marks.iter().flatten().copied().filter(|mark| *mark != NO_MARK).collect();
                places.sort_unstable();
                let first = |share: &f64| places.get(nearest_count(*share, places.len())).copied();
                shares.iter().map(first).collect()
            }
        }
    }
}

fn by_difficulty(phases: &[Phase]) -> Result<Borders, Problem> {
    let wrong = |message: String| Err(Problem::param("phases", message));
    let (last, others) = phases.split_last().expect("the caller found a phase with `up_to`");
    if last.up_to.is_some() {
        return wrong(format!(
            "`{}` is the last phase and takes what is harder than the others: it has no `up_to`",
            last.name
        ));
    }
    let mut limits: Vec<f64> = Vec::with_capacity(others.len());
    for phase in others {
        match phase.up_to {
            None => return wrong(format!("`{}` has no `up_to`; only the last phase may lack it", phase.name)),
            Some(limit) if !limit.is_finite() => return wrong(format!("`{}` ends at {limit}", phase.name)),
            Some(limit) if limits.last().is_some_and(|before| *before >= limit) => {
                return wrong(format!("`{}` ends at {limit}, not beyond the phase before it", phase.name));
            }
            Some(limit) => limits.push(limit),
        }
    }
    Ok(Borders::UpTo(limits))
}

fn by_share(phases: &[Phase]) -> Result<Borders, Problem> {
    let wrong = |message: String| Err(Problem::param("phases", message));
    let (last, others) = phases.split_last().expect("the caller found a phase with `share`");
    let mut sum = 0.0;
    let mut borders = Vec::with_capacity(others.len());
    for phase in others {
        match phase.share {
            Some(share) if share > 0.0 && share < 1.0 => sum += share,
            Some(share) => return wrong(format!("the share of `{}` is {share}, not between 0 and 1", phase.name)),
            None => return wrong(format!("`{}` has no `share`; only the last phase may lack it", phase.name)),
        }
        borders.push(sum);
    }
    match last.share {
        Some(share) if (sum + share - 1.0).abs() > TOLERANCE => {
            wrong(format!("the shares sum to {}, not 1", sum + share))
        }
        None if sum >= 1.0 => wrong(format!("the shares sum to {sum} and leave nothing for `{}`", last.name)),
        _ => Ok(Borders::Shares(borders)),
    }
}
