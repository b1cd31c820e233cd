//! What a stage is: the row of the stage table that the engine plans and runs by.
//!
//! A stage has two halves. *Declare* is all that planning needs: ports, parameters, columns read and written, checks.
//! *Execute* does the work. The engine knows stages only through this file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pipe_cache::{Digest, StatIndex};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cell::{Cell, ColumnType, Row, Schema};
use crate::expression::Type;
use crate::problem::{Failure, Problem, Subject};
use crate::source::{Credentials, SourceContext};
use crate::step::{Sink, StepContext};

/// The kind of a port that carries datasets.
pub const DATASET: &str = "dataset/1";

/// The kind of a port that carries numbers: `metrics.json`, an object, which expectations look at.
pub const METRICS: &str = "metrics/1";

/// One row of the stage table.
pub struct Stage {
    /// The word after `stage =`.
    pub name: &'static str,
    /// Raised whenever the same inputs and parameters may give another output.
    pub version: u32,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// Input ports. A row or table stage works on the first, which is a dataset.
    pub inputs: &'static [Port],
    /// Output ports. Empty where the parameters name them (see [`Contract::outputs`]).
    pub outputs: &'static [Port],
    /// The JSON schema of its parameters; see [`params_schema`].
    pub params: fn() -> schemars::Schema,
    /// What it needs while it runs.
    pub resources: Resources,
    /// Looks at the outside world while planning, for stages that depend on it.
    pub resolve: Option<Resolve>,
    /// Says what the step reads and gives, or what is wrong with it.
    pub declare: fn(&Declare<'_>) -> Result<Contract, Problem>,
    /// How the work is done.
    pub execute: Execute,
}

impl Stage {
    /// Its name and version: `resize/1`.
    #[must_use]
    pub fn versioned(&self) -> String {
        format!("{}/{}", self.name, self.version)
    }
}

/// Finds the state of the outside world that a run will use.
pub type Resolve = fn(&ResolveContext<'_>) -> Result<Resolution, Problem>;

/// An input or output of a stage.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// Its name; `*` stands for any name, where a stage takes inputs of the user's naming.
    pub name: &'static str,
    /// The kinds it accepts or gives (`dataset/1`); `*` for any.
    pub kinds: &'static [&'static str],
    /// Takes several artifacts, labelled.
    pub many: bool,
    /// May be left unconnected.
    pub optional: bool,
    /// What flows through it.
    pub about: &'static str,
}

impl Port {
    /// A port that takes or gives exactly one artifact of one kind.
    #[must_use]
    pub const fn one(name: &'static str, kinds: &'static [&'static str], about: &'static str) -> Self {
        Self { name, kinds, many: false, optional: false, about }
    }

    /// The same port, taking several.
    #[must_use]
    pub const fn many(mut self) -> Self {
        self.many = true;
        self
    }

    /// The same port, which may be left unconnected.
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Whether an artifact of this kind fits.
    #[must_use]
    pub fn accepts(&self, kind: &str) -> bool {
        self.kinds.iter().any(|k| *k == "*" || *k == kind)
    }
}

/// What a step occupies while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Resources {
    /// Cores: 0 for work that waits, [`Resources::ALL_CORES`] for all of them.
    pub cpu: u32,
    /// Network connections.
    pub net: u32,
    /// The device of the torch worker (one step at a time).
    pub device: bool,
    /// Bytes of memory, where that is known: 0 elsewhere.
    pub memory: u64,
}

impl Resources {
    /// Stands for every core there is.
    pub const ALL_CORES: u32 = u32::MAX;
    /// One core.
    pub const ONE_CORE: Self = Self { cpu: 1, net: 0, device: false, memory: 0 };
    /// Rows on all cores.
    pub const CORES: Self = Self { cpu: Self::ALL_CORES, net: 0, device: false, memory: 0 };
    /// One network connection, hardly any computing.
    pub const NET: Self = Self { cpu: 0, net: 1, device: false, memory: 0 };
    /// The torch worker.
    pub const DEVICE: Self = Self { cpu: Self::ALL_CORES, net: 0, device: true, memory: 0 };
}

