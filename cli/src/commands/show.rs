//! `pipe show`: what a step did and gave.

use pipe_engine::artifact::Manifest;
use pipe_engine::cell::{Cell, Row};
use pipe_engine::graph::{Graph, Step};
use pipe_engine::problem::Failure;
use pipe_engine::run::{Artifact, Found, LeftOut, find_all};
use pipe_engine::spec::SpecError;
use serde_json::{Value, json};

use crate::args::ShowArgs;
use crate::error::CliError;
use crate::session::Session;
use crate::{exit, text};

/// Shows every step, one of them, or one of its rows.
pub fn show(args: &ShowArgs, json: bool) -> Result<u8, CliError> {
    let session = Session::open(&args.spec)?;
    let found = session.look(|context| find_all(&session.graph, context))?;
    let value = match &args.step {
        None => every_step(&session.graph, &found),
        Some(name) => one_step(&session, &found, name, args)?,
    };
    text::out(&if json { value.to_string() } else { render(&value) });
    Ok(exit::DONE)
}

fn every_step(graph: &Graph, found: &[Option<Found>]) -> Value {
    let steps = graph.steps.iter().zip(found).map(|(step, found)| {
        let state = if found.is_some() { "there" } else { "not there" };
        let outputs = found.iter().flat_map(|found| &found.result.outputs);
        let outputs: Vec<String> =
            outputs.map(|(port, artifact)| format!("{port} {}", artifact.digest.short())).collect();
        json!({ "step": step.name, "stage": step.stage.name, "result": state, "outputs": outputs })
    });
    json!({ "pipeline": graph.name, "steps": steps.collect::<Vec<_>>() })
}

fn one_step(session: &Session, found: &[Option<Found>], name: &str, args: &ShowArgs) -> Result<Value, CliError> {
    let (at, port) = session.graph.locate(name)?;
    let step = &session.graph.steps[at];
    let found = found[at].as_ref().ok_or_else(|| not_there(&step.name))?;
    if args.left_out {
        let left: Vec<LeftOut> = found.left_out(step, &session.store)?;
        return Ok(json!({ "step": step.name, "left_out": left }));
    }
    if let Some(id) = &args.row {
        let artifact = output(step, found, port.as_deref())?;
        let rows = rows(session, artifact, |row| row.id == *id, 1)?;
        let row = rows.into_iter().next().ok_or_else(|| no_row(name, id))?;
        return Ok(json!({ "step": step.name, "row": row }));
    }
    let mut value = json!({
        "step": step.name,
        "stage": format!("{}/{}", step.stage.name, step.stage.version),
        "key": found.prepared.key,
        "recipe": found.prepared.recipe.lines().collect::<Vec<_>>(),
        "counts": found.record.counts,
        "measures": found.record.measures,
        "run": found.record.run,
    });
    let mut outputs = Vec::new();
    for (name, artifact) in
        found.result.outputs.iter().filter(|(name, _)| port.as_ref().is_none_or(|port| *name == port))
    {
        outputs.push(describe(session, name, artifact, args.rows)?);
    }
    value["outputs"] = Value::Array(outputs);
    Ok(value)
}

fn describe(session: &Session, port: &str, artifact: &Artifact, limit: usize) -> Result<Value, CliError> {
    Ok(match artifact.manifest.as_ref() {
        Manifest::Files(files) => {
            let files: Vec<String> =
                files.files.iter().map(|(name, entry)| format!("{name} ({} bytes)", entry.len)).collect();
            json!({ "port": port, "kind": artifact.manifest.kind(), "digest": artifact.digest, "files": files })
        }
        Manifest::Dataset(dataset) => json!({
            "port": port,
            "kind": dataset.kind,
            "digest": artifact.digest,
            "rows": dataset.rows(),
            "columns": dataset.schema.to_string(),
            "first": rows(session, artifact, |_| true, limit)?,
        }),
    })
}

