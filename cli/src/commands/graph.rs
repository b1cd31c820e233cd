//! `pipe graph`: the pipeline as a picture, coloured by what a run would do.

use pipe_engine::draw::Drawing;
use pipe_engine::plan;
use pipe_engine::problem::Failure;

use crate::args::{GraphArgs, GraphFormat};
use crate::error::CliError;
use crate::session::Session;
use crate::{exit, text};

/// Draws a pipeline.
pub fn graph(args: &GraphArgs, json: bool) -> Result<u8, CliError> {
    let session = Session::open(&args.spec)?;
    let wanted = session.graph.select(&[])?;
    let plan = session.look(|context| plan::plan(&session.graph, &wanted, context))?;
    let drawing = Drawing::new(&session.graph, &plan);
    let format = args.format.unwrap_or_else(|| GraphFormat::of(args.output.as_deref()));
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
