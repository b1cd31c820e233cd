//! A running worker, and the inputs to hand it.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use pipe_engine::cell::{Cell, ColumnType, Row, Schema};
use pipe_engine::column::Column;
use pipe_engine::problem::Failure;
use pipe_engine::stage::Outcome;
use pipe_engine::step::{ChunkView, Data, DatasetView, FileSet, Input, Inputs, StepTask};
use pipe_engine::worker::frame::{self, LoadRows, PROTOCOL, Reply, Request};
use pipe_engine::{Blob, Digest, Key};
use serde_json::Value;

/// A running worker.
pub struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts the program as `pipe` does; says nothing yet.
    pub fn spawn() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pipe-torch"))
            .env_remove("LD_LIBRARY_PATH")
            // Threads that wait give way: on a busy machine they would keep those from running that they wait for.
            .env("OMP_WAIT_POLICY", "passive")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdin, stdout }
    }

    /// Starts the program and takes up the processor.
    pub fn ready() -> Self {
        let mut worker = Self::spawn();
        worker.hello("cpu").unwrap();
        worker
    }

    pub fn hello(&mut self, device: &str) -> Result<BTreeMap<String, String>, Failure> {
        self.send(&Request::Hello { protocol: PROTOCOL, device: device.to_owned(), threads: 2 });
        self.until_ready(|reply| panic!("{reply:?}"))
    }

    pub fn load(&mut self, load: &LoadRows) -> Result<(), Failure> {
        self.send(&Request::Load(load.clone()));
        self.until_ready(|reply| panic!("{reply:?}")).map(drop)
    }

    /// The outcomes in order of rows; each must come exactly once.
    pub fn rows(&mut self, rows: &[Row]) -> Result<Vec<Outcome>, Failure> {
        let mut found: Vec<Option<Outcome>> = vec![None; rows.len()];
        self.send(&Request::Rows { rows: rows.to_vec() });
        self.until_ready(|reply| match reply {
            Reply::Outcomes { outcomes } => {
                for (place, outcome) in outcomes {
                    assert!(found[place].replace(outcome).is_none(), "row {place} came twice");
                }
            }
            reply => panic!("{reply:?}"),
        })?;
        Ok(found.into_iter().map(|outcome| outcome.expect("a row never came")).collect())
    }

    /// Runs a step; `checkpoint` is told of each checkpoint before it is confirmed.
    pub fn step(&mut self, task: &StepTask, mut checkpoint: impl FnMut(u64, &Path)) -> Result<Vec<Reply>, Failure> {
        let mut replies = vec![];
        self.send(&Request::Step(Box::new(task.clone())));
        loop {
            match self.receive().expect("the worker ended") {
                Reply::Ready { .. } => return Ok(replies),
                Reply::Failed { failure } => return Err(failure),
                Reply::Checkpoint { at, dir } => {
                    checkpoint(at, &dir);
                    self.send(&Request::Checkpointed { failure: None });
                }
                reply => replies.push(reply),
            }
        }
    }

    pub fn send(&mut self, request: &Request) {
        frame::write(self.stdin.as_mut().unwrap(), request).unwrap();
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub fn receive(&mut self) -> Option<Reply> {
        frame::read(&mut self.stdout).unwrap()
    }

    pub fn until_ready(&mut self, mut each: impl FnMut(Reply)) -> Result<BTreeMap<String, String>, Failure> {
        loop {
            match self.receive().expect("the worker ended") {
                Reply::Ready { facts } => return Ok(facts),
                Reply::Failed { failure } => return Err(failure),
                reply => each(reply),
            }
        }
    }

    /// Closes its input; gives how it ended and what it had to say, or panics if it lives on.
    pub fn end(&mut self) -> (ExitStatus, String) {
        self.stdin = None;
        self.ended()
    }

    /// How it ended and what it had to say; panics if it lives on. It takes 0.2 s where the machine is not busy.
    pub fn ended(&mut self) -> (ExitStatus, String) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let mut said = String::new();
                self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
                return (status, said);
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "the worker lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Gone already, where the test saw it end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file or directory that the repository ships.
pub fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines").join(name)
}

