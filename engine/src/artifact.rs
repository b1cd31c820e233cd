//! Artifacts: what the manifest of one says, and the part of one that a step reads.
//!
//! A manifest is canonical JSON (fields in the order of the structs, maps sorted); its digest is the artifact's name.

use std::collections::BTreeMap;

use pipe_cache::{Digest, Fields, Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::cell::Schema;
use crate::problem::{FREE_SPACE, Failure, FailureClass};
use crate::stage::{DATASET, Reads};

/// The column every dataset has: a unique text per row.
pub const ID: &str = "id";

/// What an artifact holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Manifest {
    /// A dataset.
    Dataset(DatasetManifest),
    /// A directory of files, of any other kind.
    Files(FilesManifest),
}

/// Rows sorted by id, cut into chunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetManifest {
    /// `dataset/1`.
    pub kind: String,
    /// Columns besides `id`.
    pub schema: Schema,
    /// Chunks in order of id.
    pub chunks: Vec<Chunk>,
}

/// Consecutive rows of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// Number of rows.
    pub rows: u64,
    /// One object per column, `id` among them.
    pub columns: BTreeMap<String, Digest>,
}

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesManifest {
    /// The kind.
    pub kind: String,
    /// Files by relative path.
    pub files: BTreeMap<String, FileEntry>,
}

/// A file of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// BLAKE3 of its content.
    pub digest: Digest,
    /// Bytes.
    pub len: u64,
}

impl DatasetManifest {
    /// A dataset of these chunks.
    #[must_use]
    pub fn new(schema: Schema, chunks: Vec<Chunk>) -> Self {
        Self { kind: DATASET.to_owned(), schema, chunks }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.rows).sum()
    }
}

impl Chunk {
    /// Names the cells of these columns: what a result that depends on nothing else of the chunk may be remembered under.
    #[must_use]
    pub fn projection(&self, columns: &[String]) -> Digest {
        let mut fields = Fields::new("chunk");
        self.push_projection(columns, &mut fields);
        fields.digest()
    }

    fn push_projection(&self, columns: &[String], fields: &mut Fields) {
        fields.push(&self.rows.to_le_bytes());
        for column in columns {
            fields.push(self.columns.get(column).map_or(&[][..], |digest| &digest.bytes()[..]));
        }
    }
}

impl Manifest {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Dataset(dataset) => &dataset.kind,
            Self::Files(files) => &files.kind,
        }
    }

    /// The dataset, where it is one.
    #[must_use]
    pub const fn as_dataset(&self) -> Option<&DatasetManifest> {
        match self {
            Self::Dataset(dataset) => Some(dataset),
            Self::Files(_) => None,
        }
    }

    /// The canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data becomes JSON")
    }

    /// A manifest from its canonical bytes.
    pub(crate) fn decode(bytes: &[u8]) -> serde_json::Result<Self> {
        // The kind comes first in the canonical bytes.
        match bytes.starts_with(format!("{{\"kind\":\"{DATASET}\"").as_bytes()) {
            true => serde_json::from_slice(bytes).map(Self::Dataset),
            false => serde_json::from_slice(bytes).map(Self::Files),
        }
    }

    /// Stores the manifest; its digest names the artifact.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn store(&self, store: &Store) -> Result<Digest, Failure> {
        store.put(&self.encode()).map_err(store_failure)
    }

    /// Reads the manifest of an artifact.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn load(store: &Store, digest: &Digest) -> Result<Self, Failure> {
        let bytes = store.read(digest).map_err(store_failure)?;
        Self::decode(&bytes)
            .map_err(|error| Failure::internal(format!("{digest} is not the manifest of an artifact: {error}")))
    }

    /// Names the part that is read, with `kind` before it: what enters the recipe of the reader.
    #[must_use]
    pub fn projection(&self, artifact: &Digest, reads: &Reads) -> String {
        match (self, reads) {
            (Self::Dataset(dataset), Reads::Columns(columns)) => {
                let mut sorted = columns.clone();
                sorted.sort();
                sorted.dedup();
                let mut fields = Fields::new("dataset");
                dataset.chunks.iter().for_each(|chunk| chunk.push_projection(&sorted, &mut fields));
                format!("{} columns {} of {}", fields.digest(), sorted.join(", "), dataset.kind)
            }
            (Self::Files(files), Reads::Files(names)) => {
                let mut fields = Fields::new("files");
                for (name, entry) in files.files.iter().filter(|(name, _)| names.contains(name)) {
                    fields.push(name.as_bytes()).push(entry.digest.bytes());
                }
                format!("{} files {} of {}", fields.digest(), names.join(", "), files.kind)
            }
            _ => format!("{artifact} all of {}", self.kind()),
        }
    }

    /// Every object the artifact is made of, besides its manifest and the images its columns name.
    pub fn objects(&self) -> Box<dyn Iterator<Item = Digest> + '_> {
        match self {
            Self::Dataset(dataset) => Box::new(dataset.chunks.iter().flat_map(|chunk| chunk.columns.values().copied())),
            Self::Files(files) => Box::new(files.files.values().map(|entry| entry.digest)),
        }
    }
}

/// What a store's fault means for a step.
#[must_use]
pub fn store_failure(error: StoreError) -> Failure {
    let class = match error {
        StoreError::Missing(_) | StoreError::Damaged { .. } => FailureClass::Lost,
        _ => FailureClass::Store,
    };
    let failure = Failure::new(class, error.to_string());
    if error.is_full() {
        return failure.help(FREE_SPACE);
    }
    if error.is_denied() {
        return failure.help("what is in the store can be looked at; to run, use a store of your own with --store");
    }
    failure
}
