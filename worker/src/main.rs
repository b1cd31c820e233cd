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
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pipe_engine::worker::serve::serve;

const VERSION: &str = concat!("pipe-torch ", env!("CARGO_PKG_VERSION"), " (libtorch ", env!("LIBTORCH_VERSION"), ")");

const ABOUT: &str = "pipe-torch is the part of pipe that computes with libtorch. `pipe` starts it when a step needs it; \
                     there is nothing to do with it by hand but `pipe-torch --version`.";

/// Wrong arguments, as in `pipe`.
const USAGE: u8 = 2;

/// Set when there is nothing left to do.
static IDLE: AtomicBool = AtomicBool::new(false);

/// How long a worker whose input has ended may take to notice that it is idle.
const GRACE: Duration = Duration::from_millis(200);

/// How long one that noticed may take to end.
const LAST_GRACE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] if io::stdin().is_terminal() => say(ABOUT),
        [] => work(),
        ["--version" | "-V"] => say(VERSION),
        _ => {
            // Nowhere to complain to is no reason to fail otherwise.
            let _ = writeln!(io::stderr(), "{ABOUT}");
            return ExitCode::from(USAGE);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "pipe-torch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
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
