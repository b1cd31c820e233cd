use std::sync::Mutex;

use pipe_engine::cell::Cell;
use pipe_engine::stage::Reads;
use pipe_engine::step::{Data, Inputs, Sink};
use serde_json::{Value, json};

use super::*;
use crate::testing::{dataset, dataset_shape, declared, input, task};

const COLUMNS: &[(&str, ColumnType)] =
    &[("caption", ColumnType::Text), ("references", ColumnType::Texts), ("text", ColumnType::Text)];

/// Keeps what is logged.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Sink for Log {
    fn progress(&self, _: u64, _: u64, _: &str) {}
    fn log(&self, _: Level, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
    fn measure(&self, _: &str, _: f64) {}
    fn checkpoint(&self, _: u64, _: &Path) -> Result<(), Failure> {
        Ok(())
    }
    fn cancelled(&self) -> bool {
        false
    }
}

struct Outputs {
    metrics: Value,
    table: String,
    rows: Vec<Value>,
    log: Vec<String>,
}

/// Rows of (id, prediction): a red boat and a blue house.
fn system(predictions: &[(&str, &str)]) -> Vec<(String, Vec<Cell>)> {
    let row = |(id, text): &(&str, &str)| {
        let (caption, reference) = match *id {
            "a" => ("a red boat on a lake", "a small red boat lies on a calm lake"),
            "b" => ("a blue house by a road", "a tall blue house stands by a road"),
            _ => ("a man", "an old man walks"),
        };
        let references = Cell::Texts(vec![reference.to_owned(), caption.to_owned()]);
        ((*id).to_owned(), vec![Cell::Text(caption.to_owned()), references, Cell::Text((*text).to_owned())])
    };
    predictions.iter().map(row).collect()
}

type Rows = Vec<(String, Vec<Cell>)>;

fn run(params: &Value, columns: &[(&str, ColumnType)], systems: &[(&str, Rows)]) -> Result<Outputs, Failure> {
    let mut params = params.clone();
    params["resamples"] = json!(200);
    let (dir, log) = (tempfile::tempdir().unwrap(), Log::default());
    let mut dirs = Vec::new();
    let mut inputs = Inputs::new();
    for (name, rows) in systems {
        let (dir, view) = dataset(columns, rows.clone());
        dirs.push(dir);
        inputs.entry("systems".to_owned()).or_default().push(input(name, DATASET, Data::Dataset(view)));
    }
    let task = task(&STAGE, params, inputs, dir.path());
    execute(&StepContext {
        task: &task,
        sink: &log,
        credentials: pipe_engine::source::Credentials::none(),
        datasets: None,
    })?;
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    Ok(Outputs {
        metrics: serde_json::from_str(&read("metrics.json")).unwrap(),
        table: read("table.md"),
        rows: read("rows.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        log: log.0.into_inner().unwrap(),
    })
}

fn base() -> Rows {
    system(&[("a", "a boat on a lake"), ("b", "a blue house by a road")])
}

fn tuned() -> Rows {
    system(&[("a", "a small red boat lies on a calm lake"), ("b", "a tall blue house stands by a road")])
}

fn score<'v>(metrics: &'v Value, measure: &str, system: &str) -> &'v Value {
    let found = metrics["measures"].as_array().unwrap().iter().find(|m| m["name"] == measure).unwrap();
    &found["scores"][system]
}

#[test]
fn systems_are_scored_and_compared() {
    let found = run(&json!({}), COLUMNS, &[("base", base()), ("tuned", tuned())]).unwrap();
    let value = |measure: &str, system: &str| score(&found.metrics, measure, system)["value"].as_f64().unwrap();
    assert!((value("bleu_4", "tuned") - 1.0).abs() < 1e-6);
    assert!(value("rouge_l_coco", "base") < 1.0);
    assert_eq!([value("pairs_kept", "base"), value("pairs_kept", "tuned")], [0.5, 1.0]);
    let difference = &score(&found.metrics, "adjectives", "tuned")["difference"];
    assert_eq!(difference["value"].as_f64().unwrap(), value("adjectives", "tuned") - value("adjectives", "base"));
    assert!(difference["interval"]["low"].is_f64());
    assert!(score(&found.metrics, "adjectives", "base").get("difference").is_none());
    assert!(score(&found.metrics, "adjectives_total", "tuned")["difference"].get("interval").is_none());
    assert_eq!(found.metrics["not_computed"], json!([]));
    assert_eq!(found.rows.len(), 2);
    assert_eq!(found.rows[0]["predictions"]["tuned"], "a small red boat lies on a calm lake");
    assert_eq!(found.rows[0]["scores"]["pairs_kept"], json!({ "base": 0.0, "tuned": 1.0 }));
    assert_eq!(found.log, found.table.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>());
    assert!(found.table.contains("| tuned − base"));
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let run = || run(&json!({}), COLUMNS, &[("base", base()), ("tuned", tuned())]).unwrap();
    let (first, second) = (run(), run());
    assert_eq!((first.metrics, first.table, first.rows), (second.metrics, second.table, second.rows));
}

#[test]
fn without_references_and_source_the_rest_is_computed() {
    let columns = [("text", ColumnType::Text)];
    let texts = |rows: Rows| rows.into_iter().map(|(id, cells)| (id, vec![cells[2].clone()])).collect::<Rows>();
    let found = run(&json!({}), &columns, &[("base", texts(base()))]).unwrap();
    let reason = |metric: &str| {
        let all = found.metrics["not_computed"].as_array().unwrap();
        all.iter().find(|entry| entry["metric"] == metric).unwrap()["reason"].clone()
    };
    assert_eq!(reason("bleu_4"), "there is no column `references`");
    assert_eq!(reason("pairs_kept"), "there is no column `caption`");
    assert!(score(&found.metrics, "adjectives", "base")["value"].is_f64());
    assert!(found.table.contains(
        "Not computed: bleu_1, bleu_2, bleu_3, bleu_4, rouge_l_coco, cider_d: there is no column `references`."
    ));
    assert!(found.rows[0].get("references").is_none());
}

