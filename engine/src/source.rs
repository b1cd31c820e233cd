//! What a source stage sees: the resolved outside world, and a way to give artifacts.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use pipe_cache::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cell::{Row, Schema};
use crate::problem::Failure;
use crate::stage::{Resolution, RowFailure};
use crate::step::Sink;

/// What stands for a secret where it would be shown.
pub(crate) const MASK: &str = "***";

/// Bytes of the shortest value that is taken for a secret: a shorter one could be any word or number of a text.
const SECRET: usize = 8;

/// A token or password. Prints as `***`; read only where it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself, for the one call that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// Secrets and endpoints by name (`HF_TOKEN`, `HF_ENDPOINT`, variables that programs are passed), as the front end found them.
#[derive(Clone, Debug, Default)]
pub struct Credentials(pub BTreeMap<String, Secret>);

impl Credentials {
    /// The value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Secret> {
        self.0.get(name)
    }

    /// None at all.
    #[must_use]
    pub const fn none() -> &'static Self {
        static NONE: Credentials = Credentials(BTreeMap::new());
        &NONE
    }

    /// Those of these names.
    ///
    /// # Errors
    /// The first name that there is no value of.
    pub fn only<'n>(&self, names: &'n [String]) -> Result<Self, &'n str> {
        let found = |name: &'n String| Ok((name.clone(), self.get(name).ok_or(name.as_str())?.clone()));
        names.iter().map(found).collect::<Result<_, _>>().map(Self)
    }

    /// A text with `***` for every value in it but those of addresses, and those too short to be secret.
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        let secrets = self.0.iter().filter(|(name, value)| !name.ends_with("_ENDPOINT") && value.0.len() >= SECRET);
        secrets.fold(text.to_owned(), |text, (_, secret)| text.replace(&secret.0, MASK))
    }

    /// A failure with its texts masked.
    #[must_use]
    pub fn mask_failure(&self, failure: Failure) -> Failure {
        let mask = |text: Option<String>| text.map(|text| self.mask(&text));
        let (message, help, row) = (self.mask(&failure.message), mask(failure.help), mask(failure.row));
        Failure { message, help, row, ..failure }
    }
}

/// What a source that is asked for its present state may use.
pub struct Asking<'a> {
    /// Tokens and endpoints.
    pub credentials: &'a Credentials,
    /// A directory for what must be fetched to tell; it lasts as long as the run.
    pub scratch: &'a Path,
    /// Where to report.
    pub sink: &'a dyn Sink,
}

/// A row that a source could not read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRow {
    /// What identifies it: an id or `file:line`.
    pub id: String,
    /// Why.
    pub failure: RowFailure,
}

/// Rows as they are read.
pub type RowSource<'a> = dyn Iterator<Item = Result<Row, BadRow>> + 'a;

/// A file that a source stage gives: where it lies, for the store to take.
#[derive(Clone, Debug)]
pub struct GivenFile {
    /// Path within the artifact, with `/`.
    pub name: String,
    /// Where it lies now. One in the scratch directory may be taken over by a link; any other is copied.
    pub path: PathBuf,
    /// What it must still hold, of a file that planning has seen.
    pub seen: Option<Digest>,
}

/// Takes what a stage makes from nothing.
pub trait Outputs: Sync {
    /// Stores the dataset of an output port: rows in any order, their cells in the order of the schema's names, and the rows that
    /// could not be read. New images are stored as they come, so that a large folder never lies in memory. A row whose id came
    /// before counts as bad.
    ///
    /// # Errors
    /// When a cell does not fit its column or the store cannot be written.
    fn dataset(&self, port: &str, schema: &Schema, rows: &mut RowSource<'_>) -> Result<(), Failure>;

    /// Stores the files of an output port of another kind. What the store has already is not read again. Takers of datasets alone
    /// refuse them.
    ///
    /// # Errors
    /// When a file is not what planning saw, cannot be read, or the store cannot be written.
    fn files(&self, port: &str, files: &[GivenFile], sink: &dyn Sink) -> Result<(), Failure> {
        let _ = (files, sink);
        Err(Failure::internal(format!("output `{port}` is not asked for here")))
    }
}

/// What an executing source stage is given.
pub struct SourceContext<'a> {
    /// Checked parameters with defaults filled in.
    pub params: &'a Value,
    /// What planning resolved.
    pub resolution: &'a Resolution,
    /// The directory of the pipeline file.
    pub base: &'a Path,
    /// A directory of this attempt alone.
    pub scratch: &'a Path,
    /// Takes what the stage makes.
    pub outputs: &'a dyn Outputs,
    /// Tokens and endpoints.
    pub credentials: &'a Credentials,
    /// Where to report.
    pub sink: &'a dyn Sink,
}

impl SourceContext<'_> {
    /// The parameters as the stage's own type.
    ///
    /// # Errors
    /// When they do not fit it in a way the schema cannot say.
    pub fn params<P: DeserializeOwned>(&self) -> Result<P, Failure> {
        P::deserialize(self.params).map_err(|error| Failure::internal(format!("parameters do not fit: {error}")))
    }
}
