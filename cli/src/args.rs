//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Declarative pipelines for datasets and fine-tuned models: does only the work that is not already done.
#[derive(Parser)]
#[command(name = "pipe", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Print JSON instead of text: one object, or one per line while a run goes.
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Run a pipeline: execute the steps whose results are not there.
    Run(RunArgs),
    /// Say what a run would do, why, and how many rows it would execute.
    Plan(TargetArgs),
    /// Check a pipeline: names, kinds, columns, parameters, sources.
    Check(SpecArgs),
    /// List the stages, or describe one.
    Stages {
        /// The stage to describe.
        name: Option<String>,
    },
    /// Show what a step did and gave, or one of its rows.
    Show(ShowArgs),
    /// Write what a step gave into a directory, as files that people and other programs open.
    Export(ExportArgs),
}

/// A pipeline and what to change in it.
#[derive(Args)]
pub struct SpecArgs {
    /// The pipeline file.
    pub spec: PathBuf,
    /// Replace parameters by those of a profile.
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Replace a parameter.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_value)]
    pub set: Vec<(String, String)>,
    /// The store [default: .pipe beside the pipeline].
    #[arg(long, value_name = "DIR", env = "PIPE_STORE")]
    pub store: Option<PathBuf>,
    /// Where steps with tensors run: cpu, cuda, cuda:N, or auto (cuda where there is a driver).
    #[arg(long, default_value = "auto", value_parser = device)]
    pub device: String,
}

/// Some steps of a pipeline.
#[derive(Args)]
pub struct TargetArgs {
    /// The pipeline.
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Only these steps and what they need.
    #[arg(value_name = "STEP")]
    pub steps: Vec<String>,
}

/// Arguments of `run`.
#[derive(Args)]
pub struct RunArgs {
    /// What to run.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Fail if anything differs from the lock beside the pipeline: a source, a key, a result.
    #[arg(long)]
    pub locked: bool,
    /// After a failure go on with the steps that do not depend on it.
    #[arg(long)]
    pub keep_going: bool,
    /// Threads to compute with [default: all cores]. Changes the rounding of training in the last digits.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// The torch worker [default: pipe-torch beside this program].
    #[arg(long, value_name = "PROGRAM", env = "PIPE_TORCH")]
    pub worker: Option<PathBuf>,
}

/// Arguments of `show`.
#[derive(Args)]
pub struct ShowArgs {
    /// The pipeline.
    #[command(flatten)]
    pub spec: SpecArgs,
    /// The step, with a port where it has several outputs: STEP or STEP.PORT. Without one: every step.
    #[arg(value_name = "STEP[.PORT]")]
    pub step: Option<String>,
    /// Show the row with this id.
    #[arg(long, value_name = "ID", requires = "step")]
    pub row: Option<String>,
    /// List the rows the step dropped or could not work on, with why.
    #[arg(long, requires = "step")]
    pub left_out: bool,
    /// Rows to show.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub rows: usize,
}

/// Arguments of `export`.
#[derive(Args)]
pub struct ExportArgs {
    /// The pipeline.
    #[command(flatten)]
    pub spec: SpecArgs,
    /// The step, with a port where it has several outputs.
    #[arg(value_name = "STEP[.PORT]")]
    pub step: String,
    /// The directory to make; it must not exist or be empty.
    pub directory: PathBuf,
}

fn name_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

fn device(text: &str) -> Result<String, String> {
    let numbered = text.strip_prefix("cuda:").is_some_and(|n| n.parse::<u8>().is_ok());
    if numbered || ["auto", "cpu", "cuda"].contains(&text) {
        return Ok(text.to_owned());
    }
    Err("expected auto, cpu, cuda or cuda:N".to_owned())
}
