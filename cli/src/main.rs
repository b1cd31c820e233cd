//! The `pipe` command: arguments in, events and tables out. Links no libtorch.

mod args;
mod changes;
mod commands;
mod complete;
mod error;
mod exit;
mod formats;
mod interrupt;
mod metrics;
mod report;
mod session;
mod shown;
mod text;
mod values;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use error::CliError;
use pipe_stages::program::guard::guard_with;

fn main() -> ExitCode {
    keep_freed_memory();
    if let Some(code) = commands::guard::asked() {
        return ExitCode::from(code);
    }
    complete::answer();
    let cli = Cli::parse();
    if matches!(cli.command, Command::Verify(_) | Command::Export(_)) {
        interrupt::in_order();
    }
    // This very file, also where it has been replaced meanwhile.
    guard_with("/proc/self/exe".into(), commands::guard::WORD);
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
    };
    let code = result.unwrap_or_else(|error| complain(&error, cli.json));
    ExitCode::from(if code == exit::DONE && text::is_lost() { exit::FAILED } else { code })
}

/// A command of milliseconds is not to spend a fifth of them on giving memory back and taking it again.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "a setting of the allocator")]
fn keep_freed_memory() {
    const TAKEN_AT_ONCE: libc::c_int = 64 << 20;
    // SAFETY: sets a number; the only thread so far does it.
    unsafe { libc::mallopt(libc::M_TOP_PAD, TAKEN_AT_ONCE) };
}

#[cfg(not(target_env = "gnu"))]
fn keep_freed_memory() {}

fn complain(error: &CliError, json: bool) -> u8 {
    if json {
        text::out(&error.json().to_string());
    } else {
        text::err(&error.render());
    }
    error.code()
}
