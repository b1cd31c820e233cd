//! Tests of `download` through what the engine calls: resolve, declare, execute.

use std::collections::BTreeMap;
use std::fs;

use pipe_engine::StatIndex;
use pipe_engine::cell::Cell;
use pipe_engine::problem::{Failure, Problem};
use pipe_engine::source::{Asking, Credentials, SourceContext};
use pipe_engine::stage::{Contract, Declare, Resolution, ResolveContext};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::testing::{Given, Quiet, Taker};

/// A pipeline's directory, and where its download may write.
pub struct Scene {
    pub base: TempDir,
    pub credentials: Credentials,
    /// What the lock says, by moving place.
    pub pins: BTreeMap<String, String>,
    scratch: TempDir,
}

impl Scene {
    pub fn new(files: &[(&str, &[u8])]) -> Self {
        let scene = Self {
            base: tempfile::tempdir().unwrap(),
            credentials: Credentials::default(),
            pins: BTreeMap::new(),
            scratch: tempfile::tempdir().unwrap(),
        };
        files.iter().for_each(|(name, bytes)| scene.write(name, bytes));
        scene
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.base.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// As planning does, with the pins of the lock.
    pub fn resolve(&self, params: &Value) -> Result<Resolution, Problem> {
        self.resolve_with(params, None)
    }

    /// As a run does before it begins.
    pub fn ask(&self, params: &Value) -> Result<Resolution, Problem> {
        let (credentials, scratch) = (&self.credentials, &self.scratch.path().join("asked"));
        fs::create_dir_all(scratch).unwrap();
        self.resolve_with(params, Some(&Asking { credentials, scratch, sink: &Quiet }))
    }

    fn resolve_with(&self, params: &Value, ask: Option<&Asking<'_>>) -> Result<Resolution, Problem> {
        let pinned = |source: &str| Ok(self.pins.get(source).cloned());
        let (params, base, index) = (&full(params), self.base.path(), &StatIndex::in_memory());
        resolve(&ResolveContext { params, base, index, pinned: &pinned, ask })
    }

    pub fn declare(&self, params: &Value) -> Result<Contract, Problem> {
        let resolution = self.resolve(params)?;
        declare(&Declare { params: &full(params), inputs: &BTreeMap::new(), resolution: Some(&resolution) })
    }

    /// Resolves, then executes.
    pub fn run(&self, params: &Value) -> Result<Given, Failure> {
        self.execute(params, &self.resolve(params).unwrap())
    }

    pub fn execute(&self, params: &Value, resolution: &Resolution) -> Result<Given, Failure> {
        let given = Taker::default();
        let attempt = tempfile::tempdir_in(self.scratch.path()).unwrap();
        execute(&SourceContext {
            params: &full(params),
            resolution,
            base: self.base.path(),
            scratch: attempt.path(),
            outputs: &given,
            credentials: &self.credentials,
            sink: &Quiet,
        })?;
        Ok(given.taken(OUTPUT))
    }

    /// How much the attempts left lying.
    pub fn left(&self) -> usize {
        fs::read_dir(self.scratch.path()).unwrap().count()
    }

    pub fn problem(&self, params: &Value) -> String {
        let problem = self.declare(params).unwrap_err();
        format!("{}: {} ({})", subject(&problem), problem.message, problem.help.unwrap_or_default())
            .replace(&self.base.path().display().to_string(), "BASE")
    }
}

fn subject(problem: &Problem) -> String {
    match &problem.subject {
        pipe_engine::problem::Subject::Param(name) => name.clone(),
        other => format!("{other:?}"),
    }
}

/// The parameters with defaults filled in, as the engine gives them.
fn full(params: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<Params>(params.clone()).unwrap()).unwrap()
}

fn columns(contract: &Contract) -> String {
    contract.outputs[0].schema.as_ref().unwrap().to_string()
}

const PNG: &[u8] = b"\x89PNG not really";

