//! `pipe show`: what a step did and gave.

use pipe_engine::artifact::{FileEntry, Manifest};
use pipe_engine::cell::{Cell, Row};
use pipe_engine::earlier::Gone;
use pipe_engine::graph::{Graph, Step};
use pipe_engine::problem::Failure;
use pipe_engine::run::{Artifact, Found, LeftOut, find_all};
use pipe_engine::spec::SpecError;
use serde_json::{Map, Value, json};

use crate::args::ShowArgs;
use crate::error::CliError;
use crate::session::Session;
use crate::{exit, shown, text};

/// First rows shown, where nothing else is said.
const FIRST: usize = 5;

/// Rows left out that a person is shown, where nothing else is said.
const LEFT_OUT: usize = 20;

/// Shows every step, one of them, or one of its rows.
pub fn show(args: &ShowArgs, json: bool) -> Result<u8, CliError> {
    let session = Session::open_to_look(&args.spec, json)?;
    let found = session.look(|context| find_all(&session.graph, context))?;
    let mut value = match &args.step {
        None => every_step(&session.graph, &found),
        Some(name) => one_step(&session, &found, name, (args, json))?,
    };
    if json && !session.graph.gone.is_empty() {
        value["gone"] = gone(&session.graph);
    }
    text::out(&if json { value.to_string() } else { shown::render(&value) });
    Ok(exit::DONE)
}

fn every_step(graph: &Graph, found: &[Option<Found>]) -> Value {
    let steps = graph.steps.iter().zip(found).map(|(step, found)| {
        let state = if found.is_some() { "there" } else { "not there" };
        let outputs = found.iter().flat_map(|found| &found.result.outputs);
        let outputs: Map<String, Value> =
            outputs.map(|(port, artifact)| (port.clone(), json!(artifact.digest))).collect();
        json!({ "step": step.name, "stage": step.stage.name, "result": state, "outputs": outputs })
    });
    json!({ "pipeline": graph.name, "steps": steps.collect::<Vec<_>>() })
}

fn one_step(
    session: &Session,
    found: &[Option<Found>],
    name: &str,
    (args, json): (&ShowArgs, bool),
) -> Result<Value, CliError> {
    let (at, port) = session.graph.locate(name)?;
    let step = &session.graph.steps[at];
    let found = found[at].as_ref().ok_or_else(|| not_there(&step.name))?;
    if args.left_out {
        let left: Vec<LeftOut> = found.left_out(step, &session.store)?;
        let limit = args.rows.unwrap_or(if json { usize::MAX } else { LEFT_OUT }).min(left.len());
        let mut value = json!({ "step": step.name, "left_out": left[..limit] });
        if limit < left.len() {
            value["more"] = json!(left.len() - limit);
        }
        return Ok(value);
    }
    if let Some(id) = &args.row {
        let artifact = output(step, found, port.as_deref())?;
        let rows = rows(session, artifact, |row| row.id == *id, 1)?;
        let row = rows.into_iter().next().ok_or_else(|| no_row(name, id))?;
        return Ok(json!({ "step": step.name, "row": row }));
    }
    let mut value = json!({
        "step": step.name,
        "stage": step.stage.versioned(),
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
        outputs.push(describe(session, name, artifact, args.rows.unwrap_or(FIRST))?);
    }
    value["outputs"] = Value::Array(outputs);
    Ok(value)
}

fn describe(session: &Session, port: &str, artifact: &Artifact, limit: usize) -> Result<Value, CliError> {
    Ok(match artifact.manifest.as_ref() {
        Manifest::Files(files) => {
            let file = |(name, entry): (&String, &FileEntry)| json!({ "name": name, "digest": entry.digest, "bytes": entry.len });
            let files: Vec<Value> = files.files.iter().map(file).collect();
            json!({ "port": port, "kind": artifact.manifest.kind(), "digest": artifact.digest, "files": files })
        }
        Manifest::Dataset(dataset) => json!({
            "port": port,
            "kind": dataset.kind,
            "digest": artifact.digest,
            "rows": dataset.rows(),
            "columns": dataset.schema,
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
            Cell::Image(blob) => {
                json!({ "digest": blob.digest, "bytes": blob.len, "path": std::path::absolute(&*blob.path).unwrap_or_else(|_| blob.path.to_path_buf()), "offset": blob.offset })
            }
            other => crate::formats::json(other),
        };
    }
    value
}

/// Sources that cannot be read, each with the run that tells what it held.
pub fn gone(graph: &Graph) -> Value {
    let gone = |gone: &Gone| json!({ "step": gone.step, "place": gone.place, "why": gone.why, "run": gone.run });
    graph.gone.iter().map(gone).collect()
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
