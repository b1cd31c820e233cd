use pipe_engine::cell::Schema;
use pipe_engine::problem::FailureClass;
use pipe_engine::stage::Place;
use pipe_engine::step::{Inputs, Level};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::testing::{Quiet, blob, dataset_shape, declared, schema};

const COLUMNS: &[(&str, ColumnType)] = &[("text", ColumnType::Text), ("image", ColumnType::Image)];

struct Scene {
    scratch: TempDir,
    params: Value,
}

impl Scene {
    /// A shell script that is given `text` and writes `upper`.
    fn new(script: &str) -> Self {
        let params =
            json!({ "run": ["sh", "-c", script], "reads": ["text"], "writes": { "upper": "text" }, "programs": 2 });
        Self { scratch: tempfile::tempdir().unwrap(), params }
    }

    fn stage(&self) -> Box<dyn RowStage> {
        let columns = ["text".to_owned()];
        let place = Place { scratch: self.scratch.path(), ..Place::default() };
        let (inputs, schema): (Inputs, Schema) = (Inputs::new(), schema(&COLUMNS[..1]));
        load(&Load { params: &self.params, inputs: &inputs, columns: &columns, schema: &schema, place }).unwrap()
    }

    fn run(&self, rows: &[Row]) -> Result<Vec<Outcome>, Failure> {
        self.stage().run(rows, &Quiet)
    }
}

fn rows(texts: &[&str]) -> Vec<Row> {
    let row = |(at, text): (usize, &&str)| Row { id: format!("row {at}"), cells: vec![Cell::Text((*text).to_owned())] };
    texts.iter().enumerate().map(row).collect()
}

fn kept(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Keep(cells) => cells[0].as_text().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Answers every line with its number and the id in it.
const COUNTING: &str = r#"n=0; while read -r line; do n=$((n+1)); id=${line#*\"id\":\"}; echo "{\"upper\":\"$n of $$ ${id%%\"*}\"}"; done"#;

#[test]
fn one_program_answers_row_after_row() {
    let scene = Scene::new(COUNTING);
    let stage = scene.stage();
    let first = stage.run(&rows(&["a", "b"]), &Quiet).unwrap();
    let second = stage.run(&rows(&["c"]), &Quiet).unwrap();
    let word = |outcome: &Outcome, at: usize| kept(outcome).split(' ').nth(at).unwrap().to_owned();
    assert_eq!([word(&first[0], 0), word(&first[1], 0), word(&second[0], 0)], ["1", "2", "3"]);
    assert_eq!(word(&first[0], 2), word(&second[0], 2));
    assert!(kept(&first[1]).ends_with("row 1"));
}

#[test]
fn answers_longer_than_a_pipe_do_not_stop_it() {
    let scene =
        Scene::new(r#"while read -r line; do printf '{"upper":"%s"}\n' "${#line}"; printf '%s' "$line" >&2; done"#);
    let long = "x".repeat(300_000);
    let found = scene.run(&rows(&[&long, &long, &long])).unwrap();
    assert!(found.iter().all(|outcome| kept(outcome).parse::<usize>().unwrap() > 300_000));
}

#[test]
fn rows_are_dropped_and_fail_by_answer() {
    let scene =
        Scene::new(r#"read a; echo '{"drop":"too dull"}'; read b; echo '{"fail":"no light"}'; read c; echo '{}'"#);
    let found = scene.run(&rows(&["a", "b", "c"])).unwrap();
    assert_eq!(found[0], Outcome::Drop("too dull".to_owned()));
    assert_eq!(found[1], Outcome::fail("map: failed", "no light"));
    assert_eq!(found[2], Outcome::Keep(vec![Cell::Null]));
}

#[test]
fn a_broken_program_names_the_row_and_what_it_said() {
    let scene = Scene::new(r#"read a; echo '{"upper":"A"}'; read b; echo "cannot go on" >&2; exit 3"#);
    let failure = scene.run(&rows(&["a", "b"])).unwrap_err();
    assert_eq!(failure.row.as_deref(), Some("row 1"));
    assert_eq!(failure.message, "sh ended with code 3; its last lines were:\ncannot go on");
}

#[test]
fn wrong_answers_name_the_row() {
    let message = |script: &str| {
        let failure = Scene::new(script).run(&rows(&["a"])).unwrap_err();
        format!("{}: {}", failure.row.unwrap(), failure.message)
    };
    assert_eq!(message("read a; echo hello; cat"), "row 0: the program answered `hello`, which is not a JSON object");
    assert_eq!(
        message(r#"read a; echo '{"uper":"A"}'; cat"#),
        r#"row 0: the program answered `{"uper":"A"}`, and `uper` is not among `writes`"#
    );
    assert_eq!(
        message(r#"read a; echo '{"upper":7}'; cat"#),
        r#"row 0: the program answered `{"upper":7}`, where `upper` is 7 where text is expected"#
    );
}

#[test]
fn an_interruption_ends_a_program_that_does_not_answer() {
    struct Interrupted;
    impl Sink for Interrupted {
        fn progress(&self, _: u64, _: u64, _: &str) {}
        fn log(&self, _: Level, _: &str) {}
        fn measure(&self, _: &str, _: f64) {}
        fn checkpoint(&self, _: u64, _: &std::path::Path) -> Result<(), Failure> {
            Ok(())
        }
        fn cancelled(&self) -> bool {
            true
        }
    }
    let scene = Scene::new("sleep 60");
    let failure = scene.stage().run(&rows(&["a"]), &Interrupted).unwrap_err();
    assert_eq!(failure.class, FailureClass::Interrupted);
}

#[test]
fn images_come_and_go_as_files() {
    let dir = tempfile::tempdir().unwrap();
    let png = [b"\x89PNG\r\n\x1a\n".as_slice(), b"rest"].concat();
    let script = r#"while read -r line; do in=${line#*\"image\":\"}; in=${in%%\"*}; cp "$in" "$TMPDIR/out.png"; echo "{\"copy\":\"$TMPDIR/out.png\"}"; done"#;
    let params = json!({ "run": ["sh", "-c", script], "reads": ["image"], "writes": { "copy": "image" } });
    let place = Place { scratch: dir.path(), ..Place::default() };
    let (columns, schema) = (["image".to_owned()], schema(&COLUMNS[1..]));
    let setup = Load { params: &params, inputs: &Inputs::new(), columns: &columns, schema: &schema, place };
    let row = Row { id: "a".to_owned(), cells: vec![Cell::Image(blob(dir.path(), &png))] };
    let found = load(&setup).unwrap().run(&[row], &Quiet).unwrap();
    assert_eq!(found, [Outcome::Keep(vec![Cell::NewImage(png)])]);
}

#[test]
fn what_it_reads_and_writes_is_checked() {
    let declare = |params: Value| declared(&STAGE, &params, &[("rows", dataset_shape(COLUMNS))]);
    let contract = declare(json!({ "run": ["cat"], "reads": ["text"], "writes": { "n": "int" } })).unwrap();
    assert_eq!(format!("{:?}", contract.reads["rows"]), r#"Columns(["text", "id"])"#);
    assert_eq!(contract.writes, [("n".to_owned(), ColumnType::Int)]);
    let problem = declare(json!({ "run": ["cat"], "reads": ["txet"] })).unwrap_err();
    assert_eq!(problem.message, "there is no column `txet`");
    let problem = declare(json!({ "run": ["cat"], "writes": { "id": "text" } })).unwrap_err();
    assert_eq!(problem.message, "a program cannot change the `id` of a row");
}
