//! Expressions over the columns of a row, in the Common Expression Language (<https://cel.dev>).
//!
//! A column is a variable; so is `id`. An image column is used by its facts: `image.width`, `image.height`,
//! `image.aspect` (width / height), `image.bytes`, `image.format` (`"png"`, `"jpeg"`, …) and `image.broken`; only
//! `broken` decodes the image. Besides the standard functions there is `words(text)`, the number of words. Integers and floats
//! may be mixed: `words(a) * 0.5`. A null makes an operation fail, except `==`, `!=`, and what `||`, `&&` do not need.

use std::collections::{BTreeMap, BTreeSet};

use cel::common::ast::IdedExpr;
use cel::{Context, Value};
use pipe_engine::cell::{Cell, ColumnType, Row, Schema};
use pipe_engine::expression::{self, collect_operands, depends_on_data, explain, functions, type_of};
use pipe_engine::problem::{Problem, Subject, nearest};

use crate::image_file;

/// What an expression must yield.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// True or false.
    Bool,
    /// An integer or a float.
    Number,
}

/// A parsed expression.
#[derive(Clone, Debug)]
pub struct Expression {
    parsed: expression::Expression,
    parameter: String,
    uses: BTreeMap<String, Use>,
}

/// How an expression uses a column.
#[derive(Clone, Debug, Default)]
struct Use {
    /// As it is.
    whole: bool,
    /// By fields: `image.width`.
    fields: BTreeSet<String>,
}

/// An expression that knows where its columns stand in a row.
pub struct Bound {
    tree: IdedExpr,
    variables: Vec<Variable>,
    functions: Context<'static, 'static>,
}

struct Variable {
    name: String,
    /// Position among the cells of a row; `None` for the id.
    at: Option<usize>,
    facts: BTreeSet<String>,
}

const FACTS: &[&str] = &["aspect", "broken", "bytes", "format", "height", "width"];

impl Expression {
    /// Parses the value of the parameter of that name.
    ///
    /// # Errors
    /// A problem at the parameter that says where the expression is wrong.
    pub fn parse(parameter: &str, source: &str) -> Result<Self, Problem> {
        let parsed = expression::Expression::parse(source).map_err(|message| {
            Problem::param(parameter, message)
                .help("write it in the Common Expression Language, such as `image.width >= 64 && words(caption) > 3`")
        })?;
        let mut uses: BTreeMap<String, Use> = BTreeMap::new();
        for path in parsed.paths() {
            let usage = uses.entry(path.variable.clone()).or_default();
            match path.fields.first() {
                Some(field) => drop(usage.fields.insert(field.clone())),
                None => usage.whole = true,
            }
        }
        Ok(Self { parsed, parameter: parameter.to_owned(), uses })
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn source(&self) -> &str {
        self.parsed.source()
    }

    /// The columns it reads, in order of name (`id` among them where it is used).
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.uses.keys().map(String::as_str)
    }

