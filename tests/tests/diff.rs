//! What `diff` tells of two runs, as users see it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use pipe_tests::{Project, steady};

const SPEC: &str = r#"name = "scored"

[params]
drop = "none"

[steps.texts]
stage = "download"
source = "texts.jsonl"
id = "id"

[steps.some]
stage = "filter"
inputs = { rows = "texts" }
keep = "caption != '${drop}'"

[steps.scores]
stage = "evaluate"
inputs = { systems = { mine = "some" } }
prediction = "said"
source = "caption"
references = "references"
metrics = ["bleu_1", "rouge_l"]
resamples = 200
"#;

/// Thirty rows, of which the first `right` are said as people wrote them.
fn texts(right: usize) -> String {
    let row = |n: usize| {
        let said = if n < right { format!("a small house number {n} by the sea") } else { format!("house {n}") };
        let row = serde_json::json!({
            "id": format!("t-{n:02}"),
            "caption": format!("c{n}"),
            "said": said,
            "references": [format!("a small house number {n} by the sea")],
        });
        format!("{row}\n")
    };
    (0..30).map(row).collect()
}

fn project() -> Project {
    let project = Project::empty();
    project.write("p.toml", SPEC);
    project.write("texts.jsonl", texts(15));
    let _ = project.run(&["p.toml"]);
    project
}

fn told(project: &Project, args: &[&str]) -> String {
    let outcome = project.pipe(args);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    steady(&outcome.stdout)
}

#[test]
fn rows_parameters_and_numbers_side_by_side() {
    let project = project();
    project.write("texts.jsonl", texts(16));
    let _ = project.run(&["p.toml", "--set", "drop=c29"]);
    let little = told(&project, &["diff"]);
    project.write("texts.jsonl", texts(30));
    let _ = project.run(&["p.toml", "--set", "drop=c29"]);
    let much = told(&project, &["diff"]);
    insta::assert_snapshot!("diff", format!("{little}\n=== twice as many right ===\n{much}"));
}

#[test]
fn runs_are_named_as_log_names_them() {
    let project = project();
    let alone = project.pipe(&["diff"]);
    assert_eq!(alone.code, 1, "{}", alone.stdout);
    assert!(alone.stderr.contains("there is only one run of `scored`"), "{}", alone.stderr);
    let _ = project.run(&["p.toml"]);
    let same = told(&project, &["diff", "last~1", "last"]);
    assert!(same.ends_with("0 steps differ, 3 the same\n"), "{same}");
    let json = project.pipe(&["diff", "last~1", "last", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((value["steps"].clone(), value["same"].clone()), (serde_json::json!([]), serde_json::json!(3)));
}
