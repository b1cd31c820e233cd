//! `map`: runs any program on every row. Programs stay alive and are given row after row, so that one that loads a model loads it
//! once; a row that was answered before is never given again.
//!
//! A row goes out and an answer comes in as a line of JSON each. Knows nothing of what the program does.

mod answer;
mod resident;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use pipe_engine::Blob;
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
use crate::program::{arguments, files, passed};
use crate::records;
use answer::Answer;
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
    /// Numbers and truths stand for their text.
    #[serde(deserialize_with = "arguments::read")]
    #[schemars(schema_with = "arguments::schema")]
    run: Vec<String>,
    /// The columns it is given, beside `id`.
    #[serde(default)]
    reads: Vec<String>,
    /// The columns it writes: `{ verdict = "text", score = "float" }`.
    #[serde(default)]
    writes: BTreeMap<String, ColumnType>,
    /// Variables of its environment, beside those that every program is given. They enter the key, so no secrets: see `envvars`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
    /// Variables passed on from the environment of `pipe`, such as keys of services: `["OPENAI_API_KEY"]`. Their names enter the key, their
    /// values never.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$")))]
    envvars: Vec<String>,
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
    passed::check(&params.envvars, params.env.keys())?;
    let contract = Contract { credentials: params.envvars, ..Contract::default() }.reads_columns("rows", reads);
    Ok(params.writes.iter().fold(contract, |contract, (column, column_type)| contract.writes(column, *column_type)))
}

fn load(load: &Load<'_>) -> Result<Box<dyn RowStage>, Failure> {
    let params: Params = load.params()?;
    let work = load.place.scratch.join("work");
    std::fs::create_dir_all(&work).map_err(|error| Failure::io("create", &work, &error))?;
    let executable = files::lay_out(&params.run, load.place.sources, &work)?;
    let limit = params.programs.unwrap_or_else(rayon::current_num_threads).max(1);
    Ok(Box::new(Mapper {
        start: Start {
            executable,
            arguments: params.run[1..].to_vec(),
            env: with_flushing(params.env),
            passed: passed::values(&params.envvars, load.place.credentials)?,
            threads: (load.place.threads / limit).max(1),
            log: load.place.log.map_or_else(|| load.place.scratch.join("output.log"), PathBuf::from),
            work,
            folders: load.place.scratch.join("programs"),
            started: AtomicUsize::new(0),
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
        let mut program = self.program(sink)?;
        let mut outcomes = Vec::with_capacity(rows.len());
        for rows in rows.chunks(self.at_once()) {
            match self.ask(&mut program, rows, sink) {
                Ok(more) => outcomes.extend(more),
                // One that broke off is not asked again; its place may be taken by another.
                Err(failure) => {
                    self.free.fetch_add(1, Ordering::AcqRel);
                    return Err(failure);
                }
            }
        }
        self.idle().push(program);
        Ok(outcomes)
    }

    fn finish(&self, sink: &dyn Sink) -> Result<(), Failure> {
        let mut programs = std::mem::take(&mut *self.idle());
        programs.iter_mut().for_each(Program::give_no_more);
        programs.into_iter().try_for_each(|program| program.end(sink).map_err(|wrong| self.start.failure(&wrong)))
    }
}

/// More rows than are ever given at once.
const ALL: usize = usize::MAX;

impl Mapper {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Program>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rows that a program is given before it has answered the first. One that writes images is given the next when the image of the last
    /// is taken over: it may write each under the same name.
    fn at_once(&self) -> usize {
        if self.writes.values().any(|column_type| *column_type == ColumnType::Image) { 1 } else { ALL }
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

    /// Gives rows to a program; what its answers make of them.
    fn ask(&self, program: &mut Program, rows: &[Row], sink: &dyn Sink) -> Result<Vec<Outcome>, Failure> {
        let mut images = Vec::new();
        let lines = rows.iter().map(|row| self.line(row, &program.folders.given, &mut images));
        let lines = lines.collect::<Result<Vec<_>, _>>()?;
        let answers = program.ask(&lines, sink).map_err(|broken| {
            program.settle();
            let row = rows.get(broken.answered).map(|row| row.id.clone());
            let failure = if sink.cancelled() { Failure::interrupted() } else { self.start.failure(&broken.wrong) };
            Failure { row, ..failure }
        })?;
        let outcomes = rows.iter().zip(&answers);
        let outcomes = outcomes.map(|(row, answer)| {
            Answer { row, text: answer, folders: &program.folders, passed: &self.start.passed }.outcome(&self.writes)
        });
        let outcomes = outcomes.collect::<Result<_, _>>()?;
        // What is left behind goes with the directory of the attempt.
        images.iter().for_each(|path| drop(std::fs::remove_file(path)));
        Ok(outcomes)
    }

    /// The line that gives a row to a program; images lie in files of their own until it is answered.
    fn line(&self, row: &Row, folder: &Path, images: &mut Vec<PathBuf>) -> Result<String, Failure> {
        let mut object = Map::new();
        object.insert("id".to_owned(), Value::from(row.id.as_str()));
        for (name, cell) in self.columns.iter().zip(&row.cells).filter(|(name, _)| *name != "id") {
            let value = match cell {
                Cell::Image(blob) => {
                    let path = image_file(blob, folder)?;
                    images.push(path.clone());
                    Value::from(path.to_string_lossy())
                }
                other => records::value(other),
            };
            object.insert(name.clone(), value);
        }
        Ok(format!("{}\n", Value::Object(object)))
    }
}

/// Writes an image to a file whose name no other had: programs may keep what they know of a file by its name.
fn image_file(blob: &Blob, folder: &Path) -> Result<PathBuf, Failure> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let bytes = blob.read().map_err(|error| Failure::io("read", &blob.path, &error))?;
    let extension = image_file::extensions(&bytes).first().copied().unwrap_or("image");
    let path = folder.join(format!("{}.{extension}", COUNT.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(&path, bytes).map_err(|error| Failure::io("write", &path, &error))?;
    Ok(path)
}
