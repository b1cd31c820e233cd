//! Datasets as files that a person or another program opens: `rows.jsonl`, and the images below `images/`.
//!
//! A row is one JSON object a line: `id` first, then its columns. An image stands there as the path of its file, relative to
//! `rows.jsonl`, so that `download` and `datasets.load_dataset` read back what was written. Knows rows and files; nothing of
//! steps.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use pipe_engine::cell::{Cell, ColumnType, Row};
use pipe_engine::problem::Failure;
use pipe_engine::step::DatasetView;
use pipe_engine::{Blob, Digest};
use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::{image_file, records};

/// The file of rows.
pub const ROWS: &str = "rows.jsonl";
/// The folder of images.
pub const IMAGES: &str = "images";

/// Writes all rows and columns of a dataset below `dir`, which must exist.
///
/// # Errors
/// When a row cannot be read or a file cannot be written.
pub fn export(view: &DatasetView, dir: &Path) -> Result<(), Failure> {
    export_dataset(view, None, dir, &mut |_| Ok(()))
}

/// Writes `rows.jsonl` and the images of these columns (of all, where none are given) below `dir`, which must exist. `progress` is told the
/// number of rows written; an error it returns ends the export.
///
/// # Errors
/// When a row cannot be read or a file cannot be written.
pub fn export_dataset(
    view: &DatasetView,
    columns: Option<&[String]>,
    dir: &Path,
    progress: &mut dyn FnMut(u64) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let names: Vec<&str> = match columns {
        Some(columns) => columns.iter().map(String::as_str).filter(|name| *name != "id").collect(),
        None => view.schema.names().collect(),
    };
    let path = dir.join(ROWS);
    let mut file = BufWriter::new(File::create(&path).map_err(|error| Failure::io("create", &path, &error))?);
    let written = |error: std::io::Error| Failure::io("write", &path, &error);
    let mut images = ImageNames::new(&names, view);
    let mut done = 0;
    for rows in view.chunks(&names) {
        let rows = rows?;
        let mut copies = Vec::new();
        for row in &rows {
            let line = Value::Object(object(row, &names, &mut images, &mut copies)?);
            serde_json::to_writer(&mut file, &line).map_err(|error| written(error.into()))?;
            file.write_all(b"\n").map_err(written)?;
        }
        copies.par_iter().try_for_each(|(name, blob)| copy(blob, &dir.join(name)))?;
        done += rows.len() as u64;
        progress(done)?;
    }
    file.into_inner().map_err(|error| written(error.into_error()))?.sync_all().map_err(written)
}

fn object(
    row: &Row,
    names: &[&str],
    images: &mut ImageNames,
    copies: &mut Vec<(String, Blob)>,
) -> Result<Map<String, Value>, Failure> {
    let mut object = Map::new();
    object.insert("id".to_owned(), Value::from(row.id.as_str()));
    for (name, cell) in names.iter().zip(&row.cells) {
        let value = match cell {
            Cell::Image(blob) => {
                let path = images.path(name, &row.id, blob)?;
                copies.push((path.clone(), blob.clone()));
                Value::from(path)
            }
            other => records::value(other),
        };
        object.insert((*name).to_owned(), value);
    }
    Ok(object)
}

fn copy(blob: &Blob, target: &Path) -> Result<(), Failure> {
    let folder = target.parent().unwrap_or(target);
    fs::create_dir_all(folder).map_err(|error| Failure::io("create", folder, &error))?;
    blob.copy_to(target).map_err(|error| Failure::io("copy", &blob.path, &error))
}

/// Names for the files of images: the id of the row where that can name a file.
struct ImageNames {
    /// Several image columns have a folder each.
    by_column: bool,
    /// Files and folders, in small letters.
    taken: HashSet<String>,
    folders: HashSet<String>,
}

/// Bytes that tell the format of an image.
const SIGNATURE: u64 = 32;

/// File systems take names of 255 bytes.
const MAX_NAME: usize = 200;

impl ImageNames {
    fn new(names: &[&str], view: &DatasetView) -> Self {
        let images = names.iter().filter(|name| view.schema.get(name) == Some(ColumnType::Image)).count();
        Self { by_column: images > 1, taken: HashSet::new(), folders: HashSet::new() }
    }

    fn path(&mut self, column: &str, id: &str, blob: &Blob) -> Result<String, Failure> {
        let start = image_file::start(blob, SIGNATURE).map_err(|bad| Failure::transient(bad.message))?;
        let extensions = image_file::extensions(&start);
        let folder = if self.by_column { format!("{IMAGES}/{}/", plain(column)) } else { format!("{IMAGES}/") };
        let name = plain(id);
        let (stem, ending) = match name.rsplit_once('.') {
            Some((_, ending)) if extensions.contains(&ending.to_ascii_lowercase().as_str()) => (name.as_str(), None),
            Some((stem, _)) if image_file::has_image_extension(&name) => (stem, extensions.first()),
            _ => (name.as_str(), extensions.first()),
        };
        let ending = ending.map_or_else(String::new, |ending| format!(".{ending}"));
        let wished = format!("{folder}{stem}{ending}");
        if self.take(&wished) {
            return Ok(wished);
        }
        let ending = extensions.first().map_or_else(String::new, |ending| format!(".{ending}"));
        let unique = format!("{folder}{}{ending}", Digest::of(id.as_bytes()).short());
        self.take(&unique);
        Ok(unique)
    }

