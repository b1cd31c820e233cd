//! WebDataset: tar files of samples, each a JSON of the row and its images, under one key.

use std::collections::HashSet;
use std::path::Path;

use pipe_engine::Digest;
use pipe_engine::cell::{Cell, Row};
use pipe_engine::problem::Failure;
use pipe_engine::step::DatasetView;
use pipe_stages::image_file;
use serde_json::{Map, Value};

use super::{Out, go_on, image_columns, json};

/// Bytes after which the next shard begins.
const SHARD: u64 = 1_000_000_000;

type Archive = tar::Builder<std::io::BufWriter<std::fs::File>>;

/// Writes shards `rows-000000.tar`, `rows-000001.tar`, … below a directory.
pub fn write(view: &DatasetView, dir: &Path) -> Result<(), Failure> {
    let mut shards = Shards { view, dir, count: 0, bytes: 0, open: None, keys: HashSet::new() };
    let columns: Vec<&str> = view.schema.names().collect();
    for rows in view.chunks(&columns) {
        go_on()?;
        for row in rows? {
            shards.sample(&row, &columns)?;
        }
    }
    shards.close()
}

struct Shards<'a> {
    view: &'a DatasetView,
    dir: &'a Path,
    count: u32,
    /// Bytes of the open shard.
    bytes: u64,
    open: Option<Archive>,
    keys: HashSet<String>,
}

impl Shards<'_> {
    /// Adds a row. A sample never lies in two shards.
    fn sample(&mut self, row: &Row, columns: &[&str]) -> Result<(), Failure> {
        if self.bytes >= SHARD {
            self.close()?;
        }
        let key = self.key(&row.id);
        let mut object: Map<String, Value> = Map::new();
        object.insert("id".to_owned(), Value::from(row.id.as_str()));
        let single = image_columns(self.view).len() == 1;
        for (name, cell) in columns.iter().zip(&row.cells) {
            let Cell::Image(blob) = cell else {
                object.insert((*name).to_owned(), json(cell));
                continue;
            };
            let bytes = blob.read().map_err(|error| Failure::io("read", &blob.path, &error))?;
            let ending = image_file::extensions(&bytes).first().copied().unwrap_or("bin");
            let name = if single { format!("{key}.{ending}") } else { format!("{key}.{}.{ending}", plain(name)) };
            self.file(&name, &bytes)?;
        }
        self.file(&format!("{key}.json"), Value::Object(object).to_string().as_bytes())
    }

    /// What names a sample: the id without what has a meaning there. Readers cut names at the first dot.
    fn key(&mut self, id: &str) -> String {
        let wished = plain(id);
        // Many file systems do not tell letters from capitals.
        if !wished.is_empty() && wished.len() < 80 && self.keys.insert(wished.to_lowercase()) {
            return wished;
        }
        let unique = format!("{}-{}", wished.chars().take(40).collect::<String>(), Digest::of(id.as_bytes()).short());
        self.keys.insert(unique.to_lowercase());
        unique
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.dir.join(format!("rows-{:06}.tar", self.count));
        if self.open.is_none() {
            self.open = Some(tar::Builder::new(Out::create(&path)?.inner));
        }
        let archive = self.open.as_mut().expect("was just opened");
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        self.bytes += bytes.len() as u64;
        archive.append_data(&mut header, name, bytes).map_err(|error| Failure::io("write", &path, &error))
    }

    fn close(&mut self) -> Result<(), Failure> {
        let path = self.dir.join(format!("rows-{:06}.tar", self.count));
        if let Some(archive) = self.open.take() {
            let finished = archive.into_inner().and_then(|mut file| std::io::Write::flush(&mut file));
            finished.map_err(|error| Failure::io("write", &path, &error))?;
            self.count += 1;
        }
        self.bytes = 0;
        Ok(())
    }
}

fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_alphanumeric() || "_-".contains(c) { c } else { '_' }).collect()
}
