//! What sources held in earlier runs: results can be looked at where the source they were made of is gone.

use pipe_cache::{ActionRecord, Digest, Store};

use crate::artifact::Manifest;
use crate::history::{History, Run, StepState};
use crate::origin::Origin;
use crate::recipe;
use crate::source_list::SourceList;
use crate::stage::{Resolution, SourceFile};

/// Runs looked through: more take longer to read than an answer may take.
const RUNS: usize = 1000;

/// The runs of a pipeline, as far as they tell what its sources held.
pub struct Earlier<'a> {
    /// Where they are recorded.
    pub store: &'a Store,
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// Only runs under this profile and with these `--set` count.
    pub origin: &'a Origin,
    /// Whether what a source held then stands in for one that cannot be read; else it is only told of.
    pub stands_in: bool,
}

/// A source that cannot be read, for which stands what it held in an earlier run.
#[derive(Clone, Debug, PartialEq)]
pub struct Gone {
    /// Its step.
    pub step: String,
    /// Where the pipeline names it: `file:line:column`.
    pub place: String,
    /// Why it cannot be read.
    pub why: String,
    /// The run.
    pub run: String,
    /// When it began, in seconds since 1970.
    pub started: f64,
}

/// What a source held in a run.
pub(crate) struct Held {
    /// The run.
    pub(crate) run: Run,
    /// What it held.
    pub(crate) resolution: Resolution,
}

impl Earlier<'_> {
    /// What a step took from outside the last time that it had a result which is still recorded.
    pub(crate) fn held(&self, step: &str) -> Option<Held> {
        let history = History::open(self.store).ok()?;
        let mut runs = history.runs().take(RUNS).filter(|run| {
            run.pipeline == self.pipeline
                && run.origin.profile == self.origin.profile
                && run.origin.set == self.origin.set
        });
        runs.find_map(|run| {
            let found = run.step(step).filter(|s| matches!(s.state, StepState::Executed | StepState::Reused))?;
            let record = self.store.peek(&found.key?).ok()??;
            let resolution = resolution(self.store, &record)?;
            Some(Held { run, resolution })
        })
    }
}

/// What the recipe of a record and the record say of the outside world; `None` where they do not say all of it.
fn resolution(store: &Store, record: &ActionRecord) -> Option<Resolution> {
    let text = String::from_utf8(store.read(&record.recipe).ok()?).ok()?;
    let outside = recipe::outside(&text);
    let files = match (outside.has_files, SourceList::load(store, record).ok()?) {
        (true, None) => return None,
        (_, files) => files.unwrap_or_default(),
    };
    let file = |(name, digest): (String, Digest)| SourceFile { name, digest, path: Default::default(), len: 0 };
    let schema = record
        .outputs
        .values()
        .find_map(|output| Some(Manifest::load(store, output).ok()?.as_dataset()?.schema.clone()));
    Some(Resolution {
        pin: outside.pin,
        files: files.0.into_iter().map(file).collect(),
        unreadable: outside.unreadable.into_iter().map(|name| (name, String::new())).collect(),
        schema,
        ..Resolution::default()
    })
}
