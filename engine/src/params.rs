//! Parameters of a step against the JSON schema of its stage: checking, defaults, and which of them enter the key.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use jsonschema::Validator;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::problem::{Problem, nearest};
use crate::spec::settings;
use crate::spec::substitute::type_name;

/// The extension that marks a parameter that changes speed only.
const PERFORMANCE: &str = "x-performance";

/// The schema of a stage, made once.
type SchemaOf = fn() -> schemars::Schema;

/// The parameters that a schema describes, ready to check with.
pub struct Parameters {
    schema: Value,
    /// Made when first needed: it costs a thousand times what the names cost.
    validator: OnceLock<Validator>,
    /// Those that change speed only.
    speed: BTreeSet<String>,
    defaults: Vec<(String, Value)>,
}

/// The parameters of a schema. Schemas and validators are made once a process: they cost more than all else that checking does.
#[must_use]
pub fn of(schema: SchemaOf) -> Arc<Parameters> {
    static MADE: LazyLock<Mutex<HashMap<usize, Arc<Parameters>>>> = LazyLock::new(Mutex::default);
    // Two functions may share an address only if they are the same code, and then they give the same schema.
    let address = schema as usize;
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(made.entry(address).or_insert_with(|| Arc::new(Parameters::new(schema().to_value()))))
}

/// Checks parameters against the schema of a stage and fills in defaults.
///
/// # Errors
/// Everything wrong with them.
pub fn check(schema: SchemaOf, given: &Value) -> Result<Value, Vec<Problem>> {
    let parameters = of(schema);
    parameters.validate(given)?;
    Ok(parameters.filled(given))
}

/// The parameters that enter the key, sorted by name.
#[must_use]
pub fn semantic(schema: SchemaOf, params: &Value) -> Vec<(&str, &Value)> {
    let parameters = of(schema);
    let mut semantic = params.as_object().map(by_name).unwrap_or_default();
    semantic.retain(|(name, _)| !parameters.speed.contains(*name));
    semantic
}

impl Parameters {
    fn new(schema: Value) -> Self {
        let properties = || properties(&schema).into_iter().flatten();
        let speed = |property: &Value| property.get(PERFORMANCE).and_then(Value::as_bool) == Some(true);
        let speed = properties().filter(|(_, property)| speed(property)).map(|(name, _)| name.clone()).collect();
        let default = |(name, property): (&String, &Value)| Some((name.clone(), property.get("default")?.clone()));
        let defaults = properties().filter_map(default).collect();
        Self { validator: OnceLock::new(), speed, defaults, schema }
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        properties(&self.schema).into_iter().flatten().map(|(name, _)| name.as_str())
    }

    /// Whether there is a parameter of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        properties(&self.schema).is_some_and(|all| all.contains_key(name))
    }

    /// Checks values against the schema.
    ///
    /// # Errors
    /// Everything wrong with them.
    ///
    /// # Panics
    /// When the schema is none, which no schema of a type is.
    pub fn validate(&self, given: &Value) -> Result<(), Vec<Problem>> {
        let make = || jsonschema::validator_for(&self.schema).expect("schemas made of types are schemas");
        let validator = self.validator.get_or_init(make);
        let problems: Vec<Problem> =
            validator.iter_errors(given).flat_map(|error| explain(&self.schema, &error)).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// The values with defaults filled in.
    fn filled(&self, given: &Value) -> Value {
        let mut params = given.clone();
        if let Some(object) = params.as_object_mut() {
            for (name, default) in &self.defaults {
                object.entry(name.clone()).or_insert_with(|| default.clone());
            }
        }
        params
    }
}

/// JSON with object keys sorted at every level: one text for one value.
///
/// # Panics
/// Never: JSON becomes text.
#[must_use]
pub fn canonical(value: &Value) -> String {
    serde_json::to_string(&Sorted(value)).expect("JSON becomes text")
}

/// JSON whose object keys are written in order.
struct Sorted<'a>(&'a Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(map) => serializer.collect_map(by_name(map).into_iter().map(|(name, v)| (name, Self(v)))),
            Value::Array(items) => serializer.collect_seq(items.iter().map(Sorted)),
            scalar => scalar.serialize(serializer),
        }
    }
}

fn by_name(map: &Map<String, Value>) -> Vec<(&str, &Value)> {
    let mut sorted: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value)).collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    sorted
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

