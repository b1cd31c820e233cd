//! TOML text to [`Spec`].

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::substitute::substitute;
use super::{Diagnostic, InputSpec, Overrides, Reference, Span, Spec, SpecError, SpecText, StepSpec};
use crate::problem::nearest;

const TOP_LEVEL: [&str; 5] = ["name", "description", "params", "profiles", "steps"];

/// Tables nested deeper than this are refused rather than walked.
const MAX_DEPTH: usize = 32;

/// Gathers every complaint instead of stopping at the first.
struct Parser<'a> {
    text: &'a SpecText,
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
        Ok(Spec { name, params, profile: overrides.profile.clone(), steps, text })
    } else {
        parser.wrong.sort_by_key(|diagnostic| diagnostic.span.start);
        Err(SpecError::Wrong(parser.wrong))
    }
}

impl Parser<'_> {
    fn complain(&mut self, span: &Span, message: impl Into<String>, help: Option<String>) {
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

    fn table<'t, 'i>(&mut self, top: &'t DeTable<'i>, name: &str) -> Option<&'t DeTable<'i>> {
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

    fn steps(&mut self, top: &DeTable<'_>, params: &Map<String, Value>) -> Vec<StepSpec> {
        let Some(table) = self.table(top, "steps") else {
            if !top.contains_key("steps") {
                self.complain(&(0..0), "the pipeline has no steps", Some("add a table [steps.NAME]".to_owned()));
            }
            return Vec::new();
        };
        let mut steps: Vec<StepSpec> =
            table.iter().filter_map(|(key, value)| self.step(key.get_ref(), &key.span(), value, params)).collect();
        steps.sort_by_key(|step| step.span.start);
        steps
    }

    fn step(
        &mut self,
        name: &str,
        span: &Span,
        value: &Spanned<DeValue<'_>>,
        params: &Map<String, Value>,
    ) -> Option<StepSpec> {
        let Some(table) = value.get_ref().as_table() else {
            self.complain(&value.span(), format!("step `{name}` is a table"), None);
            return None;
        };
        if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || "_-".contains(c)) {
            self.complain(
                span,
                format!("`{name}` cannot name a step"),
                Some("use letters, digits, `_` and `-`".to_owned()),
            );
        }
        let Some(stage) = table.get("stage") else {
            let help = "`pipe stages` lists what there is".to_owned();
            self.complain(span, format!("step `{name}` has no stage"), Some(help));
            return None;
        };
        let Some(stage_name) = stage.get_ref().as_str() else {
            self.complain(&stage.span(), "`stage` is a string", None);
            return None;
        };
        let inputs = table.get("inputs").map_or_else(Vec::new, |value| self.inputs(value, params));
        let mut spans = BTreeMap::new();
        let mut values = Map::new();
        for (key, value) in table.iter().filter(|(key, _)| !["stage", "inputs"].contains(&key.get_ref().as_ref())) {
            let path = key.get_ref().to_string();
            let value = self.value(value, &path, params, &mut spans);
            // A mistake in the name is shown at the name, one in the value at the value.
            spans.insert(format!("{path}="), key.span());
            values.insert(path, value);
        }
        Some(StepSpec {
            name: name.to_owned(),
            span: span.clone(),
            stage: stage_name.to_owned(),
            stage_span: stage.span(),
            inputs,
            params: Value::Object(values),
            spans,
        })
    }

    fn inputs(&mut self, value: &Spanned<DeValue<'_>>, params: &Map<String, Value>) -> Vec<InputSpec> {
        let Some(table) = value.get_ref().as_table() else {
            let help = "write inputs = { PORT = \"STEP\" }".to_owned();
            self.complain(&value.span(), "`inputs` is a table of ports", Some(help));
            return Vec::new();
        };
        let mut inputs: Vec<InputSpec> = table
            .iter()
            .map(|(port, value)| {
                let refs = self.references(value, params);
                let several = !value.get_ref().is_str();
                InputSpec { port: port.get_ref().to_string(), span: port.span(), refs, several }
            })
            .collect();
        inputs.sort_by_key(|input| input.span.start);
        inputs
    }

    /// `"step"`, `"step.port"`, a list of those, or a table of labels.
    fn references(&mut self, value: &Spanned<DeValue<'_>>, params: &Map<String, Value>) -> Vec<Reference> {
        match value.get_ref() {
            DeValue::String(_) => self.reference(None, value, params).into_iter().collect(),
            DeValue::Array(items) => items.iter().filter_map(|item| self.reference(None, item, params)).collect(),
            DeValue::Table(labels) => {
                let mut refs: Vec<(usize, Reference)> = Vec::new();
                for (label, item) in labels {
                    let reference = self.reference(Some(label.get_ref()), item, params);
                    refs.extend(reference.map(|reference| (label.span().start, reference)));
                }
                refs.sort_by_key(|(at, _)| *at);
                refs.into_iter().map(|(_, reference)| reference).collect()
            }
            _ => {
                let help = "write \"step\" or \"step.port\", a list of them, or a table of labels".to_owned();
                self.complain(&value.span(), "an input names a step", Some(help));
                Vec::new()
            }
        }
    }

    fn reference(
        &mut self,
        label: Option<&str>,
        value: &Spanned<DeValue<'_>>,
        params: &Map<String, Value>,
    ) -> Option<Reference> {
        let span = value.span();
        let text = self.value(value, "", params, &mut BTreeMap::new());
        let Value::String(text) = text else {
            self.complain(&span, "an input names a step", Some("write \"step\" or \"step.port\"".to_owned()));
            return None;
        };
        let (step, port) = match text.split_once('.') {
            Some((step, port)) => (step.to_owned(), Some(port.to_owned())),
            None => (text.clone(), None),
        };
        Some(Reference { label: label.map_or(text, str::to_owned), step, port, span })
    }

    /// A value without references, as in `[params]`.
    fn plain(&mut self, value: &Spanned<DeValue<'_>>) -> Value {
        self.convert(value, "", None, &mut BTreeMap::new(), 0)
    }

    /// A value with references, its places noted under dotted paths.
    fn value(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        path: &str,
        params: &Map<String, Value>,
        spans: &mut BTreeMap<String, Span>,
    ) -> Value {
        self.convert(value, path, Some(params), spans, 0)
    }

    fn convert(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        path: &str,
        params: Option<&Map<String, Value>>,
        spans: &mut BTreeMap<String, Span>,
        depth: usize,
    ) -> Value {
        let span = value.span();
        spans.insert(path.to_owned(), span.clone());
        if depth > MAX_DEPTH {
            self.complain(&span, "nested too deeply", None);
            return Value::Null;
        }
        match value.get_ref() {
            DeValue::String(text) => match params.map(|params| substitute(text, params)) {
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
                    .map(|(at, item)| self.convert(item, &join(path, &at.to_string()), params, spans, depth + 1))
                    .collect(),
            ),
            DeValue::Table(table) => Value::Object(
                table
                    .iter()
                    .map(|(key, item)| {
                        let key = key.get_ref().to_string();
                        let item = self.convert(item, &join(path, &key), params, spans, depth + 1);
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

/// `--set name=value`: the value is read as TOML if it is TOML, else as text.
fn set_param(params: &mut Map<String, Value>, name: &str, text: &str) -> Result<(), SpecError> {
    let Some(current) = params.get_mut(name) else {
        let names: Vec<&str> = params.keys().map(String::as_str).collect();
        return Err(unknown_override("parameter", name, &names, "[params]"));
    };
    let parsed = toml::from_str::<Map<String, Value>>(&format!("value = {text}")).ok();
    let value = parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(text.to_owned()));
    // A text parameter takes `--set name=7` as text.
    *current = if current.is_string() && !value.is_string() { Value::String(text.to_owned()) } else { value };
    Ok(())
}

fn unknown_override(what: &str, name: &str, known: &[&str], place: &str) -> SpecError {
    let help = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("the pipeline has no {place}"),
        None => format!("{place} has {}", known.join(", ")),
    };
    SpecError::Override { message: format!("there is no {what} `{name}`"), help: Some(help) }
}
