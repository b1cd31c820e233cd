//! Expressions in the Common Expression Language (<https://cel.dev>), as pipelines write them. Stages evaluate them over rows, the engine
//! over what is known of a step.
//!
//! Besides the standard functions there is `words(text)`, the number of words. Integers and floats may be mixed: `words(a) * 0.5`.

mod check;
mod errors;
mod functions;
mod hints;
mod source;
mod tree;
mod types;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use cel::Value;
use cel::common::ast::IdedExpr;
use serde_json::{Map, Value as Json};

use crate::problem::nearest;

pub use check::Variables;
pub use errors::{explain, type_of};
pub use functions::functions;
pub use tree::Path;
pub use types::Type;

use check::Checker;
use functions::STANDARD;
use source::Source;

/// Longest expression read: what it nests must fit the stack of a thread.
pub const MAX_SOURCE: usize = 4096;

/// Names listed where none is near.
const MOST_NAMES: usize = 12;

/// A parsed expression.
#[derive(Clone, Debug)]
pub struct Expression {
    source: Arc<Source>,
    tree: IdedExpr,
    paths: Vec<Path>,
}

/// What is wrong with an expression, and what was meant perhaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub message: String,
    /// The nearest name, or the names there are.
    pub help: Option<String>,
}

/// What is wrong with an expression before any value is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where, in bytes from its beginning.
    pub at: Range<usize>,
    /// What was expected and what was found.
    pub message: String,
    /// What to write.
    pub help: Option<String>,
}

/// What an expression must yield.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// True or false.
    Bool,
    /// An integer or a float.
    Number,
}

impl Expression {
    /// Parses an expression.
    ///
    /// # Errors
    /// Where it is wrong.
    pub fn parse(source: &str) -> Result<Self, Mistake> {
        if source.len() > MAX_SOURCE {
            let message = format!("an expression of {} bytes; at most {MAX_SOURCE} are read", source.len());
            return Err(Mistake { at: 0..source.len(), message, help: None });
        }
        let parsed = STANDARD.parser().parse_with_source_info(source);
        let (mut tree, info) = parsed.map_err(|errors| errors::unparsed(source, &errors))?;
        let mut paths = Vec::new();
        tree::collect_paths(&tree, &mut Vec::new(), &mut paths);
        tree::mix_numbers(&mut tree);
        Ok(Self { source: Arc::new(Source::new(source, info)), tree, paths })
    }

    /// The text it was parsed from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source.text
    }

    /// The text on one line, as messages quote it.
    #[must_use]
    pub fn in_brief(&self) -> String {
        errors::in_brief(self.source())
    }

    /// Checks names, types of operands, arguments of functions and the type of the result. What passes fails for its types at no
    /// row, but for nulls.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn check(&self, variables: Variables<'_>, wanted: Wanted) -> Result<(), Mistake> {
        Checker { source: &self.source, variables, bound: Vec::new(), depth: 0 }.whole(&self.tree, wanted)
    }

    /// Checks a condition on variables whose values are there; `types` are of those that have values of other types elsewhere.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn check_values(&self, variables: &Map<String, Json>, types: &BTreeMap<String, Type>) -> Result<(), Mistake> {
        let known = |name: &str| {
            let found = types.get(name).cloned().or_else(|| variables.get(name).map(Type::of_json));
            found.ok_or_else(|| unknown("", name, variables))
        };
        self.check(&known, Wanted::Bool)
    }

    /// Its tree, whose arithmetic mixes integers and floats; [`functions()`] has what it calls.
    #[must_use]
    pub const fn tree(&self) -> &IdedExpr {
        &self.tree
    }

    /// The variables it uses, and the fields of them.
    #[must_use]
    pub fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// Whether it is true of these variables.
    ///
    /// # Errors
    /// A name that is not there, with the nearest; or what could not be computed.
    pub fn truth(&self, variables: &Map<String, Json>) -> Result<bool, Fault> {
        self.paths.iter().try_for_each(|path| path.check(variables))?;
        let mut context = functions();
        for path in &self.paths {
            let value = variables.get(&path.variable).map_or(Value::Null, value_of);
            context.add_variable_from_value(path.variable.clone(), value);
        }
        let fault = |message: String| Fault { message, help: None };
        match Value::resolve(&self.tree, &context).map_err(|error| fault(explain(&error)))? {
            Value::Bool(truth) => Ok(truth),
            other => Err(fault(format!("it yields {}, not true or false", type_of(&other)))),
        }
    }

    /// The numbers, texts and truths it looks at, by path, in the order of the expression.
    #[must_use]
    pub fn values(&self, variables: &Map<String, Json>) -> Vec<(String, Json)> {
        let mut values: Vec<(String, Json)> = Vec::new();
        for path in &self.paths {
            let found = path.find(variables).filter(|value| !value.is_object() && !value.is_array());
            if let Some(value) = found
                && !values.iter().any(|(name, _)| *name == path.to_string())
            {
                values.push((path.to_string(), value.clone()));
            }
        }
        values
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.variable)?;
        self.fields.iter().try_for_each(|field| write!(f, ".{field}"))
    }
}

