//! Is the result of a step there? From its inputs to its recipe, its key and its record.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipe_cache::{ActionRecord, Digest, Key, StatIndex, Store};
use rayon::prelude::*;

use super::{Artifact, Context, StepResult, transform};
use crate::artifact::{Manifest, store_failure};
use crate::cell::ColumnType;
use crate::column::Column;
use crate::dataset::load_column;
use crate::event::StepReport;
use crate::graph::{Edge, Graph, Step};
use crate::params::semantic;
use crate::problem::Failure;
use crate::recipe::{self, KnownInput};
use crate::step::Ancestor;

/// What looking at a step showed.
pub enum Evaluation {
    /// Its result is there.
    Hit(Box<StepResult>),
    /// It must execute.
    Miss(Box<Prepared>),
}

/// A step ready to execute.
pub struct Prepared {
    /// Its key.
    pub key: Key,
    /// The text of its recipe.
    pub recipe: String,
    /// The recipe of its rows, for a row or table step.
    pub row_recipe: String,
    /// Its inputs, in the order of the step's edges.
    pub inputs: Vec<Artifact>,
    /// The steps that led here.
    pub lineage: Vec<Ancestor>,
    /// Whether it executes although its result is recorded: nothing remembered counts then, and what it gives takes that one's place.
    pub anew: bool,
}

impl Prepared {
    /// Names the row memory of a row or table step: the key of its row recipe.
    #[must_use]
    pub fn memory(&self) -> Key {
        recipe::key(&self.row_recipe)
    }
}

/// Looks up a step whose inputs are known.
///
/// # Errors
/// When the store cannot be read.
pub fn evaluate(
    step: &Step,
    inputs: &[Artifact],
    lineage: Vec<Ancestor>,
    context: &Context<'_>,
) -> Result<Evaluation, Failure> {
    let prepared = prepare(step, inputs, lineage, &context.workers.setup().device);
    match find(step, &prepared, context.store)? {
        Some(result) => Ok(Evaluation::Hit(Box::new(result))),
        None => Ok(Evaluation::Miss(Box::new(prepared))),
    }
}

/// The recipe and key of a step whose inputs are known.
#[must_use]
pub fn prepare(step: &Step, inputs: &[Artifact], lineage: Vec<Ancestor>, device: &str) -> Prepared {
    let mut recipe = recipe::step_recipe(step, &known(step, inputs), device);
    if step.contract.uses_lineage {
        recipe::push_lineage(&mut recipe, &lineage);
    }
    let transforms = step.stage.execute.transforms();
    let row_recipe = if transforms { row_recipe(step, inputs, device) } else { String::new() };
    Prepared { key: recipe::key(&recipe), recipe, row_recipe, inputs: inputs.to_vec(), lineage, anew: false }
}

/// The recipe of the rows of a row or table step.
#[must_use]
pub fn row_recipe(step: &Step, inputs: &[Artifact], device: &str) -> String {
    recipe::row_recipe(step, &known(step, inputs), device)
}

/// The steps that led to the one at `at`, each once, in order, if its outputs tell of them; `ancestor` tells of a step whose result is
/// known. Nothing else looks at a lineage, and those of a thousand steps in a row are half a million steps.
pub fn lineage(graph: &Graph, at: usize, ancestor: impl Fn(usize) -> Option<Ancestor>) -> Vec<Ancestor> {
    if !graph.steps[at].contract.uses_lineage {
        return Vec::new();
    }
    let mut needed = vec![false; at];
    graph.steps[at].upstream().for_each(|from| needed[from] = true);
    for from in (0..at).rev() {
        if needed[from] {
            graph.steps[from].upstream().for_each(|earlier| needed[earlier] = true);
        }
    }
    (0..at).filter(|from| needed[*from]).filter_map(ancestor).collect()
}

/// The recorded result of a step, if all of it is there.
///
/// # Errors
/// When the store cannot be read or written.
pub fn find(step: &Step, prepared: &Prepared, store: &Store) -> Result<Option<StepResult>, Failure> {
    let Some(record) = store.lookup(&prepared.key).map_err(store_failure)? else { return Ok(None) };
    let found = if step.stage.execute.transforms() {
        transform::outputs(step, prepared, &record, store)?
    } else {
        load_outputs(&record.outputs, store)
    };
    let Some(outputs) = found else {
        store.forget(&prepared.key);
        return Ok(None);
    };
    let mut report = StepReport { stage: step.stage.name, rows: transform::counts(&record), ..StepReport::default() };
    if let Some(rows) = &mut report.rows {
        rows.executed = 0;
    }
    Ok(Some(StepResult { measures: record.measures, ..result(prepared, outputs, report) }))
}

