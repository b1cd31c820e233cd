//! The interface: alignment by id, policies, signatures, reasons, comparisons.

use pipe_metrics::{
    AttributeWords, DocumentFrequencies, Error, Item, METRICS, Missing, Options, Outcome, Reason, Resampling, Task,
    TaskItem, score,
};

fn references() -> Vec<TaskItem> {
    let item = |id: &str, references: &[&str], source: Option<&str>| TaskItem {
        id: id.to_owned(),
        references: references.iter().map(|&text| text.to_owned()).collect(),
        source: source.map(str::to_owned),
    };
    vec![
        item("a", &["A red house.", "There is a red house."], Some("a red house")),
        item("b", &["Two dogs run."], Some("two dogs run")),
        item("c", &[], None),
    ]
}

fn task() -> Task {
    Task::new(references()).expect("ids are unique")
}

const HYPOTHESES: [(&str, &str); 3] = [("c", "a boat"), ("a", "a bright red house"), ("b", "two dogs")];

fn options(missing: Missing) -> Options {
    Options { missing, resampling: Resampling { resamples: 200, ..Resampling::default() } }
}

#[test]
fn hypotheses_meet_their_items_by_id() {
    let scores = task().score(&["bleu_1"], HYPOTHESES, &Options::default()).expect("all items have a hypothesis");
    let value = scores.value("bleu_1").expect("two items have references");
    assert_eq!(scores.ids, ["a", "b", "c"]);
    assert!((value.items[0].expect("a") - 0.75).abs() < 1e-6);
    assert!((value.items[1].expect("b") - (1.0_f64 - 1.5).exp()).abs() < 1e-6);
    assert_eq!(value.items[2], None);
    assert_eq!((value.counted, value.left_out[&Reason::NoReferences]), (2, 1));
}

#[test]
fn repeated_unknown_and_missing_hypotheses_are_listed() {
    let error = |hypotheses: &[(&'static str, &'static str)]| {
        task().score(&["bleu_1"], hypotheses.iter().copied(), &Options::default()).expect_err("cannot be aligned")
    };
    let ids = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();
    assert_eq!(error(&[("a", "x"), ("a", "y")]), Error::DuplicateHypotheses { ids: ids(&["a"]) });
    assert_eq!(error(&[("a", "x"), ("z", "y")]), Error::UnknownHypotheses { ids: ids(&["z"]) });
    assert_eq!(error(&[("b", "x")]), Error::MissingHypotheses { ids: ids(&["a", "c"]) });
}

#[test]
fn missing_hypotheses_can_be_skipped_or_counted_as_empty_and_the_signature_says_so() {
    let with =
        |missing| task().score(&["bleu_1", "adjectives"], [("a", "a red house")], &options(missing)).expect("allowed");
    let (skipped, empty) = (with(Missing::Skip), with(Missing::Empty));
    assert_eq!(skipped.missing, ["b", "c"]);
    let counted = |scores: &pipe_metrics::Scores| scores.value("adjectives").map(|value| (value.counted, value.corpus));
    assert_eq!(counted(&skipped), Some((1, 1.0)));
    assert_eq!(counted(&empty), Some((3, 1.0 / 3.0)));
    assert_eq!(empty.value("bleu_1").and_then(|value| value.items[1]), Some(0.0));
    assert_eq!(empty.value("bleu_1").and_then(|value| value.signature.field("missing")), Some("empty"));
}

#[test]
fn bad_tasks_are_refused() {
    let twice = [references(), references()].concat();
    assert_eq!(
        Task::new(twice).err(),
        Some(Error::DuplicateItems { ids: vec!["a".to_owned(), "b".to_owned(), "c".to_owned()] })
    );
    let blank = TaskItem { id: "x".to_owned(), references: vec!["a dog".to_owned(), " \n".to_owned()], source: None };
    assert_eq!(Task::new(vec![blank]).err(), Some(Error::EmptyReferences { ids: vec!["x".to_owned()] }));
}

#[test]
fn unknown_metrics_are_refused_with_the_list_of_known_ones() {
    let error = task().score(&["bleu"], HYPOTHESES, &Options::default()).expect_err("no such metric");
    let message = error.to_string();
    assert!(message.contains("`bleu`") && METRICS.iter().all(|metric| message.contains(metric.name)), "{message}");
}

#[test]
fn metrics_without_what_they_need_are_not_computed_rather_than_zero() {
    let lonely = |references: &[&str]| Item {
        id: "1".to_owned(),
        hypothesis: Some("a red house".to_owned()),
        references: references.iter().map(|&text| text.to_owned()).collect(),
        source: None,
    };
    let reason = |item: Item, metric: &str| match &score(&[metric], &[item], &Options::default())
        .expect("one item")
        .metrics[metric]
    {
        Outcome::NotComputed(reason) => Some(*reason),
        Outcome::Computed(_) => None,
    };
    for metric in METRICS {
        let expected = if metric.needs_references {
            Some(Reason::NoReferences)
        } else if metric.needs_source {
            Some(Reason::NoSource)
        } else {
            None
        };
        assert_eq!(reason(lonely(&[]), metric.name), expected, "{}", metric.name);
    }
    assert_eq!(reason(lonely(&["a red house"]), "cider_d"), Some(Reason::OneDocument));
    assert!(Reason::NoReferences.to_string().starts_with("not computed: no references"));
}

