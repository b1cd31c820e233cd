//! What a step stage sees: whole inputs, output directories, and a way to report. The same on both sides of the
//! worker's wire.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use pipe_cache::{Blob, Digest, Key};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cell::{Row, Schema};
use crate::column::Column;
use crate::problem::Failure;
use crate::source::Credentials;
use crate::stage::SourceFile;

/// Inputs by port; a port that takes one has one.
pub type Inputs = BTreeMap<String, Vec<Input>>;

/// An artifact on an input port.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Input {
    /// The label, on a port that takes many; else the producing step's name.
    pub label: String,
    /// The step that made it, with its port where it has several: `split.test`.
    pub from: String,
    /// The kind.
    pub kind: String,
    /// The name of the artifact.
    pub digest: Digest,
    /// What it holds.
    pub data: Data,
}

/// The content of an artifact.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Data {
    /// Rows.
    Dataset(DatasetView),
    /// Files by relative path.
    Files(FileSet),
}

/// A read-only directory whose files may lie anywhere in the store.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileSet(pub BTreeMap<String, Blob>);

impl FileSet {
    /// Reads a file.
    ///
    /// # Errors
    /// When there is none of that name, or it cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let blob = self.0.get(name).ok_or_else(|| {
            let names = self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Failure::input(format!("there is no file `{name}` among {names}"))
        })?;
        blob.read().map_err(|error| Failure::io("read", &blob.path, &error))
    }

    /// Copies every file below `dir`.
    ///
    /// # Errors
    /// When a file cannot be written, or is damaged.
    pub fn materialise(&self, dir: &Path) -> Result<(), Failure> {
        for (name, blob) in &self.0 {
            let target = dir.join(name);
            if let Some(parent) = target.parent() {
                std::fs::create_dir_all(parent).map_err(|error| Failure::io("create", parent, &error))?;
            }
            blob.copy_to(&target).map_err(|error| Failure::io("write", &target, &error))?;
        }
        Ok(())
    }
}

/// A dataset as a stage reads it: chunk by chunk, column by column.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DatasetView {
    /// Its columns.
    pub schema: Schema,
    /// Its rows.
    pub rows: u64,
    /// Its chunks, in order of id.
    pub chunks: Vec<ChunkView>,
    /// Where the images of the image columns lie.
    pub images: HashMap<Digest, Blob>,
}

/// One chunk: rows `[first, first + rows)` of the dataset.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChunkView {
    /// Its rows.
    pub rows: u64,
    /// Its columns, `id` among them.
    pub columns: BTreeMap<String, Blob>,
}

impl DatasetView {
    /// The rows with the cells of `columns`, a chunk at a time.
    pub fn chunks<'a>(&'a self, columns: &'a [&'a str]) -> impl Iterator<Item = Result<Vec<Row>, Failure>> + 'a {
        self.chunks.iter().map(move |chunk| self.chunk_rows(chunk, columns))
    }

    /// All rows with the cells of `columns`.
    ///
    /// # Errors
    /// When a column is missing or cannot be read.
    pub fn all_rows(&self, columns: &[&str]) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        for chunk in self.chunks(columns) {
            rows.extend(chunk?);
        }
        Ok(rows)
    }

    fn chunk_rows(&self, chunk: &ChunkView, columns: &[&str]) -> Result<Vec<Row>, Failure> {
        let ids = read_column(chunk, "id")?.into_texts().map_err(Failure::internal)?;
        let mut rows: Vec<Row> =
            ids.into_iter().map(|id| Row { id, cells: Vec::with_capacity(columns.len()) }).collect();
        for name in columns {
            let column = read_column(chunk, name)?;
            let cells = column.into_cells(|digest| self.images.get(&digest).cloned()).map_err(Failure::internal)?;
            for (row, cell) in rows.iter_mut().zip(cells) {
                row.cells.push(cell);
            }
        }
        Ok(rows)
    }
}

fn read_column(chunk: &ChunkView, name: &str) -> Result<Column, Failure> {
    let blob = chunk
        .columns
        .get(name)
        .ok_or_else(|| Failure::internal(format!("column `{name}` was not declared as read by this step")))?;
    let bytes = blob.read().map_err(|error| Failure::io("read", &blob.path, &error))?;
    Column::decode(&bytes).map_err(|error| Failure::internal(format!("column `{name}`: {error}")))
}

