//! The rules of running, on toy stages: what executes, what is remembered, what a failure costs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pipe_cache::Store;
use pipe_engine::cell::{Cell, ColumnType, Row, Schema};
use pipe_engine::event::{Event, Events, Reporter};
use pipe_engine::graph::{self, Graph};
use pipe_engine::plan::{self, Action};
use pipe_engine::problem::{Failure, Problem};
use pipe_engine::run::{self, Context, Limits, Summary};
use pipe_engine::source::{Credentials, SourceContext};
use pipe_engine::spec::{Overrides, Spec, SpecText};
use pipe_engine::stage::{
    Assignment, Contract, DATASET, Declare, Execute, Mark, NO_MARK, Outcome, Port, Resolution, ResolveContext,
    Resources, RowFailure, RowStage, SourceFile, Stage, TableStage, Verdict, params_schema,
};
use pipe_engine::step::{Sink, StepContext};
use pipe_engine::worker::client::{WorkerSetup, Workers};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const ROWS: &[Port] = &[Port::one("rows", &[DATASET], "rows")];

// ---- `lines`: one row per `id value note` line of a file -----------------------------------------------------------

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LinesParams {
    #[schemars(extend("x-performance" = true))]
    path: String,
}

const LINES: Stage = Stage {
    name: "lines",
    version: 1,
    about: "rows of a file",
    inputs: &[],
    outputs: ROWS,
    params: params_schema::<LinesParams>,
    resources: Resources::ONE_CORE,
    resolve: Some(resolve_lines),
    declare: |_| Ok(Contract::default().gives_dataset("rows", lines_schema())),
    execute: Execute::Source(read_lines),
};

fn lines_schema() -> Schema {
    Schema([("value".to_owned(), ColumnType::Int), ("note".to_owned(), ColumnType::Text)].into())
}

fn resolve_lines(context: &ResolveContext<'_>) -> Result<Resolution, Problem> {
    let params: LinesParams = context.params()?;
    let path = context.base.join(&params.path);
    let found = context.index.digest(&path).map_err(|error| Problem::param("path", error.to_string()))?;
    let file = SourceFile { name: "lines".to_owned(), path, digest: found.digest, len: found.len };
    Ok(Resolution { files: vec![file], ..Resolution::default() })
}

fn read_lines(context: &SourceContext<'_>) -> Result<(), Failure> {
    let text =
        fs::read_to_string(&context.resolution.files[0].path).map_err(|error| Failure::input(error.to_string()))?;
    let mut rows = text.lines().map(|line| {
        let mut words = line.split(' ');
        let id = words.next().unwrap_or_default().to_owned();
        let value = words.next().and_then(|word| word.parse().ok()).map_or(Cell::Null, Cell::Int);
        let note = Cell::Text(words.next().unwrap_or_default().to_owned());
        // In the order of the schema's names.
        Ok(Row { id, cells: vec![note, value] })
    });
    context.outputs.dataset("rows", &lines_schema(), &mut rows)
}

// ---- `double`: writes twice the value; drops odd ones if asked; fails on null ---------------------------------------

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DoubleParams {
    #[serde(default)]
    even_only: bool,
}

const DOUBLE: Stage = Stage {
    name: "double",
    version: 1,
    about: "doubles",
    inputs: ROWS,
    outputs: ROWS,
    params: params_schema::<DoubleParams>,
    resources: Resources::CORES,
    resolve: None,
    declare: |_| Ok(Contract::default().reads_columns("rows", ["value"]).writes("double", ColumnType::Int)),
    execute: Execute::Rows(|load| Ok(Box::new(load.params::<DoubleParams>()?))),
};

static DOUBLED: AtomicU64 = AtomicU64::new(0);
static NETWORK_DOWN: AtomicBool = AtomicBool::new(false);
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

