//! A pipeline as a picture: Graphviz, Mermaid, or SVG with a layout of its own.

mod layout;
mod svg;

use std::fmt::Write;

use serde::Serialize;

use crate::graph::Graph;
use crate::plan::{Action, Plan};

/// Steps and what flows between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drawing {
    /// The pipeline's name.
    pub name: String,
    /// Its steps, each after those it takes something from.
    pub nodes: Vec<Node>,
    /// What flows.
    pub edges: Vec<Arrow>,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its stage.
    pub stage: &'static str,
    /// What a run would do with it.
    pub action: Action,
    /// Rows that would execute, in words, where they can be told.
    pub rows: String,
}

/// An artifact that flows from one step to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Arrow {
    /// Index of the step that gives it.
    pub from: usize,
    /// Index of the step that takes it.
    pub to: usize,
    /// The port it leaves by, where the step has several.
    pub output: String,
    /// The port it goes into, with the label where the port takes several.
    pub port: String,
    /// Its kind.
    pub kind: String,
}

impl Drawing {
    /// The picture of a pipeline, and of what a run would do.
    #[must_use]
    pub fn new(graph: &Graph, plan: &Plan) -> Self {
        let nodes = graph.steps.iter().map(|step| {
            let planned = plan.steps.iter().find(|planned| planned.step == step.name);
            let rows = planned
                .and_then(|planned| planned.rows)
                .filter(|rows| rows.execute > 0)
                .map(|rows| format!("{}{} of {} rows", if rows.exact { "" } else { "≈ " }, rows.execute, rows.total));
            let action = planned.map_or(Action::Run, |planned| planned.action);
            Node { name: step.name.clone(), stage: step.stage.name, action, rows: rows.unwrap_or_default() }
        });
        let edges = graph.steps.iter().enumerate().flat_map(|(to, step)| {
            step.inputs.iter().map(move |edge| {
                let producer = &graph.steps[edge.step];
                let many = step.inputs.iter().filter(|other| other.port == edge.port).count() > 1;
                Arrow {
                    from: edge.step,
                    to,
                    output: if producer.outputs.len() > 1 { edge.output.clone() } else { String::new() },
                    port: if many { format!("{} {}", edge.port, edge.label) } else { edge.port.clone() },
                    kind: producer.output(&edge.output).map(|output| output.kind.clone()).unwrap_or_default(),
                }
            })
        });
        Self { name: graph.name.clone(), nodes: nodes.collect(), edges: edges.collect() }
    }

    /// The text of a Graphviz file.
    #[must_use]
    pub fn dot(&self) -> String {
        let quote =
            |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
        let mut text = format!("digraph {} {{\n", quote(&self.name));
        text.push_str("  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"];\n");
        text.push_str("  edge [fontname=\"sans-serif\", fontsize=10];\n");
        for (at, node) in self.nodes.iter().enumerate() {
            let label = quote(&node.lines().join("\n"));
            line(&mut text, format_args!("  n{at} [label={label}, fillcolor=\"{}\"];", colour(node.action)));
        }
        for edge in &self.edges {
            let label = quote(&format!("{} ({})", edge.label(), edge.kind));
            line(&mut text, format_args!("  n{} -> n{} [label={label}];", edge.from, edge.to));
        }
        text.push_str("}\n");
        text
    }

    /// The text of a Mermaid flowchart.
    #[must_use]
    pub fn mermaid(&self) -> String {
        // Mermaid reads HTML entities inside quotes.
        let quote = |text: &str| format!("\"{}\"", escape(text).replace('\n', "<br>"));
        let mut text = String::from("flowchart TD\n");
        for (at, node) in self.nodes.iter().enumerate() {
            let label = quote(&node.lines().join("\n"));
            line(&mut text, format_args!("  n{at}[{label}]:::{}", word(node.action)));
        }
        for edge in &self.edges {
            let label = quote(&format!("{} ({})", edge.label(), edge.kind));
            line(&mut text, format_args!("  n{} -->|{label}| n{}", edge.from, edge.to));
        }
        for action in [Action::Reuse, Action::Assemble, Action::Run] {
            line(&mut text, format_args!("  classDef {} fill:{},stroke:#555", word(action), colour(action)));
        }
        text
    }

    /// An SVG picture.
    #[must_use]
    pub fn svg(&self) -> String {
        svg::draw(self)
    }
}

impl Node {
    /// What stands in its box.
    fn lines(&self) -> Vec<&str> {
        let rows = (!self.rows.is_empty()).then_some(self.rows.as_str());
        [self.name.as_str(), self.stage].into_iter().chain(rows).collect()
    }
}

impl Arrow {
    /// The ports: `train → rows`, or `rows`.
    fn label(&self) -> String {
        if self.output.is_empty() || self.output == self.port {
            self.port.clone()
        } else {
            format!("{} → {}", self.output, self.port)
        }
    }
}

const fn word(action: Action) -> &'static str {
    match action {
        Action::Reuse => "reuse",
        Action::Assemble => "assemble",
        Action::Run => "run",
    }
}

const fn colour(action: Action) -> &'static str {
    match action {
        Action::Reuse => "#dcefdc",
        Action::Assemble => "#e8eef9",
        Action::Run => "#fde7c5",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    writeln!(text, "{what}").expect("writing into a string cannot fail");
}
