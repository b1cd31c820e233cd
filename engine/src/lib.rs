//! The engine of `pipe`: from a TOML file to artifacts in the store, doing only the work that is not already done.
//!
//! Names no stage, prints nothing, reads no environment. [`event`]s are its only way out.

pub mod artifact;
pub mod assembly;
pub mod build;
pub mod cell;
pub mod column;
pub mod compare;
pub mod dataset;
pub mod delta;
pub mod diff;
pub mod draw;
pub mod earlier;
pub mod event;
pub mod explain;
pub mod expression;
pub mod gc;
pub mod graph;
pub mod history;
pub mod lock;
pub mod origin;
pub mod params;
pub mod pins;
pub mod plan;
pub mod problem;
pub mod recipe;
pub mod run;
pub mod run_name;
pub mod schema;
pub mod source;
pub mod source_list;
pub mod spec;
pub mod stage;
pub mod step;
pub mod verify;
pub mod worker;

pub use pipe_cache::{Blob, Digest, FileDigest, Key, StatIndex, map_many};
