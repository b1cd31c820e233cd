//! Tests of `command` through what the engine calls: resolve, declare, execute.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use pipe_engine::cell::Cell;
use pipe_engine::column::Column;
use pipe_engine::problem::{FailureClass, Subject};
use pipe_engine::stage::Shape;
use pipe_engine::step::{ChunkView, Data, DatasetView, Input, Inputs, Level, Sink, StepTask};
use pipe_engine::{Digest, Key, StatIndex};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::testing::{Given, Quiet, Taker, blob, file_set, schema};

/// A pipeline's directory, and a step of it.
struct Scene {
    base: TempDir,
    scratch: TempDir,
    inputs: Inputs,
    taker: Taker,
}

impl Scene {
    fn new(files: &[(&str, &str)]) -> Self {
        let base = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = base.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Self { base, scratch: tempfile::tempdir().unwrap(), inputs: Inputs::new(), taker: Taker::default() }
    }

    fn resolve(&self, params: &Value) -> Result<Resolution, Problem> {
        let (base, index) = (self.base.path(), &StatIndex::in_memory());
        resolve(&ResolveContext { params, base, index, pinned: &|_| Ok(None), ask: None })
    }

    fn names(&self, params: &Value) -> Vec<String> {
        self.resolve(params).unwrap().files.into_iter().map(|file| file.name).collect()
    }

    fn output(&self, port: &str) -> PathBuf {
        self.scratch.path().join("outputs").join(port)
    }

    fn run(&self, params: &Value) -> Result<(), Failure> {
        self.run_with(params, &Quiet)
    }

    fn run_with(&self, params: &Value, sink: &dyn Sink) -> Result<(), Failure> {
        for left in ["outputs", "attempt"] {
            let _ = fs::remove_dir_all(self.scratch.path().join(left));
        }
        let outputs: Vec<String> = params["outputs"].as_object().unwrap().keys().cloned().collect();
        for name in &outputs {
            fs::create_dir_all(self.output(name)).unwrap();
        }
        let attempt = self.scratch.path().join("attempt");
        fs::create_dir_all(&attempt).unwrap();
        let task = StepTask {
            step: "step".into(),
            stage: "command".into(),
            key: Key::of(b""),
            params: params.clone(),
            inputs: self.inputs.clone(),
            outputs: outputs.into_iter().map(|name| (name.clone(), self.output(&name))).collect(),
            scratch: attempt,
            checkpoint: None,
            lineage: Vec::new(),
            device: "cpu".into(),
            threads: 3,
            sources: self.resolve(params).unwrap().files,
            log: None,
        };
        execute(&StepContext {
            task: &task,
            sink,
            credentials: pipe_engine::source::Credentials::none(),
            datasets: Some(&self.taker),
        })
    }

    fn failure(&self, params: &Value) -> Failure {
        self.run(params).unwrap_err()
    }
}

fn input(data: Data, label: &str) -> Input {
    Input { label: label.into(), from: label.into(), kind: "x/1".into(), digest: Digest::of(b""), data }
}

fn sh(script: &str) -> Value {
    json!({ "run": ["sh", "-c", script], "outputs": { "made": "files" } })
}

fn declare_for(params: &Value, ports: &[&str]) -> Result<Contract, Problem> {
    let shape = || Shape { label: "x".into(), kind: "dataset/1".into(), schema: None };
    let inputs: BTreeMap<_, _> = ports.iter().map(|port| ((*port).to_owned(), vec![shape()])).collect();
    declare(&Declare { params, inputs: &inputs, resolution: None })
}

#[test]
fn a_dataset_goes_through_a_program() {
    let store = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(&[(
        "double.sh",
        "sed 's/\"n\":\\([0-9]*\\)/\"n\":\\1\\1/' $1/rows.jsonl > $2/rows.jsonl\ncp -r $1/images $2/\n",
    )]);
    let png = blob(store.path(), b"\x89PNG\r\n\x1a\n");
    let columns = [
        ("id", Column::texts(["a".to_owned(), "b".to_owned()])),
        ("image", Column::Image(vec![Some(png.digest), None])),
        ("n", Column::Int(vec![Some(1), Some(2)])),
    ];
    let stored = columns.map(|(name, column)| (name.to_owned(), blob(store.path(), &column.encode())));
    let types = [("image", ColumnType::Image), ("n", ColumnType::Int)];
    let chunks = vec![ChunkView { rows: 2, columns: stored.into() }];
    let view = DatasetView { schema: schema(&types), rows: 2, chunks, images: [(png.digest, png.clone())].into() };
    scene.inputs.insert("rows".into(), vec![input(Data::Dataset(view), "x")]);
    let params = json!({
        "run": ["sh", "double.sh", "{in}/rows", "{out}/doubled"],
        "outputs": { "doubled": "dataset" }, "columns": { "doubled": { "n": "int", "image": "image" } },
    });
    assert_eq!(declare_for(&params, &["rows"]).unwrap().outputs[0].schema, Some(schema(&types)));
    scene.run(&params).unwrap();
    let given = scene.taker.taken("doubled");
    assert_eq!((given.ids(), given.bad()), (vec!["a", "b"], vec![]));
    assert_eq!(given.rows[0].cells, [Cell::NewImage(b"\x89PNG\r\n\x1a\n".into()), Cell::Int(11)]);
    assert_eq!(given.rows[1].cells, [Cell::Null, Cell::Int(22)]);
}

