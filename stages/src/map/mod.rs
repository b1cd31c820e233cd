//! `map`: runs any program on every row. Programs stay alive and are given row after row, so that one that loads a model loads it
//! once; a row that was answered before is never given again.
//!
//! A row goes out and an answer comes in as a line of JSON each. Knows nothing of what the program does.

mod resident;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use pipe_engine::cell::{Cell, ColumnType, Row};
use pipe_engine::problem::{Failure, Problem};
use pipe_engine::stage::{
    Contract, DATASET, Declare, Execute, Load, Outcome, Port, Resolution, ResolveContext, Resources, RowStage, Stage,
    params_schema,
};
use pipe_engine::step::Sink;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::image_file;
use crate::program::files;
use crate::record_rows::stays_inside;
use crate::records::{self, RecordFormat};
use resident::{Program, Start};

/// The row of the stage table.
pub const STAGE: Stage = Stage {
    name: "map",
    version: 1,
    about: "runs any program on every row",
    inputs: &[Port::one("rows", &[DATASET], "the rows to give to the program")],
    outputs: &[Port::one("rows", &[DATASET], "the rows it kept, with what it wrote")],
    params: params_schema::<Params>,
    resources: Resources::CORES,
    resolve: Some(resolve),
    declare,
    execute: Execute::Rows(load),
};

/// The parameters of `map`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The program and its arguments: `["python3", "judge.py"]`. Arguments that are files beside the pipeline are part of the key.
    #[schemars(length(min = 1))]
    run: Vec<String>,
    /// The columns it is given, beside `id`.
    #[serde(default)]
    reads: Vec<String>,
    /// The columns it writes: `{ verdict = "text", score = "float" }`.
    #[serde(default)]
    writes: BTreeMap<String, ColumnType>,
    /// Variables of its environment, beside PATH, HOME and LANG. They enter the key, so no secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
    /// Further files it depends on, as paths, folders or patterns beside the pipeline: `lib`, `data/*.txt`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    files: Vec<String>,
    /// Programs that run at once; as many as cores where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024), extend("x-performance" = true))]
    programs: Option<usize>,
}

fn resolve(context: &ResolveContext<'_>) -> Result<Resolution, Problem> {
    let params: Params = context.params()?;
    files::resolve(&params.run, &params.files, context)
}

fn declare(step: &Declare<'_>) -> Result<Contract, Problem> {
    let params: Params = step.params()?;
    let schema = step.schema("rows")?;
    for column in &params.reads {
        if column != "id" && schema.get(column).is_none() {
            let subject = pipe_engine::problem::Subject::Param("reads".to_owned());
            return Err(Problem::missing_column(subject, column, &[], schema));
        }
    }
    if params.writes.contains_key("id") {
        return Err(Problem::param("writes.id", "a program cannot change the `id` of a row"));
    }
    // A program is always told the id, so its answer may depend on it.
    let reads = params.reads.iter().map(String::as_str).filter(|column| *column != "id").chain(["id"]);
    let contract = Contract::default().reads_columns("rows", reads);
    Ok(params.writes.iter().fold(contract, |contract, (column, column_type)| contract.writes(column, *column_type)))
}

fn load(load: &Load<'_>) -> Result<Box<dyn RowStage>, Failure> {
    let params: Params = load.params()?;
    let work = load.place.scratch.join("work");
    let temporary = load.place.scratch.join("tmp");
    for directory in [&work, &temporary] {
        std::fs::create_dir_all(directory).map_err(|error| Failure::io("create", directory, &error))?;
    }
    let executable = files::lay_out(&params.run, load.place.sources, &work)?;
    let limit = params.programs.unwrap_or_else(rayon::current_num_threads).max(1);
    Ok(Box::new(Mapper {
        start: Start {
            executable,
            arguments: params.run[1..].to_vec(),
            env: with_flushing(params.env),
            threads: (load.place.threads / limit).max(1),
            log: load.place.log.map_or_else(|| load.place.scratch.join("output.log"), PathBuf::from),
            work,
            temporary,
        },
        columns: load.columns.to_vec(),
        writes: params.writes,
        idle: Mutex::default(),
        free: AtomicUsize::new(limit),
    }))
}

/// A Python program would keep its answers to itself until it has some thousand bytes of them.
fn with_flushing(mut env: BTreeMap<String, String>) -> BTreeMap<String, String> {
    env.entry("PYTHONUNBUFFERED".to_owned()).or_insert_with(|| "1".to_owned());
    env
}

struct Mapper {
    start: Start,
    /// Of the rows it is given.
    columns: Vec<String>,
    writes: BTreeMap<String, ColumnType>,
    /// Programs that wait for rows.
    idle: Mutex<Vec<Program>>,
    /// Programs that may still be started.
    free: AtomicUsize,
}