/// The first rows of a file of text pairs.
pub fn pairs(count: usize) -> Vec<Value> {
    let text = std::fs::read_to_string(shipped("data/descriptions.jsonl")).unwrap();
    text.lines().take(count).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A file, as it would lie in the store.
pub fn blob(path: &Path) -> Blob {
    let bytes = std::fs::read(path).unwrap();
    Blob { digest: Digest::of(&bytes), path: path.into(), offset: 0, len: bytes.len() as u64 }
}

/// The files below a directory.
pub fn files(dir: &Path) -> FileSet {
    let mut set = FileSet::default();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            set.0.extend(files(&path).0.into_iter().map(|(inner, blob)| (format!("{name}/{inner}"), blob)));
        } else {
            set.0.insert(name, blob(&path));
        }
    }
    set
}

/// A shipped model.
pub fn model(name: &str) -> Data {
    Data::Files(files(&shipped("models").join(name)))
}

/// What `pipe` hands over, by port.
pub fn inputs<const N: usize>(data: [(&str, Data); N]) -> Inputs {
    let input = |data| Input {
        label: "step".to_owned(),
        from: "step".to_owned(),
        kind: "any/1".to_owned(),
        digest: Digest::of(b"artifact"),
        data,
    };
    data.into_iter().map(|(port, data)| (port.to_owned(), vec![input(data)])).collect()
}

/// Row stage `stage` on rows with these columns.
pub fn load_rows(stage: &str, params: Value, inputs: Inputs, columns: &[(&str, ColumnType)]) -> LoadRows {
    LoadRows {
        step: "step".to_owned(),
        stage: stage.to_owned(),
        params,
        inputs,
        columns: columns.iter().map(|(name, _)| (*name).to_owned()).collect(),
        schema: schema(columns),
    }
}

pub fn schema(columns: &[(&str, ColumnType)]) -> Schema {
    Schema(columns.iter().map(|(name, column_type)| ((*name).to_owned(), *column_type)).collect())
}

/// A dataset of one chunk in `dir`.
pub fn dataset(dir: &Path, columns: &[(&str, ColumnType)], rows: &[Row]) -> Data {
    std::fs::create_dir_all(dir).unwrap();
    let mut blobs = BTreeMap::new();
    let mut store = |name: &str, column: &Column| {
        let path = dir.join(name);
        std::fs::write(&path, column.encode()).unwrap();
        blobs.insert(name.to_owned(), blob(&path));
    };
    store("id", &Column::texts(rows.iter().map(|row| row.id.clone())));
    for (at, (name, column_type)) in columns.iter().enumerate() {
        let mut column = Column::empty(*column_type);
        rows.iter().for_each(|row| column.push(row.cells[at].clone()).unwrap());
        store(name, &column);
    }
    let rows = rows.len() as u64;
    Data::Dataset(DatasetView {
        schema: schema(columns),
        rows,
        chunks: vec![ChunkView { rows, columns: blobs }],
        ..DatasetView::default()
    })
}

/// Step stage `stage` in `dir`, with an empty directory per output.
pub fn task(dir: &Path, stage: &str, params: Value, inputs: Inputs, outputs: &[&str]) -> StepTask {
    let create = |name: &str| {
        let path = dir.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    StepTask {
        step: "step".to_owned(),
        stage: stage.to_owned(),
        key: Key::of(b"step"),
        params,
        inputs,
        outputs: outputs.iter().map(|port| ((*port).to_owned(), create(port))).collect(),
        scratch: create("scratch"),
        checkpoint: None,
        sources: vec![],
        log: None,
        lineage: vec![],
        device: "cpu".to_owned(),
        threads: 2,
    }
}

/// A row with one text.
pub fn text_row(id: &str, text: &str) -> Row {
    Row { id: id.to_owned(), cells: vec![Cell::Text(text.to_owned())] }
}

/// The text an outcome keeps.
pub fn text(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Keep(cells) => cells[0].as_text().unwrap(),
        outcome => panic!("{outcome:?}"),
    }
}

/// The class of failure of an outcome.
pub fn class(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Fail(failure) => &failure.class,
        outcome => panic!("{outcome:?}"),
    }
}

/// Every file below a directory, with its bytes.
pub fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    files(dir).0.into_iter().map(|(name, blob)| (name, std::fs::read(&blob.path).unwrap())).collect()
}
