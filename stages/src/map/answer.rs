//! What an answer makes of a row: `{"drop": reason}`, `{"fail": message}`, or cells for the columns written.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use pipe_engine::cell::{Cell, ColumnType, Row};
use pipe_engine::problem::Failure;
use pipe_engine::source::Credentials;
use pipe_engine::stage::Outcome;
use serde_json::{Map, Value};

use super::resident::Folders;
use crate::program::plain;
use crate::records::{self, RecordFormat};

/// An answer of a program.
pub struct Answer<'a> {
    /// The row it is about.
    pub row: &'a Row,
    /// What the program said.
    pub text: &'a str,
    /// The folders of the program.
    pub folders: &'a Folders,
    /// What it must not repeat.
    pub passed: &'a Credentials,
}

impl Answer<'_> {
    /// What it makes of the row.
    ///
    /// # Errors
    /// When it is no answer; names the row.
    pub fn outcome(&self, writes: &BTreeMap<String, ColumnType>) -> Result<Outcome, Failure> {
        let values: Map<String, Value> =
            serde_json::from_str(self.text).map_err(|_| self.wrong("which is not a JSON object"))?;
        let only = |name: &str| (values.len() == 1).then(|| values.get(name)?.as_str()).flatten();
        if let (Some(reason), false) = (only("drop"), writes.contains_key("drop")) {
            return Ok(Outcome::Drop(self.passed.mask(reason)));
        }
        if let (Some(message), false) = (only("fail"), writes.contains_key("fail")) {
            return Ok(Outcome::fail("map: failed", self.passed.mask(message)));
        }
        if let Some(stray) = values.keys().find(|name| !writes.contains_key(*name)) {
            return Err(self.wrong(&format!("and `{stray}` is not among `writes`")));
        }
        let cells = writes.iter().map(|(name, column_type)| {
            let value = values.get(name).unwrap_or(&Value::Null);
            cell(value, *column_type, self.folders).map_err(|why| self.wrong(&format!("where `{name}` {why}")))
        });
        cells.collect::<Result<_, _>>().map(Outcome::Keep)
    }

    fn wrong(&self, why: &str) -> Failure {
        let message = format!("the program answered `{}`, {why}", shorten(&self.passed.mask(self.text)));
        let help = "print one JSON object per row and nothing else: messages go to standard error";
        Failure { row: Some(self.row.id.clone()), ..Failure::input(message).help(help) }
    }
}

fn cell(value: &Value, column_type: ColumnType, folders: &Folders) -> Result<Cell, String> {
    let (ColumnType::Image, Value::String(path)) = (column_type, value) else {
        return records::cell(value, column_type, RecordFormat::Jsonl).map_err(|why| format!("is {why}"));
    };
    let file = own_file(path, folders)
        .ok_or_else(|| format!("is {path}, which is no file below the program's $TMPDIR, nor one it was given"))?;
    fs::read(&file).map(Cell::NewImage).map_err(|error| format!("cannot be read: {error}"))
}

/// The file at a path, where no other program writes to it.
fn own_file(path: &str, folders: &Folders) -> Option<PathBuf> {
    let file = fs::canonicalize(folders.temporary.join(path)).ok()?;
    let own = [&folders.temporary, &folders.given].into_iter().any(|folder| file.starts_with(folder));
    (own && file.is_file()).then_some(file)
}

/// The first of a text, as a message shows it.
pub fn shorten(text: &str) -> String {
    let text = plain(text);
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
