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
fn a_program_says_no_more_than_it_is_asked() {
    const ONE: &str = r#"while read -r line; do echo '{"upper":"A"}'; done; "#;
    let finish = |end: &str| {
        let scene = Scene::new(&format!("{ONE}{end}"));
        let stage = scene.stage();
        assert_eq!(stage.run(&rows(&["a", "b"]), &Quiet).unwrap().len(), 2);
        stage.finish(&Quiet).map_err(|failure| (failure.class, failure.message))
    };
    assert_eq!(finish(""), Ok(()));
    assert_eq!(finish("echo"), Ok(()), "white space is no answer");
    assert_eq!(
        finish("echo wrong >&2; exit 4"),
        Err((
            FailureClass::Input,
            "sh ended with code 4 after it had answered every row (the rows stay remembered); its last lines were:\nwrong"
                .to_owned()
        ))
    );
    let doubt =
        "the program said more than it was asked, so that answers may belong to other rows: `{\"upper\":\"B\"}`";
    assert_eq!(finish(r#"echo '{"upper":"B"}'; echo more"#), Err((FailureClass::Doubt, doubt.to_owned())));
    let twice = Scene::new(r#"while read -r line; do printf '{"upper":"A"}\n{"upper":"B"}\n'; done"#);
    let failure = twice.run(&rows(&["a"])).unwrap_err();
    assert_eq!((failure.class, failure.row.as_deref()), (FailureClass::Doubt, Some("row 0")));
    assert_eq!(failure.message, doubt);
    // Said after the last answer was taken, and before the next row.
    let late = Scene::new(r#"read a; echo '{"upper":"A"}'; sleep 0.3; echo '{"upper":"B"}'; cat >&2"#);
    let stage = late.stage();
    stage.run(&rows(&["a"]), &Quiet).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(stage.run(&rows(&["b"]), &Quiet).unwrap_err().message, doubt);
}

#[test]
fn a_long_answer_is_looked_through_once() {
    let scene = Scene::new(r#"read line; printf '{"upper":"'; head -c 30000000 /dev/zero | tr '\0' x; echo '"}'"#);
    let start = std::time::Instant::now();
    let found = scene.run(&rows(&["a"])).unwrap();
    assert_eq!(kept(&found[0]).len(), 30_000_000);
    assert!(start.elapsed() < std::time::Duration::from_secs(15), "{:?}", start.elapsed());
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

/// Images for a program that writes images; they begin as a PNG does.
struct Images {
    dir: TempDir,
    params: Value,
}

impl Images {
    fn new(script: &str) -> Self {
        let params = json!({
            "run": ["sh", "-c", script], "reads": ["image"], "writes": { "new": "image" }, "programs": 2,
        });
        Self { dir: tempfile::tempdir().unwrap(), params }
    }

    fn bytes(content: &str) -> Vec<u8> {
        [b"\x89PNG\r\n\x1a\n".as_slice(), content.as_bytes()].concat()
    }

    fn stage(&self) -> Box<dyn RowStage> {
        let place = Place { scratch: self.dir.path(), ..Place::default() };
        let (columns, schema) = (["image".to_owned()], schema(&COLUMNS[1..]));
        load(&Load { params: &self.params, inputs: &Inputs::new(), columns: &columns, schema: &schema, place }).unwrap()
    }

    fn rows(&self, contents: &[String]) -> Vec<Row> {
        let cell = |content: &String| Cell::Image(blob(self.dir.path(), &Self::bytes(content)));
        contents.iter().map(|content| Row { id: content.clone(), cells: vec![cell(content)] }).collect()
    }
}

/// Begins a script: `$in` is the image of the row.
const EACH_IMAGE: &str = r#"while read -r line; do in=${line#*\"image\":\"}; in=${in%%\"*};"#;

#[test]
fn images_may_be_written_under_one_name() {
    let images = Images::new(&format!(
        r#"{EACH_IMAGE} cp "$in" "$TMPDIR/out.png"; echo "{{\"new\":\"$TMPDIR/out.png\"}}"; done"#
    ));
    let stage = images.stage();
    let contents: Vec<String> = (0..200).map(|at| format!("picture {at}")).collect();
    let rows = images.rows(&contents);
    let found: Vec<Outcome> = std::thread::scope(|scope| {
        let parts: Vec<_> = rows.chunks(50).map(|part| scope.spawn(|| stage.run(part, &Quiet).unwrap())).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    let wanted = contents.iter().map(|content| Outcome::Keep(vec![Cell::NewImage(Images::bytes(content))]));
    assert_eq!(found, wanted.collect::<Vec<_>>());
}

#[test]
fn an_image_is_the_programs_own() {
    let answer = |path: &str| {
        let images = Images::new(&format!(r#"{EACH_IMAGE} {path}; echo "{{\"new\":\"$out\"}}"; done"#));
        let outcomes = images.stage().run(&images.rows(&["one".to_owned()]), &Quiet);
        outcomes.map_err(|failure| failure.message)
    };
    let kept = |content: &str| Ok(vec![Outcome::Keep(vec![Cell::NewImage(Images::bytes(content))])]);
    assert_eq!(answer("out=$in"), kept("one"));
    assert_eq!(answer(r#"cp "$in" "$TMPDIR/x"; out=x"#), kept("one"));
    for path in [
        "out=/etc/passwd",
        "cp $in x; out=$PWD/x",
        "out=$TMPDIR/../../../work",
        r#"ln -s /etc/passwd "$TMPDIR/l"; out=l"#,
    ] {
        let message = answer(path).unwrap_err();
        assert!(message.contains("which is no file below the program's $TMPDIR"), "{path}: {message}");
    }
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
