//! `pipe export`: what a step gave, as files that people and other programs open.

use pipe_engine::artifact::Manifest;
use pipe_engine::dataset;
use pipe_engine::problem::{Failure, FailureClass};
use pipe_engine::run::{self, Artifact, find_all};
use pipe_engine::spec::SpecError;
use pipe_engine::step::FileSet;

use super::show::{not_there, output};
use crate::args::{ExportArgs, ExportFormat};
use crate::error::CliError;
use crate::session::Session;
use crate::{exit, formats, text};

/// Exports an artifact: a dataset as `rows.jsonl` and images, anything else as the files it holds.
pub fn export(args: &ExportArgs, json: bool) -> Result<u8, CliError> {
    let session = Session::open(&args.spec)?;
    let (at, port) = session.graph.locate(&args.step)?;
    let found = session.look(|context| find_all(&session.graph, context))?;
    let step = &session.graph.steps[at];
    let result = found[at].as_ref().ok_or_else(|| not_there(&step.name))?;
    let artifact = output(step, result, port.as_deref())?;
    if args.format != ExportFormat::Folder && artifact.manifest.as_dataset().is_none() {
        let message = format!("`{}` holds files of kind {}, not rows", args.step, artifact.manifest.kind());
        let help = Some("leave out --format: its files are written as they are".to_owned());
        return Err(SpecError::Override { message, help }.into());
    }
    make_empty(&args.directory)?;
    let what = match write(&session, artifact, args) {
        Err(failure) if failure.class == FailureClass::Lost => {
            session.look(|context| run::examine(&session.graph, at, &found, context));
            return Err(failure.help(format!("pipe run {} makes it again", args.spec.spec.display())).into());
        }
        written => written?,
    };
    if json {
        let value = serde_json::json!({ "directory": args.directory, "kind": artifact.manifest.kind(), "digest": artifact.digest });
        text::out(&value.to_string());
    } else {
        text::out(&format!("{}: {what} of {} ({})", args.directory.display(), args.step, artifact.manifest.kind()));
    }
    Ok(exit::DONE)
}

/// Writes an artifact; says how much it was.
fn write(session: &Session, artifact: &Artifact, args: &ExportArgs) -> Result<String, Failure> {
    Ok(match artifact.manifest.as_ref() {
        Manifest::Dataset(rows) => {
            let view = dataset::view(&session.store, rows, None)?;
            formats::write(&view, args.format, &args.step, &args.directory)?;
            text::count(view.rows, "row")
        }
        Manifest::Files(manifest) => {
            let mut files = FileSet::default();
            for (name, entry) in &manifest.files {
                files.0.insert(name.clone(), dataset::locate(&session.store, &entry.digest)?);
            }
            files.materialise(&args.directory)?;
            text::count(manifest.files.len() as u64, "file")
        }
    })
}

/// Nothing of the user's is ever overwritten.
pub fn make_empty(directory: &std::path::Path) -> Result<(), Failure> {
    std::fs::create_dir_all(directory).map_err(|error| Failure::io("create", directory, &error))?;
    let mut entries = std::fs::read_dir(directory).map_err(|error| Failure::io("read", directory, &error))?;
    if entries.next().is_some() {
        let message = format!("{} is not empty", directory.display());
        return Err(Failure::input(message).help("name a directory that does not exist yet"));
    }
    Ok(())
}
