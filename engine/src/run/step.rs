//! Executing a step: inputs as the stage sees them, the stage's work, outputs and record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pipe_cache::{ActionRecord, Digest, StatIndex, Store};

use super::evaluate::{BOOKKEEPING, Prepared, known, result};
use super::sink::StepSink;
use super::{Artifact, Context, ROW_RECIPE, Scratch, StepResult, ingest, room, rows, table, transform};
use crate::artifact::{FilesManifest, Manifest, store_failure};
use crate::build::build;
use crate::cell::Schema;
use crate::dataset;
use crate::delta::Why;
use crate::event::{RowCounts, StepReport};
use crate::graph::Step;
use crate::problem::Failure;
use crate::source::{BadRow, GivenFile, Outputs, RowSource, SourceContext};
use crate::source_list::{SOURCES, SourceList};
use crate::stage::{DATASET, Execute, Reads, Resolution};
use crate::step::{Checkpoint, Data, FileSet, Input, Inputs, Sink, StepContext, StepTask};

/// Executes a step and records what it gave.
pub(super) fn execute(step: &Step, prepared: Prepared, context: &Context<'_>) -> Result<StepResult, Failure> {
    let started = Instant::now();
    let sink = StepSink::new(step, prepared.key, context);
    if prepared.anew && step.stage.execute.transforms() {
        context.store.memory(&prepared.memory()).map_err(store_failure)?.let_go();
    }
    let done = perform(step, &prepared, context, &sink).map_err(|failure| sink.explain(failure))?;
    let seconds = started.elapsed().as_secs_f64();
    let mut measures = sink.measures();
    measures.insert("seconds".to_owned(), seconds);
    let record = ActionRecord {
        counts: done.counts.as_ref().map(transform::record_counts).unwrap_or_default(),
        measures: measures.clone(),
        run: context.events.run().to_owned(),
        ..ActionRecord::new(prepared.key, store_recipe(&prepared, context.store)?, done.recorded)
    };
    let outputs = match done.outputs {
        Some(outputs) => outputs,
        None => transform::outputs(step, &prepared, &record, context.store)?
            .ok_or_else(|| Failure::transient("what the step wrote is gone from the store").help("run again"))?,
    };
    if !done.unfinished {
        if prepared.anew {
            context.store.forget(&prepared.key);
        }
        context.store.record(record);
        context.store.clear_checkpoints(&prepared.key);
    }
    let report =
        StepReport { stage: step.stage.name, executed: true, rows: done.counts, seconds, ..StepReport::default() };
    Ok(StepResult { measures, ..result(&prepared, outputs, report) })
}

/// Executes a step and gives what its record would name. Nothing is recorded.
pub(super) fn outputs_of(
    step: &Step,
    prepared: &Prepared,
    context: &Context<'_>,
    sink: &dyn Sink,
) -> Result<BTreeMap<String, Digest>, Failure> {
    perform(step, prepared, context, sink).map(|done| done.recorded)
}

fn perform(step: &Step, prepared: &Prepared, context: &Context<'_>, sink: &dyn Sink) -> Result<Done, Failure> {
    let done = match step.stage.execute {
        Execute::Rows(_) | Execute::TorchRows | Execute::Table(_) => transformed(step, prepared, context, sink),
        Execute::Source(_) | Execute::Step(_) | Execute::TorchStep => made(step, prepared, context, sink),
    };
    // A program that was passed a secret may print it.
    done.map_err(|failure| context.credentials.mask_failure(failure))
}

fn store_recipe(prepared: &Prepared, store: &Store) -> Result<Digest, Failure> {
    store.put(prepared.recipe.as_bytes()).map_err(store_failure)
}

/// What an execution gave.
struct Done {
    /// What the record names.
    recorded: BTreeMap<String, Digest>,
    /// The artifacts, unless they follow from the record.
    outputs: Option<BTreeMap<String, Artifact>>,
    counts: Option<RowCounts>,
    /// Something must be tried again: no record.
    unfinished: bool,
}

fn transformed(step: &Step, prepared: &Prepared, context: &Context<'_>, sink: &dyn Sink) -> Result<Done, Failure> {
    let primary = step.primary_port();
    let inputs = inputs(step, prepared, context, Some(primary))?;
    let executed = match step.stage.execute {
        Execute::Table(_) => table::execute(step, prepared, &inputs, context, sink)?,
        _ => rows::execute(step, prepared, &inputs, context, sink)?,
    };
    let row_recipe = context.store.put(prepared.row_recipe.as_bytes()).map_err(store_failure)?;
    let bookkeeping = source_list(step, [], context.store)?.into_iter().chain([(ROW_RECIPE.to_owned(), row_recipe)]);
    Ok(Done {
        recorded: executed.outputs.into_iter().chain(bookkeeping).collect(),
        outputs: None,
        counts: Some(executed.counts),
        unfinished: executed.unfinished,
    })
}

