//! Errors of expressions in the words of pipelines.

use cel::{ExecutionError, Value};

use super::tree::ARITHMETIC;

/// Whether other cells of the same types might not give this error.
pub fn depends_on_data(error: &ExecutionError) -> bool {
    match error {
        ExecutionError::DivisionByZero(_)
        | ExecutionError::RemainderByZero(_)
        | ExecutionError::Overflow(..)
        | ExecutionError::IndexOutOfBounds(_)
        | ExecutionError::NoSuchKey(_)
        | ExecutionError::DuplicateKey(_) => true,
        // A text that is no number, against a pattern that is no regular expression.
        ExecutionError::FunctionError { function, .. } => function != "matches",
        _ => false,
    }
}

/// The word of pipelines for a type of the language.
fn type_word(name: &str) -> &str {
    match name {
        "null_type" => "null",
        "double" => "float",
        "string" => "text",
        other => other,
    }
}

/// The word of pipelines for the type of a value.
pub fn type_of(value: &Value) -> String {
    type_word(&value.type_of().to_string()).to_owned()
}

/// What went wrong, in a line.
pub fn explain(error: &ExecutionError) -> String {
    let operator = |name: &str| match ARITHMETIC.iter().find(|(_, mixing)| *mixing == name) {
        Some((operator, _)) => operator.replace('_', ""),
        None => name.trim_start_matches('@').replace('_', ""),
    };
    let message = match error {
        ExecutionError::NoSuchOverload(overload) => {
            let types: Vec<&str> = overload.argument_types().iter().map(|name| type_word(name)).collect();
            let types = types.join(" and ");
            format!("`{}` does not work on {types}", operator(overload.function()))
        }
        ExecutionError::UnsupportedBinaryOperator(name, left, right) => {
            format!("cannot {name} {} and {}", type_of(left), type_of(right))
        }
        ExecutionError::ValuesNotComparable(left, right) => {
            format!("cannot compare {} and {}", type_of(left), type_of(right))
        }
        ExecutionError::UndeclaredReference(name) => format!("there is no function `{name}`"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by zero".to_owned(),
        other => other.to_string(),
    };
    match message.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message,
    }
}
