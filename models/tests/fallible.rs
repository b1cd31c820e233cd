//! Holds the rule that no method of `tch` is called that panics instead of failing.
//!
//! `tch` has each operation twice: `f_view` gives a `Result`, `view` panics. Wherever the sources use the one, the other
//! would be a slip of the pen.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Names that other types have too.
const SHARED: &[&str] = &["all", "cos", "kind"];

/// Names that other types have too, for methods without arguments.
const SHARED_BARE: &[&str] = &["transpose", "sum", "flatten"];

/// Methods that panic and have no counterpart among those in use.
const MORE: &[&str] = &["backward", "i", "manual_seed", "no_grad", "print", "double_value", "int64_value", "item"];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The part of a file that ships: no tests, no comments.
fn shipped(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn operations_that_can_fail_are_called_in_the_form_that_says_so() {
    let mut paths = vec![];
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut paths);
    let files: Vec<(PathBuf, String)> = paths.into_iter().map(|path| (path.clone(), shipped(&path))).collect();
    let fallible = Regex::new(r"\bf_([a-z0-9_]+)\(").unwrap();
    let used: BTreeSet<&str> = files
        .iter()
        .flat_map(|(_, code)| fallible.captures_iter(code).map(|found| found.get(1).unwrap().as_str()))
        .filter(|name| !SHARED.contains(name))
        .chain(MORE.iter().copied())
        .collect();
    assert!(used.len() > 60, "the sources were not found");
    let names = used.into_iter().collect::<Vec<_>>().join("|");
    let panicking = Regex::new(&format!(r"(?s)(\.|\btch::|\bTensor::)({names})\((.)")).unwrap();
    let slips: Vec<String> = files
        .iter()
        .flat_map(|(path, code)| panicking.captures_iter(code).map(move |slip| (path, slip)))
        .filter(|(_, slip)| !(SHARED_BARE.contains(&&slip[2]) && &slip[3] == ")"))
        .map(|(path, slip)| format!("{}: {}", path.display(), &slip[0]))
        .collect();
    assert!(slips.is_empty(), "call the form that begins with `f_`: {slips:#?}");
}
