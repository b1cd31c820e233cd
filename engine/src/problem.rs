//! What is wrong with a pipeline, and what went wrong in a step.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cell::{ColumnType, Schema};
use crate::expression::Mistake;

/// The part of a step that a [`Problem`] is about; the front end knows where it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The step as a whole.
    Step,
    /// A parameter, by name; a dot leads into a table (`columns.image`).
    Param(String),
    /// An input port, by name.
    Input(String),
}

/// What more is known of a [`Problem`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Where in the subject's text, which is this, in bytes.
    pub within: Option<(String, Range<usize>)>,
    /// The column that the input lacks, where that is what is wrong.
    pub missing: Option<String>,
    /// Whether the pipeline is right and a file that it names cannot be read.
    pub gone: bool,
}

/// A mistake in a pipeline, found before anything runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it is about.
    pub subject: Subject,
    /// What to point at where the file does not mention the subject, because it was left to its default.
    pub otherwise: Option<Subject>,
    /// What more is known of it.
    pub detail: Option<Box<Detail>>,
    /// What is wrong.
    pub message: String,
    /// What was expected, the nearest name, or what to do.
    pub help: Option<String>,
}

impl Problem {
    /// A problem with the step as a whole.
    pub fn step(message: impl Into<String>) -> Self {
        Self { subject: Subject::Step, otherwise: None, detail: None, message: message.into(), help: None }
    }

    /// A problem with a parameter.
    pub fn param(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            subject: Subject::Param(name.into()),
            otherwise: None,
            detail: None,
            message: message.into(),
            help: None,
        }
    }

    /// A problem with what an input port is fed.
    pub fn input(port: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            subject: Subject::Input(port.into()),
            otherwise: None,
            detail: None,
            message: message.into(),
            help: None,
        }
    }

    /// A problem with an expression or a template that a parameter holds.
    #[must_use]
    pub fn expression(parameter: &str, source: &str, mistake: Mistake) -> Self {
        let Mistake { at, message, help } = mistake;
        let detail = Detail { within: Some((source.to_owned(), at)), ..Detail::default() };
        Self { detail: Some(Box::new(detail)), help, ..Self::param(parameter, message) }
    }

    /// Says that the pipeline is right and a file that it names cannot be read.
    #[must_use]
    pub fn gone(mut self) -> Self {
        self.detail.get_or_insert_default().gone = true;
        self
    }

    /// Whether the pipeline is right and a file that it names cannot be read.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.detail.as_ref().is_some_and(|detail| detail.gone)
    }

    /// Where in the subject's text, if it is about a part of it: the text, and the part in bytes.
    #[must_use]
    pub fn within(&self) -> Option<&(String, Range<usize>)> {
        self.detail.as_ref()?.within.as_ref()
    }

    /// The column that the input lacks, if that is what is wrong.
    #[must_use]
    pub fn missing(&self) -> Option<&str> {
        self.detail.as_ref()?.missing.as_deref()
    }

    /// Adds what was expected or what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// A dataset without a column that a stage reads; `subject` is the parameter or port that asks for it.
    #[must_use]
    pub fn missing_column(subject: Subject, column: &str, wanted: &[ColumnType], schema: &Schema) -> Self {
        let types = wanted.iter().map(|t| t.name()).collect::<Vec<_>>().join(" or ");
        let found = schema.get(column);
        let message = match found {
            None if types.is_empty() => format!("there is no column `{column}`"),
            None => format!("there is no column `{column}` ({types})"),
            Some(found) => format!("column `{column}` is {found}, expected {types}"),
        };
        // Of those that would do, where the type is known that is asked for.
        let fitting = schema.0.iter().filter(|(_, other)| wanted.is_empty() || wanted.contains(other));
        let near = nearest(column, fitting.map(|(name, _)| name.as_str()));
        let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        let help = Some(format!("{near}the input has columns {schema}"));
        let missing = found.is_none().then(|| column.to_owned());
        Self {
            subject,
            otherwise: None,
            detail: Some(Box::new(Detail { missing, ..Detail::default() })),
            message,
            help,
        }
    }
}

/// The candidate most like `name`, if any is close enough to be a likely slip; case is the likeliest.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = 1 + name.chars().count() / 3;
    let lower = name.to_lowercase();
    let distance = |candidate: &str| match candidate.to_lowercase() == lower {
        true => 0,
        false => strsim::damerau_levenshtein(name, candidate),
    };
    candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Why a step failed, as far as it decides what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureClass {
    /// The inputs or parameters cannot be worked with; running again gives the same.
    Input,
    /// The network, the disk or memory; running again may work.
    Transient,
    /// The store cannot be read or written: it is full, or not allowed. Running again may work.
    Store,
    /// An object of the store is gone or damaged; the step that gave it can make it again.
    Lost,
    /// A worker process ended, hung or answered nonsense.
    Worker,
    /// What the step gave is recorded, but is not what the pipeline expects.
    Expectation,
    /// Outcomes of rows may belong to other rows: none of the step's rows stays remembered.
    Doubt,
    /// The lock that the run must keep to says otherwise.
    Locked,
    /// The user interrupted the run.
    Interrupted,
    /// A fault of `pipe` itself.
    Internal,
}

/// What to do about a full disk.
pub(crate) const FREE_SPACE: &str = "free some space (`pipe gc` says what nothing needs), or move the store with --store; what was finished stays finished";

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Failure {
    /// The class.
    pub class: FailureClass,
    /// What went wrong, where and why; several lines at most.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The row at fault, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    /// Where the program's own output was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(row) = &self.row {
            write!(f, "row `{row}`: ")?;
        }
        f.write_str(&self.message)
    }
}

impl Failure {
    /// A failure of the class given.
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), help: None, row: None, log: None }
    }

    /// The inputs or parameters cannot be worked with.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Input, message)
    }

    /// Running again may work.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Transient, message)
    }

    /// A fault of `pipe` itself.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(FailureClass::Internal, message)
    }

    /// The run was interrupted.
    #[must_use]
    pub fn interrupted() -> Self {
        Self::new(FailureClass::Interrupted, "interrupted")
    }

    /// An operating system error on a path.
    pub fn io(what: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::{InvalidData, QuotaExceeded, ReadOnlyFilesystem, StorageFull, UnexpectedEof};
        let message = format!("cannot {what} {}: {error}", path.display());
        match error.kind() {
            InvalidData | UnexpectedEof => Self::new(FailureClass::Lost, message),
            StorageFull | QuotaExceeded => Self::new(FailureClass::Store, message).help(FREE_SPACE),
            ReadOnlyFilesystem => Self::new(FailureClass::Store, message),
            _ => Self::new(FailureClass::Transient, message),
        }
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
