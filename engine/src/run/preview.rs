//! What a local source would give now. Nothing is stored.

use std::path::Path;

use pipe_cache::{Blob, Digest, Store};

use super::{Context, Quiet};
use crate::build::{TakeChunks, in_chunks};
use crate::cell::{Cell, Row};
use crate::graph::Step;
use crate::problem::Failure;
use crate::source::{Outputs, RowSource, SourceContext};
use crate::stage::{DATASET, Execute};

/// Reads a source that lies in local files and gives datasets only; false where it is none.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read(step: &Step, context: &Context<'_>, outputs: &dyn Outputs) -> Result<bool, Failure> {
    let local = step.resolution.as_ref().filter(|resolution| !resolution.files.is_empty());
    let datasets_only = step.outputs.iter().all(|output| output.kind == DATASET);
    let (Execute::Source(run), Some(resolution), true) = (&step.stage.execute, local, datasets_only) else {
        return Ok(false);
    };
    run(&SourceContext {
        params: &step.params,
        resolution,
        base: context.base,
        scratch: Path::new(""),
        outputs,
        credentials: context.credentials,
        sink: &Quiet { cancel: context.cancel },
    })?;
    Ok(true)
}

/// Hands over the chunks that a dataset made of these rows would have. Its new images are known by their digest only.
///
/// # Errors
/// When a row cannot be taken, or the disk is full.
pub(crate) fn chunks(store: &Store, rows: &mut RowSource<'_>, take: &mut dyn TakeChunks) -> Result<(), Failure> {
    in_chunks(store, &mut rows.map(|row| Ok(row.map(without_images))), take).map(drop)
}

fn without_images(mut row: Row) -> Row {
    for cell in &mut row.cells {
        if let Some(digest) = cell.image_digest() {
            *cell = Cell::Image(unstored(&digest));
        }
    }
    row
}

/// Stands for an object that is not stored: it has a name and lies nowhere.
pub(crate) fn unstored(digest: &Digest) -> Blob {
    Blob { digest: *digest, path: Path::new("").into(), offset: 0, len: 0 }
}
