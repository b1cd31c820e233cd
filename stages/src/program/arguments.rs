//! The arguments of a program as a pipeline gives them: texts, and numbers and truths, which stand for their text. So a value of a matrix
//! is an argument by itself: `["--lr", "${lr}"]`.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Reads the arguments, the program first.
///
/// # Errors
/// When one is a list or a table.
pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let text = |value: Value| match value {
        Value::String(text) => Ok(text),
        // As `${name}` puts it into a longer text.
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        other => Err(D::Error::custom(format!("{other} is no argument"))),
    };
    Vec::<Value>::deserialize(deserializer)?.into_iter().map(text).collect()
}

/// Their schema.
pub fn schema(_: &mut SchemaGenerator) -> Schema {
    let argument = json_schema!({ "type": ["string", "number", "boolean"] });
    json_schema!({ "type": "array", "minItems": 1, "items": argument })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_the_text_of_their_value() {
        let given = json!(["x.py", 8, 1.0, 0.0001, -3, true, "8"]);
        assert_eq!(read(given).unwrap(), ["x.py", "8", "1.0", "0.0001", "-3", "true", "8"]);
        assert!(read(json!(["x", ["y"]])).is_err());
    }
}
