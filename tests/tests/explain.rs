//! What `log` and `explain` tell, as users see it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use pipe_tests::{Project, SMALL, steady};

fn told(project: &Project, args: &[&str]) -> String {
    let outcome = project.pipe(args);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    steady(&outcome.stdout)
}

fn replace(project: &Project, file: &str, from: &str, to: &str) {
    let path = project.path(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn nothing_changed() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    insta::assert_snapshot!("nothing_changed", told(&project, &["explain", "p.toml", "parts"]));
}

#[test]
fn never_run() {
    insta::assert_snapshot!("never_run", told(&Project::small(), &["explain", "p.toml", "texts"]));
}

#[test]
fn a_changed_row_is_followed_to_its_file() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    replace(&project, "texts.jsonl", "text 41", "edited");
    replace(&project, "texts.jsonl", "{\"id\": \"t-03\", \"caption\": \"text 3\", \"note\": \"x\"}\n", "");
    let before = told(&project, &["explain", "p.toml", "parts"]);
    let _ = project.run(&["p.toml"]);
    let after = told(&project, &["explain", "p.toml", "parts"]);
    insta::assert_snapshot!("a_changed_row", format!("{before}\n=== after the run ===\n{after}"));
}

#[test]
fn a_changed_parameter_and_a_changed_picture() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    std::fs::remove_file(project.path("photos/scene-0003.png")).unwrap();
    let told = told(&project, &["explain", "p.toml", "thumbnails", "--set", "size=16"]);
    insta::assert_snapshot!("parameter_and_picture", told);
}

/// Files that a step gives as they lie are listed once: in its output.
#[test]
fn a_changed_file_of_files_taken_as_they_are() {
    let project = Project::empty();
    project.write("notes/a.txt", "one");
    project.write("notes/deep/b.txt", "two");
    project.write("notes/c.txt", "three");
    project.write(
        "f.toml",
        "name = \"files\"\n[steps.notes]\nstage = \"download\"\nsource = \"notes\"\nformat = \"files\"\n",
    );
    let _ = project.run(&["f.toml"]);
    project.write("notes/deep/b.txt", "two and a half");
    project.write("notes/d.txt", "four");
    std::fs::remove_file(project.path("notes/c.txt")).unwrap();
    let before = told(&project, &["explain", "f.toml", "notes"]);
    let _ = project.run(&["f.toml"]);
    let after = told(&project, &["diff"]);
    insta::assert_snapshot!("files_as_they_are", format!("{before}\n=== diff of the runs ===\n{after}"));
}

#[test]
fn an_input_taken_from_elsewhere() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    replace(&project, "p.toml", "inputs = { rows = \"long\" }", "inputs = { rows = \"texts\" }");
    insta::assert_snapshot!("input_from_elsewhere", told(&project, &["explain", "p.toml", "parts"]));
}

#[test]
fn a_step_of_another_name_is_compared_with_the_most_similar_one() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    project.write("p.toml", SMALL.replace("steps.thumbnails", "steps.icons").replace("size = 8", "size = 6"));
    insta::assert_snapshot!("most_similar", told(&project, &["explain", "p.toml", "icons"]));
}

#[test]
fn a_column_that_nothing_reads_explains_nothing_downstream() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    replace(&project, "texts.jsonl", "\"note\": \"x\"", "\"note\": \"y\"");
    let _ = project.run(&["p.toml"]);
    let explained = told(&project, &["explain", "p.toml", "long"]);
    assert!(explained.starts_with("long: nothing changed"), "{explained}");
}

#[test]
fn a_column_that_is_handed_on_unread_is_followed() {
    let project = Project::small();
    let notes = "\n[steps.notes]\nstage = \"dedup\"\ninputs = { rows = \"long\" }\nby = [\"note\"]\n";
    project.write("p.toml", SMALL.to_owned() + notes);
    let _ = project.run(&["p.toml"]);
    replace(&project, "texts.jsonl", "\"text 41\", \"note\": \"x\"", "\"text 41\", \"note\": \"y\"");
    let _ = project.run(&["p.toml"]);
    let explained = told(&project, &["explain", "p.toml", "notes"]);
    assert!(explained.contains("notes ← long ← texts: 1 file changed"), "{explained}");
}

