//! Collecting removes what nothing needs and nothing else: whatever the edits, a kill, another collection, or a run beside it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use pipe_tests::{Project, steady};
use proptest::prelude::*;

/// Everything but the last run goes, at once.
const STRICT: [&str; 7] = ["gc", "--keep-runs", "1", "--keep-days", "0", "--grace", "0"];

fn collect(project: &Project, more: &[&str]) -> serde_json::Value {
    let args: Vec<&str> = STRICT.iter().copied().chain(["--json"]).chain(more.iter().copied()).collect();
    let gc = project.pipe(&args);
    assert_eq!(gc.code, 0, "{}", gc.stderr);
    serde_json::from_str(&gc.stdout).unwrap()
}

fn sound(project: &Project) {
    let verify = project.pipe(&["verify"]);
    assert_eq!(verify.code, 0, "{}{}", verify.stdout, verify.stderr);
}

fn edit_text(project: &Project, n: usize, text: &str) {
    let path = project.path("texts.jsonl");
    let lines = std::fs::read_to_string(&path).unwrap();
    let edit = |(at, line): (usize, &str)| {
        if at == n {
            format!("{{\"id\": \"t-{n:02}\", \"caption\": \"{text}\", \"note\": \"x\"}}\n")
        } else {
            format!("{line}\n")
        }
    };
    std::fs::write(path, lines.lines().enumerate().map(edit).collect::<String>()).unwrap();
}

/// A run of the pipeline as it is written would else keep what the lock beside it names.
fn without_lock(project: &Project) {
    std::fs::remove_file(project.path("p.lock")).unwrap();
}

/// The pipeline file with thumbnails of another size.
fn resize(project: &Project, size: u32) {
    project.write("p.toml", pipe_tests::SMALL.replace("size = 8\n", &format!("size = {size}\n")));
}

/// A run with thumbnails of another size, after which the pipeline and its lock are what they were.
fn run_resized(project: &Project, size: u32) {
    let lock = std::fs::read(project.path("p.lock")).ok();
    resize(project, size);
    let _ = project.run(&["p.toml"]);
    project.write("p.toml", pipe_tests::SMALL);
    match lock {
        Some(lock) => project.write("p.lock", lock),
        None => without_lock(project),
    }
}

fn change_picture(project: &Project, n: usize) {
    let path = project.path(&format!("photos/scene-000{}.png", n % 6 + 1));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.push(0);
    std::fs::write(path, bytes).unwrap();
}

#[derive(Clone, Debug)]
enum Edit {
    Text(usize, String),
    Picture(usize),
    Size(u32),
}

fn any_edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (0..60_usize, "[a-z]{3,9}").prop_map(|(n, text)| Edit::Text(n, text)),
        (0..6_usize).prop_map(Edit::Picture),
        (4..20_u32).prop_map(Edit::Size),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 4, ..ProptestConfig::default() })]

    /// After any edits, runs and collections the store is sound, and the last pipeline has nothing to do.
    #[test]
    fn what_the_last_run_had_is_whole_after_a_collection(edits in proptest::collection::vec(any_edit(), 1..5)) {
        let project = Project::small();
        for edit in edits {
            match edit {
                Edit::Text(n, text) => edit_text(&project, n, &text),
                Edit::Picture(n) => change_picture(&project, n),
                Edit::Size(n) => resize(&project, n),
            }
            let _ = project.run(&["p.toml"]);
            let planned = collect(&project, &[]);
            let done = collect(&project, &["--yes"]);
            prop_assert_eq!(&planned["freed"], &done["freed"], "the plan is what is done");
            sound(&project);
            prop_assert!(project.run(&["p.toml"]).executed().is_empty());
            prop_assert_eq!(&collect(&project, &[])["freed"], 0, "nothing is left to remove");
        }
    }
}

