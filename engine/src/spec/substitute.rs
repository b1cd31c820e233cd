//! `${name}` in the values of a step.

use serde_json::{Map, Value};

use crate::problem::nearest;

/// Replaces `${name}` in a text. A text that is nothing but one reference takes the parameter's own type.
///
/// # Errors
/// What is wrong, and what was meant perhaps.
pub(super) fn substitute(text: &str, params: &Map<String, Value>) -> Result<Value, (String, Option<String>)> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, reference) = rest.split_at(start);
        let Some(end) = reference.find('}') else {
            return Err((format!("`{reference}` lacks a closing brace"), Some("write ${name}".to_owned())));
        };
        let name = &reference[2..end];
        let value = params.get(name).ok_or_else(|| unknown(name, params))?;
        if before.is_empty() && out.is_empty() && end + 1 == reference.len() {
            return Ok(value.clone());
        }
        out.push_str(before);
        match value {
            Value::String(text) => out.push_str(text),
            Value::Number(_) | Value::Bool(_) => out.push_str(&value.to_string()),
            _ => return Err((format!("`${{{name}}}` is a {} and cannot stand inside a text", type_name(value)), None)),
        }
        rest = &reference[end + 1..];
    }
    out.push_str(rest);
    Ok(Value::String(out))
}

fn unknown(name: &str, params: &Map<String, Value>) -> (String, Option<String>) {
    let names: Vec<&str> = params.keys().map(String::as_str).collect();
    let help = match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean `${{{near}}}`?"),
        None if names.is_empty() => "this pipeline has no [params]".to_owned(),
        None => format!("[params] has {}", names.join(", ")),
    };
    (format!("there is no parameter `{name}`"), Some(help))
}

/// What TOML calls a value.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn params() -> Map<String, Value> {
        let Value::Object(map) = json!({ "size": 64, "name": "x", "list": [1] }) else { unreachable!() };
        map
    }

    #[test]
    fn types_are_kept_where_a_reference_stands_alone() {
        assert_eq!(substitute("${size}", &params()), Ok(json!(64)));
        assert_eq!(substitute("${list}", &params()), Ok(json!([1])));
        assert_eq!(substitute("a-${name}-${size}", &params()), Ok(json!("a-x-64")));
        assert_eq!(substitute("no $ {reference}", &params()), Ok(json!("no $ {reference}")));
    }

    #[test]
    fn mistakes_name_the_nearest() {
        let (message, help) = substitute("${sise}", &params()).unwrap_err();
        assert_eq!(
            (message.as_str(), help.as_deref()),
            ("there is no parameter `sise`", Some("did you mean `${size}`?"))
        );
        assert!(substitute("a${list}", &params()).is_err());
        assert!(substitute("${size", &params()).is_err());
    }
}
