//! `command`: runs any program on exported inputs, and takes its outputs in.
//!
//! The program runs in a directory that holds nothing but the files it is declared to depend on, so that none of them can stay out of the
//! key. Inputs lie as files below `{in}`, outputs are expected below `{out}`. Knows nothing of what the program does.

mod exchange;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pipe_engine::cell::{ColumnType, Schema};
use pipe_engine::problem::{Failure, Problem, nearest};
use pipe_engine::spec::{NAMES_ARE, is_name};
use pipe_engine::stage::{
    Contract, Declare, Execute, Port, Resolution, ResolveContext, Resources, Stage, params_schema,
};
use pipe_engine::step::StepContext;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kinds;
use crate::program::{self, arguments, files, passed};

/// The row of the stage table.
pub const STAGE: Stage = Stage {
    name: "command",
    version: 1,
    about: "runs any program on exported inputs, and takes its outputs in",
    inputs: &[Port::one("*", &["*"], "what the program reads, under names of your choosing").many().optional()],
    outputs: &[],
    params: params_schema::<Params>,
    resources: Resources::ONE_CORE,
    resolve: Some(resolve),
    declare,
    execute: Execute::Step(execute),
};

/// The parameters of `command`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The program and its arguments: `["python3", "score.py", "{in}/rows", "{out}/scores"]`. Arguments that are files beside the
    /// pipeline are part of the key. Numbers and truths stand for their text.
    #[serde(deserialize_with = "arguments::read")]
    #[schemars(schema_with = "arguments::schema")]
    run: Vec<String>,
    /// What it leaves below `{out}`, by name: `{ scores = "metrics" }`.
    #[schemars(length(min = 1))]
    outputs: BTreeMap<String, OutputKind>,
    /// The columns of its datasets: `{ NAME = { caption = "text" } }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    columns: BTreeMap<String, BTreeMap<String, ColumnType>>,
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
}

/// What a program leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    /// `rows.jsonl` with an `id` and the declared columns; images as relative paths.
    Dataset,
    /// Any files.
    Files,
    /// A model in the layout of Hugging Face.
    Model,
    /// A LoRA adapter in the layout of PEFT.
    Adapter,
    /// `metrics.json`.
    Metrics,
}

impl OutputKind {
    fn kind(self) -> &'static str {
        match self {
            Self::Dataset => kinds::DATASET,
            Self::Files => kinds::FILES,
            Self::Model => kinds::MODEL,
            Self::Adapter => kinds::ADAPTER,
            Self::Metrics => kinds::METRICS,
        }
    }
}

fn resolve(context: &ResolveContext<'_>) -> Result<Resolution, Problem> {
    let params: Params = context.params()?;
    files::resolve(&params.run, &params.files, context)
}

fn declare(step: &Declare<'_>) -> Result<Contract, Problem> {
    let params: Params = step.params()?;
    if let Some(name) = params.outputs.keys().find(|name| !is_name(name)) {
        let problem = Problem::param(format!("outputs.{name}"), format!("{name:?} cannot name an output"));
        return Err(problem.help(NAMES_ARE));
    }
    for (name, columns) in &params.columns {
        check_columns(name, columns, &params)?;
    }
    let inputs: Vec<&str> = step.inputs.keys().map(String::as_str).collect();
    let outputs: Vec<&str> = params.outputs.keys().map(String::as_str).collect();
    for argument in &params.run {
        check_mentions(argument, "{in}", &inputs)?;
        check_mentions(argument, "{out}", &outputs)?;
    }
    passed::check(&params.envvars, params.env.keys())?;
    let mut contract = Contract { credentials: params.envvars.clone(), ..Contract::default() };
    for (name, output) in &params.outputs {
        contract = match output {
            OutputKind::Dataset => contract.gives_dataset(name, columns(&params, name)),
            other => contract.gives(name, other.kind()),
        };
    }
    Ok(contract)
}

fn columns(params: &Params, output: &str) -> Schema {
    Schema(params.columns.get(output).cloned().unwrap_or_default())
}

