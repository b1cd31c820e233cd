//! `plan` says how long a run would take, going by past runs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;

use pipe_tests::Project;
use serde_json::Value;

/// What each step of the small project took, as its run log is made to say.
const SECONDS: [(&str, f64); 6] =
    [("photos", 10.0), ("clean", 3.0), ("thumbnails", 6.0), ("texts", 8.0), ("long", 6.0), ("parts", 5.0)];

/// The small project after a run that took [`SECONDS`].
fn past() -> Project {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    let log = fs::read_dir(project.path(".pipe/runs")).unwrap().next().unwrap().unwrap().path();
    let timed = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let step = line["what"]["step"].as_str().unwrap_or_default().to_owned();
        if let (Some((_, seconds)), "step_done") =
            (SECONDS.iter().find(|(name, _)| *name == step), line["what"]["event"].as_str().unwrap())
        {
            line["what"]["report"]["seconds"] = (*seconds).into();
        }
        format!("{line}\n")
    };
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.lines().map(timed).collect::<String>()).unwrap();
    project
}

fn plan(project: &Project, more: &[&str]) -> Value {
    let args: Vec<&str> = ["plan", "p.toml", "--json"].iter().chain(more).copied().collect();
    let plan = project.pipe(&args);
    assert_eq!(plan.code, 0, "{}", plan.stderr);
    serde_json::from_str(&plan.stdout).unwrap()
}

fn step<'a>(plan: &'a Value, name: &str) -> &'a Value {
    plan["steps"].as_array().unwrap().iter().find(|step| step["step"] == name).unwrap()
}

fn forget_results(project: &Project) {
    for part in ["actions", "rows"] {
        fs::remove_dir_all(project.path(".pipe").join(part)).unwrap();
    }
}

#[test]
fn an_estimate_is_rows_times_the_pace_of_past_runs() {
    let project = past();
    let nothing = plan(&project, &[]);
    assert!(nothing.get("estimate").is_none(), "{nothing}");
    let texts = fs::read_to_string(project.path("texts.jsonl")).unwrap();
    fs::write(project.path("texts.jsonl"), texts.replace("text 1", "other text 1")).unwrap();
    let plan = plan(&project, &[]);
    assert_eq!(step(&plan, "texts")["seconds"], 8.0, "a source is read as a whole");
    let long = step(&plan, "long");
    assert_eq!((&long["rows"]["execute"], &long["seconds"]), (&11.into(), &(11.0 * (6.0 / 60.0)).into()), "{long}");
    assert!(step(&plan, "photos").get("seconds").is_none(), "nothing is to be done");
    assert_eq!(plan["estimate"]["without"], Value::Array(Vec::new()));
}

#[test]
fn steps_that_fit_beside_each_other_take_the_time_of_the_longest() {
    let project = past();
    forget_results(&project);
    let seen = project.pipe(&["plan", "p.toml"]);
    insta::assert_snapshot!("all", seen.stdout);
    // Two downloads at once, then four steps that take all cores, one after another.
    let plan = plan(&project, &[]);
    let seconds = |name| step(&plan, name)["seconds"].as_f64().unwrap();
    let rest: f64 = ["clean", "thumbnails", "long", "parts"].into_iter().map(seconds).sum();
    assert!((8.0 + rest..=10.0 + rest).contains(&plan["estimate"]["seconds"].as_f64().unwrap()), "{plan}");
}

#[test]
fn what_never_ran_has_no_estimate() {
    let project = past();
    forget_results(&project);
    let spec = fs::read_to_string(project.path("p.toml")).unwrap();
    project.write(
        "p.toml",
        format!("{spec}\n[profiles.smoke]\nsize = 4\n")
            .replace("[steps.long]", "[steps.longer]")
            .replace("rows = \"long\"", "rows = \"longer\""),
    );
    insta::assert_snapshot!("some", project.pipe(&["plan", "p.toml"]).stdout);
    let smoke = project.pipe(&["plan", "p.toml", "--profile", "smoke"]).stdout;
    assert!(smoke.ends_with("6 steps of 6 would run; no estimate: no past run tells how long\n"), "{smoke}");
}

/// The most memory a process held, in kB, as far as it was seen before its end.
fn peak_of(mut child: std::process::Child) -> u64 {
    // What it prints has to go somewhere.
    let printed =
        child.stdout.take().map(|mut out| std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink())));
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(peak);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    printed.map(|reader| reader.join().unwrap().unwrap());
    assert!(child.wait().unwrap().success());
    peak
}

#[test]
fn a_matrix_shares_the_rows_that_it_is_planned_on() {
    let project = Project::empty();
    let row = |n: u32| format!("{{\"id\": \"r-{n}\", \"caption\": \"text {n}\"}}\n");
    project.write("texts.jsonl", (0..500).map(row).collect::<String>());
    let values: Vec<u32> = (0..1000).collect();
    let spec = format!(
        "name = \"p\"\n[steps.texts]\nstage = \"download\"\nsource = \"texts.jsonl\"\nid = \"id\"\n[steps.kept]\nstage = \"filter\"\n\
         inputs = {{ rows = \"texts\" }}\nmatrix = {{ a = {values:?} }}\nkeep = \"size(caption) < ${{a}}\"\n\
         [steps.again]\nstage = \"filter\"\ninputs = {{ rows = \"kept[a=${{b}}]\" }}\nmatrix = {{ b = {values:?} }}\nkeep = \"id != '${{b}}'\"\n"
    );
    project.write("p.toml", spec);
    let peak = peak_of(project.start(&["plan", "p.toml"]));
    assert!((1..250_000).contains(&peak), "a million rows in {peak} kB");
}
