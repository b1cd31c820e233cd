//! What pipelines can say of their steps, on toy stages: matrices, conditions, expectations, limits, retries.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod toys;

use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pipe_engine::event::Event;
use pipe_engine::problem::FailureClass;
use pipe_engine::run::{self, find_all, missing_credentials};
use pipe_engine::source::{Credentials, Secret};
use pipe_engine::step::Level;
use toys::{TRIES, Toy, graph, wrong};

const MATRIX: &str = r#"
name = "toy"
[params]
ranks = [8, 16]
[steps.plain]
stage = "say"
[steps.train]
stage = "say"
matrix = { r = "${ranks}", lr = [1e-4, 0.5] }
text = "${r} at ${lr}"
when = "!(r == 16 && lr > 0.1)"
[steps.test]
stage = "say"
matrix = { r = [8, 16] }
text = "rank ${r}"
inputs = { before = "train[lr=1e-4, r=${r}]" }
[steps.list]
stage = "list"
inputs = { all = ["plain", "train[*]"] }
[steps.some]
stage = "list"
inputs = { all = { base = "plain", tuned = "train[r=8,*]", half = "train[*,lr=0.5].said" } }
"#;

fn names(spec: &str) -> Vec<String> {
    graph(spec).unwrap().steps.into_iter().map(|step| step.name).collect()
}

fn edges(spec: &str, step: &str) -> Vec<(String, String)> {
    let graph = graph(spec).unwrap();
    let step = &graph.steps[graph.find(step).unwrap()];
    step.inputs.iter().map(|edge| (edge.label.clone(), edge.from.clone())).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(label, from)| ((*label).to_owned(), (*from).to_owned())).collect()
}

#[test]
fn a_matrix_makes_a_step_of_every_combination() {
    assert_eq!(
        names(MATRIX),
        [
            "plain",
            "train[r=8,lr=0.0001]",
            "train[r=8,lr=0.5]",
            "train[r=16,lr=0.0001]",
            "test[r=8]",
            "test[r=16]",
            "list",
            "some"
        ]
    );
    let graph = graph(MATRIX).unwrap();
    assert_eq!(graph.steps[3].params["text"], "16 at 0.0001");
    let left: Vec<(&str, &str)> = graph.left_out.iter().map(|one| (one.step.as_str(), one.place.as_str())).collect();
    assert_eq!(left, [("train[r=16,lr=0.5]", "toy.toml:11:8")]);
}

#[test]
fn references_mean_instances_and_labels_say_which() {
    let train = |values: &str| format!("train[{values}]");
    assert_eq!(edges(MATRIX, "test[r=16]"), [("train[r=16,lr=0.0001]".to_owned(), train("r=16,lr=0.0001"))]);
    assert_eq!(
        edges(MATRIX, "list"),
        pairs(&[
            ("plain", "plain"),
            ("r=8,lr=0.0001", "train[r=8,lr=0.0001]"),
            ("r=8,lr=0.5", "train[r=8,lr=0.5]"),
            ("r=16,lr=0.0001", "train[r=16,lr=0.0001]"),
        ])
    );
    assert_eq!(
        edges(MATRIX, "some"),
        pairs(&[
            ("base", "plain"),
            ("tuned[r=8,lr=0.0001]", "train[r=8,lr=0.0001]"),
            ("tuned[r=8,lr=0.5]", "train[r=8,lr=0.5]"),
            ("half[r=8,lr=0.5]", "train[r=8,lr=0.5].said"),
        ])
    );
}

#[test]
fn the_command_line_names_all_instances_or_some() {
    let graph = graph(MATRIX).unwrap();
    let selected = |name: &str| {
        let wanted = graph.select(&[name.to_owned()]).map_err(|error| error.to_string())?;
        let names = graph.steps.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(step, _)| step.name.clone());
        Ok::<_, String>(names.collect::<Vec<_>>())
    };
    assert_eq!(selected("train").unwrap().len(), 3);
    assert_eq!(selected("train[lr=1e-4,r=8]").unwrap(), ["train[r=8,lr=0.0001]"]);
    assert_eq!(selected("test[r=8]").unwrap(), ["train[r=8,lr=0.0001]", "test[r=8]"]);
    assert_eq!(
        selected("train[r=16,lr=0.5]").unwrap_err(),
        "there is no step `train[r=16,lr=0.5]` now: its `when` is false; toy.toml:11:8 says when it is"
    );
    assert_eq!(selected("trian").unwrap_err(), "there is no step `trian`; did you mean `train`?");
    assert_eq!(graph.locate("train[r=8,lr=0.5].said").unwrap(), (2, Some("said".to_owned())));
    assert!(graph.locate("train").unwrap_err().to_string().starts_with("`train` is 4 steps"));
    assert!(graph.locate("train[*]").unwrap_err().to_string().contains("means several steps"));
}