fn check_columns(name: &str, columns: &BTreeMap<String, ColumnType>, params: &Params) -> Result<(), Problem> {
    let at = format!("columns.{name}");
    match params.outputs.get(name) {
        None => {
            let problem = Problem::param(at, format!("there is no output `{name}`"));
            let near = nearest(name, params.outputs.keys().map(String::as_str));
            Err(match near {
                Some(near) => problem.help(format!("did you mean `{near}`?")),
                None => problem,
            })
        }
        Some(OutputKind::Dataset) if columns.contains_key("id") => {
            Err(Problem::param(format!("{at}.id"), "every dataset has an `id`; it is not declared"))
        }
        Some(OutputKind::Dataset) => Ok(()),
        Some(other) => Err(Problem::param(at, format!("`{name}` is a {}, which has no columns", other.kind()))),
    }
}

/// Checks that an argument which leads below `{in}` or `{out}` names a port there.
fn check_mentions(argument: &str, root: &str, ports: &[&str]) -> Result<(), Problem> {
    for (at, _) in argument.match_indices(root) {
        let Some(rest) = argument[at + root.len()..].strip_prefix('/') else { continue };
        let name = rest.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).next().unwrap_or_default();
        if !name.is_empty() && !ports.contains(&name) {
            let help = match nearest(name, ports.iter().copied()) {
                Some(near) => format!("did you mean `{root}/{near}`?"),
                None => format!("there are: {}", ports.join(", ")),
            };
            let what = if root == "{in}" { "input" } else { "output" };
            return Err(Problem::param("run", format!("`{argument}`: there is no {what} `{name}`")).help(help));
        }
    }
    Ok(())
}

/// The directories of a run.
struct Places {
    /// What the program reads.
    input: PathBuf,
    /// What it leaves.
    output: PathBuf,
    /// Where it runs, among its own files.
    work: PathBuf,
    /// Where it may put what is not kept.
    temporary: PathBuf,
}

impl Places {
    fn make(scratch: &Path, outputs: impl Iterator<Item = impl AsRef<Path>>) -> Result<Self, Failure> {
        let places = Self {
            input: scratch.join("in"),
            output: scratch.join("out"),
            work: scratch.join("work"),
            temporary: scratch.join("tmp"),
        };
        let below = outputs.map(|name| places.output.join(name));
        let all = [&places.input, &places.output, &places.work, &places.temporary];
        for dir in all.into_iter().cloned().chain(below) {
            fs::create_dir_all(&dir).map_err(|error| Failure::io("create", &dir, &error))?;
        }
        Ok(places)
    }

    /// An argument with the places in it.
    fn fill(&self, argument: &str) -> String {
        argument.replace("{in}", &self.input.to_string_lossy()).replace("{out}", &self.output.to_string_lossy())
    }
}

fn execute(context: &StepContext<'_>) -> Result<(), Failure> {
    let params: Params = context.params()?;
    let places = Places::make(&context.task.scratch, params.outputs.keys())?;
    let executable = files::lay_out(&params.run, &context.task.sources, &places.work)?;
    exchange::export_inputs(context, &places.input)?;
    let arguments = params.run.iter().skip(1).map(|argument| places.fill(argument)).collect();
    let log = context.task.log.clone().unwrap_or_else(|| context.task.scratch.join("output.log"));
    let passed = passed::values(&params.envvars, context.credentials)?;
    let run = program::Run {
        executable,
        arguments,
        env: &params.env,
        passed: &passed,
        threads: context.task.threads,
        work: &places.work,
        temporary: &places.temporary,
        log: &log,
        kept: context.task.log.is_some(),
    };
    context.sink.progress(0, 0, &params.run[0]);
    run.to_end(context.sink)?;
    for (name, output) in &params.outputs {
        let dir = places.output.join(name);
        match output {
            OutputKind::Dataset => exchange::take_dataset(context, name, &columns(&params, name), &dir)?,
            other => exchange::take_files(context, name, other.kind(), &dir)?,
        }
    }
    Ok(())
}
