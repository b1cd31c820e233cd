//! `[steps.NAME]`: its settings, the instances of its matrix, and which of them its `when` leaves out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::inputs::WrittenInput;
use super::matrix::{Axis, Families, Family, Instance, MAX_INSTANCES, Values, instance_name};
use super::parse::Parser;
use super::places::Places;
use super::settings::{self, StepSettings};
use super::substitute::Scope;
use super::{LeftOutStep, NAMES_ARE, Span, StepSpec, is_name};
use crate::expression::{Expression, Mistake, Type};
use crate::problem::{Problem, Subject};

/// The variable that counts replicates.
const REPLICATE: &str = "replicate";

/// Settings that are read once for a step of the file; the others once for each of its instances.
const OF_FAMILY: [&str; 2] = ["matrix", "replicates"];

/// What is read apart from parameters and settings.
const STRUCTURE: [&str; 2] = ["stage", "inputs"];

/// The steps of a file.
#[derive(Default)]
pub(super) struct Steps {
    pub(super) steps: Vec<StepSpec>,
    pub(super) families: Families,
    pub(super) left_out: Vec<LeftOutStep>,
}

/// A step of the file, before its instances are made.
struct Written<'a> {
    name: &'a str,
    span: Span,
    table: &'a DeTable<'a>,
    stage: (String, Span),
    /// Where its matrix and replicates stand.
    places: Places,
}

