//! The lock of a pipeline: what its moving sources are pinned to, and what its last complete run gave, to go into git beside it. Nothing of
//! time or host.
//!
//! TOML, a block a step, sorted by name, so that two branches which changed different steps merge by themselves.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use pipe_cache::{Digest, Key};
use serde::Deserialize;
use toml_writer::{TomlKeyBuilder, TomlStringBuilder, TomlWrite};

use crate::graph::Step;
use crate::problem::{Failure, FailureClass};
use crate::run::{Pinned, StepResult};

const FORMAT: &str = "pipe-lock/2";

/// The formats that are read: the first had no pins of steps without a result.
const READ: [&str; 2] = ["pipe-lock/1", FORMAT];

/// What the last complete run gave, by profile; that without a profile under the empty name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock(BTreeMap<String, LockedSteps>);

/// What each step gave, by name.
pub type LockedSteps = BTreeMap<String, LockedStep>;

/// What a step was and gave.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedStep {
    /// The stage and its version: `resize/1`.
    pub stage: String,
    /// Its key, where it has a result.
    pub key: Option<Key>,
    /// The moving place that it takes from; empty for others.
    #[serde(default)]
    pub source: String,
    /// The state of the outside world it used besides local files, for sources.
    #[serde(default)]
    pub pin: String,
    /// The artifacts it gave, by port.
    #[serde(default)]
    pub outputs: BTreeMap<String, Digest>,
}

/// A lock as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    #[serde(default)]
    steps: LockedSteps,
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    #[serde(default)]
    steps: LockedSteps,
}

/// A lock that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// There is none, or none of this profile.
    #[error("{}", missing(path, profile.as_deref()))]
    Missing {
        /// The file.
        path: PathBuf,
        /// The profile that a lock which is there knows nothing of; empty for none.
        profile: Option<String>,
    },
    /// It cannot be read or written.
    #[error("cannot {what} {}: {why}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// It is not a lock.
    #[error("{}:{line}:{column}: not a lock: {why}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
        /// What is wrong.
        why: String,
    },
}

impl LockError {
    /// What to do.
    #[must_use]
    pub fn help(&self) -> String {
        let help = match self {
            Self::Missing { profile: Some(profile), .. } if !profile.is_empty() => {
                return format!("a complete run with `--profile {profile}`, without `--locked` and `--set`, adds it");
            }
            Self::Missing { .. } => "a complete run without `--locked` and `--set` writes it",
            Self::File { .. } => "see that the file can be read and written",
            Self::Wrong { .. } => {
                "each block is a step: after a merge, keep one of each; or delete it, and a run without `--locked` writes it anew and asks for every pin"
            }
        };
        help.to_owned()
    }
}

fn missing(path: &Path, profile: Option<&str>) -> String {
    match profile {
        None => format!("there is no lock {}", path.display()),
        Some("") => format!("the lock {} has profiles alone, and no run without one", path.display()),
        Some(profile) => format!("the lock {} has nothing of the profile `{profile}`", path.display()),
    }
}

/// Where the lock of a pipeline lies: beside it, with `.lock` for `.toml`.
#[must_use]
pub fn path_of(pipeline: &Path) -> PathBuf {
    pipeline.with_extension("lock")
}

impl LockedStep {
    /// What a step's result is, as a lock holds it.
    #[must_use]
    pub fn of(step: &Step, result: &StepResult) -> Self {
        let moving = step.resolution.as_ref().and_then(|resolution| resolution.moving.as_ref());
        let source = moving.map(|moving| moving.source.clone()).unwrap_or_default();
        let outputs = result.outputs.iter().map(|(port, artifact)| (port.clone(), artifact.digest)).collect();
        Self { stage: step.stage.versioned(), key: Some(result.key), source, pin: step.pin().to_owned(), outputs }
    }
}

