//! What a run is called: a time that never goes back, so that names sort as things happened, whatever the clock says.

use std::cmp::Ordering;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::event::log_path;

/// Milliseconds since 1970, and the process; see `docs/formats.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RunName {
    millis: u64,
    process: u32,
}

impl RunName {
    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let (seconds, millis, process) = (parts.next()?, parts.next()?, parts.next()?);
        let (seconds, millis): (u64, u64) = (seconds.parse().ok()?, millis.parse().ok()?);
        let whole = parts.next().is_none() && millis < 1000;
        let millis = seconds.checked_mul(1000)?.checked_add(millis).filter(|_| whole)?;
        Some(Self { millis, process: process.parse().ok()? })
    }

    fn text(self) -> String {
        format!("{}-{:03}-{}", self.millis / 1000, self.millis % 1000, self.process)
    }
}

/// The names of the runs whose logs lie in a directory, newest first; after them what is called otherwise.
///
/// # Errors
/// When the directory cannot be read.
pub(crate) fn list(directory: &Path) -> std::io::Result<Vec<String>> {
    let logs = fs::read_dir(directory)?.flatten();
    let mut names: Vec<String> =
        logs.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".jsonl").map(str::to_owned)).collect();
    names.sort_unstable_by(|a, b| newest_first(a, b));
    Ok(names)
}

fn newest_first(a: &str, b: &str) -> Ordering {
    RunName::parse(b).cmp(&RunName::parse(a)).then_with(|| b.cmp(a))
}

/// A name for a run that begins now, with an empty log in `directory`: the time, or what follows the newest run there, if that is later.
#[must_use]
pub fn begin(directory: &Path) -> String {
    let newest = list(directory).ok().and_then(|names| RunName::parse(names.first()?));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let mut name = after(newest, RunName { millis: now, process: std::process::id() });
    // A process of another machine may have the same number.
    while File::create_new(log_path(directory, &name.text()))
        .is_err_and(|e| e.kind() == std::io::ErrorKind::AlreadyExists)
    {
        name = after(Some(name), name);
    }
    name.text()
}

fn after(newest: Option<RunName>, now: RunName) -> RunName {
    let least = newest.map_or(0, |newest| newest.millis.saturating_add(1));
    RunName { millis: now.millis.max(least), ..now }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(names: &[&str]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| fs::write(log_path(dir.path(), name), "").unwrap());
        list(dir.path()).unwrap()
    }

    #[test]
    fn names_are_sorted_by_their_numbers() {
        let names =
            ["1790000000-007-21", "86400-012-20471", "1790000000-007-3", "9999999999-999-1", "10000000000-000-1"];
        let expected =
            ["10000000000-000-1", "9999999999-999-1", "1790000000-007-21", "1790000000-007-3", "86400-012-20471"];
        assert_eq!(sorted(&names), expected);
        assert_eq!(sorted(&["copy", "5-000-1", "5-000-1-b", "5-1000-1"]), ["5-000-1", "copy", "5-1000-1", "5-000-1-b"]);
    }

    #[test]
    fn a_run_comes_after_those_that_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let future = "99999999999-998-7";
        fs::write(log_path(dir.path(), future), "").unwrap();
        let next: Vec<String> = (0..3).map(|_| begin(dir.path())).collect();
        let process = std::process::id();
        let expected =
            ["99999999999-999", "100000000000-000", "100000000000-001"].map(|time| format!("{time}-{process}"));
        assert_eq!(next, expected, "also where the clock stands before it, and within one millisecond");
        assert_eq!(list(dir.path()).unwrap().last().unwrap(), future);
    }

    #[test]
    fn runs_that_begin_at_once_have_names_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<String> = std::thread::scope(|scope| {
            let begun: Vec<_> = (0..8).map(|_| scope.spawn(|| begin(dir.path()))).collect();
            begun.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let mut distinct = names.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), names.len());
    }
}