impl Parser<'_> {
    pub(super) fn steps(&mut self, top: &DeTable<'_>, params: &Map<String, Value>) -> Steps {
        let Some(table) = self.table(top, "steps") else {
            if !top.contains_key("steps") {
                self.complain(&(0..0), "the pipeline has no steps", Some("add a table [steps.NAME]".to_owned()));
            }
            return Steps::default();
        };
        let mut written: Vec<_> = table.iter().collect();
        written.sort_by_key(|(key, _)| key.span().start);
        let mut all = Steps::default();
        all.steps.reserve(written.len());
        let mut inputs = Vec::with_capacity(written.len());
        let mut room = MAX_INSTANCES;
        for (key, value) in written {
            let Some(step) = self.written(key.get_ref(), &key.span(), value) else { continue };
            let Some((axes, places)) = self.axes(step.table, params) else { continue };
            let step = Written { places, ..step };
            let mut family = Family::new(axes);
            if self.fits(&step, &family, &mut room) {
                inputs.extend(self.instances(&step, &mut family, params, &mut all));
                all.families.0.insert(step.name.to_owned(), family);
            }
        }
        for (step, inputs) in all.steps.iter_mut().zip(inputs) {
            step.inputs = inputs.into_iter().map(|input| self.resolve(input, &all.families)).collect();
        }
        all
    }

    /// The name and stage of a step.
    fn written<'a>(&mut self, name: &'a str, span: &Span, value: &'a Spanned<DeValue<'a>>) -> Option<Written<'a>> {
        let Some(table) = value.get_ref().as_table() else {
            self.complain(&value.span(), format!("step `{name}` is a table"), None);
            return None;
        };
        if !is_name(name) {
            self.complain(span, format!("`{name}` cannot name a step"), Some(NAMES_ARE.to_owned()));
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
        let stage = (stage_name.to_owned(), stage.span());
        Some(Written { name, span: span.clone(), table, stage, places: Places::default() })
    }

    /// The variables of a step, in the order written, and where they stand; `None` if they are wrong.
    fn axes(&mut self, table: &DeTable<'_>, params: &Map<String, Value>) -> Option<(Vec<Axis>, Places)> {
        let mut places = Places::default();
        let mut given = Map::new();
        let none = Values::new();
        let scope = Scope::new(params, &none);
        for name in OF_FAMILY {
            if let Some(value) = table.get(name) {
                given.insert(name.to_owned(), self.value(value, name, &scope, &mut places));
            }
        }
        let settings = match StepSettings::read(&Value::Object(given)) {
            Ok(settings) => settings,
            Err(problems) => {
                problems.into_iter().for_each(|problem| self.complain_in(&(0..0), &places, problem));
                return None;
            }
        };
        let mut axes: Vec<Axis> = Vec::new();
        for (name, values) in settings.matrix {
            let key = table.get("matrix").and_then(|matrix| matrix.get_ref().as_table()?.get_key_value(name.as_str()));
            let span = key.map(|(key, _)| key.span()).or_else(|| places.get("matrix").cloned()).unwrap_or_default();
            let Value::Array(values) = values else { continue };
            let axis = Axis::new(name, values, span);
            self.check_values(&axis, &places);
            axes.push(axis);
        }
        axes.sort_by_key(|axis| axis.span.start);
        if let Some(count) = settings.replicates {
            let span = places.get("replicates").cloned().unwrap_or_default();
            if axes.iter().any(|axis| axis.name == REPLICATE) {
                self.complain(&span, "`replicates` makes a variable `replicate`, and the matrix has one", None);
            }
            axes.push(Axis::new(REPLICATE.to_owned(), (0..count).map(Value::from).collect(), span));
        }
        Some((axes, places))
    }

    /// Checks that no two values of a variable are alike.
    fn check_values(&mut self, axis: &Axis, places: &Places) {
        if let Some(at) = axis.twice() {
            let (name, value) = (&axis.name, &axis.values[at]);
            let message = format!("{value} stands twice in `matrix.{name}`");
            let problem = Problem::param(format!("matrix.{name}.{at}"), message).help("each value makes one step");
            self.complain_in(&(0..0), places, problem);
        }
    }

    /// Whether there is room for the instances of a step.
    fn fits(&mut self, step: &Written<'_>, family: &Family, room: &mut usize) -> bool {
        if family.axes.is_empty() {
            return true;
        }
        let count = family.axes.iter().try_fold(1_usize, |count, axis| count.checked_mul(axis.values.len()));
        if let Some(left) = count.and_then(|count| room.checked_sub(count)) {
            *room = left;
            return true;
        }
        let steps = count.map_or_else(|| "too many".to_owned(), |count| count.to_string());
        let span = step.places.get("matrix").or_else(|| step.places.get("replicates")).unwrap_or(&step.span);
        let message =
            format!("`{}` would be {steps} steps; the matrices of a pipeline make {MAX_INSTANCES} at most", step.name);
        self.complain(span, message, None);
        false
    }

    /// Makes the instances of a step; what the ports of those that exist are fed.
    fn instances(
        &mut self,
        step: &Written<'_>,
        family: &mut Family,
        params: &Map<String, Value>,
        all: &mut Steps,
    ) -> Vec<Vec<WrittenInput>> {
        let mut inputs = Vec::new();
        let replicates = step.places.get("replicates").is_some();
        // Every replicate has its seed.
        let mut used: BTreeSet<String> = replicates.then(|| REPLICATE.to_owned()).into_iter().collect();
        let types: BTreeMap<String, Type> =
            family.axes.iter().map(|axis| (axis.name.clone(), axis.value_type())).collect();
        for values in family.combinations() {
            let name = instance_name(step.name, &values);
            let scope = Scope::new(params, &values);
            let (made, fed) = self.instance(step, &name, &scope);
            match self.exists(step, &made, (&scope, &types)) {
                Some(when) => all.left_out.push(when),
                None => {
                    inputs.push(fed);
                    let replicate = replicate(&values).filter(|_| replicates);
                    all.steps.push(StepSpec { replicate, ..made });
                }
            }
            used.append(&mut scope.into_used());
            family.instances.push(Instance { name, values });
        }
        for axis in family.axes.iter().filter(|axis| !used.contains(&axis.name)) {
            let name = &axis.name;
            let message = format!("nothing in `{}` uses `{name}`: its steps would all be the same", step.name);
            self.complain(&axis.span, message, Some(format!("write `${{{name}}}` where the value belongs")));
        }
        inputs
    }

    fn instance(&mut self, step: &Written<'_>, name: &str, scope: &Scope<'_>) -> (StepSpec, Vec<WrittenInput>) {
        let inputs = step.table.get("inputs").map_or_else(Vec::new, |value| self.inputs(value, scope));
        let mut places = step.places.only(&OF_FAMILY);
        let (mut params, mut given) = (Map::new(), Map::new());
        for (key, value) in step.table {
            let path = key.get_ref().as_ref();
            if STRUCTURE.contains(&path) || OF_FAMILY.contains(&path) {
                continue;
            }
            let value = self.value(value, path, scope, &mut places);
            // A mistake in the name is shown at the name, one in the value at the value.
            places.note(format!("{path}="), key.span());
            let values = if settings::names().iter().any(|name| name == path) { &mut given } else { &mut params };
            values.insert(path.to_owned(), value);
        }
        let settings = StepSettings::read(&Value::Object(given)).unwrap_or_else(|problems| {
            problems.into_iter().for_each(|problem| self.complain_in(&step.span, &places, problem));
            StepSettings::default()
        });
        let made = StepSpec {
            name: name.to_owned(),
            family: step.name.to_owned(),
            span: step.span.clone(),
            stage: step.stage.0.clone(),
            stage_span: step.stage.1.clone(),
            inputs: Vec::new(),
            params: Value::Object(params),
            settings,
            replicate: None,
            places,
        };
        (made, inputs)
    }

    /// Why a step does not exist, if it does not.
    fn exists(&mut self, step: &Written<'_>, made: &StepSpec, known: Known<'_>) -> Option<LeftOutStep> {
        let span = made.places.get("when").unwrap_or(&step.span);
        let (text, truth) = match &made.settings.when {
            Value::String(text) => (text.clone(), truth(text, known)),
            Value::Bool(truth) => {
                let written = step.table.get("when").and_then(|when| when.get_ref().as_str());
                (written.map_or_else(|| truth.to_string(), str::to_owned), Ok(*truth))
            }
            _ => return None,
        };
        match truth {
            Ok(true) => None,
            Ok(false) => Some(LeftOutStep { step: made.name.clone(), when: text, place: self.text.place(span) }),
            Err(Mistake { at, message, help }) => {
                let span = self.text.inside(span, &text, &at);
                self.complain(&span, message, help);
                None
            }
        }
    }

    /// A complaint about a setting; `otherwise` is where the step stands.
    fn complain_in(&mut self, otherwise: &Span, places: &Places, problem: Problem) {
        let Subject::Param(path) = &problem.subject else {
            return self.complain(otherwise, problem.message, problem.help);
        };
        self.complain(places.around(path).unwrap_or(otherwise), problem.message, problem.help);
    }
}

/// Parameters and variables, and the types that variables have in all instances.
type Known<'a> = (&'a Scope<'a>, &'a BTreeMap<String, Type>);

/// Whether a condition over these parameters and variables holds.
fn truth(text: &str, (scope, types): Known<'_>) -> Result<bool, Mistake> {
    let expression = Expression::parse(text)?;
    expression.paths().iter().for_each(|path| scope.mark(&path.variable));
    let values = scope.values();
    expression
        .check_values(&values, types)
        .and_then(|()| {
            let truth = expression.truth(&values);
            truth.map_err(|fault| Mistake { at: 0..text.len(), message: fault.message, help: fault.help })
        })
        .map_err(|mistake| Mistake {
            message: format!("in `{}`: {}", expression.in_brief(), mistake.message),
            ..mistake
        })
}

fn replicate(values: &Values) -> Option<u32> {
    let (_, value) = values.iter().find(|(name, _)| name == REPLICATE)?;
    u32::try_from(value.as_u64()?).ok()
}
