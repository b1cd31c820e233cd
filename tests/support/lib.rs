//! What the end-to-end tests share: a pipeline directory of their own, and the binaries run in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A run that takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(600);

/// The pipeline of [`Project::small`].
pub const SMALL: &str = r#"name = "p"

[params]
size = 8

[steps.photos]
stage = "download"
source = "photos"
format = "images"

[steps.clean]
stage = "filter"
inputs = { rows = "photos" }
keep = "image.width >= 16"

[steps.thumbnails]
stage = "resize"
inputs = { images = "clean" }
size = "${size}"

[steps.texts]
stage = "download"
source = "texts.jsonl"
id = "id"

[steps.long]
stage = "filter"
inputs = { rows = "texts" }
keep = "size(caption) > 6"

[steps.parts]
stage = "split"
inputs = { rows = "long" }
parts = { train = 0.5, test = 0.5 }
"#;

/// A directory with pipelines, thrown away at the end.
pub struct Project {
    dir: tempfile::TempDir,
}

/// What a finished `pipe` left.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; 128 + the signal's number where one ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error, with the project's path replaced by `DIR`.
    pub stderr: String,
    /// Wall-clock time.
    pub seconds: f64,
}

impl Project {
    /// An empty directory.
    ///
    /// # Panics
    /// When there is no room for it.
    #[must_use]
    pub fn empty() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    /// A copy of the shipped pipelines, their data and models.
    ///
    /// # Panics
    /// When it cannot be copied.
    #[must_use]
    pub fn shipped() -> Self {
        let project = Self::empty();
        let pipelines = workspace().join("pipelines");
        for name in ["data", "models"] {
            copy_tree(&pipelines.join(name), &project.path(name));
        }
        for entry in fs::read_dir(&pipelines).expect("pipelines/ is there").flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "toml") {
                fs::copy(entry.path(), project.dir.path().join(entry.file_name())).expect("a copy");
            }
        }
        project
    }

    /// A path inside.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file inside.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a path inside has a parent")).expect("a directory");
        fs::write(path, content).expect("a file written");
    }

    /// `pipe` with these arguments, in this directory.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        self.program(binary("pipe"), args)
    }

    /// Any program with these arguments, in this directory.
    #[must_use]
    pub fn program(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for name in ["PIPE_STORE", "PIPE_TORCH", "HF_TOKEN", "HF_ENDPOINT"] {
            command.env_remove(name);
        }
        command
    }

    /// Starts `pipe`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args).spawn().expect("pipe starts")
    }

    /// Runs `pipe` to its end.
    ///
    /// # Panics
    /// When it cannot be started or hangs.
    #[must_use]
    pub fn pipe(&self, args: &[&str]) -> Outcome {
        self.finish(self.start(args))
    }

    /// A small project without tensors: six pictures to clean and shrink, sixty texts to sift and split, as `p.toml`.
    #[must_use]
    pub fn small() -> Self {
        let project = Self::empty();
        let scenes = workspace().join("pipelines/data/scenes");
        for n in 1..=6 {
            let name = format!("scene-{n:04}.png");
            let picture = fs::read(scenes.join(&name)).expect("the shipped pictures are there");
            project.write(&format!("photos/{name}"), picture);
        }
        let text = |n: u32| format!("{{\"id\": \"t-{n:02}\", \"caption\": \"text {n}\", \"note\": \"x\"}}\n");
        project.write("texts.jsonl", (0..60).map(text).collect::<String>());
        project.write("p.toml", SMALL);
        project
    }

    /// Waits for a started `pipe`.
    ///
    /// # Panics
    /// When it hangs.
    #[must_use]
    pub fn finish(&self, mut child: Child) -> Outcome {
        use std::os::unix::process::ExitStatusExt;
        let started = Instant::now();
        let stdout = drain(child.stdout.take());
        let stderr = drain(child.stderr.take());
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if started.elapsed() > PATIENCE {
                // It is being given up on anyway.
                let _ = child.kill();
                panic!("pipe hangs");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let seconds = started.elapsed().as_secs_f64();
        let root = self.dir.path().display().to_string();
        Outcome {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: stdout.join().expect("the reader ends").replace(&root, "DIR"),
            stderr: stderr.join().expect("the reader ends").replace(&root, "DIR"),
            seconds,
        }
    }

    /// Runs `pipe run SPEC --json …` and gives what each step did.
    ///
    /// # Panics
    /// When the run fails.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Run {
        let args: Vec<&str> = ["run", "--json"].iter().chain(args).copied().collect();
        let outcome = self.pipe(&args);
        assert_eq!(outcome.code, 0, "{}\n{}", outcome.stdout, outcome.stderr);
        Run::of(&outcome)
    }
}

/// A text with what changes from run to run replaced: names of runs, times, durations, digests, sizes.
///
/// # Panics
/// Never: the patterns are fixed.
#[must_use]
pub fn steady(text: &str) -> String {
    let patterns = [
        (r"\b\d{10}-\d{3}-\d+\b", "RUN"),
        (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b", "TIME"),
        (r"\b[0-9a-f]{64}\b", "DIGEST"),
        (r"\b\d+(\.\d+)? (ms|s|kB|MB|bytes)\b( *$)?", "N"),
        (r"(?m)^(  (host|version|device) +).*$", "${1}X"),
        (r"  +", "  "),
    ];
    patterns.iter().fold(text.to_owned(), |text, (pattern, with)| {
        let pattern = regex::Regex::new(pattern).expect("the pattern is fixed");
        pattern.replace_all(&text, *with).into_owned()
    })
}

/// The events of a run.
pub struct Run {
    /// Every event.
    pub events: Vec<Value>,
    /// Wall-clock time.
    pub seconds: f64,
}

impl Run {
    /// Reads the events of a run with `--json`.
    ///
    /// # Panics
    /// When a line is not JSON.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        let events = outcome.stdout.lines().map(|line| serde_json::from_str(line).expect("every line is JSON"));
        Self { events: events.collect(), seconds: outcome.seconds }
    }

    fn done(&self) -> impl Iterator<Item = &Value> {
        self.events.iter().filter(|event| event["event"] == "step_done")
    }

    /// Names of the steps that executed, in alphabetical order.
    #[must_use]
    pub fn executed(&self) -> Vec<String> {
        let mut steps: Vec<String> =
            self.done().filter(|event| event["report"]["executed"] == true).map(|event| text(&event["step"])).collect();
        steps.sort();
        steps
    }

    /// Rows of a step that executed.
    ///
    /// # Panics
    /// When the run has no such step, or it counts no rows.
    #[must_use]
    pub fn rows_executed(&self, step: &str) -> u64 {
        let done = self.done().find(|event| event["step"] == step).expect("the run has this step");
        done["report"]["rows"]["executed"].as_u64().expect("the step counts rows")
    }

    /// Every artifact, as `step.port digest`.
    #[must_use]
    pub fn artifacts(&self) -> Vec<String> {
        let mut artifacts: Vec<String> = self
            .done()
            .flat_map(|event| {
                let outputs = event["report"]["outputs"].as_object().into_iter().flatten();
                outputs.map(move |(port, digest)| format!("{}.{port} {}", text(&event["step"]), text(digest)))
            })
            .collect();
        artifacts.sort();
        artifacts
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The root of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A binary of the workspace, built in the profile of the tests.
///
/// # Panics
/// When it is not built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let path = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST").join(name);
    assert!(path.exists(), "{} is not built: run `make test`, or `cargo build` first", path.display());
    path
}

fn drain(stream: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // A stream that breaks ends the text there.
            let _ = stream.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory to copy").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