    /// Checks it against the columns there are: names, image facts, types of operands, type of the result.
    ///
    /// # Errors
    /// A problem at the parameter, with the nearest name where one is unknown.
    pub fn check(&self, schema: &Schema, wanted: Wanted) -> Result<(), Problem> {
        for (name, usage) in &self.uses {
            self.check_use(name, usage, schema)?;
        }
        let columns: Vec<String> = self.columns().filter(|name| *name != "id").map(str::to_owned).collect();
        let bound = self.bind(&columns, schema);
        let sample = bound.scope(|variable| variable.sample(schema));
        let mut parts = Vec::new();
        collect_operands(&bound.tree, &mut parts);
        for part in parts {
            match Value::resolve(part, &sample) {
                Err(error) if !depends_on_data(&error) => return Err(self.problem(&explain(&error))),
                Ok(value) if std::ptr::eq(part, &raw const bound.tree) => self.check_result(&value, wanted)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Readies it for rows with these columns.
    #[must_use]
    pub fn bind(&self, columns: &[String], schema: &Schema) -> Bound {
        let variable = |(name, usage): (&String, &Use)| Variable {
            name: name.clone(),
            at: columns.iter().position(|column| column == name).filter(|_| name != "id"),
            facts: match schema.get(name) {
                Some(ColumnType::Image) => usage.fields.clone(),
                _ => BTreeSet::new(),
            },
        };
        let variables = self.uses.iter().map(variable).collect();
        Bound { tree: self.parsed.tree().clone(), variables, functions: functions() }
    }

    fn check_use(&self, name: &str, usage: &Use, schema: &Schema) -> Result<(), Problem> {
        if name == "id" {
            return Ok(());
        }
        let Some(column_type) = schema.get(name) else {
            let subject = Subject::Param(self.parameter.clone());
            return Err(Problem::missing_column(subject, name, &[], schema));
        };
        if column_type != ColumnType::Image {
            return Ok(());
        }
        let facts = FACTS.iter().map(|fact| format!("`{name}.{fact}`")).collect::<Vec<_>>().join(", ");
        if usage.whole {
            return Err(self.problem(&format!("`{name}` is an image")).help(format!("use one of its facts: {facts}")));
        }
        match usage.fields.iter().find(|field| !FACTS.contains(&field.as_str())) {
            None => Ok(()),
            Some(field) => {
                let near = nearest(field, FACTS.iter().copied());
                let hint = near.map_or_else(String::new, |near| format!("did you mean `{name}.{near}`? "));
                let problem = self.problem(&format!("an image has no fact `{field}`"));
                Err(problem.help(format!("{hint}the facts are {facts}")))
            }
        }
    }

    fn check_result(&self, value: &Value, wanted: Wanted) -> Result<(), Problem> {
        match (wanted, value) {
            (Wanted::Bool, Value::Bool(_))
            | (Wanted::Number, Value::Int(_) | Value::UInt(_) | Value::Float(_))
            | (_, Value::Null) => Ok(()),
            (Wanted::Bool, other) => Err(self.problem(&format!("it yields {}, not true or false", type_of(other)))),
            (Wanted::Number, other) => Err(self.problem(&format!("it yields {}, not a number", type_of(other)))),
        }
    }

    fn problem(&self, message: &str) -> Problem {
        Problem::param(&self.parameter, format!("in `{}`: {message}", self.source()))
    }
}

impl Bound {
    /// The truth of a condition for a row.
    ///
    /// # Errors
    /// What could not be computed.
    pub fn truth(&self, row: &Row) -> Result<bool, String> {
        match self.value(row)? {
            Value::Bool(truth) => Ok(truth),
            other => Err(format!("it yields {}, not true or false", type_of(&other))),
        }
    }

    /// The number a row yields, finite.
    ///
    /// # Errors
    /// What could not be computed.
    #[expect(clippy::cast_precision_loss, reason = "expressions compute in f64, as documented")]
    pub fn number(&self, row: &Row) -> Result<f64, String> {
        let number = match self.value(row)? {
            Value::Int(value) => value as f64,
            Value::UInt(value) => value as f64,
            Value::Float(value) => value,
            other => return Err(format!("it yields {}, not a number", type_of(&other))),
        };
        if number.is_finite() { Ok(number) } else { Err(format!("it yields {number}")) }
    }

    fn value(&self, row: &Row) -> Result<Value, String> {
        let scope = self.scope(|variable| variable.of(row));
        Value::resolve(&self.tree, &scope).map_err(|error| explain(&error))
    }

    fn scope(&self, value: impl Fn(&Variable) -> Value) -> Context<'_, 'static> {
        let mut scope = self.functions.new_inner_scope();
        for variable in &self.variables {
            scope.add_variable_from_value(variable.name.clone(), value(variable));
        }
        scope
    }
}

impl Variable {
    fn of(&self, row: &Row) -> Value {
        let Some(at) = self.at else { return Value::from(row.id.as_str()) };
        match row.cells.get(at) {
            None | Some(Cell::Null | Cell::NewImage(_) | Cell::ImageFile(_)) => Value::Null,
            Some(Cell::Bool(value)) => Value::Bool(*value),
            Some(Cell::Int(value)) => Value::Int(*value),
            Some(Cell::Float(value)) => Value::Float(*value),
            Some(Cell::Text(value)) => Value::from(value.as_str()),
            Some(Cell::Texts(values)) => Value::from(values.clone()),
            Some(Cell::Ints(values)) => Value::from(values.clone()),
            Some(Cell::Image(blob)) => self.facts_of(blob),
        }
    }

    fn facts_of(&self, blob: &pipe_engine::Blob) -> Value {
        let wants = |fact: &str| self.facts.contains(fact);
        let mut facts = BTreeMap::new();
        if ["width", "height", "aspect", "format"].into_iter().any(wants) {
            let header = image_file::header(blob).ok();
            let number = |side: Option<u32>| side.map_or(Value::Null, |side| Value::Int(side.into()));
            let ratio = |h: image_file::Header| Value::Float(f64::from(h.width) / f64::from(h.height));
            facts.insert("width", number(header.map(|h| h.width)));
            facts.insert("height", number(header.map(|h| h.height)));
            facts.insert("aspect", header.map_or(Value::Null, ratio));
            facts.insert("format", header.map_or(Value::Null, |h| Value::from(image_file::format_name(h.format))));
        }
        if wants("broken") {
            let whole = image_file::bytes(blob).and_then(|bytes| image_file::decode(&bytes, image_file::MAX_PIXELS));
            facts.insert("broken", Value::Bool(whole.is_err()));
        }
        facts.insert("bytes", Value::Int(i64::try_from(blob.len).unwrap_or(i64::MAX)));
        Value::from(facts.into_iter().collect::<std::collections::HashMap<_, _>>())
    }

    fn sample(&self, schema: &Schema) -> Value {
        match schema.get(&self.name) {
            None | Some(ColumnType::Text) => Value::from("a"),
            Some(ColumnType::Bool) => Value::Bool(true),
            Some(ColumnType::Int) => Value::Int(1),
            Some(ColumnType::Float) => Value::Float(1.5),
            Some(ColumnType::Texts) => Value::from(vec!["a"]),
            Some(ColumnType::Ints) => Value::from(vec![1i64]),
            Some(ColumnType::Image) => {
                let whole = ["width", "height", "bytes"].map(|fact| (fact, Value::Int(1)));
                let rest =
                    [("aspect", Value::Float(1.5)), ("format", Value::from("png")), ("broken", Value::Bool(false))];
                Value::from(whole.into_iter().chain(rest).collect::<std::collections::HashMap<_, _>>())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        let columns = [
            ("caption", ColumnType::Text),
            ("score", ColumnType::Float),
            ("count", ColumnType::Int),
            ("references", ColumnType::Texts),
            ("image", ColumnType::Image),
        ];
        Schema(columns.map(|(name, column_type)| (name.to_owned(), column_type)).into())
    }

    fn row() -> Row {
        let cells = vec![
            Cell::Text("a red kite".into()),
            Cell::Float(0.5),
            Cell::Int(3),
            Cell::Texts(vec!["one two".into(), "three".into()]),
        ];
        Row { id: "a/1.png".into(), cells }
    }

    fn columns() -> Vec<String> {
        ["caption", "score", "count", "references"].map(str::to_owned).into()
    }

    fn truth(source: &str) -> Result<bool, String> {
        Expression::parse("keep", source).unwrap().bind(&columns(), &schema()).truth(&row())
    }

    fn problem(source: &str) -> String {
        let expression = Expression::parse("keep", source);
        let problem = expression.and_then(|e| e.check(&schema(), Wanted::Bool)).unwrap_err();
        format!("{} ({})", problem.message, problem.help.unwrap_or_default())
    }

    #[test]
    fn conditions_on_cells() {
        for source in [
            "words(caption) == 3 && size(caption) == 10",
            "count * score == 1.5 && count + 1 > 3.5 && score / 2 == 0.25 && 1 - score == 0.5",
            "id.startsWith('a/') && caption.matches('^a .*kite$')",
            "references.all(r, words(r) >= 1) && references.exists(r, r.contains('two'))",
            "'three' in references && references[0] != ''",
            "count / 2 == 1",
        ] {
            assert_eq!(truth(source), Ok(true), "{source}");
            Expression::parse("keep", source).unwrap().check(&schema(), Wanted::Bool).unwrap();
        }
    }

    #[test]
    fn columns_read_leave_out_bound_variables() {
        let expression = Expression::parse("keep", "references.all(r, r != caption) && image.width > 3").unwrap();
        assert_eq!(expression.columns().collect::<Vec<_>>(), ["caption", "image", "references"]);
    }

    #[test]
    fn mistakes_are_found_before_any_row() {
        let unknown = problem("captoin != ''");
        assert!(unknown.starts_with("there is no column `captoin`"), "{unknown}");
        assert!(
            unknown.contains("(did you mean `caption`? the input has columns id: text, caption: text,"),
            "{unknown}"
        );
        assert!(problem("image != null").contains("`image` is an image (use one of its facts: `image.aspect`"));
        assert!(problem("image.widht > 3").contains("an image has no fact `widht` (did you mean `image.width`?"));
        assert!(problem("count > 5 || caption > 3").contains("in `count > 5 || caption > 3`: `>` does not work on"));
        assert!(problem("caption + 1 == 2").contains("cannot add text and int"));
        assert!(problem("count").contains("it yields int, not true or false"));
        assert!(problem("wrods(caption) > 3").contains("there is no function `wrods`"));
        assert!(problem("caption.matches('[')").contains("matches"));
        assert!(problem("count >").starts_with("`count >` is not an expression at character"));
        assert!(problem("").starts_with("`` is not an expression"));
    }

    #[test]
    fn a_null_fails_unless_it_is_asked_about() {
        let mut row = row();
        row.cells[1] = Cell::Null;
        let truth = |source: &str| Expression::parse("keep", source).unwrap().bind(&columns(), &schema()).truth(&row);
        assert_eq!(truth("score == null"), Ok(true));
        assert_eq!(truth("score != null && score > 0.1"), Ok(false));
        assert_eq!(truth("score > 0.1").unwrap_err(), "`>` does not work on null and float");
    }

    #[test]
    fn numbers_are_finite() {
        let number = |source: &str| Expression::parse("by", source).unwrap().bind(&columns(), &schema()).number(&row());
        assert_eq!(number("count * 2"), Ok(6.0));
        assert_eq!(number("1.0 / 0.0"), Err("it yields inf".to_owned()));
        assert_eq!(number("count / 0"), Err("division by zero".to_owned()));
        assert_eq!(number("caption"), Err("it yields text, not a number".to_owned()));
    }

    #[test]
    fn hostile_sources_are_errors() {
        for source in ["(".repeat(4000), "[".repeat(4000), "a.".repeat(2000), "\u{0}".into(), "1+".repeat(4000) + "1"] {
            assert!(Expression::parse("keep", &source).is_err(), "{}…", &source[..1]);
        }
        for part in ["!", "-", "caption.", "count+", "true&&", "id+", "[", "(", "words("] {
            let source = part.repeat(expression::MAX_SOURCE / part.len() - 1) + "count";
            let checked = Expression::parse("keep", &source).and_then(|e| e.check(&schema(), Wanted::Bool));
            assert!(checked.is_err(), "{part}…");
        }
        let comparisons = "count==".repeat(500) + "count";
        Expression::parse("keep", &comparisons).unwrap().check(&schema(), Wanted::Bool).unwrap();
    }

    #[test]
    fn facts_of_images() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        image::RgbImage::new(6, 4).save(&path).unwrap();
        let evaluate = |bytes: Vec<u8>, source: &str| {
            std::fs::write(&path, &bytes).unwrap();
            let digest = pipe_engine::Digest::of(&bytes);
            let blob = pipe_engine::Blob { digest, path: path.clone().into(), offset: 0, len: bytes.len() as u64 };
            let row = Row { id: "a".into(), cells: vec![Cell::Image(blob)] };
            Expression::parse("keep", source).unwrap().bind(&["image".to_owned()], &schema()).truth(&row)
        };
        let whole = std::fs::read(&path).unwrap();
        let cut = whole[..whole.len() - 20].to_vec();
        let sizes = "image.width == 6 && image.height == 4 && image.aspect == 1.5 && image.format == 'png'";
        assert_eq!(evaluate(whole.clone(), sizes), Ok(true));
        assert_eq!(evaluate(whole.clone(), "image.bytes < 1000 && !image.broken"), Ok(true));
        assert_eq!(evaluate(cut, "image.broken && image.width == 6"), Ok(true));
        assert!(evaluate(b"no image".to_vec(), "image.width > 0").is_err());
        // A file of which only the head is read.
        let long = [whole, vec![0; 1 << 20]].concat();
        assert_eq!(evaluate(long, sizes), Ok(true));
    }

    proptest::proptest! {
        #[test]
        fn no_source_panics(source in "[a-z0-9 .,(){}\\[\\]<>=!&|?:+*/%'\"\\\\@#$~^é\u{0}-]{0,60}") {
            if let Ok(expression) = Expression::parse("keep", &source) {
                let _ = expression.check(&schema(), Wanted::Bool);
                let _ = expression.bind(&columns(), &schema()).truth(&row());
            }
        }

        #[test]
        fn no_arithmetic_panics(left: i64, right: i64, operator in "[-+*/%]") {
            let source = format!("({left} {operator} {right}) == ({right} {operator} {left}) || {left} < 0.5");
            let _ = truth(&source);
        }
    }
}
