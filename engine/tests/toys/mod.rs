//! Toy stages, and a directory to run pipelines of them in.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use pipe_cache::Store;
use pipe_engine::cell::{Cell, ColumnType, Row, Schema};
use pipe_engine::event::{Event, Events, Reporter};
use pipe_engine::graph::{self, Graph};
use pipe_engine::problem::{Failure, FailureClass};
use pipe_engine::run::{self, Context, Limits, Summary};
use pipe_engine::source::{BadRow, Credentials, SourceContext};
use pipe_engine::spec::{Overrides, Spec, SpecError, SpecText};
use pipe_engine::stage::{Contract, DATASET, Execute, METRICS, Port, Resources, RowFailure, Stage, params_schema};
use pipe_engine::step::StepContext;
use pipe_engine::worker::client::{WorkerSetup, Workers};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

// ---- `say`: writes its text; fails, hangs or waits if asked ---------------------------------------------------------

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SayParams {
    /// What it says.
    #[serde(default)]
    text: String,
    #[serde(default = "seed")]
    seed: u64,
    #[serde(default)]
    mood: Mood,
}

const fn seed() -> u64 {
    12_345
}

#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Mood {
    #[default]
    Good,
    /// Fails twice in a way that may pass.
    Flaky,
    /// Misses an input the first time, as when it was moved while it was read.
    Moved,
    /// Misses an input every time.
    Gone,
    Bad,
    Slow,
}

/// Attempts of flaky and moved steps.
pub static TRIES: AtomicU32 = AtomicU32::new(0);

pub const SAY: Stage = Stage {
    name: "say",
    version: 1,
    about: "says something",
    inputs: &[Port::one("before", &["*"], "what must be said before").many().optional()],
    outputs: &[Port::one("said", &["files/1"], "what it said")],
    params: params_schema::<SayParams>,
    resources: Resources::ONE_CORE,
    resolve: None,
    declare: |_| Ok(Contract::default()),
    execute: Execute::Step(say),
};

fn say(context: &StepContext<'_>) -> Result<(), Failure> {
    let params: SayParams = context.params()?;
    match params.mood {
        Mood::Flaky if TRIES.fetch_add(1, Ordering::SeqCst) % 3 != 2 => return Err(Failure::transient("no luck")),
        Mood::Moved if TRIES.fetch_add(1, Ordering::SeqCst) == 0 => return Err(lost()),
        Mood::Gone => {
            TRIES.fetch_add(1, Ordering::SeqCst);
            return Err(lost());
        }
        Mood::Bad => return Err(Failure::input("as asked")),
        Mood::Slow => {
            while !context.sink.cancelled() {
                std::thread::sleep(Duration::from_millis(5));
            }
            return Err(Failure::interrupted());
        }
        _ => {}
    }
    write(context, "said", "said.txt", &format!("{} {}", params.text, params.seed))
}

fn lost() -> Failure {
    Failure::new(FailureClass::Lost, "an object is gone")
}

fn write(context: &StepContext<'_>, port: &str, name: &str, content: &str) -> Result<(), Failure> {
    let path = context.output(port)?.join(name);
    fs::write(&path, content).map_err(|error| Failure::io("write", &path, &error))
}

// ---- `list`: the labels of its inputs; `pick`: needs one input ------------------------------------------------------

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoParams {}

const FILES: &[Port] = &[Port::one("said", &["files/1"], "files")];

pub const LIST: Stage = Stage {
    name: "list",
    inputs: &[Port::one("all", &["*"], "what to list").many()],
    outputs: FILES,
    params: params_schema::<NoParams>,
    execute: Execute::Step(|context| {
        let labels: Vec<&str> = context.inputs("all").iter().map(|input| input.label.as_str()).collect();
        write(context, "said", "labels.txt", &labels.join("\n"))
    }),
    ..SAY
};

pub const PICK: Stage = Stage { name: "pick", inputs: &[Port::one("one", &["files/1"], "one thing")], ..LIST };

// ---- `measure`: metrics as they are given ---------------------------------------------------------------------------

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MeasureParams {
    metrics: serde_json::Map<String, serde_json::Value>,
}

pub const MEASURE: Stage = Stage {
    name: "measure",
    outputs: &[Port::one("metrics", &[METRICS], "numbers")],
    params: params_schema::<MeasureParams>,
    execute: Execute::Step(|context| {
        let params: MeasureParams = context.params()?;
        context.sink.measure("effort", 7.0);
        write(context, "metrics", "metrics.json", &serde_json::Value::Object(params.metrics).to_string())
    }),
    ..SAY
};

