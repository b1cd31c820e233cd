//! A sink for executions that report to nobody: those that only look.

use std::path::Path;

use crate::problem::Failure;
use crate::step::{Level, Sink};
use crate::worker::client::{Cancel, is_cancelled};

/// Reports nothing, keeps no checkpoint, ends when the run does.
pub struct Quiet<'a> {
    /// Set to end early.
    pub cancel: &'a Cancel,
}

impl Sink for Quiet<'_> {
    fn progress(&self, _: u64, _: u64, _: &str) {}

    fn log(&self, _: Level, _: &str) {}

    fn measure(&self, _: &str, _: f64) {}

    fn checkpoint(&self, _: u64, _: &Path) -> Result<(), Failure> {
        Ok(())
    }

    fn cancelled(&self) -> bool {
        is_cancelled(self.cancel)
    }
}