#[test]
fn a_folder_of_images_with_metadata() {
    let metadata = r#"{"file_name": "a.png", "caption": "one", "references": ["r", "s"]}
{"file_name": "sub/b.JPG", "caption": 5}
{"file_name": "c.pgn", "caption": "three"}
{"caption": "four"}
{"file_name": "./a.png", "caption": "again"}
"#;
    let scene = Scene::new(&[
        ("photos/a.png", PNG),
        ("photos/sub/b.JPG", b"b"),
        ("photos/c.png", b""),
        ("photos/d.webp", b"d"),
        ("photos/readme.txt", b"no image"),
        ("photos/.hidden/e.png", b"e"),
        ("photos/metadata.jsonl", metadata.as_bytes()),
    ]);
    let params = json!({ "source": "photos", "columns": { "caption": "text", "references": "texts" } });
    let contract = scene.declare(&params).unwrap();
    assert_eq!(columns(&contract), "id: text, caption: text, image: image, references: texts");
    let given = scene.run(&params).unwrap();
    assert_eq!(given.ids(), ["a.png", "c.png", "d.webp"]);
    assert_eq!(given.rows[0].cells[0], Cell::Text("one".into()));
    assert_eq!(given.rows[0].cells[1].image_digest(), Some(pipe_engine::Digest::of(PNG)));
    assert_eq!(given.rows[2].cells[0], Cell::Null);
    assert_eq!(
        given.bad(),
        [
            ("metadata.jsonl:3", "image: missing", "there is no image c.pgn; there is c.png"),
            ("metadata.jsonl:4", "metadata: no file name", "it has no text `file_name`"),
            ("metadata.jsonl:5", "metadata: duplicate", "an earlier record is about a.png"),
            ("metadata.jsonl:2", "column: wrong type", "`caption`: 5 where text is expected"),
        ]
    );
}

#[test]
fn what_is_brought_in_decides_the_key_and_nothing_else_does() {
    let scene = Scene::new(&[("one/a.png", PNG), ("one/notes.txt", b"1"), ("two/a.png", PNG), ("two/notes.txt", b"2")]);
    let names = |source: &str| {
        let resolution = scene.resolve(&json!({ "source": source })).unwrap();
        (resolution.pin, resolution.files.into_iter().map(|f| (f.name, f.digest, f.len)).collect::<Vec<_>>())
    };
    assert_eq!(names("one"), names("two"));
    scene.write("two/a.png", b"other");
    assert_ne!(names("one"), names("two"));
    let schema = (STAGE.params)().to_value();
    assert_eq!(schema["properties"]["source"]["x-performance"], json!(true));
}

#[test]
fn records_keep_their_ids_and_bad_ones_are_named() {
    let text = "{\"id\": \"x\", \"n\": 1}\nnot json\n{\"id\": \"\", \"n\": 2}\n{\"id\": \"x\", \"n\": 3}\n{\"id\": 7, \"n\": 4.5}\n";
    let scene = Scene::new(&[("data.jsonl", text.as_bytes())]);
    let given = scene.run(&json!({ "source": "data.jsonl" })).unwrap();
    assert_eq!((given.ids(), given.schema.to_string()), (vec!["x", "7"], "id: text, n: float".to_owned()));
    let classes: Vec<_> = given.bad().into_iter().map(|(at, class, _)| (at, class)).collect();
    assert_eq!(
        classes,
        [("data.jsonl:2", "record: not JSON"), ("data.jsonl:3", "id: missing"), ("data.jsonl:4", "id: duplicate")]
    );
}

#[test]
fn of_files_without_records_the_declared_columns_are_believed() {
    let scene = Scene::new(&[("none.jsonl", b""), ("none.csv", b"key,caption\n")]);
    for source in ["none.jsonl", "none.csv"] {
        let mut params = json!({ "source": source, "id": "key", "columns": { "caption": "text" } });
        assert_eq!(columns(&scene.declare(&params).unwrap()), "id: text, caption: text");
        let given = scene.run(&params).unwrap();
        assert!(given.rows.is_empty() && given.bad.is_empty());
        params.as_object_mut().unwrap().remove("columns");
        assert!(scene.problem(&params).contains("there is no column `key`"));
    }
}

#[test]
fn records_without_ids_are_named_by_content() {
    let scene =
        Scene::new(&[("a.csv", b"text,n\nhello,1\nother,2\nhello,1\n"), ("b.csv", b"text,n\nhello,1\nhello,1\n")]);
    let given = scene.run(&json!({ "source": "a.csv", "columns": { "text": "text" } })).unwrap();
    let ids = given.ids();
    assert_eq!(ids[2], format!("{}-2", ids[0]));
    assert_eq!(scene.run(&json!({ "source": "b.csv" })).unwrap().ids(), [ids[0], ids[2]]);
}

