//! TOML text to [`Spec`].

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::places::Places;
use super::steps::Steps;
use super::substitute::{Scope, substitute, type_name};
use super::{Diagnostic, Overrides, Span, Spec, SpecError, SpecText};
use crate::problem::nearest;

const TOP_LEVEL: [&str; 5] = ["name", "description", "params", "profiles", "steps"];

/// Tables nested deeper than this are refused rather than walked.
const MAX_DEPTH: usize = 32;

/// Gathers every complaint instead of stopping at the first.
pub(super) struct Parser<'a> {
    pub(super) text: &'a SpecText,
    wrong: Vec<Diagnostic>,
}

pub(super) fn parse(text: SpecText, overrides: &Overrides) -> Result<Spec, SpecError> {
    let mut parser = Parser { text: &text, wrong: Vec::new() };
    let source = text.text.clone();
    let document = DeTable::parse(&source).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        SpecError::Wrong(vec![text.diagnostic(&span, format!("not valid TOML: {}", error.message().trim_end()))])
    })?;
    let top = document.get_ref();
    parser.known_names(top, &TOP_LEVEL, "a pipeline has");
    let name = parser.name(top);
    let params = parser.params(top, overrides)?;
    let steps = parser.steps(top, &params);
    if parser.wrong.is_empty() {
        let (profile, Steps { steps, families, left_out }) = (overrides.profile.clone(), steps);
        let profiles = top.get("profiles").and_then(|value| value.get_ref().as_table());
        let profiles = profiles.into_iter().flatten().map(|(name, _)| name.get_ref().to_string()).collect();
        Ok(Spec { name, params, profile, profiles, steps, families: Arc::new(families), left_out, text })
    } else {
        Err(SpecError::wrong(parser.wrong))
    }
}

