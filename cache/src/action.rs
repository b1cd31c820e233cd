//! Action records: what a key gave. The record is the truth: no record, no result.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Digest, Key};

/// What the execution of a key gave, and what was measured while it ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionRecord {
    /// The key.
    pub key: Key,
    /// The object that holds the recipe whose BLAKE3 the key is.
    pub recipe: Digest,
    /// Digests of what came out, by name.
    pub outputs: BTreeMap<String, Digest>,
    /// Counts that describe the outputs (rows kept, dropped, failed, …).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
    /// What was measured (seconds, bytes, rates): never part of an output.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub measures: BTreeMap<String, f64>,
    /// The run that executed it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub run: String,
}

impl ActionRecord {
    /// A record without counts or measures.
    #[must_use]
    pub fn new(key: Key, recipe: Digest, outputs: BTreeMap<String, Digest>) -> Self {
        Self { key, recipe, outputs, counts: BTreeMap::new(), measures: BTreeMap::new(), run: String::new() }
    }
}