    /// Takes a name, unless it is that of another file or folder in the eyes of a file system that does not tell letters from capitals.
    fn take(&mut self, name: &str) -> bool {
        let name = name.to_lowercase();
        let folders: Vec<&str> = name.match_indices('/').map(|(at, _)| &name[..at]).collect();
        if self.taken.contains(&name) || self.folders.contains(&name) || folders.iter().any(|f| self.taken.contains(*f))
        {
            return false;
        }
        for folder in folders {
            if !self.folders.contains(folder) {
                self.folders.insert(folder.to_owned());
            }
        }
        self.taken.insert(name)
    }
}

/// The text where it is a plain relative path; else a digest of it.
fn plain(text: &str) -> String {
    let part_is_plain = |part: &str| {
        let mut characters = part.chars();
        !part.starts_with('.')
            && part.len() <= MAX_NAME
            && !part.is_empty()
            && characters.all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '=' | ',' | '@' | ' '))
    };
    if text.split('/').all(part_is_plain) && text.len() <= 4 * MAX_NAME {
        text.to_owned()
    } else {
        Digest::of(text.as_bytes()).short()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::schema;
    use pipe_engine::column::Column;
    use pipe_engine::step::ChunkView;

    /// A dataset of one chunk with these columns, in files of `dir`.
    fn dataset(dir: &Path, ids: &[&str], columns: Vec<(&str, Column)>, images: &[&[u8]]) -> DatasetView {
        let types: Vec<_> = columns.iter().map(|(name, column)| (*name, column.column_type())).collect();
        let all = columns.into_iter().chain([("id", Column::texts(ids.iter().map(|&id| id.to_owned())))]);
        let stored = all.map(|(name, column)| (name.to_owned(), crate::testing::blob(dir, &column.encode()))).collect();
        DatasetView {
            schema: schema(&types),
            rows: ids.len() as u64,
            chunks: vec![ChunkView { rows: ids.len() as u64, columns: stored }],
            images: images.iter().map(|bytes| (Digest::of(bytes), crate::testing::blob(dir, bytes))).collect(),
        }
    }

    /// Longer than what tells the format.
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and some forty bytes more, which are no image";

    #[test]
    fn rows_and_images_are_written_side_by_side() {
        let (store, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let image = Some(Digest::of(PNG));
        let columns = vec![
            ("image", Column::Image(vec![image, None, image])),
            ("score", Column::Float(vec![Some(0.5), None, Some(1.0)])),
            ("tags", Column::Texts(vec![Some(vec!["x".into()]), Some(vec![]), None])),
        ];
        let view = dataset(store.path(), &["a/b.jpg", "b", "é"], columns, &[PNG]);
        let mut told = Vec::new();
        export_dataset(&view, None, out.path(), &mut |done| {
            told.push(done);
            Ok(())
        })
        .unwrap();
        assert_eq!(
            fs::read_to_string(out.path().join(ROWS)).unwrap(),
            "{\"id\":\"a/b.jpg\",\"image\":\"images/a/b.png\",\"score\":0.5,\"tags\":[\"x\"]}\n\
             {\"id\":\"b\",\"image\":null,\"score\":null,\"tags\":[]}\n\
             {\"id\":\"é\",\"image\":\"images/é.png\",\"score\":1.0,\"tags\":null}\n"
        );
        assert_eq!(fs::read(out.path().join("images/a/b.png")).unwrap(), PNG);
        assert_eq!(told, [3]);
    }

    #[test]
    fn only_the_columns_asked_for_are_written() {
        let (store, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let columns = vec![("a", Column::Int(vec![Some(1)])), ("b", Column::Int(vec![Some(2)]))];
        let view = dataset(store.path(), &["x"], columns, &[]);
        export_dataset(&view, Some(&["b".to_owned()]), out.path(), &mut |_| Ok(())).unwrap();
        assert_eq!(fs::read_to_string(out.path().join(ROWS)).unwrap(), "{\"id\":\"x\",\"b\":2}\n");
        let stopped = export_dataset(&view, None, out.path(), &mut |_| Err(Failure::interrupted()));
        assert_eq!(stopped.unwrap_err(), Failure::interrupted());
    }

    #[test]
    fn no_id_names_a_file_outside_or_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let view = dataset(dir.path(), &[], vec![("image", Column::empty(ColumnType::Image))], &[]);
        let mut names = ImageNames::new(&["image"], &view);
        let png = crate::testing::blob(dir.path(), PNG);
        let ids = [
            "../b",
            "/etc/x",
            "a//b",
            ".hidden",
            "a\0b",
            "c/.",
            "",
            &"x".repeat(300),
            "A.png",
            "a.png",
            "a",
            "a.gif",
            "a.png/b",
            "d/e.png",
            "D",
            "d/e.PNG",
            "É.png",
            "é.png",
        ];
        let mut all = HashSet::new();
        for id in ids {
            let name = names.path("image", id, &png).unwrap();
            let inside = name.strip_prefix("images/").unwrap();
            assert!(crate::record_rows::stays_inside(inside) && !inside.starts_with('.') && name.len() < 250, "{name}");
            assert!(name.to_lowercase().ends_with(".png"), "{id} lost its ending: {name}");
            assert!(
                all.iter().all(|other: &String| !other.starts_with(&format!("{}/", name.to_lowercase()))),
                "{id}: a file as a folder"
            );
            assert!(all.insert(name.to_lowercase()), "{id} has the name of another");
        }
    }
}
