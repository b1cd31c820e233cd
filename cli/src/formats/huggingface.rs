//! A dataset as the Hugging Face Hub keeps it: Parquet shards below `data`, and a `README.md` whose front matter says what they hold.

use std::path::{Path, PathBuf};

use pipe_engine::problem::Failure;
use pipe_engine::step::DatasetView;

use super::parquet::{self, Target};

/// Bytes after which the next shard begins: what the Hub itself cuts at.
const SHARD: u64 = 500_000_000;

/// Writes `README.md` and `data/train-00000-of-00001.parquet` and so on.
pub fn write(view: &DatasetView, name: &str, dir: &Path) -> Result<(), Failure> {
    let data = dir.join("data");
    std::fs::create_dir_all(&data).map_err(|error| Failure::io("create", &data, &error))?;
    let mut shards = Shards { data: data.clone(), written: Vec::new() };
    parquet::write(view, &mut shards)?;
    let count = shards.written.len();
    for (at, path) in shards.written.iter().enumerate() {
        let named = data.join(format!("train-{at:05}-of-{count:05}.parquet"));
        std::fs::rename(path, &named).map_err(|error| Failure::io("rename", path, &error))?;
    }
    let readme = dir.join("README.md");
    std::fs::write(&readme, front_matter(view, name)).map_err(|error| Failure::io("write", &readme, &error))
}

struct Shards {
    data: PathBuf,
    written: Vec<PathBuf>,
}

impl Target for Shards {
    fn next(&mut self) -> PathBuf {
        let path = self.data.join(format!("{}.part", self.written.len()));
        self.written.push(path.clone());
        path
    }

    fn most(&self) -> u64 {
        SHARD
    }
}

fn front_matter(view: &DatasetView, name: &str) -> String {
    let rows = view.rows;
    let size = match rows {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        _ => "1M<n<10M",
    };
    format!(
        "---\npretty_name: {}\nsize_categories:\n- {size}\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n---\n\n# {name}\n\n{rows} rows; columns {}.\n",
        serde_json::Value::from(name),
        view.schema
    )
}
