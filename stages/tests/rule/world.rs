//! A directory with sources, a pipeline and a store: what a run gives there, and in an empty store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use pipe_cache::Store;
use pipe_engine::event::{Event, Events, Reporter};
use pipe_engine::gc::{self, Policy};
use pipe_engine::graph::{self, Graph};
use pipe_engine::plan::{self, Plan};
use pipe_engine::problem::Failure;
use pipe_engine::run::{self, Context, LeftOut, Limits, Summary};
use pipe_engine::source::Credentials;
use pipe_engine::spec::{Overrides, Spec, SpecText};
use pipe_engine::verify;
use pipe_engine::worker::client::{WorkerSetup, Workers};

use super::pipeline::Pipeline;
use super::sources::Sources;

/// See the module.
pub struct World {
    dir: tempfile::TempDir,
    pub sources: Sources,
    pub pipeline: Pipeline,
    runs: AtomicU32,
}

/// What is to be the same, however a result came about.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    /// Of every step its key, the digests of its outputs, and what became of its rows.
    steps: BTreeMap<String, (String, BTreeMap<String, String>, String)>,
    /// The rows that steps did not keep, with why.
    left_out: BTreeMap<String, Vec<LeftOut>>,
    failed: BTreeSet<(String, String)>,
    skipped: BTreeSet<String>,
}

/// Ends a run at an event.
struct Fuse<'a> {
    left: AtomicU32,
    cancel: &'a AtomicBool,
}

impl Reporter for Fuse<'_> {
    fn report(&self, _: &Event) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.cancel.store(true, Ordering::SeqCst);
        }
    }
}

/// More events than there are.
const NEVER: u32 = u32::MAX;