/// A source or step stage: gives whole artifacts.
fn made(step: &Step, prepared: &Prepared, context: &Context<'_>, sink: &dyn Sink) -> Result<Done, Failure> {
    let scratch = Scratch(context.store.scratch().map_err(store_failure)?);
    let given = Given::new(step, context.store);
    let written = written(step, prepared, context, sink, (&scratch, &given));
    let written = written.map_err(|failure| room::explain(failure, context.store))?;
    room::was_enough(context.store)?;
    given.directories(&written, sink)?;
    recorded(step, given.finish(), context.store)
}

/// Has the stage do its work; the directories it wrote to, by port.
fn written(
    step: &Step,
    prepared: &Prepared,
    context: &Context<'_>,
    sink: &dyn Sink,
    (scratch, given): (&Scratch, &Given<'_>),
) -> Result<BTreeMap<String, PathBuf>, Failure> {
    Ok(match step.stage.execute {
        Execute::Source(run) => {
            let empty = Resolution::default();
            let resolution = step.resolution.as_ref().unwrap_or(&empty);
            run(&SourceContext {
                params: &step.params,
                resolution,
                base: context.base,
                scratch: &scratch.0,
                outputs: given,
                credentials: context.credentials,
                sink,
            })?;
            // What was given as it lies was compared when it was taken.
            if !given.are_as_seen() {
                unchanged(resolution, context.index)?;
            }
            BTreeMap::new()
        }
        Execute::Step(run) => {
            let task = task(step, prepared, context, scratch)?;
            run(&StepContext { task: &task, sink, credentials: context.credentials, datasets: Some(given) })?;
            task.outputs
        }
        _ => {
            let task = task(step, prepared, context, scratch)?;
            context.workers.step(&task, sink)?;
            task.outputs
        }
    })
}

/// What the record of a step names that gave these artifacts.
fn recorded(step: &Step, built: Built, store: &Store) -> Result<Done, Failure> {
    let artifacts = built.artifacts;
    if let Some(missing) = step.outputs.iter().find(|output| !artifacts.contains_key(&output.port)) {
        return Err(Failure::internal(format!("the stage gave nothing on output `{}`", missing.port)));
    }
    let mut recorded: BTreeMap<String, Digest> = artifacts.iter().map(|(port, a)| (port.clone(), a.digest)).collect();
    for (port, bad) in built.bad.iter().filter(|(_, bad)| !bad.is_empty()) {
        let bytes = serde_json::to_vec(bad).map_err(|error| Failure::internal(error.to_string()))?;
        recorded.insert(format!("{BOOKKEEPING}bad.{port}"), store.put(&bytes).map_err(store_failure)?);
    }
    recorded.extend(source_list(step, artifacts.values(), store)?);
    Ok(Done { recorded, outputs: Some(artifacts), counts: built.counts, unfinished: false })
}

/// What a record says of the local files that a step took, where it took some.
fn source_list<'a>(
    step: &Step,
    gave: impl IntoIterator<Item = &'a Artifact>,
    store: &Store,
) -> Result<Option<(String, Digest)>, Failure> {
    let taken = step.resolution.as_ref().filter(|resolution| !resolution.files.is_empty());
    taken.map(|taken| Ok((SOURCES.to_owned(), SourceList::of(&taken.files).store(gave, store)?))).transpose()
}

fn output_directories(step: &Step, scratch: &Scratch) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let mut directories = BTreeMap::new();
    for output in step.outputs.iter().filter(|output| output.kind != DATASET) {
        let path = scratch.0.join("out").join(&output.port);
        std::fs::create_dir_all(&path).map_err(|error| Failure::io("create", &path, &error))?;
        directories.insert(output.port.clone(), path);
    }
    Ok(directories)
}

/// Source files must still be what planning saw: what changed meanwhile is not recorded as the input.
fn unchanged(resolution: &Resolution, index: &StatIndex) -> Result<(), Failure> {
    let paths: Vec<&Path> = resolution.files.iter().map(|file| file.path.as_path()).collect();
    resolution.files.iter().zip(index.digests(&paths)).try_for_each(|(file, now)| {
        let now = now.map_err(|error| Failure::io("read", &file.path, &error))?;
        if now.digest == file.digest { Ok(()) } else { Err(dataset::changed_meanwhile(&file.path)) }
    })
}

