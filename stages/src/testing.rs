//! What the tests of several stages need: artifacts in temporary directories, and the engine's side of planning.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use pipe_engine::cell::{Cell, ColumnType, Row, Schema};
use pipe_engine::column::Column;
use pipe_engine::problem::Problem;
use pipe_engine::stage::{Assignment, Contract, DATASET, Declare, Shape, Stage, TableStage};
use pipe_engine::step::{ChunkView, Data, DatasetView, FileSet, Input, Inputs, StepTask};
use pipe_engine::{Blob, Digest, Key};
use serde_json::Value;
use tempfile::TempDir;

/// Writes bytes to a new file of `dir` and refers to them as the store would.
pub fn blob(dir: &Path, bytes: &[u8]) -> Blob {
    let digest = Digest::of(bytes);
    let path = dir.join(digest.to_string());
    std::fs::write(&path, bytes).unwrap();
    Blob { digest, path: path.into(), offset: 0, len: bytes.len() as u64 }
}

/// A directory artifact with these files, alive as long as the directory.
pub fn file_set(files: &[(&str, &[u8])]) -> (TempDir, FileSet) {
    let dir = tempfile::tempdir().unwrap();
    let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), blob(dir.path(), bytes))).collect();
    (dir, FileSet(files))
}

/// The columns of a dataset.
pub fn schema(columns: &[(&str, ColumnType)]) -> Schema {
    Schema(columns.iter().map(|(name, column_type)| ((*name).to_owned(), *column_type)).collect())
}

/// What planning knows of a dataset with these columns.
pub fn dataset_shape(columns: &[(&str, ColumnType)]) -> Shape {
    Shape { label: "rows".to_owned(), kind: DATASET.to_owned(), schema: Some(schema(columns)) }
}

/// What planning knows of files of a kind.
pub fn files_shape(kind: &str) -> Shape {
    Shape { label: "files".to_owned(), kind: kind.to_owned(), schema: None }
}

/// What the stage declares for these parameters, given as in a pipeline, and inputs.
pub fn declared(stage: &Stage, params: &Value, inputs: &[(&str, Shape)]) -> Result<Contract, Problem> {
    let mut shapes: BTreeMap<String, Vec<Shape>> = BTreeMap::new();
    for (port, shape) in inputs {
        shapes.entry((*port).to_owned()).or_default().push(shape.clone());
    }
    (stage.declare)(&Declare { params, inputs: &shapes, resolution: None })
}

/// What a table stage does with rows that come in chunks of so many.
pub fn assign(stage: &dyn TableStage, rows: &[Row], chunk: usize) -> Vec<Assignment> {
    let marks: Vec<_> = rows.chunks(chunk).map(|rows| stage.mark(rows).unwrap()).collect();
    let verdicts = stage.decide(&marks);
    assert_eq!(verdicts.len(), marks.len());
    rows.chunks(chunk).zip(&verdicts).flat_map(|(rows, verdicts)| stage.assign(rows, verdicts).unwrap()).collect()
}

/// A sink that takes everything and is never cancelled.
pub struct Quiet;

impl pipe_engine::step::Sink for Quiet {
    fn progress(&self, _done: u64, _total: u64, _note: &str) {}
    fn log(&self, _level: pipe_engine::step::Level, _message: &str) {}
    fn measure(&self, _name: &str, _value: f64) {}
    fn checkpoint(&self, _at: u64, _dir: &Path) -> Result<(), pipe_engine::problem::Failure> {
        Ok(())
    }
    fn cancelled(&self) -> bool {
        false
    }
}

/// A sink that keeps the warnings it is told.
#[derive(Default)]
pub struct Told(std::sync::Mutex<Vec<String>>);

impl Told {
    /// The warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl pipe_engine::step::Sink for Told {
    fn progress(&self, _done: u64, _total: u64, _note: &str) {}
    fn log(&self, level: pipe_engine::step::Level, message: &str) {
        if level == pipe_engine::step::Level::Warning {
            self.0.lock().unwrap().push(message.to_owned());
        }
    }
    fn measure(&self, _name: &str, _value: f64) {}
    fn checkpoint(&self, _at: u64, _dir: &Path) -> Result<(), pipe_engine::problem::Failure> {
        Ok(())
    }
    fn cancelled(&self) -> bool {
        false
    }
}

/// A row stage set up for rows with these columns, as the engine does.
pub fn row_stage(
    stage: &Stage,
    params: &Value,
    columns: &[(&str, ColumnType)],
) -> Box<dyn pipe_engine::stage::RowStage> {
    let names: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    let inputs = pipe_engine::step::Inputs::default();
    let load = pipe_engine::stage::Load {
        params,
        inputs: &inputs,
        columns: &names,
        schema: &schema(columns),
        place: pipe_engine::stage::Place::default(),
    };
    match stage.execute {
        pipe_engine::stage::Execute::Rows(setup) => setup(&load).unwrap(),
        _ => panic!("{} is no row stage", stage.name),
    }
}

