//! How two runs differ: what they were started with, the recipes of their steps, and what came out.

use std::collections::BTreeMap;

use pipe_cache::{Digest, Key, Store};
use serde::Serialize;
use serde_json::Value;

use crate::artifact::Manifest;
use crate::compare::{self, RowChanges};
use crate::dataset::load_column;
use crate::explain::{Change, lines_that_differ};
use crate::history::{End, Run, RunStep};
use crate::problem::Failure;
use crate::source_list::{FileChanges, SourceList};

/// How two runs differ.
#[derive(Clone, Debug, Serialize)]
pub struct RunDiff {
    /// The earlier one.
    pub before: Named,
    /// The later one.
    pub now: Named,
    /// What they were started with, where it differs.
    pub settings: Vec<Setting>,
    /// The steps that differ, in the order of the later run.
    pub steps: Vec<StepDiff>,
    /// Steps with the same key and the same outputs.
    pub same: u64,
}

/// A run that is compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Named {
    /// Its name.
    pub run: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// When it began, in seconds since 1970.
    pub started: f64,
    /// How it ended.
    pub end: End,
}

/// Something a run was started with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// What; a parameter by its name.
    pub name: String,
    /// What it was; null where it was not there.
    pub before: Value,
    /// What it is; null where it is not there.
    pub now: Value,
}

/// How a step differs.
#[derive(Clone, Debug, Serialize)]
pub struct StepDiff {
    /// The step.
    pub step: String,
    /// Its stage.
    pub stage: String,
    /// How.
    pub how: How,
    /// The facts of its recipe that differ, where both are known.
    pub changes: Vec<Change>,
    /// The outputs that differ.
    pub outputs: Vec<OutputDiff>,
}

/// How a step of two runs differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// Only the later run has it.
    Added,
    /// Only the earlier run has it.
    Removed,
    /// One of the runs did not come to a result.
    Unknown,
    /// Another recipe.
    Recipe,
    /// The same recipe gave another result.
    Result,
}

/// How an output differs.
#[derive(Clone, Debug, Serialize)]
pub struct OutputDiff {
    /// The port.
    pub port: String,
    /// The kind, where it is known.
    pub kind: Option<String>,
    /// The artifact it was.
    pub before: Option<Digest>,
    /// The artifact it is.
    pub now: Option<Digest>,
    /// The rows that differ, of datasets.
    pub rows: Option<RowChanges>,
    /// The files that differ, of other kinds.
    pub files: Option<FileChanges>,
}

/// Compares two runs of a store.
///
/// # Errors
/// When a dataset that is there cannot be read.
pub fn diff(store: &Store, before: &Run, now: &Run) -> Result<RunDiff, Failure> {
    let (mut steps, mut same) = (Vec::new(), 0);
    let gone = before.steps.iter().filter(|step| now.step(&step.step).is_none());
    for step in now.steps.iter().chain(gone) {
        match step_diff(store, before.step(&step.step), now.step(&step.step))? {
            Some(diff) => steps.push(diff),
            None => same += 1,
        }
    }
    Ok(RunDiff { before: named(before), now: named(now), settings: settings(before, now), steps, same })
}

fn named(run: &Run) -> Named {
    Named { run: run.run.clone(), pipeline: run.pipeline.clone(), started: run.started, end: run.end }
}

/// What two runs were started with, where it differs.
fn settings(before: &Run, now: &Run) -> Vec<Setting> {
    let all = |run: &Run| -> BTreeMap<String, Value> {
        let origin = &run.origin;
        let mut all: BTreeMap<String, Value> = origin.params.clone().into_iter().collect();
        all.insert("(profile)".to_owned(), origin.profile.clone().map_or(Value::Null, Value::from));
        all.insert("(steps)".to_owned(), Value::from(origin.asked.join(" ")));
        for (name, text) in [("device", &origin.device), ("version", &origin.version), ("host", &origin.host)] {
            all.insert(format!("({name})"), Value::from(text.as_str()));
        }
        all
    };
    let (before, now) = (all(before), all(now));
    let names: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let value = |of: &BTreeMap<String, Value>, name: &String| of.get(name).cloned().unwrap_or(Value::Null);
    names
        .into_iter()
        .map(|name| Setting { name: name.clone(), before: value(&before, name), now: value(&now, name) })
        .filter(|setting| setting.before != setting.now)
        .collect()
}

