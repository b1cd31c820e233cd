//! `pipe guard`, which `pipe` starts for itself: ends the programs of a `pipe` that was killed.

use pipe_engine::problem::Failure;
use pipe_stages::program::guard;

use crate::error::CliError;
use crate::exit;

/// Waits for the end of the process of that name, then ends its programs.
pub fn guard(name: &str) -> Result<u8, CliError> {
    guard::watch(name).map_err(|error| Failure::transient(format!("cannot look for programs: {error}")))?;
    Ok(exit::DONE)
}
