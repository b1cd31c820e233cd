//! What other programs open: a dataset as one file of rows, as Parquet, as WebDataset shards, as a dataset of the Hugging Face Hub.

mod huggingface;
mod jsonl;
mod parquet;
mod webdataset;

use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering;

use pipe_engine::cell::{Cell, ColumnType};
use pipe_engine::problem::Failure;
use pipe_engine::step::DatasetView;
use serde_json::Value;

use crate::args::ExportFormat;
use crate::session::CANCEL;

/// Writes a dataset below `dir`, which exists and is empty; `name` is what people call it.
pub fn write(view: &DatasetView, format: ExportFormat, name: &str, dir: &Path) -> Result<(), Failure> {
    match format {
        ExportFormat::Folder => pipe_stages::layout::export_dataset(view, None, dir, &mut |_| go_on()),
        ExportFormat::Jsonl => jsonl::write(view, &dir.join("rows.jsonl")),
        ExportFormat::Parquet => parquet::write(view, &mut parquet::one_file(&dir.join("rows.parquet"))),
        ExportFormat::Webdataset => webdataset::write(view, dir),
        ExportFormat::Huggingface => huggingface::write(view, name, dir),
    }
}

/// An interrupted export ends after the rows it is at.
fn go_on() -> Result<(), Failure> {
    if CANCEL.load(Ordering::Relaxed) { Err(Failure::interrupted()) } else { Ok(()) }
}

/// A cell as JSON; an image as its digest.
pub fn json(cell: &Cell) -> Value {
    match cell {
        Cell::Null | Cell::NewImage(_) | Cell::ImageFile(_) => Value::Null,
        Cell::Bool(value) => Value::from(*value),
        Cell::Int(value) => Value::from(*value),
        Cell::Float(value) => Value::from(*value),
        Cell::Text(value) => Value::from(value.as_str()),
        Cell::Texts(value) => Value::from(value.as_slice()),
        Cell::Ints(value) => Value::from(value.as_slice()),
        Cell::Image(blob) => Value::from(blob.digest.to_string()),
    }
}

/// The columns that hold images.
fn image_columns(view: &DatasetView) -> Vec<&str> {
    let images = view.schema.0.iter().filter(|(_, column_type)| **column_type == ColumnType::Image);
    images.map(|(name, _)| name.as_str()).collect()
}

/// A writer whose errors name its file.
struct Out<W: Write> {
    inner: W,
    path: std::path::PathBuf,
}

impl Out<std::io::BufWriter<std::fs::File>> {
    fn create(path: &Path) -> Result<Self, Failure> {
        let file = std::fs::File::create(path).map_err(|error| Failure::io("create", path, &error))?;
        Ok(Self { inner: std::io::BufWriter::new(file), path: path.to_owned() })
    }

    fn line(&mut self, value: &Value) -> Result<(), Failure> {
        writeln!(self.inner, "{value}").map_err(|error| Failure::io("write", &self.path, &error))
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.inner.flush().map_err(|error| Failure::io("write", &self.path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipe_cache::Store;
    use pipe_engine::cell::{Row, Schema};

    /// A dataset with a column of every type, a row of values, a row of nulls, and one of empty lists.
    pub fn every_type(store: &Store) -> DatasetView {
        let types = [
            ("bool", ColumnType::Bool),
            ("float", ColumnType::Float),
            ("image", ColumnType::Image),
            ("int", ColumnType::Int),
            ("ints", ColumnType::Ints),
            ("text", ColumnType::Text),
            ("texts", ColumnType::Texts),
        ];
        let schema = Schema(types.map(|(name, column_type)| (name.to_owned(), column_type)).into());
        let values = vec![
            Cell::Bool(true),
            Cell::Float(0.5),
            Cell::NewImage(include_bytes!("../../templates/red.png").to_vec()),
            Cell::Int(-7),
            Cell::Ints(vec![1, 2]),
            Cell::Text("a \"b\"".to_owned()),
            Cell::Texts(vec!["x".to_owned(), "y".to_owned()]),
        ];
        let mut empty = vec![Cell::Null; 7];
        (empty[4], empty[6]) = (Cell::Ints(Vec::new()), Cell::Texts(Vec::new()));
        let rows = [("a/one.png", values), ("b", vec![Cell::Null; 7]), ("c", empty)];
        let mut rows = rows.into_iter().map(|(id, cells)| Ok(Row { id: id.to_owned(), cells }));
        let built = pipe_engine::build::build(store, &schema, &mut rows).unwrap();
        pipe_engine::dataset::view(store, &built.manifest, None).unwrap()
    }

    fn written(format: ExportFormat) -> (tempfile::TempDir, DatasetView) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let view = every_type(&store);
        std::fs::create_dir(dir.path().join("out")).unwrap();
        write(&view, format, "some rows", &dir.path().join("out")).unwrap();
        (dir, view)
    }

    #[test]
    fn jsonl_has_every_cell() {
        let (dir, _) = written(ExportFormat::Jsonl);
        let text = std::fs::read_to_string(dir.path().join("out/rows.jsonl")).unwrap();
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&rows[0]["int"], &rows[0]["texts"]), (&Value::from(-7), &serde_json::json!(["x", "y"])));
        assert_eq!((&rows[1]["text"], &rows[2]["ints"]), (&Value::Null, &serde_json::json!([])));
    }

