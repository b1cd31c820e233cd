//! The layers of docs/architecture.md hold: every `Cargo.toml` against its table.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;

use pipe_tests::workspace;

/// Crate folder, what of ours it may import.
const LAYERS: [(&str, &[&str]); 7] = [
    ("cache", &[]),
    ("metrics", &[]),
    ("engine", &["pipe-cache"]),
    ("stages", &["pipe-engine", "pipe-metrics"]),
    ("models", &[]),
    ("worker", &["pipe-models", "pipe-stages", "pipe-engine"]),
    ("cli", &["pipe-engine", "pipe-stages", "pipe-metrics", "pipe-cache"]),
];

fn dependencies(folder: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(workspace().join(folder).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = toml::from_str(&text).unwrap();
    let table = |name: &str| manifest.get(name).and_then(toml::Value::as_table).cloned().unwrap_or_default();
    ["dependencies", "build-dependencies"].iter().flat_map(|name| table(name)).map(|(name, _)| name).collect()
}

#[test]
fn crates_import_only_the_layers_below() {
    for (folder, allowed) in LAYERS {
        let ours = dependencies(folder).into_iter().filter(|name| name.starts_with("pipe-") || name == "pipe");
        let stray: Vec<String> = ours.filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(stray.is_empty(), "{folder} must not import {stray:?}");
    }
}

#[test]
fn only_models_and_worker_need_libtorch() {
    for (folder, _) in LAYERS {
        let torch = dependencies(folder).iter().any(|name| name == "tch" || name == "torch-sys");
        assert_eq!(torch, ["models", "worker"].contains(&folder), "{folder}");
    }
}

#[test]
fn every_member_is_in_the_table() {
    let text = fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = toml::from_str(&text).unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap().iter().filter_map(toml::Value::as_str);
    let known: BTreeSet<&str> = LAYERS.iter().map(|(folder, _)| *folder).chain(["tests"]).collect();
    assert_eq!(members.collect::<BTreeSet<_>>(), known);
}

/// The engine prints nothing, reads no environment and names no stage.
#[test]
fn the_engine_keeps_to_itself() {
    let mut stack = vec![workspace().join("engine/src"), workspace().join("cache/src")];
    while let Some(path) = stack.pop() {
        if path.is_dir() {
            stack.extend(fs::read_dir(path).unwrap().flatten().map(|entry| entry.path()));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in ["println!", "eprintln!", "env::var", "\"resize\"", "\"lora_train\"", "\"download\""] {
            let used = code.lines().any(|line| line.contains(word) && !line.trim_start().starts_with("//"));
            assert!(!used, "{} holds {word}", path.display());
        }
    }
}
