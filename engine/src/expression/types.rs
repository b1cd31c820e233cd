//! Types of what expressions compute with, as far as they are known before any row is.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value as Json;

use crate::cell::ColumnType;

/// What an expression or a part of it yields. A value of any type may also be null, which is known only at its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Null and nothing else.
    Null,
    /// True or false.
    Bool,
    /// An integer.
    Int,
    /// A float.
    Float,
    /// An integer or a float.
    Number,
    /// A text.
    Text,
    /// A list of values of one type.
    List(Box<Self>),
    /// A map from keys of one type to values of one type, `{"a": 1}`.
    Map(Box<Self>, Box<Self>),
    /// Values by name.
    Table(BTreeMap<String, Self>),
    /// An image, used by its facts.
    Image(BTreeMap<String, Self>),
    /// Not known before it is there.
    Any,
}

impl Type {
    /// The type of the cells of a column; of an image only these facts can be used.
    #[must_use]
    pub fn of_column(column: ColumnType, facts: &[(&str, Self)]) -> Self {
        match column {
            ColumnType::Bool => Self::Bool,
            ColumnType::Int => Self::Int,
            ColumnType::Float => Self::Float,
            ColumnType::Text => Self::Text,
            ColumnType::Texts => Self::List(Box::new(Self::Text)),
            ColumnType::Ints => Self::List(Box::new(Self::Int)),
            ColumnType::Image => {
                Self::Image(facts.iter().map(|(name, fact)| ((*name).to_owned(), fact.clone())).collect())
            }
        }
    }

    /// The type of a value that is there.
    #[must_use]
    pub fn of_json(value: &Json) -> Self {
        match value {
            Json::Null => Self::Null,
            Json::Bool(_) => Self::Bool,
            Json::Number(number) if number.is_i64() => Self::Int,
            Json::Number(number) if number.is_f64() => Self::Float,
            // Beyond what an `int` holds.
            Json::Number(_) => Self::Any,
            Json::String(_) => Self::Text,
            Json::Array(items) => {
                let all = items.iter().map(Self::of_json).try_fold(Self::Null, |all, one| all.join(&one));
                Self::List(Box::new(all.unwrap_or(Self::Any)))
            }
            Json::Object(fields) => {
                Self::Table(fields.iter().map(|(name, value)| (name.clone(), Self::of_json(value))).collect())
            }
        }
    }

    /// The type of what is of this type or of that; `None` where no operation takes both.
    #[must_use]
    pub fn join(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (one, same) if one == same => Some(one.clone()),
            (Self::Null, one) | (one, Self::Null) => Some(one.clone()),
            (Self::Any, _) | (_, Self::Any) | (Self::Table(_), Self::Table(_)) => Some(Self::Any),
            (one, other) if one.is_number() && other.is_number() => Some(Self::Number),
            (Self::List(one), Self::List(other)) => Some(Self::List(Box::new(one.join(other)?))),
            (Self::Map(key, value), Self::Map(other_key, other_value)) => {
                Some(Self::Map(Box::new(key.join(other_key)?), Box::new(value.join(other_value)?)))
            }
            _ => None,
        }
    }

    /// Whether it may be looked up among keys of this type; here integers and floats differ.
    #[must_use]
    pub fn is_key(&self, keys: &Self) -> bool {
        self == keys || *self == Self::Any || *keys == Self::Any
    }

    /// Whether it may be true or false.
    #[must_use]
    pub const fn is_bool(&self) -> bool {
        matches!(self, Self::Bool | Self::Any)
    }

    /// Whether it may be an integer.
    #[must_use]
    pub const fn is_int(&self) -> bool {
        matches!(self, Self::Int | Self::Any)
    }

    /// Whether it may be an integer or a float.
    #[must_use]
    pub const fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Float | Self::Number | Self::Any)
    }

    /// Whether it may be a text.
    #[must_use]
    pub const fn is_text(&self) -> bool {
        matches!(self, Self::Text | Self::Any)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::Number => "a number",
            Self::Text => "text",
            Self::List(items) => match **items {
                Self::Text => "texts",
                Self::Int => "ints",
                Self::Null | Self::Any => "a list",
                ref one => return write!(f, "a list of {one}"),
            },
            Self::Map(..) => "a map",
            Self::Table(_) => "a table",
            Self::Image(_) => "an image",
            Self::Any => "of a type not known yet",
        })
    }
}