impl Parser<'_> {
    pub(super) fn complain(&mut self, span: &Span, message: impl Into<String>, help: Option<String>) {
        self.wrong.push(self.text.diagnostic(span, message).help(help));
    }

    fn known_names(&mut self, table: &DeTable<'_>, known: &[&str], whose: &str) {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref();
            let near = nearest(name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            let list = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let help = near.unwrap_or_else(|| format!("{whose} {list}"));
            self.complain(&key.span(), format!("unknown name `{name}`"), Some(help));
        }
    }

    fn name(&mut self, top: &DeTable<'_>) -> String {
        match top.get("name") {
            Some(value) => match value.get_ref().as_str() {
                Some(name) => return name.to_owned(),
                None => self.complain(&value.span(), "`name` is a string", None),
            },
            None => self.complain(&(0..0), "the pipeline has no name", Some("begin with: name = \"…\"".to_owned())),
        }
        String::new()
    }

    pub(super) fn table<'t, 'i>(&mut self, top: &'t DeTable<'i>, name: &str) -> Option<&'t DeTable<'i>> {
        let value = top.get(name)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.complain(&value.span(), format!("`{name}` is a table"), None);
        }
        table
    }

    /// Parameters: those of the file, then of the profile, then of `--set`.
    fn params(&mut self, top: &DeTable<'_>, overrides: &Overrides) -> Result<Map<String, Value>, SpecError> {
        let mut params = Map::new();
        if let Some(table) = self.table(top, "params") {
            for (key, value) in table {
                params.insert(key.get_ref().to_string(), self.plain(value));
            }
        }
        self.profile(top, overrides.profile.as_deref(), &mut params)?;
        for (name, text) in &overrides.set {
            set_param(&mut params, name, text)?;
        }
        Ok(params)
    }

    /// Checks all profiles, applies the one in use.
    fn profile(
        &mut self,
        top: &DeTable<'_>,
        in_use: Option<&str>,
        params: &mut Map<String, Value>,
    ) -> Result<(), SpecError> {
        let own = params.clone();
        let profiles = self.table(top, "profiles");
        for (name, profile) in profiles.into_iter().flatten() {
            let Some(table) = profile.get_ref().as_table() else {
                self.complain(&profile.span(), format!("profile `{}` is a table of parameters", name.get_ref()), None);
                continue;
            };
            let known: Vec<&str> = own.keys().map(String::as_str).collect();
            self.known_names(table, &known, "a profile replaces parameters; those in [params]:");
            if in_use == Some(name.get_ref().as_ref()) {
                for (key, value) in table {
                    params.insert(key.get_ref().to_string(), self.plain(value));
                }
            }
        }
        match in_use {
            Some(wanted) if !profiles.is_some_and(|table| table.contains_key(wanted)) => {
                let names: Vec<&str> =
                    profiles.into_iter().flatten().map(|(name, _)| name.get_ref().as_ref()).collect();
                Err(unknown_override("profile", wanted, &names, "[profiles]"))
            }
            _ => Ok(()),
        }
    }

    /// A value without references, as in `[params]`.
    fn plain(&mut self, value: &Spanned<DeValue<'_>>) -> Value {
        self.convert(value, "", None, &mut Places::default(), 0)
    }

    /// A value with references, its places noted under dotted paths.
    pub(super) fn value(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        path: &str,
        scope: &Scope<'_>,
        places: &mut Places,
    ) -> Value {
        self.convert(value, path, Some(scope), places, 0)
    }

    fn convert(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        path: &str,
        scope: Option<&Scope<'_>>,
        places: &mut Places,
        depth: usize,
    ) -> Value {
        let span = value.span();
        places.note(path, span.clone());
        if depth > MAX_DEPTH {
            self.complain(&span, "nested too deeply", None);
            return Value::Null;
        }
        match value.get_ref() {
            DeValue::String(text) => match scope.map(|scope| substitute(text, scope)) {
                None => Value::String(text.to_string()),
                Some(Ok(value)) => value,
                Some(Err((message, help))) => {
                    self.complain(&span, message, help);
                    Value::Null
                }
            },
            DeValue::Integer(number) => self.number(i64::from_str_radix(number.as_str(), number.radix()).ok(), &span),
            DeValue::Float(number) => {
                let parsed = number.as_str().parse::<f64>().ok().filter(|value| value.is_finite());
                self.number(parsed, &span)
            }
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(value) => Value::String(value.to_string()),
            DeValue::Array(items) => Value::Array(
                items
                    .iter()
                    .enumerate()
                    .map(|(at, item)| self.convert(item, &join(path, &at.to_string()), scope, places, depth + 1))
                    .collect(),
            ),
            DeValue::Table(table) => Value::Object(
                table
                    .iter()
                    .map(|(key, item)| {
                        let key = key.get_ref().to_string();
                        let item = self.convert(item, &join(path, &key), scope, places, depth + 1);
                        (key, item)
                    })
                    .collect(),
            ),
        }
    }

    fn number<N: Into<Value>>(&mut self, number: Option<N>, span: &Span) -> Value {
        number.map_or_else(
            || {
                self.complain(
                    span,
                    "the number is out of range",
                    Some("integers have 64 bits; floats are finite".to_owned()),
                );
                Value::Null
            },
            Into::into,
        )
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// `--set name=value`: the value is read as TOML; that of a text parameter is taken as it is, unless it is a TOML text.
fn set_param(params: &mut Map<String, Value>, name: &str, text: &str) -> Result<(), SpecError> {
    if let Some((whole, part)) = name.split_once('.').filter(|(whole, _)| params.contains_key(*whole)) {
        let message = format!("`--set {name}=…` names a part of a parameter, and only a whole one can be replaced");
        let help = Some(format!("write `--set '{whole}={{ {part} = {text} }}'`, with all that `{whole}` is to hold"));
        return Err(SpecError::Override { message, help });
    }
    let Some(current) = params.get_mut(name) else {
        let names: Vec<&str> = params.keys().map(String::as_str).collect();
        return Err(unknown_override("parameter", name, &names, "[params]"));
    };
    let kind = type_name(current);
    *current = match toml_value(text) {
        // A text parameter takes `--set name=7` as text.
        Ok(value) if value.is_string() || !current.is_string() => value,
        Err(why) if !current.is_string() => {
            let given = if text.is_empty() {
                "nothing stands after `=`".to_owned()
            } else {
                format!("`{text}` is no such value")
            };
            let (message, help) = match current {
                Value::Array(_) | Value::Object(_) => (
                    format!("`--set {name}={text}` is not TOML: {why}"),
                    format!("`{name}` is of type {kind} in [params]"),
                ),
                _ => (
                    format!("`--set {name}={text}`: `{name}` is of type {kind} in [params], and {given}"),
                    format!("write `--set {name}={current}`, or a text in quotes: `--set '{name}=\"a\"'`"),
                ),
            };
            return Err(SpecError::Override { message, help: Some(help) });
        }
        _ => Value::String(text.to_owned()),
    };
    Ok(())
}

/// A TOML value that stands alone.
fn toml_value(text: &str) -> Result<Value, String> {
    let parsed = DeValue::parse(text).map_err(|error| error.message().trim_end().to_owned())?;
    let source = SpecText::new(Path::new("--set"), text);
    let mut parser = Parser { text: &source, wrong: Vec::new() };
    let value = parser.plain(&parsed);
    parser.wrong.pop().map_or(Ok(value), |wrong| Err(wrong.message))
}

fn unknown_override(what: &str, name: &str, known: &[&str], place: &str) -> SpecError {
    let help = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("the pipeline has no {place}"),
        None => format!("{place} has {}", known.join(", ")),
    };
    SpecError::Override { message: format!("there is no {what} `{name}`"), help: Some(help) }
}
