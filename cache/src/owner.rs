//! Who owns a temporary name: a process of a machine since a boot, so that what the dead left can be told from what the living use.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::Digest;
use crate::error::{Context, StoreError};

/// What another machine left is removed after this long without a change.
const FOREIGN_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A name that no other process on any machine uses at the same time: `MACHINE-PID-START-N`.
pub(crate) fn unique_name() -> String {
    static START: OnceLock<u64> = OnceLock::new();
    let pid = std::process::id();
    let start = START.get_or_init(|| start_time(pid).unwrap_or(0));
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{}-{pid}-{start}-{count}", machine())
}

/// Removes from `directory` the entries whose owner is dead.
pub(crate) fn sweep(directory: &Path) -> Result<(), StoreError> {
    // The last time that anything was made there: by the clock of the file system it is no earlier now.
    let now = || fs::metadata(directory).and_then(|meta| meta.modified()).ok();
    for entry in fs::read_dir(directory).context("read", directory)?.flatten() {
        if is_orphan(&entry.path(), now) {
            remove(&entry.path());
        }
    }
    Ok(())
}

/// Sets the times of a file to now, by the clock of its file system.
pub(crate) fn touch(path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    Ok(utimensat(CWD, path, &Timestamps { last_access: now, last_modification: now }, AtFlags::empty())?)
}

/// Removes a file or a whole directory, as far as that is possible.
pub(crate) fn remove(path: &Path) {
    // What cannot be removed now is an orphan for the next sweep.
    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

/// Whether the owner of a temporary name is dead. `now` is asked of where it is another machine's, and is by the clock of the file
/// system.
pub(crate) fn is_orphan(path: &Path, now: impl FnOnce() -> Option<SystemTime>) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut parts = name.split('-');
    let (Some(owner), Some(pid), Some(start)) = (parts.next(), parts.next(), parts.next()) else { return false };
    if owner != machine() {
        let changed = fs::metadata(path).and_then(|meta| meta.modified()).ok();
        let age = changed.zip(now()).and_then(|(changed, now)| now.duration_since(changed).ok());
        return age.is_some_and(|age| age > FOREIGN_AGE);
    }
    let (Ok(pid), Ok(start)) = (pid.parse::<u32>(), start.parse::<u64>()) else { return false };
    start_time(pid) != Some(start)
}

/// This boot of this machine, in this process namespace: containers may share a host name and process numbers.
fn machine() -> &'static str {
    static MACHINE: OnceLock<String> = OnceLock::new();
    MACHINE.get_or_init(|| {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let text = format!(
            "{}\n{}\n{}",
            read("/proc/sys/kernel/hostname"),
            read("/proc/sys/kernel/random/boot_id"),
            namespace.display()
        );
        Digest::of(text.as_bytes()).short()
    })
}

/// When a process started, in clock ticks since boot; `None` if there is no such process.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in parentheses, may hold anything; field 22 counts from after it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_stay_and_the_dead_go() {
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().join(unique_name());
        let dead = dir.path().join(format!("{}-{}-1-0", machine(), std::process::id()));
        let (foreign, forgotten) = (dir.path().join("0123456789ab-1-1-0"), dir.path().join("0123456789ab-2-2-0"));
        for path in [&ours, &dead, &foreign, &forgotten] {
            fs::create_dir(path).unwrap();
        }
        let long_ago = SystemTime::now() - FOREIGN_AGE - Duration::from_secs(60);
        fs::File::open(&forgotten).unwrap().set_modified(long_ago).unwrap();
        sweep(dir.path()).unwrap();
        assert!(ours.exists() && foreign.exists() && !dead.exists() && !forgotten.exists());
    }
}
