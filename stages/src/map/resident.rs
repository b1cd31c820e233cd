//! A program that stays alive: lines go in, as many lines come out.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pipe_engine::problem::Failure;
use pipe_engine::step::Sink;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::program::{Run, Watched};

/// How often one that waits looks whether the run is being interrupted.
pub const TICK: Duration = Duration::from_millis(50);

/// How programs are started.
pub struct Start {
    /// What to start.
    pub executable: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables of its environment.
    pub env: BTreeMap<String, String>,
    /// Threads it should compute with.
    pub threads: usize,
    /// Where it runs.
    pub work: PathBuf,
    /// Where each of them gets folders of its own.
    pub folders: PathBuf,
    /// Where what it says on standard error goes.
    pub log: PathBuf,
    /// Programs started so far.
    pub started: AtomicUsize,
}

/// The folders of one program, which no other writes to. Their paths hold no link.
pub struct Folders {
    /// Where the images lie that it is given.
    pub given: PathBuf,
    /// Where it puts what it writes: its `TMPDIR`.
    pub temporary: PathBuf,
}

impl Folders {
    fn make(below: &Path) -> Result<Self, Failure> {
        let make = |name: &str| {
            let path = below.join(name);
            let made = fs::create_dir_all(&path).and_then(|()| fs::canonicalize(&path));
            made.map_err(|error| Failure::io("create", &path, &error))
        };
        Ok(Self { given: make("given")?, temporary: make("tmp")? })
    }
}

impl Start {
    fn run<'a>(&'a self, temporary: &'a Path) -> Run<'a> {
        Run {
            executable: self.executable.clone(),
            arguments: self.arguments.clone(),
            env: &self.env,
            threads: self.threads,
            work: &self.work,
            temporary,
            log: &self.log,
            kept: true,
        }
    }

    /// Starts a program.
    pub fn start(&self) -> Result<Program, Failure> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.map_err(|error| Failure::io("write", &self.log, &error))?;
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let folders = Folders::make(&self.folders.join(number.to_string()))?;
        let mut child = self.run(&folders.temporary).start(Stdio::piped(), Stdio::piped(), log.into())?;
        let (stdin, stdout) = child.pipes().ok_or_else(|| Failure::internal("a program was started without pipes"))?;
        Ok(Program { folders, stdin: Some(stdin), stdout, unread: Vec::new(), child })
    }

    /// Why a program failed, with the last it said.
    pub fn failure(&self, why: &str) -> Failure {
        self.run(&self.folders).failure(why)
    }
}

/// A running program. Ended when it is dropped.
pub struct Program {
    /// Its folders.
    pub folders: Folders,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// Bytes that came and are not a line yet.
    unread: Vec<u8>,
    child: Watched,
}

/// A program that did not answer every line.
pub struct Broken {
    /// Lines it answered.
    pub answered: usize,
    /// Why not the next.
    pub why: String,
}

impl Program {
    /// Gives lines and takes as many answers.
    pub fn ask(&mut self, lines: &[String], sink: &dyn Sink) -> Result<Vec<String>, Broken> {
        let Some(mut stdin) = self.stdin.take() else {
            return Err(Broken { answered: 0, why: "takes no more rows".to_owned() });
        };
        // Written by another thread: a program that answers while it reads would else wait for us as we for it.
        let (stdin, answers) = std::thread::scope(|scope| {
            let writer = scope.spawn(move || {
                // One that closes its input is noticed by the answers that are missing.
                let _ = lines.iter().try_for_each(|line| stdin.write_all(line.as_bytes())).and_then(|()| stdin.flush());
                stdin
            });
            let answers = self.answers(lines.len(), sink);
            if answers.is_err() {
                // A writer may still wait for a program that reads nothing.
                self.child.kill();
            }
            (writer.join(), answers)
        });
        self.stdin = stdin.ok();
        answers
    }

    fn answers(&mut self, count: usize, sink: &dyn Sink) -> Result<Vec<String>, Broken> {
        let mut answers = Vec::with_capacity(count);
        while answers.len() < count {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                answers.push(String::from_utf8_lossy(line.trim_ascii()).into_owned());
                continue;
            }
            let broken = |why: String| Broken { answered: answers.len(), why };
            match self.read(sink) {
                Ok(0) => return Err(broken(self.child.ending())),
                Ok(_) => {}
                Err(error) => return Err(broken(format!("cannot be heard: {error}"))),
            }
        }
        if self.unread.is_empty() {
            return Ok(answers);
        }
        let why = format!("said more than it was asked: `{}`", String::from_utf8_lossy(&self.unread).trim_end());
        Err(Broken { answered: count, why })
    }

    /// Waits for bytes, and looks now and then whether it should go on waiting.
    fn read(&mut self, sink: &dyn Sink) -> io::Result<usize> {
        let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
        loop {
            let ready = poll(&mut [PollFd::from_borrowed_fd(self.stdout.as_fd(), PollFlags::IN)], Some(&tick));
            match ready {
                Ok(0) if sink.cancelled() => return Err(io::ErrorKind::Interrupted.into()),
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => break,
                Err(error) => return Err(error.into()),
            }
        }
        let mut bytes = [0; 1 << 16];
        let count = self.stdout.read(&mut bytes)?;
        self.unread.extend_from_slice(&bytes[..count]);
        Ok(count)
    }
}
