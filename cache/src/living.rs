//! Who else has the store open, as far as its `tmp` directory tells.

use crate::error::{Context, StoreError};
use crate::{Store, owner};

impl Store {
    /// The name of this process in the store, which no other process ever has.
    #[must_use]
    pub fn owner(&self) -> String {
        self.own.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Whether the process of that name still has the store open. Of another machine's it is believed until seven days without a change.
    #[must_use]
    pub fn is_living(&self, owner: &str) -> bool {
        let plain = !owner.is_empty() && !owner.contains('/');
        let path = self.root.join("tmp").join(owner);
        plain && path.is_dir() && !owner::is_orphan(&path, || self.now())
    }

    /// The other processes that have the store open.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn others(&self) -> Result<Vec<String>, StoreError> {
        let tmp = self.root.join("tmp");
        let names = std::fs::read_dir(&tmp).context("read", &tmp)?.flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let own = self.owner();
        let ours = own.rsplit_once('-').map_or(own.as_str(), |(process, _)| process);
        let process = |name: &str| name.rsplit_once('-').map_or(name.to_owned(), |(process, _)| process.to_owned());
        Ok(names.filter(|name| process(name) != ours && self.is_living(name)).collect())
    }
}
