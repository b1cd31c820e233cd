//! The command line.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use pipe_engine::verify::Size;

use crate::complete;
use crate::values::{device, name_value, pin, sample, size, threads};

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
    Check(CheckArgs),
    /// List the stages, or describe one.
    Stages {
        /// The stage to describe.
        name: Option<String>,
    },
    /// Show what a step did and gave, or one of its rows.
    Show(ShowArgs),
    /// List the runs of a store, or tell what one of them did.
    Log(LogArgs),
    /// Say why a step would run, or did: what changed, and what changed first.
    Explain(ExplainArgs),
    /// Compare two runs: parameters, steps, rows, metrics.
    Diff(DiffArgs),
    /// Draw a pipeline, coloured by what a run would do.
    Graph(GraphArgs),
    /// Say what of the store nothing needs, and what keeps the rest; remove it with --yes.
    Gc(GcArgs),
    /// Say what takes the room of the store, step by step, and what `gc` would free.
    Du(DuArgs),
    /// Check every byte of the store, do a sample of the work again, or try out the file system.
    Verify(VerifyArgs),
    /// Write a new pipeline, commented, with data to try it on.
    New(NewArgs),
    /// Print a JSON schema of pipeline files, for editors.
    Schema,
    /// Print what a shell needs to complete commands, flags and names of steps: `source <(pipe completions bash)`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write what a step gave into a directory, as files that people and other programs open.
    Export(ExportArgs),
}

/// A pipeline and what to change in it.
#[derive(Args, Clone)]
pub struct SpecArgs {
    /// The pipeline file.
    pub spec: PathBuf,
    /// Replace parameters by those of a profile.
    #[arg(long, value_name = "NAME", add = ArgValueCompleter::new(complete::profiles))]
    pub profile: Option<String>,
    /// Replace a parameter, as `--set size=64`; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_value, add = ArgValueCompleter::new(complete::parameters))]
    pub set: Vec<(String, String)>,
    /// The store [default: $PIPE_STORE, else .pipe beside the pipeline].
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Where steps with tensors run: cpu, cuda, cuda:N, or auto (cuda where there is a driver).
    #[arg(long, default_value = "auto", value_parser = device)]
    pub device: String,
}

impl SpecArgs {
    /// A pipeline without changes, with this store.
    pub fn plain(spec: &Path, store: &Path) -> Self {
        let (spec, store) = (spec.to_owned(), Some(store.to_owned()));
        Self { spec, profile: None, set: Vec::new(), store, device: "auto".to_owned() }
    }
}

/// Arguments of `check`.
#[derive(Args)]
pub struct CheckArgs {
    /// The first pipeline, and what to change in all of them.
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Further pipelines.
    #[arg(value_name = "SPEC")]
    pub more: Vec<PathBuf>,
}

/// Some steps of a pipeline.
#[derive(Args)]
pub struct TargetArgs {
    /// The pipeline.
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Only these steps and what they need.
    #[arg(value_name = "STEP", add = ArgValueCompleter::new(complete::steps))]
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
    /// Ask again what sources hold that the lock pins: all, or those that STEP needs; may be given several times.
    #[arg(long, value_name = "STEP", num_args = 0..=1, require_equals = true, default_missing_value = "", conflicts_with = "locked")]
    pub refresh: Option<Vec<String>>,
    /// Execute STEP although its result is there, and say whether it gives the same; may be given several times. What it gives takes
    /// the place of what was recorded.
    #[arg(long, value_name = "STEP", add = ArgValueCompleter::new(complete::steps))]
    pub force: Vec<String>,
    /// After a failure go on with the steps that do not depend on it.
    #[arg(long)]
    pub keep_going: bool,
    /// Threads to compute with, 1 to 1024 [default: all cores]. Changes the rounding of training in the last digits.
    #[arg(long, value_name = "N", value_parser = threads, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// The torch worker [default: $PIPE_TORCH, else pipe-torch beside this program].
    #[arg(long, value_name = "PROGRAM")]
    pub worker: Option<PathBuf>,
}

