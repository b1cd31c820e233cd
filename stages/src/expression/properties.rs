//! An expression that passes the check fails for its types at no row: random schemas, rows and expressions.

use std::cell::Cell as Count;

use cel::{ExecutionError, Value};
use pipe_engine::Blob;
use pipe_engine::cell::{Cell, ColumnType, Row, Schema};
use proptest::test_runner::{Config, TestRunner};

use super::{Expression, Wanted};

const COLUMNS: [&str; 5] = ["a", "b", "c", "d", "e"];
const TYPES: [ColumnType; 7] = [
    ColumnType::Bool,
    ColumnType::Int,
    ColumnType::Float,
    ColumnType::Text,
    ColumnType::Texts,
    ColumnType::Ints,
    ColumnType::Image,
];

/// Choices drawn from bytes, so that what fails shrinks.
struct Draw<'a>(std::slice::Iter<'a, u8>);

impl Draw<'_> {
    fn below(&mut self, most: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % most
    }

    fn one<'b, T>(&mut self, of: &'b [T]) -> &'b T {
        &of[self.below(of.len())]
    }

    fn schema(&mut self) -> Schema {
        Schema(COLUMNS.iter().map(|name| ((*name).to_owned(), *self.one(&TYPES))).collect())
    }

    fn row(&mut self, schema: &Schema, image: &Blob, nulls: bool) -> Row {
        let cells = schema.0.values().map(|column| {
            if nulls && self.below(3) == 0 {
                return Cell::Null;
            }
            let text = |draw: &mut Self| (*draw.one(&["", "3", "a b", "[", "é"])).to_owned();
            match column {
                ColumnType::Bool => Cell::Bool(self.below(2) == 0),
                ColumnType::Int => Cell::Int(*self.one(&[0, 1, -3, i64::MAX, i64::MIN])),
                ColumnType::Float => Cell::Float(*self.one(&[0.0, 1.5, -2.0, 1e300])),
                ColumnType::Text => Cell::Text(text(self)),
                ColumnType::Texts => Cell::Texts((0..self.below(3)).map(|_| text(self)).collect()),
                ColumnType::Ints => Cell::Ints((0..self.below(3)).map(|at| at as i64).collect()),
                ColumnType::Image => Cell::Image(image.clone()),
            }
        });
        Row { cells: cells.collect(), id: "a/1".to_owned() }
    }

    /// A column of such a type, or what stands for one.
    fn column(&mut self, schema: &Schema, types: &[ColumnType], instead: &str) -> String {
        let fitting: Vec<&str> =
            schema.0.iter().filter(|(_, column)| types.contains(column)).map(|(name, _)| name.as_str()).collect();
        if fitting.is_empty() { instead.to_owned() } else { (*self.one(&fitting)).to_owned() }
    }

    fn condition(&mut self, schema: &Schema, depth: usize) -> String {
        if depth == 0 || self.below(14) == 0 {
            return self.leaf(schema, ColumnType::Bool);
        }
        let depth = depth - 1;
        match self.below(13) {
            0 => format!("({} && {})", self.condition(schema, depth), self.condition(schema, depth)),
            1 => format!("({} || {})", self.condition(schema, depth), self.condition(schema, depth)),
            2 => format!("!{}", self.condition(schema, depth)),
            3 => format!(
                "({} {} {})",
                self.number(schema, depth),
                self.one(&["<", "==", ">=", "!="]),
                self.number(schema, depth)
            ),
            4 => format!(
                "({} {} {})",
                self.text(schema, depth),
                self.one(&["<", "==", ">=", "!="]),
                self.text(schema, depth)
            ),
            5 => format!(
                "{}.{}({})",
                self.text(schema, depth),
                self.one(&["contains", "startsWith", "endsWith", "matches"]),
                self.text(schema, depth)
            ),
            6 => format!("({} == null)", self.any(schema, depth)),
            7 => format!("({} in {})", self.any(schema, depth), self.list(schema, depth)),
            8 => format!(
                "{}.{}(x, {})",
                self.list(schema, depth),
                self.one(&["all", "exists", "exists_one"]),
                self.about_x(schema, depth)
            ),
            9 => format!(
                "({} ? {} : {})",
                self.condition(schema, depth),
                self.condition(schema, depth),
                self.condition(schema, depth)
            ),
            10 => format!("{} == {}", self.list(schema, depth), self.list(schema, depth)),
            11 => format!("bool({})", self.text(schema, depth)),
            _ => self.any(schema, depth),
        }
    }

    fn number(&mut self, schema: &Schema, depth: usize) -> String {
        if depth == 0 || self.below(14) == 0 {
            let column = *self.one(&[ColumnType::Int, ColumnType::Float]);
            return self.leaf(schema, column);
        }
        let depth = depth - 1;
        match self.below(9) {
            0 | 1 => format!(
                "({} {} {})",
                self.number(schema, depth),
                self.one(&["+", "-", "*", "/", "%"]),
                self.number(schema, depth)
            ),
            2 => format!("-{}", self.number(schema, depth)),
            3 => format!(
                "size({})",
                if self.below(2) == 0 { self.list(schema, depth) } else { self.text(schema, depth) }
            ),
            4 => format!("words({})", self.text(schema, depth)),
            5 => format!("{}({})", self.one(&["int", "double"]), self.any(schema, depth)),
            6 => format!(
                "({} ? {} : {})",
                self.condition(schema, depth),
                self.number(schema, depth),
                self.number(schema, depth)
            ),
            7 => format!("{}[{}]", self.list(schema, depth), self.number(schema, depth)),
            _ => self.any(schema, depth),
        }
    }

    fn text(&mut self, schema: &Schema, depth: usize) -> String {
        if depth == 0 || self.below(14) == 0 {
            return self.leaf(schema, ColumnType::Text);
        }
        let depth = depth - 1;
        match self.below(6) {
            0 => format!("({} + {})", self.text(schema, depth), self.text(schema, depth)),
            1 => format!("string({})", self.number(schema, depth)),
            2 => format!(
                "({} ? {} : {})",
                self.condition(schema, depth),
                self.text(schema, depth),
                self.any(schema, depth)
            ),
            3 => format!("{}[{}]", self.list(schema, depth), self.number(schema, depth)),
            4 => format!(
                "{{'a': {}, '3': {}}}[{}]",
                self.text(schema, depth),
                self.text(schema, depth),
                self.text(schema, depth)
            ),
            _ => self.any(schema, depth),
        }
    }

    fn list(&mut self, schema: &Schema, depth: usize) -> String {
        if depth == 0 || self.below(6) == 0 {
            let column = *self.one(&[ColumnType::Texts, ColumnType::Ints]);
            return self.leaf(schema, column);
        }
        let depth = depth - 1;
        match self.below(6) {
            0 => format!("[{}, {}]", self.number(schema, depth), self.number(schema, depth)),
            1 => format!("[{}]", self.any(schema, depth)),
            2 => format!("({} + {})", self.list(schema, depth), self.list(schema, depth)),
            3 => format!("{}.map(x, {})", self.list(schema, depth), self.any(schema, depth)),
            4 => format!("{}.filter(x, {})", self.list(schema, depth), self.about_x(schema, depth)),
            _ => format!("{}.map(x, x)", self.list(schema, depth)),
        }
    }

    fn about_x(&mut self, schema: &Schema, depth: usize) -> String {
        match self.below(4) {
            0 => format!("x == {}", self.text(schema, depth)),
            1 => format!("x > {}", self.number(schema, depth)),
            2 => "size(x) > 0".to_owned(),
            _ => self.condition(schema, depth),
        }
    }

    fn any(&mut self, schema: &Schema, depth: usize) -> String {
        match self.below(6) {
            0 => self.condition(schema, depth),
            1 => self.number(schema, depth),
            2 => self.text(schema, depth),
            3 => self.list(schema, depth),
            4 => (*self.one(&["null", "x", "a", "[]", "{}", "id", "has(a.width)", "words(a, b)", "{'a': 1}.b"]))
                .to_owned(),
            _ => {
                let column = *self.one(&TYPES);
                self.leaf(schema, column)
            }
        }
    }

    fn leaf(&mut self, schema: &Schema, column: ColumnType) -> String {
        let (literal, fact) = match column {
            ColumnType::Bool => ("true", "broken"),
            ColumnType::Int => ("2", "width"),
            ColumnType::Float => ("0.5", "aspect"),
            ColumnType::Text => ("'3'", "format"),
            ColumnType::Texts => ("['a', 'b']", "bytes"),
            ColumnType::Ints => ("[1, 2]", "height"),
            ColumnType::Image => ("null", "width"),
        };
        let image = self.column(schema, &[ColumnType::Image], "");
        match self.below(5) {
            0 => literal.to_owned(),
            1 if !image.is_empty() => format!("{image}.{fact}"),
            _ => self.column(schema, &[column], literal),
        }
    }
}

