//! `pipe stages`: what there is, from the table of stages itself.

use pipe_engine::problem::nearest;
use pipe_engine::spec::SpecError;
use pipe_engine::stage::{Port, Stage};
use serde_json::Value;

use crate::error::CliError;
use crate::{exit, text};

/// Lists the stages, or describes one.
pub fn stages(name: Option<&str>, json: bool) -> Result<u8, CliError> {
    let Some(name) = name else {
        list(json);
        return Ok(exit::DONE);
    };
    let stage = pipe_stages::find(name).ok_or_else(|| unknown(name))?;
    if json {
        text::out(&describe_json(stage).to_string());
    } else {
        text::out(&describe(stage));
    }
    Ok(exit::DONE)
}

fn list(json: bool) {
    if json {
        let all: Vec<Value> = pipe_stages::TABLE.iter().map(|stage| describe_json(stage)).collect();
        return text::out(&Value::Array(all).to_string());
    }
    let rows: Vec<Vec<String>> =
        pipe_stages::TABLE.iter().map(|stage| vec![stage.name.to_owned(), stage.about.to_owned()]).collect();
    text::out(&text::table(&rows));
    text::out("\n`pipe stages NAME` describes one.");
}

fn unknown(name: &str) -> CliError {
    let near = nearest(name, pipe_stages::TABLE.iter().map(|stage| stage.name));
    let help =
        near.map_or_else(|| "`pipe stages` lists what there is".to_owned(), |near| format!("did you mean `{near}`?"));
    SpecError::Override { message: format!("there is no stage `{name}`"), help: Some(help) }.into()
}

fn describe(stage: &Stage) -> String {
    let mut lines = vec![format!("{} (version {})", stage.name, stage.version), stage.about.to_owned()];
    lines.extend(ports("inputs", stage.inputs));
    lines.extend(ports("outputs", stage.outputs));
    let schema = (stage.params)();
    let required = |name: &str| {
        schema.get("required").and_then(Value::as_array).is_some_and(|all| all.iter().any(|one| one == name))
    };
    let rows: Vec<Vec<String>> = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, property)| {
            let default = property.get("default").map_or_else(
                || if required(name) { "required".to_owned() } else { String::new() },
                |default| format!("default {default}"),
            );
            let about = property.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
            vec![format!("  {name}"), default, about]
        })
        .collect();
    if !rows.is_empty() {
        lines.push("\nparameters".to_owned());
        lines.push(text::table(&rows));
    }
    lines.join("\n")
}

fn ports(title: &str, ports: &[Port]) -> Vec<String> {
    if ports.is_empty() {
        return Vec::new();
    }
    let rows: Vec<Vec<String>> = ports
        .iter()
        .map(|port| {
            let mut kinds = port.kinds.join(" or ");
            if port.many {
                kinds.push_str(", several");
            }
            if port.optional {
                kinds.push_str(", optional");
            }
            vec![format!("  {}", port.name), kinds, port.about.to_owned()]
        })
        .collect();
    vec![format!("\n{title}"), text::table(&rows)]
}

fn describe_json(stage: &Stage) -> Value {
    let port = |port: &Port| serde_json::json!({ "name": port.name, "kinds": port.kinds, "many": port.many, "optional": port.optional, "about": port.about });
    serde_json::json!({
        "name": stage.name,
        "version": stage.version,
        "about": stage.about,
        "inputs": stage.inputs.iter().map(port).collect::<Vec<_>>(),
        "outputs": stage.outputs.iter().map(port).collect::<Vec<_>>(),
        "parameters": (stage.params)(),
    })
}
