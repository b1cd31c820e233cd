//! `${name}` in the values of a step.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::matrix::Values;
use crate::problem::nearest;

/// What `${name}` may name: the variables of a matrix, then the parameters of the pipeline.
pub(super) struct Scope<'a> {
    params: &'a Map<String, Value>,
    variables: &'a Values,
    used: RefCell<BTreeSet<String>>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(params: &'a Map<String, Value>, variables: &'a Values) -> Self {
        Self { params, variables, used: RefCell::default() }
    }

    /// The value of that name, which counts as used from now on.
    fn get(&self, name: &str) -> Option<&'a Value> {
        let variable = self.variables.iter().find(|(variable, _)| variable == name);
        self.mark(name);
        variable.map(|(_, value)| value).or_else(|| self.params.get(name))
    }

    /// Says that a name is used.
    pub(super) fn mark(&self, name: &str) {
        self.used.borrow_mut().insert(name.to_owned());
    }

    /// The names that were used.
    pub(super) fn into_used(self) -> BTreeSet<String> {
        self.used.into_inner()
    }

    /// Every name and its value.
    pub(super) fn values(&self) -> Map<String, Value> {
        let mut values = self.params.clone();
        values.extend(self.variables.iter().cloned());
        values
    }
}

/// Replaces `${name}` in a text. A text that is nothing but one reference takes the parameter's own type.
///
/// # Errors
/// What is wrong, and what was meant perhaps.
pub(super) fn substitute(text: &str, scope: &Scope<'_>) -> Result<Value, (String, Option<String>)> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        let Some(end) = reference.find('}') else {
            return Err((format!("`{reference}` lacks a closing brace"), Some("write ${name}".to_owned())));
        };
        let name = &reference[2..end];
        let value = scope.get(name).ok_or_else(|| unknown(name, scope))?;
        if before.is_empty() && out.is_empty() && end + 1 == reference.len() {
            return Ok(value.clone());
        }
        out.push_str(before);
        match value {
            Value::String(text) => out.push_str(text),
            Value::Number(_) | Value::Bool(_) => out.push_str(&value.to_string()),
            _ => {
                let message = format!("`${{{name}}}` is a {} and cannot stand inside a text", type_name(value));
                return Err((message, Some("numbers, texts and booleans can".to_owned())));
            }
        }
        rest = &reference[end + 1..];
    }
    out.push_str(rest);
    Ok(Value::String(out))
}

fn unknown(name: &str, scope: &Scope<'_>) -> (String, Option<String>) {
    let variables = scope.variables.iter().map(|(name, _)| name.as_str());
    let names: Vec<&str> = variables.chain(scope.params.keys().map(String::as_str)).collect();
    let help = match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean `${{{near}}}`?"),
        None if names.is_empty() => "this pipeline has no [params]".to_owned(),
        None => format!("there are {}", names.join(", ")),
    };
    (format!("there is no parameter `{name}`"), Some(help))
}

/// What the type of a value is called.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "integer",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn replaced(text: &str) -> Result<Value, (String, Option<String>)> {
        substitute(text, &Scope::new(&params(), &vec![("r".to_owned(), json!(8)), ("name".to_owned(), json!("y"))]))
    }

    fn params() -> Map<String, Value> {
        let Value::Object(map) = json!({ "size": 64, "name": "x", "list": [1] }) else { unreachable!() };
        map
    }

    #[test]
    fn types_are_kept_where_a_reference_stands_alone() {
        assert_eq!(replaced("${size}"), Ok(json!(64)));
        assert_eq!(replaced("${list}"), Ok(json!([1])));
        assert_eq!(replaced("a-${name}-${size}-${r}"), Ok(json!("a-y-64-8")));
        assert_eq!(replaced("no $ {reference}"), Ok(json!("no $ {reference}")));
    }

    #[test]
    fn mistakes_name_the_nearest() {
        let (message, help) = replaced("${sise}").unwrap_err();
        assert_eq!(
            (message.as_str(), help.as_deref()),
            ("there is no parameter `sise`", Some("did you mean `${size}`?"))
        );
        assert_eq!(replaced("a${list}").unwrap_err().0, "`${list}` is a list and cannot stand inside a text");
        assert!(replaced("${size").is_err());
    }
}
