use std::collections::BTreeMap;

use pipe_engine::problem::Subject;
use pipe_engine::stage::Reads;
use pipe_engine::step::Inputs;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::testing::{dataset_shape, declared, schema};

const COLUMNS: &[(&str, ColumnType)] = &[("caption", ColumnType::Text), ("category", ColumnType::Text)];

fn contract(params: &Value) -> Result<Contract, Problem> {
    declared(&STAGE, params, &[("rows", dataset_shape(COLUMNS))])
}

fn row(id: &str, words: usize, category: &str) -> Row {
    Row { id: id.to_owned(), cells: vec![Cell::Text("word ".repeat(words)), Cell::Text(category.to_owned())] }
}

fn assign(params: &Value, rows: &[Row]) -> Vec<Assignment> {
    let columns = ["caption", "category"].map(str::to_owned);
    let stage = load(&Load {
        params,
        inputs: &Inputs::new(),
        columns: &columns,
        schema: &schema(COLUMNS),
        place: pipe_engine::stage::Place::default(),
    })
    .unwrap();
    crate::testing::assign(stage.as_ref(), rows, 5)
}

/// The cells written to each row, by id.
fn run(params: &Value, rows: &[Row]) -> BTreeMap<String, Vec<Cell>> {
    let cells = |assignment| match assignment {
        Assignment::Keep { port: 0, cells } => cells,
        other => panic!("{other:?}"),
    };
    rows.iter().map(|row| row.id.clone()).zip(assign(params, rows).into_iter().map(cells)).collect()
}

fn phases(written: &BTreeMap<String, Vec<Cell>>) -> BTreeMap<&str, i64> {
    let index = |cells: &Vec<Cell>| if let Cell::Int(index) = cells[1] { index } else { panic!("{cells:?}") };
    written.iter().map(|(id, cells)| (id.as_str(), index(cells))).collect()
}

fn by_difficulty() -> Value {
    json!({
        "difficulty": "words(caption) * 0.5",
        "phases": [{ "name": "basic", "up_to": 1.0 }, { "name": "multi", "up_to": 2 }, { "name": "complex" }],
    })
}

fn by_share() -> Value {
    json!({
        "difficulty": "words(caption)",
        "phases": [{ "name": "basic", "share": 0.5 }, { "name": "multi", "share": 0.3 }, { "name": "complex" }],
    })
}

#[test]
fn a_limit_belongs_to_the_easier_phase() {
    let rows = [row("a", 2, ""), row("b", 3, ""), row("c", 4, ""), row("d", 5, "")];
    let written = run(&by_difficulty(), &rows);
    assert_eq!(written["a"], [Cell::Text("basic".into()), Cell::Int(0), Cell::Float(1.0)]);
    assert_eq!(written["b"], [Cell::Text("multi".into()), Cell::Int(1), Cell::Float(1.5)]);
    assert_eq!(phases(&written), BTreeMap::from([("a", 0), ("b", 1), ("c", 1), ("d", 2)]));
}

#[test]
fn shares_are_exact_even_among_equals() {
    let ids: Vec<String> = (0..20).map(|i| i.to_string()).collect();
    let equal: Vec<Row> = ids.iter().map(|id| row(id, 4, "")).collect();
    let written = run(&by_share(), &equal);
    let places = phases(&written);
    assert_eq!([0, 1, 2].map(|phase| places.values().filter(|p| **p == phase).count()), [10, 6, 4]);
    let rising: Vec<Row> = ids.iter().zip(1..).map(|(id, words)| row(id, words, "")).collect();
    assert!(phases(&run(&by_share(), &rising)).iter().all(|(id, phase)| match id.parse::<u32>().unwrap() {
        0..10 => *phase == 0,
        10..16 => *phase == 1,
        _ => *phase == 2,
    }));
}

#[test]
fn the_first_rule_that_holds_weighs() {
    let mut params = by_difficulty();
    params["weights"] = json!([
        { "when": "category == 'urban'", "weight": 2.0000004 },
        { "when": "words(caption) > 1", "weight": 0.5 },
    ]);
    let written = run(&params, &[row("a", 2, "urban"), row("b", 2, "park"), row("c", 1, "park")]);
    assert_eq!(["a", "b", "c"].map(|id| written[id][3].clone()), [2.0, 0.5, 1.0].map(Cell::Float));
    assert_eq!(contract(&params).unwrap().writes[3], ("weight".to_owned(), ColumnType::Float));
}

#[test]
fn difficulty_is_rounded() {
    assert_eq!(round(0.1 + 0.2), 0.3);
    assert_eq!(round(-0.000_000_4).to_bits(), 0.0_f64.to_bits());
    assert_eq!(round(1e300), 1e300);
    assert_eq!(round(-2.345_678_9), -2.345_679);
}