/// How a stage does its work.
pub enum Execute {
    /// Brings artifacts in from outside, in this process.
    Source(fn(&SourceContext<'_>) -> Result<(), Failure>),
    /// Row by row, in this process, on all cores.
    Rows(fn(&Load<'_>) -> Result<Box<dyn RowStage>, Failure>),
    /// Over all rows of a dataset, each decided on in the light of the others, in this process.
    Table(fn(&Load<'_>) -> Result<Box<dyn TableStage>, Failure>),
    /// On whole inputs, in this process.
    Step(fn(&StepContext<'_>) -> Result<(), Failure>),
    /// Row by row in the torch worker.
    TorchRows,
    /// On whole inputs in the torch worker.
    TorchStep,
}

impl Execute {
    /// Whether the stage changes a dataset row by row, so that its outputs follow from its input and a delta.
    #[must_use]
    pub const fn transforms(&self) -> bool {
        matches!(self, Self::Rows(_) | Self::TorchRows | Self::Table(_))
    }

    /// Whether it works in the torch worker.
    #[must_use]
    pub const fn is_torch(&self) -> bool {
        matches!(self, Self::TorchRows | Self::TorchStep)
    }
}

/// The schema of a parameters struct: the one source of names, types, defaults, ranges and documentation.
///
/// A property with the extension `"x-performance": true` (`#[schemars(extend("x-performance" = true))]`) changes
/// speed only and stays out of keys.
#[must_use]
pub fn params_schema<P: JsonSchema>() -> schemars::Schema {
    let mut settings = schemars::generate::SchemaSettings::draft07();
    settings.inline_subschemas = true;
    settings.into_generator().into_root_schema_for::<P>()
}

/// What a port is fed, as far as planning knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The label, on a port that takes many; else the producing step's name.
    pub label: String,
    /// The kind.
    pub kind: String,
    /// The columns, for datasets.
    pub schema: Option<Schema>,
}

/// What `declare` is given.
pub struct Declare<'a> {
    /// Checked parameters with defaults filled in.
    pub params: &'a Value,
    /// What each connected port is fed.
    pub inputs: &'a BTreeMap<String, Vec<Shape>>,
    /// What `resolve` found, for stages that have it.
    pub resolution: Option<&'a Resolution>,
}

impl Declare<'_> {
    /// The parameters as the stage's own type.
    ///
    /// # Errors
    /// When they do not fit it in a way the schema cannot say.
    pub fn params<P: DeserializeOwned>(&self) -> Result<P, Problem> {
        P::deserialize(self.params).map_err(|error| Problem::step(format!("parameters do not fit: {error}")))
    }

    /// The columns of the dataset on a port that takes one.
    ///
    /// # Errors
    /// When the port is not connected or carries no dataset.
    pub fn schema(&self, port: &str) -> Result<&Schema, Problem> {
        self.inputs
            .get(port)
            .and_then(|shapes| shapes.first())
            .and_then(|shape| shape.schema.as_ref())
            .ok_or_else(|| Problem::input(port, format!("port `{port}` needs a dataset")))
    }

    /// Checks that the dataset on `port` has `column` with one of these types; `param` is the parameter that named it.
    ///
    /// # Errors
    /// A problem at the parameter (or at the port, where the parameter was left to its default).
    pub fn column(&self, port: &str, param: &str, column: &str, types: &[ColumnType]) -> Result<ColumnType, Problem> {
        let schema = self.schema(port)?;
        match schema.get(column) {
            Some(found) if types.contains(&found) => Ok(found),
            _ => {
                let problem = Problem::missing_column(Subject::Param(param.to_owned()), column, types, schema);
                Err(Problem { otherwise: Some(Subject::Input(port.to_owned())), ..problem })
            }
        }
    }
}

/// The part of an input that a step reads, and its key depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reads {
    /// These columns of a dataset (`id` is named where the result depends on it).
    Columns(Vec<String>),
    /// These files of a directory, by relative path, where they exist.
    Files(Vec<String>),
    /// All of it.
    All,
}

/// An output port of a step, as its parameters and inputs make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The port.
    pub port: String,
    /// The kind.
    pub kind: String,
    /// The columns, for datasets.
    pub schema: Option<Schema>,
}

/// What a step promises: what it reads of each port, what it writes, what it gives.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Contract {
    /// What is read of each input port; a port not named is read whole.
    pub reads: BTreeMap<String, Reads>,
    /// Columns a row or table stage writes, in the order its outcomes give their cells.
    pub writes: Vec<(String, ColumnType)>,
    /// Outputs of source and step stages. Row stages leave it empty: their one output has the first input's columns plus those
    /// written. So do table stages, unless parameters name their outputs: then the ports stand here, without a schema.
    pub outputs: Vec<Output>,
    /// Names of the credentials it will ask for, checked before the run.
    pub credentials: Vec<String>,
    /// Whether the outputs tell of the steps that led there ([`crate::step::StepTask::lineage`]): then the lineage is in the key.
    pub uses_lineage: bool,
    /// What `metrics.json` of an output will hold, by port, as expectations see it; [`Type::Any`] where a part is not known yet.
    pub metrics: BTreeMap<String, Type>,
    /// Things worth saying that stop nothing.
    pub notes: Vec<String>,
}

impl Contract {
    /// Says that of `port` these columns are read.
    #[must_use]
    pub fn reads_columns<I: IntoIterator<Item = S>, S: Into<String>>(mut self, port: &str, columns: I) -> Self {
        self.reads.insert(port.to_owned(), Reads::Columns(columns.into_iter().map(Into::into).collect()));
        self
    }

    /// Says that the outputs tell of the steps that led there.
    #[must_use]
    pub const fn uses_lineage(mut self) -> Self {
        self.uses_lineage = true;
        self
    }

    /// Says that of `port` these files are read.
    #[must_use]
    pub fn reads_files(mut self, port: &str, files: &[&str]) -> Self {
        self.reads.insert(port.to_owned(), Reads::Files(files.iter().map(|&f| f.to_owned()).collect()));
        self
    }

    /// Adds a column that a row or table stage writes.
    #[must_use]
    pub fn writes(mut self, column: impl Into<String>, column_type: ColumnType) -> Self {
        self.writes.push((column.into(), column_type));
        self
    }

    /// Adds an output of a source or step stage that is a directory of files.
    #[must_use]
    pub fn gives(mut self, port: impl Into<String>, kind: impl Into<String>) -> Self {
        self.outputs.push(Output { port: port.into(), kind: kind.into(), schema: None });
        self
    }

    /// Adds an output of a source or step stage that is a dataset.
    #[must_use]
    pub fn gives_dataset(mut self, port: impl Into<String>, schema: Schema) -> Self {
        self.outputs.push(Output { port: port.into(), kind: DATASET.to_owned(), schema: Some(schema) });
        self
    }
}

/// What planning may look at outside.
pub struct ResolveContext<'a> {
    /// Checked parameters with defaults filled in.
    pub params: &'a Value,
    /// The directory of the pipeline file, which relative paths start from.
    pub base: &'a Path,
    /// Digests of local files, without reading those that did not change.
    pub index: &'a StatIndex,
    /// The pin of a moving place, where the lock of the pipeline has one.
    pub pinned: &'a dyn Fn(&str) -> Result<Option<String>, Problem>,
    /// Given when the network may be asked what a moving place without a pin holds; planning never does.
    pub ask: Option<&'a crate::source::Asking<'a>>,
}

impl ResolveContext<'_> {
    /// The parameters as the stage's own type.
    ///
    /// # Errors
    /// When they do not fit it in a way the schema cannot say.
    pub fn params<P: DeserializeOwned>(&self) -> Result<P, Problem> {
        P::deserialize(self.params).map_err(|error| Problem::step(format!("parameters do not fit: {error}")))
    }
}

