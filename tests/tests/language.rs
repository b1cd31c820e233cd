//! Matrices, conditions, expectations, retries and limits, as users meet them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use pipe_tests::{Project, Run};

/// Prints a number into a metrics file for every rank, and compares them.
const SPEC: &str = r#"name = "p"

[params]
least = 0.5
report = false

[steps.score]
stage = "command"
matrix = { r = ["2", "4"] }
run = ["sh", "-c", "echo '{\"loss\": 0.'$R'}' > {out}/metrics/metrics.json"]
outputs = { metrics = "metrics" }
env = { R = "${r}" }
expect = ["loss < ${least}"]

[steps.best]
stage = "command"
inputs = { scores = "score[*]" }
run = ["sh", "-c", "ls {in}/scores > {out}/names/names"]
outputs = { names = "files" }

[steps.report]
stage = "command"
when = "report"
run = ["sh", "-c", "echo > {out}/report/report"]
outputs = { report = "files" }
"#;

fn project() -> Project {
    let project = Project::empty();
    project.write("p.toml", SPEC);
    project
}

/// Text without what differs from run to run.
fn steady(text: &str) -> String {
    let words = |line: &str| match line.split_once(" in ") {
        Some((before, _)) if line.contains("done in") => format!("{before} in TIME"),
        _ if line.contains(" executed, ") => line.rsplit_once(", ").map_or(line, |(before, _)| before).to_owned(),
        _ => line.to_owned(),
    };
    let mut lines: Vec<String> = text.lines().map(words).filter(|line| !line.contains("runs/")).collect();
    // Steps that need nothing of each other begin and end in any order.
    lines.sort();
    lines.join("\n")
}

#[test]
fn a_matrix_is_planned_run_and_shown() {
    let project = project();
    let plan = project.pipe(&["plan", "p.toml"]);
    insta::assert_snapshot!("plan", plan.stdout);
    let run = Run::of(&project.pipe(&["run", "p.toml", "--json"]));
    assert_eq!(run.executed(), ["best", "score[r=2]", "score[r=4]"]);
    assert_eq!(project.pipe(&["export", "p.toml", "best", "out"]).code, 0);
    assert_eq!(std::fs::read_to_string(project.path("out/names")).unwrap(), "r=2\nr=4\n");
    assert!(project.pipe(&["show", "p.toml", "score[r=4]"]).stdout.contains("metrics.json"));
    let both = project.pipe(&["show", "p.toml", "score"]);
    let one = Run::of(&project.pipe(&["run", "p.toml", "--json", "score[r=4]"]));
    assert_eq!((both.code, one.events[0]["steps"].as_array().unwrap().len()), (2, 1));
    insta::assert_snapshot!("ambiguous", both.stderr);
}

#[test]
fn what_is_not_as_expected_fails_every_time_and_is_kept() {
    let project = project();
    for _ in 0..2 {
        let run = project.pipe(&["run", "p.toml", "--set", "least=0.3", "--keep-going"]);
        assert_eq!(run.code, 1);
    }
    let again = project.pipe(&["run", "p.toml", "--set", "least=0.3", "--keep-going"]);
    insta::assert_snapshot!("expectation", steady(&again.stderr));
    let lower = Run::of(&project.pipe(&["run", "p.toml", "--json"]));
    assert_eq!(lower.executed(), ["best"], "the numbers were kept");
}

#[test]
fn a_step_that_hangs_is_ended_and_tried_again() {
    let project = Project::empty();
    let spec = "name = \"p\"\n[steps.slow]\nstage = \"command\"\nrun = [\"sleep\", \"60\"]\noutputs = { made = \"files\" }\ntimeout = \"200ms\"\nretries = 1\n";
    project.write("p.toml", spec);
    let run = project.pipe(&["run", "p.toml"]);
    assert_eq!(run.code, 1);
    assert!(run.seconds < 30.0);
    insta::assert_snapshot!("timeout", steady(&run.stderr));
}

#[test]
fn a_setting_is_never_a_parameter() {
    let project = Project::empty();
    let stages: Vec<serde_json::Value> = serde_json::from_str(&project.pipe(&["stages", "--json"]).stdout).unwrap();
    let settings = ["matrix", "replicates", "when", "expect", "retries", "timeout", "max_failed_rows", "resources"];
    for stage in stages {
        let parameters = stage["parameters"]["properties"].as_object().unwrap();
        let taken: Vec<&str> = settings.into_iter().filter(|name| parameters.contains_key(*name)).collect();
        assert!(taken.is_empty(), "`{}` has {taken:?}", stage["name"]);
    }
}
