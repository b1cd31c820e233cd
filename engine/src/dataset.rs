//! Making datasets: where chunks are cut, how rows become chunks, and how a delta becomes a new dataset that shares what did not
//! change.

use std::collections::{BTreeMap, HashMap};

use pipe_cache::{Digest, Store};

use crate::artifact::{Chunk, DatasetManifest, ID, store_failure};
use crate::cell::{Cell, ColumnType, Row, Schema};
use crate::column::Column;
use crate::delta::ChunkDelta;
use crate::problem::Failure;
use crate::source::BadRow;
use crate::stage::{RowFailure, SourceFile};
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
struct Piece {
    rows: u64,
    columns: BTreeMap<String, Column>,
}

impl Piece {
    fn empty(schema: &Schema) -> Self {
        let mut columns: BTreeMap<String, Column> =
            schema.0.iter().map(|(name, column_type)| (name.clone(), Column::empty(*column_type))).collect();
        columns.insert(ID.to_owned(), Column::empty(ColumnType::Text));
        Self { rows: 0, columns }
    }

    fn append(&mut self, other: Self) -> Result<(), Failure> {
        self.rows += other.rows;
        for (name, column) in other.columns {
            let into =
                self.columns.get_mut(&name).ok_or_else(|| Failure::internal(format!("stray column `{name}`")))?;
            into.append(column).map_err(Failure::internal)?;
        }
        Ok(())
    }

    fn store(self, store: &Store) -> Result<Chunk, Failure> {
        let mut columns = BTreeMap::new();
        for (name, column) in self.columns {
            columns.insert(name, store.put(&column.encode()).map_err(store_failure)?);
        }
        Ok(Chunk { rows: self.rows, columns })
    }
}

/// Puts the chunks of a new dataset together from those of an old one and what a stage did to each.
pub struct Assembler<'a> {
    store: &'a Store,
    schema: Schema,
    chunks: Vec<Chunk>,
    open: Option<Piece>,
}

impl<'a> Assembler<'a> {
    /// For a dataset with these columns.
    #[must_use]
    pub const fn new(store: &'a Store, schema: Schema) -> Self {
        Self { store, schema, chunks: Vec::new(), open: None }
    }

    /// Adds the next chunk of the input. Where no row left, nothing is read: columns are shared.
    ///
    /// # Errors
    /// When columns cannot be read or written.
    pub fn add(&mut self, input: &Chunk, delta: &ChunkDelta) -> Result<(), Failure> {
        if delta.removed.is_empty() && self.open.is_none() {
            let mut columns = input.columns.clone();
            columns.retain(|name, _| name == ID || self.schema.get(name).is_some());
            columns.extend(delta.columns.clone());
            self.chunks.push(Chunk { rows: input.rows, columns });
            return Ok(());
        }
        let kept = delta.kept();
        if let Some(piece) = self.kept_piece(input, delta, &kept)? {
            match &mut self.open {
                Some(open) => open.append(piece)?,
                open @ None => *open = Some(piece),
            }
        }
        // The border of the chunk is its last row: if that left, the next chunk goes on with this one.
        if kept.last() == Some(&true) { self.close() } else { Ok(()) }
    }

    /// The dataset.
    ///
    /// # Errors
    /// When columns cannot be written.
    pub fn finish(mut self) -> Result<DatasetManifest, Failure> {
        self.close()?;
        Ok(DatasetManifest::new(self.schema, self.chunks))
    }

    fn close(&mut self) -> Result<(), Failure> {
        if let Some(piece) = self.open.take() {
            self.chunks.push(piece.store(self.store)?);
        }
        Ok(())
    }

