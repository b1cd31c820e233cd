//! Rows made of records: ids, cells, and images that records name by path.
//!
//! A record that makes no row is a bad row, named by `file:line`. Knows records and columns; where an image lies is for the
//! caller to say.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Component, Path};
use std::sync::Arc;

use pipe_engine::Digest;
use pipe_engine::cell::{Cell, ColumnType, Row, Schema};
use pipe_engine::problem::{Failure, FailureClass};
use pipe_engine::source::BadRow;
use pipe_engine::stage::RowFailure;
use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::left_out::LeftOut;
use crate::records::{self, BadRecord, Record, RecordFormat};

/// A row and where it comes from, or why there is none.
pub type Found = Result<(Row, Origin), BadRow>;

/// Where a row comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub file: Arc<str>,
    /// The line, from 1, where it is one of several rows of the file.
    pub line: Option<u64>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// Makes rows of the records of one file.
pub struct RowMaker<'a> {
    /// The name of the file.
    pub file: &'a str,
    /// How it is written.
    pub format: RecordFormat,
    /// The column that holds the id; without one, the content of a record names it.
    pub id: Option<&'a str>,
    /// The columns to make.
    pub schema: &'a Schema,
    /// Where the images lie that records name.
    pub images: Images<'a>,
    /// Counts what records hold besides, where that is to be told.
    pub left_out: Option<&'a LeftOut>,
}

/// The image of a path, which leads nowhere outside; `None` where there is none.
pub type Images<'a> = Box<dyn Fn(&str) -> Option<Result<Cell, Failure>> + Send + Sync + 'a>;

/// Records made into rows at once, in parallel.
const BATCH: usize = 1024;

impl<'a> RowMaker<'a> {
    /// The row of each record.
    pub fn rows<R>(self, mut records: R) -> impl Iterator<Item = Found> + 'a
    where
        R: Iterator<Item = Result<Record, BadRecord>> + 'a,
    {
        let mut by_content = ContentIds::default();
        let file: Arc<str> = self.file.into();
        std::iter::from_fn(move || {
            let batch: Vec<_> = records.by_ref().take(BATCH).collect();
            let made: Vec<_> = batch.into_par_iter().map(|record| self.row(record, &file)).collect();
            (!made.is_empty())
                .then(|| made.into_iter().map(|row| row.map(|row| by_content.name(row))).collect::<Vec<_>>())
        })
        .flatten()
    }

    fn row(&self, record: Result<Record, BadRecord>, file: &Arc<str>) -> Result<Named, BadRow> {
        let record = record.map_err(|bad| bad_record(self.file, bad))?;
        let at = Origin { file: file.clone(), line: Some(record.line) };
        let name = match self.id {
            Some(column) => {
                Name::Id(id_of(&record, column).map_err(|message| bad_row(at.to_string(), "id: missing", message))?)
            }
            None => Name::Content(content_of(&record.values)),
        };
        if let Some(left_out) = self.left_out {
            left_out.note(&record, self.file, self.schema, &["id", self.id.unwrap_or("id")]);
        }
        let cells = self.schema.0.iter().map(|(column, column_type)| self.cell(&record, column, *column_type, &at));
        Ok(Named { name, cells: cells.collect::<Result<_, _>>()?, at })
    }

    /// The cell of a column of a record that stands at `at`.
    pub fn cell(&self, record: &Record, column: &str, column_type: ColumnType, at: &Origin) -> Result<Cell, BadRow> {
        let value = record.values.get(column).unwrap_or(&Value::Null);
        let bad = |class: &str, message: String| bad_row(at.to_string(), class, format!("`{column}`: {message}"));
        if column_type != ColumnType::Image {
            return records::cell(value, column_type, self.format)
                .map_err(|message| bad("column: wrong type", message));
        }
        let path = match value {
            Value::Null => return Ok(Cell::Null),
            Value::String(path) if path.is_empty() => return Ok(Cell::Null),
            Value::String(path) => path,
            _ => return Err(bad("column: wrong type", "an image is named by its path".to_owned())),
        };
        if !stays_inside(path) {
            return Err(bad("image: outside", format!("{path} leads out of the folder of the file that names it")));
        }
        let image = (self.images)(path).ok_or_else(|| bad("image: missing", format!("there is no image {path}")))?;
        image.map_err(|failure| unreadable(at.to_string(), &failure))
    }
}

/// A row that cannot be made, for a reason that recurs.
#[must_use]
pub fn bad_row(id: String, class: &str, message: String) -> BadRow {
    BadRow { id, failure: RowFailure { class: class.to_owned(), message, transient: false } }
}

/// The bad row of a bad record.
#[must_use]
pub fn bad_record(file: &str, bad: BadRecord) -> BadRow {
    bad_row(format!("{file}:{}", bad.line), bad.class, bad.message)
}

/// The bad row of an image that cannot be read.
#[must_use]
pub fn unreadable(at: String, failure: &Failure) -> BadRow {
    let transient = failure.class == FailureClass::Transient;
    let failure = RowFailure { class: "image: unreadable".to_owned(), message: failure.message.clone(), transient };
    BadRow { id: at, failure }
}

/// Whether a path leads nowhere outside the folder it starts from.
#[must_use]
pub fn stays_inside(name: &str) -> bool {
    Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// The id that a record gives in a column: a text or an integer.
///
/// # Errors
/// When there is none; says why.
pub fn id_of(record: &Record, column: &str) -> Result<String, String> {
    match record.values.get(column) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => Ok(number.to_string()),
        Some(Value::String(_)) => Err(format!("`{column}` is empty")),
        None | Some(Value::Null) => Err(format!("there is no `{column}`")),
        Some(_) => Err(format!("`{column}` is neither text nor an integer")),
    }
}

/// Half a BLAKE3: enough to tell a billion different texts apart with a chance of error below 10⁻²⁰.
type Half = [u8; 16];

fn half(digest: Digest) -> Half {
    *digest.bytes().first_chunk().expect("a digest has 32 bytes")
}

/// A row on its way to its id.
struct Named {
    name: Name,
    cells: Vec<Cell>,
    at: Origin,
}

enum Name {
    /// The record gives it.
    Id(String),
    /// What the record holds gives it.
    Content(Half),
}

fn content_of(values: &Map<String, Value>) -> Half {
    let sorted: BTreeMap<_, _> = values.iter().collect();
    half(Digest::of(&serde_json::to_vec(&sorted).expect("JSON values can be written as JSON")))
}

/// Ids for records that have none: the digest of the record, and an ordinal among equal ones.
#[derive(Default)]
struct ContentIds(HashMap<Half, u32>);

impl ContentIds {
    fn name(&mut self, row: Named) -> (Row, Origin) {
        let id = match row.name {
            Name::Id(id) => id,
            Name::Content(content) => {
                let count = self.0.entry(content).or_default();
                *count += 1;
                let digits: String = content.iter().map(|byte| format!("{byte:02x}")).collect();
                if *count == 1 { digits } else { format!("{digits}-{count}") }
            }
        };
        (Row { id, cells: row.cells }, row.at)
    }
}

/// The rows, each id once: a row whose id came before is bad, and named by its place. Holds 16 bytes a row.
pub fn unique(rows: impl Iterator<Item = Found>) -> impl Iterator<Item = Result<Row, BadRow>> {
    let mut ids = HashSet::new();
    rows.map(move |found| {
        let (row, at) = found?;
        if ids.insert(half(Digest::of(row.id.as_bytes()))) {
            return Ok(row);
        }
        Err(bad_row(at.to_string(), "id: duplicate", format!("an earlier row has the id `{}`", row.id)))
    })
}