#[test]
fn sources_without_pairs_are_counted_apart() {
    let scores = task().score(&["pairs_kept", "pairs_all_kept"], HYPOTHESES, &Options::default()).expect("scores");
    let value = scores.value("pairs_kept").expect("one source has a pair");
    assert_eq!((value.corpus, value.counted), (1.0, 1));
    assert_eq!((value.left_out[&Reason::NoPairs], value.left_out[&Reason::NoSource]), (1, 1));
    assert_eq!(value.signature.field("words"), Some("colours-11"));
}

#[test]
fn the_list_of_attributes_can_be_changed() {
    let task = task().with_attributes(AttributeWords::new(["two"]));
    let scores = task.score(&["pairs_all_kept"], HYPOTHESES, &Options::default()).expect("scores");
    let value = scores.value("pairs_all_kept").expect("one source has a pair");
    assert_eq!((value.corpus, value.counted, value.signature.field("words")), (1.0, 1, Some("two")));
}

#[test]
fn one_item_gets_cider_with_frequencies_of_another_corpus() {
    let item = TaskItem { id: "1".to_owned(), references: vec!["a red house".to_owned()], source: None };
    let corpus = DocumentFrequencies::of_corpus([["a red house"], ["two dogs run"], ["a boat"]]);
    let task = Task::new(vec![item]).expect("one id").with_document_frequencies(corpus);
    let scores = task.score(&["cider_d"], [("1", "a red house")], &Options::default()).expect("scores");
    let value = scores.value("cider_d").expect("three documents");
    // Three words have no 4-gram, so one of the four orders is 0.
    assert!((value.corpus - 7.5).abs() < 1e-9, "{}", value.corpus);
    assert_eq!(value.signature.field("df"), Some("outside-3"));
}

#[test]
fn every_value_says_how_it_was_made() {
    let names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
    let scores = task().score(&names, HYPOTHESES, &options(Missing::Error)).expect("scores");
    for metric in METRICS {
        let value = scores.value(metric.name).unwrap_or_else(|| panic!("{} is computed", metric.name));
        let signature = value.signature.to_string();
        assert!(signature.starts_with(&format!("{}|variant:{}|tok:", metric.name, metric.variant)), "{signature}");
        assert!(signature.ends_with(concat!("|version:", env!("CARGO_PKG_VERSION"))), "{signature}");
        assert_eq!(value.signature.field("refs").is_some(), metric.needs_references, "{signature}");
        assert_eq!(value.signature.field("tagger").is_some(), !metric.needs_references, "{signature}");
        assert_eq!(value.interval.is_some(), metric.has_interval, "{signature}");
        assert_eq!(value.items.len(), 3);
    }
    assert_eq!(scores.value("bleu_4").and_then(|value| value.signature.field("refs")), Some("1-2"));
}

#[test]
fn systems_on_the_same_items_are_compared_item_by_item() {
    let task = task();
    let good = task.score(&["bleu_1", "adjectives_total"], HYPOTHESES, &options(Missing::Error)).expect("scores");
    let bad = [("a", "a boat"), ("b", "a boat"), ("c", "a boat")];
    let bad = task.score(&["bleu_1", "adjectives_total"], bad, &options(Missing::Error)).expect("scores");
    let found = good.difference(&bad, "bleu_1", Resampling::default()).expect("both have it");
    let corpus = |scores: &pipe_metrics::Scores| scores.value("bleu_1").map(|value| value.corpus).unwrap_or_default();
    assert!((found.difference - (corpus(&good) - corpus(&bad))).abs() < 1e-12);
    assert!(found.interval.low > 0.0 && found.items == 2, "{found:?}");
    assert!(matches!(good.difference(&bad, "cider_d", Resampling::default()), Err(Error::NotComparable { .. })));
    assert!(matches!(
        good.difference(&bad, "adjectives_total", Resampling::default()),
        Err(Error::NotComparable { .. })
    ));
}

#[test]
fn scores_of_different_items_are_not_compared() {
    let other = Task::new(references().into_iter().take(2).collect()).expect("ids are unique");
    let left = task().score(&["bleu_1"], HYPOTHESES, &options(Missing::Error)).expect("scores");
    let right = other.score(&["bleu_1"], [("a", "x"), ("b", "y")], &options(Missing::Error)).expect("scores");
    assert!(matches!(left.difference(&right, "bleu_1", Resampling::default()), Err(Error::NotComparable { .. })));
}

#[test]
fn scores_become_json_without_special_numbers() {
    let scores = task().score(&["bleu_4", "cider_d"], HYPOTHESES, &options(Missing::Error)).expect("scores");
    let json = serde_json::to_value(&scores).expect("scores are JSON");
    assert!(json["metrics"]["bleu_4"]["computed"]["corpus"].is_f64());
    assert_eq!(json["metrics"]["bleu_4"]["computed"]["left_out"]["no_references"], 1);
    assert!(
        json["metrics"]["cider_d"]["computed"]["signature"].as_str().is_some_and(|text| text.starts_with("cider_d|"))
    );
}