fn task(step: &Step, prepared: &Prepared, context: &Context<'_>, scratch: &Scratch) -> Result<StepTask, Failure> {
    let checkpoint = context.store.latest_checkpoint(&prepared.key).map_err(store_failure)?;
    let work = scratch.0.join("work");
    std::fs::create_dir_all(&work).map_err(|error| Failure::io("create", &work, &error))?;
    Ok(StepTask {
        step: step.name.clone(),
        stage: step.stage.name.to_owned(),
        key: prepared.key,
        params: step.params.clone(),
        inputs: inputs(step, prepared, context, None)?,
        outputs: output_directories(step, scratch)?,
        scratch: work,
        checkpoint: checkpoint.map(|found| Checkpoint { at: found.at, files: FileSet(found.files) }),
        sources: step.resolution.as_ref().map_or_else(Vec::new, |resolution| resolution.files.clone()),
        log: program_log(step, context),
        lineage: prepared.lineage.clone(),
        device: context.workers.setup().device.clone(),
        threads: context.workers.setup().threads,
    })
}

/// Where the output of programs that a step runs is kept; nowhere, where this is no run.
pub(super) fn program_log(step: &Step, context: &Context<'_>) -> Option<PathBuf> {
    let run = context.events.run();
    (!run.is_empty()).then(|| context.store.runs().join(format!("{run}.{}.log", file_name(&step.name))))
}

/// A step's name as part of a file's: values of a matrix may hold what file names cannot.
fn file_name(step: &str) -> String {
    const LONGEST: usize = 80;
    let plain = |c: char| c.is_alphanumeric() || "_-.=,[]".contains(c);
    if step.chars().all(plain) && step.len() <= LONGEST {
        return step.to_owned();
    }
    let shown: String = step.chars().take(LONGEST / 4).map(|c| if plain(c) { c } else { '_' }).collect();
    format!("{shown}-{}", Digest::of(step.as_bytes()).short())
}

/// The inputs as a stage sees them, without the one it works on row by row.
pub(super) fn inputs(
    step: &Step,
    prepared: &Prepared,
    context: &Context<'_>,
    without: Option<&str>,
) -> Result<Inputs, Failure> {
    let (store, index) = (context.store, context.index);
    let mut inputs = Inputs::new();
    let known = known(step, &prepared.inputs);
    for (edge, input) in step.inputs.iter().zip(known).filter(|(edge, _)| Some(edge.port.as_str()) != without) {
        let data = match (input.manifest, step.contract.reads.get(&edge.port)) {
            (Manifest::Dataset(dataset), Some(Reads::Columns(columns))) => {
                Data::Dataset(dataset::view(store, dataset, Some(columns))?)
            }
            (Manifest::Dataset(dataset), _) => Data::Dataset(dataset::view(store, dataset, None)?),
            (Manifest::Files(files), reads) => {
                let wanted = |name: &String| !matches!(reads, Some(Reads::Files(names)) if !names.contains(name));
                let mut set = FileSet::default();
                for (name, entry) in files.files.iter().filter(|(name, _)| wanted(name)) {
                    set.0.insert(name.clone(), store.locate_whole(&entry.digest, index).map_err(store_failure)?);
                }
                Data::Files(set)
            }
        };
        inputs.entry(edge.port.clone()).or_default().push(Input {
            label: edge.label.clone(),
            from: edge.from.clone(),
            kind: input.manifest.kind().to_owned(),
            digest: input.digest,
            data,
        });
    }
    Ok(inputs)
}

/// Takes what a stage makes.
struct Given<'a> {
    step: &'a Step,
    store: &'a Store,
    built: Mutex<Built>,
}

#[derive(Default)]
struct Built {
    artifacts: BTreeMap<String, Artifact>,
    /// The ports of files that were all compared with what planning saw.
    as_seen: BTreeSet<String>,
    bad: BTreeMap<String, Vec<BadRow>>,
    counts: Option<RowCounts>,
}

impl<'a> Given<'a> {
    fn new(step: &'a Step, store: &'a Store) -> Self {
        Self { step, store, built: Mutex::default() }
    }

    fn built(&self) -> MutexGuard<'_, Built> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was written to the directories of the output ports.
    fn directories(&self, directories: &BTreeMap<String, PathBuf>, sink: &dyn Sink) -> Result<(), Failure> {
        directories.iter().try_for_each(|(port, dir)| self.files(port, &ingest::below(dir)?, sink))
    }

