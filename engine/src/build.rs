//! Making a dataset from rows in any order, in bounded memory: sorted by id in runs on disk where they are many, then cut into chunks.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;

use pipe_cache::Store;
use rayon::prelude::*;

use crate::artifact::{Chunk, DatasetManifest, store_failure};
use crate::cell::{Row, Schema};
use crate::dataset::{Piece, ends_chunk, store_image};
use crate::problem::Failure;
use crate::source::BadRow;
use crate::stage::RowFailure;

/// Bytes of encoded rows held in memory before they are written to disk as a sorted run.
const RUN_BYTES: usize = 96 << 20;
/// Chunks encoded and stored at once.
const PARALLEL_CHUNKS: usize = 16;

/// A dataset made from rows, and the rows that could not be taken.
pub struct Built {
    /// The dataset.
    pub manifest: DatasetManifest,
    /// Rows that could not be read, and those whose id came before.
    pub bad: Vec<BadRow>,
}

/// Takes the rows of a dataset in order of id, a chunk at a time.
pub trait TakeChunks {
    /// Takes the next chunks. Ids rise and are unique.
    ///
    /// # Errors
    /// When a cell does not fit its column, or the store cannot be written.
    fn take(&mut self, chunks: Vec<EncodedRows>) -> Result<(), Failure>;
}

/// Rows of a chunk, one after another in postcard.
#[derive(Default)]
pub struct EncodedRows {
    bytes: Vec<u8>,
    count: usize,
}

impl EncodedRows {
    /// The rows as columns.
    ///
    /// # Errors
    /// When a cell does not fit its column.
    pub(crate) fn into_piece(self, schema: &Schema) -> Result<Piece, Failure> {
        let mut piece = Piece::empty(schema);
        let mut rest = self.bytes.as_slice();
        for _ in 0..self.count {
            let (row, after) = postcard::take_from_bytes::<Row>(rest)
                .map_err(|error| Failure::internal(format!("a row cannot be read back: {error}")))?;
            rest = after;
            piece.push(schema, row)?;
        }
        Ok(piece)
    }
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
    let mut images_stored = rows.map(|row| match row {
        Ok(mut row) => row.cells.iter_mut().try_for_each(|cell| store_image(store, cell)).map(|()| Ok(row)),
        Err(bad) => Ok(Err(bad)),
    });
    let mut making = Making { store, schema, chunks: Vec::new() };
    let bad = in_chunks(store, &mut images_stored, &mut making)?;
    Ok(Built { manifest: DatasetManifest::new(schema.clone(), making.chunks), bad })
}

/// Hands rows over in order of id, chunk by chunk. Returns those that could not be taken: of several with the same id the first stays.
///
/// # Errors
/// When a row cannot be had or taken, or the disk is full.
pub fn in_chunks(
    store: &Store,
    rows: &mut dyn Iterator<Item = Result<Result<Row, BadRow>, Failure>>,
    take: &mut dyn TakeChunks,
) -> Result<Vec<BadRow>, Failure> {
    let mut bad = Vec::new();
    let mut sorter = Sorter::new(store);
    for row in rows {
        match row? {
            Ok(row) => sorter.push(&row)?,
            Err(row) => bad.push(row),
        }
    }
    let (mut ready, mut open) = (Vec::new(), EncodedRows::default());
    let mut last: Option<String> = None;
    sorter.each(&mut |id, row| {
        if last.as_deref() == Some(id) {
            bad.push(duplicate(id.to_owned()));
            return Ok(());
        }
        last = Some(id.to_owned());
        open.bytes.extend_from_slice(row);
        open.count += 1;
        if ends_chunk(id) {
            ready.push(std::mem::take(&mut open));
        }
        if ready.len() == PARALLEL_CHUNKS { take.take(std::mem::take(&mut ready)) } else { Ok(()) }
    })?;
    ready.extend((open.count > 0).then_some(open));
    take.take(ready)?;
    Ok(bad)
}

fn duplicate(id: String) -> BadRow {
    let message = "another row has the same id; the first one stays".to_owned();
    BadRow { id, failure: RowFailure { class: "duplicate id".into(), message, transient: false } }
}

struct Making<'a> {
    store: &'a Store,
    schema: &'a Schema,
    chunks: Vec<Chunk>,
}

impl TakeChunks for Making<'_> {
    fn take(&mut self, chunks: Vec<EncodedRows>) -> Result<(), Failure> {
        let store = |rows: EncodedRows| rows.into_piece(self.schema)?.store(self.store);
        let made: Vec<Chunk> = chunks.into_par_iter().map(store).collect::<Result<_, Failure>>()?;
        self.chunks.extend(made);
        Ok(())
    }
}

