//! `lora_train` on the shipped language model and text pairs.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use pipe_engine::cell::{Cell, ColumnType, Row};
use pipe_engine::problem::FailureClass;
use pipe_engine::run::Quiet;
use pipe_engine::stage::{Execute, Load, Outcome, Place};
use pipe_engine::step::{Checkpoint, Data, Level, StepTask};
use pipe_engine::worker::frame::Reply;
use pipe_stages::{kinds, tokenize};
use serde_json::{Value, json};

use crate::generate::{captions, load_with};
use crate::support::{self, Worker, contents, dataset, files, inputs, model, pairs, schema, text};

const COLUMNS: &[(&str, ColumnType)] = &[
    ("input_ids", ColumnType::Ints),
    ("labels", ColumnType::Ints),
    ("phase_index", ColumnType::Int),
    ("weight", ColumnType::Float),
];

/// A training that ends soon, in which everything random takes part.
fn short() -> Value {
    json!({
        "max_steps": 12, "micro_batch_size": 4, "gradient_accumulation_steps": 2, "learning_rate": 5e-3,
        "warmup_steps": 2, "lora_dropout": 0.1, "order": "curriculum", "weight": "weight", "eval_steps": 3,
        "save_steps": 5, "seed": 3,
    })
}

/// Text pairs as `tokenize` leaves them, with phases and weights.
fn tokenized(count: usize) -> Vec<Row> {
    let Execute::Rows(load) = tokenize::STAGE.execute else { panic!("tokenize works row by row") };
    let columns = [("caption", ColumnType::Text), ("description", ColumnType::Text)];
    let params = json!({ "prompt": "Caption: {caption}\nDescription:", "completion": " {description}" });
    let stage = load(&Load {
        params: &params,
        inputs: &inputs([("model", model("scenes-qwen2"))]),
        columns: &columns.map(|(name, _)| name.to_owned()),
        schema: &schema(&columns),
        place: Place::default(),
    });
    let pairs = pairs(count);
    let cells = |pair: &Value| columns.map(|(name, _)| Cell::Text(pair[name].as_str().unwrap().to_owned())).to_vec();
    let rows: Vec<Row> =
        pairs.iter().map(|pair| Row { id: pair["id"].as_str().unwrap().to_owned(), cells: cells(pair) }).collect();
    let outcomes = stage.unwrap().run(&rows, &Quiet { cancel: &AtomicBool::new(false) }).unwrap();
    let facts = (0..).map(|place| [Cell::Int(place % 3), Cell::Float([1.0, 2.0, 0.5][place as usize % 3])]);
    let finish = |(row, outcome): (Row, Outcome), facts: [Cell; 2]| match outcome {
        Outcome::Keep(cells) => Row { cells: [cells, facts.to_vec()].concat(), ..row },
        outcome => panic!("{outcome:?}"),
    };
    rows.into_iter().zip(outcomes).zip(facts).map(|(row, facts)| finish(row, facts)).collect()
}

/// A training in `dir` on the first 24 pairs, watched on the next 8.
pub fn task(dir: &Path, params: Value) -> StepTask {
    let rows = tokenized(32);
    task_on(dir, params, &rows[..24], &rows[24..])
}

fn task_on(dir: &Path, params: Value, rows: &[Row], held_out: &[Row]) -> StepTask {
    let inputs = inputs([
        ("data", dataset(&dir.join("data"), COLUMNS, rows)),
        ("validation", dataset(&dir.join("validation"), COLUMNS, held_out)),
        ("model", model("scenes-qwen2")),
    ]);
    support::task(dir, "lora_train", params, inputs, &["adapter", "best", "curve"])
}

/// The bytes of all outputs, by port and name.
fn outputs(task: &StepTask) -> Vec<(String, String, Vec<u8>)> {
    let of = |(port, dir): (&String, &std::path::PathBuf)| {
        let port = port.clone();
        contents(dir).into_iter().map(move |(name, bytes)| (port.clone(), name, bytes))
    };
    task.outputs.iter().flat_map(of).collect()
}

