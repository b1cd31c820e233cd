//! Re-runs cost what the edit costs, and `plan` says so before. On the part of the quickstart that needs no tensors.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;

use pipe_tests::Project;

/// The quickstart up to where the torch stages begin.
const STEPS: [&str; 2] = ["small", "lessons"];

fn project() -> Project {
    let project = Project::shipped();
    let first = project.run(&["quickstart.toml", STEPS[0], STEPS[1]]);
    assert_eq!(first.executed().len(), 9);
    project
}

/// Appends a byte to image files: the pictures stay readable, their digests change.
fn change_images(project: &Project, names: &[&str]) {
    for name in names {
        let path = project.path(&format!("data/scenes/{name}"));
        let mut bytes = fs::read(&path).unwrap();
        bytes.push(0);
        fs::write(path, bytes).unwrap();
    }
}

fn planned(project: &Project) -> Vec<(String, String, Option<u64>)> {
    let plan = project.pipe(&["plan", "quickstart.toml", STEPS[0], STEPS[1], "--json"]);
    assert_eq!(plan.code, 0, "{}", plan.stderr);
    let plan: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
    let step = |step: &serde_json::Value| {
        let text = |name: &str| step[name].as_str().unwrap().to_owned();
        (text("step"), text("action"), step["rows"]["execute"].as_u64())
    };
    plan["steps"].as_array().unwrap().iter().map(step).collect()
}

#[test]
fn nothing_executes_when_nothing_changed() {
    let project = project();
    assert!(planned(&project).iter().all(|(_, action, _)| action == "reuse"));
    assert!(project.run(&["quickstart.toml", STEPS[0], STEPS[1]]).executed().is_empty());
}

#[test]
fn three_changed_images_cost_three_rows() {
    let project = project();
    change_images(&project, &["scene-0001.png", "scene-0002.png", "scene-0003.png"]);
    let plan = planned(&project);
    let of = |name: &str| plan.iter().find(|(step, ..)| step == name).unwrap().clone();
    assert_eq!(of("clean").2, Some(3));
    assert_eq!(of("small").2, Some(3));
    assert_eq!(of("lessons").1, "reuse");
    let run = project.run(&["quickstart.toml", STEPS[0], STEPS[1]]);
    assert_eq!(run.executed(), ["clean", "photos", "small", "unique"]);
    assert_eq!((run.rows_executed("clean"), run.rows_executed("small")), (3, 3));
}

#[test]
fn a_change_in_a_column_nothing_reads_executes_nothing_but_the_source() {
    let project = project();
    let path = project.path("data/descriptions.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"source\": \"view/place\"", "\"source\": \"edited\"")).unwrap();
    let run = project.run(&["quickstart.toml", STEPS[0], STEPS[1]]);
    assert_eq!(run.executed(), ["pairs"]);
}

#[test]
fn one_edited_text_is_one_row() {
    let project = project();
    let path = project.path("data/descriptions.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let edited = lines
        .iter()
        .enumerate()
        .map(|(n, l)| if n == 100 { l.replace("\"caption\": \"", "\"caption\": \"see ") } else { l.clone() });
    fs::write(&path, edited.collect::<Vec<_>>().join("\n") + "\n").unwrap();
    let run = project.run(&["quickstart.toml", STEPS[0], STEPS[1]]);
    assert_eq!(run.rows_executed("train_tokens"), 1);
}

#[test]
fn a_touched_file_costs_nothing() {
    let project = project();
    let path = project.path("data/scenes/scene-0001.png");
    let bytes = fs::read(&path).unwrap();
    fs::write(path, bytes).unwrap();
    assert!(project.run(&["quickstart.toml", STEPS[0], STEPS[1]]).executed().is_empty());
}

#[test]
fn removing_an_image_executes_no_row() {
    let project = project();
    fs::remove_file(project.path("data/scenes/scene-0001.png")).unwrap();
    let run = project.run(&["quickstart.toml", STEPS[0], STEPS[1]]);
    assert_eq!((run.rows_executed("clean"), run.rows_executed("small")), (0, 0));
}
