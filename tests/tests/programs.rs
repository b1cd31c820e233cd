//! Programs that steps run end with `pipe`, however it ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pipe_tests::Project;

/// Patience with what must begin.
const BEGINNING: Duration = Duration::from_secs(30);
/// Long enough to be gone, which takes a tenth of a second where the machine is not busy.
const END: Duration = Duration::from_secs(15);

/// A program with a child in its process group, one in a session of its own, and one without its environment.
const FAMILY: &str = "exec 2> /dev/null; sleep $0 & setsid sleep $0 & env -i sleep $0 & cat > /dev/null; sleep $0";

/// A `pipe` that is killed at the end, also where the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// So many seconds that no other process sleeps as long.
fn seconds() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("86400.{}{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The processes that have this word among their arguments.
fn processes(word: &str) -> Vec<PathBuf> {
    let has = |path: &PathBuf| {
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
    };
    fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).filter(has).collect()
}

fn wait_for(count: usize, word: &str, patience: Duration) -> usize {
    let start = Instant::now();
    loop {
        let found = processes(word).len();
        if found == count || start.elapsed() > patience {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A project with a `command` and a `map` that run families of programs which sleep for so many seconds.
fn project(seconds: &str) -> Project {
    let project = Project::empty();
    project.write("rows.jsonl", "{\"id\": \"a\"}\n");
    // They wait, and so may run side by side on any machine.
    let run = format!("run = [\"sh\", \"-c\", \"{FAMILY}\", \"{seconds}\"]\nresources = {{ cpu = 0 }}\n");
    let spec = format!(
        "name = \"p\"\n[steps.rows]\nstage = \"download\"\nsource = \"rows.jsonl\"\n\
         [steps.map]\nstage = \"map\"\ninputs = {{ rows = \"rows\" }}\nprograms = 1\n{run}\
         [steps.command]\nstage = \"command\"\noutputs = {{ made = \"files\" }}\n{run}"
    );
    project.write("p.toml", spec);
    project
}

/// Of `command` the shell and four that sleep, since its `cat` has nothing to read; of `map` the shell and three.
const RUNNING: usize = 5 + 4;

#[test]
fn nothing_outlives_a_kill() {
    let seconds = &seconds();
    let project = project(seconds);
    let run = Killed(project.start(&["run", "p.toml"]));
    assert_eq!(wait_for(RUNNING, seconds, BEGINNING), RUNNING);
    drop(run);
    assert_eq!(wait_for(0, seconds, END), 0);
}

#[test]
fn a_kill_at_any_moment_leaves_no_program() {
    let seconds = &seconds();
    let project = project(seconds);
    for delay in 0..20 {
        let run = Killed(project.start(&["run", "p.toml"]));
        std::thread::sleep(Duration::from_millis(3 * delay));
        drop(run);
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(wait_for(0, seconds, END), 0, "killed after {} ms", 3 * delay);
    }
}

/// A `pipe` within a program of another has programs and a guard of its own.
#[test]
fn nothing_outlives_a_kill_of_an_outer_pipe() {
    let seconds = &seconds();
    let project = project(seconds);
    let pipe = pipe_tests::binary("pipe");
    let spec = project.path("p.toml");
    let spec = format!(
        "name = \"outer\"\n[steps.inner]\nstage = \"command\"\noutputs = {{ made = \"files\" }}\nrun = [\"{}\", \"run\", \"{}\"]\n",
        pipe.display(),
        spec.display()
    );
    project.write("outer/outer.toml", spec);
    let run = Killed(project.start(&["run", "outer/outer.toml"]));
    assert_eq!(wait_for(RUNNING, seconds, BEGINNING), RUNNING);
    drop(run);
    assert_eq!(wait_for(0, seconds, END), 0);
}

#[test]
fn programs_that_need_the_gpu_run_one_after_another() {
    let project = Project::empty();
    let step = |name: &str, gpu: u32| {
        format!(
            "[steps.{name}]\nstage = \"command\"\nrun = [\"sh\", \"-c\", \"date +%s%N > {{out}}/made/from; sleep 0.4; date +%s%N > {{out}}/made/to; : {name}\"]\n\
             outputs = {{ made = \"files\" }}\nresources = {{ cpu = 0, gpu = {gpu} }}\n"
        )
    };
    let overlap = |gpu: u32| {
        project.write(
            "p.toml",
            format!("name = \"p\"\n{}{}", step(&format!("a{gpu}"), gpu), step(&format!("b{gpu}"), gpu)),
        );
        let _ = project.run(&["p.toml"]);
        let times = ["a", "b"].map(|name| {
            let out = format!("{name}{gpu}");
            assert_eq!(project.pipe(&["export", "p.toml", &out, &out]).code, 0);
            ["from", "to"]
                .map(|file| fs::read_to_string(project.path(&out).join(file)).unwrap().trim().parse::<u64>().unwrap())
        });
        times[0][0] < times[1][1] && times[1][0] < times[0][1]
    };
    assert_eq!((overlap(1), overlap(0)), (false, true));
}