fn curve(task: &StepTask) -> Vec<Value> {
    let text = std::fs::read_to_string(task.outputs["curve"].join("curve.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_adapter_is_trained_and_watched() {
    let dir = tempfile::tempdir().unwrap();
    let task = task(dir.path(), short());
    let mut worker = Worker::ready();
    let mut saved = vec![];
    let replies = worker.step(&task, |at, _| saved.push(at)).unwrap();
    assert_eq!(saved, [5, 10]);
    for (port, dir) in &task.outputs {
        let kind = if port == "curve" { kinds::METRICS } else { kinds::ADAPTER };
        kinds::find(kind).unwrap().check_dir(dir).unwrap();
    }
    check_curve(&task);
    check_reports(&replies);
}

#[test]
fn an_adapter_changes_what_is_written_and_the_base_stays() {
    let dir = tempfile::tempdir().unwrap();
    let task = task(dir.path(), json!({ "max_steps": 30, "micro_batch_size": 8, "learning_rate": 1e-2 }));
    let mut worker = Worker::ready();
    worker.step(&task, |_, _| {}).unwrap();
    let base = || ("model", model("scenes-qwen2"));
    let adapter = ("adapter", Data::Files(files(&task.outputs["adapter"])));
    let params = json!({ "prompt": "Caption: {caption}\nDescription:", "max_new_tokens": 32 });
    let mut words = |inputs| -> Vec<usize> {
        worker.load(&load_with(params.clone(), inputs)).unwrap();
        worker.rows(&captions(4)).unwrap().iter().map(|outcome| text(outcome).split(' ').count()).collect()
    };
    let plain = words(inputs([base()]));
    let rich = words(inputs([base(), adapter]));
    assert!(plain.iter().zip(&rich).all(|(plain, rich)| plain < rich), "{plain:?} words became {rich:?}");
    assert_eq!(words(inputs([base()])), plain);
}

fn check_curve(task: &StepTask) {
    let curve = curve(task);
    assert_eq!(curve.len(), 12);
    let losses: Vec<f64> = curve.iter().map(|point| point["loss"].as_f64().unwrap()).collect();
    assert!(losses[9..].iter().sum::<f64>() < losses[..3].iter().sum(), "{losses:?}");
    assert_eq!(curve[0]["lr"].as_f64(), Some(0.0), "warm-up begins at 0");
    let validated: Vec<u64> = curve
        .iter()
        .filter(|point| point["validation_loss"].is_f64())
        .map(|point| point["step"].as_u64().unwrap())
        .collect();
    assert_eq!(validated, [3, 6, 9, 12]);
    let metrics = std::fs::read(task.outputs["curve"].join("metrics.json")).unwrap();
    let metrics: Value = serde_json::from_slice(&metrics).unwrap();
    let best = metrics["best_step"].as_u64().unwrap();
    assert_eq!(curve[usize::try_from(best).unwrap() - 1]["validation_loss"], metrics["best_validation_loss"]);
    assert_eq!((&metrics["steps"], &metrics["loss"]), (&json!(12), &curve[11]["loss"]));
}

fn check_reports(replies: &[Reply]) {
    let measured = |wanted: &str| {
        replies.iter().any(|reply| matches!(reply, Reply::Measure { name, value } if name == wanted && *value > 0.0))
    };
    assert!(measured("tokens_per_second") && measured("seconds_per_step"));
    assert_eq!(measured("peak_memory_bytes"), cfg!(target_os = "linux"));
    let last = replies.iter().rev().find_map(|reply| match reply {
        Reply::Progress { done, total, note } => Some((*done, *total, note.clone())),
        _ => None,
    });
    let (done, total, note) = last.unwrap();
    assert_eq!((done, total), (12, 12));
    assert!(note.starts_with("loss "), "{note}");
}

#[test]
fn a_training_goes_on_where_it_stopped_to_the_last_bit() {
    let whole = tempfile::tempdir().unwrap();
    let task = task(whole.path(), short());
    let kept = tempfile::tempdir().unwrap();
    let keep = |at: u64, dir: &Path| {
        for (name, bytes) in contents(dir) {
            let target = kept.path().join(at.to_string()).join(name);
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::write(target, bytes).unwrap();
        }
    };
    Worker::ready().step(&task, keep).unwrap();
    for at in [5, 10] {
        let again = tempfile::tempdir().unwrap();
        let mut resumed = self::task(again.path(), short());
        resumed.checkpoint = Some(Checkpoint { at, files: files(&kept.path().join(at.to_string())) });
        let mut saved = vec![];
        let replies = Worker::ready().step(&resumed, |at, _| saved.push(at)).unwrap();
        assert!(saved.iter().all(|later| *later > at));
        let going_on = format!("going on after step {at}");
        assert!(
            replies
                .iter()
                .any(|reply| matches!(reply, Reply::Log { level: Level::Info, message } if *message == going_on))
        );
        assert_eq!(outputs(&resumed), outputs(&task), "from step {at}");
    }
}

#[test]
fn a_checkpoint_that_cannot_be_used_is_told_and_left() {
    let dir = tempfile::tempdir().unwrap();
    let params = json!({ "max_steps": 2, "micro_batch_size": 2 });
    let plain = task(&dir.path().join("plain"), params.clone());
    Worker::ready().step(&plain, |_, _| {}).unwrap();
    let mut broken = task(&dir.path().join("broken"), params);
    let damaged = dir.path().join("damaged");
    std::fs::create_dir(&damaged).unwrap();
    std::fs::write(damaged.join("curve.jsonl"), "half a li").unwrap();
    broken.checkpoint = Some(Checkpoint { at: 1, files: files(&damaged) });
    let replies = Worker::ready().step(&broken, |_, _| {}).unwrap();
    let warned = |reply: &Reply| matches!(reply, Reply::Log { level: Level::Warning, message } if message.starts_with("starting anew"));
    assert!(replies.iter().any(warned));
    assert_eq!(outputs(&broken), outputs(&plain));
}

#[test]
fn mistakes_are_found_before_the_first_step() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::ready();
    let rows = tokenized(6);
    let mut failed = |change: &dyn Fn(&mut Row), params: Value| {
        let mut rows = rows.clone();
        change(&mut rows[1]);
        let dir = tempfile::tempdir_in(dir.path()).unwrap();
        let task = task_on(dir.path(), params, &rows[..4], &rows[4..]);
        worker.step(&task, |_, _| {}).unwrap_err()
    };
    let unlearnable = failed(&|row| row.cells[1] = Cell::Ints(vec![-100; 2]), json!({}));
    assert_eq!(unlearnable.row.as_deref(), Some("pair-00002"));
    let null = failed(&|row| row.cells[3] = Cell::Null, json!({ "weight": "weight" }));
    assert_eq!(null.to_string(), "row `pair-00002`: column `weight` is null");
    let long = failed(&|row| row.cells[..2].fill(Cell::Ints(vec![5; 600])), json!({}));
    assert!(long.to_string().contains("it has 600 tokens, and the model 512 positions"), "{long}");
    let nowhere = failed(&|_| {}, json!({ "target_modules": ["nowhere"] }));
    assert!(nowhere.to_string().contains("nowhere"), "{nowhere}");
    assert!([unlearnable, null, long, nowhere].iter().all(|failure| failure.class == FailureClass::Input));
}

#[test]
fn a_training_that_flies_apart_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let wild = json!({ "max_steps": 40, "learning_rate": 1e30, "max_grad_norm": 1e30, "micro_batch_size": 2 });
    let failure = Worker::ready().step(&task(dir.path(), wild), |_, _| {}).unwrap_err();
    assert_eq!(failure.class, FailureClass::Input);
    assert!(failure.message.starts_with("step "), "{failure}");
}
