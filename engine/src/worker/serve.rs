//! The worker's end of the wire: reads requests, calls the stages, writes replies.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};

use super::frame::{self, LoadRows, PROTOCOL, Reply, Request};
use crate::cell::Row;
use crate::problem::Failure;
use crate::source::Credentials;
use crate::stage::Outcome;
use crate::step::{Level, Sink, StepContext};

/// Outcomes of some rows, by their place in the batch.
pub type Emit<'a> = dyn FnMut(Vec<(usize, Outcome)>) -> Result<(), Failure> + 'a;

/// What a worker can execute.
pub trait TorchStages {
    /// Takes up the device; returns facts about it (library versions, device name).
    ///
    /// # Errors
    /// When there is no such device: a step for a GPU never runs on the CPU.
    fn start(&mut self, device: &str, threads: usize) -> Result<BTreeMap<String, String>, Failure>;

    /// Prepares a row stage.
    ///
    /// # Errors
    /// When its model or parameters cannot be worked with.
    fn load(&mut self, load: &LoadRows) -> Result<Box<dyn TorchRows>, Failure>;

    /// Executes a whole step.
    ///
    /// # Errors
    /// When it fails.
    fn step(&mut self, context: &StepContext<'_>) -> Result<(), Failure>;
}

/// A loaded row stage of the worker.
pub trait TorchRows {
    /// Gives the outcome of every row, in any order, in as many parts as it likes: what is given is kept even if the
    /// worker dies afterwards.
    ///
    /// # Errors
    /// When the step cannot go on.
    fn run(&mut self, rows: &[Row], emit: &mut Emit<'_>) -> Result<(), Failure>;
}

/// Serves requests until the input ends. `on_end` is called at once when it does, from another thread and possibly in the middle
/// of a step: without `pipe` there is nobody left to work for.
///
/// # Errors
/// When the wire breaks.
pub fn serve(
    stages: &mut dyn TorchStages,
    input: impl Read + Send + 'static,
    output: impl Write + Send,
    on_end: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        let mut input = BufReader::new(input);
        while let Some(request) = frame::read(&mut input).transpose() {
            let broken = request.is_err();
            if sender.send(request).is_err() || broken {
                break;
            }
        }
        drop(sender);
        on_end();
    });
    let wire = Wire { requests: Mutex::new(requests), output: Mutex::new(output) };
    let mut loaded: Option<Box<dyn TorchRows>> = None;
    while let Some(request) = wire.receive()? {
        let result = match request {
            Request::Hello { protocol, .. } if protocol != PROTOCOL => {
                Err(Failure::internal(format!("pipe speaks protocol {protocol}, this pipe-torch {PROTOCOL}"))
                    .help("install the two from the same version"))
            }
            Request::Hello { device, threads, .. } => stages.start(&device, threads),
            Request::Load(load) => {
                // The old model goes before the new one comes.
                loaded = None;
                stages.load(&load).map(|stage| {
                    loaded = Some(stage);
                    BTreeMap::new()
                })
            }
            Request::Rows { rows } => run_rows(loaded.as_deref_mut(), &rows, &wire),
            Request::Step(task) => {
                let context =
                    StepContext { task: &task, sink: &wire, credentials: Credentials::none(), datasets: None };
                stages.step(&context).map(|()| BTreeMap::new())
            }
            Request::Checkpointed { .. } => Err(Failure::internal("a checkpoint was confirmed that nobody reported")),
        };
        wire.send(&result.map_or_else(|failure| Reply::Failed { failure }, |facts| Reply::Ready { facts }))?;
    }
    Ok(())
}

fn run_rows<O: Write + Send>(
    stage: Option<&mut (dyn TorchRows + '_)>,
    rows: &[Row],
    wire: &Wire<O>,
) -> Result<BTreeMap<String, String>, Failure> {
    let stage = stage.ok_or_else(|| Failure::internal("rows came before a stage was loaded"))?;
    let mut emit = |outcomes| wire.send(&Reply::Outcomes { outcomes }).map_err(|error| lost(&error));
    stage.run(rows, &mut emit).map(|()| BTreeMap::new())
}

struct Wire<O> {
    requests: Mutex<Receiver<io::Result<Request>>>,
    output: Mutex<O>,
}

impl<O: Write + Send> Wire<O> {
    fn receive(&self) -> io::Result<Option<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).recv().ok().transpose()
    }

    fn send(&self, reply: &Reply) -> io::Result<()> {
        frame::write(&mut *self.output.lock().unwrap_or_else(PoisonError::into_inner), reply)
    }

    /// Reports are for people; if the wire is broken the next request will say so.
    fn report(&self, reply: &Reply) {
        let _ = self.send(reply);
    }
}

fn lost(error: &io::Error) -> Failure {
    Failure::internal(format!("the wire to pipe broke: {error}"))
}

impl<O: Write + Send> Sink for Wire<O> {
    fn progress(&self, done: u64, total: u64, note: &str) {
        self.report(&Reply::Progress { done, total, note: note.to_owned() });
    }

    fn log(&self, level: Level, message: &str) {
        self.report(&Reply::Log { level, message: message.to_owned() });
    }

    fn measure(&self, name: &str, value: f64) {
        self.report(&Reply::Measure { name: name.to_owned(), value });
    }

    fn checkpoint(&self, at: u64, dir: &Path) -> Result<(), Failure> {
        self.send(&Reply::Checkpoint { at, dir: dir.to_owned() }).map_err(|error| lost(&error))?;
        match self.receive().map_err(|error| lost(&error))? {
            Some(Request::Checkpointed { failure: None }) => Ok(()),
            Some(Request::Checkpointed { failure: Some(failure) }) => Err(failure),
            Some(_) => Err(Failure::internal("pipe said something else than that the checkpoint is stored")),
            None => Err(Failure::interrupted()),
        }
    }

    /// The worker is killed instead.
    fn cancelled(&self) -> bool {
        false
    }
}