/// The first rows of a dataset that are wanted.
fn rows(
    session: &Session,
    artifact: &Artifact,
    wanted: impl Fn(&Row) -> bool,
    limit: usize,
) -> Result<Vec<Value>, CliError> {
    let Manifest::Dataset(dataset) = artifact.manifest.as_ref() else {
        return Err(Failure::input("this output holds files, not rows").into());
    };
    let view = pipe_engine::dataset::view(&session.store, dataset, None)?;
    let columns: Vec<&str> = view.schema.names().collect();
    let mut shown = Vec::new();
    for chunk in view.chunks(&columns) {
        for row in chunk?.into_iter().filter(&wanted).take(limit - shown.len()) {
            shown.push(row_json(&columns, &row));
        }
        if shown.len() == limit {
            break;
        }
    }
    Ok(shown)
}

fn row_json(columns: &[&str], row: &Row) -> Value {
    let mut value = json!({ "id": row.id });
    for (name, cell) in columns.iter().zip(&row.cells) {
        value[*name] = match cell {
            Cell::Image(blob) => json!(format!("image {} ({} bytes)", blob.digest.short(), blob.len)),
            other => crate::formats::json(other),
        };
    }
    value
}

/// The artifact of a port, which may be left out where there is only one.
pub fn output<'a>(step: &Step, found: &'a Found, port: Option<&str>) -> Result<&'a Artifact, CliError> {
    let names: Vec<&str> = step.outputs.iter().map(|output| output.port.as_str()).collect();
    let wanted = match (port, names.as_slice()) {
        (Some(port), _) => port,
        (None, [only]) => only,
        (None, _) => {
            let ports = names.iter().map(|port| format!("{}.{port}", step.name)).collect::<Vec<_>>().join(", ");
            return Err(usage(format!("`{}` has several outputs", step.name), format!("name one of {ports}")));
        }
    };
    found.result.outputs.get(wanted).ok_or_else(|| {
        usage(format!("`{}` has no output `{wanted}`", step.name), format!("it has {}", names.join(", ")))
    })
}

/// The complaint that a step has no result yet.
pub fn not_there(step: &str) -> CliError {
    Failure::input(format!("step `{step}` has no result for the pipeline as it stands"))
        .help("`pipe run` makes it")
        .into()
}

fn no_row(step: &str, id: &str) -> CliError {
    Failure::input(format!("`{step}` gave no row with id `{id}`"))
        .help("`pipe show … --left-out` lists the rows that were left out")
        .into()
}

fn usage(message: String, help: String) -> CliError {
    SpecError::Override { message, help: Some(help) }.into()
}

/// A value as indented lines, without JSON's marks.
fn render(value: &Value) -> String {
    let mut lines = Vec::new();
    render_into(value, 0, &mut lines);
    lines.join("\n")
}

fn render_into(value: &Value, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::Object(inner) if inner.is_empty() => {}
                    Value::Array(inner) if inner.is_empty() => {}
                    Value::Object(_) | Value::Array(_) => {
                        lines.push(format!("{indent}{name}"));
                        render_into(value, depth + 1, lines);
                    }
                    _ => lines.push(format!("{indent}{name}  {}", scalar(value))),
                }
            }
        }
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            lines.extend(items.iter().map(|item| format!("{indent}{}", scalar(item))));
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                if at > 0 && item.as_object().is_some_and(|map| map.len() > 4) {
                    lines.push(String::new());
                }
                match one_line(item) {
                    Some(line) => lines.push(format!("{indent}{line}")),
                    None => render_into(item, depth, lines),
                }
            }
        }
        _ => lines.push(format!("{indent}{}", scalar(value))),
    }
}

/// A small object on one line.
fn one_line(value: &Value) -> Option<String> {
    let map = value.as_object().filter(|map| map.len() <= 4 && map.values().all(|v| !v.is_object()))?;
    let text = map.values().map(|value| match value {
        Value::Array(items) => items.iter().map(scalar).collect::<Vec<_>>().join(", "),
        value => scalar(value),
    });
    Some(text.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("  "))
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}
