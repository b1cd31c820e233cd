//! A program that stays alive: lines go in, as many lines come out.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pipe_engine::problem::{Failure, FailureClass};
use pipe_engine::source::Credentials;
use pipe_engine::step::Sink;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::answer::shorten;
use crate::program::passed::{Output, Written};
use crate::program::{Run, Watched};

/// How often one that waits looks whether the run is being interrupted.
pub const TICK: Duration = Duration::from_millis(50);
/// How long a program that has answered everything may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// How programs are started.
pub struct Start {
    /// What to start.
    pub executable: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables of its environment.
    pub env: BTreeMap<String, String>,
    /// Variables passed on from outside.
    pub passed: Credentials,
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
            passed: &self.passed,
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
        let failed = |error: io::Error| Failure::io("write", &self.log, &error);
        let output = log.and_then(|log| Output::to(log, &self.passed)).map_err(failed)?;
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let folders = Folders::make(&self.folders.join(number.to_string()))?;
        let mut child =
            self.run(&folders.temporary).start(Stdio::piped(), Stdio::piped(), output.stdio().map_err(failed)?)?;
        let (stdin, stdout) = child.pipes().ok_or_else(|| Failure::internal("a program was started without pipes"))?;
        Ok(Program { folders, stdin: Some(stdin), stdout, unread: Vec::new(), written: output.leave(), child })
    }

    /// Why a program failed, with the last it said on standard error.
    pub fn failure(&self, wrong: &Wrong) -> Failure {
        match wrong {
            Wrong::Broken(why) => self.run(&self.folders).failure(why),
            Wrong::Unasked(said) => Failure {
                class: FailureClass::Doubt,
                ..Failure::input(format!(
                    "the program said more than it was asked, so that answers may belong to other rows: `{}`",
                    shorten(&self.passed.mask(said))
                ))
                .help("print one JSON object per row and nothing else: messages go to standard error; no row of the step stays remembered")
            },
        }
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
    /// What it says on standard error.
    written: Written,
    child: Watched,
}

/// What was wrong with a program, in words that follow its name.
pub enum Wrong {
    /// It ended, or cannot be heard.
    Broken(String),
    /// It said this, and nobody had asked.
    Unasked(String),
}

/// A program that did not answer every line once.
pub struct Broken {
    /// Lines it answered before that went wrong.
    pub answered: usize,
    /// What did.
    pub wrong: Wrong,
}

impl Program {
    /// Gives lines and takes as many answers.
    pub fn ask(&mut self, lines: &[String], sink: &dyn Sink) -> Result<Vec<String>, Broken> {
        let early = |wrong: Wrong| Broken { answered: 0, wrong };
        let Some(mut stdin) = self.stdin.take() else {
            return Err(early(Wrong::Broken("takes no more rows".to_owned())));
        };
        self.be_silent().map_err(early)?;
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

    /// Lets it know that there are no more lines.
    pub fn give_no_more(&mut self) {
        self.stdin = None;
    }

    /// Waits a while for the end of one that is given no more lines. One that stays has answered all the same, and is ended.
    pub fn end(mut self, sink: &dyn Sink) -> Result<(), Wrong> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE && !sink.cancelled() {
            self.said_nothing()?;
            match self.readable(&TICK).and_then(|ready| if ready { self.read() } else { Ok(1) }) {
                Ok(0) => {
                    let Some(why) = self.child.bad_ending() else { return Ok(()) };
                    self.settle();
                    return Err(after_all(&why));
                }
                Ok(_) => {}
                Err(error) => return Err(unheard(&error)),
            }
        }
        self.said_nothing()
    }

    /// Waits until what one that ended said is in the log.
    pub fn settle(&self) {
        self.written.wait();
    }

    fn answers(&mut self, count: usize, sink: &dyn Sink) -> Result<Vec<String>, Broken> {
        let mut answers = Vec::with_capacity(count);
        // An answer may be long: what was looked through is not looked through again.
        let mut seen = 0;
        while answers.len() < count {
            if let Some(end) = self.unread[seen..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=seen + end).collect();
                answers.push(String::from_utf8_lossy(line.trim_ascii()).into_owned());
                seen = 0;
                continue;
            }
            seen = self.unread.len();
            let wrong = match self.wait(sink) {
                Ok(0) => Wrong::Broken(self.child.ending()),
                Ok(_) => continue,
                Err(error) => unheard(&error),
            };
            return Err(Broken { answered: answers.len(), wrong });
        }
        self.said_nothing().map_err(|wrong| Broken { answered: count.saturating_sub(1), wrong })?;
        Ok(answers)
    }

    /// Checks that nothing was said since the last answer.
    fn be_silent(&mut self) -> Result<(), Wrong> {
        while self.readable(&Duration::ZERO).map_err(|error| unheard(&error))? {
            match self.read() {
                // Its end is noticed by the answers that are missing.
                Ok(0) => break,
                Ok(_) => self.said_nothing()?,
                Err(error) => return Err(unheard(&error)),
            }
        }
        Ok(())
    }

    /// Checks that nothing is left of what it said.
    fn said_nothing(&self) -> Result<(), Wrong> {
        match String::from_utf8_lossy(&self.unread).trim().lines().next() {
            None => Ok(()),
            Some(line) => Err(Wrong::Unasked(line.to_owned())),
        }
    }

    /// Waits for bytes, and looks now and then whether it should go on waiting.
    fn wait(&mut self, sink: &dyn Sink) -> io::Result<usize> {
        loop {
            if sink.cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if self.readable(&TICK)? {
                return self.read();
            }
        }
    }

    /// Whether there are bytes to read, or no more will come, within a time.
    fn readable(&self, within: &Duration) -> io::Result<bool> {
        let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(within.subsec_nanos()) };
        match poll(&mut [PollFd::from_borrowed_fd(self.stdout.as_fd(), PollFlags::IN)], Some(&tick)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 1 << 16];
        let count = self.stdout.read(&mut bytes)?;
        self.unread.extend_from_slice(&bytes[..count]);
        Ok(count)
    }
}

fn unheard(error: &io::Error) -> Wrong {
    Wrong::Broken(format!("cannot be heard: {error}"))
}

fn after_all(why: &str) -> Wrong {
    Wrong::Broken(format!("{why} after it had answered every row (the rows stay remembered)"))
}
