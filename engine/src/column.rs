//! The canonical encoding of a column of a chunk: one value, one sequence of bytes.
//!
//! A line naming the format, then the [`Column`] in postcard (<https://postcard.jamesmunns.com/wire-format>), whose encoding of
//! a value is unique.

use pipe_cache::{Blob, Digest};
use serde::{Deserialize, Serialize};

use crate::cell::{Cell, ColumnType};

const HEADER: &[u8] = b"column/1\n";

/// The cells of one column of one chunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Column {
    /// See [`ColumnType::Bool`].
    Bool(Vec<Option<bool>>),
    /// See [`ColumnType::Int`].
    Int(Vec<Option<i64>>),
    /// See [`ColumnType::Float`].
    Float(Vec<Option<f64>>),
    /// See [`ColumnType::Text`].
    Text(Vec<Option<String>>),
    /// See [`ColumnType::Texts`].
    Texts(Vec<Option<Vec<String>>>),
    /// See [`ColumnType::Ints`].
    Ints(Vec<Option<Vec<i64>>>),
    /// See [`ColumnType::Image`].
    Image(Vec<Option<Digest>>),
}

/// Applies one expression to the vector inside, whatever its type.
macro_rules! each {
    ($column:expr, $cells:ident => $body:expr) => {
        match $column {
            Column::Bool($cells) => $body,
            Column::Int($cells) => $body,
            Column::Float($cells) => $body,
            Column::Text($cells) => $body,
            Column::Texts($cells) => $body,
            Column::Ints($cells) => $body,
            Column::Image($cells) => $body,
        }
    };
}

/// Applies one expression to the vectors inside two columns of one type.
macro_rules! both {
    ($left:expr, $right:expr, $l:ident, $r:ident => $body:expr, else $other:expr) => {
        match ($left, $right) {
            (Column::Bool($l), Column::Bool($r)) => $body,
            (Column::Int($l), Column::Int($r)) => $body,
            (Column::Float($l), Column::Float($r)) => $body,
            (Column::Text($l), Column::Text($r)) => $body,
            (Column::Texts($l), Column::Texts($r)) => $body,
            (Column::Ints($l), Column::Ints($r)) => $body,
            (Column::Image($l), Column::Image($r)) => $body,
            _ => $other,
        }
    };
}

impl Column {
    /// A column without rows.
    #[must_use]
    pub const fn empty(column_type: ColumnType) -> Self {
        match column_type {
            ColumnType::Bool => Self::Bool(Vec::new()),
            ColumnType::Int => Self::Int(Vec::new()),
            ColumnType::Float => Self::Float(Vec::new()),
            ColumnType::Text => Self::Text(Vec::new()),
            ColumnType::Texts => Self::Texts(Vec::new()),
            ColumnType::Ints => Self::Ints(Vec::new()),
            ColumnType::Image => Self::Image(Vec::new()),
        }
    }

    /// A text column without nulls.
    #[must_use]
    pub fn texts(cells: impl IntoIterator<Item = String>) -> Self {
        Self::Text(cells.into_iter().map(Some).collect())
    }

    /// Its type.
    #[must_use]
    pub const fn column_type(&self) -> ColumnType {
        match self {
            Self::Bool(_) => ColumnType::Bool,
            Self::Int(_) => ColumnType::Int,
            Self::Float(_) => ColumnType::Float,
            Self::Text(_) => ColumnType::Text,
            Self::Texts(_) => ColumnType::Texts,
            Self::Ints(_) => ColumnType::Ints,
            Self::Image(_) => ColumnType::Image,
        }
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        each!(self, cells => cells.len())
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a cell.
    ///
    /// # Errors
    /// When the cell is of another type, a float is not finite, or an image is not stored.
    pub fn push(&mut self, cell: Cell) -> Result<(), String> {
        match (self, cell) {
            (column, Cell::Null) => each!(column, cells => cells.push(None)),
            (Self::Bool(cells), Cell::Bool(value)) => cells.push(Some(value)),
            (Self::Int(cells), Cell::Int(value)) => cells.push(Some(value)),
            (Self::Float(cells), Cell::Float(value)) if value.is_finite() => cells.push(Some(value)),
            (Self::Text(cells), Cell::Text(value)) => cells.push(Some(value)),
            (Self::Texts(cells), Cell::Texts(value)) => cells.push(Some(value)),
            (Self::Ints(cells), Cell::Ints(value)) => cells.push(Some(value)),
            (Self::Image(cells), Cell::Image(blob)) => cells.push(Some(blob.digest)),
            (column, cell) => return Err(mismatch(column.column_type(), &cell)),
        }
        Ok(())
    }

    /// Appends the rows of another column of the same type.
    ///
    /// # Errors
    /// When the types differ.
    pub fn append(&mut self, other: Self) -> Result<(), String> {
        let (left, right) = (self.column_type(), other.column_type());
        both!(self, other, l, r => { l.extend(r); Ok(()) }, else Err(format!("cannot append {right} rows to a {left} column")))
    }

    /// The rows whose `keep` is true.
    #[must_use]
    pub fn filter(self, keep: &[bool]) -> Self {
        let mut mask = keep.iter().copied();
        let mut column = self;
        each!(&mut column, cells => cells.retain(|_| mask.next().unwrap_or(false)));
        column
    }

    /// A column of one row of this one; of none, if there is no such row.
    #[must_use]
    pub fn slice(&self, row: usize) -> Self {
        fn one<T: Clone>(cells: &[Option<T>], row: usize) -> Vec<Option<T>> {
            cells.get(row).cloned().into_iter().collect()
        }
        match self {
            Self::Bool(cells) => Self::Bool(one(cells, row)),
            Self::Int(cells) => Self::Int(one(cells, row)),
            Self::Float(cells) => Self::Float(one(cells, row)),
            Self::Text(cells) => Self::Text(one(cells, row)),
            Self::Texts(cells) => Self::Texts(one(cells, row)),
            Self::Ints(cells) => Self::Ints(one(cells, row)),
            Self::Image(cells) => Self::Image(one(cells, row)),
        }
    }

    /// Appends to `out` bytes that name one cell and its type.
    pub fn encode_cell(&self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.column_type().name().as_bytes());
        let mut bytes = std::mem::take(out);
        each!(self, cells => {
            bytes = postcard::to_extend(&cells.get(row), bytes).expect("encoding plain data into memory cannot fail");
        });
        *out = bytes;
    }

