//! Errors of expressions in the words of pipelines.

use cel::{ExecutionError, ParseErrors, Value};

use super::Mistake;
use super::tree::operator_of;

/// Words of other languages, and what to write for them.
const SLIPS: &[(&str, &str)] = &[
    ("not", "write `!` for not: `!(a > 1)`"),
    ("and", "write `&&` for and"),
    ("or", "write `||` for or"),
    ("is", "write `==` for is: `a == null`"),
    ("if", "write `condition ? yes : no`"),
];

/// What to do with an expression that nests too deep.
pub(super) const WORK_OUT_BEFORE: &str = "work out a part of it in a step before";

/// Brackets in each other that the parser reads: its own limit.
pub(super) const MOST_BRACKETS: usize = 95;

/// What an expression that does not parse lacks, and where.
pub(super) fn unparsed(source: &str, errors: &ParseErrors) -> Mistake {
    // What the parser says of its own limit has no place in the text.
    if errors.errors.iter().any(|error| error.msg.contains("Recursion limit")) {
        let message = format!("`{}` nests more than {MOST_BRACKETS} brackets in each other", in_brief(source));
        return Mistake { at: 0..source.len(), message, help: Some(WORK_OUT_BEFORE.to_owned()) };
    }
    let (line, column, what) = errors
        .errors
        .first()
        .map_or((1, 1, ""), |error| (error.pos.0, error.pos.1, error.msg.lines().next().unwrap_or_default()));
    let before = usize::try_from(line - 1).unwrap_or_default();
    let start: usize = source.split_inclusive('\n').take(before).map(str::len).sum();
    let characters = usize::try_from(column - 1).unwrap_or_default();
    let at = source[start..].char_indices().nth(characters).map_or(source.len(), |(at, _)| start + at);
    let at = at..source[at..].chars().next().map_or(at, |one| at + one.len_utf8());
    let help =
        slip(source).unwrap_or("write it in the Common Expression Language, such as `size > 64 && kind == \"map\"`");
    let message = format!("`{}` is not an expression: {}", in_brief(source), parser_words(what));
    Mistake { at, message, help: Some(help.to_owned()) }
}

/// A text on one line, and not longer than a line.
pub(super) fn in_brief(source: &str) -> String {
    const LONGEST: usize = 80;
    let line = source.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = if source.contains('\n') { line } else { source.to_owned() };
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// What the parser says, without its lists of tokens.
fn parser_words(what: &str) -> String {
    let what = what.trim_start_matches("Syntax error: ");
    let quoted = what.split_once('\'').and_then(|(_, rest)| rest.split_once('\'')).map(|(word, _)| word);
    match quoted {
        Some("<EOF>") => "it ends too early".to_owned(),
        Some(word) if what.starts_with("mismatched") || what.starts_with("extraneous") => {
            format!("`{word}` cannot stand here")
        }
        Some(word) if what.starts_with("token recognition") => format!("`{word}` means nothing here"),
        Some(word) if what.starts_with("no viable") => format!("no sense can be made of `{word}`"),
        _ => what.to_owned(),
    }
}

/// What was meant perhaps.
fn slip(source: &str) -> Option<&'static str> {
    let words: Vec<&str> =
        source.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| !w.is_empty()).collect();
    let word = SLIPS.iter().find(|(word, _)| words.contains(word)).map(|(_, help)| *help);
    let single = source.replace("==", "").replace("!=", "").replace("<=", "").replace(">=", "").contains('=');
    word.or(if single { Some("write `==` to compare") } else { None })
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
    let operator = |name: &str| operator_of(name).trim_start_matches('@').replace('_', "");
    let message = match error {
        ExecutionError::NoSuchOverload(overload) => {
            let types: Vec<&str> = overload.argument_types().iter().map(|name| type_word(name)).collect();
            if types.len() == 2 && types.iter().all(|name| ["int", "float"].contains(name)) {
                return format!(
                    "`{}` was given what is not a number (such as 0.0 / 0.0)",
                    operator(overload.function())
                );
            }
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
