//! Expressions over the columns of a row, in the Common Expression Language (<https://cel.dev>).
//!
//! A column is a variable; so is `id`. An image column is used by its facts: `image.width`, `image.height`,
//! `image.aspect` (width / height), `image.bytes`, `image.format` (`"png"`, `"jpeg"`, …) and `image.broken`; only
//! `broken` decodes the image. Besides the standard functions there is `words(text)`, the number of words. Integers and floats
//! may be mixed: `words(a) * 0.5`. A null makes an operation fail, except `==`, `!=`, and what `||`, `&&` do not need.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use cel::common::ast::IdedExpr;
use cel::{Context, Value};
use pipe_engine::cell::{Cell, ColumnType, Row, Schema};
use pipe_engine::expression::{self, Fault, Type, explain, functions, type_of};
use pipe_engine::problem::{Detail, Problem, Subject};

use crate::image_file;

pub use pipe_engine::expression::Wanted;

/// A parsed expression.
#[derive(Clone, Debug)]
pub struct Expression {
    parsed: expression::Expression,
    parameter: String,
    /// The columns it uses, each with the fields it uses of it: `image.width`.
    uses: BTreeMap<String, BTreeSet<String>>,
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

const FACTS: &[(&str, Type)] = &[
    ("aspect", Type::Float),
    ("broken", Type::Bool),
    ("bytes", Type::Int),
    ("format", Type::Text),
    ("height", Type::Int),
    ("width", Type::Int),
];

impl Expression {
    /// Parses the value of the parameter of that name.
    ///
    /// # Errors
    /// A problem at the parameter that says where the expression is wrong.
    pub fn parse(parameter: &str, source: &str) -> Result<Self, Problem> {
        let parsed =
            expression::Expression::parse(source).map_err(|mistake| Problem::expression(parameter, source, mistake))?;
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for path in parsed.paths() {
            uses.entry(path.variable.clone()).or_default().extend(path.fields.first().cloned());
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
    /// A problem at the place in the parameter, with the nearest name where one is unknown.
    pub fn check(&self, schema: &Schema, wanted: Wanted) -> Result<(), Problem> {
        let missing = RefCell::new(None);
        let variable = |name: &str| match schema.get(name) {
            _ if name == "id" => Ok(Type::Text),
            Some(column) => Ok(Type::of_column(column, FACTS)),
            None => {
                let problem = Problem::missing_column(Subject::Param(self.parameter.clone()), name, &[], schema);
                missing.replace(problem.missing().map(str::to_owned));
                Err(Fault { message: problem.message, help: problem.help })
            }
        };
        self.parsed.check(&variable, wanted).map_err(|mistake| {
            let message = format!("in `{}`: {}", self.parsed.in_brief(), mistake.message);
            let within = Some((self.source().to_owned(), mistake.at));
            let detail = Some(Box::new(Detail { within, missing: missing.take(), ..Detail::default() }));
            Problem { detail, help: mistake.help, ..Problem::param(&self.parameter, message) }
        })
    }

    /// Readies it for rows with these columns.
    #[must_use]
    pub fn bind(&self, columns: &[String], schema: &Schema) -> Bound {
        let variable = |(name, fields): (&String, &BTreeSet<String>)| Variable {
            name: name.clone(),
            at: columns.iter().position(|column| column == name).filter(|_| name != "id"),
            facts: match schema.get(name) {
                Some(ColumnType::Image) => fields.clone(),
                _ => BTreeSet::new(),
            },
        };
        let variables = self.uses.iter().map(variable).collect();
        Bound { tree: self.parsed.tree().clone(), variables, functions: functions() }
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
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
