//! Watching a program: waiting for its end, ending it with all its children.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, ExitStatus};
use std::time::{Duration, Instant};

use pipe_engine::problem::Failure;
use pipe_engine::step::Sink;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// Time between looks at a program whose end the system does not announce.
const TICK: Duration = Duration::from_millis(20);
/// Time between looks whether the run is being interrupted.
const LOOK: Duration = Duration::from_millis(100);
/// Time to end after being asked to.
const GRACE: Duration = Duration::from_secs(5);

/// How a program ended, in words that follow its name.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(9)) => "was killed (signal 9), perhaps for want of memory".to_owned(),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
    }
}

/// How the wait for a program ended.
pub enum Ending {
    /// It ended.
    Done(ExitStatus),
    /// It was ended, because the run is.
    Interrupted,
}

/// A program whose whole process group ends with this value.
pub struct Watched {
    child: Child,
    /// Tells when it ends, on systems that can.
    ended: Option<OwnedFd>,
}

impl Watched {
    pub(super) fn new(child: Child) -> Self {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let ended = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Self { child, ended }
    }

    /// Its ends of the pipes to standard input and output, where there are any.
    pub fn pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        self.child.stdin.take().zip(self.child.stdout.take())
    }

    /// Waits for its end, or ends it with the run.
    ///
    /// # Errors
    /// When the system does not say how it is.
    pub fn wait(mut self, sink: &dyn Sink) -> Result<Ending, Failure> {
        loop {
            if let Some(status) = self.status()? {
                return Ok(Ending::Done(status));
            }
            if sink.cancelled() {
                self.end()?;
                return Ok(Ending::Interrupted);
            }
            self.rest();
        }
    }

    /// Waits for a tick, or until it ends.
    fn rest(&self) {
        let Some(ended) = &self.ended else { return std::thread::sleep(TICK) };
        let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(LOOK.subsec_nanos()) };
        // Whatever comes of it, the caller looks next.
        let _ = poll(&mut [PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN)], Some(&tick));
    }

    /// How it ended, for one that closed its pipes.
    pub fn ending(&mut self) -> String {
        match self.soon() {
            Ok(Some(status)) => describe(status),
            Ok(None) => "closed its output".to_owned(),
            Err(failure) => failure.message,
        }
    }

    /// How it ended, if that was not well. One that has not ended soon after it closed its pipes is not waited for.
    pub fn bad_ending(&mut self) -> Option<String> {
        match self.soon() {
            Ok(status) => status.filter(|status| !status.success()).map(describe),
            Err(failure) => Some(failure.message),
        }
    }

    /// How it ended, if it does within a while.
    fn soon(&mut self) -> Result<Option<ExitStatus>, Failure> {
        let start = Instant::now();
        loop {
            match self.status()? {
                None if start.elapsed() < GRACE => self.rest(),
                status => return Ok(status),
            }
        }
    }

    fn status(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.child.try_wait().map_err(|error| Failure::transient(format!("cannot watch the program: {error}")))
    }

    /// Asks the program to end, and waits a while for it.
    fn end(&mut self) -> Result<(), Failure> {
        self.signal(Signal::TERM);
        let start = Instant::now();
        while self.status()?.is_none() && start.elapsed() < GRACE {
            self.rest();
        }
        Ok(())
    }

    /// Ends it and its children at once.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // There may be nobody left to hear it.
        let _ = group.map(|group| kill_process_group(group, signal));
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}
