use std::collections::BTreeMap;

use pipe_engine::cell::Schema;
use pipe_engine::stage::Shape;
use pipe_engine::step::Inputs;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn schema() -> Schema {
    Schema::default().with(&[("scene".to_owned(), ColumnType::Text), ("score".to_owned(), ColumnType::Float)])
}

fn declared(params: &Value) -> Result<Contract, Problem> {
    let shape = Shape { label: "pairs".to_owned(), kind: DATASET.to_owned(), schema: Some(schema()) };
    let inputs = BTreeMap::from([("rows".to_owned(), vec![shape])]);
    declare(&Declare { params, inputs: &inputs, resolution: None })
}

/// Where each row goes, by id.
fn split(params: &Value, rows: &[Row]) -> BTreeMap<String, usize> {
    let columns = vec!["scene".to_owned()];
    let stage = load(&Load {
        params,
        inputs: &Inputs::new(),
        columns: &columns,
        schema: &schema(),
        place: pipe_engine::stage::Place::default(),
    })
    .unwrap();
    let port = |assignment| match assignment {
        Assignment::Keep { port, .. } => port,
        other => panic!("split drops nothing: {other:?}"),
    };
    let ports = crate::testing::assign(stage.as_ref(), rows, 7).into_iter().map(port);
    rows.iter().map(|row| row.id.clone()).zip(ports).collect()
}

fn rows(ids: impl IntoIterator<Item = u32>) -> Vec<Row> {
    ids.into_iter().map(|id| Row { id: format!("row {id}"), cells: vec![Cell::Null] }).collect()
}

fn count(places: &BTreeMap<String, usize>, port: usize) -> usize {
    places.values().filter(|place| **place == port).count()
}

/// How many rows that both have lie elsewhere.
fn moved(before: &BTreeMap<String, usize>, after: &BTreeMap<String, usize>) -> usize {
    before.iter().filter(|(id, place)| after.get(*id).is_some_and(|now| now != *place)).count()
}

#[test]
fn parts_are_ports_in_order_of_name() {
    let contract = declared(&json!({ "parts": { "train": 0.9, "test": 0.1 }, "group": "scene" })).unwrap();
    assert_eq!(contract.outputs.iter().map(|o| o.port.as_str()).collect::<Vec<_>>(), ["test", "train"]);
    assert_eq!(contract.reads["rows"], pipe_engine::stage::Reads::Columns(vec!["scene".into(), "id".into()]));
}

#[test]
fn mistakes_are_found_at_their_parameter() {
    let message = |params: Value| {
        let problem = declared(&params).unwrap_err();
        format!("{:?}: {}", problem.subject, problem.message)
    };
    assert_eq!(message(json!({ "parts": { "all": 1.0 } })), "Param(\"parts\"): 1 part is not a split");
    assert_eq!(message(json!({ "parts": { "a": 0.5, "b": 0.4 } })), "Param(\"parts\"): the shares sum to 0.9, not 1");
    assert_eq!(
        message(json!({ "parts": { "a": 1.5, "b": -0.5 } })),
        "Param(\"parts.a\"): a share of 1.5 is not between 0 and 1"
    );
    assert_eq!(message(json!({ "parts": { "a b": 0.5, "c": 0.5 } })), "Param(\"parts.a b\"): `a b` cannot name a part");
    assert_eq!(
        message(json!({ "parts": { "a": 0.5, "b": 0.5 }, "group": "score" })),
        "Param(\"group\"): column `score` is float, expected text or int or bool or image"
    );
}

#[test]
fn shares_are_exact() {
    let places = split(&json!({ "parts": { "a": 0.7, "b": 0.2, "c": 0.1 } }), &rows(0..1000));
    assert_eq!([count(&places, 0), count(&places, 1), count(&places, 2)], [700, 200, 100]);
    let other = split(&json!({ "parts": { "a": 0.7, "b": 0.2, "c": 0.1 }, "seed": 1 }), &rows(0..1000));
    assert_ne!(places, other);
}

#[test]
fn groups_stay_together() {
    let rows: Vec<Row> = (0..300_u32)
        .map(|id| Row { id: id.to_string(), cells: vec![Cell::Text(format!("scene {}", id % 20))] })
        .collect();
    let places = split(&json!({ "parts": { "a": 0.75, "b": 0.25 }, "group": "scene" }), &rows);
    assert_eq!(count(&places, 1), 75);
    for id in 0..300_u32 {
        assert_eq!(places[&id.to_string()], places[&(id % 20).to_string()]);
    }
}

#[test]
fn nothing_splits_into_nothing() {
    assert!(split(&json!({ "parts": { "a": 0.5, "b": 0.5 } }), &[]).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn by_rank_an_edit_moves_at_most_one_row_per_border(
        ids in proptest::collection::btree_set(0..500_u32, 1..200),
        edits in proptest::collection::btree_set(0..500_u32, 1..20),
        seed in any::<u32>(),
        three in any::<bool>(),
    ) {
        let parts = if three { json!({ "a": 0.6, "b": 0.3, "c": 0.1 }) } else { json!({ "a": 0.9, "b": 0.1 }) };
        let borders = if three { 2 } else { 1 };
        let params = json!({ "parts": parts, "seed": seed });
        // Each edit inserts a row, or deletes one that is there.
        let edited = rows(ids.symmetric_difference(&edits).copied());
        let before = split(&params, &rows(ids.iter().copied()));
        let after = split(&params, &edited);
        prop_assert!(moved(&before, &after) <= borders * edits.len());
    }

    #[test]
    fn by_rank_each_part_has_its_share_to_one_row(count_of_rows in 0..400_u32, seed in any::<u32>()) {
        let params = json!({ "parts": { "a": 0.57, "b": 0.29, "c": 0.14 }, "seed": seed });
        let places = split(&params, &rows(0..count_of_rows));
        for (port, share) in [0.57, 0.29, 0.14].into_iter().enumerate() {
            let exact = share * f64::from(count_of_rows);
            prop_assert!((count(&places, port) as f64 - exact).abs() <= 1.0);
        }
    }

    #[test]
    fn by_threshold_an_edit_moves_nothing(
        ids in proptest::collection::btree_set(0..500_u32, 1..200),
        edits in proptest::collection::btree_set(0..500_u32, 1..20),
    ) {
        let params = json!({ "parts": { "a": 0.6, "b": 0.4 }, "method": "threshold" });
        let edited = rows(ids.symmetric_difference(&edits).copied());
        prop_assert_eq!(moved(&split(&params, &rows(ids.iter().copied())), &split(&params, &edited)), 0);
    }
}

#[test]
fn by_threshold_shares_hold_on_average() {
    let places = split(&json!({ "parts": { "a": 0.6, "b": 0.4 }, "method": "threshold" }), &rows(0..5000));
    assert!((2900..3100).contains(&count(&places, 0)), "{}", count(&places, 0));
}
