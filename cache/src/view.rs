//! The bytes of an immutable file: mapped, or read where mapping is not safe or not worth it.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use crate::disk::is_network;
use crate::error::{Context, StoreError};

/// A file smaller than this is read sooner than it is mapped.
const MAPPED_FROM: u64 = 64 << 10;

/// The bytes of a file that is never written to nor truncated.
pub(crate) enum View {
    Mapped(Mmap),
    Read(Vec<u8>),
}

impl View {
    /// Opens the file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).context("open", path)?;
        Self::of(file).context("read", path)
    }

    #[expect(unsafe_code, reason = "mapping a file")]
    fn of(mut file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        // A page of a mapped file that another machine removed ends the process that touches it.
        if len < MAPPED_FROM || is_network(&file) {
            let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
            file.read_to_end(&mut bytes)?;
            return Ok(Self::Read(bytes));
        }
        // SAFETY: published files are never written to nor truncated; on this machine's own disk removing one leaves the mapping valid.
        Ok(Self::Mapped(unsafe { Mmap::map(&file) }?))
    }
}

impl Deref for View {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Read(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_files_show_their_bytes() {
        let dir = tempfile::tempdir().unwrap();
        for len in [0, 1, usize::try_from(MAPPED_FROM).unwrap(), 200_000] {
            let path = dir.path().join(len.to_string());
            std::fs::write(&path, vec![7; len]).unwrap();
            let view = View::open(&path).unwrap();
            assert_eq!(*view, *vec![7; len]);
            assert_eq!(matches!(view, View::Mapped(_)), len as u64 >= MAPPED_FROM);
        }
    }
}
