//! Rows made of records: ids, cells, and images that records name by path.
//!
//! A record that makes no row is a bad row, named by `file:line`. Knows records and columns; where an image lies is for the
//! caller to say.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path};

use pipe_engine::Digest;
use pipe_engine::cell::{Cell, ColumnType, Row, Schema};
use pipe_engine::problem::{Failure, FailureClass};
use pipe_engine::source::BadRow;
use pipe_engine::stage::RowFailure;
use serde_json::{Map, Value};

use crate::records::{self, BadRecord, Record, RecordFormat};

/// A row and where it comes from (`file:line`), or why there is none.
pub type Found = Result<(Row, String), BadRow>;

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
}

/// The image of a path, which leads nowhere outside; `None` where there is none.
pub type Images<'a> = Box<dyn Fn(&str) -> Option<Result<Cell, Failure>> + 'a>;

impl<'a> RowMaker<'a> {
    /// The row of each record.
    pub fn rows<R>(self, records: R) -> impl Iterator<Item = Found> + 'a
    where
        R: Iterator<Item = Result<Record, BadRecord>> + 'a,
    {
        let mut by_content = ContentIds::default();
        records.map(move |record| {
            let record = record.map_err(|bad| bad_record(self.file, bad))?;
            let at = format!("{}:{}", self.file, record.line);
            let made = match self.id {
                Some(column) => id_of(&record, column),
                None => Ok(by_content.next(&record.values)),
            };
            let id = made.map_err(|message| bad_row(at.clone(), "id: missing", message))?;
            let cells = self.schema.0.iter().map(|(column, column_type)| self.cell(&record, column, *column_type, &at));
            Ok((Row { id, cells: cells.collect::<Result<_, _>>()? }, at))
        })
    }

    /// The cell of a column of a record that stands at `at`.
    pub fn cell(&self, record: &Record, column: &str, column_type: ColumnType, at: &str) -> Result<Cell, BadRow> {
        let value = record.values.get(column).unwrap_or(&Value::Null);
        let bad = |class: &str, message: String| bad_row(at.to_owned(), class, format!("`{column}`: {message}"));
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
        image.map_err(|failure| unreadable(at, &failure))
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
pub fn unreadable(at: &str, failure: &Failure) -> BadRow {
    let transient = failure.class == FailureClass::Transient;
    let failure = RowFailure { class: "image: unreadable".to_owned(), message: failure.message.clone(), transient };
    BadRow { id: at.to_owned(), failure }
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

/// Ids for records that have none: the digest of the record, and an ordinal among equal ones.
#[derive(Default)]
struct ContentIds(HashMap<String, u64>);

impl ContentIds {
    fn next(&mut self, values: &Map<String, Value>) -> String {
        let sorted: BTreeMap<_, _> = values.iter().collect();
        let canonical = serde_json::to_vec(&sorted).expect("JSON values can be written as JSON");
        let digest = Digest::of(&canonical).to_string()[..32].to_owned();
        let count = self.0.entry(digest.clone()).or_default();
        *count += 1;
        if *count == 1 { digest } else { format!("{digest}-{count}") }
    }
}