    /// Whether everything given are files, each compared with what planning saw.
    fn are_as_seen(&self) -> bool {
        let built = self.built();
        built.as_seen.len() == built.artifacts.len()
    }

    fn finish(self) -> Built {
        self.built.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outputs for Given<'_> {
    fn dataset(&self, port: &str, schema: &Schema, rows: &mut RowSource<'_>) -> Result<(), Failure> {
        if self.step.output(port).is_none_or(|output| output.kind != DATASET) {
            return Err(Failure::internal(format!("there is no dataset output `{port}`")));
        }
        let made = build(self.store, schema, rows)?;
        let rows = made.manifest.rows();
        let artifact = Artifact::store(Manifest::Dataset(made.manifest), self.store)?;
        let mut built = self.built();
        let counts = built.counts.get_or_insert_default();
        let total = rows + made.bad.len() as u64;
        counts.total += total;
        counts.kept += rows;
        counts.executed += total;
        for bad in &made.bad {
            *counts.failed.entry(bad.failure.class.clone()).or_default() += 1;
        }
        built.artifacts.insert(port.to_owned(), artifact);
        built.bad.insert(port.to_owned(), made.bad);
        Ok(())
    }

    fn files(&self, port: &str, files: &[GivenFile], sink: &dyn Sink) -> Result<(), Failure> {
        let output = self.step.output(port).filter(|output| output.kind != DATASET);
        let output = output.ok_or_else(|| Failure::internal(format!("there is no output `{port}` for files")))?;
        let as_seen = files.iter().all(|file| file.seen.is_some());
        let files = ingest::files(self.store, files, sink)?;
        let manifest = Manifest::Files(FilesManifest { kind: output.kind.clone(), files });
        let artifact = Artifact::store(manifest, self.store)?;
        let mut built = self.built();
        built.artifacts.insert(port.to_owned(), artifact);
        built.as_seen.extend(as_seen.then(|| port.to_owned()));
        Ok(())
    }
}

/// The rows that a recorded step did not keep, with why.
pub(super) fn rows_left_out(
    step: &Step,
    prepared: &Prepared,
    record: &ActionRecord,
    store: &Store,
) -> Result<Vec<LeftOut>, Failure> {
    let mut left = Vec::new();
    for (name, digest) in record.outputs.iter().filter(|(name, _)| name.starts_with("@bad.")) {
        let bytes = store.read(digest).map_err(store_failure)?;
        let bad: Vec<BadRow> = serde_json::from_slice(&bytes).map_err(|e| Failure::internal(format!("{name}: {e}")))?;
        left.extend(bad.into_iter().map(|row| LeftOut {
            id: row.id,
            failed: true,
            reason: row.failure.class,
            message: row.failure.message,
        }));
    }
    if let (true, Some(output)) = (step.stage.execute.transforms(), step.outputs.first()) {
        let (_, input) = transform::primary(step, &prepared.inputs)?;
        let deltas = transform::load_deltas(record, &output.port, store)?;
        for (chunk, delta) in input.chunks.iter().zip(deltas) {
            let delta = crate::delta::ChunkDelta::load(store, &delta)?;
            left.extend(left_out_of(chunk, &delta, store)?);
        }
    }
    Ok(left)
}

fn left_out_of(
    chunk: &crate::artifact::Chunk,
    delta: &crate::delta::ChunkDelta,
    store: &Store,
) -> Result<Vec<LeftOut>, Failure> {
    if delta.removed.is_empty() {
        return Ok(Vec::new());
    }
    let ids =
        dataset::load_column(store, &chunk.columns[crate::artifact::ID])?.into_texts().map_err(Failure::internal)?;
    let mut left: Vec<(u32, LeftOut)> = Vec::new();
    for removed in &delta.removed {
        for row in &removed.rows {
            let Some(id) = ids.get(*row as usize).cloned() else { continue };
            let (failed, reason, message) = match &removed.why {
                Why::Dropped(reason) => (false, reason.clone(), String::new()),
                Why::Failed(failure) => (true, failure.class.clone(), failure.message.clone()),
                Why::Elsewhere => continue,
            };
            left.push((*row, LeftOut { id, failed, reason, message }));
        }
    }
    left.sort_by_key(|(row, _)| *row);
    Ok(left.into_iter().map(|(_, left)| left).collect())
}

/// A row that a step did not keep.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    /// Its id.
    pub id: String,
    /// Whether it failed, rather than being dropped.
    pub failed: bool,
    /// The reason or class that recurs.
    pub reason: String,
    /// What exactly.
    pub message: String,
}
