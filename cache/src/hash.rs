//! The digest of a file. It is read, never mapped: a mapped file that another program cuts short ends the process that looks at it.

use std::fs::File;
use std::io::{self, Read};

use blake3::Hasher;

use crate::Digest;

/// So much is hashed on all cores while the next is read.
const BLOCK: u64 = 4 << 20;

/// The digest of what a file holds from here to its end, and its length. Takes two blocks of memory at most.
pub(crate) fn hash(file: &File) -> io::Result<(Digest, u64)> {
    let mut hasher = Hasher::new();
    if file.metadata()?.len() <= BLOCK {
        hasher.update_reader(file)?;
    } else {
        let (mut held, mut next) = (Vec::new(), Vec::new());
        fill(file, &mut held)?;
        while !held.is_empty() {
            let (read, _) = rayon::join(
                || fill(file, &mut next),
                || {
                    hasher.update_rayon(&held);
                },
            );
            read?;
            std::mem::swap(&mut held, &mut next);
        }
    }
    Ok((Digest::from_bytes(*hasher.finalize().as_bytes()), hasher.count()))
}

/// Reads the next block; none is left where it stays empty.
fn fill(file: &File, block: &mut Vec<u8>) -> io::Result<()> {
    block.clear();
    file.take(BLOCK).read_to_end(block).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_and_small_files_have_the_digest_of_their_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let block = usize::try_from(BLOCK).unwrap();
        for len in [0, 1, 70_000, block, block + 1, 2 * block, 3 * block - 1] {
            let bytes: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let path = dir.path().join(len.to_string());
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(hash(&File::open(&path).unwrap()).unwrap(), (Digest::of(&bytes), len as u64));
        }
    }

    #[test]
    fn a_file_that_is_cut_short_meanwhile_ends_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let whole = vec![7; 64 << 20];
        std::fs::write(&path, &whole).unwrap();
        let writer = File::options().write(true).open(&path).unwrap();
        let cut = std::thread::spawn(move || writer.set_len(1).unwrap());
        let (_, len) = hash(&File::open(&path).unwrap()).unwrap();
        cut.join().unwrap();
        assert!(len <= whole.len() as u64);
    }
}
