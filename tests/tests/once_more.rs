//! `run --force`: a step whose result is there executes, is compared with what was recorded, and takes its place.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use pipe_tests::{Project, Run, SMALL, steady};
use serde_json::{Value, json};

fn again(run: &Run, step: &str) -> Value {
    let done = run.events.iter().find(|event| event["event"] == "step_done" && event["step"] == step).unwrap();
    done["report"]["again"].clone()
}

#[test]
fn what_gives_the_same_stops_there() {
    let project = Project::small();
    let before = project.run(&["p.toml"]).artifacts();
    let run = project.run(&["p.toml", "--force", "long", "--force", "parts"]);
    assert_eq!(run.executed(), ["long", "parts"], "and nothing that they need or that reads them");
    assert_eq!((run.rows_executed("long"), run.rows_executed("parts")), (60, 50), "no row counts as remembered");
    assert_eq!((again(&run, "long"), again(&run, "parts"), again(&run, "texts")), (json!([]), json!([]), Value::Null));
    assert_eq!(run.artifacts(), before);
    let told = project.pipe(&["run", "p.toml", "--force", "texts"]).stderr;
    assert!(steady(&told).contains("texts: done in N: 60 rows; gave the same as before"), "{told}");
    assert!(project.run(&["p.toml"]).executed().is_empty());
}

/// A `map` that answers something else for every third row each time, and a step that reads it.
fn unsteady() -> Project {
    let project = Project::small();
    let steps = "\n[steps.loud]\nstage = \"map\"\ninputs = { rows = \"long\" }\nrun = [\"python3\", \"loud.py\"]\nwrites = { loud = \"text\" }\n\
                 \n[steps.kept]\nstage = \"filter\"\ninputs = { rows = \"loud\" }\nkeep = \"loud != ''\"\n\
                 \n[steps.now]\nstage = \"command\"\nrun = [\"sh\", \"-c\", \"date +%N > {out}/made/time; echo x > {out}/made/same\"]\noutputs = { made = \"files\" }\n";
    project.write("p.toml", SMALL.to_owned() + steps);
    let script = "import sys, json, time\nfor line in sys.stdin:\n    id = json.loads(line)['id']\n    changes = int(id[2:]) % 3 == 0\n    print(json.dumps({'loud': str(time.time_ns()) if changes else id}), flush=True)\n";
    project.write("loud.py", script);
    project
}

#[test]
fn what_gives_something_else_is_told_and_counts_from_then_on() {
    let project = unsteady();
    let _ = project.run(&["p.toml"]);
    let run = project.run(&["p.toml", "--force", "loud", "--force", "now"]);
    assert_eq!(run.executed(), ["kept", "loud", "now"], "what reads it executes, too");
    let told = [again(&run, "loud"), again(&run, "now")].map(|all| all[0]["how"].as_str().unwrap().to_owned());
    assert!(told[0].contains(": 16 of 50 rows changed (in loud): t-12, t-15,"), "{told:?}");
    assert!(told[1].ends_with(": other time"), "{told:?}");
    let next = project.run(&["p.toml"]);
    assert!(next.executed().is_empty());
    assert_eq!(next.artifacts(), run.artifacts(), "what came out last is the result");
    std::fs::remove_dir_all(project.path(".pipe/actions")).unwrap();
    let remembered = project.run(&["p.toml", "kept"]);
    assert_eq!(remembered.rows_executed("loud"), 0);
    let of = |run: &Run, step: &str| run.artifacts().into_iter().find(|one| one.starts_with(step)).unwrap();
    assert_eq!(of(&remembered, "loud"), of(&run, "loud"), "of two memories of a row the last one counts");
}

#[test]
fn a_forced_step_is_done_also_where_others_are_named() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    let run = project.run(&["p.toml", "clean", "--force", "long"]);
    assert_eq!(run.executed(), ["long"]);
    let unknown = project.pipe(&["run", "p.toml", "--force", "lnog"]);
    assert_eq!(unknown.code, 2);
    assert_eq!(unknown.stderr, "error: there is no step `lnog`\n  = help: did you mean `long`?\n");
}

#[test]
fn what_failed_leaves_the_result_that_was_there() {
    let project = Project::empty();
    let spec = "name = \"p\"\n[steps.made]\nstage = \"command\"\nrun = [\"sh\", \"-c\", \"test ! -e DIR/broken && echo x > {out}/made/x\"]\noutputs = { made = \"files\" }\n";
    project.write("p.toml", spec.replace("DIR", &project.path("").to_string_lossy()));
    let before = project.run(&["p.toml"]).artifacts();
    project.write("broken", "");
    assert_eq!(project.pipe(&["run", "p.toml", "--force", "made"]).code, 1);
    let next = project.run(&["p.toml"]);
    assert!(next.executed().is_empty());
    assert_eq!(next.artifacts(), before);
}