impl RowStage for DoubleParams {
    fn run(&self, rows: &[Row], _: &dyn Sink) -> Result<Vec<Outcome>, Failure> {
        Ok(rows
            .iter()
            .map(|row| {
                DOUBLED.fetch_add(1, Ordering::SeqCst);
                match row.cells[0] {
                    Cell::Int(value) if self.even_only && value % 2 != 0 => Outcome::Drop("odd".to_owned()),
                    Cell::Int(13) if NETWORK_DOWN.load(Ordering::SeqCst) => Outcome::Fail(RowFailure {
                        class: "network".to_owned(),
                        message: "down".to_owned(),
                        transient: true,
                    }),
                    Cell::Int(value) => Outcome::Keep(vec![Cell::Int(value * 2)]),
                    _ => Outcome::fail("null", "no value"),
                }
            })
            .collect())
    }
}

// ---- `distinct`: keeps the first row of each value -------------------------------------------------------------------

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NoParams {}

const DISTINCT: Stage = Stage {
    name: "distinct",
    version: 1,
    about: "distinct values",
    inputs: ROWS,
    outputs: ROWS,
    params: params_schema::<NoParams>,
    resources: Resources::ONE_CORE,
    resolve: None,
    declare: |_| Ok(Contract::default().reads_columns("rows", ["value"])),
    execute: Execute::Table(|_| Ok(Box::new(Distinct))),
};

/// Rows it was shown to mark.
static MARKED: AtomicU64 = AtomicU64::new(0);

struct Distinct;

impl TableStage for Distinct {
    fn mark(&self, rows: &[Row]) -> Result<Vec<Mark>, Failure> {
        MARKED.fetch_add(rows.len() as u64, Ordering::SeqCst);
        Ok(rows.iter().map(|row| if let Cell::Int(value) = row.cells[0] { value as Mark } else { NO_MARK }).collect())
    }

    fn decide(&self, marks: &[Vec<Mark>]) -> Vec<Vec<Verdict>> {
        let mut seen = BTreeSet::new();
        let mut judge = |mark: &Mark| Verdict::from(!seen.insert(*mark));
        marks.iter().map(|chunk| chunk.iter().map(&mut judge).collect()).collect()
    }

    fn assign(&self, _: &[Row], verdicts: &[Verdict]) -> Result<Vec<Assignment>, Failure> {
        let assignment = |verdict: &Verdict| match verdict {
            0 => Assignment::Keep { port: 0, cells: Vec::new() },
            _ => Assignment::Drop("seen".to_owned()),
        };
        Ok(verdicts.iter().map(assignment).collect())
    }
}

// ---- `sum`: adds up a column; fails if asked; panics if asked -------------------------------------------------------

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SumParams {
    #[serde(default)]
    mood: String,
}

const SUM: Stage = Stage {
    name: "sum",
    version: 1,
    about: "sums",
    inputs: ROWS,
    outputs: &[Port::one("total", &["files/1"], "the sum")],
    params: params_schema::<SumParams>,
    resources: Resources::ONE_CORE,
    resolve: None,
    declare: declare_sum,
    execute: Execute::Step(sum),
};

fn declare_sum(declare: &Declare<'_>) -> Result<Contract, Problem> {
    declare.column("rows", "rows", "value", &[ColumnType::Int])?;
    Ok(Contract::default().reads_columns("rows", ["value"]))
}

fn sum(context: &StepContext<'_>) -> Result<(), Failure> {
    match context.params::<SumParams>()?.mood.as_str() {
        "fail" => return Err(Failure::input("as asked")),
        "panic" => panic!("as asked"),
        _ => {}
    }
    let rows = context.dataset("rows")?.all_rows(&["value"])?;
    let total: i64 =
        rows.iter().filter_map(|row| if let Cell::Int(value) = row.cells[0] { Some(value) } else { None }).sum();
    let path = context.output("total")?.join("total.txt");
    fs::write(&path, total.to_string()).map_err(|error| Failure::io("write", &path, &error))
}

const STAGES: &[&Stage] = &[&LINES, &DOUBLE, &DISTINCT, &SUM];

const SPEC: &str = r#"
name = "toy"
[steps.raw]
stage = "lines"
path = "rows.txt"
[steps.twice]
stage = "double"
inputs = { rows = "raw" }
[steps.few]
stage = "distinct"
inputs = { rows = "twice" }
[steps.total]
stage = "sum"
inputs = { rows = "few" }
"#;

struct Quiet;

