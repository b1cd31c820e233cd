//! Time as the file system of the store tells it: other machines' clocks, and this one's, may be wrong.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use crate::store::lock;
use crate::{Store, owner};

/// How exactly uses are noted.
const PRECISION: Duration = Duration::from_secs(60);

/// The clock of a store's file system, read once and counted on from there.
pub(crate) struct Clock {
    /// When the directory of this process was made, by the counter of this machine.
    opened: Instant,
    /// The same, by the file system.
    began: OnceLock<Option<SystemTime>>,
    /// The files whose use this process noted, and when: many objects lie in one.
    noted: Mutex<HashMap<Arc<Path>, Instant>>,
}

impl Clock {
    /// To be called when the directory of this process was just made.
    pub(crate) fn start() -> Self {
        Self { opened: Instant::now(), began: OnceLock::new(), noted: Mutex::default() }
    }

    /// Now, or later, if `own` was written to before the first call; `None` in a store that may not be written to.
    fn now(&self, own: &Path) -> Option<SystemTime> {
        let began = self.began.get_or_init(|| fs::metadata(own).and_then(|meta| meta.modified()).ok());
        began.map(|began| began + self.opened.elapsed())
    }
}

impl Store {
    /// Now, by the clock of the store's file system; a little later at worst.
    pub(crate) fn now(&self) -> Option<SystemTime> {
        self.clock.now(&self.own)
    }

    /// Notes that a file of objects is used now, unless that was noted in the last minute.
    pub(crate) fn note_use(&self, path: &Arc<Path>) -> std::io::Result<()> {
        if lock(&self.clock.noted).get(path).is_some_and(|noted| noted.elapsed() < PRECISION) {
            return Ok(());
        }
        self.note_use_since(path, fs::metadata(path)?.modified()?)?;
        lock(&self.clock.noted).insert(path.clone(), Instant::now());
        Ok(())
    }

    /// Notes that a file is used now that is known to have been used before.
    pub(crate) fn note_use_since(&self, path: &Path, used: SystemTime) -> std::io::Result<()> {
        let noted = |now: SystemTime| now.duration_since(used).map_or(true, |age| age < PRECISION);
        if self.now().is_some_and(noted) { Ok(()) } else { owner::touch(path) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets the time of a file, or directory, by the clock of its file system.
    fn set(path: &Path, time: SystemTime) {
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn the_clock_of_this_machine_decides_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        // The file system's clock is two hours ahead: what this machine's clock calls just now was long ago.
        let hours = |n: u64| Duration::from_secs(3600 * n);
        let here = SystemTime::now();
        let store = Store::open(&dir.path().join("store")).unwrap();
        set(&store.own, here + hours(2));
        for (used, is_noted) in
            [(here, true), (here + hours(2) - Duration::from_secs(5), false), (here + hours(3), false)]
        {
            set(&file, used);
            store.note_use_since(&file, used).unwrap();
            let now = fs::metadata(&file).unwrap().modified().unwrap();
            assert_eq!(now != used, is_noted, "{:?}", used.duration_since(here));
        }
    }
}
