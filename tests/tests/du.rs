//! `du` says what each step takes, and what a collection would free of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use pipe_tests::{Project, SMALL, steady};
use serde_json::Value;

/// Nothing stays but what the last run had.
const STRICT: [&str; 6] = ["--keep-runs", "1", "--keep-days", "0", "--grace", "0"];

fn du(project: &Project) -> Value {
    let args: Vec<&str> = ["du", "--json"].iter().chain(&STRICT).copied().collect();
    let du = project.pipe(&args);
    assert_eq!(du.code, 0, "{}", du.stderr);
    serde_json::from_str(&du.stdout).unwrap()
}

fn sizes(usage: &Value, step: &str) -> [u64; 4] {
    let found = usage["steps"].as_array().unwrap().iter().find(|one| one["step"] == step).unwrap();
    ["results", "alone", "memory", "unneeded"].map(|name| found[name].as_u64().unwrap())
}

/// The small project after a run with thumbnails of 8 pixels and one of 9.
fn project() -> Project {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    project.write("p.toml", SMALL.replace("size = 8\n", "size = 9\n"));
    let _ = project.run(&["p.toml"]);
    project
}

#[test]
fn each_step_is_told_what_it_takes_alone_and_with_others() {
    let project = project();
    let usage = du(&project);
    let [photos, photos_alone, ..] = sizes(&usage, "photos");
    assert!(photos_alone < photos / 2, "the pictures are those of `clean`, too: {usage}");
    let [thumbnails, alone, memory, unneeded] = sizes(&usage, "thumbnails");
    assert!(alone > 0 && memory > 0 && unneeded > 0, "{usage}");
    assert!(unneeded < thumbnails + memory, "those of the last run are needed: {usage}");
    for step in ["photos", "clean", "texts", "long", "parts"] {
        assert_eq!(sizes(&usage, step)[3], 0, "both runs need `{step}`");
    }
    let disk: u64 = usage["files"].as_object().unwrap().values().map(|held| held["bytes"].as_u64().unwrap()).sum();
    let alone: u64 = usage["steps"].as_array().unwrap().iter().map(|step| step["alone"].as_u64().unwrap()).sum();
    assert!(alone < disk, "what is counted once is there: {usage}");
}

#[test]
fn a_collection_frees_what_it_said() {
    let project = project();
    let before = du(&project);
    let args: Vec<&str> = ["gc", "--yes", "--json"].iter().chain(&STRICT).copied().collect();
    let gc: Value = serde_json::from_str(&project.pipe(&args).stdout).unwrap();
    assert_eq!(before["freed"], gc["freed"]);
    let after = du(&project);
    let unneeded = |usage| sizes(usage, "thumbnails")[3];
    // A few bytes stay, in a pack that also holds what is needed.
    assert!(after["freed"] == 0 && unneeded(&after) < unneeded(&before), "{before}\n{after}");
}

#[test]
fn it_reads_well() {
    let project = project();
    let args: Vec<&str> = ["du"].iter().chain(&STRICT).copied().collect();
    insta::assert_snapshot!("du", steady(&project.pipe(&args).stdout));
}