#[test]
fn instances_run_and_are_reused_like_any_step() {
    let toy = Toy::new();
    assert_eq!(toy.run(MATRIX).executed().len(), 8);
    assert_eq!(toy.run(MATRIX).executed(), [""; 0]);
    // One more value makes one more step; those that were there keep their keys.
    let more = MATRIX.replace("when = \"!(r == 16 && lr > 0.1)\"\n", "");
    assert_eq!(toy.run(&more).executed(), ["list", "some", "train[r=16,lr=0.5]"]);
}

#[test]
fn replicates_differ_in_their_seed_alone() {
    let spec = |own: &str| format!("name = \"toy\"\n[steps.a]\nstage = \"say\"\nreplicates = 3\n{own}");
    let seeds = |own: &str| -> Vec<u64> {
        let graph = graph(&spec(own)).unwrap();
        graph.steps.iter().map(|step| step.params["seed"].as_u64().unwrap()).collect()
    };
    assert_eq!(names(&spec("")), ["a[replicate=0]", "a[replicate=1]", "a[replicate=2]"]);
    assert_eq!(seeds(""), seeds("seed = 12345"), "the default is the step's own seed");
    assert_ne!(seeds(""), seeds("seed = 1"));
    assert!(seeds("").iter().all(|seed| *seed <= u32::MAX.into() && *seed != 12_345));
    assert_eq!(names(&spec("matrix = { x = [1, 2] }\ntext = \"x ${x}\"")).len(), 6);
    let none = spec("").replace("say", "list");
    assert!(wrong(&none).contains("toy.toml:4:14: `list` has no `seed`: its replicates would all be the same"));
}

#[test]
fn what_is_left_out_is_missed_where_it_is_needed() {
    let spec =
        |rest: &str| format!("name = \"toy\"\n[params]\nn = 1\n[steps.a]\nstage = \"say\"\nwhen = \"n > 1\"\n{rest}");
    assert_eq!(names(&spec("[steps.b]\nstage = \"say\"\ninputs = { before = \"a\" }\n")), ["b"]);
    assert_eq!(
        edges(
            &spec("[steps.b]\nstage = \"say\"\n[steps.c]\nstage = \"list\"\ninputs = { all = [\"a\", \"b\"] }\n"),
            "c"
        ),
        pairs(&[("b", "b")])
    );
    for needs in [
        "[steps.b]\nstage = \"pick\"\ninputs = { one = \"a\" }\n",
        "[steps.b]\nstage = \"list\"\ninputs = { all = [\"a\"] }\n",
    ] {
        let told = wrong(&spec(needs));
        assert!(
            told.contains("there is no `a` now: its `when` is false; `n > 1` at toy.toml:6:8 turned it off"),
            "{told}"
        );
    }
    assert!(
        wrong(&spec("").replace("n > 1", "m > 1"))
            .contains("toy.toml:6:9: in `m > 1`: there is no `m`; did you mean `n`?")
    );
    assert!(wrong(&spec("").replace("n > 1", "n +")).contains("`n +` is not an expression"));
    assert!(wrong(&spec("").replace("n > 1", "n + 1")).contains("it yields int, not true or false"));
}

fn measured(expect: &str) -> String {
    format!(
        "name = \"toy\"\n[steps.m]\nstage = \"measure\"\nmetrics = {{ loss = 0.5, bleu = {{ mean = 3 }} }}\nexpect = {expect}\n[steps.after]\nstage = \"list\"\ninputs = {{ all = [\"m\"] }}\n"
    )
}