/// The recipe of a step as far as its inputs are known: without the lines of the others, and without lineage.
#[must_use]
pub fn partial_recipe(step: &Step, inputs: &[Option<Artifact>], device: &str) -> String {
    let known: Vec<KnownInput<'_>> = step
        .inputs
        .iter()
        .zip(inputs)
        .filter_map(|(edge, artifact)| Some((edge, artifact.as_ref()?)))
        .map(|(edge, artifact)| known_input(edge, artifact))
        .collect();
    recipe::step_recipe(step, &known, device)
}

/// The inputs with what a recipe needs to know of them.
pub fn known<'a>(step: &'a Step, inputs: &'a [Artifact]) -> Vec<KnownInput<'a>> {
    step.inputs.iter().zip(inputs).map(|(edge, artifact)| known_input(edge, artifact)).collect()
}

fn known_input<'a>(edge: &'a Edge, artifact: &'a Artifact) -> KnownInput<'a> {
    KnownInput { port: &edge.port, label: &edge.label, digest: artifact.digest, manifest: &artifact.manifest }
}

/// A step as those that descend from it name it.
pub fn ancestor(step: &Step, result: &StepResult) -> Ancestor {
    let params = semantic(step.stage.params, &step.params).into_iter();
    Ancestor {
        step: step.name.clone(),
        stage: step.stage.versioned(),
        key: result.key,
        params: params.map(|(name, value)| (name.to_owned(), value.clone())).collect(),
        outputs: digests(&result.outputs),
        pin: step.pin().to_owned(),
    }
}

fn digests(outputs: &BTreeMap<String, Artifact>) -> BTreeMap<String, Digest> {
    outputs.iter().map(|(port, artifact)| (port.clone(), artifact.digest)).collect()
}

/// What a step gave, as its descendants and the user see it.
pub fn result(prepared: &Prepared, outputs: BTreeMap<String, Artifact>, mut report: StepReport) -> StepResult {
    report.outputs = digests(&outputs);
    report.key = Some(prepared.key);
    StepResult { outputs, key: prepared.key, report, measures: BTreeMap::new() }
}

/// The artifacts a record names; `None` if one of them is gone.
fn load_outputs(outputs: &BTreeMap<String, Digest>, store: &Store) -> Option<BTreeMap<String, Artifact>> {
    let mut found = BTreeMap::new();
    for (port, digest) in outputs.iter().filter(|(port, _)| !port.starts_with(BOOKKEEPING)) {
        found.insert(port.clone(), load_artifact(digest, store)?);
    }
    Some(found)
}

/// Names in a record that are not ports.
pub const BOOKKEEPING: char = '@';

/// So many objects are looked for on all cores.
const MANY: usize = 1000;

/// An artifact whose manifest and objects are there.
pub fn load_artifact(digest: &Digest, store: &Store) -> Option<Artifact> {
    let manifest = Manifest::load(store, digest).ok()?;
    let objects: Vec<Digest> = manifest.objects().collect();
    let is_there = |object: &Digest| matches!(store.locate_named(object), Ok(Some(_)));
    let there = if objects.len() < MANY { objects.iter().all(is_there) } else { objects.par_iter().all(is_there) };
    there.then(|| Artifact { digest: *digest, manifest: Arc::new(manifest) })
}

/// Whether every object of an artifact is there, the images of its rows included.
#[must_use]
pub fn is_complete(store: &Store, manifest: &Manifest) -> bool {
    all_objects(store, manifest, |digest| matches!(store.locate_named(digest), Ok(Some(_))))
}

/// Reads every object of an artifact, so that the damaged ones are found and set aside.
pub fn examine(store: &Store, index: &StatIndex, manifest: &Manifest) {
    all_objects(store, manifest, |digest| {
        // What is wrong with it, the store has dealt with; whoever needs the object misses it.
        let _ = store.locate_whole(digest, index);
        true
    });
}

/// Whether `holds` for every object of an artifact, the images of its rows included.
fn all_objects(store: &Store, manifest: &Manifest, holds: impl Fn(&Digest) -> bool) -> bool {
    if !manifest.objects().all(|object| holds(&object)) {
        return false;
    }
    let Some(dataset) = manifest.as_dataset() else { return true };
    let image_columns = dataset.schema.0.iter().filter(|(_, t)| **t == ColumnType::Image).map(|(name, _)| name);
    image_columns.flat_map(|name| dataset.chunks.iter().filter_map(|chunk| chunk.columns.get(name))).all(|column| {
        match load_column(store, column) {
            Ok(Column::Image(cells)) => cells.iter().flatten().all(&holds),
            _ => false,
        }
    })
}

/// Forgets what a step gave, so that it executes again.
pub fn forget(step: &Step, inputs: &[Artifact], lineage: Vec<Ancestor>, context: &Context<'_>) {
    let prepared = prepare(step, inputs, lineage, &context.workers.setup().device);
    if let Ok(Some(ActionRecord { outputs, .. })) = context.store.lookup(&prepared.key)
        && step.stage.execute.transforms()
    {
        transform::forget(step, &prepared, &outputs, context.store);
    }
    context.store.forget(&prepared.key);
}