impl Reporter for Quiet {
    fn report(&self, _: &Event) {}
}

/// A directory with rows, a pipeline over them, and a store.
struct Toy {
    dir: tempfile::TempDir,
    /// The counters are the whole process's: toys run one at a time.
    _alone: MutexGuard<'static, ()>,
}

impl Toy {
    fn new(rows: &str) -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let toy = Self { dir: tempfile::tempdir().unwrap(), _alone: alone };
        toy.write(rows);
        toy
    }

    fn write(&self, rows: &str) {
        fs::write(self.dir.path().join("rows.txt"), rows).unwrap();
    }

    fn graph(&self, store: &Store, spec: &str) -> Graph {
        let text = SpecText::new(&self.dir.path().join("toy.toml"), spec);
        let spec = Spec::parse(text, &Overrides::default()).unwrap();
        graph::check(&spec, STAGES, &store.stat_index()).unwrap()
    }

    fn with<T>(&self, store: &Path, spec: &str, action: impl FnOnce(&Graph, &[bool], &Context<'_>) -> T) -> T {
        let store = Store::open(store).unwrap();
        let graph = self.graph(&store, spec);
        let workers = Workers::new(WorkerSetup {
            program: "none".into(),
            device: "cpu".to_owned(),
            threads: 1,
            environment: Vec::new(),
        });
        let events = Events::new(&Quiet, &store.runs(), "test");
        let context = Context {
            store: &store,
            workers: &workers,
            index: &store.stat_index(),
            base: &graph.base,
            credentials: &Credentials::default(),
            events: &events,
            cancel: &AtomicBool::new(false),
            keep_going: false,
            limits: Limits::of_machine(2, u64::MAX),
            locked: None,
        };
        action(&graph, &vec![true; graph.steps.len()], &context)
    }

    fn run(&self, spec: &str) -> Summary {
        self.with(&self.dir.path().join("store"), spec, run::run)
    }

    fn planned(&self, spec: &str) -> Vec<(String, Action, Option<u64>)> {
        let plan = self.with(&self.dir.path().join("store"), spec, plan::plan).unwrap();
        plan.steps.into_iter().map(|step| (step.step, step.action, step.rows.map(|rows| rows.execute))).collect()
    }

    /// Digests of all artifacts, from a store of its own.
    fn clean(&self, spec: &str) -> BTreeMap<String, String> {
        let store = tempfile::tempdir().unwrap();
        digests(&self.with(store.path(), spec, run::run))
    }
}

fn digests(summary: &Summary) -> BTreeMap<String, String> {
    assert!(summary.complete(), "{:?}", summary.failures);
    let of = |(step, result): (&String, &run::StepResult)| {
        let outputs =
            result.outputs.iter().map(|(port, artifact)| (format!("{step}.{port}"), artifact.digest.to_string()));
        outputs.collect::<Vec<_>>()
    };
    summary.results.iter().flat_map(of).collect()
}

fn executed(summary: &Summary) -> Vec<&str> {
    summary.results.iter().filter(|(_, result)| result.report.executed).map(|(step, _)| step.as_str()).collect()
}

fn counting<T>(action: impl FnOnce() -> T) -> (T, u64) {
    let before = DOUBLED.load(Ordering::SeqCst);
    let result = action();
    (result, DOUBLED.load(Ordering::SeqCst) - before)
}

#[test]
fn what_is_done_is_not_done_again() {
    let toy = Toy::new("a 1 x\nb 2 x\nc 2 x\n");
    let (first, rows) = counting(|| toy.run(SPEC));
    assert_eq!((executed(&first).len(), rows), (4, 3));
    let (second, rows) = counting(|| toy.run(SPEC));
    assert_eq!((executed(&second).len(), rows), (0, 0));
    assert_eq!(digests(&first), digests(&second));
}

#[test]
fn an_edited_row_is_one_row_and_plan_says_so() {
    let toy = Toy::new("a 1 x\nb 2 x\nc 3 x\n");
    counting(|| toy.run(SPEC));
    toy.write("a 1 x\nb 5 x\nc 3 x\n");
    let planned = toy.planned(SPEC);
    assert_eq!(planned[1], ("twice".to_owned(), Action::Run, Some(1)));
    let (run, rows) = counting(|| toy.run(SPEC));
    assert_eq!(rows, 1);
    assert_eq!(digests(&run), toy.clean(SPEC));
}

