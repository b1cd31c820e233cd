//! From a parsed pipeline to a checked graph: every name, kind, column and parameter, before anything runs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use petgraph::algo::{kosaraju_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};
use pipe_cache::{StatIndex, map_many};
use serde_json::Value;

use super::expectations::counts_rows;
use super::{Edge, Graph, Step, replicate};
use crate::earlier::{Earlier, Gone};
use crate::params;
use crate::pins::Pins;
use crate::problem::{Problem, Subject, nearest};
use crate::spec::settings::Settings;
use crate::spec::{Diagnostic, LeftOutStep, Reference, Span, Spec, SpecError, StepSpec};
use crate::stage::{Contract, DATASET, Declare, Output, Port, Resolution, ResolveContext, Shape, Stage};

/// Checks a pipeline against the stages there are, looking at its sources through `index`.
///
/// # Errors
/// Everything wrong with it.
pub fn check(spec: &Spec, stages: &[&'static Stage], index: &StatIndex) -> Result<Graph, SpecError> {
    check_beside(spec, stages, index, None)
}

/// The same, where it is known what sources held earlier.
///
/// # Errors
/// Everything wrong with the pipeline.
pub fn check_beside(
    spec: &Spec,
    stages: &[&'static Stage],
    index: &StatIndex,
    earlier: Option<&Earlier<'_>>,
) -> Result<Graph, SpecError> {
    let mut checker = Checker {
        spec,
        base: spec.base(),
        stages,
        index,
        earlier,
        pins: Pins::of(spec),
        wrong: Vec::new(),
        left_out: spec.left_out.iter().map(|one| (one.step.as_str(), one)).collect(),
        checked: HashMap::new(),
        steps: Vec::new(),
        gone: Vec::new(),
    };
    let mut alone = checker.alone();
    for at in checker.order() {
        checker.step(at, std::mem::take(&mut alone[at]));
    }
    if !checker.wrong.is_empty() {
        return Err(SpecError::wrong(checker.wrong));
    }
    Ok(Graph {
        name: spec.name.clone(),
        base: spec.base(),
        text: spec.text.clone(),
        steps: checker.steps,
        left_out: spec.left_out.clone(),
        gone: checker.gone,
        families: Arc::clone(&spec.families),
    })
}

/// What can be told of a step without any other.
struct Alone {
    /// None of that name, if there is none.
    stage: Option<&'static Stage>,
    /// With defaults filled in.
    params: Result<Value, Vec<Problem>>,
    /// What it takes from outside, if its parameters are right.
    resolution: Result<Option<Resolution>, Problem>,
}

impl Default for Alone {
    fn default() -> Self {
        Self { stage: None, params: Ok(Value::Null), resolution: Ok(None) }
    }
}

pub(super) struct Checker<'a> {
    pub(super) spec: &'a Spec,
    base: PathBuf,
    stages: &'a [&'static Stage],
    index: &'a StatIndex,
    earlier: Option<&'a Earlier<'a>>,
    pins: Pins,
    pub(super) wrong: Vec<Diagnostic>,
    /// Steps whose `when` is false, by name.
    pub(super) left_out: HashMap<&'a str, &'a LeftOutStep>,
    /// Steps that passed, by name, as indexes into `steps`. What depends on one that did not is not looked at.
    pub(super) checked: HashMap<&'a str, usize>,
    pub(super) steps: Vec<Step>,
    gone: Vec<Gone>,
}

impl<'a> Checker<'a> {
    pub(super) fn complain(&mut self, step: &StepSpec, problem: Problem) {
        let elsewhere = problem.missing().and_then(|column| self.elsewhere(step, column));
        let span = place(step, &problem);
        let span =
            problem.within().map_or_else(|| span.clone(), |(text, part)| self.spec.text.inside(&span, text, part));
        let help = [problem.help, elsewhere].into_iter().flatten().reduce(|help, more| format!("{help}; {more}"));
        self.wrong.push(self.spec.text.diagnostic(&span, problem.message).help(help));
    }

    /// Which step gives a column that the input of this one lacks; the last one, which has most columns.
    fn elsewhere(&self, step: &StepSpec, column: &str) -> Option<String> {
        let gives =
            |one: &&Step| one.outputs.iter().any(|output| output.schema.iter().any(|s| s.get(column).is_some()));
        let from = self.steps.iter().rev().find(gives)?;
        let taken: Vec<&str> = step.inputs.iter().flat_map(|input| &input.refs).map(|one| one.step.as_str()).collect();
        let other = !taken.is_empty() && !taken.contains(&from.name.as_str());
        other.then(|| format!("`{}` gives `{column}`, if that step was meant", from.name))
    }

