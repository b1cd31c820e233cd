//! The `pipe` command: arguments in, events and tables out. Links no libtorch.

mod args;
mod changes;
mod commands;
mod error;
mod exit;
mod formats;
mod metrics;
mod report;
mod session;
mod shown;
mod text;

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::Parser;

use args::{Cli, Command};
use error::CliError;
use pipe_stages::program::guard::guard_with;

/// Thousands of steps are hundreds of thousands of small pieces: a fifth of a run with nothing to do went into the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Run(_) | Command::Verify(_) | Command::Export(_)) {
        interruptible();
    }
    // This very file, also where it has been replaced meanwhile.
    guard_with("/proc/self/exe".into(), "guard");
    let result = match &cli.command {
        Command::Run(args) => commands::run::run(args, cli.json),
        Command::Plan(args) => commands::plan::plan(args, cli.json),
        Command::Check(args) => commands::check::check(args, cli.json),
        Command::Stages { name } => commands::stages::stages(name.as_deref(), cli.json),
        Command::Show(args) => commands::show::show(args, cli.json),
        Command::Log(args) => commands::log::log(args, cli.json),
        Command::Explain(args) => commands::explain::explain(args, cli.json),
        Command::Diff(args) => commands::diff::diff(args, cli.json),
        Command::Graph(args) => commands::graph::graph(args, cli.json),
        Command::New(args) => commands::new::new(args, cli.json),
        Command::Schema => commands::schema::schema(cli.json),
        Command::Completions { shell } => commands::completions::completions(*shell),
        Command::Gc(args) => commands::gc::gc(args, cli.json),
        Command::Du(args) => commands::du::du(args, cli.json),
        Command::Verify(args) => commands::verify::verify(args, cli.json),
        Command::Export(args) => commands::export::export(args, cli.json),
        Command::Guard { name } => commands::guard::guard(name),
    };
    let code = result.unwrap_or_else(|error| complain(&error, cli.json));
    ExitCode::from(if code == exit::DONE && text::is_lost() { exit::FAILED } else { code })
}

/// The first interruption ends the command in order, the second at once. Other commands only look, and end at once.
fn interruptible() {
    let handler = || {
        if session::CANCEL.swap(true, Ordering::Relaxed) {
            report::terminal::restore();
            std::process::exit(exit::INTERRUPTED.into());
        }
    };
    // Without a handler an interruption ends the program at once, which the store survives.
    let _ = ctrlc::set_handler(handler);
}

fn complain(error: &CliError, json: bool) -> u8 {
    if json {
        text::out(&error.json().to_string());
    } else {
        text::err(&error.render());
    }
    error.code()
}
