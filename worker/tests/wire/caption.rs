//! `caption` on the shipped captioner and pictures.

use std::path::Path;

use pipe_engine::cell::{Cell, ColumnType, Row};
use pipe_engine::worker::frame::LoadRows;
use serde_json::{Value, json};

use crate::support::{Worker, blob, class, inputs, load_rows, model, shipped, text};

fn load(params: Value) -> LoadRows {
    load_rows("caption", params, inputs([("model", model("scenes-blip2"))]), &[("image", ColumnType::Image)])
}

fn picture(name: &str) -> Row {
    image_row(&shipped("data/scenes").join(name))
}

fn image_row(path: &Path) -> Row {
    Row { id: path.display().to_string(), cells: vec![Cell::Image(blob(path))] }
}

/// Good pictures, PNG and JPEG.
fn pictures() -> Vec<Row> {
    ["scene-0001.png", "scene-0002.png", "scene-0007.jpg", "scene-0088.png", "scene-0100.jpg"].map(picture).to_vec()
}

#[test]
fn every_picture_is_put_into_words() {
    let mut worker = Worker::ready();
    worker.load(&load(json!({ "batch_size": 2 }))).unwrap();
    let rows = pictures();
    let captions: Vec<String> = worker.rows(&rows).unwrap().iter().map(|outcome| text(outcome).to_owned()).collect();
    assert!(captions.iter().all(|caption| caption.split(' ').count() >= 3), "{captions:?}");
    let different: std::collections::BTreeSet<_> = captions.iter().collect();
    assert!(different.len() >= 4, "the captions hardly depend on the pictures: {captions:?}");
    for (row, caption) in rows.iter().zip(&captions) {
        assert_eq!(text(&worker.rows(std::slice::from_ref(row)).unwrap()[0]), caption, "alone and in company");
    }
}

#[test]
fn words_given_begin_every_caption() {
    let mut worker = Worker::ready();
    worker.load(&load(json!({ "prefix": "a picture of", "max_new_tokens": 4 }))).unwrap();
    for outcome in worker.rows(&pictures()).unwrap() {
        let caption = text(&outcome);
        assert!(caption.starts_with("a picture of ") && caption.len() < 60, "{caption}");
    }
}

#[test]
fn a_row_without_a_good_picture_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(dir.path().join(name), bytes).unwrap();
        image_row(&dir.path().join(name))
    };
    let whole = std::fs::read(shipped("data/scenes/scene-0007.jpg")).unwrap();
    let mut rows = pictures();
    rows.insert(0, write("cut.jpg", &whole[..whole.len() / 2]));
    rows.insert(2, write("text.png", b"no picture at all"));
    rows.insert(3, write("empty.png", b""));
    rows.push(Row { id: "null".to_owned(), cells: vec![Cell::Null] });
    let mut gone = write("gone.png", &whole);
    std::fs::remove_file(dir.path().join("gone.png")).unwrap();
    gone.id = "gone".to_owned();
    rows.push(gone);
    let mut worker = Worker::ready();
    worker.load(&load(json!({ "batch_size": 3 }))).unwrap();
    let outcomes = worker.rows(&rows).unwrap();
    let classes = [0, 2, 3, 8, 9].map(|place| class(&outcomes[place]));
    assert_eq!(
        classes,
        ["image: truncated", "image: unknown format", "image: empty", "image: missing", "image: unreadable"]
    );
    for place in [1, 4, 5, 6, 7] {
        assert!(!text(&outcomes[place]).is_empty());
    }
}

#[test]
fn a_prompt_for_which_the_model_has_no_room_fails_the_step() {
    let mut worker = Worker::ready();
    worker.load(&load(json!({ "max_new_tokens": 1024 }))).unwrap();
    let failure = worker.rows(&pictures()).unwrap_err();
    assert!(failure.message.contains("positions"), "{failure}");
}
