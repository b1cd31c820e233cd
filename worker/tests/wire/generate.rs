//! `generate` on the shipped language model.

use pipe_engine::cell::{Cell, ColumnType, Row};
use pipe_engine::step::Inputs;
use pipe_engine::worker::frame::LoadRows;
use serde_json::{Value, json};

use crate::support::{Worker, class, inputs, load_rows, model, pairs, text, text_row};

const PROMPT: &str = "Caption: {caption}\nDescription:";

fn load(params: Value) -> LoadRows {
    load_with(params, inputs([("model", model("scenes-qwen2"))]))
}

pub fn load_with(params: Value, inputs: Inputs) -> LoadRows {
    load_rows("generate", params, inputs, &[("caption", ColumnType::Text)])
}

pub fn captions(count: usize) -> Vec<Row> {
    let row = |pair: &Value| text_row(pair["id"].as_str().unwrap(), pair["caption"].as_str().unwrap());
    pairs(count).iter().map(row).collect()
}

#[test]
fn every_prompt_is_continued() {
    let mut worker = Worker::ready();
    worker.load(&load(json!({ "prompt": PROMPT, "max_new_tokens": 24, "batch_size": 4 }))).unwrap();
    let rows = captions(9);
    let texts: Vec<String> = worker.rows(&rows).unwrap().iter().map(|outcome| text(outcome).to_owned()).collect();
    assert!(texts.iter().all(|text| text.split(' ').count() >= 3 && text.trim() == text), "{texts:?}");
    for (row, expected) in rows.iter().zip(&texts) {
        assert_eq!(text(&worker.rows(std::slice::from_ref(row)).unwrap()[0]), expected, "alone and in company");
    }
}

#[test]
fn a_row_without_a_good_prompt_fails_alone() {
    let mut rows = captions(2);
    rows.insert(1, Row { id: "null".to_owned(), cells: vec![Cell::Null] });
    rows.insert(2, text_row("long", &"a red tower and ".repeat(400)));
    rows.insert(3, text_row("empty", ""));
    let mut worker = Worker::ready();
    worker.load(&load(json!({ "prompt": "{caption}", "max_new_tokens": 8 }))).unwrap();
    let outcomes = worker.rows(&rows).unwrap();
    let classes = [1, 2, 3].map(|place| class(&outcomes[place]));
    assert_eq!(classes, ["template: null cell", "generate: prompt too long", "generate: empty prompt"]);
    assert!([0, 4].iter().all(|place| !text(&outcomes[*place]).is_empty()));
    let all_bad = worker.rows(&rows[1..4]).unwrap();
    assert_eq!(all_bad, outcomes[1..4]);
}

#[test]
fn a_stop_text_ends_a_text_and_is_no_part_of_it() {
    let mut worker = Worker::ready();
    let texts = |worker: &mut Worker, params| -> Vec<String> {
        worker.load(&load(params)).unwrap();
        worker.rows(&captions(3)).unwrap().iter().map(|outcome| text(outcome).to_owned()).collect()
    };
    let whole = texts(&mut worker, json!({ "prompt": PROMPT, "max_new_tokens": 12 }));
    let cut = texts(&mut worker, json!({ "prompt": PROMPT, "max_new_tokens": 12, "stop": ["e"] }));
    for (whole, cut) in whole.iter().zip(&cut) {
        assert_eq!(cut, whole.split('e').next().unwrap().trim());
        assert!(cut.len() < whole.len(), "{whole}");
    }
}
