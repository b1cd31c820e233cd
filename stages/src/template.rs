//! Texts with holes: `Caption: {caption}` is filled with the cells of a row.
//!
//! `{name}` is replaced by the cell of that column, `{id}` by the row's id; `{{` and `}}` stand for braces. Knows nothing of
//! loops, conditions or formats: where those are needed, a column is computed first.

use pipe_engine::cell::{Cell, ColumnType, Row, Schema};
use pipe_engine::problem::{Failure, Problem, Subject};
use pipe_engine::stage::RowFailure;

/// The types of cell that can stand in a text.
const PRINTABLE: &[ColumnType] = &[ColumnType::Text, ColumnType::Int, ColumnType::Float, ColumnType::Bool];

/// A compiled template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Column(String),
}

/// A text that is not a template; `at` counts characters from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {what}")]
pub struct TemplateError {
    /// The character at fault.
    pub at: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// When a brace has no partner or encloses nothing.
    pub fn compile(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars().zip(1..).peekable();
        while let Some((char, at)) = chars.next() {
            match char {
                '{' | '}' if chars.peek().is_some_and(|(next, _)| *next == char) => {
                    chars.next();
                    literal.push(char);
                }
                '}' => return Err(TemplateError { at, what: "`}` closes nothing; write `}}` for a brace" }),
                '{' => {
                    if !literal.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut literal)));
                    }
                    pieces.push(Piece::Column(hole(&mut chars, at)?));
                }
                _ => literal.push(char),
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self { pieces })
    }

    /// Reads the template in a parameter and checks that `schema` has its columns.
    ///
    /// # Errors
    /// A problem at `param`.
    pub fn declare(param: &str, text: &str, schema: &Schema) -> Result<Self, Problem> {
        let template = Self::compile(text).map_err(|error| Problem::param(param, format!("not a template {error}")))?;
        for column in template.columns() {
            let found = schema.get(column);
            if column != "id" && !found.is_some_and(|found| PRINTABLE.contains(&found)) {
                return Err(Problem::missing_column(Subject::Param(param.to_owned()), column, PRINTABLE, schema));
            }
        }
        Ok(template)
    }

    /// The columns it reads, in order of appearance, each once; `id` among them where it is read.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        let mut columns = Vec::new();
        for piece in &self.pieces {
            if let Piece::Column(name) = piece
                && !columns.contains(&name.as_str())
            {
                columns.push(name);
            }
        }
        columns
    }

    /// Prepares it for rows whose cells are those of `columns`, in that order.
    ///
    /// # Errors
    /// When it reads a column that is not among them: the stage did not declare it.
    pub fn bind(&self, columns: &[String]) -> Result<BoundTemplate, Failure> {
        let slot = |piece: &Piece| match piece {
            Piece::Text(text) => Ok(Slot::Text(text.clone())),
            Piece::Column(name) if name == "id" => Ok(Slot::Id),
            Piece::Column(name) => columns
                .iter()
                .position(|column| column == name)
                .map(|index| Slot::Cell { index, name: name.clone() })
                .ok_or_else(|| Failure::internal(format!("a template reads column `{name}`, which is not declared"))),
        };
        Ok(BoundTemplate { slots: self.pieces.iter().map(slot).collect::<Result<_, _>>()? })
    }
}

/// Reads the name of a column up to its closing brace; `open` is where the opening one stands.
fn hole(chars: &mut impl Iterator<Item = (char, usize)>, open: usize) -> Result<String, TemplateError> {
    let mut name = String::new();
    for (char, at) in chars {
        match char {
            '}' if name.trim().is_empty() => {
                return Err(TemplateError { at: open, what: "`{}` names no column; write `{{}}` for braces" });
            }
            '}' => return Ok(name.trim().to_owned()),
            '{' => return Err(TemplateError { at, what: "`{` inside `{…}`; write `{{` for a brace" }),
            _ => name.push(char),
        }
    }
    Err(TemplateError { at: open, what: "`{` is never closed; write `{{` for a brace" })
}

/// A template that knows where its cells stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundTemplate {
    slots: Vec<Slot>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Slot {
    Text(String),
    Id,
    Cell { index: usize, name: String },
}

