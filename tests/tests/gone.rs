//! Results whose sources are gone can still be looked at; nothing is run on what is not there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use pipe_tests::{Project, steady};

fn without_sources() -> Project {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    let shown = project.pipe(&["show", "p.toml", "parts.train"]).stdout;
    std::fs::remove_file(project.path("texts.jsonl")).unwrap();
    std::fs::remove_dir_all(project.path("photos")).unwrap();
    project.write("shown", shown);
    project
}

#[test]
fn results_are_shown_and_exported() {
    let project = without_sources();
    let step = project.pipe(&["show", "p.toml", "parts.train"]);
    assert_eq!(step.stdout, std::fs::read_to_string(project.path("shown")).unwrap());
    let all = project.pipe(&["show", "p.toml"]);
    let (export, left) = (
        project.pipe(&["export", "p.toml", "thumbnails", "out"]),
        project.pipe(&["show", "p.toml", "long", "--left-out"]),
    );
    assert_eq!([step.code, all.code, export.code, left.code], [0; 4], "{}", export.stderr);
    assert_eq!(std::fs::read_dir(project.path("out/images")).unwrap().count(), 6);
    assert_eq!(left.stdout.matches("dropped").count(), 10);
    insta::assert_snapshot!("shown", steady(&[all.stdout, all.stderr].concat()));
    let json: serde_json::Value =
        serde_json::from_str(&project.pipe(&["show", "p.toml", "texts", "--json"]).stdout).unwrap();
    assert_eq!((&json["gone"][1]["step"], &json["gone"][1]["run"]), (&"texts".into(), &json["run"]));
}

#[test]
fn nothing_runs_and_the_results_are_named() {
    let project = without_sources();
    let told = ["run", "plan", "check"].map(|command| project.pipe(&[command, "p.toml"]));
    assert!(told.iter().all(|one| one.code == 3 && one.stderr == told[0].stderr), "{told:?}");
    insta::assert_snapshot!("refused", steady(&told[0].stderr));
}

#[test]
fn a_mistake_in_the_pipeline_is_no_source_that_is_gone() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    project.write("p.toml", pipe_tests::SMALL.replace("id = \"id\"", "id = \"id\"\ncolumns = { missing = \"int\" }"));
    let shown = project.pipe(&["show", "p.toml"]);
    assert_eq!(shown.code, 3);
    let help = "did you mean `missing`";
    assert!(!shown.stderr.contains("what run") && !shown.stderr.contains(help), "{}", shown.stderr);
    assert!(shown.stderr.contains("the input has columns id: text, caption: text, note: text"), "{}", shown.stderr);
}

#[test]
fn another_profile_has_results_of_its_own() {
    let project = Project::small();
    let params = "size = 8\ntexts = \"texts.jsonl\"\n\n[profiles.short]\ntexts = \"short.jsonl\"\n\n";
    let spec = pipe_tests::SMALL.replace("size = 8\n\n", params).replace("\"texts.jsonl\"\nid", "\"${texts}\"\nid");
    project.write("p.toml", spec);
    project.write("short.jsonl", "{\"id\": \"a\", \"caption\": \"something\"}\n");
    let _ = project.run(&["p.toml"]);
    let _ = project.run(&["p.toml", "--profile", "short"]);
    std::fs::remove_file(project.path("texts.jsonl")).unwrap();
    let long = project.pipe(&["show", "p.toml", "long", "--json"]).stdout;
    let long: serde_json::Value = serde_json::from_str(&long).unwrap();
    assert_eq!(long["outputs"][0]["rows"], 50);
    std::fs::remove_file(project.path("short.jsonl")).unwrap();
    let never = project.pipe(&["show", "p.toml", "--set", "texts=nothing.jsonl"]);
    assert_eq!((never.code, never.stderr.contains("what run")), (3, false), "{}", never.stderr);
}
