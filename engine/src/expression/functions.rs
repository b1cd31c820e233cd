//! The functions that expressions call: what each takes and gives, and those that the standard library does not have.

use std::sync::{Arc, LazyLock};

use cel::{Context, Env, Value};

use super::types::Type;

/// Functions of the standard library, and its macros.
pub(super) static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// What a function takes at one place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Takes {
    Text,
    TextOrList,
    NumberOrText,
    BoolOrText,
    Plain,
}

/// A function.
pub(super) struct Signature {
    pub name: &'static str,
    /// Whether it is written `name(a, b)`.
    pub plain: bool,
    /// Whether it is written `a.name(b)`.
    pub method: bool,
    pub takes: &'static [Takes],
    pub gives: Type,
}

/// Every function there is.
pub(super) const FUNCTIONS: &[Signature] = &[
    Signature { name: "size", plain: true, method: true, takes: &[Takes::TextOrList], gives: Type::Int },
    Signature { name: "words", plain: true, method: false, takes: &[Takes::Text], gives: Type::Int },
    Signature { name: "contains", plain: false, method: true, takes: &[Takes::Text, Takes::Text], gives: Type::Bool },
    Signature { name: "startsWith", plain: false, method: true, takes: &[Takes::Text, Takes::Text], gives: Type::Bool },
    Signature { name: "endsWith", plain: false, method: true, takes: &[Takes::Text, Takes::Text], gives: Type::Bool },
    Signature { name: "matches", plain: true, method: true, takes: &[Takes::Text, Takes::Text], gives: Type::Bool },
    Signature { name: "int", plain: true, method: false, takes: &[Takes::NumberOrText], gives: Type::Int },
    Signature { name: "double", plain: true, method: false, takes: &[Takes::NumberOrText], gives: Type::Float },
    Signature { name: "string", plain: true, method: false, takes: &[Takes::Plain], gives: Type::Text },
    Signature { name: "bool", plain: true, method: false, takes: &[Takes::BoolOrText], gives: Type::Bool },
];

/// How what the parser itself expands is written.
pub(super) const MACROS: &[(&str, &str)] = &[
    ("all", "l.all(x, CONDITION)"),
    ("exists", "l.exists(x, CONDITION)"),
    ("exists_one", "l.exists_one(x, CONDITION)"),
    ("filter", "l.filter(x, CONDITION)"),
    ("map", "l.map(x, VALUE)"),
    ("has", "has(table.name)"),
];

/// Names of other languages for what there is.
pub(super) const ELSEWHERE: &[(&str, &str)] = &[
    ("len", "size"),
    ("length", "size"),
    ("count", "size"),
    ("float", "double"),
    ("str", "string"),
    ("includes", "contains"),
    ("regex", "matches"),
    ("any", "exists"),
];

impl Takes {
    pub(super) const fn accepts(self, given: &Type) -> bool {
        match (self, given) {
            (_, Type::Any) | (Self::TextOrList, Type::List(_) | Type::Map(..) | Type::Table(_)) => true,
            (Self::TextOrList | Self::Text, _) => given.is_text(),
            (Self::NumberOrText, _) => given.is_number() || given.is_text(),
            (Self::BoolOrText, _) => given.is_bool() || given.is_text(),
            (Self::Plain, _) => given.is_number() || given.is_text() || given.is_bool(),
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::TextOrList => "text or a list",
            Self::NumberOrText => "a number or text",
            Self::BoolOrText => "bool or text",
            Self::Plain => "bool, a number or text",
        }
    }
}

impl Signature {
    /// How it is written.
    pub(super) fn usage(&self) -> String {
        let (this, others) = if self.plain { ("", self.takes) } else { ("t.", &self.takes[1..]) };
        let names: Vec<&str> = others.iter().zip(["x", "y"]).map(|(_, name)| name).collect();
        format!("{this}{}({})", self.name, names.join(", "))
    }
}

/// The functions, ready to be called.
#[must_use]
pub fn functions() -> Context<'static, 'static> {
    fn mixed(left: Value, right: Value) -> (Value, Value) {
        #[expect(clippy::cast_precision_loss, reason = "expressions compute in f64, as documented")]
        match (left, right) {
            (Value::Int(left), right @ Value::Float(_)) => (Value::Float(left as f64), right),
            (left @ Value::Float(_), Value::Int(right)) => (left, Value::Float(right as f64)),
            other => other,
        }
    }
    let mut context = Context::with_env(Arc::clone(&STANDARD));
    let unique = "no standard function has this name";
    let words = |text: Arc<String>| i64::try_from(text.split_whitespace().count()).unwrap_or(i64::MAX);
    context.add_function("words", words).expect(unique);
    context
        .add_function("@add", |l: Value, r: Value| {
            let (l, r) = mixed(l, r);
            l + r
        })
        .expect(unique);
    context
        .add_function("@subtract", |l: Value, r: Value| {
            let (l, r) = mixed(l, r);
            l - r
        })
        .expect(unique);
    context
        .add_function("@multiply", |l: Value, r: Value| {
            let (l, r) = mixed(l, r);
            l * r
        })
        .expect(unique);
    context
        .add_function("@divide", |l: Value, r: Value| {
            let (l, r) = mixed(l, r);
            l / r
        })
        .expect(unique);
    context
}
