//! How fast a step works, and so how long it will take: what was done before, or remembered, took no time and does not count.

use std::time::{Duration, Instant};

/// What was heard of a step.
#[derive(Debug, Default)]
pub struct Pace {
    /// When it was first heard of, and how much was done by then.
    first: Option<(Instant, u64)>,
    remembered: u64,
}

impl Pace {
    /// So much is done, of which so much was remembered.
    pub fn heard(&mut self, done: u64, remembered: u64, now: Instant) {
        self.remembered = remembered;
        self.first.get_or_insert((now, done.saturating_sub(remembered)));
    }

    /// How long the rest will take, if it goes on as it did; nothing is known before something was done.
    pub fn left(&self, done: u64, total: u64, now: Instant) -> Option<Duration> {
        let (since, before) = self.first?;
        let worked = done.saturating_sub(self.remembered).saturating_sub(before);
        let rest = total.saturating_sub(done);
        if worked == 0 || rest == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "shown in whole seconds")]
        let share = rest as f64 / worked as f64;
        Duration::try_from_secs_f64(now.saturating_duration_since(since).as_secs_f64() * share).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_takes_no_time() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut training = Pace::default();
        training.heard(900, 0, start);
        assert_eq!(training.left(900, 1000, after(5)), None);
        // Ten steps in ten seconds, ninety to go.
        assert_eq!(training.left(910, 1000, after(10)), Some(Duration::from_secs(90)));
        let mut rows = Pace::default();
        rows.heard(500, 500, start);
        rows.heard(510, 500, after(10));
        assert_eq!(rows.left(510, 1000, after(10)), Some(Duration::from_secs(490)));
        // More of them turn out to be remembered.
        rows.heard(810, 800, after(10));
        assert_eq!(rows.left(810, 1000, after(10)), Some(Duration::from_secs(190)));
        assert_eq!(rows.left(1000, 1000, after(10)), None);
    }
}
