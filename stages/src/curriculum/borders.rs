//! Where one phase ends and the next begins.

use std::cmp::Ordering;

use pipe_engine::problem::Problem;

use super::Phase;
use crate::ordering::{Rank, nearest_count};

/// What decides on the phase of a row: rows are ordered by difficulty, equal ones by a hash of their ids.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub difficulty: f64,
    pub tie: Rank,
}

impl Place {
    fn order(&self, other: &Self) -> Ordering {
        self.difficulty.total_cmp(&other.difficulty).then(self.tie.cmp(&other.tie))
    }
}

/// The borders between phases: one less than there are phases.
#[derive(Debug)]
pub(super) enum Borders {
    /// The highest difficulty before each border.
    UpTo(Vec<f64>),
    /// The shares of rows before each border, and the rows seen so far: 32 bytes a row.
    Shares(Vec<f64>, Vec<Place>),
    /// The first row beyond each border; `None` where there is none.
    Firsts(Vec<Option<Place>>),
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

    pub const fn need_all_rows(&self) -> bool {
        matches!(self, Self::Shares(..))
    }

    pub fn see(&mut self, places: &[Place]) {
        if let Self::Shares(_, seen) = self {
            seen.extend_from_slice(places);
        }
    }

    /// Sets the borders, once all rows are seen. Each is rounded by itself, so that one row more moves it by one row at most.
    pub fn settle(&mut self) {
        if let Self::Shares(shares, places) = self {
            places.sort_unstable_by(Place::order);
            let first = |share: &f64| places.get(nearest_count(*share, places.len())).copied();
            *self = Self::Firsts(shares.iter().map(first).collect());
        }
    }

    /// The phase of a row: how many borders lie before it.
    pub fn phase(&self, place: &Place) -> usize {
        match self {
            Self::UpTo(limits) => limits.iter().take_while(|limit| place.difficulty > **limit).count(),
            Self::Firsts(firsts) => firsts
                .iter()
                .take_while(|first| first.as_ref().is_some_and(|first| place.order(first) != Ordering::Less))
                .count(),
            Self::Shares(..) => unreachable!("settled before rows are assigned"),
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
        _ => Ok(Borders::Shares(borders, Vec::new())),
    }
}