/// Whether other cells of the same types might not give this error.
fn depends_on_data(error: &ExecutionError) -> bool {
    // Of numbers only NaN cannot be compared.
    if let ExecutionError::NoSuchOverload(overload) = error {
        return overload.argument_types().iter().all(|name| ["int", "double"].contains(&&**name));
    }
    matches!(
        error,
        ExecutionError::DivisionByZero(_)
            | ExecutionError::RemainderByZero(_)
            | ExecutionError::Overflow(..)
            | ExecutionError::IndexOutOfBounds(_)
            | ExecutionError::NoSuchKey(_)
            | ExecutionError::DuplicateKey(_)
            | ExecutionError::FunctionError { .. }
    )
}

#[test]
fn what_passes_the_check_fails_for_its_types_at_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let mut png = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(6, 4).write_to(&mut png, image::ImageFormat::Png).unwrap();
    let image = crate::testing::blob(dir.path(), png.get_ref());
    let (passed, evaluated, tried) = (Count::new(0), Count::new(0), 6000);
    let mut runner = TestRunner::new(Config { cases: tried, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&proptest::collection::vec(proptest::num::u8::ANY, 20..300), |bytes| {
        let mut draw = Draw(bytes.iter());
        let schema = draw.schema();
        let (source, wanted) = match draw.below(2) {
            0 => (draw.condition(&schema, 3), Wanted::Bool),
            _ => (draw.number(&schema, 3), Wanted::Number),
        };
        let Ok(expression) = Expression::parse("keep", &source) else { return Ok(()) };
        if expression.check(&schema, wanted).is_err() {
            return Ok(());
        }
        passed.set(passed.get() + 1);
        let columns: Vec<String> = schema.names().map(str::to_owned).collect();
        let bound = expression.bind(&columns, &schema);
        for nulls in [false, false, true, true] {
            let row = draw.row(&schema, &image, nulls);
            let may_be_null = nulls || source.contains("null");
            let scope = bound.scope(|variable| variable.of(&row));
            match Value::resolve(&bound.tree, &scope) {
                Ok(Value::Null) => assert!(may_be_null, "`{source}` is null at {row:?}"),
                Ok(Value::Bool(_)) if wanted == Wanted::Bool => evaluated.set(evaluated.get() + 1),
                Ok(Value::Int(_) | Value::Float(_)) if wanted == Wanted::Number => evaluated.set(evaluated.get() + 1),
                Ok(other) => panic!("`{source}` yields {other:?} at {row:?}"),
                Err(error) => {
                    let null = may_be_null && format!("{error:?}").to_lowercase().contains("null");
                    assert!(null || depends_on_data(&error), "`{source}`: {error:?} at {row:?}");
                }
            }
        }
        Ok(())
    });
    outcome.unwrap();
    assert!(passed.get() > tried / 10, "only {} of {tried} expressions passed the check", passed.get());
    assert!(evaluated.get() > passed.get(), "of {} only {} rows had a value", passed.get(), evaluated.get());
}
