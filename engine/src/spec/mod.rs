//! The pipeline file: from TOML text to steps with every value's place remembered, so that any later complaint can point at it.
//!
//! Knows the grammar of a pipeline, not the meaning of a stage.

mod diagnostic;
mod inputs;
pub mod matrix;
mod parse;
mod places;
pub mod selector;
pub mod settings;
mod steps;
pub(crate) mod substitute;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;
use std::sync::Arc;

use serde_json::{Map, Value};

pub use diagnostic::{Diagnostic, SpecError, SpecText};
pub use places::Places;

use crate::problem::Subject;
use matrix::Families;
use settings::StepSettings;

/// Whether a text may name a step or a port. Names become those of folders, so none leads anywhere else.
#[must_use]
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-".contains(c))
}

/// What to do about a text that is no name.
pub const NAMES_ARE: &str = "use letters, digits, `_` and `-`";

/// Bytes of the pipeline file that something was said in.
pub type Span = Range<usize>;

/// A parsed pipeline: parameters filled in, stages not yet looked at.
#[derive(Debug)]
pub struct Spec {
    /// Its name.
    pub name: String,
    /// The file and its text.
    pub text: SpecText,
    /// Parameters as this run uses them.
    pub params: Map<String, Value>,
    /// The profile in use.
    pub profile: Option<String>,
    /// The names of all profiles.
    pub profiles: Vec<String>,
    /// Steps in the order they are written, those of a matrix one by one.
    pub steps: Vec<StepSpec>,
    /// The steps as the file has them, by name.
    pub families: Arc<Families>,
    /// Steps whose `when` is false.
    pub left_out: Vec<LeftOutStep>,
}

/// A step that its `when` turned off.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LeftOutStep {
    /// Its name.
    pub step: String,
    /// The condition, as it is written.
    pub when: String,
    /// Where it stands: `file:line:column`.
    pub place: String,
}

/// One `[steps.NAME]`, or one instance of its matrix.
#[derive(Debug)]
pub struct StepSpec {
    /// Its name.
    pub name: String,
    /// The name the file gives it, without the values of its matrix.
    pub family: String,
    /// Where the name stands.
    pub span: Span,
    /// The stage asked for.
    pub stage: String,
    /// Where that stands.
    pub stage_span: Span,
    /// What its ports are fed.
    pub inputs: Vec<InputSpec>,
    /// Its parameters.
    pub params: Value,
    /// How it is run and judged.
    pub settings: StepSettings,
    /// Which of its replicates it is.
    pub replicate: Option<u32>,
    /// Where each value stands.
    pub places: Places,
}

/// What one port is fed.
#[derive(Debug)]
pub struct InputSpec {
    /// The port.
    pub port: String,
    /// Where it is named.
    pub span: Span,
    /// The steps that feed it, labelled if the file labels them.
    pub refs: Vec<Reference>,
    /// Whether it was written as a table or array.
    pub several: bool,
}

/// The output of a step.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The label, or the text of the reference.
    pub label: String,
    /// The step.
    pub step: String,
    /// Its port, if named.
    pub port: Option<String>,
    /// Where it stands.
    pub span: Span,
}

/// What a run changes in a pipeline file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--profile NAME`.
    pub profile: Option<String>,
    /// `--set name=value`, in order.
    pub set: Vec<(String, String)>,
}

impl Spec {
    /// Reads and parses a pipeline file.
    ///
    /// # Errors
    /// Everything wrong with it, each with its place.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Self, SpecError> {
        let bytes = std::fs::read(path)
            .map_err(|error| SpecError::Unreadable { path: path.to_owned(), why: error.to_string() })?;
        let text = String::from_utf8(bytes).map_err(|error| not_text(path, &error))?;
        Self::parse(SpecText::new(path, text), overrides)
    }

    /// Parses the text of a pipeline file.
    ///
    /// # Errors
    /// Everything wrong with it, each with its place.
    pub fn parse(text: SpecText, overrides: &Overrides) -> Result<Self, SpecError> {
        parse::parse(text, overrides)
    }

    /// The directory relative paths start from.
    #[must_use]
    pub fn base(&self) -> PathBuf {
        match self.text.path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        }
    }
}

/// The complaint about a file that is no text, at its first byte that is none.
fn not_text(path: &Path, error: &FromUtf8Error) -> SpecError {
    let at = error.utf8_error().valid_up_to();
    let byte = error.as_bytes()[at];
    let text = SpecText::new(path, String::from_utf8_lossy(error.as_bytes()));
    let message = format!("the pipeline is not UTF-8: here stands the byte 0x{byte:02x}");
    let span = at..at + char::REPLACEMENT_CHARACTER.len_utf8();
    SpecError::wrong(vec![text.diagnostic(&span, message).help(Some("save the file as UTF-8".to_owned()))])
}

impl StepSpec {
    /// Where the subject of a problem stands; the step's name, if the file does not mention it.
    #[must_use]
    pub fn span_of(&self, subject: &Subject) -> Span {
        match subject {
            Subject::Step => self.span.clone(),
            Subject::Param(path) => self.places.around(path).unwrap_or(&self.span).clone(),
            Subject::Input(port) => self
                .inputs
                .iter()
                .find(|input| input.port == *port)
                .map_or_else(|| self.span.clone(), |i| i.span.clone()),
        }
    }

    /// Whether the file mentions the parameter that a problem is about, or the problem is not about one.
    #[must_use]
    pub fn mentions(&self, subject: &Subject) -> bool {
        !matches!(subject, Subject::Param(path) if self.places.get(path.split('.').next().unwrap_or(path)).is_none())
    }
}
