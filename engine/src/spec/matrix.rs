//! A matrix: one step of the file, several in the graph. Which there are, how they are called, and which a reference means.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::Span;
use super::selector::{Instances, Selector, means, value_text};
use crate::expression::{Fault, Type};
use crate::problem::nearest;

/// Steps that the matrices of a pipeline make, at most.
pub const MAX_INSTANCES: usize = 10_000;

/// Instances named in a message.
const SHOWN: usize = 4;

/// A variable of a matrix and its values, in the order written.
#[derive(Clone, Debug)]
pub struct Axis {
    /// The variable.
    pub name: String,
    /// Its values.
    pub values: Vec<Value>,
    /// Where it stands.
    pub span: Span,
    /// Places among the values, by how they stand in names.
    places: HashMap<String, usize>,
}

impl Axis {
    pub(super) fn new(name: String, values: Vec<Value>, span: Span) -> Self {
        let mut places = HashMap::new();
        for (at, value) in values.iter().enumerate() {
            places.entry(value_text(value)).or_insert(at);
        }
        Self { name, values, span, places }
    }

    /// The place of the value that a text means.
    fn place(&self, text: &str) -> Option<usize> {
        let exact = self.places.get(&value_text(&Value::from(text))).copied();
        exact.or_else(|| self.values.iter().position(|value| means(text, value)))
    }

    /// The type that all its values have; of values of several types nothing is known.
    pub(super) fn value_type(&self) -> Type {
        let all = self.values.iter().map(Type::of_json).try_fold(Type::Null, |all, one| all.join(&one));
        all.unwrap_or(Type::Any)
    }

    /// The first value that is called like an earlier one, or is the same number.
    pub(super) fn twice(&self) -> Option<usize> {
        let mut numbers = HashSet::new();
        self.values.iter().enumerate().position(|(at, value)| {
            let number = value.as_f64().is_some_and(|number| !numbers.insert(number.to_bits()));
            number || self.places.get(&value_text(value)) != Some(&at)
        })
    }
}

/// The values of the variables of one instance, in the order of the matrix.
pub type Values = Vec<(String, Value)>;

/// A step of the file: one in the graph, or as many as its matrix has combinations.
#[derive(Clone, Debug, Default)]
pub struct Family {
    /// Its variables; none where it is one step.
    pub axes: Vec<Axis>,
    /// Its instances, in order, those that a `when` turned off among them.
    pub instances: Vec<Instance>,
}

/// One of the steps that a step of the file makes.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its name: `train[r=8]`, or `train` where there is no matrix.
    pub name: String,
    /// The values of its variables.
    pub values: Values,
}

impl Family {
    /// A family without its instances.
    pub(super) const fn new(axes: Vec<Axis>) -> Self {
        Self { axes, instances: Vec::new() }
    }

    /// Every combination of values, the last variable changing fastest.
    pub(super) fn combinations(&self) -> impl Iterator<Item = Values> + use<> {
        let axes = self.axes.clone();
        let count: usize = axes.iter().map(|axis| axis.values.len()).product();
        (0..count).map(move |mut at| {
            let mut values: Values = Vec::with_capacity(axes.len());
            for axis in axes.iter().rev() {
                values.push((axis.name.clone(), axis.values[at % axis.values.len()].clone()));
                at /= axis.values.len();
            }
            values.reverse();
            values
        })
    }

    /// The instances that a selector means, as places among [`Family::instances`].
    fn select(&self, name: &str, wanted: &Instances) -> Result<Vec<usize>, Fault> {
        let mut terms: BTreeMap<&str, usize> = BTreeMap::new();
        for (variable, text) in &wanted.terms {
            let axis = self.axis(name, variable)?;
            terms.insert(&axis.name, axis.place(text).ok_or_else(|| no_such_value(name, axis, text))?);
        }
        let left: Vec<&str> =
            self.axes.iter().map(|axis| axis.name.as_str()).filter(|name| !terms.contains_key(name)).collect();
        if !wanted.open && !left.is_empty() {
            return Err(Fault {
                message: format!("this leaves open what `{}` of `{name}` is", left.join("` and `")),
                help: Some(self.how_to_write(name)),
            });
        }
        // The last variable changes fastest, so a place is a number whose digits are places of values.
        let mut places = vec![0];
        for axis in &self.axes {
            let digits = match terms.get(axis.name.as_str()) {
                Some(digit) => *digit..digit + 1,
                None => 0..axis.values.len(),
            };
            let with = |place: usize| digits.clone().map(move |digit| place * axis.values.len() + digit);
            places = places.into_iter().flat_map(with).collect();
        }
        Ok(places)
    }

    fn axis(&self, name: &str, variable: &str) -> Result<&Axis, Fault> {
        self.axes.iter().find(|axis| axis.name == variable).ok_or_else(|| {
            let names: Vec<&str> = self.axes.iter().map(|axis| axis.name.as_str()).collect();
            let help = match nearest(variable, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it has {}", names.join(", ")),
            };
            Fault { message: format!("the matrix of `{name}` has no `{variable}`"), help: Some(help) }
        })
    }

