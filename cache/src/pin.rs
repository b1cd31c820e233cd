//! Pins: named files that say what must stay, whatever else is removed. What they hold is their writer's affair.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Context, StoreError};
use crate::inventory::files;
use crate::publish::{Publication, Published};
use crate::store::{decode_record, encode_record};
use crate::{Store, owner};

impl Store {
    /// Makes a pin; false if there is one of that name. A name is letters, digits, `.`, `_` and `-`, and begins with no dot.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn pin<T: Serialize>(&self, name: &str, what: &T) -> Result<bool, StoreError> {
        let disk = self.writing()?;
        let mut publication = Publication::default();
        publication.write(self.own.join(owner::unique_name()), self.pin_path(name), &encode_record(what))?;
        disk.sync(publication.asides())?;
        let published = publication.link(disk)?;
        publication.remove_asides();
        Ok(published == [Published::Made])
    }

    /// Removes a pin; false if there is none of that name.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn unpin(&self, name: &str) -> Result<bool, StoreError> {
        let path = self.pin_path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            result => result.context("remove", &path).map(|()| true),
        }
    }

    /// All pins by name. One that cannot be read is an error: what it protects is not known.
    ///
    /// # Errors
    /// When one cannot be read, or fails its check.
    pub fn pins<T: DeserializeOwned>(&self) -> Result<BTreeMap<String, T>, StoreError> {
        let mut pins = BTreeMap::new();
        for file in files(&self.root.join("pins"))? {
            let bytes = fs::read(&file.path).context("read", &file.path)?;
            let pin = decode_record(&bytes).ok_or_else(|| std::io::Error::other("the pin is damaged"));
            let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            pins.insert(name, pin.context("read", &file.path)?);
        }
        Ok(pins)
    }

    fn pin_path(&self, name: &str) -> PathBuf {
        self.root.join("pins").join(name)
    }
}