/// Takes an id and the encoded row it is of.
type Give<'a> = dyn FnMut(&str, &[u8]) -> Result<(), Failure> + 'a;

/// Sorts rows by id; those with the same id stay in the order they came.
struct Sorter<'a> {
    store: &'a Store,
    rows: Arena,
    /// Where runs lie, once there is one.
    directory: Option<PathBuf>,
    runs: Vec<PathBuf>,
}

/// Encoded rows in one piece of memory, and where each lies.
#[derive(Default)]
struct Arena {
    bytes: Vec<u8>,
    rows: Vec<Place>,
}

/// Where a row lies. An encoded row begins with its id.
#[derive(Clone, Copy)]
struct Place {
    start: u32,
    end: u32,
    id_len: u32,
}

impl Arena {
    fn push(&mut self, row: &Row) -> Result<(), Failure> {
        let too_long = || Failure::input(format!("row `{}` is too long", row.id));
        let start = u32::try_from(self.bytes.len()).map_err(|_| too_long())?;
        self.bytes = postcard::to_extend(row, std::mem::take(&mut self.bytes))
            .map_err(|error| Failure::internal(format!("row `{}` cannot be written: {error}", row.id)))?;
        let end = u32::try_from(self.bytes.len()).map_err(|_| too_long())?;
        self.rows.push(Place { start, end, id_len: u32::try_from(row.id.len()).map_err(|_| too_long())? });
        Ok(())
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.rows.par_sort_by(|a, b| a.id(bytes).cmp(b.id(bytes)));
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.rows.clear();
    }
}

impl Place {
    fn row<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    fn id<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        id_of(self.row(bytes), self.id_len)
    }
}

/// The id that an encoded row begins with, after its length.
fn id_of(row: &[u8], len: u32) -> &[u8] {
    // A varint holds seven bits a byte.
    let prefix = (u32::BITS - len.leading_zeros()).div_ceil(7).max(1) as usize;
    &row[prefix..prefix + len as usize]
}

impl<'a> Sorter<'a> {
    fn new(store: &'a Store) -> Self {
        Self { store, rows: Arena::default(), directory: None, runs: Vec::new() }
    }

    fn push(&mut self, row: &Row) -> Result<(), Failure> {
        self.rows.push(row)?;
        if self.rows.bytes.len() >= RUN_BYTES { self.write_run() } else { Ok(()) }
    }

    /// A run: rows in order, each after its length and that of its id.
    fn write_run(&mut self) -> Result<(), Failure> {
        self.rows.sort();
        let directory = match &self.directory {
            Some(directory) => directory,
            None => self.directory.insert(self.store.scratch().map_err(store_failure)?),
        };
        let path = directory.join(self.runs.len().to_string());
        let write = |arena: &Arena| -> std::io::Result<()> {
            let mut file = BufWriter::with_capacity(1 << 20, File::create(&path)?);
            for place in &arena.rows {
                file.write_all(&(place.end - place.start).to_le_bytes())?;
                file.write_all(&place.id_len.to_le_bytes())?;
                file.write_all(place.row(&arena.bytes))?;
            }
            file.flush()
        };
        write(&self.rows).map_err(|error| Failure::io("write", &path, &error))?;
        self.runs.push(path);
        self.rows.clear();
        Ok(())
    }

    /// Gives every row, in order.
    fn each(mut self, give: &mut Give<'_>) -> Result<(), Failure> {
        if self.runs.is_empty() {
            self.rows.sort();
            let Arena { bytes, rows } = &self.rows;
            return rows.iter().try_for_each(|place| give(text(place.id(bytes))?, place.row(bytes)));
        }
        self.write_run()?;
        self.rows = Arena::default();
        let mut runs: Vec<Run> = self.runs.iter().map(Run::open).collect::<Result<_, _>>()?;
        let mut heads = BinaryHeap::new();
        for (at, run) in runs.iter_mut().enumerate() {
            heads.extend(run.next(at)?);
        }
        while let Some(head) = heads.pop() {
            give(text(head.id())?, &head.row)?;
            heads.extend(runs[head.run].next(head.run)?);
        }
        Ok(())
    }
}

fn text(id: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(id).map_err(|error| Failure::internal(format!("an id cannot be read back: {error}")))
}

impl Drop for Sorter<'_> {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            // What cannot be removed now goes with the process's own directory.
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

/// Sorted rows on disk.
struct Run {
    path: PathBuf,
    file: BufReader<File>,
}