#[test]
fn one_row_has_no_cider() {
    let one = |rows: Rows| rows.into_iter().take(1).collect::<Rows>();
    let found = run(&json!({ "metrics": ["cider_d"] }), COLUMNS, &[("base", one(base()))]).unwrap();
    assert!(found.metrics["not_computed"][0]["reason"].as_str().unwrap().contains("one item"));
    assert_eq!(found.metrics["measures"], json!([]));
}

#[test]
fn rows_without_references_are_left_out_and_counted() {
    let mut rows = tuned();
    rows[0].1[1] = Cell::Null;
    let found = run(&json!({ "metrics": ["bleu_1"] }), COLUMNS, &[("tuned", rows)]).unwrap();
    let score = score(&found.metrics, "bleu_1", "tuned");
    assert_eq!((&score["n"], &score["left_out"]), (&json!(1), &json!({ "no references": 1 })));
    assert_eq!(found.rows[0]["scores"]["bleu_1"]["tuned"], Value::Null);
    assert!(found.table.contains("1 rows left out of bleu_1 of `tuned`: no references."));
}

#[test]
fn a_blank_reference_is_refused() {
    let mut rows = tuned();
    rows[0].1[1] = Cell::Texts(vec![" ".to_owned()]);
    let failure = run(&json!({}), COLUMNS, &[("tuned", rows)]).map(|_| ()).unwrap_err();
    assert!(failure.message.starts_with("`a` have a reference without text"), "{failure}");
}

#[test]
fn missing_rows_are_listed_in_every_output() {
    let systems = || [("base", base()), ("tuned", system(&[("a", "a boat"), ("c", "a man")]))];
    let failure = run(&json!({}), COLUMNS, &systems()).map(|_| ()).unwrap_err();
    assert_eq!(failure.message, "system `base` lacks 1 rows that another system has: `c`");
    let found = run(&json!({ "missing": "skip" }), COLUMNS, &systems()).unwrap();
    assert_eq!((&found.metrics["rows"], &found.metrics["systems"][1]["missing"]), (&json!(1), &json!(["b"])));
    assert!(found.table.contains("`tuned` lacks 1 rows, skipped for all: `b`."));
    let empty = run(&json!({ "missing": "empty" }), COLUMNS, &systems()).unwrap();
    assert_eq!(empty.rows[2]["predictions"], json!({ "base": null, "tuned": "a man" }));
    assert_eq!(score(&empty.metrics, "bleu_1", "base")["n"], 3);
}

#[test]
fn the_baseline_can_be_named() {
    let found = run(&json!({ "baseline": "tuned" }), COLUMNS, &[("base", base()), ("tuned", tuned())]).unwrap();
    assert_eq!(found.metrics["baseline"], "tuned");
    assert!(score(&found.metrics, "adjectives", "tuned").get("difference").is_none());
    assert!(table_of(found.metrics.to_string().as_bytes()).unwrap().contains("| base − tuned"));
}

#[test]
fn declaring_reads_the_columns_there_are() {
    let contract = declared(&STAGE, &json!({}), &[("systems", dataset_shape(COLUMNS))]).unwrap();
    let columns = ["id", "text", "caption", "references"].map(str::to_owned);
    assert_eq!(contract.reads["systems"], Reads::Columns(columns.into()));
    assert!(contract.notes.is_empty());
    let bare = dataset_shape(&[("text", ColumnType::Text), ("refrences", ColumnType::Texts)]);
    let contract = declared(&STAGE, &json!({}), &[("systems", bare)]).unwrap();
    assert_eq!(contract.notes.len(), 2);
    assert!(contract.notes[1].contains("did you mean `refrences`?"), "{:?}", contract.notes);
}

#[test]
fn mistakes_are_found_at_their_parameter() {
    let shape =
        |label: &str, columns: &[(&str, ColumnType)]| Shape { label: label.to_owned(), ..dataset_shape(columns) };
    let problem = |params: Value, systems: Vec<Shape>| {
        let inputs: Vec<(&str, Shape)> = systems.into_iter().map(|shape| ("systems", shape)).collect();
        declared(&STAGE, &params, &inputs).unwrap_err()
    };
    let text = [("text", ColumnType::Text)];
    let unknown = problem(json!({ "baseline": "bsae" }), vec![shape("base", COLUMNS)]);
    assert_eq!(unknown.help.unwrap(), "did you mean `base`? there are base");
    let twice = problem(json!({}), vec![shape("x", COLUMNS), shape("x", COLUMNS)]);
    assert_eq!(twice.message, "two systems are labelled `x`");
    let one = problem(json!({}), vec![shape("base", COLUMNS), shape("tuned", &text)]);
    assert_eq!(
        (one.subject, one.message.as_str()),
        (Subject::Param("source".to_owned()), "system `tuned`: there is no column `caption` (text)")
    );
    assert!(problem(json!({ "prediction": "txet" }), vec![shape("base", &text)]).message.contains("no column `txet`"));
    assert_eq!(
        problem(json!({ "metrics": ["spice"] }), vec![shape("base", &text)]).subject,
        Subject::Param("metrics".to_owned())
    );
}
