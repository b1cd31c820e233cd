//! How the learning rate changes over a training.

use serde::{Deserialize, Serialize};

/// The course of the learning rate after warm-up, named as in `transformers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Half a cosine, down to 0.
    #[default]
    Cosine,
    /// A straight line, down to 0.
    Linear,
    /// No change.
    Constant,
}

/// The number of warm-up steps that `warmup` asks for: a count from 1 on, a share of all steps (rounded up) below.
pub(super) fn warmup_steps(warmup: f64, total: u64) -> u64 {
    if warmup >= 1.0 { warmup as u64 } else { (warmup * total as f64).ceil() as u64 }
}

impl Schedule {
    /// What the learning rate is multiplied by in step `step`, counted from 0. Warm-up begins at 0: the first step
    /// changes no weight.
    pub(super) fn factor(self, step: u64, warmup: u64, total: u64) -> f64 {
        if step < warmup {
            return step as f64 / warmup as f64;
        }
        let after = total.saturating_sub(warmup).max(1) as f64;
        match self {
            Self::Constant => 1.0,
            Self::Linear => (total.saturating_sub(step) as f64 / after).max(0.0),
            Self::Cosine => {
                let progress = (step - warmup) as f64 / after;
                (0.5 * (1.0 + (std::f64::consts::PI * 0.5 * 2.0 * progress).cos())).max(0.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_is_a_count_or_a_share() {
        assert_eq!(warmup_steps(0.0, 100), 0);
        assert_eq!(warmup_steps(0.031, 100), 4);
        assert_eq!(warmup_steps(1.0, 100), 1);
        assert_eq!(warmup_steps(20.7, 100), 20);
    }

    #[test]
    fn the_first_step_of_warm_up_is_zero() {
        let course: Vec<f64> = (0..6).map(|i| Schedule::Linear.factor(i, 2, 6)).collect();
        assert_eq!(course, [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]);
    }

    #[test]
    fn the_cosine_falls_from_one_to_zero() {
        assert_eq!(Schedule::Cosine.factor(0, 0, 10), 1.0);
        assert!((Schedule::Cosine.factor(5, 0, 10) - 0.5).abs() < 1e-12);
        assert!(Schedule::Cosine.factor(10, 0, 10) < 1e-12);
    }

    #[test]
    fn constant_stays_after_warm_up() {
        assert_eq!(Schedule::Constant.factor(1, 4, 10), 0.25);
        assert_eq!(Schedule::Constant.factor(9, 4, 10), 1.0);
    }
}
