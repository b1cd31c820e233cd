//! What must stay for its own sake: pipelines, lock files, pins, runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pipe_cache::{Digest, Key, Store};
use serde::{Deserialize, Serialize};

use super::Policy;
use crate::artifact::store_failure;
use crate::history::{End, History, Run, StepState};
use crate::lock;
use crate::problem::Failure;
use crate::run::Found;

/// Something that must stay, with all it needs.
#[derive(Clone, Debug, Default)]
pub struct Root {
    /// Its kind.
    pub kind: RootKind,
    /// Its name.
    pub name: String,
    /// Records.
    pub keys: Vec<Key>,
    /// Artifacts.
    pub artifacts: Vec<Digest>,
    /// Keys whose checkpoints must stay.
    pub unfinished: Vec<Key>,
}

/// Why something must stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RootKind {
    /// A pipeline that was named has it.
    #[default]
    Pipeline,
    /// A lock file names it.
    Lock,
    /// It was pinned.
    Pin,
    /// A run had it.
    Run,
    /// It was used a moment ago.
    Recent,
    /// There is room for it.
    Room,
}

/// What a pin holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pin {
    /// The run that was pinned.
    pub run: String,
    /// Its pipeline.
    pub pipeline: String,
    /// When it was pinned, in seconds since 1970.
    pub pinned: f64,
    /// The records it had.
    pub keys: Vec<Key>,
    /// The artifacts it had.
    pub artifacts: Vec<Digest>,
}

impl Pin {
    /// A pin of a run, which stays of use if the log of the run is lost.
    #[must_use]
    pub fn of(run: &Run, now: f64) -> Self {
        let root = run_root(run);
        let (run, pipeline) = (run.run.clone(), run.pipeline.clone());
        Self { run, pipeline, pinned: now, keys: root.keys, artifacts: root.artifacts }
    }
}

/// What a pipeline has as it stands.
#[must_use]
pub fn pipeline_root(name: String, found: &[Option<Found>]) -> Root {
    let there = || found.iter().flatten();
    Root {
        kind: RootKind::Pipeline,
        name,
        keys: there().map(|found| found.prepared.key).collect(),
        artifacts: there().flat_map(|found| found.result.outputs.values().map(|artifact| artifact.digest)).collect(),
        unfinished: Vec::new(),
    }
}

/// The roots that a store knows of by itself.
///
/// # Errors
/// When a lock file or a pin is there and cannot be read: what it protects is not known then.
pub(super) fn of_store(
    store: &Store,
    history: &History<'_>,
    policy: &Policy,
    now: SystemTime,
) -> Result<Vec<Root>, Failure> {
    let mut roots = Vec::new();
    for (name, pin) in store.pins::<Pin>().map_err(store_failure)? {
        let name = format!("{name} (run {} of {})", pin.run, pin.pipeline);
        roots.push(Root {
            kind: RootKind::Pin,
            name,
            keys: pin.keys,
            artifacts: pin.artifacts,
            unfinished: Vec::new(),
        });
    }
    let mut seen: BTreeMap<Variant, usize> = BTreeMap::new();
    let mut specs: BTreeSet<PathBuf> = policy.specs.iter().cloned().collect();
    let mut runs = Vec::new();
    for run in history.runs() {
        specs.insert(run.origin.spec.clone());
        let count = seen.entry(Variant::of(&run)).or_default();
        *count += 1;
        let written = store.last_written(&history.path(&run.run));
        let young = written.is_none_or(|time| now.duration_since(time).is_ok_and(|age| age < policy.keep));
        if *count <= policy.keep_runs || young || run.end == End::Running {
            runs.push(run_root(&run));
        }
    }
    for spec in &specs {
        roots.extend(lock_root(&lock::path_of(spec))?);
    }
    roots.extend(runs);
    Ok(roots)
}

/// A pipeline as it was run: what a run under one profile had says nothing of what another needs.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Variant {
    pipeline: String,
    profile: Option<String>,
    set: BTreeMap<String, String>,
}

impl Variant {
    fn of(run: &Run) -> Self {
        let origin = &run.origin;
        Self { pipeline: run.pipeline.clone(), profile: origin.profile.clone(), set: origin.set.clone() }
    }
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.pipeline)?;
        self.profile.iter().try_for_each(|profile| write!(f, " --profile {profile}"))?;
        self.set.iter().try_for_each(|(name, value)| write!(f, " --set {name}={value}"))
    }
}

fn run_root(run: &Run) -> Root {
    let began = run.steps.iter().filter(|step| matches!(step.state, StepState::Started | StepState::Failed));
    Root {
        kind: RootKind::Run,
        name: format!("{} of {}", run.run, Variant::of(run)),
        keys: run.steps.iter().filter_map(|step| step.key).collect(),
        artifacts: run.steps.iter().flat_map(|step| step.outputs.values().copied()).collect(),
        unfinished: began.filter_map(|step| step.key).collect(),
    }
}

/// Every key and digest that a lock file names, whatever it says of them; `None` where there is no such file.
fn lock_root(path: &Path) -> Result<Option<Root>, Failure> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| Failure::io("read", path, &error))?,
    };
    let words = || text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.len() == 64);
    Ok(Some(Root {
        kind: RootKind::Lock,
        name: path.display().to_string(),
        keys: words().filter_map(|word| word.parse().ok()).collect(),
        artifacts: words().filter_map(|word| word.parse().ok()).collect(),
        unfinished: Vec::new(),
    }))
}
