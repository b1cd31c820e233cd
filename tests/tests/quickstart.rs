//! The quickstart from end to end: what it shows, what an edit costs, and that no kill costs anything but time.
//!
//! `PIPE_KILLS=20` kills twenty times instead of three.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::process::Command;
use std::time::{Duration, Instant};

use pipe_tests::{Project, Run};
use serde_json::Value;

const SPEC: &str = "quickstart.toml";

/// The quickstart with fewer pairs to learn from, so that it takes seconds.
fn small() -> Project {
    let project = Project::shipped();
    let pairs = fs::read_to_string(project.path("data/descriptions.jsonl")).unwrap();
    let few: String = pairs.lines().take(600).map(|line| format!("{line}\n")).collect();
    project.write("data/descriptions.jsonl", few);
    let spec = fs::read_to_string(project.path(SPEC)).unwrap();
    assert!(spec.contains("save_steps = 50"));
    project.write(SPEC, spec.replace("save_steps = 50", "save_steps = 5"));
    project
}

fn metric(project: &Project, system: &str, name: &str) -> f64 {
    let out = project.path("scores");
    if !out.exists() {
        assert_eq!(project.pipe(&["export", SPEC, "scores", "scores"]).code, 0);
    }
    let metrics: Value = serde_json::from_slice(&fs::read(out.join("metrics.json")).unwrap()).unwrap();
    find(&metrics, system, name).unwrap_or_else(|| panic!("no {name} of {system} in {metrics}"))
}

/// The corpus value of a metric of a system.
fn find(metrics: &Value, system: &str, name: &str) -> Option<f64> {
    let measure = metrics["measures"].as_array()?.iter().find(|measure| measure["name"] == name)?;
    measure["scores"][system]["value"].as_f64()
}

#[test]
fn it_teaches_measures_and_publishes_and_an_edit_costs_what_it_is() {
    let project = Project::shipped();
    let first = project.run(&[SPEC]);
    assert_eq!(first.rows_executed("captions"), 216);

    let of = |system: &str, name: &str| metric(&project, system, name);
    assert!(of("tuned", "adjectives") > of("base", "adjectives") + 5.0);
    assert!(of("tuned", "cider_d") > of("base", "cider_d") + 1.0);
    assert!(of("tuned", "pairs_kept") >= 0.95);

    let again = project.run(&[SPEC]);
    assert!(again.executed().is_empty(), "{:?}", again.executed());
    assert_eq!(again.artifacts(), first.artifacts());

    for name in ["scene-0001.png", "scene-0002.png", "scene-0003.png"] {
        let path = project.path(&format!("data/scenes/{name}"));
        let mut bytes = fs::read(&path).unwrap();
        bytes.push(0);
        fs::write(path, bytes).unwrap();
    }
    let plan = project.pipe(&["plan", SPEC, "--json"]);
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    let planned = |step: &str| plan["steps"].as_array().unwrap().iter().find(|s| s["step"] == step).unwrap().clone();
    assert_eq!(
        (planned("small")["rows"]["execute"].as_u64(), planned("captions")["rows"]["execute"].as_u64()),
        (Some(3), Some(3))
    );
    assert_eq!(planned("tune")["action"], "reuse");
    let edited = project.run(&[SPEC]);
    assert_eq!(edited.rows_executed("small"), 3);
    assert!(!edited.executed().contains(&"tune".to_owned()));

    let release = project.path("release");
    assert_eq!(project.pipe(&["export", SPEC, "release", "release"]).code, 0);
    for name in ["adapter_model.safetensors", "adapter_config.json", "README.md", "metrics.json", "provenance.json"] {
        assert!(release.join(name).exists(), "the release lacks {name}");
    }
}

#[test]
fn killed_at_any_moment_it_goes_on_and_gives_the_same() {
    let undisturbed = small();
    let started = Instant::now();
    let expected = undisturbed.run(&[SPEC]).artifacts();
    let whole = started.elapsed();

    let kills = std::env::var("PIPE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    for kill in 0..kills {
        let project = small();
        let moment = whole.mul_f64(random());
        let mut child = project.start(&["run", SPEC, "--json"]);
        std::thread::sleep(moment);
        // SIGKILL; it may just have ended.
        let _ = child.kill();
        child.wait().unwrap();
        let artifacts = project.run(&[SPEC]).artifacts();
        assert_eq!(artifacts, expected, "kill {kill} after {moment:?} of {whole:?}");
    }
}

#[test]
fn two_runs_at_once_both_succeed() {
    let project = small();
    let (one, two) = (project.start(&["run", SPEC, "--json"]), project.start(&["run", SPEC, "--json"]));
    let (one, two) = (project.finish(one), project.finish(two));
    assert_eq!((one.code, two.code), (0, 0), "{}\n{}", one.stderr, two.stderr);
    assert_eq!(Run::of(&one).artifacts(), Run::of(&two).artifacts());
    assert!(project.run(&[SPEC]).executed().is_empty());
}

#[test]
fn a_killed_worker_costs_an_error_and_the_next_run_goes_on() {
    let project = small();
    let run = project.start(&["run", SPEC]);
    let worker = soon(|| child_named(run.id(), "pipe-torch"));
    // In the middle of training: there are no checkpoints before.
    let checkpoints = project.path(".pipe/checkpoints");
    soon(|| fs::read_dir(&checkpoints).ok()?.next().map(drop));
    assert!(Command::new("kill").args(["-9", &worker.to_string()]).status().unwrap().success());
    let run = project.finish(run);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("error: step `tune` failed: the torch worker was killed (signal 9"), "{}", run.stderr);
    let again = project.run(&[SPEC]);
    assert!(!again.executed().contains(&"captions".to_owned()), "what was finished is kept");
    assert!(again.executed().contains(&"tune".to_owned()));
}

#[test]
fn it_takes_pictures_of_ones_own_without_references() {
    let project = small();
    fs::create_dir(project.path("mine")).unwrap();
    for name in ["scene-0001.png", "scene-0002.png", "scene-0003.png", "scene-0004.png"] {
        fs::copy(project.path(&format!("data/scenes/{name}")), project.path(&format!("mine/{name}"))).unwrap();
    }
    let run = project.pipe(&["run", SPEC, "--set", "source=mine"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("pairs_kept"), "{}", run.stdout);
    assert!(run.stdout.contains("there is no column `references`"), "it says why there is no CIDEr: {}", run.stdout);
}

/// Waits until there is something.
fn soon<T>(look: impl Fn() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A number in [0, 1), different each time.
#[expect(clippy::cast_precision_loss, reason = "a random moment needs no precision")]
fn random() -> f64 {
    (RandomState::new().build_hasher().finish() >> 11) as f64 / (1_u64 << 53) as f64
}

/// The child of a process that runs a program of that name.
fn child_named(parent: u32, name: &str) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok();
    let of_any_thread = || {
        let tasks = fs::read_dir(format!("/proc/{parent}/task")).ok()?.flatten();
        Some(tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok()).collect::<String>())
    };
    let all = [children, of_any_thread()].into_iter().flatten().collect::<String>();
    all.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .find(|pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name))
}
