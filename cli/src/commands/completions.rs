//! `pipe completions`: what a shell needs to complete commands, flags and files.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::error::CliError;
use crate::{exit, text};

/// Prints the completions for a shell.
pub fn completions(shell: Shell) -> Result<u8, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pipe", &mut script);
    text::out(String::from_utf8_lossy(&script).trim_end());
    Ok(exit::DONE)
}
