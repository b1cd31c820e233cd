//! How fast a training goes: for the eyes while it runs, for the record when it is done.

use std::time::{Duration, Instant};

use pipe_engine::step::Sink;

/// How often the user is told.
const TELL: Duration = Duration::from_millis(100);

/// The pace of one attempt; steps of earlier ones do not count.
#[derive(Default)]
pub struct Pace {
    steps: u32,
    tokens: u64,
    busy: Duration,
    told: Option<Instant>,
}

impl Pace {
    /// Counts a step that began at `started` and read so many tokens.
    pub fn count(&mut self, started: Instant, tokens: u64) {
        self.steps += 1;
        self.tokens += tokens;
        self.busy += started.elapsed();
    }

    /// Whether it is time to tell the user again.
    pub fn is_due(&mut self) -> bool {
        let due = self.told.is_none_or(|told| told.elapsed() >= TELL);
        if due {
            self.told = Some(Instant::now());
        }
        due
    }

    /// `3.2 it/s`, or `4.1 s/it` where a step takes longer than a second.
    pub fn rate(&self) -> String {
        let seconds = self.seconds_per_step();
        if seconds > 1.0 { format!("{seconds:.1} s/it") } else { format!("{:.1} it/s", 1.0 / seconds.max(1e-6)) }
    }

    /// Reports what this attempt measured; nothing where it made no step.
    pub fn measure(&self, sink: &dyn Sink) {
        if self.steps > 0 {
            #[expect(clippy::cast_precision_loss, reason = "no training reads 2^53 tokens")]
            sink.measure("tokens_per_second", self.tokens as f64 / self.busy.as_secs_f64());
            sink.measure("seconds_per_step", self.seconds_per_step());
        }
    }

    fn seconds_per_step(&self) -> f64 {
        self.busy.as_secs_f64() / f64::from(self.steps.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_well_at_any_pace() {
        let rate = |steps, seconds| Pace { steps, busy: Duration::from_secs(seconds), ..Pace::default() }.rate();
        assert_eq!(rate(32, 10), "3.2 it/s");
        assert_eq!(rate(2, 9), "4.5 s/it");
    }

    #[test]
    fn the_user_is_told_now_and_then() {
        let mut pace = Pace::default();
        assert!(pace.is_due());
        assert!(!pace.is_due());
    }
}
