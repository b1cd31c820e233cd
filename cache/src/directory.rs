//! Making directories of a store: whoever may write to the one above may write to them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::{Context, StoreError};

/// Set-group-ID and writable for the group: what a directory is given that a group shares.
const SHARED: u32 = 0o2020;

/// Makes a directory and those above it that are missing; false if it was there. For its name to be durable the one above is to be
/// synced.
pub(crate) fn make(path: &Path) -> Result<bool, StoreError> {
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(path.parent().ok_or(error).context("create", path)?)?;
            return make(path);
        }
        Err(error) => return Err(error).context("create", path),
    }
    let mode = path.parent().and_then(|above| fs::metadata(above).ok()).map_or(0, |meta| meta.permissions().mode());
    if mode & SHARED == SHARED {
        // The user's umask would keep the group out.
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777)).context("share", path)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn below_a_shared_directory_all_are_shared() {
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().join("shared");
        assert!(make(&shared).unwrap());
        assert_eq!(mode(&shared) & SHARED, 0, "nothing is shared unasked");
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o2770)).unwrap();
        assert!(make(&shared.join("a/b")).unwrap());
        assert_eq!((mode(&shared.join("a")), mode(&shared.join("a/b"))), (0o2770, 0o2770));
        assert!(!make(&shared.join("a")).unwrap());
        fs::write(shared.join("file"), "").unwrap();
        assert!(make(&shared.join("file")).is_err());
    }
}