    /// Indexes of the steps, each after those it names; complains about unknown steps and cycles.
    fn order(&mut self) -> Vec<usize> {
        let steps = &self.spec.steps;
        let places: HashMap<&str, usize> =
            steps.iter().enumerate().map(|(at, step)| (step.name.as_str(), at)).collect();
        let mut graph = DiGraph::<usize, ()>::new();
        // Added in reverse, because the sort takes the last of several that are ready.
        let mut nodes: Vec<NodeIndex> = (0..steps.len()).rev().map(|at| graph.add_node(at)).collect();
        nodes.reverse();
        for (at, step) in steps.iter().enumerate() {
            let mut seen = HashSet::new();
            for reference in step.inputs.iter().flat_map(|input| &input.refs) {
                match places.get(reference.step.as_str()) {
                    Some(from) if seen.insert(*from) => drop(graph.add_edge(nodes[*from], nodes[at], ())),
                    None if !self.left_out.contains_key(reference.step.as_str()) => self.unknown_step(reference),
                    _ => {}
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
        let mut names: Vec<&str> = self.spec.steps.iter().map(|step| step.family.as_str()).collect();
        names.dedup();
        let help = match nearest(&reference.step, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the steps are {}", names.join(", ")),
        };
        let message = format!("there is no step `{}`", reference.step);
        self.wrong.push(self.spec.text.diagnostic(&reference.span, message).help(Some(help)));
    }

    fn cycle(&mut self, graph: &DiGraph<usize, ()>) {
        for component in kosaraju_scc(graph) {
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

    /// What can be told of each step by itself, on all cores: sources are looked at on the way.
    fn alone(&self) -> Vec<Alone> {
        let tell = |step: &StepSpec| {
            let Some(stage) = self.find_stage(&step.stage) else { return Alone::default() };
            let params = params::check(stage.params, &step.params);
            let params = params.and_then(|params| replicate::seeded(step, stage, params));
            let resolve = |params: &Value| {
                let pinned = |source: &str| self.pins.find(&step.name, source);
                let (base, index) = (&self.base, self.index);
                let context = ResolveContext { params, base, index, pinned: &pinned, ask: None };
                stage.resolve.map(|resolve| resolve(&context)).transpose()
            };
            let resolution = params.as_ref().map_or(Ok(None), resolve);
            Alone { stage: Some(stage), params, resolution }
        };
        map_many(&self.spec.steps, tell)
    }

    fn step(&mut self, at: usize, alone: Alone) {
        let step: &'a StepSpec = &self.spec.steps[at];
        let Some(stage) = alone.stage else { return self.unknown_stage(step) };
        let params = alone.params.map_err(|problems| self.complain_all(step, problems)).ok();
        let settings = self.settings(step, stage);
        let inputs = self.inputs(step, stage);
        let (Some(params), Some(settings), Some(inputs)) = (params, settings, inputs) else { return };
        let shapes = self.shapes(&inputs);
        let declared = alone.resolution.or_else(|problem| self.held(step, problem)).and_then(|resolution| {
            let declare = Declare { params: &params, inputs: &shapes, resolution: resolution.as_ref() };
            let mut contract = (stage.declare)(&declare)?;
            contract.notes.extend(resolution.iter().flat_map(|resolution| resolution.notes.clone()));
            Ok((contract, resolution))
        });
        match declared {
            Ok((contract, resolution)) => {
                let outputs = outputs(stage, &contract, &shapes);
                let made = Step {
                    name: step.name.clone(),
                    family: step.family.clone(),
                    span: step.span.clone(),
                    stage,
                    params,
                    inputs,
                    contract,
                    outputs,
                    resolution,
                    settings,
                };
                self.counts_rows(step, &made);
                self.expectations(step, &made);
                self.checked.insert(&step.name, self.steps.len());
                self.steps.push(made);
            }
            Err(problem) => self.complain(step, problem),
        }
    }

    /// What a source that cannot be read held in an earlier run, where that is to stand in for it.
    fn held(&mut self, step: &StepSpec, problem: Problem) -> Result<Option<Resolution>, Problem> {
        let earlier = self.earlier.filter(|_| problem.is_gone());
        let Some(held) = earlier.and_then(|earlier| earlier.held(&step.name)) else { return Err(problem) };
        if self.earlier.is_some_and(|earlier| earlier.stands_in) {
            let (name, place) = (step.name.clone(), self.spec.text.place(&place(step, &problem)));
            let (run, started) = (held.run.run, held.run.started);
            self.gone.push(Gone { step: name, place, why: problem.message, run, started });
            return Ok(Some(held.resolution));
        }
        let there = format!("what run {} made of it is there: `pipe show` and `pipe export` find it", held.run.run);
        let help = problem.help.iter().cloned().chain([there]).collect::<Vec<_>>().join("; ");
        Err(problem.help(help))
    }

    fn complain_all(&mut self, step: &StepSpec, problems: Vec<Problem>) {
        problems.into_iter().for_each(|problem| self.complain(step, problem));
    }

    /// The settings of a step, each expectation with its place.
    fn settings(&mut self, step: &StepSpec, stage: &Stage) -> Option<Settings> {
        let resolved = step.settings.resolve(stage.resources);
        let mut settings = resolved.map_err(|problems| self.complain_all(step, problems)).ok()?;
        for (at, expectation) in settings.expect.iter_mut().enumerate() {
            let span = step.span_of(&Subject::Param(format!("expect.{at}.that")));
            expectation.place = self.spec.text.place(&span);
        }
        Some(settings)
    }

    /// A limit on failed rows is a mistake where no rows are counted: nothing would ever reach it.
    fn counts_rows(&mut self, step: &StepSpec, made: &Step) {
        if made.settings.max_failed_rows.is_some() && !counts_rows(made) {
            let message = format!("`{}` works on no rows that could fail", made.stage.name);
            self.complain(step, Problem::param("max_failed_rows", message));
        }
    }

    fn find_stage(&self, name: &str) -> Option<&'static Stage> {
        self.stages.iter().copied().find(|stage| stage.name == name)
    }

    fn unknown_stage(&mut self, step: &StepSpec) {
        let names = self.stages.iter().map(|stage| stage.name);
        let help = match nearest(&step.stage, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`pipe stages` lists what there is".to_owned(),
        };
        let message = format!("there is no stage `{}`", step.stage);
        self.wrong.push(self.spec.text.diagnostic(&step.stage_span, message).help(Some(help)));
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
}

/// Where what a problem is about stands in the file.
fn place(step: &StepSpec, problem: &Problem) -> Span {
    let otherwise = problem.otherwise.as_ref().filter(|_| !step.mentions(&problem.subject));
    step.span_of(otherwise.unwrap_or(&problem.subject))
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
