//! What the tests share: the golden files (`golden/make.py` made them) and comparisons.
#![allow(dead_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use pipe_models::{CausalLm, Error, LoadOptions, ModelFiles};
use serde_json::Value;
use tch::{Kind, Tensor};

/// Tests run side by side, and several threads for so little work only wait for each other.
pub fn one_thread() {
    pipe_models::set_num_threads(1).unwrap();
}

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub fn files(name: &str) -> ModelFiles {
    ModelFiles::from_dir(golden(name)).unwrap()
}

pub fn causal(name: &str) -> CausalLm {
    one_thread();
    CausalLm::load(&files(name), &LoadOptions::cpu()).unwrap()
}

/// What the reference computed.
pub struct Expected(HashMap<String, Tensor>);

impl Expected {
    pub fn of(name: &str) -> Self {
        let tensors = Tensor::read_safetensors(golden(name).join("expected.safetensors")).unwrap();
        Self(tensors.into_iter().collect())
    }

    pub fn tensor(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("no expectation `{name}`"))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn ids(&self, name: &str) -> Vec<i64> {
        Vec::try_from(self.tensor(name)).unwrap()
    }

    pub fn table(&self, name: &str) -> Vec<Vec<i64>> {
        Vec::try_from(self.tensor(name)).unwrap()
    }

    pub fn numbers(&self, name: &str) -> Vec<f64> {
        Vec::try_from(self.tensor(name)).unwrap()
    }

    pub fn prompts(&self) -> Vec<Vec<i64>> {
        (0..3).map(|i| self.ids(&format!("row{i}"))).collect()
    }
}

/// The largest difference, as a share of the largest number expected.
pub fn distance(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size());
    let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
    let worst = f64::try_from((&found - &expected).abs().max()).unwrap();
    worst / f64::try_from(expected.abs().max()).unwrap()
}

pub fn assert_close(what: &str, found: &Tensor, expected: &Tensor) {
    let distance = distance(found, expected);
    assert!(distance <= 1e-5, "{what}: off by {distance:.2e} of the scale");
}

/// A copy of a golden model whose `config.json` is changed; gone when dropped.
pub fn changed(name: &str, change: impl FnOnce(&mut Value)) -> (tempfile::TempDir, ModelFiles) {
    let dir = copy(name);
    let path = dir.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
    let files = ModelFiles::from_dir(dir.path()).unwrap();
    (dir, files)
}

pub fn copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden(name)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

pub fn load_error(files: &ModelFiles) -> Error {
    CausalLm::load(files, &LoadOptions::cpu()).map(drop).unwrap_err()
}
