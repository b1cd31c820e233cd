//! Where the bytes of an object lie: a file, or a stretch of a pack.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Bytes copied at once.
const PIECE: usize = 1 << 20;

/// A readable object: `len` bytes at `offset` of the file at `path`, with digest `digest`. Never written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// BLAKE3 of the bytes.
    pub digest: Digest,
    /// The file that holds them.
    pub path: Arc<Path>,
    /// First byte, from the start of the file.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

impl Blob {
    /// Reads the whole object and checks it against its digest.
    ///
    /// # Errors
    /// When the file cannot be read; `InvalidData` when the bytes are not those the digest names, `UnexpectedEof` when some are
    /// missing, or the file is gone.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let file = self.open()?;
        self.read_from(&file, file.metadata()?.len())
    }

    /// Whether it lies within so many bytes: a damaged index may tell any length.
    pub(crate) fn ends_by(&self, file_len: u64) -> bool {
        self.offset.checked_add(self.len).is_some_and(|end| end <= file_len)
    }

    /// Reads the whole object from its file, which is open and of that length.
    pub(crate) fn read_from(&self, file: &File, file_len: u64) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.len).ok().filter(|_| self.ends_by(file_len));
        let mut bytes = vec![0; len.ok_or(io::ErrorKind::UnexpectedEof)?];
        file.read_exact_at(&mut bytes, self.offset)?;
        if Digest::of(&bytes) != self.digest {
            return Err(self.damaged());
        }
        Ok(bytes)
    }

    /// Puts the object into a new file, as a clone where the file system has them, and checks it against its digest.
    ///
    /// # Errors
    /// As [`Blob::read`], and when the file cannot be written.
    pub fn copy_to(&self, target: &Path) -> io::Result<()> {
        let source = self.open()?;
        let mut out = File::create(target)?;
        let whole = self.offset == 0 && source.metadata()?.len() == self.len;
        // Where the file system can share what two files have in common, nothing is copied.
        if whole && rustix::fs::ioctl_ficlone(&out, &source).is_ok() {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(&source)?;
            return if hasher.finalize().as_bytes() == self.digest.bytes() { Ok(()) } else { Err(self.damaged()) };
        }
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; PIECE];
        let mut done = 0;
        while done < self.len {
            let len = usize::try_from(self.len - done).map_or(PIECE, |left| left.min(PIECE));
            source.read_exact_at(&mut buffer[..len], self.offset + done)?;
            hasher.update(&buffer[..len]);
            out.write_all(&buffer[..len])?;
            done += len as u64;
        }
        if hasher.finalize().as_bytes() == self.digest.bytes() { Ok(()) } else { Err(self.damaged()) }
    }

    pub(crate) fn open(&self) -> io::Result<File> {
        File::open(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                io::Error::new(io::ErrorKind::UnexpectedEof, format!("object {} is gone", self.digest))
            }
            _ => error,
        })
    }

    fn damaged(&self) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("object {} is damaged", self.digest))
    }
}