    /// The canonical bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, HEADER.to_vec()).expect("encoding plain data into memory cannot fail")
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// When they are not a column.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let body = bytes.strip_prefix(HEADER).ok_or("not a column of format column/1")?;
        postcard::from_bytes(body).map_err(|error| format!("a damaged column: {error}"))
    }

    /// The texts of a text column without nulls.
    ///
    /// # Errors
    /// When it is of another type or holds a null.
    pub fn into_texts(self) -> Result<Vec<String>, String> {
        match self {
            Self::Text(cells) => {
                cells.into_iter().collect::<Option<_>>().ok_or_else(|| "a null among texts".to_owned())
            }
            other => Err(format!("a {} column where text was expected", other.column_type())),
        }
    }

    /// The cells, with images looked up by digest.
    ///
    /// # Errors
    /// When an image cannot be found.
    pub fn into_cells(self, find: impl Fn(Digest) -> Option<Blob>) -> Result<Vec<Cell>, String> {
        fn wrap<T>(cells: Vec<Option<T>>, make: impl Fn(T) -> Cell) -> Vec<Cell> {
            cells.into_iter().map(|cell| cell.map_or(Cell::Null, &make)).collect()
        }
        Ok(match self {
            Self::Bool(cells) => wrap(cells, Cell::Bool),
            Self::Int(cells) => wrap(cells, Cell::Int),
            Self::Float(cells) => wrap(cells, Cell::Float),
            Self::Text(cells) => wrap(cells, Cell::Text),
            Self::Texts(cells) => wrap(cells, Cell::Texts),
            Self::Ints(cells) => wrap(cells, Cell::Ints),
            Self::Image(cells) => {
                let image = |cell: Option<Digest>| match cell {
                    None => Ok(Cell::Null),
                    Some(digest) => {
                        find(digest).map(Cell::Image).ok_or_else(|| format!("image {digest} is not in the store"))
                    }
                };
                cells.into_iter().map(image).collect::<Result<_, _>>()?
            }
        })
    }
}

fn mismatch(wanted: ColumnType, cell: &Cell) -> String {
    match cell {
        Cell::Float(value) if wanted == ColumnType::Float => format!("{value} is not a finite number"),
        Cell::NewImage(_) | Cell::ImageFile(_) => "an image that was not stored".to_owned(),
        _ => {
            let found = cell.column_type().map_or("null", ColumnType::name);
            format!("a {found} cell for a {wanted} column")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn filter_and_append() {
        let mut left = Column::Int(vec![Some(1), None, Some(3)]).filter(&[true, false, true]);
        left.append(Column::Int(vec![Some(4)])).unwrap();
        assert_eq!(left, Column::Int(vec![Some(1), Some(3), Some(4)]));
        assert!(left.append(Column::empty(ColumnType::Text)).is_err());
    }

    #[test]
    fn cells_of_another_type_are_refused() {
        let mut column = Column::empty(ColumnType::Float);
        assert_eq!(column.push(Cell::Float(f64::NAN)).unwrap_err(), "NaN is not a finite number");
        assert_eq!(column.push(Cell::Int(1)).unwrap_err(), "a int cell for a float column");
    }

    proptest! {
        #[test]
        fn encoding_round_trips(cells in proptest::collection::vec(proptest::option::of(".*"), 0..20)) {
            let column = Column::Text(cells);
            prop_assert_eq!(Column::decode(&column.encode()), Ok(column));
        }

        #[test]
        fn damaged_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut column = HEADER.to_vec();
            column.extend(bytes);
            let _ = Column::decode(&column);
        }
    }
}
