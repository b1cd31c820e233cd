//! What to write instead, where the types of an expression do not fit.

use std::collections::BTreeMap;

use cel::common::ast::{Expr, IdedExpr, LiteralValue};

use super::types::Type;
use crate::problem::nearest;

/// How a part becomes true or false.
pub(super) fn condition(part: &str, found: &Type) -> Option<String> {
    match found {
        Type::Int | Type::Float | Type::Number => Some(format!("compare it: `{part} > 0`")),
        Type::Text => Some(format!("compare it: `{part} != \"\"`")),
        Type::List(_) | Type::Map(..) => Some(format!("compare its size: `size({part}) > 0`")),
        _ => None,
    }
}

/// How a part becomes a number.
pub(super) fn measured(part: &str, found: &Type) -> Option<String> {
    match found {
        Type::Text => Some(format!(
            "`size({part})` counts its characters, `words({part})` its words, `double({part})` reads it as a number"
        )),
        Type::List(_) | Type::Map(..) => Some(format!("`size({part})` is a number")),
        Type::Bool => Some(format!("write `({part} ? 1 : 0)`")),
        _ => None,
    }
}

/// What a function could take in place of this.
pub(super) fn argument(function: &str, part: &str, found: &Type) -> Option<String> {
    match (function, found) {
        ("words", Type::List(_)) => Some(format!("name one of its texts: `{part}[0]`")),
        (
            "words" | "contains" | "startsWith" | "endsWith" | "matches",
            Type::Int | Type::Float | Type::Number | Type::Bool,
        ) => Some(format!("write `string({part})`")),
        _ => None,
    }
}

/// What to write for something to be appended to a text or a list.
pub(super) fn appended(part: &str, found: &Type, to: &Type) -> Option<String> {
    match to {
        Type::Text if found.is_number() || found.is_bool() => Some(format!("write `string({part})`")),
        Type::List(item) if item.join(found).is_some() => Some(format!("write `[{part}]`")),
        _ => None,
    }
}

/// A literal of the other side's type: 3 for "3".
pub(super) fn literal(left: (&IdedExpr, &Type), right: (&IdedExpr, &Type)) -> Option<String> {
    [(left, right.1), (right, left.1)].into_iter().find_map(|((side, _), other)| {
        let Expr::Literal(literal) = &side.expr else { return None };
        match literal {
            LiteralValue::String(text) => {
                let text = text.inner();
                let is_it = (other.is_number() && text.parse::<f64>().is_ok_and(f64::is_finite))
                    || (*other == Type::Bool && ["true", "false"].contains(&text));
                is_it.then(|| format!("compare with {text}, not \"{text}\""))
            }
            LiteralValue::Int(number) if *other == Type::Text => {
                Some(format!("compare with \"{0}\", not {0}", number.inner()))
            }
            LiteralValue::Double(number) if *other == Type::Text => {
                Some(format!("compare with \"{0}\", not {0}", number.inner()))
            }
            LiteralValue::Boolean(truth) if *other == Type::Text => {
                Some(format!("compare with \"{0}\", not {0}", truth.inner()))
            }
            LiteralValue::Int(number) if *other == Type::Bool && [0, 1].contains(number.inner()) => {
                Some(format!("compare with {}, not {}", *number.inner() == 1, number.inner()))
            }
            _ => None,
        }
    })
}

/// How one of two sides takes the type of the other.
pub(super) fn conversion(left: (&str, &Type), right: (&str, &Type)) -> Option<String> {
    let measured = |(part, found): (&str, &Type), (_, other): (&str, &Type)| {
        let text_to_number = *found == Type::Text && other.is_number() && *other != Type::Any;
        let list = matches!(found, Type::List(_)) && other.is_number();
        if part.is_empty() || !(text_to_number || list) { None } else { self::measured(part, found) }
    };
    measured(left, right).or_else(|| measured(right, left))
}

/// A field that is not there: what is wrong, and the nearest.
pub(super) fn field(whole: &str, found: &Type, field: &str, fields: &BTreeMap<String, Type>) -> (String, String) {
    let near = nearest(field, fields.keys().map(String::as_str));
    let near = near.map(|near| format!("did you mean `{whole}.{near}`?"));
    if matches!(found, Type::Image(_)) {
        let near = near.map_or_else(String::new, |near| format!("{near} "));
        let message = format!("an image has no fact `{field}`");
        return (message, format!("{near}the facts are {}", facts_of(whole, fields)));
    }
    let names = || format!("there are {}", fields.keys().map(String::as_str).collect::<Vec<_>>().join(", "));
    (format!("there is no `{whole}.{field}`"), near.unwrap_or_else(names))
}

/// What an image is used by.
pub(super) fn facts(image: &str, facts: &BTreeMap<String, Type>) -> String {
    format!("use one of its facts: {}", facts_of(image, facts))
}

fn facts_of(image: &str, facts: &BTreeMap<String, Type>) -> String {
    facts.keys().map(|fact| format!("`{image}.{fact}`")).collect::<Vec<_>>().join(", ")
}