impl Lock {
    /// Reads a lock; `None` if there is none.
    ///
    /// # Errors
    /// When it cannot be read or is not a lock.
    pub fn load(path: &Path) -> Result<Option<Self>, LockError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LockError::File { what: "read", path: path.to_owned(), why: error.to_string() }),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, LockError> {
        let wrong = |offset: usize, why: String| {
            let before = &text[..text.floor_char_boundary(offset.min(text.len()))];
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            LockError::Wrong { path: path.to_owned(), line, column, why }
        };
        let document: Document = toml::from_str(text)
            .map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message().trim_end().to_owned()))?;
        if !READ.contains(&document.format.as_str()) {
            return Err(wrong(
                0,
                format!("its format is `{}`, this program reads `{}`", document.format, READ.join("` and `")),
            ));
        }
        let mut sections: BTreeMap<String, LockedSteps> =
            document.profiles.into_iter().map(|(name, profile)| (name, profile.steps)).collect();
        sections.insert(String::new(), document.steps);
        sections.retain(|_, steps| !steps.is_empty());
        Ok(Self(sections))
    }

    /// The steps of a profile.
    #[must_use]
    pub fn steps(&self, profile: Option<&str>) -> Option<&LockedSteps> {
        self.0.get(profile.unwrap_or_default())
    }

    /// What a place is pinned to: by this step under this profile, else by any other step, those of the profile first.
    #[must_use]
    pub fn pin(&self, profile: Option<&str>, step: &str, source: &str) -> Option<&str> {
        let section = self.steps(profile);
        let own = section.and_then(|steps| steps.get(step));
        let of_profile = section.into_iter().flat_map(BTreeMap::values);
        let everywhere = self.0.values().flat_map(BTreeMap::values);
        let mut steps = own.into_iter().chain(of_profile).chain(everywhere);
        steps.find(|step| step.source == source && !step.pin.is_empty()).map(|step| step.pin.as_str())
    }

    /// Pins the place that a step takes from. A result that the step has in the lock stays there only if it is of this pin.
    pub fn set_pin(&mut self, profile: Option<&str>, pinned: &Pinned) {
        let Pinned { step, stage, source, pin } = pinned.clone();
        let steps = self.0.entry(profile.unwrap_or_default().to_owned()).or_default();
        let same = |found: &&mut LockedStep| found.source == source && found.pin == pin;
        if steps.get_mut(&step).filter(same).is_none() {
            steps.insert(step, LockedStep { stage, key: None, source, pin, outputs: BTreeMap::new() });
        }
    }

    /// Puts the steps of a profile in place of those there were.
    pub fn set(&mut self, profile: Option<&str>, steps: LockedSteps) {
        self.0.insert(profile.unwrap_or_default().to_owned(), steps);
    }

    /// Takes over what another has of its profiles.
    pub fn adopt(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The text of the lock: the same for the same content.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = format!(
            "# Written by `pipe run`; belongs into version control. `pipe run --locked` fails if anything differs.\nformat = \"{FORMAT}\"\n"
        );
        for (profile, steps) in &self.0 {
            let section = if profile.is_empty() { String::new() } else { format!("profiles.{}.", quoted(profile)) };
            for (name, step) in steps {
                push_step(&mut text, &format!("{section}steps.{}", quoted(name)), step);
            }
        }
        text
    }

    /// Whether the file there says just this.
    #[must_use]
    pub fn lies_at(&self, path: &Path) -> bool {
        says(path, &self.render())
    }

    /// Writes the lock, unless the file already says the same. Returns whether it was written.
    ///
    /// # Errors
    /// When it cannot be written; the file is then what it was.
    pub fn save(&self, path: &Path) -> Result<bool, LockError> {
        let text = self.render();
        if says(path, &text) {
            return Ok(false);
        }
        let aside = path.with_extension(format!("lock.{}", std::process::id()));
        std::fs::write(&aside, text)
            .and_then(|()| std::fs::rename(&aside, path))
            .map(|()| true)
            .map_err(|error| LockError::File { what: "write", path: path.to_owned(), why: error.to_string() })
    }
}