/// One complaint of the validator in the words of a pipeline file.
fn explain(schema: &Value, error: &jsonschema::ValidationError<'_>) -> Vec<Problem> {
    let path = dotted(&error.instance_path().to_string());
    let at = |message: String| {
        if path.is_empty() { Problem::step(message) } else { Problem::param(path.clone(), message) }
    };
    let place = if path.is_empty() { "the step".to_owned() } else { format!("`{path}`") };
    let property = find(schema, &path);
    let shown = shorten(error.instance());
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            unexpected.iter().map(|name| unknown_name(property, &path, name)).collect()
        }
        ValidationErrorKind::Required { property: missing } => {
            let name = missing.as_str().unwrap_or_default();
            let about = property.and_then(properties).and_then(|all| all.get(name)).and_then(description);
            vec![Problem { help: about, ..at(format!("`{name}` is missing")) }]
        }
        ValidationErrorKind::Minimum { limit } => vec![at(format!("{place} is {shown}, expected at least {limit}"))],
        ValidationErrorKind::Maximum { limit } => vec![at(format!("{place} is {shown}, expected at most {limit}"))],
        ValidationErrorKind::ExclusiveMinimum { limit } => {
            vec![at(format!("{place} is {shown}, expected more than {limit}"))]
        }
        ValidationErrorKind::ExclusiveMaximum { limit } => {
            vec![at(format!("{place} is {shown}, expected less than {limit}"))]
        }
        ValidationErrorKind::MinItems { .. } | ValidationErrorKind::MinProperties { .. }
            if is_empty(error.instance()) =>
        {
            vec![Problem { help: property.and_then(description), ..at(format!("{place} has no values")) }]
        }
        ValidationErrorKind::PropertyNames { error } => {
            let help = "use letters, digits and `_`, and no digit first";
            vec![at(format!("{} in {place} is no name", error.instance())).help(help)]
        }
        ValidationErrorKind::Type { kind } => {
            let found = type_name(error.instance());
            let problem = at(format!("{place} is {shown} ({found}), expected {}", type_names(kind)));
            vec![Problem { help: property.and_then(description), ..problem }]
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context }
            if closest(context).is_some() =>
        {
            closest(context).into_iter().flatten().flat_map(|error| explain(schema, error)).collect()
        }
        ValidationErrorKind::Enum { .. }
        | ValidationErrorKind::Constant { .. }
        | ValidationErrorKind::OneOfNotValid { .. }
        | ValidationErrorKind::AnyOf { .. } => vec![not_a_choice(property, &place, error.instance(), at)],
        _ => vec![Problem { help: property.and_then(description), ..at(format!("{place}: {error}")) }],
    }
}

/// Of several forms a value may have, the complaints about the one it has: whose type is right.
fn closest<'a>(
    forms: &'a [Vec<jsonschema::ValidationError<'static>>],
) -> Option<&'a Vec<jsonschema::ValidationError<'static>>> {
    let kind = |error: &jsonschema::ValidationError<'_>| {
        matches!(
            error.kind(),
            ValidationErrorKind::Type { .. } | ValidationErrorKind::Enum { .. } | ValidationErrorKind::Constant { .. }
        )
    };
    forms.iter().find(|errors| !errors.is_empty() && !errors.iter().any(kind))
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}

fn unknown_name(property: Option<&Value>, path: &str, name: &str) -> Problem {
    let full = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let known: Vec<&str> = property.and_then(properties).into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    // Beside its parameters a step has settings.
    let settings = if path.is_empty() { settings::names() } else { &[] };
    let help = match nearest(name, known.iter().copied().chain(settings.iter().map(String::as_str))) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "it takes no parameters".to_owned(),
        None => format!("expected one of {}", known.join(", ")),
    };
    Problem::param(format!("{full}="), format!("unknown parameter `{name}`")).help(help)
}

fn not_a_choice(property: Option<&Value>, place: &str, value: &Value, at: impl Fn(String) -> Problem) -> Problem {
    let choices = property.map(choices).unwrap_or_default();
    let shown = shorten(value);
    if choices.is_empty() {
        let help = property.and_then(description);
        return Problem { help, ..at(format!("{place} is {shown}, which does not fit")) };
    }
    let names: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
    let near = value.as_str().and_then(|text| nearest(text, names.iter().copied()));
    let list = choices.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let help = near.map(|near| format!("did you mean `{near}`?"));
    Problem { help, ..at(format!("{place} is {shown}, expected one of {list}")) }
}

/// The values a schema names one by one.
fn choices(schema: &Value) -> Vec<Value> {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.clone();
    }
    if let Some(value) = schema.get("const") {
        return vec![value.clone()];
    }
    let of = |name: &str| schema.get(name).and_then(Value::as_array).into_iter().flatten();
    of("oneOf").chain(of("anyOf")).flat_map(choices).collect()
}

fn description(schema: &Value) -> Option<String> {
    schema.get("description").and_then(Value::as_str).map(|text| text.replace('\n', " "))
}

