//! What every command on a pipeline needs: the checked graph, the store, the worker's whereabouts, the credentials.
//!
//! The only place that reads the environment.

use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use pipe_cache::{StatIndex, Store};
use pipe_engine::earlier::Earlier;
use pipe_engine::event::{Event, Events, Reporter};
use pipe_engine::graph::{self, Graph, Step};
use pipe_engine::origin::Origin;
use pipe_engine::problem::Failure;
use pipe_engine::run::{Context, Limits};
use pipe_engine::source::{Credentials, Secret};
use pipe_engine::spec::{Overrides, Spec};
use pipe_engine::worker::client::{WorkerSetup, Workers};
use serde_json::{Map, Value};

use crate::args::{SpecArgs, StoreArgs};
use crate::error::CliError;
use crate::text;

/// Credentials and endpoints that sources may ask for, from environment variables of the same names.
const CREDENTIALS: [&str; 2] = ["HF_TOKEN", "HF_ENDPOINT"];

/// Set when the user interrupts.
pub static CANCEL: AtomicBool = AtomicBool::new(false);

/// An open pipeline.
pub struct Session {
    /// The checked pipeline; freed with the process.
    pub graph: ManuallyDrop<Graph>,
    /// Its store.
    pub store: Store,
    index: StatIndex,
    workers: Workers,
    credentials: Credentials,
    origin: Origin,
    /// What this machine has.
    limits: Limits,
}

/// How a session begins.
#[derive(Default)]
struct Starting {
    worker: Option<PathBuf>,
    threads: Option<usize>,
    /// Only to look at results.
    looks: bool,
}

impl Session {
    /// Opens a pipeline and its store.
    pub fn open(args: &SpecArgs) -> Result<Self, CliError> {
        Self::with_worker(args, None, None)
    }

    /// Opens a pipeline to look at results: where a source cannot be read, what it held in an earlier run stands in for it, with a
    /// warning for a person.
    pub fn open_to_look(args: &SpecArgs, json: bool) -> Result<Self, CliError> {
        let session = Self::start(args, Starting { looks: true, ..Starting::default() })?;
        for gone in session.graph.gone.iter().filter(|_| !json) {
            let when = text::when(gone.started);
            text::err(&format!(
                "warning: {}: {}; shown is what run {} ({when}) made of it",
                gone.place, gone.why, gone.run
            ));
        }
        Ok(session)
    }

    /// Opens a pipeline, its store, and says how the worker is started.
    pub fn with_worker(args: &SpecArgs, worker: Option<PathBuf>, threads: Option<usize>) -> Result<Self, CliError> {
        Self::start(args, Starting { worker, threads, looks: false })
    }

    fn start(args: &SpecArgs, Starting { worker, threads, looks }: Starting) -> Result<Self, CliError> {
        let overrides = Overrides { profile: args.profile.clone(), set: args.set.clone() };
        let spec = Spec::load(&args.spec, &overrides)?;
        let store = named(args.store.as_ref(), "PIPE_STORE").unwrap_or_else(|| spec.base().join(".pipe"));
        let store = Store::open(directory(&store)?)?;
        let index = store.stat_index();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let limits = Limits::of_machine(cores, memory());
        let setup = WorkerSetup {
            program: named(worker.as_ref(), "PIPE_TORCH").unwrap_or_else(default_worker),
            device: device(&args.device),
            threads: threads.unwrap_or(cores),
            environment: worker_environment(),
        };
        let origin = origin(args, spec.params.clone(), &store, &setup).masked(&credentials(&[]));
        let earlier = Earlier { store: &store, pipeline: &spec.name, origin: &origin, stands_in: looks };
        let graph = graph::check_beside(&spec, pipe_stages::TABLE, &index, Some(&earlier));
        // An index that cannot be kept costs the next run some reading.
        let _ = index.save();
        // Those that the pipeline names as well.
        let credentials = credentials(graph.as_ref().map_or(&[], |graph| &graph.steps));
        let origin = origin.masked(&credentials);
        Ok(Self {
            graph: ManuallyDrop::new(graph?),
            store,
            index,
            workers: Workers::new(setup),
            credentials,
            origin,
            limits,
        })
    }

    /// What the log of a run says of where it came from; `asked` are the steps named on the command line.
    pub fn origin(&self, asked: &[String]) -> Origin {
        Origin { asked: asked.to_vec(), ..self.origin.clone() }
    }

    /// Keeps what is known of files, so that the next run need not read them again.
    pub fn save_index(&self) {
        // An index that cannot be kept costs the next run some reading.
        let _ = self.index.save();
    }