impl Path {
    fn find<'a>(&self, variables: &'a Map<String, Json>) -> Option<&'a Json> {
        self.fields.iter().try_fold(variables.get(&self.variable)?, |value, field| value.get(field))
    }

    /// Checks that there is such a value.
    fn check(&self, variables: &Map<String, Json>) -> Result<(), Fault> {
        let mut at = variables.get(&self.variable).ok_or_else(|| unknown("", &self.variable, variables))?;
        let mut before = self.variable.clone();
        for (place, field) in self.fields.iter().enumerate() {
            let Json::Object(fields) = at else {
                return Err(Fault { message: format!("`{before}` is {at} and has no `{field}`"), help: None });
            };
            at = match fields.get(field) {
                Some(value) => value,
                None if self.asked && place + 1 == self.fields.len() => return Ok(()),
                None => return Err(unknown(&format!("{before}."), field, fields)),
            };
            before = format!("{before}.{field}");
        }
        Ok(())
    }
}

fn unknown(before: &str, name: &str, known: &Map<String, Json>) -> Fault {
    let help = match nearest(name, known.keys().map(String::as_str)) {
        Some(near) => format!("did you mean `{before}{near}`?"),
        None => {
            let more = if known.len() > MOST_NAMES { ", …" } else { "" };
            let names: Vec<&str> = known.keys().take(MOST_NAMES).map(String::as_str).collect();
            format!("there are {}{more}", names.join(", "))
        }
    };
    Fault { message: format!("there is no `{before}{name}`"), help: Some(help).filter(|_| !known.is_empty()) }
}

/// A JSON value as expressions see it: every integer that fits is an `int`.
fn value_of(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::Int(value),
            (None, Some(value)) => Value::UInt(value),
            _ => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(items.iter().map(value_of).collect::<Vec<_>>()),
        Json::Object(fields) => {
            Value::from(fields.iter().map(|(name, value)| (name.clone(), value_of(value))).collect::<HashMap<_, _>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn variables() -> Map<String, Json> {
        let Json::Object(map) = json!({ "size": 64, "tuned": { "bleu": { "value": 0.5 }, "n": 3 }, "on": true }) else {
            unreachable!()
        };
        map
    }

    fn truth(source: &str) -> Result<bool, String> {
        let fault = |fault: Fault| format!("{} | {}", fault.message, fault.help.unwrap_or_default());
        Expression::parse(source).unwrap().truth(&variables()).map_err(fault)
    }

    #[test]
    fn numbers_of_all_kinds_mix() {
        for source in ["size > 63.5 && tuned.n * 0.5 == 1.5", "tuned.bleu.value >= 0", "on", "size / 2 == 32"] {
            assert_eq!(truth(source), Ok(true), "{source}");
        }
        assert_eq!(truth("has(tuned.blue) || [1, 2].all(x, x > 1)"), Ok(false));
    }

    #[test]
    fn nesting_has_a_limit_that_is_told() {
        let nested = |deep: usize| Expression::parse(&format!("{}on{}", "(".repeat(deep), ")".repeat(deep)));
        assert!(nested(errors::MOST_BRACKETS).is_ok());
        for deep in [errors::MOST_BRACKETS + 1, 300, 2000] {
            let mistake = nested(deep).unwrap_err();
            assert!(mistake.message.ends_with("nests more than 95 brackets in each other"), "{}", mistake.message);
            assert_eq!((mistake.at, mistake.help.is_some()), (0..2 * deep + 2, true));
        }
    }

    #[test]
    fn unknown_names_are_found_even_where_they_are_not_needed() {
        assert_eq!(truth("on || sise > 1").unwrap_err(), "there is no `sise` | did you mean `size`?");
        assert_eq!(truth("tuned.blue.value > 1").unwrap_err(), "there is no `tuned.blue` | did you mean `tuned.bleu`?");
        assert_eq!(truth("tuned.zzzzzz > 1").unwrap_err(), "there is no `tuned.zzzzzz` | there are bleu, n");
        assert_eq!(truth("size.x > 1").unwrap_err(), "`size` is 64 and has no `x` | ");
        assert_eq!(truth("size").unwrap_err(), "it yields int, not true or false | ");
    }

    #[test]
    fn what_was_looked_at_is_shown_once() {
        let expression = Expression::parse("tuned.n > 5 && tuned.n < size && tuned.bleu != null").unwrap();
        let values = expression.values(&variables());
        assert_eq!(values, [("tuned.n".to_owned(), json!(3)), ("size".to_owned(), json!(64))]);
    }
}
