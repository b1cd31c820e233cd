//! The torch worker: a child process that executes the stages with tensors.
//!
//! `frame` is what the two say to each other, `client` is this process's end, `serve` the worker's. Neither knows a stage.

pub mod client;
pub mod frame;
pub mod serve;
