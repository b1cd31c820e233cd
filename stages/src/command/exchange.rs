//! Inputs as files for a program, and what it leaves as outputs.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;

use pipe_engine::Digest;
use pipe_engine::cell::{Cell, Schema};
use pipe_engine::problem::Failure;
use pipe_engine::step::{Data, Input, StepContext};

use crate::left_out::LeftOut;
use crate::record_rows::{Images, RowMaker, unique};
use crate::records::{self, RecordFormat};
use crate::{kinds, layout};

/// Writes every input below `dir`, in a folder of its port; several on one port in a folder of their label each.
pub fn export_inputs(context: &StepContext<'_>, dir: &Path) -> Result<(), Failure> {
    for (port, inputs) in &context.task.inputs {
        let folder = dir.join(port);
        match &inputs[..] {
            [input] => export(context, input, &folder)?,
            _ => {
                let mut taken = HashSet::new();
                for input in inputs {
                    export(context, input, &folder.join(folder_name(&input.label, &mut taken)))?;
                }
            }
        }
    }
    Ok(())
}

/// A label as the name of one folder: it may hold a path, as values of a matrix may. Where another label has that name, a digest tells
/// them apart, also on file systems that do not tell letters from capitals.
fn folder_name(label: &str, taken: &mut HashSet<String>) -> String {
    const LONGEST: usize = 200;
    let name = label.replace(['/', '\0'], "_");
    let name = if name.trim_matches('.').is_empty() { format!("_{name}") } else { name };
    if name.len() <= LONGEST && taken.insert(name.to_lowercase()) {
        return name;
    }
    let shown: String = name.chars().take(LONGEST / 8).collect();
    format!("{shown}-{}", Digest::of(label.as_bytes()).short())
}

fn export(context: &StepContext<'_>, input: &Input, dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir).map_err(|error| Failure::io("create", dir, &error))?;
    match &input.data {
        Data::Files(files) => files.materialise(dir),
        Data::Dataset(view) => layout::export_dataset(view, None, dir, &mut |done| {
            context.sink.progress(done, view.rows, "exporting");
            if context.sink.cancelled() { Err(Failure::interrupted()) } else { Ok(()) }
        }),
    }
}

/// Takes in the dataset that lies in `dir`.
pub fn take_dataset(context: &StepContext<'_>, port: &str, schema: &Schema, dir: &Path) -> Result<(), Failure> {
    let datasets = context.datasets.ok_or_else(|| Failure::internal("a step that gives datasets runs elsewhere"))?;
    let path = dir.join(layout::ROWS);
    let file = File::open(&path).map_err(|error| {
        Failure::input(format!("the program left no {{out}}/{port}/{}: {error}", layout::ROWS))
            .help("a dataset is one JSON object a line, each with an `id` and the declared columns")
    })?;
    let name = format!("{port}/{}", layout::ROWS);
    let records =
        records::read(file, RecordFormat::Jsonl).map_err(|error| Failure::input(format!("{name}: {error}")))?;
    let image = |path: &str| {
        let path = dir.join(path);
        let regular = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file());
        regular.then(|| fs::read(&path).map(Cell::NewImage).map_err(|error| Failure::io("read", &path, &error)))
    };
    let counted = LeftOut::default();
    // Which columns are wanted is said, or nobody thought of them.
    let left_out = schema.0.is_empty().then_some(&counted);
    let images: Images<'_> = Box::new(image);
    let maker = RowMaker { file: &name, format: RecordFormat::Jsonl, id: Some("id"), schema, images, left_out };
    let mut rows = unique(maker.rows(records).take_while(|_| !context.sink.cancelled()));
    datasets.dataset(port, schema, &mut rows)?;
    counted.tell(&format!("columns.{port}"), context.sink);
    if context.sink.cancelled() { Err(Failure::interrupted()) } else { Ok(()) }
}

/// Takes in the files below `dir`, which must have the layout of the kind.
pub fn take_files(context: &StepContext<'_>, port: &str, kind: &str, dir: &Path) -> Result<(), Failure> {
    let target = context.output(port)?;
    let moved = move_files(dir, target, port)?;
    if moved == 0 {
        return Err(Failure::input(format!("the program left nothing in {{out}}/{port}")));
    }
    match kinds::find(kind) {
        Some(kind) => kind.check_dir(target),
        None => Err(Failure::internal(format!("there is no kind `{kind}`"))),
    }
}

/// Moves regular files; a link could lead to what is in no key.
fn move_files(from: &Path, to: &Path, shown: &str) -> Result<u64, Failure> {
    let mut moved = 0;
    let entries = fs::read_dir(from).map_err(|error| Failure::io("list", from, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| Failure::io("list", from, &error))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let shown = format!("{shown}/{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().map_err(|error| Failure::io("read", &path, &error))?;
        if kind.is_dir() {
            fs::create_dir_all(&target).map_err(|error| Failure::io("create", &target, &error))?;
            moved += move_files(&path, &target, &shown)?;
        } else if kind.is_file() {
            if fs::rename(&path, &target).is_err() {
                fs::copy(&path, &target).map_err(|error| Failure::io("copy", &path, &error))?;
            }
            moved += 1;
        } else {
            return Err(Failure::input(format!("the program left a link or a device at {{out}}/{shown}"))
                .help("leave the files themselves"));
        }
    }
    Ok(moved)
}
