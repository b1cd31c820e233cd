//! Differences in words: of rows, of files, of the facts of a recipe.

use pipe_engine::compare::{Ids, RowChanges};
use pipe_engine::explain::{Change, Fact};
use pipe_engine::source_list::FileChanges;

use crate::text;

/// Names given of a list, at most.
const NAMES: usize = 5;
/// Characters of a value, at most.
const VALUE: usize = 60;

/// `3 of 1170 changed: a, b, c (in caption); 1 added: d`.
pub fn rows(changes: &RowChanges) -> String {
    let mut parts = Vec::new();
    if changes.changed.count > 0 {
        let columns = changes.by_column.keys().cloned().collect::<Vec<_>>().join(", ");
        let of = format!("{} of {} changed", changes.changed.count, text::count(changes.now, "row"));
        parts.push(format!("{of}: {} (in {columns})", ids(&changes.changed)));
    }
    for (what, some) in [("added", &changes.added), ("removed", &changes.removed)] {
        if some.count > 0 {
            parts.push(format!("{} {what}: {}", text::count(some.count, "row"), ids(some)));
        }
    }
    for (what, columns) in [("new", &changes.columns_added), ("gone", &changes.columns_removed)] {
        if !columns.is_empty() {
            parts.push(format!("{what} columns: {}", columns.join(", ")));
        }
    }
    if parts.is_empty() { format!("all {} the same", text::count(changes.now, "row")) } else { parts.join("; ") }
}

fn ids(some: &Ids) -> String {
    list(&some.first, some.count)
}

/// The first of some names; says that there are more.
fn list(names: &[String], count: u64) -> String {
    let mut shown = names.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
    if count > names.len().min(NAMES) as u64 {
        shown.push_str(", …");
    }
    shown
}

/// `1 file changed: a.png; 2 files added: b.png, c.png`.
pub fn files(changes: &FileChanges) -> String {
    let parts: Vec<String> = [("changed", &changes.changed), ("added", &changes.added), ("removed", &changes.removed)]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| {
            let count = names.len() as u64;
            format!("{} {what}: {}", text::count(count, "file"), list(names, count))
        })
        .collect();
    if parts.is_empty() { "the same files".to_owned() } else { parts.join("; ") }
}

/// A fact of a recipe, and how it differs.
pub fn fact(change: &Change) -> (String, String) {
    let (before, now) = (change.before.as_deref(), change.now.as_deref());
    let plain = match (before, now) {
        (Some(before), Some(now)) => format!("{} → {}", value(before), value(now)),
        (None, Some(now)) => format!("{} (was not there)", value(now)),
        (Some(before), None) => format!("was {}, is not there", value(before)),
        (None, None) => String::new(),
    };
    match &change.fact {
        Fact::Format => ("recipe".to_owned(), plain),
        Fact::Stage => ("stage".to_owned(), plain),
        Fact::Param { name } => (name.clone(), plain),
        Fact::Device => ("device".to_owned(), plain),
        Fact::Pin => ("pin".to_owned(), plain),
        Fact::Source => ("source".to_owned(), plain),
        Fact::Gives { port } => (format!("output {port}"), plain),
        Fact::From { step } => (format!("came from {step}"), lineage(before, now)),
        Fact::Other { word } => (word.clone(), plain),
        Fact::Input { port, label } => {
            let name = label.as_ref().map_or_else(|| format!("input {port}"), |label| format!("input {port} {label}"));
            (name, input(before, now))
        }
    }
}

fn value(text: &str) -> String {
    text::shorten(text, VALUE)
}

/// Of an input only what is read of it is worth showing besides that it changed.
fn input(before: Option<&str>, now: Option<&str>) -> String {
    let read = |projection: &str| projection.split_once(' ').map_or_else(String::new, |(_, read)| read.to_owned());
    match (before, now) {
        (Some(before), Some(now)) if read(before) == read(now) => "other content".to_owned(),
        (Some(before), Some(now)) => format!("reads {}; before: {}", read(now), read(before)),
        (None, _) => "was not connected".to_owned(),
        (_, None) => "is not connected any more".to_owned(),
    }
}

fn lineage(before: Option<&str>, now: Option<&str>) -> String {
    let what = match (before, now) {
        (Some(_), Some(_)) => "another recipe of it",
        (None, _) => "did not lead here",
        (_, None) => "leads here no more",
    };
    what.to_owned()
}
