//! The files that a step took from outside, by name and digest. The recipe holds their common digest only; this list, which the
//! action record names, tells them apart.

use std::collections::BTreeMap;

use pipe_cache::{ActionRecord, Digest, Store};
use serde::{Deserialize, Serialize};

use crate::artifact::{FilesManifest, Manifest, store_failure};
use crate::problem::Failure;
use crate::run::Artifact;
use crate::stage::SourceFile;

/// The name under which a record holds the list.
pub const SOURCES: &str = "@sources";

/// Files by name, as the recipe names them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceList(pub BTreeMap<String, Digest>);

/// How the files of a source differ from those of an earlier time, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FileChanges {
    /// Only there now.
    pub added: Vec<String>,
    /// Only there before.
    pub removed: Vec<String>,
    /// Of other content.
    pub changed: Vec<String>,
}

impl SourceList {
    /// The list of these files.
    #[must_use]
    pub fn of(files: &[SourceFile]) -> Self {
        Self(files.iter().map(|file| (file.name.clone(), file.digest)).collect())
    }

    /// The files that an artifact holds.
    #[must_use]
    pub fn held_by(manifest: &FilesManifest) -> Self {
        Self(manifest.files.iter().map(|(name, entry)| (name.clone(), entry.digest)).collect())
    }

    /// Stores the list; where the step gave just these files, their manifest is the list.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn store<'a>(&self, gave: impl IntoIterator<Item = &'a Artifact>, store: &Store) -> Result<Digest, Failure> {
        if let Some(same) = gave.into_iter().find(|artifact| self.is_held_by(&artifact.manifest)) {
            return Ok(same.digest);
        }
        let bytes = serde_json::to_vec(self).expect("plain data becomes JSON");
        store.put(&bytes).map_err(store_failure)
    }

    fn is_held_by(&self, manifest: &Manifest) -> bool {
        let Manifest::Files(held) = manifest else { return false };
        self.0.iter().eq(held.files.iter().map(|(name, entry)| (name, &entry.digest)))
    }

    /// The list that a record names; `None` where it names none.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn load(store: &Store, record: &ActionRecord) -> Result<Option<Self>, Failure> {
        let Some(digest) = record.outputs.get(SOURCES) else { return Ok(None) };
        let bytes = store.read(digest).map_err(store_failure)?;
        if let Ok(Manifest::Files(held)) = Manifest::decode(&bytes) {
            return Ok(Some(Self::held_by(&held)));
        }
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Failure::internal(format!("{digest} is not a list of files: {error}")))
    }

    /// How this list differs from an earlier one.
    #[must_use]
    pub fn since(&self, before: &Self) -> FileChanges {
        let mut changes = FileChanges::default();
        for (name, digest) in &self.0 {
            match before.0.get(name) {
                None => changes.added.push(name.clone()),
                Some(then) if then != digest => changes.changed.push(name.clone()),
                Some(_) => {}
            }
        }
        changes.removed = before.0.keys().filter(|name| !self.0.contains_key(*name)).cloned().collect();
        changes
    }
}
