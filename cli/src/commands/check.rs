//! `pipe check`: everything that can be known to be wrong before anything runs.

use crate::args::SpecArgs;
use crate::error::CliError;
use crate::session::Session;
use crate::{exit, text};

/// Checks a pipeline.
pub fn check(args: &SpecArgs, json: bool) -> Result<u8, CliError> {
    let session = Session::open(args)?;
    let notes =
        session.graph.steps.iter().flat_map(|step| step.contract.notes.iter().map(move |note| (&step.name, note)));
    if json {
        let notes: Vec<_> = notes.map(|(step, note)| serde_json::json!({ "step": step, "note": note })).collect();
        text::out(
            &serde_json::json!({ "pipeline": session.graph.name, "steps": session.graph.steps.len(), "notes": notes })
                .to_string(),
        );
        return Ok(exit::DONE);
    }
    for (step, note) in notes {
        text::out(&format!("note: {step}: {note}"));
    }
    text::out(&format!(
        "{}: {}, nothing wrong",
        args.spec.display(),
        text::count(session.graph.steps.len() as u64, "step")
    ));
    Ok(exit::DONE)
}