#[test]
fn a_column_nothing_reads_may_change_for_nothing() {
    let toy = Toy::new("a 1 x\nb 2 x\n");
    counting(|| toy.run(SPEC));
    toy.write("a 1 y\nb 2 z\n");
    let (run, rows) = counting(|| toy.run(SPEC));
    assert_eq!((executed(&run), rows), (vec!["raw"], 0));
    assert_eq!(digests(&run), toy.clean(SPEC));
}

#[test]
fn the_same_bytes_upstream_stop_the_change_there() {
    let toy = Toy::new("a 1 x\nb 1 x\n");
    counting(|| toy.run(SPEC));
    // Another row with a value that is there already: `distinct` gives the same, so `sum` has nothing to do.
    toy.write("a 1 x\nb 1 x\nc 1 x\n");
    let (run, _) = counting(|| toy.run(SPEC));
    assert_eq!(executed(&run), ["few", "raw", "twice"]);
}

#[test]
fn failed_rows_are_counted_and_stop_nothing() {
    let toy = Toy::new("a 1 x\nb none x\n");
    let (run, _) = counting(|| toy.run(SPEC));
    let rows = run.results["twice"].report.rows.clone().unwrap();
    assert_eq!((rows.kept, rows.failed["null"]), (1, 1));
    let again = counting(|| toy.run(SPEC)).0;
    assert_eq!(
        again.results["twice"].report.rows.clone().unwrap().failed["null"],
        1,
        "and are still told by the next run"
    );
}

#[test]
fn a_transient_failure_is_tried_again() {
    let toy = Toy::new("a 1 x\nb 13 x\n");
    NETWORK_DOWN.store(true, Ordering::SeqCst);
    let down = toy.run(SPEC);
    assert_eq!(down.results["twice"].report.rows.as_ref().unwrap().failed["network"], 1);
    NETWORK_DOWN.store(false, Ordering::SeqCst);
    let before = DOUBLED.load(Ordering::SeqCst);
    let up = toy.run(SPEC);
    assert_eq!(DOUBLED.load(Ordering::SeqCst) - before, 1, "only the row that failed");
    assert_eq!(digests(&up), toy.clean(SPEC));
}

/// Rows in so many chunks that an edit leaves most of them alone.
fn many(edit: Option<(usize, i64)>) -> String {
    let value = |n: usize| edit.filter(|(at, _)| *at == n).map_or(n as i64, |(_, value)| value);
    (0..8000).map(|n| format!("row-{n:05} {} x\n", value(n))).collect()
}

#[test]
fn an_edit_passes_through_a_table_step() {
    let spec = "name = \"t\"\n[steps.rows]\nstage = \"lines\"\npath = \"rows.txt\"\n[steps.once]\nstage = \"distinct\"\ninputs = { rows = \"rows\" }\n";
    let toy = Toy::new(&many(None));
    let of = |summary: &Summary| summary.results["once"].report.rows.clone().unwrap();
    let first = of(&toy.run(spec));
    assert_eq!((first.total, first.executed, first.kept, first.moved), (8000, 8000, 8000, None));

    // The first row takes the value of the last, which is now the second of its sort.
    let marked = MARKED.load(Ordering::SeqCst);
    toy.write(&many(Some((0, 7999))));
    let planned = toy.planned(spec);
    let run = toy.run(spec);
    let second = of(&run);
    assert_eq!((second.kept, second.dropped["seen"], second.moved), (7999, 1, Some(1)));
    assert!(second.executed < 8000 && planned[1].2 == Some(second.executed), "{second:?}, {planned:?}");
    assert!(MARKED.load(Ordering::SeqCst) - marked < 8000, "only the changed chunk is marked");
    assert_eq!(digests(&run), toy.clean(spec));
}