#[test]
fn images_of_records_are_read_beside_the_file_and_nowhere_else() {
    let text = r#"{"key": "a", "photo": "img/a.png"}
{"key": "b", "photo": "../secret.png"}
{"key": "c", "photo": "img/none.png"}
{"key": "d", "photo": null}
{"key": "e", "photo": "/etc/passwd"}"#;
    let scene = Scene::new(&[("d/metadata.jsonl", text.as_bytes()), ("d/img/a.png", PNG), ("secret.png", PNG)]);
    let params = json!({ "source": "d/metadata.jsonl", "id": "key", "columns": { "photo": "image" } });
    let names: Vec<_> = scene.resolve(&params).unwrap().files.into_iter().map(|file| file.name).collect();
    assert_eq!(names, ["img/a.png", "metadata.jsonl"]);
    let given = scene.run(&params).unwrap();
    assert_eq!(given.ids(), ["a", "d"]);
    let classes: Vec<_> = given.bad().into_iter().map(|(_, class, _)| class).collect();
    assert_eq!(classes, ["image: outside", "image: missing", "image: outside"]);
}

#[test]
fn a_model_is_taken_without_what_cannot_be_read_safely() {
    let scene = Scene::new(&[
        ("m/config.json", br#"{"model_type": "opt"}"#),
        ("m/model.safetensors", b"weights"),
        ("m/pytorch_model.bin", b"pickle"),
        ("m/tokenizer/tokenizer.json", b"{}"),
    ]);
    let params = json!({ "source": "m" });
    assert_eq!(scene.declare(&json!({ "source": "m", "format": "model" })).unwrap().outputs[0].kind, kinds::MODEL);
    assert_eq!(scene.declare(&params).unwrap().outputs[0].kind, kinds::MODEL);
    let given = scene.run(&json!({ "source": "m", "format": "model" })).unwrap();
    assert_eq!(
        given.files.keys().collect::<Vec<_>>(),
        ["config.json", "model.safetensors", "tokenizer/tokenizer.json"]
    );
}

#[test]
fn a_file_that_changes_after_planning_is_not_taken() {
    let scene = Scene::new(&[("data.jsonl", b"{\"id\":\"a\"}\n"), ("f/a.bin", b"1")]);
    for (params, file) in [
        (json!({ "source": "data.jsonl", "columns": {} }), "data.jsonl"),
        (json!({ "source": "f", "format": "files" }), "f/a.bin"),
    ] {
        let resolution = scene.resolve(&params).unwrap();
        scene.write(file, b"{\"id\":\"b\"}\n");
        let failure = scene.execute(&params, &resolution).err().unwrap();
        assert!(failure.message.ends_with("changed after the run was planned"), "{failure}");
    }
}

#[test]
fn mistakes_are_found_while_planning() {
    let scene = Scene::new(&[
        ("data/photos/a.png", PNG),
        ("data/x.jsonl", b"{\"caption\":\"a\",\"score\":1}\n"),
        ("mixed/a.txt", b""),
        ("mixed/b.txt", b""),
    ]);
    let problem = |params: Value| scene.problem(&params);
    assert_eq!(
        problem(json!({ "source": "data/photo" })),
        "source: cannot read BASE/data/photo: No such file or directory (os error 2) (did you mean BASE/data/photos?)"
    );
    assert!(problem(json!({ "source": "dta/photos" })).contains("(did you mean BASE/data?)"));
    assert!(
        problem(json!({ "source": "mixed" }))
            .contains("cannot tell what `mixed` is: it holds a.txt, b.txt (say it with `format`")
    );
    let alone = problem(json!({ "source": "mixed/a.txt" }));
    assert!(alone.contains("cannot tell what `mixed/a.txt` is by its name (say it with `format`"), "{alone}");
    assert!(
        problem(json!({ "source": "mixed", "format": "images" }))
            .contains("`format` is images, but `mixed` holds no images")
    );
    assert!(problem(json!({ "source": "data", "include": ["*.jpg"] })).contains("(`include` may be too narrow)"));
    assert!(problem(json!({ "source": "data", "include": ["[a"] })).starts_with("include: `[a` is not a pattern"));
    assert!(problem(json!({ "source": "s3://x/y" })).starts_with("source: `s3://` is not a place to download from"));
    let wrong = problem(json!({ "source": "data/x.jsonl", "columns": { "captoin": "text" } }));
    assert!(
        wrong.starts_with("columns.captoin: there is no column `captoin` (text) (did you mean `caption`?"),
        "{wrong}"
    );
    let wrong = problem(json!({ "source": "data/x.jsonl", "id": "capton" }));
    assert!(wrong.starts_with("id: there is no column `capton` (text or int) (did you mean `caption`?"), "{wrong}");
    assert!(problem(json!({ "source": "mixed", "format": "files", "id": "a" })).starts_with("id: these are files"));
}

#[test]
fn what_no_one_writes_to_is_not_waited_for() {
    let scene = Scene::new(&[("photos/a.png", b"\x89PNG\r\n\x1a\n")]);
    for name in ["rows.jsonl", "rows.zip", "photos/b.png", "photos/metadata.jsonl"] {
        let made = std::process::Command::new("mkfifo").arg(scene.base.path().join(name)).status().unwrap();
        assert!(made.success());
    }
    let (sender, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let alone = [json!({ "source": "rows.jsonl" }), json!({ "source": "rows.zip", "format": "files" })];
        let problems = alone.map(|params| scene.problem(&params));
        sender.send((problems, scene.run(&json!({ "source": "photos" })).unwrap().ids().len())).unwrap();
    });
    let (problems, images) = told.recv_timeout(std::time::Duration::from_secs(20)).expect("it waits");
    let told = |name: &str| {
        format!(
            "source: BASE/{name} is neither a file nor a folder (what comes through a pipe or a device is gone once it is read: save it to a file)"
        )
    };
    assert_eq!((problems, images), ([told("rows.jsonl"), told("rows.zip")], 1));
}

