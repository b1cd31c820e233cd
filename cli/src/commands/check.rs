//! `pipe check`: everything that can be known to be wrong before anything runs.

use serde_json::{Value, json};

use crate::args::{CheckArgs, SpecArgs};
use crate::error::CliError;
use crate::session::Session;
use crate::{exit, text};

/// Checks a pipeline, or several.
pub fn check(args: &CheckArgs, json: bool) -> Result<u8, CliError> {
    if args.more.is_empty() {
        let session = Session::open(&args.spec)?;
        text::out(&if json { told(&session).to_string() } else { in_words(&args.spec, &session) });
        return Ok(exit::DONE);
    }
    let specs = std::iter::once(&args.spec.spec).chain(&args.more);
    let (mut code, mut all) = (exit::DONE, Vec::new());
    for spec in specs {
        let spec = SpecArgs { spec: spec.clone(), ..args.spec.clone() };
        let checked = Session::open(&spec);
        code = checked.as_ref().err().map_or(code, |error| error.code().max(code));
        match checked {
            Ok(session) if json => all.push((spec, told(&session))),
            Ok(session) => text::out(&in_words(&spec, &session)),
            Err(error) if json => all.push((spec, error.json())),
            Err(error) => text::err(&error.render()),
        }
    }
    if json {
        let with_path = |(spec, mut told): (SpecArgs, Value)| {
            told["spec"] = json!(spec.spec);
            told
        };
        text::out(&json!({ "pipelines": all.into_iter().map(with_path).collect::<Vec<_>>() }).to_string());
    }
    Ok(code)
}

/// Each note with the step it is on.
fn notes(session: &Session) -> impl Iterator<Item = (&str, &str)> {
    let steps = session.graph.steps.iter();
    steps.flat_map(|step| step.contract.notes.iter().map(move |note| (step.name.as_str(), note.as_str())))
}

fn told(session: &Session) -> Value {
    let notes: Vec<Value> = notes(session).map(|(step, note)| json!({ "step": step, "note": note })).collect();
    json!({ "pipeline": session.graph.name, "steps": session.graph.steps.len(), "notes": notes })
}

fn in_words(spec: &SpecArgs, session: &Session) -> String {
    let mut lines: Vec<String> = notes(session).map(|(step, note)| format!("note: {step}: {note}")).collect();
    let steps = text::count(session.graph.steps.len() as u64, "step");
    lines.push(format!("{}: {steps}, nothing wrong", spec.spec.display()));
    lines.join("\n")
}