#[test]
fn a_release_changes_with_the_steps_it_tells_of() {
    let project = Project::small();
    let release = "\n[steps.release]\nstage = \"publish\"\ninputs = { data = [\"parts.train\"] }\nname = \"texts\"\nlicense = \"cc0-1.0\"\n";
    project.write("p.toml", SMALL.to_owned() + release);
    let _ = project.run(&["p.toml"]);
    // The same rows stay, so nothing but what the release says of its making differs.
    replace(&project, "p.toml", "size(caption) > 6", "size(caption) >= 7");
    let _ = project.run(&["p.toml"]);
    let explained = told(&project, &["explain", "p.toml", "release"]);
    assert!(explained.contains("release ← long: keep \"size(caption) > 6\" → \"size(caption) >= 7\""), "{explained}");
}

#[test]
fn explaining_for_programs() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    replace(&project, "texts.jsonl", "text 41", "edited");
    let json = project.pipe(&["explain", "p.toml", "long", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(value["chains"], serde_json::json!([["long", "texts"]]));
    assert_eq!(value["steps"][1]["rows"][0]["changed"], serde_json::json!({ "count": 1, "first": ["t-41"] }));
    assert_eq!(value["steps"][1]["files"]["changed"], serde_json::json!(["texts.jsonl"]));
}

#[test]
fn runs_are_listed_and_told() {
    let project = Project::small();
    let _ = project.run(&["p.toml", "parts"]);
    let fails = "\n[steps.fails]\nstage = \"command\"\nrun = [\"sh\", \"-c\", \"echo no such luck; exit 3\"]\noutputs = { made = \"files\" }\ninputs = { rows = \"parts.train\" }\n";
    project.write("p.toml", SMALL.to_owned() + fails);
    assert_eq!(project.pipe(&["run", "p.toml", "--set", "size=9"]).code, 1);
    let list = told(&project, &["log"]);
    let run = told(&project, &["log", "last"]).replace(&*project.path("").to_string_lossy(), "DIR/");
    let step = told(&project, &["log", "last~1", "parts"]);
    insta::assert_snapshot!("log", format!("{list}\n{run}\n{step}"));
}

#[test]
fn runs_that_are_not_there() {
    let project = Project::small();
    let nowhere = project.pipe(&["log"]);
    let _ = project.run(&["p.toml", "texts"]);
    let unknown = project.pipe(&["log", "x"]);
    let step = project.pipe(&["log", "last", "text"]);
    assert_eq!((nowhere.code, unknown.code, step.code), (1, 1, 1));
    insta::assert_snapshot!("log_mistakes", steady(&[nowhere.stderr, unknown.stderr, step.stderr].concat()));
}

#[test]
fn a_killed_run_is_told_as_killed() {
    let project = Project::small();
    let slow = "\n[steps.slow]\nstage = \"command\"\nrun = [\"sleep\", \"20\"]\noutputs = { made = \"files\" }\ninputs = { rows = \"parts.train\" }\n";
    project.write("p.toml", SMALL.to_owned() + slow);
    let mut child = project.start(&["run", "p.toml", "slow"]);
    let started = std::time::Instant::now();
    let state = loop {
        let log = project.pipe(&["log", "last", "--json"]).stdout;
        let run: serde_json::Value = serde_json::from_str(&log).unwrap_or_default();
        let slow = run["steps"].as_array().and_then(|steps| steps.iter().find(|step| step["step"] == "slow").cloned());
        if slow.is_some_and(|slow| slow["state"] == "started") {
            break run["end"].clone();
        }
        assert!(started.elapsed().as_secs() < 60, "the step does not begin");
    };
    child.kill().unwrap();
    child.wait().unwrap();
    let log = project.pipe(&["log", "last", "--json"]).stdout;
    let run: serde_json::Value = serde_json::from_str(&log).unwrap();
    assert_eq!((state, run["end"].clone()), ("running".into(), "killed".into()));
}
