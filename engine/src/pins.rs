//! What moving places (a branch, an address) are pinned to: what the lock file of the pipeline says, read when the first is asked for.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::lock::{Lock, LockError, path_of};
use crate::problem::Problem;
use crate::spec::Spec;

/// The pins of a pipeline under a profile.
pub struct Pins {
    path: PathBuf,
    profile: Option<String>,
    lock: OnceLock<Result<Option<Lock>, LockError>>,
}

impl Pins {
    /// The pins that the lock beside a pipeline holds. Reads nothing yet.
    #[must_use]
    pub fn of(spec: &Spec) -> Self {
        Self { path: path_of(&spec.text.path), profile: spec.profile.clone(), lock: OnceLock::new() }
    }

    /// What a step's source is pinned to: in the step's own block, else in any other block, because one place is one state.
    ///
    /// # Errors
    /// When there is a lock that cannot be read: without it another state would be taken, silently.
    pub fn find(&self, step: &str, source: &str) -> Result<Option<String>, Problem> {
        match self.lock.get_or_init(|| Lock::load(&self.path)) {
            Ok(lock) => {
                let pin = lock.as_ref().and_then(|lock| lock.pin(self.profile.as_deref(), step, source));
                Ok(pin.map(str::to_owned))
            }
            Err(error) => Err(Problem::param("source", format!("what {source} is pinned to cannot be read: {error}"))
                .help(error.help())),
        }
    }
}