    /// How its instances are written, in a sentence.
    fn how_to_write(&self, name: &str) -> String {
        let shown: Vec<String> = self.instances.iter().take(SHOWN).map(|one| format!("`{}`", one.name)).collect();
        let more = if self.instances.len() > SHOWN { ", …" } else { "" };
        format!("write one of {}{more}, or `{name}[*]` for all where a port takes several", shown.join(", "))
    }
}

fn no_such_value(name: &str, axis: &Axis, text: &str) -> Fault {
    let values: Vec<String> = axis.values.iter().map(value_text).collect();
    let shown = values.iter().take(3 * SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if values.len() > 3 * SHOWN { ", …" } else { "" };
    Fault {
        message: format!("`{}` of `{name}` is never {text}", axis.name),
        help: Some(format!("it is {shown}{more}")),
    }
}

/// How an instance is called: `train[r=8,lr=0.0001]`.
pub(super) fn instance_name(family: &str, values: &Values) -> String {
    if values.is_empty() { family.to_owned() } else { format!("{family}[{}]", bracket(values)) }
}

/// The values of an instance as they stand in its name: `r=8,lr=0.0001`.
#[must_use]
pub fn bracket(values: &Values) -> String {
    values.iter().map(|(name, value)| format!("{name}={}", value_text(value))).collect::<Vec<_>>().join(",")
}

/// All steps of a file, by name.
#[derive(Clone, Debug, Default)]
pub struct Families(pub(super) HashMap<String, Family>);

impl Families {
    /// The step of the file of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Family> {
        self.0.get(name)
    }

    /// The instances that a reference means; `None` where there is no step of that name. Without brackets: the one step there is.
    ///
    /// # Errors
    /// Why it means none, and how to write it.
    pub fn resolve(&self, selector: &Selector) -> Option<Result<Vec<&Instance>, Fault>> {
        let family = self.0.get(&selector.family)?;
        let name = &selector.family;
        Some(match (&selector.instances, family.axes.is_empty()) {
            (None, true) => Ok(family.instances.iter().collect()),
            (None, false) => Err(Fault {
                message: format!("`{name}` is {} steps, one for each value of its matrix", family.instances.len()),
                help: Some(family.how_to_write(name)),
            }),
            (Some(_), true) => Err(Fault {
                message: format!("`{name}` has no matrix"),
                help: Some(format!("write `{name}` without brackets")),
            }),
            (Some(wanted), false) => family
                .select(name, wanted)
                .map(|places| places.into_iter().filter_map(|at| family.instances.get(at)).collect()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn families() -> Families {
        let axis = |name: &str, values: Value| Axis::new(name.to_owned(), values.as_array().unwrap().clone(), 0..0);
        let mut family = Family::new(vec![axis("r", json!([8, 16])), axis("lr", json!([1e-4, "a,b", 2]))]);
        family.instances =
            family.combinations().map(|values| Instance { name: instance_name("train", &values), values }).collect();
        Families([("train".to_owned(), family)].into())
    }

    fn resolved(text: &str) -> Result<Vec<String>, String> {
        let families = families();
        let found = families.resolve(&Selector::parse(text).unwrap()).unwrap();
        let names = found.map(|all| all.into_iter().map(|one| one.name.clone()).collect());
        names.map_err(|fault| format!("{}; {}", fault.message, fault.help.unwrap_or_default()))
    }

    #[test]
    fn the_last_variable_changes_fastest() {
        let all = resolved("train[*]").unwrap();
        assert_eq!(
            all[..4],
            ["train[r=8,lr=0.0001]", "train[r=8,lr=\"a,b\"]", "train[r=8,lr=2]", "train[r=16,lr=0.0001]"]
        );
    }

    #[test]
    fn every_name_means_its_own_instance() {
        for name in resolved("train[*]").unwrap() {
            assert_eq!(resolved(&name), Ok(vec![name.clone()]));
        }
        assert_eq!(resolved("train[lr=1e-4,r=16]").unwrap(), ["train[r=16,lr=0.0001]"]);
        assert_eq!(resolved("train[*,lr=2]").unwrap(), ["train[r=8,lr=2]", "train[r=16,lr=2]"]);
    }

    #[test]
    fn what_is_not_there_is_told() {
        for (wrong, told) in [
            ("train[r=9,*]", "`r` of `train` is never 9; it is 8, 16"),
            ("train[rl=8,*]", "the matrix of `train` has no `rl`; did you mean `lr`?"),
            ("train[r=8]", "this leaves open what `lr` of `train` is; write one of `train[r=8,lr=0.0001]`"),
            ("train", "`train` is 6 steps, one for each value of its matrix; write one of `train[r=8,lr=0.0001]`"),
        ] {
            assert!(resolved(wrong).unwrap_err().starts_with(told), "{:?}", resolved(wrong));
        }
    }
}
