//! `pipe export`: what a step gave, as files that people and other programs open.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use pipe_engine::artifact::Manifest;
use pipe_engine::dataset;
use pipe_engine::problem::{Failure, FailureClass};
use pipe_engine::run::{self, Artifact, find_all};
use pipe_engine::spec::SpecError;
use pipe_engine::step::FileSet;

use super::show::{gone, not_there, output};
use crate::args::{ExportArgs, ExportFormat};
use crate::error::CliError;
use crate::session::Session;
use crate::{exit, formats, text};

/// Exports an artifact: a dataset as `rows.jsonl` and images, anything else as the files it holds.
pub fn export(args: &ExportArgs, json: bool) -> Result<u8, CliError> {
    let session = Session::open_to_look(&args.spec, json)?;
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
    let aside = Aside::new(&args.directory)?;
    // An interruption or a full disk leaves nothing half written.
    let written = write(&session, artifact, args, &aside.path).and_then(|what| aside.done().map(|()| what));
    let what = match written {
        Err(failure) if failure.class == FailureClass::Lost => {
            session.look(|context| run::examine(&session.graph, at, &found, context));
            return Err(failure.help(format!("pipe run {} makes it again", args.spec.spec.display())).into());
        }
        written => written?,
    };
    if json {
        let mut value = serde_json::json!({ "directory": args.directory, "kind": artifact.manifest.kind(), "digest": artifact.digest });
        if !session.graph.gone.is_empty() {
            value["gone"] = gone(&session.graph);
        }
        text::out(&value.to_string());
    } else {
        text::out(&format!("{}: {what} of {} ({})", args.directory.display(), args.step, artifact.manifest.kind()));
    }
    Ok(exit::DONE)
}

/// Writes an artifact; says how much it was.
fn write(session: &Session, artifact: &Artifact, args: &ExportArgs, dir: &Path) -> Result<String, Failure> {
    Ok(match artifact.manifest.as_ref() {
        Manifest::Dataset(rows) => {
            let view = dataset::view(&session.store, rows, None)?;
            formats::write(&view, args.format, &args.step, dir)?;
            text::count(view.rows, "row")
        }
        Manifest::Files(manifest) => {
            let mut files = FileSet::default();
            for (name, entry) in &manifest.files {
                files.0.insert(name.clone(), dataset::locate(&session.store, &entry.digest)?);
            }
            files.materialise(dir)?;
            text::count(manifest.files.len() as u64, "file")
        }
    })
}

/// Where an export is written until all of it is: beside the target, or inside it where it is there already.
struct Aside<'a> {
    path: PathBuf,
    target: &'a Path,
    within: bool,
}

impl<'a> Aside<'a> {
    /// Makes one; the target must be free.
    fn new(target: &'a Path) -> Result<Self, Failure> {
        must_be_free(target)?;
        let within = target.is_dir();
        let partial = format!(".partial-{}", std::process::id());
        let path = match target.file_name().filter(|_| !within) {
            Some(name) => target.with_file_name([name, partial.as_ref()].into_iter().collect::<OsString>()),
            None => target.join(partial),
        };
        std::fs::create_dir_all(&path).map_err(|error| Failure::io("create", &path, &error))?;
        Ok(Self { path, target, within })
    }

    /// Puts what was written where it belongs.
    fn done(&self) -> Result<(), Failure> {
        let moved =
            |from: &Path, to: &Path| std::fs::rename(from, to).map_err(|error| Failure::io("move", from, &error));
        if !self.within {
            return moved(&self.path, self.target);
        }
        let unreadable = |error: std::io::Error| Failure::io("read", &self.path, &error);
        for entry in std::fs::read_dir(&self.path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            moved(&entry.path(), &self.target.join(entry.file_name()))?;
        }
        Ok(())
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        // What was moved is not there any more.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Makes a directory for what is new.
pub fn make_empty(directory: &Path) -> Result<(), Failure> {
    must_be_free(directory)?;
    std::fs::create_dir_all(directory).map_err(|error| Failure::io("create", directory, &error))
}

/// Nothing of the user's is ever overwritten.
fn must_be_free(directory: &Path) -> Result<(), Failure> {
    const OTHER: &str = "name a directory that does not exist yet";
    if !directory.exists() {
        return Ok(());
    }
    if !directory.is_dir() {
        return Err(Failure::input(format!("{} is a file, not a directory", directory.display())).help(OTHER));
    }
    let mut entries = std::fs::read_dir(directory).map_err(|error| Failure::io("read", directory, &error))?;
    match entries.next() {
        Some(_) => Err(Failure::input(format!("{} is not empty", directory.display())).help(OTHER)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_target_has_all_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for existing in [false, true] {
            let target = dir.path().join(format!("out-{existing}"));
            if existing {
                std::fs::create_dir(&target).unwrap();
            }
            let before = names(dir.path());
            let aside = Aside::new(&target).unwrap();
            std::fs::write(aside.path.join("rows.jsonl"), "half").unwrap();
            drop(aside);
            assert_eq!(names(dir.path()), before, "nothing is left of what failed");
            let aside = Aside::new(&target).unwrap();
            std::fs::create_dir(aside.path.join("images")).unwrap();
            std::fs::write(aside.path.join("rows.jsonl"), "all").unwrap();
            aside.done().unwrap();
            drop(aside);
            assert_eq!(names(&target), ["images", "rows.jsonl"]);
            assert!(Aside::new(&target).is_err_and(|failure| failure.message.ends_with("is not empty")));
        }
        assert_eq!(names(dir.path()), ["out-false", "out-true"]);
    }
}
