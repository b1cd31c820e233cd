//! Tokens and scores against those of pycocoevalcap, on captions of our own (`golden/make.py` made the numbers).

use std::collections::BTreeMap;

use pipe_metrics::{Item, Options, Scores, ptb, score};
use serde_json::Value as Json;

fn read(text: &str) -> Json {
    serde_json::from_str(text).expect("golden files are JSON")
}

fn captions() -> Json {
    read(include_str!("golden/captions.json"))
}

fn expected() -> Json {
    read(include_str!("golden/expected.json"))
}

fn text(value: &Json) -> String {
    value.as_str().expect("a text").to_owned()
}

fn list(value: &Json) -> &[Json] {
    value.as_array().expect("a list")
}

fn items() -> Vec<Item> {
    let item = |item: &Json| Item {
        id: text(&item["id"]),
        hypothesis: Some(text(&item["hypothesis"])),
        references: list(&item["references"]).iter().map(text).collect(),
        source: None,
    };
    list(&captions()).iter().map(item).collect()
}

#[test]
fn tokens_are_those_of_the_reference() {
    let expected = expected();
    let tokens = expected["tokens"].as_object().expect("tokens by text");
    assert!(tokens.len() > 100);
    let mut different = BTreeMap::new();
    for (caption, wanted) in tokens {
        let found = ptb::all_tokens(caption).join(" ");
        if found != text(wanted) {
            different.insert(caption, (found, text(wanted)));
        }
    }
    assert!(different.is_empty(), "{different:#?}");
}

#[test]
fn scores_are_those_of_the_reference() {
    let expected = expected();
    let wanted = expected["scores"].as_object().expect("scores by metric");
    let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
    assert_eq!(names.len(), 7);
    let scores = score(&names, &items(), &Options::default()).expect("the captions can be scored");
    for (name, wanted) in wanted {
        compare(name, wanted, &scores);
    }
}

fn compare(name: &str, wanted: &Json, scores: &Scores) {
    const TOLERANCE: f64 = 1e-12;
    let value = scores.value(name).expect("every item has references");
    let corpus = wanted["corpus"].as_f64().expect("a number");
    assert!((value.corpus - corpus).abs() < TOLERANCE, "{name}: {} is not {corpus}", value.corpus);
    let items = list(&wanted["items"]);
    assert_eq!(items.len(), value.items.len());
    for ((id, wanted), found) in scores.ids.iter().zip(items).zip(&value.items) {
        let (found, wanted) = (found.expect("a value"), wanted.as_f64().expect("a number"));
        assert!((found - wanted).abs() < TOLERANCE, "{name} of {id}: {found} is not {wanted}");
    }
}