    /// What the engine works with.
    pub fn context<'a>(&'a self, events: &'a Events<'a>, keep_going: bool) -> Context<'a> {
        Context {
            store: &self.store,
            workers: &self.workers,
            index: &self.index,
            base: &self.graph.base,
            credentials: &self.credentials,
            events,
            cancel: &CANCEL,
            keep_going,
            limits: self.limits,
            locked: None,
        }
    }

    /// Calls `action` with a context that reports nothing and keeps no log: for commands that only look.
    pub fn look<T>(&self, action: impl FnOnce(&Context<'_>) -> T) -> T {
        let events = Events::silent(&Silence);
        action(&self.context(&events, false))
    }
}

/// Opens the store that a command without a pipeline speaks of. Makes none.
pub fn open_store(args: &StoreArgs) -> Result<Store, CliError> {
    let found = match named(args.store.as_ref(), "PIPE_STORE") {
        Some(named) => Some(named),
        None => std::env::current_dir()
            .ok()
            .and_then(|here| here.ancestors().map(|dir| dir.join(".pipe")).find(|s| is_store(s))),
    };
    match found {
        Some(store) if is_store(&store) => Ok(Store::open(&store)?),
        Some(other) => {
            Err(Failure::input(format!("{} is not a store", other.display())).help("`pipe run` makes one").into())
        }
        None => Err(Failure::input("there is no store here or in a directory above")
            .help("name one with --store; it is `.pipe` beside the pipeline file")
            .into()),
    }
}

/// Opens the store that a command speaks of which may name pipelines: the one beside the first of them.
pub fn open_store_of(spec: Option<&PathBuf>, args: &StoreArgs) -> Result<Store, CliError> {
    let beside = spec.map(|spec| spec.parent().unwrap_or(Path::new("")).join(".pipe"));
    open_store(&StoreArgs { store: named(args.store.as_ref(), "PIPE_STORE").or(beside) })
}

/// What a flag names, else a variable of the environment; an empty one is none.
fn named(flag: Option<&PathBuf>, variable: &str) -> Option<PathBuf> {
    let found = || std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    flag.cloned().or_else(found)
}

/// A store is a directory; where another thing lies none can be made.
fn directory(store: &Path) -> Result<&Path, CliError> {
    match store.metadata() {
        Ok(found) if !found.is_dir() => {
            let message = format!("the store {} is a file", store.display());
            Err(CliError::Store { message, help: Some("name a directory with --store") })
        }
        _ => Ok(store),
    }
}

fn is_store(path: &Path) -> bool {
    path.join("format").is_file()
}

fn origin(args: &SpecArgs, params: Map<String, Value>, store: &Store, setup: &WorkerSetup) -> Origin {
    Origin {
        // A path that cannot be made absolute still says something.
        spec: std::path::absolute(&args.spec).unwrap_or_else(|_| args.spec.clone()),
        profile: args.profile.clone(),
        set: args.set.iter().cloned().collect(),
        params,
        asked: Vec::new(),
        device: setup.device.clone(),
        threads: setup.threads,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
        owner: store.owner(),
    }
}

struct Silence;

impl Reporter for Silence {
    fn report(&self, _: &Event) {}
}

/// `pipe-torch` beside this program, else wherever the system finds it.
fn default_worker() -> PathBuf {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.canonicalize().ok())
        .map(|exe| exe.with_file_name("pipe-torch"));
    beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("pipe-torch"))
}

/// Threads that spin while they wait for each other come to a halt when another program wants the cores too (measured: 12 times
/// slower at a load of 4 on two cores); sleeping ones lose next to nothing.
fn worker_environment() -> Vec<(String, String)> {
    const POLICY: &str = "OMP_WAIT_POLICY";
    if std::env::var_os(POLICY).is_some() { Vec::new() } else { vec![(POLICY.to_owned(), "passive".to_owned())] }
}

fn device(wanted: &str) -> String {
    match wanted {
        "auto" if Path::new("/dev/nvidia0").exists() => "cuda".to_owned(),
        "auto" => "cpu".to_owned(),
        other => other.to_owned(),
    }
}

/// Bytes of memory of this machine; no limit where the system does not say.
fn memory() -> u64 {
    let kilobytes = |text: String| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(kilobytes)
        .map_or(u64::MAX, |found| found.saturating_mul(1024))
}

/// What sources may ask for, and what steps pass on to their programs.
fn credentials(steps: &[Step]) -> Credentials {
    let asked = steps.iter().flat_map(|step| &step.contract.credentials).map(String::as_str);
    let found = CREDENTIALS.into_iter().chain(asked).filter_map(|name| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
        Some((name.to_owned(), Secret::new(value)))
    });
    Credentials(found.collect())
}
