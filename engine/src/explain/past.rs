//! What a step is compared with: its last result under another key.

use pipe_cache::{Digest, Key, Store};

use crate::history::{History, Run, StepState};

/// Runs looked through: more take longer to read than an answer may take.
const RUNS: usize = 1000;

/// An earlier result of a step.
pub(super) struct Past {
    /// The run that had it.
    pub(super) run: Run,
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

/// The last result of a step of a pipeline (their names, pipeline first) under another key than `now`.
pub(super) fn last(history: &History<'_>, store: &Store, of: (&str, &str), now: Option<Key>) -> Option<Past> {
    results(history, of).find_map(|(run, key)| {
        let key = key.filter(|key| Some(*key) != now)?;
        let recipe = recipe(store, &key)?;
        Some(Past { run, key, recipe })
    })
}

/// Whether a run had a result of this step of this pipeline, be it gone by now.
pub(super) fn is_in_a_run(history: &History<'_>, pipeline: &str, step: &str) -> bool {
    results(history, (pipeline, step)).next().is_some()
}

/// The runs that had a result of a step, newest first, each with the key of it.
fn results<'a>(
    history: &'a History<'_>,
    (pipeline, step): (&'a str, &'a str),
) -> impl Iterator<Item = (Run, Option<Key>)> + 'a {
    history.runs().take(RUNS).filter(move |run| run.pipeline == pipeline).filter_map(move |run| {
        let key = run.step(step).filter(|s| matches!(s.state, StepState::Executed | StepState::Reused))?.key;
        Some((run, key))
    })
}