/// A local file that a step depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Path relative to the source, with `/`; the name that enters the key.
    pub name: String,
    /// Where it lies on this machine; never in a key.
    pub path: PathBuf,
    /// Digest of its content.
    pub digest: Digest,
    /// Bytes.
    pub len: u64,
}

/// A place whose content may change: a branch, an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moving {
    /// What it is called in the lock; no secret is in it.
    pub source: String,
    /// Whether its state is known. If not, nothing that depends on it is.
    pub is_pinned: bool,
}

/// The outside world at the state a run will use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// A text that pins it: a commit, a checksum, a version. Empty for local files, which their digests pin.
    pub pin: String,
    /// The place that `pin` is a state of, where the pipeline names one that may change and leaves the state to its lock.
    pub moving: Option<Moving>,
    /// What was fetched of it while it was asked for. In no key.
    pub fetched: Option<PathBuf>,
    /// Local files, sorted by name.
    pub files: Vec<SourceFile>,
    /// Files that are there but cannot be read, sorted by name, each with why; they cost a row each, not the step.
    pub unreadable: Vec<(String, String)>,
    /// The columns it will yield, where planning can tell.
    pub schema: Option<Schema>,
    /// Things worth saying that stop nothing. In no key.
    pub notes: Vec<String>,
}