/// Arguments of `show`.
#[derive(Args)]
pub struct ShowArgs {
    /// The pipeline.
    #[command(flatten)]
    pub spec: SpecArgs,
    /// The step, with a port where it has several outputs: STEP or STEP.PORT. Without one: every step.
    #[arg(value_name = "STEP[.PORT]", add = ArgValueCompleter::new(complete::steps))]
    pub step: Option<String>,
    /// Show the row with this id.
    #[arg(long, value_name = "ID", requires = "step")]
    pub row: Option<String>,
    /// List the rows the step dropped or could not work on, with why.
    #[arg(long, requires = "step")]
    pub left_out: bool,
    /// Rows to show: first rows [default: 5], or with --left-out those left out [default: 20; with --json all].
    #[arg(long, value_name = "N")]
    pub rows: Option<usize>,
}

/// Arguments of `export`.
#[derive(Args)]
pub struct ExportArgs {
    /// The pipeline.
    #[command(flatten)]
    pub spec: SpecArgs,
    /// The step, with a port where it has several outputs.
    #[arg(value_name = "STEP[.PORT]", add = ArgValueCompleter::new(complete::steps))]
    pub step: String,
    /// The directory to make; one that is there must be empty.
    pub directory: PathBuf,
    /// How a dataset is written.
    #[arg(long, value_enum, default_value_t = ExportFormat::Folder)]
    pub format: ExportFormat,
}

/// How a dataset is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportFormat {
    /// rows.jsonl, and images as files below images/.
    Folder,
    /// rows.jsonl alone, images as digests.
    Jsonl,
    /// rows.parquet, images inside.
    Parquet,
    /// Tar files of samples, images beside JSON.
    Webdataset,
    /// Parquet below data/ and a README.md, as the Hugging Face Hub keeps datasets.
    Huggingface,
}

/// A store without a pipeline.
#[derive(Args)]
pub struct StoreArgs {
    /// The store [default: $PIPE_STORE, else .pipe here or in the nearest directory above].
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
}

/// Arguments of `log`.
#[derive(Args)]
pub struct LogArgs {
    /// The run: its name, the beginning of it, `last`, or `last~N` for the N-th before it. Without one: the list.
    pub run: Option<String>,
    /// The step of the run to tell everything of.
    pub step: Option<String>,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// List only runs of this pipeline, by its name.
    #[arg(long, value_name = "NAME", conflicts_with = "run")]
    pub pipeline: Option<String>,
    /// How many runs are listed.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, conflicts_with = "run")]
    pub limit: usize,
}

/// Arguments of `explain`.
#[derive(Args)]
pub struct ExplainArgs {
    /// The pipeline.
    #[command(flatten)]
    pub spec: SpecArgs,
    /// The step.
    #[arg(value_name = "STEP", add = ArgValueCompleter::new(complete::steps))]
    pub step: String,
}

/// Arguments of `diff`.
#[derive(Args)]
pub struct DiffArgs {
    /// The earlier run, as `log` names it [default: the last one of the pipeline before RUN].
    #[arg(value_name = "RUN")]
    pub before: Option<String>,
    /// The later run [default: the last one of the pipeline].
    #[arg(value_name = "RUN")]
    pub now: Option<String>,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// Arguments of `graph`.
#[derive(Args)]
pub struct GraphArgs {
    /// The pipeline.
    #[command(flatten)]
    pub spec: SpecArgs,
    /// The format [default: that of the output's name, else dot].
    #[arg(long, value_enum)]
    pub format: Option<GraphFormat>,
    /// The file to write; without it standard output.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Formats of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum GraphFormat {
    /// Graphviz.
    Dot,
    /// Mermaid, which Markdown on many sites shows.
    Mermaid,
    /// A picture that browsers show.
    Svg,
}

impl GraphFormat {
    /// The format that the name of a file asks for; `None` where it asks for one that cannot be drawn.
    pub fn of(file: Option<&Path>) -> Option<Self> {
        match file.and_then(Path::extension).and_then(|extension| extension.to_str()) {
            Some("svg") => Some(Self::Svg),
            Some("mmd" | "mermaid") => Some(Self::Mermaid),
            None | Some("dot" | "gv") => Some(Self::Dot),
            Some(_) => None,
        }
    }
}

/// Arguments of `new`.
#[derive(Args)]
pub struct NewArgs {
    /// The directory to make, whose name the pipeline gets; one that is there must be empty.
    pub name: PathBuf,
    /// What the pipeline does.
    #[arg(long, value_enum, default_value_t = Template::Text)]
    pub template: Template,
}

/// Pipelines to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Template {
    /// Captions for a folder of pictures.
    Captions,
    /// A language model fine-tuned on pairs of texts.
    Finetune,
    /// Texts cleaned and split.
    Text,
}

