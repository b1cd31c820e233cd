//! `pipe completions`: what a shell needs to complete commands, flags, files, and the names that a pipeline has.

use clap_complete::Shell;
use clap_complete::env::Shells;
use pipe_engine::problem::Failure;

use crate::error::CliError;
use crate::{complete, exit, text};

/// Prints what makes a shell ask this program. The program is found on `PATH`, so that a new version answers for itself.
pub fn completions(shell: Shell) -> Result<u8, CliError> {
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let known = shells.completer(&shell.to_string());
    let known = known.ok_or_else(|| Failure::internal(format!("there are no completions for {shell}")))?;
    known
        .write_registration(complete::VARIABLE, "pipe", "pipe", "pipe", &mut script)
        .map_err(|error| Failure::internal(format!("cannot write completions: {error}")))?;
    text::out(String::from_utf8_lossy(&script).trim_end());
    Ok(exit::DONE)
}