#[test]
fn files_go_through_a_program() {
    let mut scene = Scene::new(&[]);
    let (_a, one) = file_set(&[("x/one.txt", b"1")]);
    let (_b, two) = file_set(&[("two.txt", b"2")]);
    scene.inputs.insert("single".into(), vec![input(Data::Files(one.clone()), "one")]);
    scene.inputs.insert("several".into(), vec![input(Data::Files(one), "one"), input(Data::Files(two), "two")]);
    let script = "cd {in}; mkdir {out}/made/d; cat single/x/one.txt several/one/x/one.txt several/two/two.txt > {out}/made/d/all";
    scene.run(&sh(script)).unwrap();
    assert_eq!(fs::read_to_string(scene.output("made").join("d/all")).unwrap(), "112");
}

#[test]
fn every_label_has_a_folder_of_its_own() {
    let mut scene = Scene::new(&[]);
    let labels = ["a/b", "a_b", "A_b", "..", ".", "_..", "x=../../../../up", &"l".repeat(300)];
    let (_dirs, inputs): (Vec<_>, Vec<_>) = labels
        .iter()
        .map(|label| {
            let (dir, files) = file_set(&[("label", label.as_bytes())]);
            (dir, input(Data::Files(files), label))
        })
        .unzip();
    scene.inputs.insert("several".into(), inputs);
    scene.run(&sh("find {in}/several -name label | wc -l > {out}/made/count; cp -r {in}/several {out}/made")).unwrap();
    assert_eq!(fs::read_to_string(scene.output("made").join("count")).unwrap().trim(), labels.len().to_string());
    let folders = fs::read_dir(scene.output("made").join("several")).unwrap();
    let mut found: Vec<String> =
        folders.map(|folder| fs::read_to_string(folder.unwrap().path().join("label")).unwrap()).collect();
    found.sort();
    let mut wanted = labels.map(str::to_owned);
    wanted.sort();
    assert_eq!(found, wanted);
}

#[test]
fn a_program_sees_only_what_is_in_its_key() {
    let files = [
        ("main.sh", "ls -A; cat data/x.txt"),
        ("data/x.txt", "x"),
        ("lib/a.py", ""),
        ("lib/b/c.py", ""),
        ("secret", ""),
    ];
    let scene = Scene::new(&files);
    let params = |files: Value| json!({ "run": ["sh", "./main.sh"], "files": files, "outputs": { "made": "files" } });
    assert_eq!(scene.names(&params(json!([]))), ["main.sh"]);
    let made = std::process::Command::new("mkfifo").arg(scene.base.path().join("pipe")).status().unwrap();
    assert!(made.success());
    assert_eq!(
        scene.names(&json!({ "run": ["sh", "./pipe", "main.sh"], "outputs": { "made": "files" } })),
        ["main.sh"]
    );
    assert_eq!(scene.names(&params(json!(["lib"]))), ["lib/a.py", "lib/b/c.py", "main.sh"]);
    assert_eq!(scene.names(&params(json!(["lib/*.py", "data/x.txt"]))), ["data/x.txt", "lib/a.py", "main.sh"]);
    let failure = scene.failure(&params(json!([])));
    assert!(failure.message.contains("data/x.txt: No such file") && failure.message.contains("\nmain.sh"), "{failure}");
    let failure = scene.failure(&params(json!(["data"])));
    assert_eq!(failure.message, "the program left nothing in {out}/made");
}

