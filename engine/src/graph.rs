//! From a parsed pipeline to a checked graph: every name, kind, column and parameter, before anything runs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use petgraph::algo::{tarjan_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};
use pipe_cache::StatIndex;
use serde_json::Value;

use crate::params;
use crate::problem::{Problem, nearest};
use crate::spec::{Diagnostic, InputSpec, Reference, Spec, SpecError, StepSpec};
use crate::stage::{Contract, DATASET, Declare, Output, Port, Resolution, ResolveContext, Shape, Stage};

/// A pipeline ready to be planned.
pub struct Graph {
    /// Its name.
    pub name: String,
    /// The directory relative paths start from.
    pub base: PathBuf,
    /// Steps, each after those it depends on; otherwise in the order written.
    pub steps: Vec<Step>,
}

/// A checked step.
pub struct Step {
    /// Its name.
    pub name: String,
    /// Its stage.
    pub stage: &'static Stage,
    /// Checked parameters with defaults filled in.
    pub params: Value,
    /// What feeds its ports.
    pub inputs: Vec<Edge>,
    /// What it promises.
    pub contract: Contract,
    /// What it gives.
    pub outputs: Vec<Output>,
    /// The outside world as planning found it.
    pub resolution: Option<Resolution>,
}

/// An artifact flowing into a port.
#[derive(Clone, Debug)]
pub struct Edge {
    /// The port.
    pub port: String,
    /// The label, on a port that takes many; else the producing step's name.
    pub label: String,
    /// The output as a pipeline names it: `split.test`.
    pub from: String,
    /// Index of the producing step.
    pub step: usize,
    /// Its output port.
    pub output: String,
}

impl Step {
    /// What it gives on a port.
    #[must_use]
    pub fn output(&self, port: &str) -> Option<&Output> {
        self.outputs.iter().find(|output| output.port == port)
    }

    /// The port of the dataset that a row or table step works on.
    #[must_use]
    pub fn primary_port(&self) -> &'static str {
        self.stage.inputs.first().map_or("", |port| port.name)
    }

    /// Indexes of the steps it reads from, each once.
    pub fn upstream(&self) -> impl Iterator<Item = usize> {
        let mut steps: Vec<usize> = self.inputs.iter().map(|edge| edge.step).collect();
        steps.sort_unstable();
        steps.dedup();
        steps.into_iter()
    }
}

impl Graph {
    /// The index of a step.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.name == name)
    }

    /// The steps wanted and all they depend on, as a mask over [`Graph::steps`]; all of them if none is named.
    ///
    /// # Errors
    /// When there is no step of that name.
    pub fn select(&self, names: &[String]) -> Result<Vec<bool>, SpecError> {
        let mut wanted = vec![names.is_empty(); self.steps.len()];
        for name in names {
            let found = self.find(name).ok_or_else(|| self.unknown_step(name))?;
            wanted[found] = true;
        }
        for at in (0..self.steps.len()).rev() {
            if wanted[at] {
                self.steps[at].upstream().for_each(|from| wanted[from] = true);
            }
        }
        Ok(wanted)
    }

    /// The complaint that there is no step of that name.
    #[must_use]
    pub fn unknown_step(&self, name: &str) -> SpecError {
        let names: Vec<&str> = self.steps.iter().map(|step| step.name.as_str()).collect();
        let help = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the pipeline has {}", names.join(", ")),
        };
        SpecError::Override { message: format!("there is no step `{name}`"), help: Some(help) }
    }
}

/// Checks a pipeline against the stages there are, looking at its sources through `index`.
///
/// # Errors
/// Everything wrong with it.
pub fn check(spec: &Spec, stages: &[&'static Stage], index: &StatIndex) -> Result<Graph, SpecError> {
    let mut checker = Checker { spec, stages, index, wrong: Vec::new(), checked: BTreeMap::new(), steps: Vec::new() };
    let order = checker.order();
    for at in order {
        checker.step(at);
    }
    if checker.wrong.is_empty() {
        return Ok(Graph { name: spec.name.clone(), base: spec.base(), steps: checker.steps });
    }
    checker.wrong.sort_by_key(|diagnostic| diagnostic.span.start);
    Err(SpecError::Wrong(checker.wrong))
}

struct Checker<'a> {
    spec: &'a Spec,
    stages: &'a [&'static Stage],
    index: &'a StatIndex,
    wrong: Vec<Diagnostic>,
    /// Steps that passed, by name, as indexes into `steps`. What depends on one that did not is not looked at.
    checked: BTreeMap<&'a str, usize>,
    steps: Vec<Step>,
}

impl<'a> Checker<'a> {
    fn complain(&mut self, step: &StepSpec, problem: Problem) {
        let subject = problem.otherwise.filter(|_| !step.mentions(&problem.subject)).unwrap_or(problem.subject);
        let span = step.span_of(&subject);
        self.wrong.push(self.spec.text.diagnostic(&span, problem.message).help(problem.help));
    }