#[test]
fn expectations_are_checked_when_a_step_ran_and_when_it_did_not() {
    let toy = Toy::new();
    let good = measured(r#"["loss < 1", "bleu.mean * 2.5 > 7 && effort == 7", "seconds < 3600"]"#);
    assert!(toy.run(&good).summary.complete());
    // What was measured is known of a result that was there, too.
    let again = toy.run(&good);
    assert!(again.summary.complete() && again.executed().is_empty());
    let bad = measured(r#"["loss < 1", "bleu.mean >= 5.0", "loss > bleu.mean"]"#);
    for toy in [&Toy::new(), &toy, &toy] {
        let ran = toy.run(&bad);
        assert_eq!(ran.failed(), [("m", (
            FailureClass::Expectation,
            "expected `bleu.mean >= 5.0` (toy.toml:5:23), but bleu.mean is 3\nexpected `loss > bleu.mean` (toy.toml:5:43), but loss is 0.5, bleu.mean is 3"
        ))].into());
        assert_eq!(ran.summary.skipped, ["after"]);
    }
    // What it gave was kept all the same.
    let found =
        toy.with(&bad, &Credentials::default(), |graph, _, context, _| find_all(graph, context).unwrap()[0].is_some());
    assert!(found);
}

#[test]
fn a_warning_stops_nothing() {
    let ran = Toy::new().run(&measured(r#"[{ that = "los > 1", otherwise = "warn" }]"#));
    assert!(ran.summary.complete());
    let warned = ran.events.iter().any(|event| {
        matches!(event, Event::Log { level: Level::Warning, message, .. }
        if message == "cannot tell whether `los > 1` (toy.toml:5:20): there is no `los`; did you mean `loss`?")
    });
    assert!(warned, "{:?}", ran.events);
}

#[test]
fn too_many_failed_rows_fail_the_step() {
    let toy = Toy::new();
    let spec = |limit: &str| {
        format!("name = \"toy\"\n[steps.r]\nstage = \"rows\"\ngood = 97\nbad = 3\nmax_failed_rows = {limit}\nexpect = \"rows.kept == 97\"\n").replace("expect = \"rows.kept == 97\"", "expect = [\"rows.kept == 97 && rows.failed == 3\"]")
    };
    for (limit, told) in [("2", 2), ("\"2.5%\"", 2), ("0", 0)] {
        let ran = toy.run(&spec(limit));
        let message = format!("3 of 100 rows failed, and `max_failed_rows` allows {told}: 3 torn");
        assert_eq!(ran.failed()["r"], (FailureClass::Expectation, message.as_str()));
        assert_eq!(
            ran.summary.failures[0].1.help.as_ref().unwrap(),
            "`pipe show toy.toml r --left-out` lists them; the others are kept"
        );
    }
    let ran = toy.run(&spec("\"3%\""));
    assert!(ran.summary.complete() && ran.executed().is_empty(), "the rows were kept");
    let none = wrong("name = \"toy\"\n[steps.s]\nstage = \"say\"\nmax_failed_rows = 1\n");
    assert!(none.contains("toy.toml:4:19: `say` works on no rows that could fail"), "{none}");
}

#[test]
fn what_may_pass_is_tried_again() {
    let toy = Toy::new();
    TRIES.store(0, Ordering::SeqCst);
    let spec = "name = \"toy\"\n[steps.a]\nstage = \"say\"\nmood = \"flaky\"\nretries = 2\n[steps.b]\nstage = \"say\"\nmood = \"bad\"\nretries = 5\n";
    let started = Instant::now();
    let ran = toy.run(spec);
    assert_eq!(ran.executed(), ["a"]);
    assert!(started.elapsed() >= Duration::from_secs(3), "it waits 1 s, then 2 s");
    let retries: Vec<(String, u32, f64)> = ran
        .events
        .iter()
        .filter_map(|event| match event {
            Event::StepRetried { step, retry, wait, .. } => Some((step.clone(), *retry, *wait)),
            _ => None,
        })
        .collect();
    assert_eq!(retries, [("a".to_owned(), 1, 1.0), ("a".to_owned(), 2, 2.0)]);
    assert_eq!(ran.failed()["b"], (FailureClass::Input, "as asked"), "which would fail again");
}

/// Nothing is lost after all, so what the step needed lies elsewhere now; once, or it would never end.
#[test]
fn a_step_whose_input_moved_is_tried_once_more() {
    for (mood, tries, executed) in [("moved", 2, vec!["a", "b"]), ("gone", 2, vec!["a"])] {
        TRIES.store(0, Ordering::SeqCst);
        let spec = format!(
            "name = \"toy\"\n[steps.a]\nstage = \"say\"\n[steps.b]\nstage = \"say\"\nmood = \"{mood}\"\ninputs = {{ before = \"a\" }}\n"
        );
        let ran = Toy::new().run(&spec);
        assert_eq!((ran.executed(), TRIES.load(Ordering::SeqCst)), (executed, tries));
    }
}

#[test]
fn a_step_that_takes_too_long_is_ended() {
    let started = Instant::now();
    let ran = Toy::new()
        .run("name = \"toy\"\n[steps.a]\nstage = \"say\"\nmood = \"slow\"\ntimeout = \"50ms\"\nretries = 1\n");
    assert_eq!(ran.failed()["a"], (FailureClass::Transient, "took longer than 50ms and was ended"));
    assert!(started.elapsed() < Duration::from_secs(10));
    let starts = ran.events.iter().filter(|event| matches!(event, Event::StepStarted { .. })).count();
    assert_eq!(starts, 2);
}

#[test]
fn an_interruption_does_not_wait_for_the_next_try() {
    let spec = "name = \"toy\"\n[steps.a]\nstage = \"say\"\nmood = \"slow\"\ntimeout = 0.01\nretries = 20\n";
    let started = Instant::now();
    let summary = Toy::new().with(spec, &Credentials::default(), |graph, wanted, context, _| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(1500));
                context.cancel.store(true, Ordering::Relaxed);
            });
            run::run(graph, wanted, context)
        })
    });
    assert!(summary.interrupted && summary.failures.is_empty(), "{:?}", summary.failures);
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_missing_credential_is_found_before_the_run() {
    let toy = Toy::new();
    let spec = "name = \"toy\"\n[steps.s]\nstage = \"secret\"\n";
    let missing = |credentials: &Credentials| {
        toy.with(spec, credentials, |graph, wanted, context, _| missing_credentials(graph, wanted, context).unwrap())
    };
    let told: Vec<String> = missing(&Credentials::default()).iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "toy.toml:2:8: `secret` of step `s` needs TOY_TOKEN, which is not set; set the environment variable TOY_TOKEN"
        ]
    );
    assert!(missing(&Credentials([("TOY_TOKEN".to_owned(), Secret::new("x"))].into())).is_empty());
    toy.run(spec);
    assert!(missing(&Credentials::default()).is_empty(), "what is there needs none");
}

