//! What a shell completes a word to that only the pipeline on the same line can tell: names of steps, profiles and parameters.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::CompleteEnv;
use clap_complete::engine::CompletionCandidate;
use pipe_engine::spec::{Overrides, Spec};

use crate::args::Cli;

/// Set by the shell, to its name, where it asks.
pub const VARIABLE: &str = "PIPE_COMPLETE";

/// Answers a shell that asks, and ends the process then.
pub fn answer() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

/// The steps of the pipeline; those that a matrix makes where a bracket is begun.
pub fn steps(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some((spec, current)) = spec().zip(current.to_str()) else { return Vec::new() };
    let instances = current.contains('[');
    let mut names: Vec<&str> =
        spec.steps.iter().map(|step| if instances { step.name.as_str() } else { step.family.as_str() }).collect();
    names.dedup();
    candidates(names.into_iter(), current)
}

/// The profiles of the pipeline.
pub fn profiles(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some((spec, current)) = spec().zip(current.to_str()) else { return Vec::new() };
    candidates(spec.profiles.iter().map(String::as_str), current)
}

/// The parameters of the pipeline, each with the `=` that follows it.
pub fn parameters(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some((spec, current)) = spec().zip(current.to_str()) else { return Vec::new() };
    let names: Vec<String> = spec.params.keys().map(|name| format!("{name}=")).collect();
    candidates(names.iter().map(String::as_str), current)
}

fn candidates<'a>(names: impl Iterator<Item = &'a str>, current: &str) -> Vec<CompletionCandidate> {
    names.filter(|name| name.starts_with(current)).map(CompletionCandidate::new).collect()
}

/// The first pipeline on the line, if it reads well.
fn spec() -> Option<Spec> {
    let words = std::env::args_os().map(PathBuf::from);
    let path = words.into_iter().find(|word| word.extension().is_some_and(|e| e == "toml") && Path::is_file(word))?;
    Spec::load(&path, &Overrides::default()).ok()
}