#[test]
fn nothing_goes_without_being_asked_for() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    without_lock(&project);
    run_resized(&project, 9);
    let planned = collect(&project, &[]);
    assert!(planned["freed"].as_u64().unwrap() > 0 && planned["acted"] == false);
    assert!(project.run(&["p.toml"]).executed().is_empty());
}

#[test]
fn runs_within_the_grace_period_stay() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    run_resized(&project, 9);
    let gc = project.pipe(&["gc", "--keep-runs", "1", "--keep-days", "0", "--yes"]);
    assert_eq!(gc.code, 0, "{}", gc.stderr);
    assert!(project.run(&["p.toml"]).executed().is_empty());
}

#[test]
fn runs_of_each_profile_and_choice_of_parameters_stay_apart() {
    let project = Project::small();
    project.write("p.toml", format!("{}\n[profiles.smoke]\nsize = 4\n", pipe_tests::SMALL));
    let variants: [&[&str]; 3] = [&["p.toml"], &["p.toml", "--profile", "smoke"], &["p.toml", "--set", "size=9"]];
    for variant in variants {
        let _ = project.run(variant);
    }
    without_lock(&project);
    // Many runs of one of them push none of the others out.
    for _ in 0..3 {
        let _ = project.run(variants[2]);
    }
    assert_eq!(collect(&project, &["--yes"])["freed"], 0);
    for variant in variants {
        assert!(project.run(variant).executed().is_empty(), "{variant:?}");
    }
    let told = project.pipe(&STRICT).stdout;
    assert!(told.contains(" of p --set size=9 "), "{told}");
}

#[test]
fn young_runs_stay_whatever_their_number() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    run_resized(&project, 9);
    let gc = project.pipe(&["gc", "--keep-runs", "1", "--keep-days", "1", "--grace", "0", "--yes"]);
    assert_eq!(gc.code, 0, "{}", gc.stderr);
    assert!(project.run(&["p.toml"]).executed().is_empty());
}

#[test]
fn packs_are_rewritten_only_while_nobody_else_has_the_store_open() {
    let project = Project::small();
    // Of the pack of the first run the later ones need the texts, not the pictures.
    let _ = project.run(&["p.toml"]);
    (0..6).for_each(|n| change_picture(&project, n));
    let slow = "\n[steps.slow]\nstage = \"command\"\nrun = [\"sleep\", \"20\"]\noutputs = { made = \"files\" }\ninputs = { rows = \"parts.train\" }\n";
    let _ = project.run(&["p.toml"]);
    project.write("q.toml", pipe_tests::SMALL.replace("name = \"p\"", "name = \"q\"") + slow);
    let mut run = project.start(&["run", "q.toml", "slow"]);
    std::thread::sleep(Duration::from_millis(500));
    let beside = collect(&project, &["--yes"]);
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(
        (&beside["removed"]["rewritten"]["count"], &beside["removed"]["postponed"]["count"]),
        (&0.into(), &1.into())
    );
    assert_eq!(collect(&project, &["--yes"])["removed"]["rewritten"]["count"], 1);
    assert!(project.run(&["p.toml"]).executed().is_empty());
    sound(&project);
}

#[test]
fn a_pin_keeps_a_run_until_it_is_let_go_of() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    without_lock(&project);
    let pinned = project.pipe(&["gc", "--pin", "paper=last"]);
    assert_eq!(pinned.code, 0, "{}", pinned.stderr);
    assert_eq!(project.pipe(&["gc", "--pin", "paper=last"]).code, 1, "a pin is not replaced");
    run_resized(&project, 9);
    collect(&project, &["--yes"]);
    let plan = project.pipe(&["plan", "p.toml"]);
    assert!(plan.stdout.ends_with("nothing to do\n"), "{}", plan.stdout);
    assert_eq!(project.pipe(&["gc", "--unpin", "paper"]).code, 0);
    collect(&project, &["--yes"]);
    let plan = project.pipe(&["plan", "p.toml"]);
    assert!(plan.stdout.contains("\n1 step of 6 would run"), "{}", plan.stdout);
}

