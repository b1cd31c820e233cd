//! A complaint with its place in the pipeline file.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Span;

/// A pipeline file: its path and text.
#[derive(Clone, Debug)]
pub struct SpecText {
    /// As the user named it.
    pub path: PathBuf,
    /// Its content.
    pub text: Arc<str>,
}

impl SpecText {
    /// A file with this content.
    #[must_use]
    pub fn new(path: &Path, text: impl Into<Arc<str>>) -> Self {
        Self { path: path.to_owned(), text: text.into() }
    }

    /// Line and column, both from 1, of a byte. Columns count characters.
    #[must_use]
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// A place as messages name it: `file:line:column`.
    #[must_use]
    pub fn place(&self, span: &Span) -> String {
        let (line, column) = self.position(span.start);
        format!("{}:{line}:{column}", self.path.display())
    }

    /// The place of a part of a text that stands at `span`; the whole where it is not written there as it is, for escapes or `${}`.
    #[must_use]
    pub fn inside(&self, span: &Span, text: &str, part: &Span) -> Span {
        let written = self.text.get(span.clone()).and_then(|written| written.find(text));
        written.filter(|_| !text.is_empty()).map_or_else(
            || span.clone(),
            |begin| {
                let begin = span.start + begin;
                begin + part.start..begin + part.end
            },
        )
    }

    /// A complaint about a place in this file.
    pub fn diagnostic(&self, span: &Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { file: self.clone(), span: span.clone(), message: message.into(), help: None }
    }
}

/// A mistake in a pipeline file.
#[derive(Clone)]
pub struct Diagnostic {
    /// The file.
    pub file: SpecText,
    /// Where in it.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What was expected, the nearest name, or what to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Adds what was expected or what to do.
    #[must_use]
    pub fn help(mut self, help: Option<String>) -> Self {
        self.help = help;
        self
    }
}

impl fmt::Display for Diagnostic {
    /// `file:line:column: message; help`, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.place(&self.span), self.message)?;
        self.help.iter().try_for_each(|help| write!(f, "; {help}"))
    }
}

impl fmt::Debug for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a pipeline cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error("cannot read the pipeline {}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// It is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Diagnostic>),
    /// `--profile` or `--set` names what the file does not have.
    #[error("{message}{}", help.as_ref().map(|help| format!("; {help}")).unwrap_or_default())]
    Override {
        /// What is wrong.
        message: String,
        /// The nearest name.
        help: Option<String>,
    },
}

impl SpecError {
    /// Complaints in the order of the file, each once: the instances of a step share their text.
    #[must_use]
    pub fn wrong(mut complaints: Vec<Diagnostic>) -> Self {
        complaints.sort_by_key(|one| one.span.start);
        let mut seen = HashSet::new();
        complaints.retain(|one| seen.insert((one.span.clone(), one.message.clone())));
        Self::Wrong(complaints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let text = SpecText::new(Path::new("p.toml"), "a = 1\nü = \"é\"\n");
        assert_eq!(text.position(0), (1, 1));
        assert_eq!(text.position(text.text.find('é').unwrap()), (2, 6));
        assert_eq!(text.position(1000), (3, 1));
    }
}
