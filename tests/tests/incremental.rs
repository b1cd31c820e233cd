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

/// Changes the caption of one of the training pairs.
fn edit_a_text(project: &Project) {
    let path = project.path("data/descriptions.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let edit = |(n, line): (usize, &str)| {
        if n == 100 { line.replace("\"caption\": \"", "\"caption\": \"see ") } else { line.to_owned() }
    };
    fs::write(&path, text.lines().enumerate().map(edit).collect::<Vec<_>>().join("\n") + "\n").unwrap();
}

#[test]
fn one_edited_text_is_one_row() {
    let project = project();
    edit_a_text(&project);
    let run = project.run(&["quickstart.toml", STEPS[0], STEPS[1]]);
    assert_eq!(run.rows_executed("train_tokens"), 1);
}

/// Which input is written first means nothing: not to the key, not to the plan.
#[test]
fn the_order_of_inputs_means_nothing() {
    let project = project();
    let spec = fs::read_to_string(project.path("quickstart.toml")).unwrap();
    let written = "{ rows = \"parts.train\", model = \"base\" }";
    assert!(spec.contains(written));
    project.write("quickstart.toml", spec.replace(written, "{ model = \"base\", rows = \"parts.train\" }"));
    assert!(planned(&project).iter().all(|(_, action, _)| action == "reuse"));
    edit_a_text(&project);
    let tokens = planned(&project).into_iter().find(|(step, ..)| step == "train_tokens").unwrap();
    assert_eq!(tokens.2, Some(1));
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