fn says(path: &Path, text: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|found| found == text)
}

/// A name as a TOML key.
fn quoted(name: &str) -> String {
    let mut key = String::new();
    key.key(TomlKeyBuilder::new(name).as_default()).expect("writing into a string cannot fail");
    key
}

/// A text as a TOML string of one line.
fn string(text: &str) -> String {
    let mut value = String::new();
    value.value(TomlStringBuilder::new(text).as_basic()).expect("writing into a string cannot fail");
    value
}

fn push_step(text: &mut String, table: &str, step: &LockedStep) {
    writeln!(text, "\n[{table}]").expect("writing into a string cannot fail");
    let mut line = |name: &str, value: &str| {
        writeln!(text, "{name} = {value}").expect("writing into a string cannot fail");
    };
    line("stage", &string(&step.stage));
    if let Some(key) = step.key {
        line("key", &string(&key.to_string()));
    }
    for (name, value) in [("source", &step.source), ("pin", &step.pin)] {
        if !value.is_empty() {
            line(name, &string(value));
        }
    }
    if step.key.is_some() {
        let outputs: Vec<String> =
            step.outputs.iter().map(|(port, digest)| format!("{} = \"{digest}\"", quoted(port))).collect();
        line("outputs", &format!("{{ {} }}", outputs.join(", ")));
    }
}

/// Whether a step may execute or be reused under a lock.
///
/// # Errors
/// When the lock knows no such step, or another key of it.
pub(crate) fn check_key(locked: &LockedSteps, step: &str, key: Key) -> Result<(), Failure> {
    match locked.get(step) {
        Some(found) if found.key == Some(key) => Ok(()),
        Some(found) if found.key.is_none() => Err(differs("the lock has its pin, but no result of it".to_owned())
            .help("a complete run without `--locked` writes it down")),
        Some(_) => {
            let message = "its stage, its parameters or what it reads differ from the lock".to_owned();
            Err(differs(message)
                .help(format!("`pipe explain SPEC {step}` says what; a run without `--locked` takes it over")))
        }
        None => Err(differs("the lock knows no such step".to_owned()).help("a run without `--locked` takes it over")),
    }
}

/// Whether a step gave what the lock says.
///
/// # Errors
/// When it gave something else under the same key.
pub(crate) fn check_outputs(locked: &LockedSteps, step: &str, result: &StepResult) -> Result<(), Failure> {
    let Some(found) = locked.get(step) else { return Ok(()) };
    let mut outputs = result.outputs.iter().map(|(port, artifact)| (port, artifact.digest));
    let Some((port, digest)) = outputs.find(|(port, digest)| found.outputs.get(*port) != Some(digest)) else {
        return Ok(());
    };
    let expected = found.outputs.get(port).map_or_else(|| "nothing".to_owned(), Digest::to_string);
    Err(differs(format!("output `{port}` is {digest}, the lock says {expected}"))
        .help("the same recipe gave another result here: rounding on other hardware, or a program that depends on what it does not declare"))
}

