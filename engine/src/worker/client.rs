//! This process's end of the wire: starts a worker, sends requests, notices its death.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, BufWriter};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::frame::{self, LoadRows, PROTOCOL, Reply, Request};
use super::serve::Emit;
use crate::cell::Row;
use crate::problem::{Failure, FailureClass};
use crate::step::{Sink, StepTask};

/// How often a waiting client looks whether the run is being interrupted.
const LOOK: Duration = Duration::from_millis(100);

/// Lines of the worker's own output kept for error messages.
const TAIL: usize = 20;

/// How to start a worker.
#[derive(Clone, Debug)]
pub struct WorkerSetup {
    /// The program.
    pub program: PathBuf,
    /// `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// Threads to compute with.
    pub threads: usize,
    /// Variables to set for it, besides those it inherits.
    pub environment: Vec<(String, String)>,
}

/// The worker of a device: started when first needed, started again after it died.
pub struct Workers {
    setup: WorkerSetup,
    current: Mutex<Option<Worker>>,
}

impl Workers {
    /// No worker yet.
    #[must_use]
    pub const fn new(setup: WorkerSetup) -> Self {
        Self { setup, current: Mutex::new(None) }
    }

    /// How workers are started.
    #[must_use]
    pub const fn setup(&self) -> &WorkerSetup {
        &self.setup
    }

    /// Ends a worker that waits for work, so that it holds no memory; the next use starts another. One at work goes on.
    pub fn rest(&self) {
        if let Ok(mut current) = self.current.try_lock() {
            *current = None;
        }
    }

    /// Executes a whole step.
    ///
    /// # Errors
    /// When it fails, or the worker does.
    pub fn step(&self, task: &StepTask, sink: &dyn Sink) -> Result<(), Failure> {
        let what = format!("running step `{}`", task.step);
        self.with(&what, sink, |worker| {
            worker.send(&Request::Step(Box::new(task.clone())))?;
            worker.until_ready(sink, &mut |_| Err(Failure::internal("the worker gave rows for a whole step")))
        })
    }

    /// Prepares a row stage and executes rows.
    ///
    /// # Errors
    /// When the stage fails as a whole, or the worker does.
    pub fn rows(&self, load: &LoadRows, rows: Vec<Row>, sink: &dyn Sink, emit: &mut Emit<'_>) -> Result<(), Failure> {
        let what = format!("running step `{}`", load.step);
        self.with(&what, sink, |worker| {
            let identity = serde_json::to_string(load).map_err(|error| Failure::internal(error.to_string()))?;
            if worker.loaded.as_ref() != Some(&identity) {
                worker.loaded = None;
                worker.send(&Request::Load(load.clone()))?;
                worker.until_ready(sink, &mut |_| Ok(()))?;
                worker.loaded = Some(identity);
            }
            worker.send(&Request::Rows { rows })?;
            worker.until_ready(sink, emit)
        })
    }

    /// Gives the worker to `action`; one that died is not used again.
    fn with(
        &self,
        what: &str,
        sink: &dyn Sink,
        action: impl FnOnce(&mut Worker) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut current = lock(&self.current);
        if current.is_none() {
            *current = Some(Worker::start(&self.setup, sink)?);
        }
        let worker = current.as_mut().expect("was just started");
        let result = action(worker);
        match result {
            Err(failure) if matches!(failure.class, FailureClass::Worker | FailureClass::Interrupted) => {
                let worker = current.take().expect("it was in use");
                Err(worker.bury(what, failure))
            }
            result => result,
        }
    }
}

struct Worker {
    child: Child,
    stdin: Option<BufWriter<ChildStdin>>,
    replies: Receiver<std::io::Result<Reply>>,
    tail: Arc<Mutex<VecDeque<String>>>,
    /// The row stage it holds.
    loaded: Option<String>,
}