#[test]
fn a_pipeline_that_is_named_keeps_its_results() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    run_resized(&project, 9);
    collect(&project, &["--yes", "p.toml"]);
    assert!(project.run(&["p.toml"]).executed().is_empty());
}

#[test]
fn what_a_lock_file_names_stays() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    run_resized(&project, 9);
    let gc = collect(&project, &["--yes"]);
    assert!(gc["roots"].to_string().contains("\"kind\":\"lock\""), "{gc}");
    assert!(project.run(&["p.toml"]).executed().is_empty());
}

#[test]
fn room_goes_to_what_was_used_last() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    without_lock(&project);
    run_resized(&project, 9);
    let all = collect(&project, &["--max-size", "1GB"]);
    assert_eq!(all["freed"], 0, "there is room for everything");
    let none = collect(&project, &["--max-size", "1"]);
    assert!(none["freed"].as_u64().unwrap() > 0);
    let notes = none["notes"].to_string();
    assert!(notes.contains("more than --max-size"), "{notes}");
}

#[test]
fn a_kill_at_any_moment_loses_nothing_that_is_needed() {
    let project = Project::small();
    for round in 0..8_u32 {
        run_resized(&project, 20 + round);
        change_picture(&project, round as usize);
        let _ = project.run(&["p.toml"]);
        let args: Vec<&str> = STRICT.iter().copied().chain(["--yes"]).collect();
        let mut child = project.start(&args);
        std::thread::sleep(Duration::from_millis(3 * u64::from(round)));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(project.run(&["p.toml"]).executed().is_empty(), "round {round}");
        sound(&project);
    }
}

#[test]
fn two_collections_at_once_are_one() {
    let project = Project::small();
    for round in 0..4 {
        run_resized(&project, 20 + round);
        let _ = project.run(&["p.toml"]);
        let args: Vec<&str> = STRICT.iter().copied().chain(["--yes"]).collect();
        let both = [project.start(&args), project.start(&args)];
        for child in both {
            let outcome = project.finish(child);
            assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        }
        assert!(project.run(&["p.toml"]).executed().is_empty());
        sound(&project);
    }
}

#[test]
fn a_run_beside_a_collection_keeps_what_it_has() {
    let project = Project::small();
    run_resized(&project, 9);
    let slow = "\n[steps.slow]\nstage = \"command\"\nrun = [\"sh\", \"-c\", \"sleep 1; echo x > {out}/made/x\"]\noutputs = { made = \"files\" }\ninputs = { rows = \"parts.train\" }\n";
    project.write("q.toml", pipe_tests::SMALL.replace("name = \"p\"", "name = \"q\"") + slow);
    let run = project.start(&["run", "q.toml", "--json"]);
    std::thread::sleep(Duration::from_millis(500));
    let gc = project.pipe(&["gc", "--keep-runs", "0", "--keep-days", "0", "--grace", "0", "--yes"]);
    assert!(gc.stdout.contains(" of q ") && !gc.stdout.contains(" of p "), "{}{}", gc.stdout, gc.stderr);
    let outcome = project.finish(run);
    assert_eq!(outcome.code, 0, "{}\n{}", outcome.stdout, outcome.stderr);
    let again = project.run(&["q.toml"]);
    assert!(again.executed().is_empty(), "{:?}", again.executed());
}

#[test]
fn a_collection_says_what_stays_and_what_goes() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    run_resized(&project, 9);
    assert_eq!(project.pipe(&["gc", "--pin", "paper=last~1"]).code, 0);
    run_resized(&project, 10);
    run_resized(&project, 11);
    let plan = project.pipe(&STRICT);
    assert_eq!(plan.code, 0, "{}", plan.stderr);
    insta::assert_snapshot!("gc", steady(&plan.stdout));
}