// ---- `rows`: so many rows, some of which cannot be read; `secret`: asks for a token ---------------------------------

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RowsParams {
    good: u32,
    bad: u32,
}

pub const ROWS: Stage = Stage {
    name: "rows",
    inputs: &[],
    outputs: &[Port::one("rows", &[DATASET], "rows")],
    params: params_schema::<RowsParams>,
    declare: |_| Ok(Contract::default().gives_dataset("rows", numbers())),
    execute: Execute::Source(make_rows),
    ..SAY
};

fn numbers() -> Schema {
    Schema([("n".to_owned(), ColumnType::Int)].into())
}

fn make_rows(context: &SourceContext<'_>) -> Result<(), Failure> {
    let params: RowsParams = context.params()?;
    let good = (0..params.good).map(|n| Ok(Row { id: format!("r{n:05}"), cells: vec![Cell::Int(n.into())] }));
    let failure = |n: u32| RowFailure { class: "torn".to_owned(), message: format!("line {n}"), transient: false };
    let bad = (0..params.bad).map(|n| Err(BadRow { id: format!("b{n}"), failure: failure(n) }));
    context.outputs.dataset("rows", &numbers(), &mut good.chain(bad))
}

pub const SECRET: Stage = Stage {
    name: "secret",
    params: params_schema::<NoParams>,
    declare: |_| Ok(Contract { credentials: vec!["TOY_TOKEN".to_owned()], ..Contract::default() }),
    execute: Execute::Step(|context| write(context, "said", "said.txt", "")),
    ..SAY
};

pub const STAGES: &[&Stage] = &[&SAY, &LIST, &PICK, &MEASURE, &ROWS, &SECRET];

/// Keeps every event.
#[derive(Default)]
pub struct Kept(pub Mutex<Vec<Event>>);

impl Reporter for Kept {
    fn report(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

/// A directory with a pipeline and a store.
pub struct Toy {
    pub dir: tempfile::TempDir,
}

/// What a run gave and told.
pub struct Ran {
    pub summary: Summary,
    pub events: Vec<Event>,
}

impl Toy {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn run(&self, spec: &str) -> Ran {
        self.with(spec, &Credentials::default(), |graph, wanted, context, kept| {
            let summary = run::run(graph, wanted, context);
            Ran { summary, events: std::mem::take(&mut kept.0.lock().unwrap()) }
        })
    }

    pub fn with<T>(
        &self,
        spec: &str,
        credentials: &Credentials,
        action: impl FnOnce(&Graph, &[bool], &Context<'_>, &Kept) -> T,
    ) -> T {
        let store = Store::open(&self.dir.path().join("store")).unwrap();
        let graph = graph(spec).unwrap();
        let setup =
            WorkerSetup { program: "none".into(), device: "cpu".to_owned(), threads: 1, environment: Vec::new() };
        let kept = Kept::default();
        let events = Events::new(&kept, &store.runs(), "test");
        let context = Context {
            store: &store,
            workers: &Workers::new(setup),
            index: &store.stat_index(),
            base: &graph.base,
            credentials,
            events: &events,
            cancel: &AtomicBool::new(false),
            keep_going: true,
            limits: Limits { cpu: 4, net: 4, memory: u64::MAX },
            locked: None,
        };
        action(&graph, &vec![true; graph.steps.len()], &context, &kept)
    }
}

impl Ran {
    /// The steps that executed.
    pub fn executed(&self) -> Vec<&str> {
        let results = self.summary.results.iter();
        results.filter(|(_, result)| result.report.executed).map(|(step, _)| step.as_str()).collect()
    }

    /// Why steps failed: class and message.
    pub fn failed(&self) -> BTreeMap<&str, (FailureClass, &str)> {
        let failures = self.summary.failures.iter();
        failures.map(|(step, failure)| (step.as_str(), (failure.class, failure.message.as_str()))).collect()
    }
}

/// A checked pipeline.
pub fn graph(spec: &str) -> Result<Graph, SpecError> {
    let spec = Spec::parse(SpecText::new(Path::new("toy.toml"), spec), &Overrides::default())?;
    graph::check(&spec, STAGES, &pipe_cache::StatIndex::in_memory())
}

/// What is wrong with a pipeline, a line each.
pub fn wrong(spec: &str) -> String {
    match graph(spec) {
        Ok(_) => "nothing".to_owned(),
        Err(error) => error.to_string(),
    }
}
