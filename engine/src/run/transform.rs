//! From deltas to datasets: what row and table steps give.
//!
//! The record under the step's key holds the deltas, because they depend on nothing but the columns read. What they make of a
//! particular input is recorded under its own key: finding it again is bookkeeping, not execution.

use std::collections::BTreeMap;

use pipe_cache::{ActionRecord, Digest, Fields, Key, Store};
use rayon::prelude::*;

use super::Artifact;
use super::evaluate::{Prepared, load_artifact};
use crate::artifact::{DatasetManifest, Manifest, store_failure};
use crate::assembly::Assembly;
use crate::cell::Schema;
use crate::delta::{ChunkDelta, Why};
use crate::event::RowCounts;
use crate::graph::Step;
use crate::problem::Failure;

/// Before a port, the name under which a record holds its deltas.
pub(crate) const DELTA: &str = "@delta.";

/// The dataset a row or table step works on.
///
/// # Errors
/// When there is none, which checking should have found.
pub fn primary<'a>(step: &Step, inputs: &'a [Artifact]) -> Result<(&'a Artifact, &'a DatasetManifest), Failure> {
    let port = step.primary_port();
    step.inputs
        .iter()
        .zip(inputs)
        .find(|(edge, _)| edge.port == port)
        .and_then(|(_, artifact)| artifact.manifest.as_dataset().map(|dataset| (artifact, dataset)))
        .ok_or_else(|| Failure::internal(format!("port `{port}` carries no dataset")))
}

/// Stores the list of a port's chunk deltas; the name under which the record holds it, and its digest.
///
/// # Errors
/// When the store cannot be written.
pub fn store_deltas(port: &str, deltas: &[Digest], store: &Store) -> Result<(String, Digest), Failure> {
    let bytes = postcard::to_stdvec(deltas).expect("encoding plain data into memory cannot fail");
    Ok((format!("{DELTA}{port}"), store.put(&bytes).map_err(store_failure)?))
}

/// The chunk deltas of a port, as a record names them.
///
/// # Errors
/// When they are missing or damaged.
pub fn load_deltas(record: &ActionRecord, port: &str, store: &Store) -> Result<Vec<Digest>, Failure> {
    let name = format!("{DELTA}{port}");
    let digest = record.outputs.get(&name).ok_or_else(|| Failure::internal(format!("the record lacks `{name}`")))?;
    let bytes = store.read(digest).map_err(store_failure)?;
    postcard::from_bytes(&bytes)
        .map_err(|error| Failure::internal(format!("{digest} is not a list of deltas: {error}")))
}

/// The outputs of a recorded step on this input; `None` if something of them is gone.
///
/// # Errors
/// When the store cannot be written.
pub fn outputs(
    step: &Step,
    prepared: &Prepared,
    record: &ActionRecord,
    store: &Store,
) -> Result<Option<BTreeMap<String, Artifact>>, Failure> {
    let mut outputs = BTreeMap::new();
    for output in &step.outputs {
        let key = assembly_key(step, prepared, &record.outputs, &output.port)?;
        let found =
            store.lookup(&key).map_err(store_failure)?.and_then(|r| load_artifact(r.outputs.get(&output.port)?, store));
        let artifact = match found {
            Some(artifact) => artifact,
            None => {
                let Ok(artifact) = assemble(step, prepared, record, &output.port, store) else { return Ok(None) };
                let outputs = [(output.port.clone(), artifact.digest)].into();
                store.forget(&key);
                store.record(ActionRecord::new(key, artifact.digest, outputs));
                artifact
            }
        };
        outputs.insert(output.port.clone(), artifact);
    }
    Ok(Some(outputs))
}

/// Forgets what the deltas made of this input.
pub fn forget(step: &Step, prepared: &Prepared, outputs: &BTreeMap<String, Digest>, store: &Store) {
    for output in &step.outputs {
        if let Ok(key) = assembly_key(step, prepared, outputs, &output.port) {
            store.forget(&key);
        }
    }
}