impl BoundTemplate {
    /// The text for a row.
    ///
    /// # Errors
    /// When a cell is null or of a type that cannot be printed: a failure of the row.
    pub fn render(&self, row: &Row) -> Result<String, RowFailure> {
        let mut text = String::new();
        for slot in &self.slots {
            match slot {
                Slot::Text(literal) => text.push_str(literal),
                Slot::Id => text.push_str(&row.id),
                Slot::Cell { index, name } => print(row.cells.get(*index).unwrap_or(&Cell::Null), name, &mut text)?,
            }
        }
        Ok(text)
    }
}

fn print(cell: &Cell, name: &str, text: &mut String) -> Result<(), RowFailure> {
    use std::fmt::Write as _;
    let written = match cell {
        Cell::Text(value) => {
            text.push_str(value);
            Ok(())
        }
        Cell::Int(value) => write!(text, "{value}"),
        Cell::Float(value) => write!(text, "{value}"),
        Cell::Bool(value) => write!(text, "{value}"),
        _ => return Err(unprintable(cell, name)),
    };
    written.expect("writing to a string cannot fail");
    Ok(())
}

fn unprintable(cell: &Cell, name: &str) -> RowFailure {
    let (class, found) = match cell.column_type() {
        None => ("template: null cell", "null".to_owned()),
        Some(found) => ("template: cell of another type", found.to_string()),
    };
    RowFailure { class: class.to_owned(), message: format!("column `{name}` is {found}"), transient: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(cells: Vec<Cell>) -> Row {
        Row { id: "a/1.png".to_owned(), cells }
    }

    fn render(text: &str, columns: &[&str], cells: Vec<Cell>) -> Result<String, RowFailure> {
        let columns: Vec<String> = columns.iter().map(|&c| c.to_owned()).collect();
        Template::compile(text).unwrap().bind(&columns).unwrap().render(&row(cells))
    }

    #[test]
    fn cells_fill_holes() {
        let cells = vec![Cell::Text("a {cat}".into()), Cell::Int(3), Cell::Float(0.5), Cell::Bool(true)];
        let text = render("{id}: { caption }\n{n} {f} {b} {{x}}", &["caption", "n", "f", "b"], cells).unwrap();
        assert_eq!(text, "a/1.png: a {cat}\n3 0.5 true {x}");
    }

    #[test]
    fn columns_are_listed_once_in_order() {
        assert_eq!(Template::compile("{b} {a} {b} {id}").unwrap().columns(), ["b", "a", "id"]);
        assert!(Template::compile("").unwrap().columns().is_empty());
    }

    #[test]
    fn mistakes_say_where() {
        let error = |text| Template::compile(text).unwrap_err().to_string();
        assert_eq!(error("é {caption"), "at character 3: `{` is never closed; write `{{` for a brace");
        assert_eq!(error("a } b"), "at character 3: `}` closes nothing; write `}}` for a brace");
        assert_eq!(error("a {} b"), "at character 3: `{}` names no column; write `{{}}` for braces");
        assert_eq!(error("{a{b}}"), "at character 3: `{` inside `{…}`; write `{{` for a brace");
    }

    #[test]
    fn declaring_checks_columns() {
        let schema = Schema::default()
            .with(&[("caption".to_owned(), ColumnType::Text), ("image".to_owned(), ColumnType::Image)]);
        assert!(Template::declare("prompt", "{caption} {id}", &schema).is_ok());
        let missing = Template::declare("prompt", "{captoin}", &schema).unwrap_err();
        assert_eq!(missing.subject, Subject::Param("prompt".to_owned()));
        assert!(missing.help.unwrap().starts_with("did you mean `caption`?"));
        let image = Template::declare("prompt", "{image}", &schema).unwrap_err();
        assert_eq!(image.message, "column `image` is image, expected text or int or float or bool");
    }

    #[test]
    fn a_null_fails_the_row() {
        let failure = render("{a}", &["a"], vec![Cell::Null]).unwrap_err();
        assert_eq!((failure.class.as_str(), failure.message.as_str()), ("template: null cell", "column `a` is null"));
        assert!(Template::compile("{a}").unwrap().bind(&[]).is_err());
    }

    proptest! {
        #[test]
        fn any_text_compiles_or_says_where(text in ".*") {
            if let Err(error) = Template::compile(&text) {
                prop_assert!((1..=text.chars().count()).contains(&error.at));
            }
        }

        #[test]
        fn doubled_braces_give_the_text_back(text in ".*") {
            let escaped = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(render(&escaped, &[], vec![]).unwrap(), text);
        }
    }
}
