//! What each step takes of a store: of the results that run logs tell of, what it has alone and shares with others, and what of it no root
//! needs. One step is walked at a time; of all together no more is held in memory than the name of each object and its owner.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pipe_cache::{Collector, Digest, Held, Key, Recorded, Store};
use serde::Serialize;

use super::mark::Marker;
use super::{Policy, Root, needed};
use crate::artifact::store_failure;
use crate::history::History;
use crate::problem::Failure;

/// What a store takes.
#[derive(Clone, Debug, Serialize)]
pub struct Usage {
    /// Files on the disk, by directory of the store.
    pub files: BTreeMap<&'static str, Held>,
    /// Steps, by pipeline; in each the largest first.
    pub steps: Vec<StepUsage>,
    /// Bytes of files that a collection would free.
    pub freed: u64,
}

/// What a step takes, in bytes: the results of all its runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StepUsage {
    /// The pipeline; empty for what no run log tells of.
    pub pipeline: String,
    /// The step.
    pub step: String,
    /// Records and objects.
    pub results: u64,
    /// Of `results` what no other step needs.
    pub alone: u64,
    /// Row memory.
    pub memory: u64,
    /// Checkpoints of unfinished executions.
    pub checkpoints: u64,
    /// What of all that no root needs.
    pub unneeded: u64,
}

/// Something that takes room.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Item {
    Record(Key),
    Object(Digest),
    Memory(Key),
}

/// Whose an item is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Only this step's, by place.
    One(usize),
    Several,
}

/// What a step had, in all runs.
#[derive(Default)]
struct Past {
    keys: BTreeSet<Key>,
    artifacts: BTreeSet<Digest>,
}

/// Tells what each step takes, and what a collection under `policy` would free.
///
/// # Errors
/// When the store cannot be read, or it is not certain what a root needs.
pub fn usage(store: &Store, named: Vec<Root>, policy: &Policy) -> Result<Usage, Failure> {
    let collector = Collector::new(store, policy.grace, false).map_err(store_failure)?;
    let (kept, _) = needed(store, &collector, named, policy)?;
    let swept = collector.records(&kept.keep).and_then(|swept| collector.content(&kept.keep, swept));
    let mut accounts = Accounts::new(store, &kept)?;
    for ((pipeline, step), past) in past(&History::open(store)?) {
        accounts.step(pipeline, step, &past)?;
    }
    accounts.rest()?;
    let steps = accounts.finish()?;
    Ok(Usage { files: store.held().map_err(store_failure)?, steps, freed: swept.map_err(store_failure)?.bytes() })
}

fn past(history: &History<'_>) -> BTreeMap<(String, String), Past> {
    let mut steps: BTreeMap<(String, String), Past> = BTreeMap::new();
    for run in history.runs() {
        for step in run.steps {
            let past = steps.entry((run.pipeline.clone(), step.step)).or_default();
            past.keys.extend(step.key);
            past.artifacts.extend(step.outputs.values());
        }
    }
    steps
}

struct Accounts<'a> {
    store: &'a Store,
    /// What roots need.
    kept: &'a Marker<'a>,
    /// Bytes of records, row memory and checkpoint records, by key.
    records: HashMap<Key, u64>,
    memories: HashMap<Key, u64>,
    checkpoints: HashMap<Key, u64>,
    owners: HashMap<Item, Owner>,
    steps: Vec<StepUsage>,
}

impl<'a> Accounts<'a> {
    fn new(store: &'a Store, kept: &'a Marker<'a>) -> Result<Self, Failure> {
        let by_key = |found: Vec<Recorded>| found.into_iter().map(|one| (one.key, one.len)).collect();
        Ok(Self {
            store,
            kept,
            records: store.recorded().map(by_key).map_err(store_failure)?,
            memories: store.remembered().map(by_key).map_err(store_failure)?,
            checkpoints: store.checkpointed().map(by_key).map_err(store_failure)?,
            owners: HashMap::new(),
            steps: Vec::new(),
        })
    }

    /// Adds what a step had.
    fn step(&mut self, pipeline: String, step: String, past: &Past) -> Result<(), Failure> {
        let mut marker = self.kept.anew();
        let (keys, artifacts) = (past.keys.iter().copied().collect(), past.artifacts.iter().copied().collect());
        marker.root(&Root { keys, artifacts, ..Root::default() })?;
        let mut usage = StepUsage { pipeline, step, ..StepUsage::default() };
        for key in &past.keys {
            self.checkpoint(key, &mut usage)?;
        }
        self.take(&marker, usage)
    }