    /// Indexes of the steps, each after those it names; complains about unknown steps and cycles.
    fn order(&mut self) -> Vec<usize> {
        let steps = &self.spec.steps;
        let mut graph = DiGraph::<usize, ()>::new();
        // Added in reverse, because the sort takes the last of several that are ready.
        let mut nodes: Vec<NodeIndex> = (0..steps.len()).rev().map(|at| graph.add_node(at)).collect();
        nodes.reverse();
        for (at, step) in steps.iter().enumerate() {
            for reference in step.inputs.iter().flat_map(|input| &input.refs) {
                match steps.iter().position(|other| other.name == reference.step) {
                    Some(from) => {
                        graph.update_edge(nodes[from], nodes[at], ());
                    }
                    None => self.unknown_step(reference),
                }
            }
        }
        match toposort(&graph, None) {
            Ok(order) => order.into_iter().map(|node| graph[node]).collect(),
            Err(_) => {
                self.cycle(&graph);
                Vec::new()
            }
        }
    }

    fn unknown_step(&mut self, reference: &Reference) {
        let names: Vec<&str> = self.spec.steps.iter().map(|step| step.name.as_str()).collect();
        let help = match nearest(&reference.step, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the steps are {}", names.join(", ")),
        };
        let message = format!("there is no step `{}`", reference.step);
        self.wrong.push(self.spec.text.diagnostic(&reference.span, message).help(Some(help)));
    }

    fn cycle(&mut self, graph: &DiGraph<usize, ()>) {
        for component in tarjan_scc(graph) {
            let mut members: Vec<usize> = component.iter().map(|node| graph[*node]).collect();
            members.sort_unstable();
            let looped = members.len() > 1 || graph.contains_edge(component[0], component[0]);
            if looped {
                let names: Vec<&str> = members.iter().map(|at| self.spec.steps[*at].name.as_str()).collect();
                let message = format!("steps depend on each other in a circle: {}", names.join(", "));
                let help = Some("take one of their inputs from elsewhere".to_owned());
                let span = &self.spec.steps[members[0]].span;
                self.wrong.push(self.spec.text.diagnostic(span, message).help(help));
            }
        }
    }

