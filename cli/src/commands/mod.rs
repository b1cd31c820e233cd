//! One command, one file.

pub mod check;
pub mod completions;
pub mod diff;
pub mod du;
pub mod explain;
pub mod export;
pub mod gc;
pub mod graph;
pub mod guard;
pub mod log;
pub mod new;
pub mod plan;
pub mod run;
pub mod schema;
pub mod show;
pub mod stages;
pub mod verify;
