//! A JSON schema of pipeline files, for editors: what may stand where, from the table of stages itself.
//!
//! It can tell less than checking does: columns, kinds and sources are not in it.

use serde_json::{Map, Value, json};

use crate::spec::settings::StepSettings;
use crate::stage::{Port, Stage, params_schema};

/// The names of steps: not all that `check` refuses, but in words that the regular expressions of every language share.
const NAME: &str = r"^[^\x00-\x2C\x2E\x2F\x3A-\x40\x5B-\x5E\x60\x7B-\x7F]+$";

/// The schema of a pipeline whose steps are of these stages.
#[must_use]
pub fn pipeline(stages: &[&'static Stage]) -> Value {
    let step = json!({
        "type": "object",
        "required": ["stage"],
        "properties": { "stage": { "enum": stages.iter().map(|stage| stage.name).collect::<Vec<_>>() } },
        "oneOf": stages.iter().map(|stage| step(stage)).collect::<Vec<_>>(),
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A pipeline of pipe",
        "type": "object",
        "required": ["name", "steps"],
        "additionalProperties": false,
        "properties": {
            "name": { "type": "string", "description": "The name of the pipeline." },
            "description": { "type": "string", "description": "For people." },
            "params": {
                "type": "object",
                "description": "Values that steps refer to as ${name}; --set and profiles replace them.",
            },
            "profiles": {
                "type": "object",
                "description": "Values that replace those of [params]: pipe run --profile NAME.",
                "additionalProperties": { "type": "object" },
            },
            "steps": {
                "type": "object",
                "description": "One table a step: [steps.NAME].",
                "propertyNames": { "pattern": NAME },
                "additionalProperties": step,
            },
        },
        "$defs": {
            "reference": {
                "type": "string",
                "pattern": r"\$\{[^}]+\}",
                "description": "A parameter of the pipeline: ${name}.",
            },
        },
    })
}

/// What may stand in any step besides its stage, inputs and parameters.
fn settings() -> Map<String, Value> {
    let schema = Value::from(params_schema::<StepSettings>());
    schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default()
}

/// A step of one stage.
fn step(stage: &Stage) -> Value {
    let params = Value::from((stage.params)());
    let mut properties = settings();
    properties.insert("stage".to_owned(), json!({ "const": stage.name, "description": stage.about }));
    let mut required = vec!["stage".to_owned()];
    if !stage.inputs.is_empty() {
        properties.insert("inputs".to_owned(), inputs(stage));
        if stage.inputs.iter().any(is_required) {
            required.push("inputs".to_owned());
        }
    }
    for (name, schema) in params.get("properties").and_then(Value::as_object).into_iter().flatten() {
        properties.insert(name.clone(), referable(schema));
    }
    let needed = params.get("required").and_then(Value::as_array).into_iter().flatten();
    required.extend(needed.filter_map(Value::as_str).map(str::to_owned));
    json!({
        "title": stage.name,
        "description": stage.about,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// `*` stands for inputs of the user's naming, of which there may be none.
fn is_required(port: &Port) -> bool {
    !port.optional && port.name != "*"
}

fn inputs(stage: &Stage) -> Value {
    let named = stage.inputs.iter().filter(|port| port.name != "*");
    let properties: Map<String, Value> = named.map(|port| (port.name.to_owned(), input(port))).collect();
    let required: Vec<&str> = stage.inputs.iter().filter(|port| is_required(port)).map(|port| port.name).collect();
    let others = stage.inputs.iter().find(|port| port.name == "*").map_or(Value::Bool(false), input);
    json!({
        "type": "object",
        "description": "What each port takes: the name of a step, with .PORT where it has several outputs.",
        "properties": properties,
        "required": required,
        "additionalProperties": others,
    })
}

/// What a port may be fed: one artifact, or several in a list or a table of labels.
fn input(port: &Port) -> Value {
    let most = if port.many { json!({}) } else { json!({ "maxItems": 1, "maxProperties": 1 }) };
    let mut list = json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 });
    let mut table = json!({ "type": "object", "additionalProperties": { "type": "string" }, "minProperties": 1 });
    for several in [&mut list, &mut table].into_iter().filter_map(Value::as_object_mut) {
        several.extend(most.as_object().cloned().unwrap_or_default());
    }
    json!({
        "description": format!("{} ({})", port.about, port.kinds.join(" or ")),
        "anyOf": [{ "type": "string" }, list, table],
    })
}

/// The schema of a value that may be written as `${name}` instead, at any depth.
fn referable(schema: &Value) -> Value {
    let Some(map) = schema.as_object() else { return schema.clone() };
    let mut inner = map.clone();
    for (name, below) in &mut inner {
        match name.as_str() {
            "properties" => {
                below.as_object_mut().into_iter().flatten().for_each(|(_, schema)| *schema = referable(schema));
            }
            "items" | "additionalProperties" => *below = referable(below),
            "anyOf" | "oneOf" | "prefixItems" => {
                below.as_array_mut().into_iter().flatten().for_each(|schema| *schema = referable(schema));
            }
            _ => {}
        }
    }
    if takes_any_text(map) {
        return Value::Object(inner);
    }
    // What editors show stays on the outside.
    let shown: Map<String, Value> = ["title", "description", "default", "examples"]
        .into_iter()
        .filter_map(|name| inner.remove(name).map(|value| (name.to_owned(), value)))
        .collect();
    let mut outer = json!({ "anyOf": [inner, { "$ref": "#/$defs/reference" }] });
    outer.as_object_mut().into_iter().for_each(|outer| outer.extend(shown.clone()));
    outer
}

/// Whether a reference fits a schema as it is.
fn takes_any_text(schema: &Map<String, Value>) -> bool {
    let narrowed = ["enum", "const", "pattern", "format", "minLength", "maxLength"];
    let text = match schema.get("type") {
        Some(Value::String(one)) => one == "string",
        Some(Value::Array(several)) => several.iter().any(|one| one == "string"),
        _ => false,
    };
    text && !narrowed.iter().any(|name| schema.contains_key(*name))
}