#[test]
fn a_row_without_difficulty_fails_alone() {
    let null = Row { id: "n".to_owned(), cells: vec![Cell::Null, Cell::Null] };
    let assigned = assign(&by_difficulty(), &[null, row("a", 2, "")]);
    let Assignment::Fail(failure) = &assigned[0] else { panic!("{assigned:?}") };
    assert_eq!(failure.class, "curriculum: difficulty");
    assert!(matches!(assigned[1], Assignment::Keep { .. }));
    let infinite = json!({ "difficulty": "1.0 / (words(caption) - 1)", "phases": [{ "name": "all" }] });
    assert!(matches!(&assign(&infinite, &[row("one", 1, "")])[0], Assignment::Fail(_)));
}

#[test]
fn declaring_names_the_columns_read() {
    let contract = contract(&by_difficulty()).unwrap();
    assert_eq!(contract.reads["rows"], Reads::Columns(vec!["caption".into(), "id".into()]));
    assert_eq!(
        contract.writes.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["phase", "phase_index", "difficulty"]
    );
}

#[test]
fn mistakes_are_found_at_their_parameter() {
    let with = |phases: Value| json!({ "difficulty": "words(caption)", "phases": phases });
    let message = |params: Value| contract(&params).unwrap_err().message;
    let cases = [
        (json!([{ "name": "a", "up_to": 1 }, { "name": "b", "share": 0.5 }]), "cut all by the one or all by the other"),
        (json!([{ "name": "a" }, { "name": "b" }]), "nothing says where a phase ends"),
        (json!([{ "name": "a", "up_to": 1 }, { "name": "b", "up_to": 2 }]), "`b` is the last phase"),
        (
            json!([{ "name": "a", "up_to": 2 }, { "name": "b", "up_to": 2 }, { "name": "c" }]),
            "`b` ends at 2, not beyond",
        ),
        (json!([{ "name": "a" }, { "name": "b", "up_to": 2 }, { "name": "c" }]), "`a` has no `up_to`"),
        (json!([{ "name": "a", "share": 0.5 }, { "name": "b", "share": 0.4 }]), "the shares sum to 0.9, not 1"),
        (json!([{ "name": "a", "share": 0.5 }, { "name": "b" }, { "name": "c" }]), "`b` has no `share`"),
        (json!([{ "name": "a", "share": 1.0 }, { "name": "b" }]), "the share of `a` is 1, not between 0 and 1"),
        (json!([{ "name": "a", "up_to": 1 }, { "name": "a" }]), "two phases are named `a`"),
    ];
    for (phases, expected) in cases {
        let found = message(with(phases));
        assert!(found.contains(expected), "{found}");
    }
    let about = |params: Value| contract(&params).unwrap_err().subject;
    let phases = json!([{ "name": "all" }]);
    assert_eq!(about(json!({ "difficulty": "words(captoin)", "phases": phases })), Subject::Param("difficulty".into()));
    let rule = |rule: Value| json!({ "difficulty": "1", "phases": [{ "name": "all" }], "weights": [rule] });
    assert_eq!(about(rule(json!({ "when": "words(caption)", "weight": 2 }))), Subject::Param("weights.0.when".into()));
    assert_eq!(about(rule(json!({ "when": "true", "weight": 0.0001 }))), Subject::Param("weights.0.weight".into()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn an_edit_moves_at_most_one_other_row_per_border(
        lengths in proptest::collection::btree_map(0..100_u32, 1..6_usize, 1..60),
        edits in proptest::collection::btree_map(0..100_u32, 1..6_usize, 1..8),
    ) {
        let rows = |lengths: &BTreeMap<u32, usize>| -> Vec<Row> {
            lengths.iter().map(|(id, words)| row(&id.to_string(), *words, "")).collect()
        };
        // Each edit inserts a row, deletes one, or makes one longer or shorter: two edits at most.
        let mut edited = lengths.clone();
        for (id, words) in &edits {
            if edited.get(id) == Some(words) { edited.remove(id); } else { edited.insert(*id, *words); }
        }
        let (before, after) = (run(&by_share(), &rows(&lengths)), run(&by_share(), &rows(&edited)));
        let (before, after) = (phases(&before), phases(&after));
        let moved = before
            .iter()
            .filter(|(id, _)| !edits.contains_key(&id.parse().unwrap()))
            .filter(|(id, phase)| after.get(*id).is_some_and(|now| now != *phase))
            .count();
        prop_assert!(moved <= 2 * 2 * edits.len());
    }
}