fn differs(message: String) -> Failure {
    Failure::new(FailureClass::Locked, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn step(n: u8) -> LockedStep {
        LockedStep {
            stage: "resize/1".to_owned(),
            key: Some(Key::of(&[n])),
            source: if n.is_multiple_of(3) { format!("hf://a/b@{n}") } else { String::new() },
            pin: if n.is_multiple_of(2) { String::new() } else { format!("commit \"{n}\"") },
            outputs: [("images".to_owned(), Digest::of(&[n])), (format!("port {n}"), Digest::of(b""))].into(),
        }
    }

    #[test]
    fn it_reads_well() {
        let mut lock = Lock::default();
        lock.set(None, [("train[r=8]".to_owned(), step(1)), ("small".to_owned(), step(2))].into());
        lock.set(Some("smoke"), [("small".to_owned(), step(3))].into());
        insta::assert_snapshot!(lock.render());
    }

    #[test]
    fn what_is_no_lock_says_where_and_why() {
        let message = |text: &str| Lock::parse(text, Path::new("a.lock")).unwrap_err().to_string();
        let conflict = format!("format = \"{FORMAT}\"\n<<<<<<< ours\n[steps.a]\n");
        assert!(message(&conflict).starts_with("a.lock:2:"), "{}", message(&conflict));
        assert_eq!(
            message("format = \"pipe-lock/9\""),
            "a.lock:1:1: not a lock: its format is `pipe-lock/9`, this program reads `pipe-lock/1` and `pipe-lock/2`"
        );
        assert!(
            message("format = \"pipe-lock/1\"\n[steps.a]\nstage = \"x/1\"\nkey = \"zz\"\noutputs = {}\n")
                .starts_with("a.lock:4:7")
        );
    }

    fn pinned(step: &str, pin: &str) -> Pinned {
        let (stage, source) = ("download/1".to_owned(), "hf://a/b@main".to_owned());
        Pinned { step: step.to_owned(), stage, source, pin: pin.to_owned() }
    }

    #[test]
    fn a_place_is_pinned_once_and_for_every_profile() {
        let mut lock = Lock::default();
        lock.set_pin(None, &pinned("model", "one"));
        assert_eq!(lock.pin(None, "model", "hf://a/b@main"), Some("one"));
        assert_eq!(lock.pin(Some("smoke"), "other", "hf://a/b@main"), Some("one"));
        assert_eq!(lock.pin(None, "model", "hf://a/b@dev"), None, "the pipeline names another place now");
        lock.set_pin(Some("smoke"), &pinned("model", "two"));
        assert_eq!(lock.pin(None, "model", "hf://a/b@main"), Some("one"));
        assert_eq!(lock.pin(Some("smoke"), "model", "hf://a/b@main"), Some("two"));
        insta::assert_snapshot!("pins", lock.render());
        assert_eq!(Lock::parse(&lock.render(), Path::new("a.lock")).unwrap(), lock);
    }

    #[test]
    fn a_new_pin_takes_the_result_of_the_old_one_away() {
        let mut lock = Lock::default();
        let done = LockedStep { source: "hf://a/b@main".to_owned(), pin: "one".to_owned(), ..step(1) };
        lock.set(None, [("model".to_owned(), done)].into());
        lock.set_pin(None, &pinned("model", "one"));
        let locked = |lock: &Lock| check_key(lock.steps(None).unwrap(), "model", Key::of(&[1]));
        assert!(locked(&lock).is_ok());
        lock.set_pin(None, &pinned("model", "two"));
        assert!(locked(&lock).unwrap_err().message.contains("no result"));
    }

    #[test]
    fn locks_of_the_first_format_are_read() {
        let text = "format = \"pipe-lock/1\"\n[steps.a]\nstage = \"x/1\"\nkey = \"".to_owned()
            + &Key::of(b"").to_string()
            + "\"\noutputs = {}\n";
        assert!(Lock::parse(&text, Path::new("a.lock")).unwrap().steps(None).unwrap()["a"].key.is_some());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(names in proptest::collection::btree_map("\\PC{1,12}", any::<u8>(), 0..5), profile in proptest::option::of("\\PC{1,8}")) {
            let steps: LockedSteps = names.into_iter().map(|(name, n)| (name, step(n))).collect();
            let mut lock = Lock::default();
            if !steps.is_empty() {
                lock.set(profile.as_deref(), steps);
            }
            prop_assert_eq!(Lock::parse(&lock.render(), Path::new("a.lock")).unwrap(), lock);
        }

        #[test]
        fn no_text_panics(text in "(format = \"pipe-lock/2\"\n)?[\\[\\]a-z.= \"\n{}\\PC]{0,120}") {
            let _ = Lock::parse(&text, Path::new("a.lock"));
        }
    }
}
