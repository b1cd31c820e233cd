//! A checked pipeline: its steps in an order in which they can run, and what joins them.

mod check;
mod connect;
mod expectations;
mod replicate;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::earlier::Gone;
use crate::problem::nearest;
use crate::spec::matrix::{Families, Instance};
use crate::spec::selector::{Instances, Selector};
use crate::spec::settings::Settings;
use crate::spec::{LeftOutStep, Span, SpecError, SpecText};
use crate::stage::{Contract, Output, Resolution, Stage};

pub use check::{check, check_beside};

/// A pipeline ready to be planned.
pub struct Graph {
    /// Its name.
    pub name: String,
    /// The directory relative paths start from.
    pub base: PathBuf,
    /// The file and its text.
    pub text: SpecText,
    /// Steps, each after those it depends on; otherwise in the order written.
    pub steps: Vec<Step>,
    /// Steps that are not there because their `when` is false.
    pub left_out: Vec<LeftOutStep>,
    /// Sources that cannot be read, for which stands what they held in an earlier run. Such a graph is only looked at, never run.
    pub gone: Vec<Gone>,
    /// The steps as the file has them, with the instances of their matrices.
    pub families: Arc<Families>,
}

/// A checked step.
pub struct Step {
    /// Its name.
    pub name: String,
    /// The name the file gives it, without the values of its matrix.
    pub family: String,
    /// Where the file names it.
    pub span: Span,
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
    /// How it is run and judged: in no key.
    pub settings: Settings,
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

    /// The state of the outside world that it uses besides local files; empty where there is none.
    #[must_use]
    pub fn pin(&self) -> &str {
        self.resolution.as_ref().map_or("", |resolution| &resolution.pin)
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

    /// The steps wanted and all they depend on, as a mask over [`Graph::steps`]; all of them if none is named. A name without
    /// brackets means every instance of the step's matrix.
    ///
    /// # Errors
    /// When there is no step of that name.
    pub fn select(&self, names: &[String]) -> Result<Vec<bool>, SpecError> {
        let mut wanted = if names.is_empty() { vec![true; self.steps.len()] } else { self.named(names)? };
        for at in (0..self.steps.len()).rev() {
            if wanted[at] {
                self.steps[at].upstream().for_each(|from| wanted[from] = true);
            }
        }
        Ok(wanted)
    }

    /// The steps named and no others, as a mask. A name without brackets means every instance of the step's matrix.
    ///
    /// # Errors
    /// When there is no step of that name.
    pub fn named(&self, names: &[String]) -> Result<Vec<bool>, SpecError> {
        let mut named = vec![false; self.steps.len()];
        let places: HashMap<&str, usize> =
            self.steps.iter().enumerate().map(|(at, step)| (step.name.as_str(), at)).collect();
        for name in names {
            let mut selector = Selector::parse(name).map_err(|message| refused(message, None))?;
            if selector.port.is_some() {
                return Err(self.unknown_step(name));
            }
            let has_matrix = self.families.get(&selector.family).is_some_and(|family| !family.axes.is_empty());
            if has_matrix && selector.instances.is_none() {
                selector.instances = Some(Instances { terms: Vec::new(), open: true });
            }
            let instances = self.instances(&selector)?;
            let found: Vec<usize> = instances.iter().filter_map(|one| places.get(one.name.as_str()).copied()).collect();
            if let (true, Some(one)) = (found.is_empty(), instances.first()) {
                return Err(self.not_there(&one.name));
            }
            found.into_iter().for_each(|at| named[at] = true);
        }
        Ok(named)
    }

    /// The one step that `STEP` or `STEP.PORT` names, and the port.
    ///
    /// # Errors
    /// When it names none, or several.
    pub fn locate(&self, name: &str) -> Result<(usize, Option<String>), SpecError> {
        let selector = Selector::parse(name).map_err(|message| refused(message, None))?;
        match self.instances(&selector)?.as_slice() {
            [one] => Ok((self.find(&one.name).ok_or_else(|| self.not_there(&one.name))?, selector.port)),
            _ => Err(refused(format!("`{name}` means several steps"), Some("name one of them".to_owned()))),
        }
    }

    fn instances(&self, selector: &Selector) -> Result<Vec<&Instance>, SpecError> {
        let resolved = self.families.resolve(selector).ok_or_else(|| self.unknown_step(&selector.family))?;
        resolved.map_err(|fault| refused(fault.message, fault.help))
    }

    /// The complaint that a step's `when` is false.
    fn not_there(&self, name: &str) -> SpecError {
        let why = self.left_out.iter().find(|one| one.step == name).map(|one| format!("{} says when it is", one.place));
        refused(format!("there is no step `{name}` now: its `when` is false"), why)
    }

    /// The complaint that there is no step of that name.
    #[must_use]
    pub fn unknown_step(&self, name: &str) -> SpecError {
        let mut names: Vec<&str> = self.steps.iter().map(|step| step.family.as_str()).collect();
        names.dedup();
        let help = match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the pipeline has {}", names.join(", ")),
        };
        refused(format!("there is no step `{name}`"), Some(help))
    }
}

const fn refused(message: String, help: Option<String>) -> SpecError {
    SpecError::Override { message, help }
}