    #[test]
    fn parquet_is_read_back_cell_by_cell() {
        use ::parquet::file::reader::{FileReader, SerializedFileReader};
        let (dir, _) = written(ExportFormat::Parquet);
        let file = std::fs::File::open(dir.path().join("out/rows.parquet")).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let rows: Vec<String> = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
        let png = include_bytes!("../../templates/red.png");
        let image = format!("{{bytes: {:?}, path: \"a/one.png\"}}", png.to_vec());
        assert_eq!(
            rows,
            [
                format!(
                    "{{id: \"a/one.png\", bool: true, float: 0.5, image: {image}, int: -7, ints: [1, 2], text: \"a \"b\"\", texts: [\"x\", \"y\"]}}"
                ),
                "{id: \"b\", bool: null, float: null, image: null, int: null, ints: null, text: null, texts: null}"
                    .to_owned(),
                "{id: \"c\", bool: null, float: null, image: null, int: null, ints: [], text: null, texts: []}"
                    .to_owned(),
            ]
        );
    }

    #[test]
    fn samples_of_webdataset_share_a_key() {
        let (dir, _) = written(ExportFormat::Webdataset);
        let file = std::fs::File::open(dir.path().join("out/rows-000000.tar")).unwrap();
        let mut archive = tar::Archive::new(file);
        let names: Vec<String> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names, ["a_one_png.png", "a_one_png.json", "b.json", "c.json"]);
    }

    #[test]
    fn samples_of_like_ids_have_keys_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let schema = Schema([("n".to_owned(), ColumnType::Int)].into());
        let ids = ["A.png", "a.png", "a/b", "a_b", "a:b", ""];
        let mut rows = ids.iter().map(|id| Ok(Row { id: (*id).to_owned(), cells: vec![Cell::Int(1)] }));
        let built = pipe_engine::build::build(&store, &schema, &mut rows).unwrap();
        let view = pipe_engine::dataset::view(&store, &built.manifest, None).unwrap();
        write(&view, ExportFormat::Webdataset, "rows", dir.path()).unwrap();
        let file = std::fs::File::open(dir.path().join("rows-000000.tar")).unwrap();
        let mut names = std::collections::HashSet::new();
        for entry in tar::Archive::new(file).entries().unwrap() {
            names.insert(entry.unwrap().path().unwrap().to_str().unwrap().to_lowercase());
        }
        assert_eq!(names.len(), ids.len(), "{names:?}");
    }

    #[test]
    fn a_hub_dataset_says_what_it_holds() {
        let (dir, _) = written(ExportFormat::Huggingface);
        let readme = std::fs::read_to_string(dir.path().join("out/README.md")).unwrap();
        assert!(readme.starts_with("---\npretty_name: \"some rows\"\nsize_categories:\n- n<1K\n"), "{readme}");
        assert!(dir.path().join("out/data/train-00000-of-00001.parquet").is_file());
    }
}