    fn kept_piece(&self, input: &Chunk, delta: &ChunkDelta, kept: &[bool]) -> Result<Option<Piece>, Failure> {
        let rows = kept.iter().filter(|kept| **kept).count() as u64;
        if rows == 0 {
            return Ok(None);
        }
        let mut piece = Piece { rows, columns: BTreeMap::new() };
        for name in self.schema.names().chain([ID]) {
            let column = match delta.columns.get(name) {
                Some(digest) => load_column(self.store, digest)?,
                None => {
                    let digest = input
                        .columns
                        .get(name)
                        .ok_or_else(|| Failure::internal(format!("a chunk lacks column `{name}`")))?;
                    load_column(self.store, digest)?.filter(kept)
                }
            };
            piece.columns.insert(name.to_owned(), column);
        }
        Ok(Some(piece))
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

/// A dataset made from rows, and the rows that could not be taken.
pub struct Built {
    /// The dataset.
    pub manifest: DatasetManifest,
    /// Rows that could not be read, and those whose id came before.
    pub bad: Vec<BadRow>,
}

/// Makes a dataset from rows in any order. New images are stored as they come.
///
/// # Errors
/// When a cell does not fit its column, or the store cannot be written.
pub fn build(
    store: &Store,
    schema: &Schema,
    rows: &mut dyn Iterator<Item = Result<Row, BadRow>>,
) -> Result<Built, Failure> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for row in rows {
        match row {
            Ok(row) => good.push(store_images(store, row)?),
            Err(row) => bad.push(row),
        }
    }
    good.sort_by(|a: &Row, b: &Row| a.id.cmp(&b.id));
    let mut chunks = Vec::new();
    let mut open = Piece::empty(schema);
    let mut last: Option<String> = None;
    for row in good {
        if last.as_deref() == Some(&row.id) {
            let message = "another row has the same id; the first one stays".to_owned();
            bad.push(BadRow {
                id: row.id,
                failure: RowFailure { class: "duplicate id".into(), message, transient: false },
            });
            continue;
        }
        let ends = ends_chunk(&row.id);
        last = Some(row.id.clone());
        push_row(&mut open, schema, row)?;
        if ends {
            chunks.push(std::mem::replace(&mut open, Piece::empty(schema)).store(store)?);
        }
    }
    if open.rows > 0 {
        chunks.push(open.store(store)?);
    }
    Ok(Built { manifest: DatasetManifest::new(schema.clone(), chunks), bad })
}

fn store_images(store: &Store, mut row: Row) -> Result<Row, Failure> {
    for cell in &mut row.cells {
        store_image(store, cell)?;
    }
    Ok(row)
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
    if store.locate(&file.digest).map_err(store_failure)?.is_some() {
        return Ok(file.digest);
    }
    let (digest, _) = store.put_file(&file.path).map_err(store_failure)?;
    if digest == file.digest { Ok(digest) } else { Err(changed_meanwhile(&file.path)) }
}

/// A source file is not what planning saw.
#[must_use]
pub fn changed_meanwhile(path: &std::path::Path) -> Failure {
    Failure::transient(format!("{} changed while it was read", path.display())).help("run again")
}

fn push_row(open: &mut Piece, schema: &Schema, row: Row) -> Result<(), Failure> {
    if row.cells.len() != schema.0.len() {
        let message = format!("row `{}` has {} cells for {} columns", row.id, row.cells.len(), schema.0.len());
        return Err(Failure::internal(message));
    }
    for (name, cell) in schema.names().zip(row.cells) {
        let column = open.columns.get_mut(name).expect("a piece has every column of its schema");
        column.push(cell).map_err(|error| Failure::input(format!("row `{}`, column `{name}`: {error}", row.id)))?;
    }
    let ids = open.columns.get_mut(ID).expect("every piece has ids");
    ids.push(Cell::Text(row.id)).map_err(Failure::internal)?;
    open.rows += 1;
    Ok(())
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
    store.locate(digest).map_err(store_failure)?.ok_or_else(|| store_failure(pipe_cache::StoreError::Missing(*digest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::{DeltaBuilder, Why};
    use proptest::prelude::*;

    fn schema() -> Schema {
        Schema([("n".to_owned(), ColumnType::Int)].into())
    }

    fn rows(ids: &[u32]) -> Vec<Row> {
        ids.iter().map(|n| Row { id: format!("row-{n:05}"), cells: vec![Cell::Int(i64::from(*n))] }).collect()
    }

    fn dataset(store: &Store, ids: &[u32]) -> DatasetManifest {
        build(store, &schema(), &mut rows(ids).into_iter().map(Ok)).unwrap().manifest
    }

    /// Keeps the rows for which `keep` says so, through deltas.
    fn filtered(store: &Store, input: &DatasetManifest, keep: impl Fn(i64) -> bool) -> DatasetManifest {
        let mut assembler = Assembler::new(store, input.schema.clone());
        for chunk in &input.chunks {
            let Column::Int(cells) = load_column(store, &chunk.columns["n"]).unwrap() else { panic!() };
            let mut builder = DeltaBuilder::new(&[]);
            for cell in cells {
                if keep(cell.unwrap()) {
                    builder.keep(Vec::new()).unwrap();
                } else {
                    builder.remove(Why::Elsewhere);
                }
            }
            assembler.add(chunk, &builder.finish(store).unwrap()).unwrap();
        }
        assembler.finish().unwrap()
    }

    #[test]
    fn duplicate_ids_are_bad_rows() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut twice = rows(&[1, 2]);
        twice.extend(rows(&[2]));
        let built = build(&store, &schema(), &mut twice.into_iter().map(Ok)).unwrap();
        assert_eq!((built.manifest.rows(), built.bad.len()), (2, 1));
        assert_eq!(built.bad[0].failure.class, "duplicate id");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// What a filter leaves is the same dataset as one made of those rows in the first place: chunks and all.
        #[test]
        fn filtering_equals_building(seed in 0_u32..1000, modulus in 1_i64..6) {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).unwrap();
            let ids: Vec<u32> = (seed..seed + 6000).collect();
            let keep = |n: i64| n % modulus == 0;
            let through = filtered(&store, &dataset(&store, &ids), keep);
            let left: Vec<u32> = ids.into_iter().filter(|n| keep(i64::from(*n))).collect();
            prop_assert_eq!(through, dataset(&store, &left));
        }
    }
}