#[test]
fn settings_are_in_no_key() {
    let toy = Toy::new();
    let spec = "name = \"toy\"\n[steps.a]\nstage = \"say\"\n";
    toy.run(spec);
    let settings = "retries = 3\ntimeout = \"1h\"\nresources = { cpu = 2, memory = \"1GB\" }\nexpect = [\"seconds >= 0\"]\nwhen = true\n";
    assert_eq!(toy.run(&format!("{spec}{settings}")).executed(), [""; 0]);
}

#[test]
fn a_thousand_steps_in_a_row_or_side_by_side_are_no_matter() {
    let mut chain = "name = \"toy\"\n[steps.s0]\nstage = \"say\"\n".to_owned();
    for at in 1..1000 {
        write!(chain, "[steps.s{at}]\nstage = \"say\"\ntext = \"{at}\"\ninputs = {{ before = \"s{}\" }}\n", at - 1)
            .unwrap();
    }
    assert_eq!(Toy::new().run(&chain).executed().len(), 1000);
    let values = (0..1000).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let wide = format!(
        "name = \"toy\"\n[steps.a]\nstage = \"say\"\nmatrix = {{ n = [{values}] }}\ntext = \"n ${{n}}\"\n[steps.all]\nstage = \"list\"\ninputs = {{ all = \"a[*]\" }}\n"
    );
    assert_eq!(Toy::new().run(&wide).executed().len(), 1001);
    let circle = chain.replacen("stage = \"say\"\n", "stage = \"say\"\ninputs = { before = \"s999\" }\n", 1);
    assert!(wrong(&circle).contains("steps depend on each other in a circle: s0, s1, s2"));
}
