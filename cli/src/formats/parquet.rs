//! Parquet. Columns are optional; lists are the standard three levels; images are `{bytes, path}`, as Hugging Face's `Image` reads
//! and writes them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use pipe_engine::cell::{Cell, ColumnType, Row};
use pipe_engine::problem::Failure;
use pipe_engine::step::DatasetView;
use pipe_stages::image_file;
use serde_json::{Value, json};

use super::{go_on, image_columns};

/// Rows of a row group; fewer where they hold images, which readers take in one piece.
const ROWS: usize = 4096;
const ROWS_WITH_IMAGES: usize = 100;

/// Where files go.
pub trait Target {
    /// The next file.
    fn next(&mut self) -> PathBuf;
    /// Bytes after which it is asked for.
    fn most(&self) -> u64;
}

/// All in one file.
pub fn one_file(path: &Path) -> impl Target {
    struct One(PathBuf);
    impl Target for One {
        fn next(&mut self) -> PathBuf {
            self.0.clone()
        }
        fn most(&self) -> u64 {
            u64::MAX
        }
    }
    One(path.to_owned())
}

/// Writes the rows of a dataset.
pub fn write(view: &DatasetView, target: &mut dyn Target) -> std::result::Result<(), Failure> {
    let columns: Vec<&str> = view.schema.names().collect();
    let most = if image_columns(view).is_empty() { ROWS } else { ROWS_WITH_IMAGES };
    let mut path = target.next();
    let mut file = open(view, &path)?;
    for rows in view.chunks(&columns) {
        go_on()?;
        for group in rows?.chunks(most) {
            if file.bytes_written() as u64 >= target.most() {
                close(file, &path)?;
                path = target.next();
                file = open(view, &path)?;
            }
            write_group(&mut file, view, &columns, group)?.map_err(|error| failure("write", &path, &error))?;
        }
    }
    close(file, &path)
}

fn failure(what: &str, path: &Path, error: &ParquetError) -> Failure {
    Failure::transient(format!("cannot {what} {}: {error}", path.display()))
}

fn open(view: &DatasetView, path: &Path) -> std::result::Result<SerializedFileWriter<File>, Failure> {
    let file = File::create(path).map_err(|error| Failure::io("create", path, &error))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(Some(vec![KeyValue::new("huggingface".to_owned(), features(view).to_string())]))
        .build();
    schema(view)
        .and_then(|schema| SerializedFileWriter::new(file, schema, Arc::new(properties)))
        .map_err(|error| failure("write", path, &error))
}

fn close(file: SerializedFileWriter<File>, path: &Path) -> std::result::Result<(), Failure> {
    file.close().map(drop).map_err(|error| failure("write", path, &error))
}

/// What `datasets` makes of the columns.
fn features(view: &DatasetView) -> Value {
    let value = |dtype: &str| json!({ "dtype": dtype, "_type": "Value" });
    let feature = |column_type: &ColumnType| match column_type {
        ColumnType::Bool => value("bool"),
        ColumnType::Int => value("int64"),
        ColumnType::Float => value("float64"),
        ColumnType::Text => value("string"),
        ColumnType::Texts => json!([value("string")]),
        ColumnType::Ints => json!([value("int64")]),
        ColumnType::Image => json!({ "_type": "Image" }),
    };
    let mut features: serde_json::Map<String, Value> = [("id".to_owned(), value("string"))].into_iter().collect();
    features.extend(view.schema.0.iter().map(|(name, column_type)| (name.clone(), feature(column_type))));
    json!({ "info": { "features": features } })
}

fn schema(view: &DatasetView) -> Result<TypePtr> {
    let mut fields = vec![primitive("id", Physical::BYTE_ARRAY, true, Repetition::REQUIRED)?];
    for (name, column_type) in &view.schema.0 {
        let optional = |physical, text| primitive(name, physical, text, Repetition::OPTIONAL);
        fields.push(match column_type {
            ColumnType::Bool => optional(Physical::BOOLEAN, false)?,
            ColumnType::Int => optional(Physical::INT64, false)?,
            ColumnType::Float => optional(Physical::DOUBLE, false)?,
            ColumnType::Text => optional(Physical::BYTE_ARRAY, true)?,
            ColumnType::Texts => list(name, Physical::BYTE_ARRAY, true)?,
            ColumnType::Ints => list(name, Physical::INT64, false)?,
            ColumnType::Image => group(
                name,
                Repetition::OPTIONAL,
                None,
                vec![
                    primitive("bytes", Physical::BYTE_ARRAY, false, Repetition::OPTIONAL)?,
                    primitive("path", Physical::BYTE_ARRAY, true, Repetition::OPTIONAL)?,
                ],
            )?,
        });
    }
    Type::group_type_builder("rows").with_fields(fields).build().map(Arc::new)
}

fn primitive(name: &str, physical: Physical, text: bool, repetition: Repetition) -> Result<TypePtr> {
    Type::primitive_type_builder(name, physical)
        .with_logical_type(text.then_some(LogicalType::String))
        .with_repetition(repetition)
        .build()
        .map(Arc::new)
}

fn group(name: &str, repetition: Repetition, logical: Option<LogicalType>, fields: Vec<TypePtr>) -> Result<TypePtr> {
    Type::group_type_builder(name)
        .with_repetition(repetition)
        .with_logical_type(logical)
        .with_fields(fields)
        .build()
        .map(Arc::new)
}