fn type_names(kind: &TypeKind) -> String {
    let name = |text: &str| match text {
        "object" => "table".to_owned(),
        "string" => "text".to_owned(),
        "array" => "list".to_owned(),
        other => other.to_owned(),
    };
    match kind {
        TypeKind::Single(one) => name(&one.to_string()),
        TypeKind::Multiple(many) => {
            many.iter().map(|one| name(&one.to_string())).filter(|one| one != "null").collect::<Vec<_>>().join(" or ")
        }
    }
}

/// `/phases/0/name` as `phases.0.name`.
fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace("~1", "/").replace("~0", "~").replace('/', ".")
}

/// The schema of the value at a dotted path, as far as it can be followed.
fn find<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').filter(|part| !part.is_empty()).try_fold(schema, find_part)
}

fn find_part<'a>(schema: &'a Value, part: &str) -> Option<&'a Value> {
    if part.parse::<usize>().is_ok()
        && let Some(items) = schema.get("items")
    {
        return Some(items);
    }
    let own = properties(schema).and_then(|all| all.get(part)).or_else(|| schema.get("additionalProperties"));
    let form = |name: &str| schema.get(name)?.as_array()?.iter().find_map(|form| find_part(form, part));
    // `false` closes a form to other names.
    own.filter(|found| found.is_object()).or_else(|| form("anyOf")).or_else(|| form("oneOf"))
}

fn shorten(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 40 { text } else { format!("{}…", text.chars().take(39).collect::<String>()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Subject;
    use crate::stage::params_schema;
    use schemars::JsonSchema;
    use serde::Deserialize;
    use serde_json::json;

    /// How to fit.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Fit {
        /// Keep the aspect.
        Pad,
        /// Cut.
        Crop,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Phase {
        name: String,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Params {
        /// Pixels of the longer side.
        #[schemars(range(min = 1, max = 100))]
        size: u32,
        #[serde(default = "pad")]
        fit: Fit,
        #[serde(default)]
        #[schemars(extend("x-performance" = true))]
        batch: Option<u32>,
        #[serde(default)]
        phases: Vec<Phase>,
    }

    fn pad() -> Fit {
        Fit::Pad
    }

    fn problems(params: Value) -> Vec<String> {
        let show = |p: Problem| {
            let Subject::Param(path) = &p.subject else {
                return format!("{} | {}", p.message, p.help.unwrap_or_default());
            };
            format!("{path}: {} | {}", p.message, p.help.unwrap_or_default())
        };
        check(params_schema::<Params>, &params).unwrap_err().into_iter().map(show).collect()
    }

    #[test]
    fn defaults_are_filled_in_and_speed_stays_out_of_the_key() {
        let params = check(params_schema::<Params>, &json!({ "size": 3, "batch": 7 })).unwrap();
        assert_eq!(params, json!({ "size": 3, "fit": "pad", "batch": 7, "phases": [] }));
        let names = semantic(params_schema::<Params>, &params).into_iter().map(|(name, _)| name);
        assert_eq!(names.collect::<Vec<_>>(), ["fit", "phases", "size"]);
    }

    #[test]
    fn mistakes_say_what_was_expected() {
        assert_eq!(problems(json!({})), ["`size` is missing | Pixels of the longer side."]);
        assert_eq!(problems(json!({ "size": 0 })), ["size: `size` is 0, expected at least 1 | "]);
        assert_eq!(
            problems(json!({ "size": "x" })),
            ["size: `size` is \"x\" (text), expected integer | Pixels of the longer side."]
        );
        assert_eq!(
            problems(json!({ "size": 1, "sise": 2 })),
            ["sise=: unknown parameter `sise` | did you mean `size`?"]
        );
        let fit = problems(json!({ "size": 1, "fit": "pat" }));
        assert_eq!(fit, ["fit: `fit` is \"pat\", expected one of \"pad\", \"crop\" | did you mean `pad`?"]);
        let phase = problems(json!({ "size": 1, "phases": [{ "name": "a" }, { "nam": "b" }] }));
        assert!(
            phase.contains(&"phases.1.nam=: unknown parameter `nam` | did you mean `name`?".to_owned()),
            "{phase:?}"
        );
    }

    #[test]
    fn canonical_text_does_not_depend_on_the_order_written() {
        let one: Value = serde_json::from_str(r#"{"b":1,"a":[{"d":1,"c":"x\""}]}"#).unwrap();
        let two: Value = serde_json::from_str(r#"{"a":[{"c":"x\"","d":1}],"b":1}"#).unwrap();
        assert_eq!(canonical(&one), canonical(&two));
        assert_eq!(canonical(&one), r#"{"a":[{"c":"x\"","d":1}],"b":1}"#);
    }
}
