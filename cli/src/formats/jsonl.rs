//! One file of rows: JSON, a row a line, images as their digests.

use std::path::Path;

use pipe_engine::problem::Failure;
use pipe_engine::step::DatasetView;
use serde_json::{Map, Value};

use super::{Out, go_on, json};

/// Writes the rows into one file.
pub fn write(view: &DatasetView, path: &Path) -> Result<(), Failure> {
    let columns: Vec<&str> = view.schema.names().collect();
    let mut out = Out::create(path)?;
    for rows in view.chunks(&columns) {
        go_on()?;
        for row in rows? {
            let mut object: Map<String, Value> = Map::new();
            object.insert("id".to_owned(), Value::from(row.id));
            object.extend(columns.iter().zip(&row.cells).map(|(name, cell)| ((*name).to_owned(), json(cell))));
            out.line(&Value::Object(object))?;
        }
    }
    out.finish()
}