fn list(name: &str, physical: Physical, text: bool) -> Result<TypePtr> {
    let element = primitive("element", physical, text, Repetition::OPTIONAL)?;
    let items = group("list", Repetition::REPEATED, None, vec![element])?;
    group(name, Repetition::OPTIONAL, Some(LogicalType::List), vec![items])
}

/// Writes a row group. The outer result is that of reading images, the inner one that of writing.
fn write_group(
    file: &mut SerializedFileWriter<File>,
    view: &DatasetView,
    columns: &[&str],
    rows: &[Row],
) -> std::result::Result<Result<()>, Failure> {
    let mut images = Vec::new();
    for at in (0..columns.len()).filter(|at| view.schema.get(columns[*at]) == Some(ColumnType::Image)) {
        images.push(read_images(rows, at)?);
    }
    Ok(write_columns(file, view, rows, images))
}

/// The images of a column with a name for each; `None` for null.
type Images = Vec<Option<(Vec<u8>, String)>>;

fn read_images(rows: &[Row], at: usize) -> std::result::Result<Images, Failure> {
    let read = |row: &Row| {
        let Some(blob) = row.cells[at].as_image() else { return Ok(None) };
        let bytes = blob.read().map_err(|error| Failure::io("read", &blob.path, &error))?;
        let named = image_file::has_image_extension(&row.id);
        let ending = image_file::extensions(&bytes).first().copied().unwrap_or("bin");
        let name = if named { row.id.clone() } else { format!("{}.{ending}", row.id) };
        Ok(Some((bytes, name)))
    };
    rows.iter().map(read).collect()
}

fn write_columns(
    file: &mut SerializedFileWriter<File>,
    view: &DatasetView,
    rows: &[Row],
    images: Vec<Images>,
) -> Result<()> {
    let mut group = file.next_row_group()?;
    let ids: Vec<ByteArray> = rows.iter().map(|row| row.id.as_str().into()).collect();
    leaf::<ByteArrayType>(&mut group, &ids, None, None)?;
    let mut images = images.into_iter();
    for (at, column_type) in view.schema.0.values().enumerate() {
        match column_type {
            ColumnType::Image => pictures(&mut group, images.next().unwrap_or_default())?,
            other => values(&mut group, *other, rows.iter().map(|row| &row.cells[at]))?,
        }
    }
    group.close().map(drop)
}

/// Writes a column of anything but images.
fn values<'a>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    column_type: ColumnType,
    cells: impl Iterator<Item = &'a Cell>,
) -> Result<()> {
    let boolean = |cell: &Cell| if let Cell::Bool(value) = cell { Some(*value) } else { None };
    let int = |cell: &Cell| if let Cell::Int(value) = cell { Some(*value) } else { None };
    let float = |cell: &Cell| if let Cell::Float(value) = cell { Some(*value) } else { None };
    let texts = |cell: &Cell| {
        let texts = cell.as_texts()?;
        Some(texts.iter().map(|text| ByteArray::from(text.as_str())).collect())
    };
    match column_type {
        ColumnType::Bool => optional::<BoolType>(group, cells.map(boolean)),
        ColumnType::Int => optional::<Int64Type>(group, cells.map(int)),
        ColumnType::Float => optional::<DoubleType>(group, cells.map(float)),
        ColumnType::Text | ColumnType::Image => {
            optional::<ByteArrayType>(group, cells.map(|cell| cell.as_text().map(ByteArray::from)))
        }
        ColumnType::Texts => lists::<ByteArrayType>(group, cells.map(texts)),
        ColumnType::Ints => lists::<Int64Type>(group, cells.map(|cell| cell.as_ints().map(<[i64]>::to_vec))),
    }
}

/// Writes the next leaf column.
fn leaf<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: &[T::T],
    defined: Option<&[i16]>,
    repeated: Option<&[i16]>,
) -> Result<()> {
    let column = group.next_column()?;
    let mut column = column.ok_or_else(|| ParquetError::General("a column too many".to_owned()))?;
    column.typed::<T>().write_batch(values, defined, repeated)?;
    column.close()
}

fn optional<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    cells: impl Iterator<Item = Option<T::T>>,
) -> Result<()> {
    let cells: Vec<Option<T::T>> = cells.collect();
    let defined: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
    let values: Vec<T::T> = cells.into_iter().flatten().collect();
    leaf::<T>(group, &values, Some(&defined), None)
}

/// Levels of a list: 0 null, 1 empty, 3 an element; an element that is not the first of its list repeats it.
fn lists<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    cells: impl Iterator<Item = Option<Vec<T::T>>>,
) -> Result<()> {
    let (mut values, mut defined, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
    for cell in cells {
        let items = match cell {
            Some(items) if !items.is_empty() => items,
            other => {
                defined.push(i16::from(other.is_some()));
                repeated.push(0);
                continue;
            }
        };
        for (n, item) in items.into_iter().enumerate() {
            defined.push(3);
            repeated.push(i16::from(n > 0));
            values.push(item);
        }
    }
    leaf::<T>(group, &values, Some(&defined), Some(&repeated))
}

fn pictures(group: &mut SerializedRowGroupWriter<'_, File>, images: Images) -> Result<()> {
    let defined: Vec<i16> = images.iter().map(|image| if image.is_some() { 2 } else { 0 }).collect();
    let (bytes, paths): (Vec<ByteArray>, Vec<ByteArray>) =
        images.into_iter().flatten().map(|(bytes, path)| (bytes.into(), path.as_str().into())).unzip();
    leaf::<ByteArrayType>(group, &bytes, Some(&defined), None)?;
    leaf::<ByteArrayType>(group, &paths, Some(&defined), None)
}
