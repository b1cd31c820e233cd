//! What a run says of rows and programs that went wrong, and that it does not count them as done.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use pipe_tests::Project;

/// A pipeline that gives `rows.jsonl` to a step `own`, which is written as here.
fn project(rows: &str, own: &str) -> Project {
    let project = Project::empty();
    project.write("rows.jsonl", rows);
    let spec = format!("name = \"p\"\n\n[steps.rows]\nstage = \"download\"\nsource = \"rows.jsonl\"\n\n{own}");
    project.write("p.toml", spec);
    project
}

/// A `map` with this script of a shell, which writes `x`.
fn map(script: &str) -> String {
    format!(
        "[steps.own]\nstage = \"map\"\ninputs = {{ rows = \"rows\" }}\nrun = [\"sh\", \"own.sh\"]\nwrites = {{ x = \"text\" }}\nprograms = 1\n{script}"
    )
}

const ROWS: &str = "{\"id\": \"a\"}\n{\"id\": \"b\"}\n";
/// Answers every row.
const ANSWERS: &str = "while read -r line; do echo '{\"x\":\"y\"}'; done\n";

#[test]
fn answers_that_nobody_asked_for_are_never_taken() {
    let project = project(ROWS, &map(""));
    project.write("own.sh", format!("{ANSWERS}echo '{{\"x\":\"z\"}}'\n"));
    for _ in 0..2 {
        let run = project.pipe(&["run", "p.toml"]);
        assert_eq!(run.code, 1, "{}", run.stderr);
        assert!(run.stderr.contains("the program said more than it was asked"), "{}", run.stderr);
    }
}

#[test]
fn a_bad_end_fails_the_step_and_keeps_its_rows() {
    let project = project(ROWS, &map(""));
    project.write("own.sh", format!("{ANSWERS}exit 4\n"));
    let run = project.pipe(&["run", "p.toml"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("sh ended with code 4 after it had answered every row"), "{}", run.stderr);
    let again = project.pipe(&["run", "p.toml"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
}

#[test]
fn a_step_without_a_good_row_fails() {
    let project = project("{\"id\": a}\n[]\n{\"id\": b}\n", &map(""));
    project.write("own.sh", ANSWERS);
    let run = project.pipe(&["run", "p.toml"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let (_, told) = run.stderr.split_once("error: ").unwrap();
    insta::assert_snapshot!("all_rows_failed", told);
    let spec = std::fs::read_to_string(project.path("p.toml")).unwrap();
    project.write("p.toml", spec.replace("source =", "max_failed_rows = \"100%\"\nsource ="));
    let allowed = project.pipe(&["run", "p.toml", "rows"]);
    assert_eq!(allowed.code, 0, "{}", allowed.stderr);
}

#[test]
fn one_good_row_is_enough() {
    let project = project("{\"id\": \"a\"}\nnot JSON\n", "");
    assert_eq!(project.pipe(&["run", "p.toml"]).code, 0);
}

#[test]
fn columns_that_are_left_out_are_told() {
    let early = (0..1100).map(|n| format!("{{\"id\": {n}, \"mixed\": {}}}\n", if n == 7 { "\"t\"" } else { "1" }));
    let late = (1100..1500).map(|n| format!("{{\"id\": {n}, \"late\": {n}}}\n"));
    let project = project(&early.chain(late).collect::<String>(), "");
    let run = project.pipe(&["run", "p.toml"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let told: Vec<&str> = run.stderr.lines().filter(|line| line.contains("is left out")).collect();
    insta::assert_snapshot!("left_out_columns", told.join("\n"));
}
