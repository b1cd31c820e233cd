//! What a step is compared with: its last result under another key.

use pipe_cache::{Digest, Key, Store};

use crate::artifact::store_failure;
use crate::explain::lines::likeness;
use crate::history::{History, Run, StepState};
use crate::problem::Failure;

/// Runs looked through: more take longer to read than an answer may take.
const RUNS: usize = 1000;

/// An earlier result of a step.
pub(super) struct Past {
    /// The run that had it; `None` where it was found by likeness.
    pub(super) run: Option<Run>,
    /// Its key.
    pub(super) key: Key,
    /// Its recipe.
    pub(super) recipe: String,
}

/// The recipe of a key: the object of the same digest.
pub(super) fn recipe(store: &Store, key: &Key) -> Option<String> {
    let bytes = store.read(&Digest::from_bytes(*key.bytes())).ok()?;
    String::from_utf8(bytes).ok()
}

/// The last result of a step of this pipeline under another key than `now`.
pub(super) fn last(history: &History<'_>, store: &Store, pipeline: &str, step: &str, now: Option<Key>) -> Option<Past> {
    history.runs().take(RUNS).filter(|run| run.pipeline == pipeline).find_map(|run| {
        let found = run.step(step).filter(|s| matches!(s.state, StepState::Executed | StepState::Reused))?;
        let key = found.key.filter(|key| Some(*key) != now)?;
        let recipe = recipe(store, &key)?;
        Some(Past { run: Some(run), key, recipe })
    })
}

/// The recorded recipe of the same stage that shares the most lines with this one.
///
/// # Errors
/// When the store cannot be read.
pub(super) fn nearest(store: &Store, now: &str) -> Result<Option<Past>, Failure> {
    let here = crate::recipe::key(now);
    let mut best: Option<(usize, Past)> = None;
    for recorded in store.recorded().map_err(store_failure)? {
        let Some(recipe) = recipe(store, &recorded.key).filter(|_| recorded.key != here) else { continue };
        let Some(like) = likeness(&recipe, now) else { continue };
        if best.as_ref().is_none_or(|(most, past)| (like, recorded.key) > (*most, past.key)) {
            best = Some((like, Past { run: None, key: recorded.key, recipe }));
        }
    }
    Ok(best.map(|(_, past)| past))
}
