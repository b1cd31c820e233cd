//! Whether expectations name what a step will tell of itself, as far as that is known before it runs.

use std::collections::BTreeMap;

use super::Step;
use super::check::Checker;
use crate::expression::{Fault, Mistake, Type, Wanted};
use crate::problem::{Problem, nearest};
use crate::spec::StepSpec;
use crate::stage::{DATASET, METRICS};

/// What a step tells of itself.
#[derive(Default)]
struct Told {
    names: BTreeMap<String, Type>,
    /// There may be others: of metrics whose content is not known yet, or measured by the torch worker.
    open: bool,
}

impl Checker<'_> {
    /// Complains about expectations that name what there will not be.
    pub(super) fn expectations(&mut self, step: &StepSpec, made: &Step) {
        let told = Told::by(made);
        for (at, expectation) in made.settings.expect.iter().enumerate() {
            let one = &expectation.expression;
            if let Err(mistake) = one.check(&|name| told.find(name), Wanted::Bool) {
                let message = format!("in `{}`: {}", one.in_brief(), mistake.message);
                let mistake = Mistake { message, ..mistake };
                self.complain(step, Problem::expression(&format!("expect.{at}.that"), one.source(), mistake));
            }
        }
    }
}

/// Whether the run of a step counts rows.
pub(super) fn counts_rows(step: &Step) -> bool {
    step.stage.execute.transforms() || step.outputs.iter().any(|output| output.kind == DATASET)
}

impl Told {
    /// In the order of [`crate::run`]'s judge: later ones replace earlier ones of their name.
    fn by(step: &Step) -> Self {
        let mut told = Self::default();
        let metrics: Vec<&str> =
            step.outputs.iter().filter(|output| output.kind == METRICS).map(|output| output.port.as_str()).collect();
        for port in &metrics {
            let content = step.contract.metrics.get(*port).cloned().unwrap_or(Type::Any);
            told.names.insert((*port).to_owned(), content.clone());
            match content {
                _ if metrics.len() > 1 => {}
                Type::Table(names) => told.names.extend(names),
                _ => told.open = true,
            }
        }
        if metrics.len() == 1 {
            told.names.extend(["metrics", "scores"].map(|name| (name.to_owned(), Type::Any)));
        }
        told.open |= step.stage.execute.is_torch();
        told.names.insert("seconds".to_owned(), Type::Float);
        if counts_rows(step) {
            let counts = ["total", "kept", "dropped", "failed"].map(|name| (name.to_owned(), Type::Int));
            told.names.insert("rows".to_owned(), Type::Table(counts.into()));
        }
        told
    }

    fn find(&self, name: &str) -> Result<Type, Fault> {
        match self.names.get(name) {
            Some(found) => Ok(found.clone()),
            None if self.open => Ok(Type::Any),
            None => {
                let names = || self.names.keys().map(String::as_str);
                let help = nearest(name, names()).map_or_else(
                    || format!("what this step tells is {}", names().collect::<Vec<_>>().join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                Err(Fault { message: format!("there is no `{name}`"), help: Some(help) })
            }
        }
    }
}
