//! What can go wrong, said so that the reader knows where and what to do.

use std::path::{Path, PathBuf};

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and where possible what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// A file that the work needs is not among the model's files.
    #[error("the model has no `{name}`; it has: {found}")]
    MissingFile {
        /// The name relative to the model's directory.
        name: String,
        /// The names there are.
        found: String,
    },

    /// A file is cut short or not what its name says.
    #[error("`{file}` is damaged: {reason}")]
    Damaged {
        /// The name relative to the model's directory, or the path.
        file: String,
        /// What does not hold.
        reason: String,
    },

    /// A configuration file lacks a field or has one of the wrong type or range.
    #[error("`{file}`: {reason}")]
    Config {
        /// The name relative to the model's directory.
        file: String,
        /// The field and what is wrong with it.
        reason: String,
    },

    /// The model asks for something this crate does not do.
    #[error("`{file}`: {what} is not supported; supported: {supported}")]
    Unsupported {
        /// The name relative to the model's directory.
        file: String,
        /// The field and its value.
        what: String,
        /// What would work.
        supported: String,
    },

    /// The weights do not fit the configuration.
    #[error("the weights do not fit the configuration:{}", listed(&[("missing", missing), ("unexpected", unexpected), ("wrong", wrong)]))]
    Weights {
        /// Names the configuration asks for that no file has.
        missing: Vec<String>,
        /// Names in the files that the configuration does not ask for.
        unexpected: Vec<String>,
        /// Names with the shape or type that was found and the one asked for.
        wrong: Vec<String>,
    },

    /// The adapter does not fit the base model, or its configuration targets nothing.
    #[error("the adapter does not fit the model: {reason}{}", listed(&[("names", names)]))]
    Adapter {
        /// What does not fit.
        reason: String,
        /// The names it concerns.
        names: Vec<String>,
    },

    /// A checkpoint belongs to another run.
    #[error("the checkpoint does not belong to this training: {0}")]
    Checkpoint(String),

    /// The device cannot be used.
    #[error("device `{device}` cannot be used: {reason}")]
    Device {
        /// The name asked for.
        device: String,
        /// Why, and what to do.
        reason: String,
    },

    /// What the caller handed in cannot be used.
    #[error("{0}")]
    Input(String),

    /// The tokenizer refused.
    #[error("tokenizer: {0}")]
    Tokenizer(String),

    /// Training met a value that is not finite, or a parameter that cannot learn.
    #[error("step {step}: {reason}")]
    Training {
        /// The optimizer step, from 1.
        step: u64,
        /// What happened.
        reason: String,
    },

    /// The device's memory is full.
    #[error("out of memory: {0}")]
    OutOfMemory(String),

    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(String),
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn damaged(file: &str, reason: impl std::fmt::Display) -> Self {
        Self::Damaged { file: file.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn config(file: &str, reason: impl Into<String>) -> Self {
        Self::Config { file: file.to_owned(), reason: reason.into() }
    }

    pub(crate) fn input(reason: impl Into<String>) -> Self {
        Self::Input(reason.into())
    }

    /// An error with libtorch's text, without the C++ backtrace it carries.
    pub(crate) fn torch(text: &str) -> Self {
        let text = text.split("\nException raised from").next().unwrap_or(text).trim_end().to_owned();
        if text.contains("out of memory") || text.contains("can't allocate memory") {
            Self::OutOfMemory(text)
        } else {
            Self::Torch(text)
        }
    }
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        match error {
            tch::TchError::Torch(text) => Self::torch(&text),
            other => Self::torch(&other.to_string()),
        }
    }
}

const LISTED: usize = 12;

/// `; missing (2): a, b; …` for the lists that are not empty, each cut to its first names.
fn listed(lists: &[(&str, &Vec<String>)]) -> String {
    let mut text = String::new();
    for (title, names) in lists.iter().filter(|(_, names)| !names.is_empty()) {
        let shown = names.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = if names.len() > LISTED { ", …" } else { "" };
        text.push_str(&format!("; {title} ({}): {shown}{more}", names.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtorch_texts_lose_their_backtrace() {
        let error = Error::torch("shapes differ\nException raised from f at g.cpp:1\nframe #0");
        assert_eq!(error.to_string(), "libtorch: shapes differ");
    }

    #[test]
    fn memory_errors_are_told_apart() {
        assert!(matches!(Error::torch("CUDA out of memory. Tried to allocate"), Error::OutOfMemory(_)));
    }

    #[test]
    fn long_lists_are_cut_but_counted() {
        let missing = (0..20).map(|i| format!("t{i}")).collect();
        let text = Error::Weights { missing, unexpected: vec![], wrong: vec![] }.to_string();
        assert!(text.contains("missing (20): t0, ") && text.ends_with('…'), "{text}");
    }
}
