//! `pipe-torch`: the half of `pipe` that computes with libtorch.
//!
//! `pipe` starts it when a step first needs tensors and speaks with it over its standard input and output (`pipe-engine`'s
//! `worker::frame`); it ends when its input does. Knows how the torch stages execute ([`stages`]); knows neither the
//! graph nor the store.

mod caption;
mod failure;
mod fit;
mod generate;
mod inputs;
mod lora_train;
mod memory;
mod models;
mod stages;

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use pipe_engine::worker::serve::serve;
use pipe_models::{AdapterSource, CausalLm, LoadOptions, ModelFiles};

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (libtorch ", env!("LIBTORCH_VERSION"), ")");

/// The half of `pipe` that computes with libtorch. Without a command it serves `pipe`, which starts it when a step needs it.
#[derive(Parser)]
#[command(name = "pipe-torch", version = VERSION, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Compute a language model's logits from file to file, to hold them against another implementation.
    Forward {
        /// A directory in the layout of Hugging Face.
        model: PathBuf,
        /// An adapter directory in the layout of PEFT.
        #[arg(long, value_name = "DIR")]
        adapter: Option<PathBuf>,
        /// A safetensors file with `input_ids` and, if rows are padded, `attention_mask` (64-bit integers, [rows, length]).
        #[arg(long, value_name = "FILE")]
        input: PathBuf,
        /// The safetensors file to write: `logits`, 32-bit floats, [rows, length, vocabulary].
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
}

/// Set when there is nothing left to do.
static IDLE: AtomicBool = AtomicBool::new(false);

/// How long a worker whose input has ended may take to notice that it is idle.
const GRACE: Duration = Duration::from_millis(200);

/// How long one that noticed may take to end.
const LAST_GRACE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Some(Command::Forward { model, adapter, input, output }) => {
            forward(&model, adapter.as_deref(), &input, &output).map_err(|error| error.to_string())
        }
        None if io::stdin().is_terminal() => Arguments::command().print_help().map_err(|error| error.to_string()),
        None => work().map_err(|error| error.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nowhere to complain to is no reason to fail otherwise.
            let _ = writeln!(io::stderr(), "pipe-torch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn forward(model: &Path, adapter: Option<&Path>, input: &Path, output: &Path) -> pipe_models::Result<()> {
    let adapter = adapter.map(ModelFiles::from_dir).transpose()?;
    let source = adapter.as_ref().map_or(AdapterSource::None, AdapterSource::Files);
    let options = LoadOptions { adapter: source, ..LoadOptions::cpu() };
    pipe_models::forward(&CausalLm::load(&ModelFiles::from_dir(model)?, &options)?, input, output)
}

fn work() -> io::Result<()> {
    reproducible_products();
    let served = serve(&mut stages::Worker::default(), io::stdin(), BufWriter::new(take_stdout()?), end);
    IDLE.store(true, Ordering::Release);
    served
}

/// Takes standard output for the frames and sends whatever else is printed, by libtorch for one, to standard error.
fn take_stdout() -> io::Result<File> {
    let wire = io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(File::from(wire))
}

/// Ends the process, whatever it is computing. An idle one ends by itself; one that computes is killed, because the
/// destructors of libtorch must not run beside its threads.
fn end() {
    std::thread::sleep(GRACE);
    if IDLE.load(Ordering::Acquire) {
        std::thread::sleep(LAST_GRACE);
    }
    if rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).is_err() {
        std::process::abort();
    }
}

/// With deterministic algorithms, CUDA's matrix products insist on a fixed workspace, which only the environment can ask for.
#[expect(unsafe_code, reason = "the environment is written before any other thread exists to read it")]
fn reproducible_products() {
    const WORKSPACE: &str = "CUBLAS_WORKSPACE_CONFIG";
    if std::env::var_os(WORKSPACE).is_none() {
        // Safety: called first thing from `main`, in a process of one thread.
        unsafe { std::env::set_var(WORKSPACE, ":4096:8") };
    }
}