#[test]
fn a_column_that_a_table_step_does_not_read_may_change_for_nothing() {
    let spec = "name = \"t\"\n[steps.rows]\nstage = \"lines\"\npath = \"rows.txt\"\n\
                [steps.once]\nstage = \"distinct\"\ninputs = { rows = \"rows\" }\n\
                [steps.total]\nstage = \"sum\"\ninputs = { rows = \"once\" }\n";
    let toy = Toy::new("a 1 x\nb 2 x\n");
    assert!(toy.run(spec).complete());
    toy.write("a 1 y\nb 2 x\n");
    assert_eq!(toy.planned(spec)[1], ("once".to_owned(), Action::Assemble, Some(0)));
    assert_eq!(executed(&toy.run(spec)), ["rows"]);
}

#[test]
fn the_plan_is_not_certain_of_what_may_be_remembered_by_then() {
    let toy = Toy::new("a 1 x\nb 2 x\n");
    let certain = |spec: &str| {
        let plan = toy.with(&toy.dir.path().join("store"), spec, plan::plan).unwrap();
        plan.steps.into_iter().filter_map(|step| Some(step.rows?.exact)).collect::<Vec<_>>()
    };
    let rows = "name = \"t\"\n[steps.rows]\nstage = \"lines\"\npath = \"rows.txt\"\n";
    let step = |name: &str| format!("[steps.{name}]\nstage = \"double\"\ninputs = {{ rows = \"rows\" }}\n");
    assert_eq!(certain(&format!("{rows}{}", step("one"))), [true]);
    assert_eq!(certain(&format!("{rows}{}{}", step("one"), step("same"))), [false, false]);
    toy.write("a 1 x\nb 1 y\n");
    assert_eq!(certain(&format!("{rows}{}", step("one"))), [false], "two rows are the same to it");
}

#[test]
fn of_no_rows_every_step_gives_columns_of_its_own() {
    let spec = "name = \"t\"\n[steps.rows]\nstage = \"lines\"\npath = \"rows.txt\"\n\
                [steps.twice]\nstage = \"double\"\ninputs = { rows = \"rows\" }\n\
                [steps.once]\nstage = \"distinct\"\ninputs = { rows = \"rows\" }\n";
    let toy = Toy::new("");
    let run = toy.run(spec);
    let columns = |step: &str| {
        let dataset = run.results[step].outputs["rows"].manifest.as_dataset().unwrap();
        dataset.schema.names().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(columns("twice"), ["double", "note", "value"]);
    assert_eq!(columns("once"), ["note", "value"]);
}

#[test]
fn a_failed_step_costs_what_depends_on_it() {
    let toy = Toy::new("a 1 x\n");
    for mood in ["fail", "panic"] {
        let spec = format!("{SPEC}mood = \"{mood}\"\n");
        let run = counting(|| toy.run(&spec)).0;
        assert_eq!(run.failures.len(), 1);
        assert!(run.failures[0].1.message.contains("as asked"), "{:?}", run.failures);
        assert!(run.results.contains_key("few"));
    }
}

#[test]
fn a_damaged_object_is_made_again() {
    let toy = Toy::new("a 1 x\nb 2 x\n");
    let first = counting(|| toy.run(SPEC)).0;
    for entry in fs::read_dir(toy.dir.path().join("store/packs")).unwrap().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "pack") {
            let len = fs::metadata(entry.path()).unwrap().len();
            // Packs are read-only.
            fs::remove_file(entry.path()).unwrap();
            fs::write(entry.path(), vec![0; usize::try_from(len).unwrap()]).unwrap();
        }
    }
    let again = (0..6).find_map(|_| {
        let run = counting(|| toy.run(SPEC)).0;
        run.complete().then(|| digests(&run))
    });
    assert_eq!(again, Some(digests(&first)));
}

#[test]
fn a_changed_parameter_is_another_key() {
    let toy = Toy::new("a 1 x\nb 2 x\n");
    counting(|| toy.run(SPEC));
    let spec = SPEC.replace("inputs = { rows = \"raw\" }", "inputs = { rows = \"raw\" }\neven_only = true");
    let (run, rows) = counting(|| toy.run(&spec));
    assert_eq!((run.results["twice"].report.rows.as_ref().unwrap().dropped["odd"], rows), (1, 2));
}