    fn step(&mut self, at: usize) {
        let step: &'a StepSpec = &self.spec.steps[at];
        let Some(stage) = self.stage(step) else { return };
        let params = match params::check(&(stage.params)(), &step.params) {
            Ok(params) => Some(params),
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.complain(step, problem));
                None
            }
        };
        let inputs = self.inputs(step, stage);
        let (Some(params), Some(inputs)) = (params, inputs) else { return };
        match self.declare(stage, &params, &inputs) {
            Ok((contract, resolution)) => {
                let outputs = outputs(stage, &contract, &self.shapes(&inputs));
                self.checked.insert(&step.name, self.steps.len());
                self.steps.push(Step { name: step.name.clone(), stage, params, inputs, contract, outputs, resolution });
            }
            Err(problem) => self.complain(step, problem),
        }
    }

    fn stage(&mut self, step: &StepSpec) -> Option<&'static Stage> {
        let found = self.stages.iter().copied().find(|stage| stage.name == step.stage);
        if found.is_none() {
            let names = self.stages.iter().map(|stage| stage.name);
            let help = match nearest(&step.stage, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`pipe stages` lists what there is".to_owned(),
            };
            let message = format!("there is no stage `{}`", step.stage);
            self.wrong.push(self.spec.text.diagnostic(&step.stage_span, message).help(Some(help)));
        }
        found
    }

    /// The edges into a step; `None` if they are wrong, or come from a step that is.
    fn inputs(&mut self, step: &'a StepSpec, stage: &'static Stage) -> Option<Vec<Edge>> {
        let before = self.wrong.len();
        let mut edges = Vec::new();
        let mut complete = true;
        for input in &step.inputs {
            let Some(port) = self.port(step, stage, input) else { continue };
            for reference in &input.refs {
                match self.edge(port, input, reference) {
                    Some(edge) => edges.push(edge),
                    None => complete = false,
                }
            }
        }
        // A port that seems missing may be the one that was misspelt.
        let unknown = self.wrong.len() > before;
        for port in stage.inputs.iter().filter(|port| !port.optional && port.name != "*" && !unknown) {
            if !step.inputs.iter().any(|input| input.port == port.name) {
                let message = format!("input `{}` of `{}` is missing", port.name, stage.name);
                let help = format!("{} ({})", port.about, port.kinds.join(" or "));
                self.complain(step, Problem::step(message).help(help));
            }
        }
        (complete && self.wrong.len() == before).then_some(edges)
    }

    fn port(&mut self, step: &StepSpec, stage: &'static Stage, input: &InputSpec) -> Option<&'static Port> {
        let found = stage.inputs.iter().find(|port| port.name == input.port || port.name == "*");
        let Some(port) = found else {
            let names: Vec<&str> = stage.inputs.iter().map(|port| port.name).collect();
            let help = match nearest(&input.port, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if names.is_empty() => format!("`{}` takes no inputs", stage.name),
                None => format!("`{}` has inputs {}", stage.name, names.join(", ")),
            };
            let problem = Problem::input(&input.port, format!("`{}` has no input `{}`", stage.name, input.port));
            self.complain(step, problem.help(help));
            return None;
        };
        if !port.many && input.refs.len() > 1 {
            let message = format!("input `{}` takes one artifact, not {}", port.name, input.refs.len());
            self.complain(step, Problem::input(&input.port, message));
            return None;
        }
        Some(port)
    }

    /// `None` if it is wrong, or its step is.
    fn edge(&mut self, port: &Port, input: &InputSpec, reference: &Reference) -> Option<Edge> {
        let from = *self.checked.get(reference.step.as_str())?;
        let producer = &self.steps[from];
        let names: Vec<&str> = producer.outputs.iter().map(|output| output.port.as_str()).collect();
        let complaint = match &reference.port {
            None if names.len() == 1 => None,
            None => Some((
                format!("`{}` has several outputs", reference.step),
                format!(
                    "write one of {}",
                    names.iter().map(|n| format!("`{}.{n}`", reference.step)).collect::<Vec<_>>().join(", ")
                ),
            )),
            Some(wanted) if names.contains(&wanted.as_str()) => None,
            Some(wanted) => Some((
                format!("`{}` has no output `{wanted}`", reference.step),
                nearest(wanted, names.iter().copied())
                    .map_or_else(|| format!("it has {}", names.join(", ")), |near| format!("did you mean `{near}`?")),
            )),
        };
        if let Some((message, help)) = complaint {
            self.wrong.push(self.spec.text.diagnostic(&reference.span, message).help(Some(help)));
            return None;
        }
        let output = producer.output(reference.port.as_deref().unwrap_or(names[0]))?;
        if !port.accepts(&output.kind) {
            let message = format!(
                "input `{}` takes {}, but `{}` gives {}",
                input.port,
                port.kinds.join(" or "),
                reference.text(),
                output.kind
            );
            let help = Some(port.about.to_owned());
            self.wrong.push(self.spec.text.diagnostic(&reference.span, message).help(help));
            return None;
        }
        let label = if input.several { reference.label.clone() } else { reference.step.clone() };
        let from_text = reference.text();
        Some(Edge { port: input.port.clone(), label, from: from_text, step: from, output: output.port.clone() })
    }

    fn shapes(&self, edges: &[Edge]) -> BTreeMap<String, Vec<Shape>> {
        let mut shapes: BTreeMap<String, Vec<Shape>> = BTreeMap::new();
        for edge in edges {
            if let Some(output) = self.steps[edge.step].output(&edge.output) {
                let shape =
                    Shape { label: edge.label.clone(), kind: output.kind.clone(), schema: output.schema.clone() };
                shapes.entry(edge.port.clone()).or_default().push(shape);
            }
        }
        shapes
    }

    fn declare(
        &self,
        stage: &Stage,
        params: &Value,
        edges: &[Edge],
    ) -> Result<(Contract, Option<Resolution>), Problem> {
        let base = self.spec.base();
        let context = ResolveContext { params, base: &base, index: self.index };
        let resolution = stage.resolve.map(|resolve| resolve(&context)).transpose()?;
        let inputs = self.shapes(edges);
        let mut contract = (stage.declare)(&Declare { params, inputs: &inputs, resolution: resolution.as_ref() })?;
        contract.notes.extend(resolution.iter().flat_map(|resolution| resolution.notes.clone()));
        Ok((contract, resolution))
    }
}

impl Reference {
    fn text(&self) -> String {
        self.port.as_ref().map_or_else(|| self.step.clone(), |port| format!("{}.{port}", self.step))
    }
}

/// The outputs of a step: those its contract names, else those of the stage; row and table stages give their first input's
/// columns plus those written.
fn outputs(stage: &Stage, contract: &Contract, shapes: &BTreeMap<String, Vec<Shape>>) -> Vec<Output> {
    let named: Vec<Output> = if contract.outputs.is_empty() {
        let kind = |port: &Port| (*port.kinds.first().unwrap_or(&DATASET)).to_owned();
        stage.outputs.iter().map(|port| Output { port: port.name.to_owned(), kind: kind(port), schema: None }).collect()
    } else {
        contract.outputs.clone()
    };
    if !stage.execute.transforms() {
        return named;
    }
    let input = stage.inputs.first().and_then(|port| shapes.get(port.name)).and_then(|shapes| shapes.first());
    let schema = input.and_then(|shape| shape.schema.clone()).unwrap_or_default().with(&contract.writes);
    named.into_iter().map(|output| Output { schema: Some(schema.clone()), ..output }).collect()
}