    /// What no run log tells of: of logs that were removed, or rows of executions that did not end.
    fn rest(&mut self) -> Result<(), Failure> {
        let mut marker = self.kept.anew();
        let unowned = |item| !self.owners.contains_key(&item);
        let records: Vec<Key> = self.records.keys().copied().filter(|key| unowned(Item::Record(*key))).collect();
        let memories: Vec<Key> = self.memories.keys().copied().filter(|key| unowned(Item::Memory(*key))).collect();
        records.iter().try_for_each(|key| marker.record(key))?;
        marker.keep.memories.extend(memories);
        let mut usage = StepUsage::default();
        for key in self.checkpoints.keys().copied().collect::<Vec<_>>() {
            self.checkpoint(&key, &mut usage)?;
        }
        self.take(&marker, usage)
    }

    /// Adds the checkpoints of a key, unless a step has them already.
    fn checkpoint(&mut self, key: &Key, usage: &mut StepUsage) -> Result<(), Failure> {
        let Some(mut bytes) = self.checkpoints.remove(key) else { return Ok(()) };
        let objects: BTreeSet<Digest> =
            self.store.checkpoint_objects(key).map_err(store_failure)?.into_iter().collect();
        for object in &objects {
            bytes += self.object(object)?;
        }
        usage.checkpoints += bytes;
        usage.unneeded += if self.kept.keep.checkpoints.contains(key) { 0 } else { bytes };
        Ok(())
    }

    fn take(&mut self, marker: &Marker<'_>, mut usage: StepUsage) -> Result<(), Failure> {
        let at = self.steps.len();
        for item in items(marker) {
            let bytes = self.bytes(item)?;
            match item {
                Item::Memory(_) => usage.memory += bytes,
                Item::Record(_) | Item::Object(_) => usage.results += bytes,
            }
            usage.unneeded += if self.is_kept(item) { 0 } else { bytes };
            self.owners.entry(item).and_modify(|owner| *owner = Owner::Several).or_insert(Owner::One(at));
        }
        self.steps.push(usage);
        Ok(())
    }

    fn is_kept(&self, item: Item) -> bool {
        let keep = &self.kept.keep;
        match item {
            Item::Record(key) => keep.records.contains(&key),
            Item::Object(digest) => keep.objects.contains(&digest),
            Item::Memory(key) => keep.memories.contains(&key),
        }
    }

    fn bytes(&self, item: Item) -> Result<u64, Failure> {
        match item {
            Item::Record(key) => Ok(self.records.get(&key).copied().unwrap_or_default()),
            Item::Memory(key) => Ok(self.memories.get(&key).copied().unwrap_or_default()),
            Item::Object(digest) => self.object(&digest),
        }
    }

    /// Bytes of an object; none of one that is gone.
    fn object(&self, digest: &Digest) -> Result<u64, Failure> {
        let found = self.store.locate(digest).map_err(store_failure)?;
        Ok(found.map_or(0, |blob| blob.len))
    }

    /// The steps that take anything, now that it is known what each has alone.
    fn finish(mut self) -> Result<Vec<StepUsage>, Failure> {
        for (item, owner) in &self.owners {
            if let (Owner::One(at), Item::Record(_) | Item::Object(_)) = (owner, item) {
                let bytes = self.bytes(*item)?;
                if let Some(step) = self.steps.get_mut(*at) {
                    step.alone += bytes;
                }
            }
        }
        self.steps.retain(|step| step.results + step.memory + step.checkpoints > 0);
        let size = |step: &StepUsage| std::cmp::Reverse(step.results + step.memory + step.checkpoints);
        self.steps.sort_by(|a, b| (&a.pipeline, size(a), &a.step).cmp(&(&b.pipeline, size(b), &b.step)));
        Ok(self.steps)
    }
}

fn items(marker: &Marker<'_>) -> impl Iterator<Item = Item> {
    let keep = &marker.keep;
    let records = keep.records.iter().map(|key| Item::Record(*key));
    let objects = keep.objects.iter().map(|digest| Item::Object(*digest));
    records.chain(objects).chain(keep.memories.iter().map(|key| Item::Memory(*key)))
}