impl RowStage for Mapper {
    fn run(&self, rows: &[Row], sink: &dyn Sink) -> Result<Vec<Outcome>, Failure> {
        let mut images = Vec::new();
        let lines = rows.iter().map(|row| self.line(row, &mut images)).collect::<Result<Vec<_>, _>>()?;
        let mut program = self.program(sink)?;
        let answers = program.ask(&lines, sink);
        // One that broke off is not asked again; its place may be taken by another.
        let answers = match answers {
            Ok(answers) => answers,
            Err(broken) => {
                self.free.fetch_add(1, Ordering::AcqRel);
                let row = rows.get(broken.answered).map(|row| row.id.clone());
                let failure = if sink.cancelled() { Failure::interrupted() } else { self.start.failure(&broken.why) };
                return Err(Failure { row, ..failure });
            }
        };
        self.idle().push(program);
        // What is left behind goes with the directory of the attempt.
        images.iter().for_each(|path| drop(std::fs::remove_file(path)));
        rows.iter().zip(&answers).map(|(row, answer)| self.outcome(row, answer)).collect()
    }
}

impl Mapper {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Program>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A program that waits, or a new one where another may be started.
    fn program(&self, sink: &dyn Sink) -> Result<Program, Failure> {
        loop {
            if let Some(program) = self.idle().pop() {
                return Ok(program);
            }
            if self.free.try_update(Ordering::AcqRel, Ordering::Acquire, |free| free.checked_sub(1)).is_ok() {
                return self.start.start();
            }
            if sink.cancelled() {
                return Err(Failure::interrupted());
            }
            std::thread::sleep(resident::TICK);
        }
    }

    /// The line that gives a row to a program; images lie in files of their own until it is answered.
    fn line(&self, row: &Row, images: &mut Vec<PathBuf>) -> Result<String, Failure> {
        let mut object = Map::new();
        object.insert("id".to_owned(), Value::from(row.id.as_str()));
        for (name, cell) in self.columns.iter().zip(&row.cells).filter(|(name, _)| *name != "id") {
            let value = match cell {
                Cell::Image(blob) => {
                    let path = self.image(blob)?;
                    images.push(path.clone());
                    Value::from(path.to_string_lossy())
                }
                other => records::value(other),
            };
            object.insert(name.clone(), value);
        }
        Ok(format!("{}\n", Value::Object(object)))
    }

    fn image(&self, blob: &pipe_engine::Blob) -> Result<PathBuf, Failure> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let bytes = blob.read().map_err(|error| Failure::io("read", &blob.path, &error))?;
        let extension = image_file::extensions(&bytes).first().copied().unwrap_or("image");
        let path = self.start.temporary.join(format!("{}.{extension}", COUNT.fetch_add(1, Ordering::Relaxed)));
        std::fs::write(&path, bytes).map_err(|error| Failure::io("write", &path, &error))?;
        Ok(path)
    }

    /// What an answer makes of a row: the columns written, `{"drop": reason}` or `{"fail": message}`.
    fn outcome(&self, row: &Row, answer: &str) -> Result<Outcome, Failure> {
        let wrong = |why: String| Failure {
            row: Some(row.id.clone()),
            ..Failure::input(format!("the program answered `{}`, {why}", shorten(answer)))
                .help("print one JSON object per row and nothing else: messages go to standard error")
        };
        let values: Map<String, Value> =
            serde_json::from_str(answer).map_err(|_| wrong("which is not a JSON object".to_owned()))?;
        let only = |name: &str| (values.len() == 1).then(|| values.get(name)?.as_str()).flatten();
        if let (Some(reason), false) = (only("drop"), self.writes.contains_key("drop")) {
            return Ok(Outcome::Drop(reason.to_owned()));
        }
        if let (Some(message), false) = (only("fail"), self.writes.contains_key("fail")) {
            return Ok(Outcome::fail("map: failed", message));
        }
        if let Some(stray) = values.keys().find(|name| !self.writes.contains_key(*name)) {
            return Err(wrong(format!("and `{stray}` is not among `writes`")));
        }
        let cells = self.writes.iter().map(|(name, column_type)| {
            let value = values.get(name).unwrap_or(&Value::Null);
            self.cell(value, *column_type).map_err(|why| wrong(format!("where `{name}` {why}")))
        });
        cells.collect::<Result<_, _>>().map(Outcome::Keep)
    }

    fn cell(&self, value: &Value, column_type: ColumnType) -> Result<Cell, String> {
        let (ColumnType::Image, Value::String(path)) = (column_type, value) else {
            return records::cell(value, column_type, RecordFormat::Jsonl).map_err(|why| format!("is {why}"));
        };
        let inside = |root: &PathBuf| stays_inside(path).then(|| root.join(path)).filter(|path| path.is_file());
        let below = |root: &PathBuf| Some(PathBuf::from(path)).filter(|path| path.starts_with(root) && path.is_file());
        let found =
            inside(&self.start.work).or_else(|| below(&self.start.temporary)).or_else(|| below(&self.start.work));
        let path = found.ok_or_else(|| format!("is {path}, which is no file of its own (write below $TMPDIR)"))?;
        std::fs::read(&path).map(Cell::NewImage).map_err(|error| format!("cannot be read: {error}"))
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