#[test]
fn what_a_shell_would_make_of_a_source_is_told() {
    let scene = Scene::new(&[("data/a.png", b"\x89PNG\r\n\x1a\n")]);
    let problem = |source: &str| scene.problem(&json!({ "source": source }));
    assert!(problem("~/data").ends_with("(`~` stands for itself here: write the whole path)"));
    assert!(problem("$HOME/data").contains("(`$HOME` stands for itself here"));
    assert!(
        problem("data/*.png").ends_with("(write `source = \"data\"`, and choose its files: `include = [\"*.png\"]`)")
    );
    assert!(problem("DATA").ends_with("(did you mean BASE/data?)"));
}

#[test]
fn an_odd_entry_of_a_folder_costs_no_more_than_itself() {
    use std::os::unix::ffi::OsStrExt;
    let scene = Scene::new(&[("photos/a.png", b"\x89PNG\r\n\x1a\n"), ("photos/d/b.png", b"\x89PNG\r\n\x1a\n")]);
    let photos = scene.base.path().join("photos");
    fs::write(photos.join(std::ffi::OsStr::from_bytes(b"\xff.png")), b"\x89PNG\r\n\x1a\n").unwrap();
    std::os::unix::fs::symlink(&photos, photos.join("d/loop")).unwrap();
    let params = json!({ "source": "photos" });
    let resolution = scene.resolve(&params).unwrap();
    let around = fs::canonicalize(&photos).unwrap();
    let note = format!("d/loop is left out: it is a link to {}, in which it lies", around.display());
    assert!(resolution.notes.contains(&note), "{:?}", resolution.notes);
    let given = scene.run(&params).unwrap();
    assert_eq!(given.ids(), ["a.png", "d/b.png"]);
    assert_eq!(given.bad(), [("\u{fffd}.png", "image: unreadable", "its name is not UTF-8")]);
    let problem = scene.problem(&json!({ "source": "photos", "format": "files" }));
    assert!(problem.starts_with("source: d/loop cannot be part of a files/1: it is a link to"), "{problem}");
    assert!(problem.ends_with("(rename or remove it, or choose other files with `include`)"), "{problem}");
    scene.declare(&json!({ "source": "photos", "format": "files", "include": ["a.png"] })).unwrap();
}
