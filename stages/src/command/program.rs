//! Running a program to its end: in an environment of its own, watched, and ended with all its children when time is up or the run is
//! interrupted.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use pipe_engine::problem::{Failure, Problem, nearest};
use pipe_engine::step::Sink;
use rustix::process::{Pid, Signal, kill_process_group};

/// Variables that programs cannot do without.
const INHERITED: &[&str] = &["PATH", "HOME", "LANG"];
/// Time between looks at the program.
const TICK: Duration = Duration::from_millis(20);
/// Time to end after being asked to.
const GRACE: Duration = Duration::from_secs(5);
/// Lines of output shown when it fails.
const SHOWN_LINES: usize = 20;
/// Bytes of output read for them.
const SHOWN_BYTES: u64 = 8 * 1024;

/// A program about to run.
pub struct Run<'a> {
    /// What to start.
    pub executable: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables beside [`INHERITED`].
    pub env: &'a BTreeMap<String, String>,
    /// Threads it should compute with.
    pub threads: usize,
    /// Where it runs.
    pub work: &'a Path,
    /// Where it may put what is not kept.
    pub temporary: &'a Path,
    /// Where its output goes.
    pub log: &'a Path,
    /// Whether that outlives the attempt.
    pub kept: bool,
    /// How long it may take.
    pub timeout: Option<Duration>,
}

/// The variables of this process that programs get too. They are the program's, not the stage's: nothing here decides by them, but where
/// a program lies.
fn inherited() -> impl Iterator<Item = (&'static str, OsString)> {
    INHERITED.iter().filter_map(|name| Some((*name, env::var_os(name)?)))
}

/// Checks that there is such a program.
pub fn find(run: &[String], base: &Path) -> Result<(), Problem> {
    let program = run.first().map(String::as_str).unwrap_or_default();
    let missing = |message: String| Err(Problem::param("run", message));
    if program.is_empty() {
        return missing("the program has no name".to_owned());
    }
    if program.contains('/') {
        let path = base.join(program);
        return if path.is_file() { Ok(()) } else { missing(format!("there is no program {}", path.display())) };
    }
    let path = inherited().find(|(name, _)| *name == "PATH").map(|(_, value)| value).unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    if folders.iter().any(|folder| folder.join(program).is_file()) {
        return Ok(());
    }
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().filter_map(Result::ok);
    let names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let problem = Problem::param("run", format!("there is no program `{program}` on PATH"));
    Err(match nearest(program, names.iter().map(String::as_str)) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem.help(format!("a program beside the pipeline is written `./{program}`")),
    })
}

impl Run<'_> {
    /// Runs it to its end, which must be a good one.
    pub fn to_end(&self, sink: &dyn Sink) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::io("write", self.log, &error);
        let log = File::create(self.log).map_err(failed)?;
        let mut command = Command::new(&self.executable);
        command.args(&self.arguments).current_dir(self.work).env_clear().envs(inherited());
        command.env("TMPDIR", self.temporary).env("OMP_NUM_THREADS", self.threads.to_string()).envs(self.env);
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log).process_group(0);
        let child = command
            .spawn()
            .map_err(|error| Failure::input(format!("cannot start {}: {error}", self.executable.display())))?;
        let outcome = Watched(child).wait(self.timeout, sink);
        match outcome? {
            Ending::Done(status) if status.success() => Ok(()),
            Ending::Done(status) => Err(self.failure(&describe(status))),
            Ending::OutOfTime(after) => {
                Err(self.failure(&format!("was ended after {} s", after.as_secs())).help("`timeout_s` sets the limit"))
            }
            Ending::Interrupted => Err(Failure::interrupted()),
        }
    }

    fn failure(&self, what: &str) -> Failure {
        let program = self.executable.file_name().unwrap_or_default().to_string_lossy();
        let output = match last_lines(self.log) {
            Ok(lines) if lines.is_empty() => "it printed nothing".to_owned(),
            Ok(lines) => format!("its last lines were:\n{lines}"),
            Err(error) => format!("its output cannot be read: {error}"),
        };
        let mut failure = Failure::input(format!("{program} {what}; {output}"))
            .help("it sees only its arguments' files and those in `files`, not the whole folder");
        failure.log = self.kept.then(|| self.log.to_owned());
        failure
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(9)) => "was killed (signal 9), perhaps for want of memory".to_owned(),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
    }
}

fn last_lines(log: &Path) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(SHOWN_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(SHOWN_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    Ok(lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n"))
}

enum Ending {
    Done(ExitStatus),
    OutOfTime(Duration),
    Interrupted,
}

/// A program whose whole process group ends with this value.
struct Watched(Child);

impl Watched {
    fn wait(mut self, timeout: Option<Duration>, sink: &dyn Sink) -> Result<Ending, Failure> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.status()? {
                return Ok(Ending::Done(status));
            }
            if sink.cancelled() {
                self.end()?;
                return Ok(Ending::Interrupted);
            }
            if let Some(limit) = timeout.filter(|limit| start.elapsed() > *limit) {
                self.end()?;
                return Ok(Ending::OutOfTime(limit));
            }
            std::thread::sleep(TICK);
        }
    }

    fn status(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.0.try_wait().map_err(|error| Failure::transient(format!("cannot watch the program: {error}")))
    }

    /// Asks the program to end, and waits a while for it.
    fn end(&mut self) -> Result<(), Failure> {
        self.signal(Signal::TERM);
        let start = Instant::now();
        while self.status()?.is_none() && start.elapsed() < GRACE {
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        // There may be nobody left to hear it.
        let _ = group.map(|group| kill_process_group(group, signal));
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.0.wait();
    }
}