/// Arguments of `gc`.
#[derive(Args)]
pub struct GcArgs {
    /// Pipelines whose results stay, as they stand.
    #[arg(value_name = "SPEC")]
    pub specs: Vec<PathBuf>,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Remove what is listed; without it nothing is removed.
    #[arg(long)]
    pub yes: bool,
    /// What stays.
    #[command(flatten)]
    pub keep: KeepArgs,
    /// Keep what a run had under a name, until --unpin; removes nothing.
    #[arg(long, value_name = "NAME=RUN", value_parser = pin, conflicts_with_all = ["yes", "unpin", "specs"])]
    pub pin: Option<(String, String)>,
    /// Let go of a pin; removes nothing else.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["yes", "specs"])]
    pub unpin: Option<String>,
}

/// What a collection keeps besides what is named and pinned.
#[derive(Args)]
pub struct KeepArgs {
    /// Keep what the last N runs of each pipeline had, under each profile and --set apart.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub keep_runs: usize,
    /// Keep what runs of the last DAYS days had.
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    pub keep_days: u32,
    /// Keep what nothing needs, too, up to this size in all; what was not used for longest goes first.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_size: Option<u64>,
    /// Keep what was used in the last MINUTES minutes.
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    pub grace: u32,
}

/// Arguments of `du`.
#[derive(Args)]
pub struct DuArgs {
    /// Pipelines whose results a collection would keep, as they stand.
    #[arg(value_name = "SPEC")]
    pub specs: Vec<PathBuf>,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// What a collection would keep.
    #[command(flatten)]
    pub keep: KeepArgs,
}

/// Arguments of `verify`.
#[derive(Args)]
pub struct VerifyArgs {
    /// The pipeline whose store is checked, and of which a sample is done again.
    pub spec: Option<PathBuf>,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// Set aside what is damaged, so that it is made again when it is needed.
    #[arg(long)]
    pub repair: bool,
    /// Do this share (1%) or this many (100) of the recorded rows of SPEC again, and of its other steps, and compare.
    #[arg(long, value_name = "N|N%", value_parser = sample, requires = "spec", conflicts_with = "repair")]
    pub sample: Option<Size>,
    /// What decides which ones are drawn.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "sample")]
    pub seed: u64,
    /// Replace parameters by those of a profile.
    #[arg(long, value_name = "NAME", requires = "sample")]
    pub profile: Option<String>,
    /// Replace a parameter, as `--set size=64`; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_value, requires = "sample")]
    pub set: Vec<(String, String)>,
    /// Where steps with tensors run: cpu, cuda, cuda:N, or auto (cuda where there is a driver).
    #[arg(long, default_value = "auto", value_parser = device)]
    pub device: String,
    /// The torch worker [default: $PIPE_TORCH, else pipe-torch beside this program].
    #[arg(long, value_name = "PROGRAM")]
    pub worker: Option<PathBuf>,
    /// Try out what the file system of the store can do, and say what is safe there.
    #[arg(long, conflicts_with_all = ["repair", "sample"])]
    pub store_probe: bool,
}
