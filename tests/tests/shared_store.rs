//! Several runs on one store, and runs that are ended: what each leaves to the others.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use pipe_tests::{Project, Run};

fn pipeline(script: &str) -> String {
    format!(
        "name = \"p\"\n[steps.now]\nstage = \"command\"\nrun = [\"sh\", \"-c\", \"{script}\"]\noutputs = {{ made = \"files\" }}\n"
    )
}

/// Waits until a run has come to where its program says so.
fn until(project: &Project, name: &str) {
    let started = Instant::now();
    while !project.path(name).exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "{name} does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn below(project: &Project, directory: &str) -> Vec<std::path::PathBuf> {
    let entries = walkdir::WalkDir::new(project.path(directory)).into_iter().flatten();
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

/// Two runs that execute the same step at the same time, each with a scratch directory of its own; the script of one waits for the other.
fn at_once(what: &str) -> (Project, Run, Run) {
    let project = Project::empty();
    let here = project.path("").display().to_string();
    let wait = format!("touch {here}/began-$$; while [ $(ls {here} | grep -c began) -lt 2 ]; do sleep 0.02; done");
    project.write("p.toml", pipeline(&format!("{wait}; {what} > {{out}}/made/x")));
    let [one, two] = [(); 2].map(|()| project.start(&["run", "p.toml", "--json"]));
    let (one, two) = (project.finish(one), project.finish(two));
    assert_eq!((one.code, two.code), (0, 0), "{}{}", one.stdout, two.stdout);
    let runs = (Run::of(&one), Run::of(&two));
    (project, runs.0, runs.1)
}

fn logs<'a>(run: &'a Run, level: &str) -> Vec<&'a serde_json::Value> {
    run.events.iter().filter(|event| event["event"] == "log" && event["level"] == level).collect()
}

#[test]
fn two_that_make_something_else_of_one_key_are_told() {
    let (project, one, two) = at_once("date +%N");
    assert_eq!((one.executed(), two.executed()), (vec!["now".to_owned()], vec!["now".to_owned()]));
    let warnings: Vec<_> = [&one, &two].into_iter().flat_map(|run| logs(run, "warning")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let message = warnings[0]["message"].as_str().unwrap();
    assert!(message.contains("what this run made (made) is another: the step is not deterministic"), "{message}");
    assert_eq!(warnings[0]["step"], "now");
    // The first record stays.
    let first = if logs(&one, "warning").is_empty() { &one } else { &two };
    assert_eq!(project.run(&["p.toml"]).artifacts(), first.artifacts());
}

#[test]
fn two_that_make_the_same_are_no_matter() {
    let (project, one, two) = at_once("echo same");
    assert_eq!(one.artifacts(), two.artifacts());
    assert!([&one, &two].into_iter().all(|run| logs(run, "warning").is_empty()));
    assert!(project.run(&["p.toml"]).executed().is_empty());
}

#[test]
fn a_run_that_is_asked_to_end_leaves_no_record_and_no_litter() {
    for signal in ["TERM", "HUP", "INT"] {
        let project = Project::empty();
        let here = project.path("").display().to_string();
        let text = pipeline(&format!("touch {here}/began; sleep 30; echo x > {{out}}/made/x"));
        project.write("p.toml", &text);
        let run = project.start(&["run", "p.toml"]);
        until(&project, "began");
        let killed = Command::new("kill").args([format!("-{signal}"), run.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let outcome = project.finish(run);
        assert_eq!(outcome.code, 130, "{signal}: {}", outcome.stderr);
        assert!(outcome.seconds < 20.0, "{signal}: {}", outcome.seconds);
        for directory in [".pipe/actions", ".pipe/tmp", ".pipe/objects"] {
            assert!(below(&project, directory).is_empty(), "{signal}: {directory}");
        }
        project.write("p.toml", text.replace("sleep 30", "true"));
        assert_eq!(project.run(&["p.toml"]).executed(), ["now"]);
    }
}

#[test]
fn a_failed_program_leaves_no_record() {
    let project = Project::empty();
    for end in ["exit 3", "kill -9 $$", "echo 'No space left on device' >&2; exit 28"] {
        project.write("p.toml", pipeline(&format!("echo x > {{out}}/made/x; {end}")));
        assert_eq!(project.pipe(&["run", "p.toml"]).code, 1, "{end}");
        assert!(below(&project, ".pipe/actions").is_empty(), "{end}");
    }
}

#[test]
fn a_group_shares_what_lies_in_its_directory() {
    use std::os::unix::fs::PermissionsExt;
    let project = Project::small();
    fs::create_dir(project.path("shared")).unwrap();
    fs::set_permissions(project.path("shared"), fs::Permissions::from_mode(0o2775)).unwrap();
    let _ = project.run(&["p.toml", "--store", "shared/store"]);
    for entry in walkdir::WalkDir::new(project.path("shared/store")).min_depth(1).into_iter().flatten() {
        let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
        if entry.file_type().is_dir() {
            assert_eq!(mode, 0o2775, "{}", entry.path().display());
        }
    }
}
