//! Is there room for what a step will make? Asked before it starts: a disk found full later costs the work done until then.
//!
//! What a step will make is taken to be as large as what it made the last time, where that are files: they are made as a whole. A source
//! takes no more than those of its files that the store lacks. What becomes of rows is written bit by bit, mostly shared with what is
//! there, and cannot be told before.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytesize::ByteSize;
use pipe_cache::{Digest, Store};

use crate::artifact::Manifest;
use crate::graph::Step;
use crate::history::History;
use crate::problem::{FREE_SPACE, Failure, FailureClass};
use crate::stage::{DATASET, Execute, Resolution, SourceFile};

/// Runs whose logs are looked through.
const RUNS: usize = 20;

/// With less than this left a disk is full: whoever wrote last may have been cut short.
const FULL: u64 = 64 << 10;

/// What the steps of a pipeline made in earlier runs, read once it is asked for.
pub(super) struct Room {
    pipeline: String,
    last: OnceLock<BTreeMap<String, BTreeMap<String, Digest>>>,
}

/// What a step takes, or is taken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    bytes: u64,
    files: u64,
}

impl Room {
    pub(super) fn new(pipeline: &str) -> Self {
        Self { pipeline: pipeline.to_owned(), last: OnceLock::new() }
    }

    /// Fails if the step would leave too little.
    pub(super) fn check(&self, step: &Step, store: &Store) -> Result<(), Failure> {
        // What a file system does not tell is found out by writing.
        let Ok(room) = store.room() else { return Ok(()) };
        let makes_files = step.outputs.iter().any(|output| output.kind != DATASET);
        let (size, told_by) = match step.resolution.as_ref().filter(|resolution| !resolution.files.is_empty()) {
            Some(local) if makes_files && matches!(step.stage.execute, Execute::Source(_)) => {
                (lacking(local, &room, store), "those the store lacks")
            }
            _ => (self.last_size(step, store), "what it made last time"),
        };
        let lacks = |what: String| {
            Failure::new(FailureClass::Store, format!("there is no room for it where the store lies: {what}"))
                .help(FREE_SPACE)
        };
        if !room.bytes.holds(size.bytes) {
            let [free, last, reserve] =
                [room.bytes.free, size.bytes, room.bytes.reserve].map(|n| ByteSize(n).display().si());
            let needed = ByteSize(size.bytes.saturating_add(room.bytes.reserve)).display().si();
            let what = format!(
                "{free} are free, {needed} are needed ({last} for {told_by}, {reserve} to stay free for records)"
            );
            return Err(lacks(what));
        }
        if !room.files.holds(size.files) {
            let (free, reserve) = (room.files.free, room.files.reserve);
            let needed = size.files.saturating_add(reserve);
            return Err(lacks(format!(
                "{free} files can be made (free inodes), {needed} are needed ({} for {told_by}, {reserve} to stay free for records)",
                size.files
            )));
        }
        Ok(())
    }

    /// The size of the files that a step made last.
    fn last_size(&self, step: &Step, store: &Store) -> Size {
        let mut size = Size::default();
        for output in step.outputs.iter().filter(|output| output.kind != DATASET) {
            let last = self.last.get_or_init(|| last_outputs(&self.pipeline, store));
            let digest = last.get(&step.name).and_then(|outputs| outputs.get(&output.port));
            // One that was collected tells nothing any more.
            if let Some(Ok(Manifest::Files(manifest))) = digest.map(|digest| Manifest::load(store, digest)) {
                size.bytes += manifest.files.values().map(|file| file.len).sum::<u64>();
                size.files += manifest.files.len() as u64;
            }
        }
        size
    }
}

/// The files of a source that the store has to take; nothing, where there is room for all of them.
fn lacking(source: &Resolution, room: &pipe_cache::Room, store: &Store) -> Size {
    let all: u64 = source.files.iter().map(|file| file.len).sum();
    if room.bytes.holds(all) {
        return Size::default();
    }
    let lacks = |file: &&SourceFile| !matches!(store.locate(&file.digest), Ok(Some(_)));
    // Small ones share a file of the store.
    Size { bytes: source.files.iter().filter(lacks).map(|file| file.len).sum(), files: 0 }
}

/// Fails if the disk is full now that a step has written its files: programs may not have noticed, and nothing cut short is recorded.
pub(super) fn was_enough(store: &Store) -> Result<(), Failure> {
    if is_full(store) {
        let message = "the disk was full when it ended, so that what it made may be cut short; nothing is recorded";
        return Err(Failure::new(FailureClass::Store, message).help(FREE_SPACE));
    }
    Ok(())
}

/// Why a step failed, told while its files are there: programs that fail on a full disk often do not say so.
pub(super) fn explain(failure: Failure, store: &Store) -> Failure {
    let told = matches!(failure.class, FailureClass::Store | FailureClass::Interrupted | FailureClass::Lost);
    if told || !is_full(store) {
        return failure;
    }
    let message = format!("the disk was full when it failed: {}", failure.message);
    Failure { class: FailureClass::Store, message, help: Some(FREE_SPACE.to_owned()), ..failure }
}

fn is_full(store: &Store) -> bool {
    store.room().is_ok_and(|room| room.bytes.free < FULL || room.files.free == 0)
}

/// The latest outputs of each step.
fn last_outputs(pipeline: &str, store: &Store) -> BTreeMap<String, BTreeMap<String, Digest>> {
    let mut last = BTreeMap::new();
    // Without a history nothing is known.
    let Ok(history) = History::open(store) else { return last };
    for run in history.runs().take(RUNS).filter(|run| run.pipeline == pipeline) {
        for step in run.steps.into_iter().filter(|step| !step.outputs.is_empty()) {
            last.entry(step.step).or_insert(step.outputs);
        }
    }
    last
}