impl Worker {
    fn start(setup: &WorkerSetup, sink: &dyn Sink) -> Result<Self, Failure> {
        let mut child = Command::new(&setup.program)
            .envs(setup.environment.iter().map(|(name, value)| (name, value)))
            // An interruption from the terminal is for `pipe`, which ends the worker in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                let message = format!("cannot start the torch worker {}: {error}", setup.program.display());
                Failure::new(FailureClass::Input, message)
                    .help("build it with `make build`, or name it with --worker or PIPE_TORCH")
            })?;
        let stdin = child.stdin.take().map(BufWriter::new);
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let (sender, replies) = channel();
        std::thread::spawn(move || {
            let mut input = BufReader::new(stdout);
            while let Some(reply) = frame::read(&mut input).transpose() {
                let broken = reply.is_err();
                if sender.send(reply).is_err() || broken {
                    break;
                }
            }
        });
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let lines = tail.clone();
        std::thread::spawn(move || keep_tail(BufReader::new(stderr), &lines));
        let mut worker = Self { child, stdin, replies, tail, loaded: None };
        let hello = Request::Hello { protocol: PROTOCOL, device: setup.device.clone(), threads: setup.threads };
        let started = worker.send(&hello).and_then(|()| worker.until_ready(sink, &mut |_| Ok(())));
        match started {
            Ok(()) => Ok(worker),
            Err(failure) => Err(worker.bury("starting", failure)),
        }
    }

    fn send(&mut self, request: &Request) -> Result<(), Failure> {
        let stdin = self.stdin.as_mut().expect("open until the worker is buried");
        frame::write(stdin, request).map_err(|error| Failure::new(FailureClass::Worker, error.to_string()))
    }

    /// Passes on reports until the request is done.
    fn until_ready(&mut self, sink: &dyn Sink, emit: &mut Emit<'_>) -> Result<(), Failure> {
        loop {
            match self.receive(sink)? {
                Reply::Ready { .. } => return Ok(()),
                Reply::Failed { failure } => return Err(failure),
                Reply::Outcomes { outcomes } => emit(outcomes)?,
                Reply::Progress { done, total, note } => sink.progress(done, total, &note),
                Reply::Log { level, message } => sink.log(level, &message),
                Reply::Measure { name, value } => sink.measure(&name, value),
                Reply::Checkpoint { at, dir } => {
                    let failure = sink.checkpoint(at, &dir).err();
                    self.send(&Request::Checkpointed { failure })?;
                }
            }
        }
    }

    fn receive(&mut self, sink: &dyn Sink) -> Result<Reply, Failure> {
        loop {
            match self.replies.recv_timeout(LOOK) {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(error)) => {
                    let message = format!("it said something unintelligible: {error}");
                    return Err(Failure::new(FailureClass::Worker, message));
                }
                Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) if sink.cancelled() => {
                    return Err(Failure::interrupted());
                }
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::new(FailureClass::Worker, String::new())),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Ends the worker and says what became of it.
    fn bury(mut self, what: &str, failure: Failure) -> Failure {
        self.stdin = None;
        if failure.class != FailureClass::Worker {
            // It may be computing and not listening.
            let _ = self.child.kill();
        }
        let status = wait_briefly(&mut self.child);
        if failure.class != FailureClass::Worker {
            return failure;
        }
        let mut message = format!("the torch worker {} while {what}", how_it_ended(status));
        if !failure.message.is_empty() {
            message = format!("{message}: {}", failure.message);
        }
        for line in lock(&self.tail).iter() {
            message = format!("{message}\n  {line}");
        }
        Failure::new(FailureClass::Worker, message).help("what was finished is kept; run again to go on")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stdin = None;
        wait_briefly(&mut self.child);
    }
}

/// Waits for the end of a process whose input is closed; kills it if that takes long.
fn wait_briefly(child: &mut Child) -> Option<ExitStatus> {
    for _ in 0..200 {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // Gone already, then.
    let _ = child.kill();
    child.wait().ok()
}

fn how_it_ended(status: Option<ExitStatus>) -> String {
    match status.map(|status| (status.code(), status.signal())) {
        Some((_, Some(9))) => "was killed (signal 9; perhaps it ran out of memory)".to_owned(),
        Some((_, Some(signal))) => format!("was ended by signal {signal}"),
        Some((Some(code), _)) => format!("ended with code {code}"),
        _ => "stopped answering".to_owned(),
    }
}

fn keep_tail(lines: impl BufRead, tail: &Mutex<VecDeque<String>>) {
    for line in lines.lines().map_while(Result::ok) {
        let mut tail = lock(tail);
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(line);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Set when the run is to end.
pub type Cancel = AtomicBool;

/// Whether the run is to end.
#[must_use]
pub fn is_cancelled(cancel: &Cancel) -> bool {
    cancel.load(Ordering::Relaxed)
}