fn assembly_key(
    step: &Step,
    prepared: &Prepared,
    outputs: &BTreeMap<String, Digest>,
    port: &str,
) -> Result<Key, Failure> {
    let (input, dataset) = primary(step, &prepared.inputs)?;
    let delta = outputs.get(&format!("{DELTA}{port}"));
    let delta = delta.ok_or_else(|| Failure::internal(format!("the record lacks the delta of `{port}`")))?;
    let mut fields = Fields::new("assemble/2");
    fields.push(input.digest.bytes()).push(delta.bytes());
    // Where no row stays, deltas do not tell columns.
    for (name, column_type) in &output_schema(step, port, dataset).0 {
        fields.push(name.as_bytes()).push(column_type.to_string().as_bytes());
    }
    Ok(fields.key())
}

fn assemble(
    step: &Step,
    prepared: &Prepared,
    record: &ActionRecord,
    port: &str,
    store: &Store,
) -> Result<Artifact, Failure> {
    let (_, input) = primary(step, &prepared.inputs)?;
    let digests = load_deltas(record, port, store)?;
    if digests.len() != input.chunks.len() {
        return Err(Failure::internal("the deltas are of another dataset"));
    }
    let deltas: Vec<ChunkDelta> =
        digests.par_iter().map(|digest| ChunkDelta::load(store, digest)).collect::<Result<_, _>>()?;
    let schema = output_schema(step, port, input);
    let memory = store.memory(&prepared.memory()).map_err(store_failure)?;
    let changed = input.chunks.iter().zip(&digests).zip(&deltas).map(|((chunk, digest), delta)| (chunk, digest, delta));
    Artifact::store(Manifest::Dataset(Assembly::new(store, &schema, &memory).dataset(changed)?), store)
}

/// The columns of what a step gives on a port, on this input.
fn output_schema(step: &Step, port: &str, input: &DatasetManifest) -> Schema {
    let declared = step.output(port).and_then(|output| output.schema.clone()).unwrap_or_default();
    actual_schema(&declared, &input.schema)
}

/// The columns promised, and those of the input that planning did not know of.
#[must_use]
pub fn actual_schema(declared: &Schema, input: &Schema) -> Schema {
    let mut schema = declared.clone();
    for (name, column_type) in &input.0 {
        schema.0.entry(name.clone()).or_insert(*column_type);
    }
    schema
}

const TOTAL: &str = "rows";
const KEPT: &str = "kept";
const DROPPED: &str = "dropped: ";
const FAILED: &str = "failed: ";

/// Adds up what deltas did to rows.
#[derive(Default)]
pub struct Tally(RowCounts);

impl Tally {
    /// Counts the rows of the delta of a port: what left is counted at the first, what went elsewhere at the port it went to.
    pub fn add(&mut self, port: usize, delta: &ChunkDelta) {
        let counts = &mut self.0;
        counts.kept += delta.kept_count();
        if port > 0 {
            return;
        }
        counts.total += delta.rows;
        for removed in &delta.removed {
            let rows = removed.rows.len() as u64;
            match &removed.why {
                Why::Dropped(reason) => *counts.dropped.entry(reason.clone()).or_default() += rows,
                Why::Failed(failure) => *counts.failed.entry(failure.class.clone()).or_default() += rows,
                Why::Elsewhere => {}
            }
        }
    }

    /// The counts.
    #[must_use]
    pub fn finish(self, executed: u64) -> RowCounts {
        RowCounts { executed, ..self.0 }
    }
}

/// Counts as a record keeps them.
#[must_use]
pub fn record_counts(rows: &RowCounts) -> BTreeMap<String, u64> {
    let mut counts: BTreeMap<String, u64> = [(TOTAL.to_owned(), rows.total), (KEPT.to_owned(), rows.kept)].into();
    counts.extend(rows.dropped.iter().map(|(reason, n)| (format!("{DROPPED}{reason}"), *n)));
    counts.extend(rows.failed.iter().map(|(class, n)| (format!("{FAILED}{class}"), *n)));
    counts
}

/// The counts of a record, if it has any.
#[must_use]
pub fn counts(record: &ActionRecord) -> Option<RowCounts> {
    let total = *record.counts.get(TOTAL)?;
    let mut rows = RowCounts { total, kept: record.counts.get(KEPT).copied().unwrap_or(0), ..RowCounts::default() };
    for (name, count) in &record.counts {
        if let Some(reason) = name.strip_prefix(DROPPED) {
            rows.dropped.insert(reason.to_owned(), *count);
        } else if let Some(class) = name.strip_prefix(FAILED) {
            rows.failed.insert(class.to_owned(), *count);
        }
    }
    Some(rows)
}