/// `None` where nothing differs.
fn step_diff(store: &Store, before: Option<&RunStep>, now: Option<&RunStep>) -> Result<Option<StepDiff>, Failure> {
    let Some(step) = now.or(before) else { return Ok(None) };
    let stage = [now, before].into_iter().flatten().map(|step| step.stage.clone()).find(|stage| !stage.is_empty());
    let mut diff = StepDiff {
        step: step.step.clone(),
        stage: stage.unwrap_or_default(),
        how: How::Unknown,
        changes: Vec::new(),
        outputs: Vec::new(),
    };
    let (before, now) = match (before, now) {
        (Some(before), Some(now)) => (before, now),
        (None, _) => return Ok(Some(StepDiff { how: How::Added, ..diff })),
        (_, None) => return Ok(Some(StepDiff { how: How::Removed, ..diff })),
    };
    if before.key == now.key && before.outputs == now.outputs {
        let known = now.key.is_some();
        return Ok((!known).then_some(diff));
    }
    if let (Some(then), Some(here)) = (before.key, now.key) {
        diff.how = if then == here { How::Result } else { How::Recipe };
        diff.changes = facts(store, &then, &here);
    }
    if !before.outputs.is_empty() && !now.outputs.is_empty() {
        diff.outputs = outputs(store, &before.outputs, &now.outputs)?;
        diff.add_source_files(store, before.key, now.key);
    } else {
        diff.how = How::Unknown;
    }
    Ok(Some(diff))
}

impl StepDiff {
    /// The files a source read, where the records of both runs tell.
    fn add_source_files(&mut self, store: &Store, before: Option<Key>, now: Option<Key>) {
        let list = |key: Option<Key>| {
            let record = store.peek(&key?).ok().flatten()?;
            SourceList::load(store, &record).ok().flatten()
        };
        if let (Some(before), Some(now)) = (list(before), list(now))
            && before != now
        {
            let (port, files) = ("files read".to_owned(), Some(now.since(&before)));
            let read = OutputDiff { port, kind: None, before: None, now: None, rows: None, files };
            self.outputs.insert(0, read);
        }
    }
}

/// The facts of two recipes that differ; none where one of them is gone.
fn facts(store: &Store, before: &Key, now: &Key) -> Vec<Change> {
    let text = |key: &Key| String::from_utf8(store.read(&Digest::from_bytes(*key.bytes())).ok()?).ok();
    match (text(before), text(now)) {
        (Some(before), Some(now)) => lines_that_differ(&before, &now),
        _ => Vec::new(),
    }
}

fn outputs(
    store: &Store,
    before: &BTreeMap<String, Digest>,
    now: &BTreeMap<String, Digest>,
) -> Result<Vec<OutputDiff>, Failure> {
    let ports: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let mut found = Vec::new();
    for port in ports {
        let (then, here) = (before.get(port).copied(), now.get(port).copied());
        if then == here {
            continue;
        }
        let load = |digest: Option<Digest>| digest.and_then(|digest| Manifest::load(store, &digest).ok());
        let (old, new) = (load(then), load(here));
        let kind = new.as_ref().or(old.as_ref()).map(|manifest| manifest.kind().to_owned());
        let mut output = OutputDiff { port: port.clone(), kind, before: then, now: here, rows: None, files: None };
        match (&old, &new) {
            (Some(Manifest::Dataset(old)), Some(Manifest::Dataset(new))) => {
                output.rows = Some(compare::rows(old, new, None, &|digest| load_column(store, digest))?);
            }
            (Some(Manifest::Files(old)), Some(Manifest::Files(new))) => {
                output.files = Some(SourceList::held_by(new).since(&SourceList::held_by(old)));
            }
            _ => {}
        }
        found.push(output);
    }
    Ok(found)
}