/// An artifact on a port.
pub fn input(label: &str, kind: &str, data: Data) -> Input {
    let digest = Digest::of(label.as_bytes());
    Input { label: label.to_owned(), from: format!("{label}_step"), kind: kind.to_owned(), digest, data }
}

/// A dataset with these columns and rows (id, cells), in chunks of three, alive as long as the directory.
pub fn dataset(columns: &[(&str, ColumnType)], rows: Vec<(String, Vec<Cell>)>) -> (TempDir, DatasetView) {
    let dir = tempfile::tempdir().unwrap();
    let chunk = |rows: &[(String, Vec<Cell>)]| {
        let ids = Column::texts(rows.iter().map(|(id, _)| id.clone()));
        let mut files = BTreeMap::from([("id".to_owned(), blob(dir.path(), &ids.encode()))]);
        for (at, (name, column_type)) in columns.iter().enumerate() {
            let mut column = Column::empty(*column_type);
            rows.iter().for_each(|(_, cells)| column.push(cells[at].clone()).unwrap());
            files.insert((*name).to_owned(), blob(dir.path(), &column.encode()));
        }
        ChunkView { rows: rows.len() as u64, columns: files }
    };
    let chunks = rows.chunks(3).map(chunk).collect();
    let view = DatasetView { schema: schema(columns), rows: rows.len() as u64, chunks, images: HashMap::new() };
    (dir, view)
}

/// A dataset that a stage gave.
#[derive(Default)]
pub struct Given {
    /// Of an output of files: their content by name.
    pub files: BTreeMap<String, Vec<u8>>,
    pub schema: Schema,
    pub rows: Vec<pipe_engine::cell::Row>,
    pub bad: Vec<pipe_engine::source::BadRow>,
}

impl Given {
    /// The ids of its rows.
    pub fn ids(&self) -> Vec<&str> {
        self.rows.iter().map(|row| row.id.as_str()).collect()
    }

    /// Its bad rows: id, class and message of each.
    pub fn bad(&self) -> Vec<(&str, &str, &str)> {
        let all = self.bad.iter();
        all.map(|bad| (bad.id.as_str(), bad.failure.class.as_str(), bad.failure.message.as_str())).collect()
    }
}

/// Takes what a stage gives, by port.
#[derive(Default)]
pub struct Taker(std::sync::Mutex<BTreeMap<String, Given>>);

impl Taker {
    /// What was given on a port; nothing where none was.
    pub fn taken(&self, port: &str) -> Given {
        self.0.lock().unwrap().remove(port).unwrap_or_default()
    }
}

impl pipe_engine::source::Outputs for Taker {
    fn dataset(
        &self,
        port: &str,
        schema: &Schema,
        rows: &mut pipe_engine::source::RowSource<'_>,
    ) -> Result<(), pipe_engine::problem::Failure> {
        let mut given = Given { schema: schema.clone(), ..Given::default() };
        for row in rows {
            match row {
                Ok(row) => given.rows.push(row),
                Err(bad) => given.bad.push(bad),
            }
        }
        self.0.lock().unwrap().insert(port.to_owned(), given);
        Ok(())
    }

    fn files(
        &self,
        port: &str,
        files: &[pipe_engine::source::GivenFile],
        _sink: &dyn pipe_engine::step::Sink,
    ) -> Result<(), pipe_engine::problem::Failure> {
        let read = |file: &pipe_engine::source::GivenFile| {
            let bytes = std::fs::read(&file.path).unwrap();
            if file.seen.is_some_and(|seen| seen != Digest::of(&bytes)) {
                return Err(pipe_engine::dataset::changed_meanwhile(&file.path));
            }
            Ok((file.name.clone(), bytes))
        };
        let files = files.iter().map(read).collect::<Result<_, _>>()?;
        self.0.lock().unwrap().insert(port.to_owned(), Given { files, ..Given::default() });
        Ok(())
    }
}

/// A step with these parameters and inputs, whose one output is `dir`.
pub fn task(stage: &Stage, params: Value, inputs: Inputs, dir: &Path) -> StepTask {
    let outputs = stage.outputs.iter().map(|port| (port.name.to_owned(), dir.to_owned())).collect();
    StepTask {
        step: "step".to_owned(),
        stage: stage.name.to_owned(),
        key: Key::of(b"step"),
        params,
        inputs,
        outputs,
        scratch: PathBuf::new(),
        checkpoint: None,
        sources: Vec::new(),
        log: None,
        lineage: Vec::new(),
        device: "cpu".to_owned(),
        threads: 1,
    }
}
