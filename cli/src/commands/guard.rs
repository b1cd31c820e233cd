//! `pipe guard NAME`, which `pipe` starts for itself: ends the programs of a `pipe` that was killed. No command of the command line's, so
//! that neither help nor completions offer it.

use pipe_stages::program::guard;

use crate::{exit, text};

/// The word it is started by.
pub const WORD: &str = "guard";

/// Where this process is to be a guard: waits for the end of the process of that name, then ends its programs. The exit code.
pub fn asked() -> Option<u8> {
    let mut words = std::env::args().skip(1);
    let (first, name, none) = (words.next()?, words.next()?, words.next().is_none());
    if first != WORD || !none {
        return None;
    }
    Some(match guard::watch(&name) {
        Ok(()) => exit::DONE,
        Err(error) => {
            text::err(&format!("error: cannot look for programs: {error}"));
            exit::FAILED
        }
    })
}
