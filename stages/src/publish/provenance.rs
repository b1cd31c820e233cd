//! `provenance.json`: how a release came to be, step by step. No time, no machine: the same pipeline gives the same bytes.

use std::collections::BTreeMap;

use pipe_engine::step::{Ancestor, StepTask};
use serde::Serialize;
use serde_json::Value;

use super::Params;

/// The name of the layout, raised with every change that a reader could notice.
const FORMAT: &str = "provenance/1";

/// How a release came to be.
#[derive(Serialize)]
pub(super) struct Provenance {
    format: &'static str,
    /// What is published.
    name: String,
    /// The steps that led to it, in order of execution.
    pub steps: Vec<Ancestor>,
    /// What was put together, by port.
    pub inputs: BTreeMap<String, Vec<Source>>,
}

/// An artifact that went into the release.
#[derive(Serialize)]
pub(super) struct Source {
    pub label: String,
    pub from: String,
    pub kind: String,
    pub digest: String,
}

impl Provenance {
    pub fn of(task: &StepTask, params: &Params) -> Self {
        let source = |input: &pipe_engine::step::Input| Source {
            label: input.label.clone(),
            from: input.from.clone(),
            kind: input.kind.clone(),
            digest: input.digest.to_string(),
        };
        let inputs =
            task.inputs.iter().map(|(port, inputs)| (port.clone(), inputs.iter().map(source).collect())).collect();
        Self { format: FORMAT, name: params.name.clone(), steps: task.lineage.clone(), inputs }
    }

    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("plain data with text keys can be written as JSON");
        text.push('\n');
        text
    }

    /// The step that gave the artifact on a port.
    pub fn maker(&self, port: &str) -> Option<&Ancestor> {
        let digest = &self.inputs.get(port)?.first()?.digest;
        self.steps.iter().rev().find(|step| step.outputs.values().any(|output| output.to_string() == *digest))
    }

    /// The steps of a stage.
    pub fn steps_of<'a>(&'a self, stage: &'a str) -> impl Iterator<Item = &'a Ancestor> {
        self.steps.iter().filter(move |step| step.stage.split_once('/').is_some_and(|(name, _)| name == stage))
    }
}

/// A parameter of a step, where it is a text.
pub(super) fn text_param<'a>(step: &'a Ancestor, name: &str) -> Option<&'a str> {
    step.params.get(name).and_then(Value::as_str)
}
