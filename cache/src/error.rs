//! What can go wrong with a store.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Digest, Key};

/// A fault of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The operating system cannot say that a file will outlast a power cut.
    #[error("cannot make {} durable: {source}; nothing more of this process is recorded", path.display())]
    NotDurable {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory holds a store of another format.
    #[error("{} is a store of format `{found}`, this program reads `{wanted}`; use another store directory", path.display())]
    Format {
        /// The store.
        path: PathBuf,
        /// What its `format` file says.
        found: String,
        /// What this program reads.
        wanted: &'static str,
    },
    /// An object is not in the store.
    #[error("object {0} is not in the store")]
    Missing(Digest),
    /// An object's bytes are not those its digest names.
    #[error("object {digest} in {} is damaged", path.display())]
    Damaged {
        /// The object.
        digest: Digest,
        /// The file it lies in.
        path: PathBuf,
    },
    /// An action record cannot be read.
    #[error("the record of {key} in {} is damaged: {why}", path.display())]
    Record {
        /// The key.
        key: Key,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl StoreError {
    /// Whether the store may not be written to.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem))
    }

    /// Whether the disk, the quota or the inodes are used up.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } | Self::NotDurable { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

/// Adds what was tried, and on which path, to an I/O error.
pub(crate) trait Context<T> {
    fn context(self, what: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Io { what, path: path.to_owned(), source })
    }
}