/// A step, ready to execute: everything it may know, as data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepTask {
    /// The step's name.
    pub step: String,
    /// The stage's name.
    pub stage: String,
    /// Its key.
    pub key: Key,
    /// Checked parameters with defaults filled in.
    pub params: Value,
    /// What it reads.
    pub inputs: Inputs,
    /// An empty directory per output port of files, to be filled.
    pub outputs: BTreeMap<String, PathBuf>,
    /// A directory of this attempt alone; gone afterwards.
    pub scratch: PathBuf,
    /// The latest checkpoint an earlier attempt of the same key left.
    pub checkpoint: Option<Checkpoint>,
    /// Files beside the pipeline that the step depends on, as planning saw them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceFile>,
    /// A file that outlives the attempt, for the output of a program that the step runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
    /// The steps that led here, in order of execution; empty unless the outputs tell of them ([`crate::stage::Contract::uses_lineage`]).
    pub lineage: Vec<Ancestor>,
    /// `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// Threads to compute with.
    pub threads: usize,
}

/// What an earlier attempt left.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// How far it had come, in the step's own unit.
    pub at: u64,
    /// Its files.
    pub files: FileSet,
}

/// A step whose outputs this one descends from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// The step's name.
    pub step: String,
    /// The stage's name and version: `resize/1`.
    pub stage: String,
    /// Its key.
    pub key: Key,
    /// Its parameters, those that enter the key.
    pub params: Value,
    /// The artifacts it gave, by port.
    pub outputs: BTreeMap<String, Digest>,
    /// The state of the outside world it used, for sources.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pin: String,
}

/// How loud a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For the run log.
    Info,
    /// For the user's eyes.
    Warning,
}

/// Where a running step reports to.
pub trait Sink: Sync {
    /// `done` of `total` units; `note` is a short text shown beside the bar (`loss 1.234`).
    fn progress(&self, done: u64, total: u64, note: &str);
    /// So many of the units that are told as done took no work: what is left is not measured by them.
    fn remembered(&self, _units: u64) {}
    /// A message.
    fn log(&self, level: Level, message: &str);
    /// A measurement of this execution (time, memory, throughput): kept in the action record, never in an artifact.
    fn measure(&self, name: &str, value: f64);
    /// Stores the files of `dir` as the checkpoint at `at`.
    ///
    /// # Errors
    /// When it cannot be stored.
    fn checkpoint(&self, at: u64, dir: &Path) -> Result<(), Failure>;
    /// Whether the run is being interrupted; a step that sees it returns [`Failure::interrupted`] soon.
    fn cancelled(&self) -> bool;
}

/// What an executing step stage is given.
pub struct StepContext<'a> {
    /// The task.
    pub task: &'a StepTask,
    /// Where to report.
    pub sink: &'a dyn Sink,
    /// Variables that programs may be passed.
    pub credentials: &'a Credentials,
    /// How to give a dataset, where the step runs in the engine's process.
    pub datasets: Option<&'a dyn crate::source::Outputs>,
}

impl StepContext<'_> {
    /// The parameters as the stage's own type.
    ///
    /// # Errors
    /// When they do not fit it in a way the schema cannot say.
    pub fn params<P: DeserializeOwned>(&self) -> Result<P, Failure> {
        P::deserialize(&self.task.params).map_err(|error| Failure::internal(format!("parameters do not fit: {error}")))
    }

    /// All artifacts on a port; empty where it is not connected.
    #[must_use]
    pub fn inputs(&self, port: &str) -> &[Input] {
        self.task.inputs.get(port).map_or(&[], Vec::as_slice)
    }

    /// The dataset on a port that takes one.
    ///
    /// # Errors
    /// When the port carries none.
    pub fn dataset(&self, port: &str) -> Result<&DatasetView, Failure> {
        match self.inputs(port).first().map(|input| &input.data) {
            Some(Data::Dataset(view)) => Ok(view),
            _ => Err(Failure::internal(format!("port `{port}` carries no dataset"))),
        }
    }

    /// The files on a port that takes one.
    ///
    /// # Errors
    /// When the port carries none.
    pub fn files(&self, port: &str) -> Result<&FileSet, Failure> {
        match self.inputs(port).first().map(|input| &input.data) {
            Some(Data::Files(files)) => Ok(files),
            _ => Err(Failure::internal(format!("port `{port}` carries no files"))),
        }
    }

    /// The directory to fill for an output port.
    ///
    /// # Errors
    /// When there is no such port.
    pub fn output(&self, port: &str) -> Result<&Path, Failure> {
        self.task
            .outputs
            .get(port)
            .map(PathBuf::as_path)
            .ok_or_else(|| Failure::internal(format!("there is no output port `{port}`")))
    }
}
