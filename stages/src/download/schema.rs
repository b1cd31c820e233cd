//! The columns that a source will yield, as planning tells them: declared, or told by the first records.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use pipe_engine::cell::{ColumnType, Schema};
use pipe_engine::problem::{Failure, Problem, Subject};

use super::Params;
use super::layout::Layout;
use super::local::LocalFile;
use crate::record_rows::stays_inside;
use crate::records::{self, RecordFormat, Records};

/// Records looked at to tell the types of columns.
const LOOKED_AT: usize = 1000;
/// The column of the images of a folder.
pub const IMAGE: &str = "image";
/// The column of metadata that says which image a record is about.
pub const FILE_NAME: &str = "file_name";

const ID_TYPES: &[ColumnType] = &[ColumnType::Text, ColumnType::Int];

/// What the first records of some files hold.
struct Found {
    columns: Schema,
    /// Columns whose values are of no one type.
    mixed: BTreeSet<String>,
    /// No record was left unseen that could hold another column.
    complete: bool,
}

/// What planning tells of the rows that files will yield.
#[derive(Debug, Default)]
pub struct Told {
    /// Their columns; `None` where the files are no dataset.
    pub schema: Option<Schema>,
    /// What will be left out.
    pub notes: Vec<String>,
}

/// Tells the columns that the files will yield.
pub fn tell(layout: &Layout, files: &[LocalFile], params: &Params) -> Result<Told, Problem> {
    let images = match layout {
        Layout::Images { .. } => true,
        Layout::Records { .. } => false,
        Layout::Model | Layout::Adapter | Layout::Files => return refuse_columns(params),
    };
    let mut found = look(layout, files)?;
    // A file without a record shows no columns: those declared are believed.
    let shown = images || params.columns.is_empty() || !(found.columns.0.is_empty() && found.mixed.is_empty());
    found.complete &= shown;
    if let Some(id) = &params.id
        && shown
        && !found.columns.get(id).is_some_and(|column_type| ID_TYPES.contains(&column_type))
    {
        return Err(Problem::missing_column(Subject::Param("id".to_owned()), id, ID_TYPES, &found.columns));
    }
    if images && params.columns.is_empty() && found.columns.get(IMAGE).is_some() {
        return Err(Problem::param(
            "source",
            format!("its metadata has a column `{IMAGE}`, the name of the images' own"),
        )
        .help("say which columns you want with `columns`"));
    }
    if images {
        found.columns.0.insert(IMAGE.to_owned(), ColumnType::Image);
    }
    if !params.columns.is_empty() {
        return Ok(Told { schema: Some(declared(params, &found, images)?), notes: Vec::new() });
    }
    found
        .columns
        .0
        .retain(|name, _| name != "id" && Some(name) != params.id.as_ref() && !(images && name == FILE_NAME));
    let left_out =
        |name| format!("column `{name}` is left out: its values are of no one type (`columns` can say which)");
    Ok(Told { schema: Some(found.columns), notes: found.mixed.iter().map(left_out).collect() })
}

fn refuse_columns(params: &Params) -> Result<Told, Problem> {
    let given = [("columns", !params.columns.is_empty()), ("id", params.id.is_some())];
    match given.iter().find(|(_, given)| *given) {
        None => Ok(Told::default()),
        Some((name, _)) => Err(Problem::param(*name, format!("these are files; only a dataset has `{name}`"))
            .help("say what the files are with `format`: images, jsonl or csv")),
    }
}

/// The columns that were declared, checked against those there are.
fn declared(params: &Params, found: &Found, images: bool) -> Result<Schema, Problem> {
    for (name, column_type) in &params.columns {
        let at = format!("columns.{name}");
        if name == "id" {
            return Err(Problem::param(at, "`id` is the name of every dataset's key, not of a column")
                .help("to take ids from a column, write `id = \"COLUMN\"`"));
        }
        if images && name == IMAGE && *column_type != ColumnType::Image {
            return Err(Problem::param(at, format!("the images of a folder are no {column_type} column")));
        }
        if found.complete && found.columns.get(name).is_none() && !found.mixed.contains(name) {
            return Err(Problem::missing_column(Subject::Param(at), name, &[*column_type], &found.columns));
        }
    }
    let mut schema = Schema(params.columns.clone());
    if images {
        schema.0.insert(IMAGE.to_owned(), ColumnType::Image);
    }
    Ok(schema)
}

fn look(layout: &Layout, files: &[LocalFile]) -> Result<Found, Problem> {
    let mut found = Found { columns: Schema::default(), mixed: BTreeSet::new(), complete: true };
    for (name, format) in layout.tables() {
        let problem = |failure: Failure| Problem::param("source", failure.message);
        let sniffed = records::sniff(open(name, format, files).map_err(problem)?, format, LOOKED_AT);
        found.complete &= sniffed.complete;
        found.mixed.extend(sniffed.left_out);
        for (column, column_type) in sniffed.columns {
            if let Some(other) = found.columns.0.insert(column.clone(), column_type)
                && other != column_type
            {
                let message = format!("column `{column}` is {column_type} in {name} and {other} in another file");
                return Err(Problem::param("source", message).help("say what it is with `columns`"));
            }
        }
    }
    Ok(found)
}

/// Opens a file of records.
pub fn open(name: &str, format: RecordFormat, files: &[LocalFile]) -> Result<Records, Failure> {
    let file = files
        .iter()
        .find(|file| file.name == name)
        .ok_or_else(|| Failure::internal(format!("{name} is not among the files")))?;
    let opened = File::open(&file.path).map_err(|error| Failure::io("open", &file.path, &error))?;
    records::read(opened, format).map_err(|error| Failure::input(format!("{name}: {error}")))
}

/// Whether the records of a file have a column `id`.
pub fn has_id(name: &str, format: RecordFormat, files: &[LocalFile]) -> Result<bool, Failure> {
    let sniffed = records::sniff(open(name, format, files)?, format, LOOKED_AT);
    Ok(sniffed.columns.contains_key("id") || sniffed.left_out.contains("id"))
}

/// The images that the records of a file name, where `columns` declares image columns.
pub fn referenced_images(layout: &Layout, files: &[LocalFile], params: &Params) -> Result<Vec<LocalFile>, Problem> {
    let Layout::Records { file, format } = layout else { return Ok(Vec::new()) };
    let is_image = |(_, column_type): &(&String, &ColumnType)| **column_type == ColumnType::Image;
    let columns: Vec<&str> = params.columns.iter().filter(is_image).map(|(name, _)| name.as_str()).collect();
    let Some(root) = files.first().filter(|_| !columns.is_empty()).and_then(|file| file.path.parent()) else {
        return Ok(Vec::new());
    };
    let records = open(file, *format, files).map_err(|failure| Problem::param("source", failure.message))?;
    let mut found = BTreeMap::new();
    for record in records.flatten() {
        for name in columns.iter().filter_map(|column| record.values.get(*column)?.as_str()) {
            let path = root.join(name);
            if stays_inside(name) && path.is_file() {
                found.insert(name.to_owned(), path);
            }
        }
    }
    Ok(found.into_iter().map(|(name, path)| LocalFile::new(name, path)).collect())
}
