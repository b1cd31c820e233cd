//! What the ports of a step are fed: the text of references, and which steps they mean.

use serde_json::Value;
use toml::Spanned;
use toml::de::DeValue;

use super::matrix::{Families, bracket};
use super::parse::Parser;
use super::places::Places;
use super::selector::Selector;
use super::substitute::Scope;
use super::{InputSpec, Reference, Span};

/// What one port is fed, as it is written.
pub(super) struct WrittenInput {
    port: String,
    span: Span,
    refs: Vec<Written>,
    several: bool,
}

/// A reference as it is written.
struct Written {
    label: Option<String>,
    text: String,
    span: Span,
}

impl Parser<'_> {
    pub(super) fn inputs(&mut self, value: &Spanned<DeValue<'_>>, scope: &Scope<'_>) -> Vec<WrittenInput> {
        let Some(table) = value.get_ref().as_table() else {
            let help = "write inputs = { PORT = \"STEP\" }".to_owned();
            self.complain(&value.span(), "`inputs` is a table of ports", Some(help));
            return Vec::new();
        };
        let mut inputs: Vec<WrittenInput> = table
            .iter()
            .map(|(port, value)| {
                let refs = self.references(value, scope);
                let several = !value.get_ref().is_str();
                WrittenInput { port: port.get_ref().to_string(), span: port.span(), refs, several }
            })
            .collect();
        inputs.sort_by_key(|input| input.span.start);
        inputs
    }

    /// `"step"`, `"step.port"`, a list of those, or a table of labels.
    fn references(&mut self, value: &Spanned<DeValue<'_>>, scope: &Scope<'_>) -> Vec<Written> {
        match value.get_ref() {
            DeValue::String(_) => self.reference(None, value, scope).into_iter().collect(),
            DeValue::Array(items) => items.iter().filter_map(|item| self.reference(None, item, scope)).collect(),
            DeValue::Table(labels) => {
                let mut refs: Vec<(usize, Written)> = Vec::new();
                for (label, item) in labels {
                    let reference = self.reference(Some(label.get_ref()), item, scope);
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

    fn reference(&mut self, label: Option<&str>, value: &Spanned<DeValue<'_>>, scope: &Scope<'_>) -> Option<Written> {
        let span = value.span();
        let text = self.value(value, "", scope, &mut Places::default());
        let Value::String(text) = text else {
            self.complain(&span, "an input names a step", Some("write \"step\" or \"step.port\"".to_owned()));
            return None;
        };
        Some(Written { label: label.map(str::to_owned), text, span })
    }

    /// The references of a port with the steps they mean.
    pub(super) fn resolve(&mut self, input: WrittenInput, families: &Families) -> InputSpec {
        let mut several = input.several;
        let mut refs = Vec::new();
        for written in input.refs {
            let selector = match Selector::parse(&written.text) {
                Ok(selector) => selector,
                Err(message) => {
                    let help = "write \"step[r=8]\", or \"step[*]\" for all".to_owned();
                    self.complain(&written.span, message, Some(help));
                    continue;
                }
            };
            let open = selector.instances.as_ref().is_some_and(|instances| instances.open);
            several |= open;
            let reference = |label: String, step: &str| Reference {
                label,
                step: step.to_owned(),
                port: selector.port.clone(),
                span: written.span.clone(),
            };
            match families.resolve(&selector) {
                // Whether there is such a step is found out later, with the circles.
                None => refs.push(reference(written.text.clone(), &selector.family)),
                Some(Err(fault)) => self.complain(&written.span, fault.message, fault.help),
                Some(Ok(instances)) => refs.extend(instances.into_iter().map(|instance| {
                    let label = match (&written.label, open) {
                        (None, true) => bracket(&instance.values),
                        (Some(label), true) => format!("{label}[{}]", bracket(&instance.values)),
                        (None, false) => with_port(&instance.name, selector.port.as_deref()),
                        (Some(label), false) => label.clone(),
                    };
                    reference(label, &instance.name)
                })),
            }
        }
        InputSpec { port: input.port, span: input.span, refs, several }
    }
}

/// An output as a pipeline names it: `split.test`, or `caption` where a step has one.
pub(super) fn with_port(step: &str, port: Option<&str>) -> String {
    port.map_or_else(|| step.to_owned(), |port| format!("{step}.{port}"))
}

impl Reference {
    /// The output as a pipeline names it.
    #[must_use]
    pub fn text(&self) -> String {
        with_port(&self.step, self.port.as_deref())
    }
}