#[test]
fn the_environment_is_its_own() {
    let scene = Scene::new(&[]);
    let mut params =
        sh("env | cut -d= -f1 | sort > {out}/made/names; echo $GREETING $OMP_NUM_THREADS > {out}/made/values");
    params["env"] = json!({ "GREETING": "hello" });
    scene.run(&params).unwrap();
    let names = fs::read_to_string(scene.output("made").join("names")).unwrap();
    let own = ["GREETING", "OMP_NUM_THREADS", "PWD", "OLDPWD", "SHLVL", "TMPDIR", "_"];
    assert!(names.lines().all(|name| own.contains(&name) || program::INHERITED.contains(&name)), "{names}");
    assert_eq!(fs::read_to_string(scene.output("made").join("values")).unwrap(), "hello 3\n");
}

#[test]
fn a_failing_program_says_why() {
    let scene = Scene::new(&[]);
    let failure = scene.failure(&sh("for i in $(seq 30); do echo line $i; done; echo oops >&2; exit 7"));
    assert!(failure.message.starts_with("sh ended with code 7; its last lines were:\nline 12\n"), "{failure}");
    assert!(failure.message.ends_with("line 30\noops"));
    assert!(scene.failure(&sh("kill -9 $$")).message.starts_with("sh was killed (signal 9)"));
    assert_eq!(scene.failure(&sh("exit 1")).message, "sh ended with code 1; it printed nothing");
}

/// A sink that is cancelled from some time on.
struct Until(Instant);

impl Sink for Until {
    fn progress(&self, _done: u64, _total: u64, _note: &str) {}
    fn log(&self, _level: Level, _message: &str) {}
    fn measure(&self, _name: &str, _value: f64) {}
    fn checkpoint(&self, _at: u64, _dir: &Path) -> Result<(), Failure> {
        Ok(())
    }
    fn cancelled(&self) -> bool {
        Instant::now() >= self.0
    }
}

