//! One command, one file.

pub mod check;
pub mod export;
pub mod plan;
pub mod run;
pub mod show;
pub mod stages;
