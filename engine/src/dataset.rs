//! Datasets: where chunks are cut, how columns are read, and the dataset as a stage sees it.

use std::collections::{BTreeMap, HashMap};

use pipe_cache::{Digest, Store};

use crate::artifact::{Chunk, DatasetManifest, ID, store_failure};
use crate::cell::{Cell, ColumnType, Row, Schema};
use crate::column::Column;
use crate::problem::Failure;
use crate::stage::SourceFile;
use crate::step::{ChunkView, DatasetView};

/// Rows of a chunk, on average.
const CHUNK: u64 = 1024;

/// Whether the row with this id is the last of its chunk. Depends on the id alone, so that an edited cell never moves a border, an
/// inserted or deleted row at most one.
#[must_use]
pub fn ends_chunk(id: &str) -> bool {
    let digest = Digest::of(id.as_bytes());
    let head = digest.bytes()[..8].try_into().expect("eight bytes");
    u64::from_le_bytes(head).is_multiple_of(CHUNK)
}

/// Decoded consecutive rows on their way into a chunk.
pub(crate) struct Piece {
    /// Number of rows.
    pub(crate) rows: u64,
    /// All columns of the schema, and the ids.
    pub(crate) columns: BTreeMap<String, Column>,
}

impl Piece {
    pub(crate) fn empty(schema: &Schema) -> Self {
        let mut columns: BTreeMap<String, Column> =
            schema.0.iter().map(|(name, column_type)| (name.clone(), Column::empty(*column_type))).collect();
        columns.insert(ID.to_owned(), Column::empty(ColumnType::Text));
        Self { rows: 0, columns }
    }

    /// Adds a row, its cells in the order of the schema's names.
    pub(crate) fn push(&mut self, schema: &Schema, row: Row) -> Result<(), Failure> {
        if row.cells.len() != schema.0.len() {
            let message = format!("row `{}` has {} cells for {} columns", row.id, row.cells.len(), schema.0.len());
            return Err(Failure::internal(message));
        }
        for (name, cell) in schema.names().zip(row.cells) {
            let column = self.columns.get_mut(name).expect("a piece has every column of its schema");
            column.push(cell).map_err(|error| Failure::input(format!("row `{}`, column `{name}`: {error}", row.id)))?;
        }
        let ids = self.columns.get_mut(ID).expect("every piece has ids");
        ids.push(Cell::Text(row.id)).map_err(Failure::internal)?;
        self.rows += 1;
        Ok(())
    }

    pub(crate) fn store(self, store: &Store) -> Result<Chunk, Failure> {
        let mut columns = BTreeMap::new();
        for (name, column) in self.columns {
            columns.insert(name, store.put(&column.encode()).map_err(store_failure)?);
        }
        Ok(Chunk { rows: self.rows, columns })
    }
}

/// Reads a column of a chunk.
///
/// # Errors
/// When it is missing or damaged.
pub fn load_column(store: &Store, digest: &Digest) -> Result<Column, Failure> {
    let bytes = store.read(digest).map_err(store_failure)?;
    Column::decode(&bytes).map_err(|error| Failure::internal(format!("{digest}: {error}")))
}

/// Replaces a new image by a reference to it in the store.
///
/// # Errors
/// When the store cannot be written.
pub fn store_image(store: &Store, cell: &mut Cell) -> Result<(), Failure> {
    let digest = match cell {
        Cell::NewImage(bytes) => store.put(bytes).map_err(store_failure)?,
        Cell::ImageFile(file) => store_file(store, file)?,
        _ => return Ok(()),
    };
    *cell = Cell::Image(locate(store, &digest)?);
    Ok(())
}

fn store_file(store: &Store, file: &SourceFile) -> Result<Digest, Failure> {
    if store.rely_on(&file.digest).map_err(store_failure)?.is_some() {
        return Ok(file.digest);
    }
    let (digest, _) = store.put_file(&file.path).map_err(store_failure)?;
    if digest == file.digest { Ok(digest) } else { Err(changed_meanwhile(&file.path)) }
}

/// A source file is not what planning saw.
#[must_use]
pub fn changed_meanwhile(path: &std::path::Path) -> Failure {
    Failure::transient(format!("{} changed after the run was planned", path.display())).help("run again")
}

/// The dataset as a stage reads it: only `columns`, and where their images lie.
///
/// # Errors
/// When an object is gone.
pub fn view(store: &Store, manifest: &DatasetManifest, columns: Option<&[String]>) -> Result<DatasetView, Failure> {
    let wanted = |name: &str| name == ID || columns.is_none_or(|columns| columns.iter().any(|column| column == name));
    let mut schema = manifest.schema.clone();
    schema.0.retain(|name, _| wanted(name));
    let mut chunks = Vec::with_capacity(manifest.chunks.len());
    let mut images = HashMap::new();
    for chunk in &manifest.chunks {
        let mut blobs = BTreeMap::new();
        for (name, digest) in chunk.columns.iter().filter(|(name, _)| wanted(name)) {
            blobs.insert(name.clone(), locate(store, digest)?);
            if schema.get(name) == Some(ColumnType::Image) {
                collect_images(store, digest, &mut images)?;
            }
        }
        chunks.push(ChunkView { rows: chunk.rows, columns: blobs });
    }
    Ok(DatasetView { schema, rows: manifest.rows(), chunks, images })
}

fn collect_images(
    store: &Store,
    column: &Digest,
    images: &mut HashMap<Digest, pipe_cache::Blob>,
) -> Result<(), Failure> {
    if let Column::Image(cells) = load_column(store, column)? {
        for digest in cells.into_iter().flatten() {
            images.insert(digest, locate(store, &digest)?);
        }
    }
    Ok(())
}

/// Where an object lies that must be there.
///
/// # Errors
/// When it is gone.
pub fn locate(store: &Store, digest: &Digest) -> Result<pipe_cache::Blob, Failure> {
    store
        .locate_named(digest)
        .map_err(store_failure)?
        .ok_or_else(|| store_failure(pipe_cache::StoreError::Missing(*digest)))
}
