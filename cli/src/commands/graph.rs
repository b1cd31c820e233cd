//! `pipe graph`: the pipeline as a picture, coloured by what a run would do.

use std::path::Path;

use pipe_engine::draw::Drawing;
use pipe_engine::plan;
use pipe_engine::problem::Failure;
use pipe_engine::spec::SpecError;

use crate::args::{GraphArgs, GraphFormat};
use crate::error::CliError;
use crate::session::Session;
use crate::{exit, text};

/// Draws a pipeline.
pub fn graph(args: &GraphArgs, json: bool) -> Result<u8, CliError> {
    let output = args.output.as_deref();
    let format = args.format.or_else(|| GraphFormat::of(output)).ok_or_else(|| unknown(output))?;
    let session = Session::open(&args.spec)?;
    let wanted = session.graph.select(&[])?;
    let plan = session.look(|context| plan::plan(&session.graph, &wanted, context))?;
    let drawing = Drawing::new(&session.graph, &plan);
    let picture = match format {
        _ if json => serde_json::to_string(&drawing).expect("a drawing is plain data"),
        GraphFormat::Dot => drawing.dot(),
        GraphFormat::Mermaid => drawing.mermaid(),
        GraphFormat::Svg => drawing.svg(),
    };
    match &args.output {
        None => text::out(picture.trim_end()),
        Some(path) => std::fs::write(path, picture).map_err(|error| Failure::io("write", path, &error))?,
    }
    Ok(exit::DONE)
}

fn unknown(output: Option<&Path>) -> SpecError {
    let message = format!("the name {} does not say how to draw", output.unwrap_or(Path::new("")).display());
    SpecError::Override { message, help: Some("name a .svg, .mmd or .dot file, or say it with --format".to_owned()) }
}
