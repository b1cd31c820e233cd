//! Everything that ends a command early, with its exit code and the way it is shown.

use std::path::Path;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use pipe_engine::lock::LockError;
use pipe_engine::problem::{Failure, FailureClass, nearest};
use pipe_engine::spec::{Diagnostic, SpecError};

use crate::exit;

/// Why a command ends early.
#[derive(Debug)]
pub enum CliError {
    /// The pipeline, or what the command line asks of it.
    Spec(SpecError),
    /// The lock of the pipeline.
    Lock(LockError),
    /// The store.
    Store {
        /// What is wrong.
        message: String,
        /// What to do.
        help: Option<&'static str>,
    },
    /// A step, or something that acts like one.
    Failure(Failure),
}

impl From<SpecError> for CliError {
    fn from(error: SpecError) -> Self {
        Self::Spec(error)
    }
}

impl From<LockError> for CliError {
    fn from(error: LockError) -> Self {
        Self::Lock(error)
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<pipe_cache::StoreError> for CliError {
    fn from(error: pipe_cache::StoreError) -> Self {
        let help = error.is_denied().then_some("name a place that can be written to with --store DIR or PIPE_STORE");
        Self::Store { message: error.to_string(), help }
    }
}

impl CliError {
    /// The exit code.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Spec(SpecError::Override { .. }) => exit::USAGE,
            Self::Lock(LockError::Missing { .. }) => exit::USAGE,
            Self::Spec(_) | Self::Lock(_) => exit::PIPELINE,
            Self::Store { .. } => exit::STORE,
            Self::Failure(failure) if matches!(failure.class, FailureClass::Interrupted) => exit::INTERRUPTED,
            Self::Failure(_) => exit::FAILED,
        }
    }

    /// The text for a person.
    pub fn render(&self) -> String {
        match self {
            Self::Spec(SpecError::Wrong(diagnostics)) => {
                let mut texts: Vec<String> = diagnostics.iter().map(snippet).collect();
                if texts.len() > 1 {
                    texts.push(format!("{} mistakes; nothing ran", texts.len()));
                }
                texts.join("\n\n")
            }
            Self::Spec(SpecError::Override { message, help }) => plain(message, help.as_deref()),
            Self::Spec(error @ SpecError::Unreadable { path, .. }) => {
                plain(&error.to_string(), other_pipelines(path).as_deref())
            }
            Self::Lock(error) => plain(&error.to_string(), Some(&error.help())),
            Self::Store { message, help } => plain(message, *help),
            Self::Failure(failure) => plain(&failure.to_string(), failure.help.as_deref()),
        }
    }

    /// The same for a program.
    pub fn json(&self) -> serde_json::Value {
        let problems: Vec<serde_json::Value> = match self {
            Self::Spec(SpecError::Wrong(diagnostics)) => diagnostics.iter().map(diagnostic_json).collect(),
            Self::Spec(SpecError::Override { message, help }) => {
                vec![serde_json::json!({ "message": message, "help": help })]
            }
            Self::Failure(failure) => vec![serde_json::json!({ "message": failure.to_string(), "help": failure.help })],
            Self::Spec(error @ SpecError::Unreadable { path, .. }) => {
                vec![serde_json::json!({ "message": error.to_string(), "help": other_pipelines(path) })]
            }
            Self::Lock(error) => vec![serde_json::json!({ "message": error.to_string(), "help": error.help() })],
            Self::Store { message, help } => vec![serde_json::json!({ "message": message, "help": help })],
        };
        serde_json::json!({ "error": { "code": self.code(), "problems": problems } })
    }
}

/// The pipelines that lie where one was sought.
fn other_pipelines(sought: &Path) -> Option<String> {
    let folder = if sought.is_dir() { sought } else { sought.parent()? };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let files = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| folder.join(entry.file_name()));
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .filter(|path| path.file_name() != sought.file_name())
        .map(|path| path.strip_prefix("./").unwrap_or(&path).display().to_string())
        .collect();
    names.sort();
    if let Some(near) = nearest(&sought.display().to_string(), names.iter().map(String::as_str)) {
        return Some(format!("did you mean {near}?"));
    }
    match names.as_slice() {
        [] => Some("`pipe new DIRECTORY` writes a pipeline to begin with".to_owned()),
        names => Some(format!("name the file of a pipeline: there is {}", names[..names.len().min(5)].join(", "))),
    }
}

fn diagnostic_json(diagnostic: &Diagnostic) -> serde_json::Value {
    let (line, column) = diagnostic.file.position(diagnostic.span.start);
    serde_json::json!({
        "file": diagnostic.file.path,
        "line": line,
        "column": column,
        "message": diagnostic.message,
        "help": diagnostic.help,
    })
}

fn plain(message: &str, help: Option<&str>) -> String {
    let mut text = format!("error: {message}");
    if let Some(help) = help {
        text = format!("{text}\n  = help: {help}");
    }
    text
}

/// A complaint with the lines it is about, as compilers show them.
fn snippet(diagnostic: &Diagnostic) -> String {
    let path = diagnostic.file.path.display().to_string();
    let span =
        diagnostic.span.start.min(diagnostic.file.text.len())..diagnostic.span.end.min(diagnostic.file.text.len());
    let source = Snippet::source(&*diagnostic.file.text).path(&path).annotation(AnnotationKind::Primary.span(span));
    let mut group = Group::with_title(Level::ERROR.primary_title(&diagnostic.message)).element(source);
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help));
    }
    Renderer::plain().render(&[group])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_cannot_be_made_may_lie_elsewhere() {
        let told = |kind: std::io::ErrorKind| {
            let (path, source) = ("/p/.pipe".into(), kind.into());
            CliError::from(pipe_cache::StoreError::Io { what: "create", path, source }).render()
        };
        let help = "\n  = help: name a place that can be written to with --store DIR or PIPE_STORE";
        assert!(told(std::io::ErrorKind::ReadOnlyFilesystem).ends_with(help));
        assert!(told(std::io::ErrorKind::PermissionDenied).ends_with(help));
        assert!(!told(std::io::ErrorKind::InvalidData).contains("help"));
    }
}