impl Run {
    fn open(path: &PathBuf) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| Failure::io("open", path, &error))?;
        Ok(Self { path: path.clone(), file: BufReader::with_capacity(1 << 18, file) })
    }

    fn next(&mut self, run: usize) -> Result<Option<Head>, Failure> {
        self.read(run).map_err(|error| Failure::io("read", &self.path, &error))
    }

    fn read(&mut self, run: usize) -> std::io::Result<Option<Head>> {
        if self.file.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let (mut len, mut id_len) = ([0; 4], [0; 4]);
        self.file.read_exact(&mut len)?;
        self.file.read_exact(&mut id_len)?;
        let mut row = vec![0; u32::from_le_bytes(len) as usize];
        self.file.read_exact(&mut row)?;
        Ok(Some(Head { row, id_len: u32::from_le_bytes(id_len), run }))
    }
}

/// The first row left of a run. The greatest head is the one with the smallest id, of the earliest run.
struct Head {
    row: Vec<u8>,
    id_len: u32,
    run: usize,
}

impl Head {
    fn id(&self) -> &[u8] {
        id_of(&self.row, self.id_len)
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        other.id().cmp(self.id()).then(other.run.cmp(&self.run))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assembly::Assembly;
    use crate::cell::{Cell, ColumnType};
    use crate::column::Column;
    use crate::dataset::load_column;
    use crate::delta::{DeltaBuilder, Why};
    use pipe_cache::Key;
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
        let deltas: Vec<_> = input
            .chunks
            .iter()
            .map(|chunk| {
                let Column::Int(cells) = load_column(store, &chunk.columns["n"]).unwrap() else { panic!() };
                let mut builder = DeltaBuilder::new(&[]);
                for cell in cells {
                    if keep(cell.unwrap()) {
                        builder.keep(Vec::new()).unwrap();
                    } else {
                        builder.remove(Why::Elsewhere);
                    }
                }
                let delta = builder.finish(store).unwrap();
                (delta.store(store).unwrap(), delta)
            })
            .collect();
        let memory = store.memory(&Key::of(b"assembly")).unwrap();
        let assembly = Assembly::new(store, &input.schema, &memory);
        let changed = || input.chunks.iter().zip(&deltas).map(|(chunk, (digest, delta))| (chunk, digest, delta));
        let made = assembly.dataset(changed()).unwrap();
        let remembered =
            crate::assembly::groups(changed()).into_iter().filter_map(|group| assembly.known_columns(&group));
        assert_eq!(
            remembered.collect::<Vec<_>>(),
            made.chunks.iter().map(|chunk| chunk.columns.clone()).collect::<Vec<_>>()
        );
        made
    }

    #[test]
    fn duplicate_ids_are_bad_rows_and_the_first_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut twice = rows(&[1, 2]);
        twice.push(Row { id: "row-00002".to_owned(), cells: vec![Cell::Int(7)] });
        let built = build(&store, &schema(), &mut twice.into_iter().map(Ok)).unwrap();
        assert_eq!((built.manifest, built.bad.len()), (dataset(&store, &[1, 2]), 1));
        assert_eq!(built.bad[0].failure.class, "duplicate id");
    }

    /// Takes down the order in which rows come.
    #[derive(Default)]
    struct Order(Vec<String>);

    impl TakeChunks for Order {
        fn take(&mut self, chunks: Vec<EncodedRows>) -> Result<(), Failure> {
            let schema = Schema([("text".to_owned(), ColumnType::Text)].into());
            for chunk in chunks {
                let mut piece = chunk.into_piece(&schema)?;
                self.0.extend(piece.columns.remove("id").unwrap().into_texts().unwrap());
            }
            Ok(())
        }
    }

    #[test]
    fn rows_beyond_memory_are_sorted_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let text = "x".repeat(RUN_BYTES / 300);
        // 7919 is prime: every id comes, in a scattered order, and the last comes twice.
        let ids = (0..1000_u32).map(|n| n * 7919 % 1000).chain([5]);
        let row = |n: u32| Ok(Ok(Row { id: format!("{n:04}"), cells: vec![Cell::Text(text.clone())] }));
        let mut order = Order::default();
        let bad = in_chunks(&store, &mut ids.map(row), &mut order).unwrap();
        assert_eq!(order.0, (0..1000).map(|n| format!("{n:04}")).collect::<Vec<_>>());
        assert_eq!(bad.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["0005"]);
    }

    #[test]
    fn ids_of_any_length_are_found() {
        for len in [0, 1, 127, 128, 16_383, 16_384, 2_100_000] {
            let id = "é".repeat(len / 2) + &"x".repeat(len % 2);
            let row = Row { id: id.clone(), cells: vec![Cell::Null] };
            let bytes = postcard::to_stdvec(&row).unwrap();
            assert_eq!(id_of(&bytes, u32::try_from(len).unwrap()), id.as_bytes());
        }
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