#[test]
fn an_interrupted_program_ends_with_its_children() {
    let scene = Scene::new(&[]);
    let params = sh("sleep 30 & echo $! > {out}/made/child; wait");
    let start = Instant::now();
    let failure = scene.run_with(&params, &Until(start + Duration::from_secs(1))).unwrap_err();
    assert_eq!(failure.class, FailureClass::Interrupted);
    assert!(start.elapsed() < Duration::from_secs(20));
    let child = fs::read_to_string(scene.scratch.path().join("attempt/out/made/child")).unwrap();
    // It has its signal; when the system has taken it away is the system's affair.
    let alive = || {
        let state = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    };
    while alive() {
        assert!(start.elapsed() < Duration::from_secs(20), "the child lives on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn outputs_are_checked() {
    let scene = Scene::new(&[]);
    let run = |script: &str, kind: &str| {
        scene.failure(&json!({ "run": ["sh", "-c", script], "outputs": { "made": kind } })).message
    };
    assert!(run("ln -s /etc/passwd {out}/made/x", "files").contains("a link or a device at {out}/made/x"));
    assert!(
        run("echo no > {out}/made/metrics.json", "metrics")
            .starts_with("not a metrics/1: metrics.json is not a JSON object")
    );
    assert!(run("true", "dataset").starts_with("the program left no {out}/made/rows.jsonl"));
    let rows = r#"{"id":"a","n":1}
{"id":"a","n":2}
{"n":3}
{"id":"b","n":"x"}
{"id":"c","photo":"../../secret"}
{"id":"d","photo":"none.png"}"#;
    let script = format!("cat > {{out}}/made/rows.jsonl <<'END'\n{rows}\nEND");
    let params = json!({
        "run": ["sh", "-c", script], "outputs": { "made": "dataset" }, "columns": { "made": { "n": "int", "photo": "image" } },
    });
    scene.run(&params).unwrap();
    let given: Given = scene.taker.taken("made");
    let bad: Vec<_> = given.bad().into_iter().map(|(at, class, _)| (at, class)).collect();
    assert_eq!(given.ids(), ["a"]);
    let classes = ["id: duplicate", "id: missing", "column: wrong type", "image: outside", "image: missing"];
    let lines: Vec<String> = (2..=6).map(|line| format!("made/rows.jsonl:{line}")).collect();
    assert_eq!(bad, lines.iter().map(String::as_str).zip(classes).collect::<Vec<_>>());
}

#[test]
fn a_file_that_changes_after_planning_is_not_used() {
    let scene = Scene::new(&[("main.sh", "true")]);
    let params = json!({ "run": ["sh", "main.sh"], "outputs": { "made": "files" } });
    let planned = scene.resolve(&params).unwrap().files;
    fs::write(scene.base.path().join("main.sh"), "false").unwrap();
    let failure = files::lay_out(&["sh".into(), "main.sh".into()], &planned, scene.scratch.path()).unwrap_err();
    assert!(failure.message.ends_with("changed after the run was planned"), "{failure}");
}

#[test]
fn a_program_named_by_a_path_starts_where_it_lies() {
    let scene = Scene::new(&[("bin/tool", "#!/bin/sh\necho $0 > $1/at\n")]);
    let tool = scene.base.path().join("bin/tool");
    fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let params = json!({ "run": ["./bin/tool", "{out}/made"], "outputs": { "made": "files" } });
    assert_eq!(scene.names(&params), ["bin/tool"]);
    scene.run(&params).unwrap();
    let at = fs::read_to_string(scene.output("made").join("at")).unwrap();
    assert_eq!(fs::canonicalize(at.trim()).unwrap(), fs::canonicalize(tool).unwrap());
}

#[test]
fn mistakes_are_found_while_planning() {
    let scene = Scene::new(&[("lib/x.py", "")]);
    let resolved = |run: &str, files: Value| {
        let params = json!({ "run": [run], "files": files, "outputs": { "made": "files" } });
        let problem = scene.resolve(&params).unwrap_err();
        format!("{} ({})", problem.message, problem.help.unwrap_or_default())
    };
    assert_eq!(resolved("basj", json!([])), "there is no program `basj` on PATH (did you mean `bash`?)");
    assert!(resolved("./x", json!([])).starts_with("there is no program"));
    assert_eq!(
        resolved("sh", json!(["~/x"])),
        "there is no file `~/x` (`~` stands for itself here: write the whole path)"
    );
    let script = |run: Value| {
        let problem = scene.resolve(&json!({ "run": run, "outputs": { "made": "files" } })).unwrap_err();
        let base = scene.base.path().display().to_string();
        format!("{:?}: {} ({})", problem.subject, problem.message, problem.help.unwrap_or_default())
            .replace(&base, "BASE")
    };
    assert_eq!(
        script(json!(["sh", "-x", "lib/y.sh", 3])),
        "Param(\"run.2\"): there is no script `lib/y.sh` (BASE/lib exists, and has no `y.sh`)"
    );
    assert_eq!(
        script(json!(["/bin/sh", "libb/x.sh"])),
        "Param(\"run.1\"): there is no script `libb/x.sh` (did you mean BASE/lib?)"
    );
    for fine in
        [json!(["sh", "-c", "x.sh"]), json!(["sh", "{out}/made/x.sh"]), json!(["cat", "x.sh"]), json!(["sh", "lib/x"])]
    {
        scene.resolve(&json!({ "run": fine, "outputs": { "made": "files" } })).unwrap();
    }
    assert_eq!(resolved("sh", json!(["lob"])), "there is no file `lob` (did you mean `lib`?)");
    assert!(resolved("sh", json!(["../x"])).starts_with("`../x` leads out of the folder"));
    assert!(resolved("sh", json!(["lib/[x"])).starts_with("`lib/[x` is not a pattern"));

    let declared = |params: Value| {
        let problem = declare_for(&params, &["rows"]).unwrap_err();
        let Subject::Param(at) = &problem.subject else { panic!("{problem:?}") };
        format!("{at}: {} ({})", problem.message, problem.help.unwrap_or_default())
    };
    let outputs = json!({ "made": "dataset", "log": "files" });
    assert_eq!(
        declared(json!({ "run": ["sh", "{in}/rws/rows.jsonl"], "outputs": outputs })),
        "run: `{in}/rws/rows.jsonl`: there is no input `rws` (did you mean `{in}/rows`?)"
    );
    assert!(
        declared(json!({ "run": ["sh", "--to={out}/mad"], "outputs": outputs })).contains("there is no output `mad`")
    );
    for name in ["", ".", "../o", "/o", "a b", "@bad.made", "a.b"] {
        let told = declared(json!({ "run": ["sh"], "outputs": { name: "files" } }));
        assert_eq!(told, format!("outputs.{name}: {name:?} cannot name an output (use letters, digits, `_` and `-`)"));
    }
    let columns =
        |name: &str, column: &str| json!({ "run": ["sh"], "outputs": outputs, "columns": { name: { column: "int" } } });
    assert!(declared(columns("mde", "n")).starts_with("columns.mde: there is no output `mde` (did you mean `made`?)"));
    assert!(declared(columns("log", "n")).starts_with("columns.log: `log` is a files/1, which has no columns"));
    assert!(declared(columns("made", "id")).starts_with("columns.made.id: every dataset has an `id`"));
}
