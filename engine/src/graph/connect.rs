//! The edges into a step: which ports are fed what, and whether that fits.

use std::collections::HashSet;

use super::Edge;
use super::check::Checker;
use crate::problem::{Problem, nearest};
use crate::spec::{InputSpec, NAMES_ARE, Reference, StepSpec, is_name};
use crate::stage::{Port, Stage};

impl<'a> Checker<'a> {
    /// The edges into a step; `None` if they are wrong, or come from a step that is.
    pub(super) fn inputs(&mut self, step: &'a StepSpec, stage: &'static Stage) -> Option<Vec<Edge>> {
        let before = self.wrong.len();
        let mut edges = Vec::new();
        let mut complete = true;
        for input in &step.inputs {
            let Some(port) = self.port(step, stage, input) else { continue };
            let first = edges.len();
            for reference in self.there(port, input) {
                match self.edge(port, input, reference) {
                    Some(edge) => edges.push(edge),
                    None => complete = false,
                }
            }
            self.check_labels(port, input, &edges[first..]);
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

    /// The references of a port whose steps exist. Where a port takes several or none, those left out by their `when` are not missed.
    fn there<'i>(&mut self, port: &Port, input: &'i InputSpec) -> Vec<&'i Reference> {
        let (gone, there): (Vec<&Reference>, Vec<&Reference>) =
            input.refs.iter().partition(|reference| self.left_out.contains_key(reference.step.as_str()));
        let missed = !port.optional && (!port.many || there.is_empty());
        if let (true, Some(first)) = (missed, gone.first()) {
            let why = self.left_out[first.step.as_str()];
            let message = format!("there is no `{}` now: its `when` is false", first.step);
            let help = format!(
                "`{}` at {} turned it off; give this step the same `when`, or another input",
                why.when, why.place
            );
            self.wrong.push(self.spec.text.diagnostic(&first.span, message).help(Some(help)));
        }
        there
    }

    /// Checks that no two inputs of a port are called alike.
    fn check_labels(&mut self, port: &Port, input: &InputSpec, edges: &[Edge]) {
        let mut seen = HashSet::new();
        let twice = edges.iter().find(|edge| !seen.insert(edge.label.as_str()));
        if let (true, Some(edge)) = (port.many, twice) {
            let message = format!("two inputs of `{}` are called `{}`", input.port, edge.label);
            let help = format!("call each by a name of its own: {} = {{ NAME = \"STEP\" }}", input.port);
            self.wrong.push(self.spec.text.diagnostic(&input.span, message).help(Some(help)));
        }
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
        // The user names it, and stages make folders of that name.
        if port.name == "*" && !is_name(&input.port) {
            let message = format!("{:?} cannot name an input", input.port);
            self.complain(step, Problem::input(&input.port, message).help(NAMES_ARE));
            return None;
        }
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
}
