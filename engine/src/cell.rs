//! Cells, rows and schemas: what flows through dataset ports.

use std::collections::BTreeMap;
use std::fmt;

use pipe_cache::{Blob, Digest};
use serde::{Deserialize, Serialize};

use crate::stage::SourceFile;

/// The type of a column. Every cell of a column has this type or is null.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// True or false.
    Bool,
    /// A 64-bit signed integer.
    Int,
    /// A finite 64-bit float.
    Float,
    /// Unicode text.
    Text,
    /// A list of texts, such as the references of a caption.
    Texts,
    /// A list of integers, such as token ids.
    Ints,
    /// An encoded image file (PNG, JPEG, …), by digest.
    Image,
}

impl ColumnType {
    /// The name used in TOML, schemas and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::Text => "text",
            Self::Texts => "texts",
            Self::Ints => "ints",
            Self::Image => "image",
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One value of one row.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cell {
    /// No value.
    Null,
    /// See [`ColumnType::Bool`].
    Bool(bool),
    /// See [`ColumnType::Int`].
    Int(i64),
    /// See [`ColumnType::Float`].
    Float(f64),
    /// See [`ColumnType::Text`].
    Text(String),
    /// See [`ColumnType::Texts`].
    Texts(Vec<String>),
    /// See [`ColumnType::Ints`].
    Ints(Vec<i64>),
    /// An image in the store.
    Image(Blob),
    /// A new image: the bytes of an encoded file. The engine stores it; a stage only writes it and never reads it back.
    #[serde(skip)]
    NewImage(Vec<u8>),
    /// A new image that lies in a local file of known digest. The engine copies it into the store, unless it is there.
    #[serde(skip)]
    ImageFile(SourceFile),
}

impl Cell {
    /// The type of the column this cell may stand in; `None` for null, which stands anywhere.
    #[must_use]
    pub const fn column_type(&self) -> Option<ColumnType> {
        match self {
            Self::Null => None,
            Self::Bool(_) => Some(ColumnType::Bool),
            Self::Int(_) => Some(ColumnType::Int),
            Self::Float(_) => Some(ColumnType::Float),
            Self::Text(_) => Some(ColumnType::Text),
            Self::Texts(_) => Some(ColumnType::Texts),
            Self::Ints(_) => Some(ColumnType::Ints),
            Self::Image(_) | Self::NewImage(_) | Self::ImageFile(_) => Some(ColumnType::Image),
        }
    }

    /// Whether there is no value.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The text, where it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The list of texts, where it is one.
    #[must_use]
    pub fn as_texts(&self) -> Option<&[String]> {
        match self {
            Self::Texts(texts) => Some(texts),
            _ => None,
        }
    }

    /// The list of integers, where it is one.
    #[must_use]
    pub fn as_ints(&self) -> Option<&[i64]> {
        match self {
            Self::Ints(ints) => Some(ints),
            _ => None,
        }
    }

    /// The number, where it is an integer or a float.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "expressions compute in f64, as documented")]
    pub const fn as_number(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The stored image, where it is one.
    #[must_use]
    pub const fn as_image(&self) -> Option<&Blob> {
        match self {
            Self::Image(blob) => Some(blob),
            _ => None,
        }
    }

    /// The digest of the image, where it is one, stored or new.
    #[must_use]
    pub fn image_digest(&self) -> Option<Digest> {
        match self {
            Self::Image(blob) => Some(blob.digest),
            Self::NewImage(bytes) => Some(Digest::of(bytes)),
            Self::ImageFile(file) => Some(file.digest),
            _ => None,
        }
    }
}

/// A row as a stage sees it: its id, and the cells of the columns the stage said it reads, in that order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Unique in its dataset; stable under edits of other rows.
    pub id: String,
    /// One cell per column read.
    pub cells: Vec<Cell>,
}

/// The columns of a dataset besides `id`, by name.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schema(pub BTreeMap<String, ColumnType>);

impl Schema {
    /// The type of a column.
    #[must_use]
    pub fn get(&self, column: &str) -> Option<ColumnType> {
        self.0.get(column).copied()
    }

    /// Column names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Adds or replaces columns.
    #[must_use]
    pub fn with(mut self, columns: &[(String, ColumnType)]) -> Self {
        self.0.extend(columns.iter().cloned());
        self
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("id: text")?;
        // What a file holds has an `id` of its own at times.
        for (name, column_type) in self.0.iter().filter(|(name, _)| *name != "id") {
            write!(f, ", {name}: {column_type}")?;
        }
        Ok(())
    }
}
