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
fn a_new_step_is_not_compared_with_another_of_its_stage() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    project.write("p.toml", SMALL.replace("steps.thumbnails", "steps.icons").replace("size = 8", "size = 6"));
    insta::assert_snapshot!("never_run_beside_others", told(&project, &["explain", "p.toml", "icons"]));
}

#[test]
fn a_result_that_was_collected_is_no_step_that_never_ran() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    let objects = [project.path(".pipe/packs"), project.path(".pipe/actions")];
    objects.iter().for_each(|path| std::fs::remove_dir_all(path).unwrap());
    let explained = told(&project, &["explain", "p.toml", "texts"]);
    assert!(explained.contains("what it gave before is gone from the store"), "{explained}");
}

#[test]
fn the_script_of_a_map_that_changed_is_named() {
    let project = Project::small();
    let map = "\n[steps.loud]\nstage = \"map\"\ninputs = { rows = \"long\" }\nrun = [\"python3\", \"loud.py\"]\nfiles = [\"loud.py\"]\nreads = [\"caption\"]\nwrites = { loud = \"text\" }\n";
    let script = "import sys, json\nfor line in sys.stdin:\n    print(json.dumps({\"loud\": json.loads(line)[\"caption\"]}), flush=True)\n";
    project.write("p.toml", SMALL.to_owned() + map);
    project.write("loud.py", script);
    let _ = project.run(&["p.toml", "loud"]);
    project.write("loud.py", format!("{script}# louder\n"));
    let explained = told(&project, &["explain", "p.toml", "loud"]);
    assert!(explained.contains("loud: 1 file changed: loud.py"), "{explained}");
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

#[test]
fn runs_stand_in_the_order_in_which_they_began_whatever_their_clock_said() {
    let project = Project::small();
    let runs = || -> Vec<String> {
        let list: serde_json::Value = serde_json::from_str(&project.pipe(&["log", "--json"]).stdout).unwrap();
        list["runs"].as_array().unwrap().iter().map(|run| run["run"].as_str().unwrap().to_owned()).collect()
    };
    let rename = |from: &str, to: &str| {
        let log = |name: &str| project.path(&format!(".pipe/runs/{name}.jsonl"));
        std::fs::rename(log(from), log(to)).unwrap();
    };
    let (past, future) = ("86400-012-20471", "99999999999-999-7");
    for (clock, after) in [(past, None), (future, Some(past))] {
        let _ = project.run(&["p.toml", "texts"]);
        rename(&runs()[0], clock);
        assert_eq!(runs().first().map(String::as_str), Some(clock));
        assert_eq!(runs().get(1).map(String::as_str), after);
    }
    let _ = project.run(&["p.toml", "texts", "--set", "size=9"]);
    let runs = runs();
    assert!(runs[0].starts_with("100000000000-000-"), "{runs:?}");
    assert_eq!(runs[1..], [future, past]);
    assert!(told(&project, &["log", "last"]).contains(" size=9"));
    let diff: serde_json::Value = serde_json::from_str(&project.pipe(&["diff", "--json"]).stdout).unwrap();
    assert_eq!((&diff["before"]["run"], &diff["now"]["run"]), (&future.into(), &runs[0].clone().into()));
}
