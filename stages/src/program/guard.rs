//! What ends programs when this process cannot: a second process that waits for the end of the first, however it comes, and then ends
//! what that left running.
//!
//! Programs are known by a variable that names the process they were started for. It passes to their children of itself, also to those
//! that leave the process group, and nothing has to be told between a start and a kill: there is no moment at which a program is missed.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pipe_engine::problem::Failure;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The variable that programs are known by.
const VARIABLE: &str = "PIPE_PROCESS";
/// Time between looks for programs. One that was just being started when the first process ended may not be one yet.
const PAUSE: Duration = Duration::from_millis(50);
/// So many looks that find nothing are enough.
const LOOKS: u32 = 3;
/// After this long whatever is still there cannot be ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a guard is started.
struct Setup {
    program: PathBuf,
    argument: &'static str,
}

/// A running guard. Its standard input stays open as long as this process lives.
struct Guard {
    name: String,
    _process: Child,
}

static SETUP: OnceLock<Setup> = OnceLock::new();
static GUARD: OnceLock<Result<Guard, String>> = OnceLock::new();

/// Has programs guarded from now on by `PROGRAM ARGUMENT NAME`, which must call [`watch`] with that name. It is started with the first
/// program. Where this is never called, programs may outlive a process that is killed.
pub fn guard_with(program: PathBuf, argument: &'static str) {
    // The first call counts.
    let _ = SETUP.set(Setup { program, argument });
}

/// Has a program that is about to start be guarded.
pub(super) fn mark(command: &mut Command) -> Result<(), Failure> {
    let Some(setup) = SETUP.get() else { return Ok(()) };
    match GUARD.get_or_init(|| start(setup)) {
        Ok(guard) => {
            command.env(VARIABLE, &guard.name);
            Ok(())
        }
        Err(why) => Err(Failure::transient(format!("cannot start what guards programs: {why}"))),
    }
}

/// Starts a guard out of reach of what ends this process: the terminal's signals go to a process group, and a guard of an outer `pipe`
/// looks for its variable.
fn start(setup: &Setup) -> Result<Guard, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("{}-{}", std::process::id(), now.as_nanos());
    let mut command = Command::new(&setup.program);
    command.arg(setup.argument).arg(&name).env_clear().current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = command.spawn().map_err(|error| format!("{}: {error}", setup.program.display()))?;
    Ok(Guard { name, _process: process })
}

/// Waits for the end of the process that has the other end of standard input, then ends every program that was started for it.
///
/// # Errors
/// When standard input or the list of processes cannot be read.
pub fn watch(name: &str) -> io::Result<()> {
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    let mark = format!("{VARIABLE}={name}");
    let (start, mut looks) = (Instant::now(), 0);
    while looks < LOOKS && start.elapsed() < PATIENCE {
        looks = if end_marked(mark.as_bytes())? { 0 } else { looks + 1 };
        sleep(PAUSE);
    }
    Ok(())
}

/// Ends the processes that have this in their environment; says whether there were any.
fn end_marked(mark: &[u8]) -> io::Result<bool> {
    let mut any = false;
    for entry in fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| has(&entry.path(), mark)) {
            any = true;
            // What it started may have another environment, but is still of its group. Either may be gone by now.
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    Ok(any)
}

/// Whether a process has this in its environment. Those of others cannot be read.
fn has(process: &Path, mark: &[u8]) -> bool {
    fs::read(process.join("environ")).is_ok_and(|bytes| bytes.split(|byte| *byte == 0).any(|set| set == mark))
}
