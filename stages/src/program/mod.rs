//! Programs of the user: in an environment of their own, among nothing but the files they depend on, watched, and ended with all their
//! children when the step is to stop or `pipe` itself is killed.

pub mod arguments;
pub mod files;
pub mod guard;
mod output;
pub mod passed;
mod watched;

use std::collections::{BTreeMap, HashSet};
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

use pipe_engine::problem::{Failure, Problem, nearest};
use pipe_engine::source::Credentials;
use pipe_engine::step::Sink;

use output::last_lines;
pub use output::plain;
use passed::Output;
pub use watched::Watched;
use watched::{Ending, describe};

/// Variables that programs cannot do without, and those that say where libraries, devices and the network are: they differ between
/// machines, and what a program gives does not hang on them.
pub const INHERITED: &[&str] = &[
    "PATH",
    "HOME",
    "LANG",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
/// A program about to run.
pub struct Run<'a> {
    /// What to start.
    pub executable: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables beside those that every program is given.
    pub env: &'a BTreeMap<String, String>,
    /// Variables passed on from outside.
    pub passed: &'a Credentials,
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
    // A thousand steps ask for the same few programs.
    static FOUND: LazyLock<Mutex<HashSet<(OsString, String)>>> = LazyLock::new(Mutex::default);
    let known = (path, program.to_owned());
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if found.contains(&known) {
        return Ok(());
    }
    let folders: Vec<PathBuf> = env::split_paths(&known.0).collect();
    if folders.iter().any(|folder| folder.join(program).is_file()) {
        found.insert(known);
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
    ///
    /// # Errors
    /// When it cannot be started, or ends badly; says why, with the last it printed.
    pub fn to_end(&self, sink: &dyn Sink) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::io("write", self.log, &error);
        let output = Output::to(File::create(self.log).map_err(failed)?, self.passed).map_err(failed)?;
        let program = self.start(Stdio::null(), output.stdio().map_err(failed)?, output.stdio().map_err(failed)?)?;
        let written = output.leave();
        let ending = program.wait(sink)?;
        written.wait();
        match ending {
            Ending::Done(status) if status.success() => Ok(()),
            Ending::Done(status) => Err(self.failure(&describe(status))),
            Ending::Interrupted => Err(Failure { log: self.kept_log(), ..Failure::interrupted() }),
        }
    }

    /// Starts it, in a process group of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Result<Watched, Failure> {
        let mut command = Command::new(&self.executable);
        command.args(&self.arguments).current_dir(self.work).env_clear().envs(inherited());
        command.env("TMPDIR", self.temporary).env("OMP_NUM_THREADS", self.threads.to_string()).envs(self.env);
        command.envs(self.passed.0.iter().map(|(name, value)| (name, value.reveal())));
        command.stdin(stdin).stdout(stdout).stderr(stderr).process_group(0);
        guard::mark(&mut command)?;
        let child = command.spawn();
        let child =
            child.map_err(|error| Failure::input(format!("cannot start {}: {error}", self.executable.display())))?;
        Ok(Watched::new(child))
    }

    /// Why it failed, with the last it printed.
    pub fn failure(&self, what: &str) -> Failure {
        let program = self.executable.file_name().unwrap_or_default().to_string_lossy();
        let output = match last_lines(self.log) {
            Ok(lines) if lines.is_empty() => "it printed nothing".to_owned(),
            Ok(lines) => format!("its last lines were:\n{lines}"),
            Err(error) => format!("its output cannot be read: {error}"),
        };
        let mut failure = Failure::input(format!("{program} {what}; {output}"))
            .help("it sees only its arguments' files and those in `files`, not the whole folder");
        failure.log = self.kept_log();
        failure
    }

    fn kept_log(&self) -> Option<PathBuf> {
        self.kept.then(|| self.log.to_owned())
    }
}