impl World {
    pub fn new(sources: Sources, pipeline: Pipeline) -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap(), sources, pipeline, runs: AtomicU32::new(0) };
        world.write(false);
        world
    }

    pub fn write(&self, sly: bool) {
        self.sources.write(self.dir.path(), sly);
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn graph(&self, pipeline: &Pipeline, store: &Store) -> Graph {
        let text = pipeline.text(&self.sources.records());
        let set = pipeline.set.map(|size| ("size".to_owned(), size.to_string())).into_iter().collect();
        let overrides = Overrides { profile: pipeline.profile.then(|| "other".to_owned()), set };
        let index = store.stat_index();
        let spec = Spec::parse(SpecText::new(&self.dir.path().join("p.toml"), text.as_str()), &overrides);
        let graph = spec.and_then(|spec| graph::check(&spec, pipe_stages::TABLE, &index));
        index.save().unwrap();
        graph.unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// Does something as a process of its own would that is interrupted at an event.
    fn with<T>(
        &self,
        pipeline: &Pipeline,
        root: &Path,
        fuse: u32,
        action: impl FnOnce(&Graph, &Context<'_>) -> T,
    ) -> T {
        let store = Store::open(root).unwrap();
        let graph = self.graph(pipeline, &store);
        let setup =
            WorkerSetup { program: "none".into(), device: "cpu".to_owned(), threads: 1, environment: Vec::new() };
        let cancel = AtomicBool::new(false);
        let reporter = Fuse { left: AtomicU32::new(fuse), cancel: &cancel };
        let name = format!("{:06}", self.runs.fetch_add(1, Ordering::SeqCst));
        let events = Events::new(&reporter, &store.runs(), &name);
        let index = store.stat_index();
        let context = Context {
            store: &store,
            workers: &Workers::new(setup),
            index: &index,
            base: &graph.base,
            credentials: &Credentials::default(),
            events: &events,
            cancel: &cancel,
            keep_going: true,
            limits: Limits { cpu: 4, net: 4, memory: u64::MAX },
            locked: None,
        };
        let done = action(&graph, &context);
        index.save().unwrap();
        done
    }

    fn run(&self, root: &Path) -> (Summary, Outcome) {
        self.with(&self.pipeline, root, NEVER, |graph, context| {
            let summary = run::run(graph, &vec![true; graph.steps.len()], context);
            let found = run::find_all(graph, context).unwrap();
            let left_out = graph.steps.iter().zip(&found).filter_map(|(step, found)| {
                // What was skipped this time may have a result of another.
                summary.results.get(&step.name)?;
                Some((step.name.clone(), found.as_ref()?.left_out(step, context.store).unwrap()))
            });
            let outcome = outcome(&summary, left_out.collect());
            (summary, outcome)
        })
    }

    pub fn text(&self) -> String {
        self.pipeline.text(&self.sources.records())
    }

    /// What a run in an empty store gives.
    pub fn clean(&self) -> Outcome {
        let store = tempfile::tempdir().unwrap();
        self.run(store.path()).1
    }

    /// What a run in the store of this world gives; checks what the plan said of it, and that nothing is left to do then.
    pub fn incremental(&self) -> Outcome {
        let planned = self.plan();
        let (summary, outcome) = self.run(&self.store());
        keeps_to(&planned, &summary);
        let (again, same) = self.run(&self.store());
        let executed: Vec<_> = again.results.iter().filter(|(_, result)| result.report.executed).collect();
        assert!(executed.is_empty(), "a second run executes {executed:?}");
        assert_eq!(outcome, same, "a second run gives something else");
        outcome
    }

    fn plan(&self) -> Plan {
        self.with(&self.pipeline, &self.store(), NEVER, |graph, context| {
            plan::plan(graph, &vec![true; graph.steps.len()], context).unwrap()
        })
    }

    /// A run that is interrupted after so many events.
    pub fn interrupted(&self, events: u32) {
        self.with(&self.pipeline, &self.store(), events, |graph, context| {
            drop(run::run(graph, &vec![true; graph.steps.len()], context));
        });
    }

    /// A run of one step and what it needs.
    pub fn one_step(&self, step: usize) {
        self.with(&self.pipeline, &self.store(), NEVER, |graph, context| {
            let name = graph.steps[step % graph.steps.len()].name.clone();
            drop(run::run(graph, &graph.select(&[name]).unwrap(), context));
        });
    }

    /// A run of another pipeline in the same store.
    pub fn other(&self, pipeline: &Pipeline) {
        self.with(pipeline, &self.store(), NEVER, |graph, context| {
            drop(run::run(graph, &vec![true; graph.steps.len()], context));
        });
    }

    pub fn collect(&self, keep_runs: usize) {
        let store = Store::open(&self.store()).unwrap();
        let policy =
            Policy { specs: Vec::new(), keep_runs, keep: Duration::ZERO, grace: Duration::ZERO, max_size: None };
        gc::collect(&store, Vec::new(), &policy, true).unwrap();
    }

    /// That the store holds what it says.
    pub fn verify(&self) {
        let store = Store::open(&self.store()).unwrap();
        let verified = verify::verify(&store, false, &AtomicBool::new(false), &|_, _| {}).unwrap();
        assert!(verified.damage.is_empty(), "{:?}", verified.damage);
    }
}

fn outcome(summary: &Summary, left_out: BTreeMap<String, Vec<LeftOut>>) -> Outcome {
    let steps = summary.results.iter().map(|(name, result)| {
        let outputs = result.report.outputs.iter().map(|(port, digest)| (port.clone(), digest.to_string()));
        let rows = result.report.rows.as_ref().map(|rows| (rows.total, rows.kept, &rows.dropped, &rows.failed));
        (name.clone(), (format!("{:?}", result.report.key), outputs.collect(), format!("{rows:?}")))
    });
    let class = |(step, failure): &(String, Failure)| (step.clone(), format!("{:?}", failure.class));
    Outcome {
        steps: steps.collect(),
        left_out,
        failed: summary.failures.iter().map(class).collect(),
        skipped: summary.skipped.iter().cloned().collect(),
    }
}

/// That a run did what the plan was certain of.
fn keeps_to(plan: &Plan, summary: &Summary) {
    for planned in &plan.steps {
        let Some(result) = summary.results.get(&planned.step) else { continue };
        let report = &result.report;
        assert!(planned.action != plan::Action::Reuse || !report.executed, "{planned:?}, but {report:?}");
        if let (Some(said), Some(rows)) = (planned.rows.filter(|rows| rows.exact), &report.rows) {
            let executed = if report.executed { rows.executed } else { 0 };
            assert_eq!((said.total, said.execute), (rows.total, executed), "{planned:?}, but {report:?}");
        }
    }
}
