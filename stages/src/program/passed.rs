//! Variables that a pipeline has passed on to a program: their names are in the key, their values nowhere but in its environment.
//!
//! What such a program prints goes through this process on its way to the log, and loses the values there.

use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use pipe_engine::problem::{Failure, Problem};
use pipe_engine::source::Credentials;

/// Variables that every program is given, and none can be passed in the stead of.
const OWN: &[&str] = &["PATH", "HOME", "TMPDIR", "OMP_NUM_THREADS", "PIPE_PROCESS"];

/// Bytes of a line after which it is written before its end came.
const LONG: usize = 1 << 20;

/// How long what a program printed last may take to reach the log.
const PATIENCE: Duration = Duration::from_secs(2);

/// Checks the names of variables to pass, among which none is also set.
///
/// # Errors
/// A problem at `envvars`.
pub fn check<'a>(names: &[String], mut set: impl Iterator<Item = &'a String>) -> Result<(), Problem> {
    let at = |name: &String| format!("envvars.{}", names.iter().position(|other| other == name).unwrap_or_default());
    if let Some(name) = names.iter().find(|name| OWN.contains(&name.as_str())) {
        return Err(Problem::param(at(name), format!("{name} is given to every program")));
    }
    if let Some(name) = set.find(|name| names.contains(name)) {
        let help = "`env` sets it to what stands there, `envvars` passes on what it is outside: leave it out of one";
        return Err(Problem::param(at(name), format!("{name} is both in `env` and in `envvars`")).help(help));
    }
    Ok(())
}

/// The values of variables to pass.
///
/// # Errors
/// When one is not set.
pub fn values(names: &[String], credentials: &Credentials) -> Result<Credentials, Failure> {
    credentials.only(names).map_err(|name| Failure::input(format!("the environment variable {name} is not set")))
}

/// Where a program prints to: the log, or a pipe to it.
pub struct Output {
    end: OwnedFd,
    written: Written,
}

/// Tells when all that a program printed is in the log.
pub struct Written(Option<Receiver<()>>);

impl Output {
    /// Output to `log`, without the values of `passed`.
    ///
    /// # Errors
    /// When there can be no pipe or thread.
    pub fn to(log: File, passed: &Credentials) -> io::Result<Self> {
        if passed.0.is_empty() {
            return Ok(Self { end: log.into(), written: Written(None) });
        }
        let (reader, writer) = io::pipe()?;
        let (sender, written) = channel();
        let passed = passed.clone();
        thread::Builder::new().spawn(move || {
            // A log that cannot be written must not stop the program.
            if copy(&reader, log, &passed).is_err() {
                let _ = io::copy(&mut &reader, &mut io::sink());
            }
            drop(sender);
        })?;
        Ok(Self { end: writer.into(), written: Written(Some(written)) })
    }

    /// An end for the program.
    ///
    /// # Errors
    /// When there can be no more open files.
    pub fn stdio(&self) -> io::Result<Stdio> {
        self.end.try_clone().map(Stdio::from)
    }

    /// Leaves the output to the programs that have an end of it.
    pub fn leave(self) -> Written {
        self.written
    }
}

impl Written {
    /// Waits until what a program that has ended printed is in the log; not for long, since a child of it may print on.
    pub fn wait(&self) {
        if let Some(written) = &self.0 {
            let _ = written.recv_timeout(PATIENCE);
        }
    }
}

/// Copies line by line: a value does not reach over the end of one.
fn copy(mut from: &PipeReader, mut to: File, passed: &Credentials) -> io::Result<()> {
    let (mut line, mut bytes) = (Vec::new(), [0; 1 << 14]);
    loop {
        let count = from.read(&mut bytes)?;
        line.extend_from_slice(&bytes[..count]);
        let whole = match line.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if count == 0 || line.len() > LONG => line.len(),
            None => 0,
        };
        let text: Vec<u8> = line.drain(..whole).collect();
        to.write_all(passed.mask(&String::from_utf8_lossy(&text)).as_bytes())?;
        if count == 0 {
            return Ok(());
        }
    }
}