/// What a row or table stage is set up with.
pub struct Load<'a> {
    /// Checked parameters with defaults filled in.
    pub params: &'a Value,
    /// The inputs besides the dataset it works on.
    pub inputs: &'a crate::step::Inputs,
    /// Columns of the rows it will be given, in that order.
    pub columns: &'a [String],
    /// Their types.
    pub schema: &'a Schema,
    /// Where it works.
    pub place: Place<'a>,
}

/// Where a row stage works, for those that run programs or write files.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Files beside the pipeline that the step depends on, as planning saw them.
    pub sources: &'a [SourceFile],
    /// A directory of this attempt alone; gone afterwards.
    pub scratch: &'a Path,
    /// A file that outlives the attempt, for the output of programs.
    pub log: Option<&'a Path>,
    /// Threads to compute with.
    pub threads: usize,
    /// Variables that programs may be passed.
    pub credentials: &'a Credentials,
}

impl Default for Place<'_> {
    fn default() -> Self {
        Self { sources: &[], scratch: Path::new(""), log: None, threads: 1, credentials: Credentials::none() }
    }
}

impl Load<'_> {
    /// The parameters as the stage's own type.
    ///
    /// # Errors
    /// When they do not fit it in a way the schema cannot say.
    pub fn params<P: DeserializeOwned>(&self) -> Result<P, Failure> {
        P::deserialize(self.params).map_err(|error| Failure::internal(format!("parameters do not fit: {error}")))
    }
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It stays, with these cells for the columns written.
    Keep(Vec<Cell>),
    /// It leaves, for a reason that recurs (rows are counted by reason).
    Drop(String),
    /// It could not be worked on.
    Fail(RowFailure),
}

/// Why a row could not be worked on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowFailure {
    /// A short class that recurs, such as `image: truncated`; rows are counted by it.
    pub class: String,
    /// What exactly.
    pub message: String,
    /// Network or memory: not remembered, tried again by the next run.
    #[serde(default)]
    pub transient: bool,
}

impl Outcome {
    /// A failure that will recur.
    pub fn fail(class: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Fail(RowFailure { class: class.into(), message: message.into(), transient: false })
    }
}

/// A stage that works row by row. Called with rows of the engine's choosing, possibly from several threads at once.
pub trait RowStage: Send + Sync {
    /// The outcome of each row, in order. The outcome of a row depends on that row alone. One that takes long watches `sink`.
    ///
    /// # Errors
    /// When the step cannot go on; a row that cannot be worked on is an [`Outcome::Fail`].
    fn run(&self, rows: &[Row], sink: &dyn Sink) -> Result<Vec<Outcome>, Failure>;

    /// Ends what it started, once every row has its outcome.
    ///
    /// # Errors
    /// When that does not end well; of class [`Doubt`](crate::problem::FailureClass::Doubt) where outcomes may belong to other rows.
    fn finish(&self, sink: &dyn Sink) -> Result<(), Failure> {
        let _ = sink;
        Ok(())
    }
}

/// What a table stage must know of a row to decide on the others: 16 bytes, such as a hash or a number that sorts.
pub type Mark = u128;

/// What a table stage decided about a row in the light of all others, such as the part it goes to.
pub type Verdict = u32;

/// A stage that must know of every row before it decides on any. Its work lies in three steps, so that an edit passes through:
/// only changed chunks are marked again, and only those with another verdict are assigned again.
pub trait TableStage: Send + Sync {
    /// The mark of each row, in order. It depends on that row alone, and is remembered.
    ///
    /// # Errors
    /// When the step cannot go on; a row that cannot be worked on has [`NO_MARK`] and fails when it is assigned.
    fn mark(&self, rows: &[Row]) -> Result<Vec<Mark>, Failure>;

    /// The verdict on each row, chunk by chunk, from the marks of all rows in order of id.
    fn decide(&self, marks: &[Vec<Mark>]) -> Vec<Vec<Verdict>>;

    /// What becomes of each row, in order. It depends on that row and its verdict alone, and is remembered.
    ///
    /// # Errors
    /// When the step cannot go on.
    fn assign(&self, rows: &[Row], verdicts: &[Verdict]) -> Result<Vec<Assignment>, Failure>;
}

/// The mark of a row that takes no part in deciding.
pub const NO_MARK: Mark = Mark::MAX;

/// What a table stage does with a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Assignment {
    /// It goes to the output port with this index, with these cells for the columns written.
    Keep {
        /// Index into the stage's output ports.
        port: usize,
        /// One cell per column written.
        cells: Vec<Cell>,
    },
    /// It leaves, for a reason that recurs.
    Drop(String),
    /// It could not be worked on.
    Fail(RowFailure),
}
