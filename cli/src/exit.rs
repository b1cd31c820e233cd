//! Exit codes: part of the interface, never renumbered.

/// Everything asked for is there.
pub const DONE: u8 = 0;
/// A step failed.
pub const FAILED: u8 = 1;
/// The command line is wrong. (`clap` exits with the same.)
pub const USAGE: u8 = 2;
/// The pipeline is wrong.
pub const PIPELINE: u8 = 3;
/// The store is damaged or cannot be used.
pub const STORE: u8 = 4;
/// Interrupted by the user.
pub const INTERRUPTED: u8 = 130;
