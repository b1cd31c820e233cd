//! How what a step gave differs from what it gave before.

use std::collections::{BTreeMap, BTreeSet};

use pipe_cache::{Digest, Store};
use serde::Serialize;

use super::Artifact;
use crate::artifact::{DatasetManifest, FilesManifest, Manifest};
use crate::compare::{self, RowChanges};
use crate::dataset::load_column;

/// Something that came out another way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The row or output.
    pub what: String,
    /// How it differs.
    pub how: String,
}

/// The outputs that are others than before.
pub(super) fn outputs(
    before: &BTreeMap<String, Artifact>,
    now: &BTreeMap<String, Artifact>,
    store: &Store,
) -> Vec<Difference> {
    let differs = |(port, then): (&String, &Artifact)| {
        let how = match now.get(port) {
            Some(now) if now.digest == then.digest => return None,
            Some(now) => artifacts(&then.digest, store, &now.digest, store),
            None => "is not given".to_owned(),
        };
        Some(Difference { what: port.clone(), how })
    };
    before.iter().filter_map(differs).collect()
}

/// How two artifacts differ, each with the store it lies in: the files or rows that are others, where both have such.
pub(super) fn artifacts(then: &Digest, then_in: &Store, now: &Digest, now_in: &Store) -> String {
    let digests = format!("was {}, is {}", then.short(), now.short());
    let more = match (Manifest::load(then_in, then), Manifest::load(now_in, now)) {
        (Ok(Manifest::Files(then)), Ok(Manifest::Files(now))) => Some(files(&then, &now)),
        (Ok(Manifest::Dataset(then)), Ok(Manifest::Dataset(now))) => rows(&then, then_in, &now, now_in),
        _ => None,
    };
    more.map_or_else(|| digests.clone(), |more| format!("{digests}: {more}"))
}

fn files(then: &FilesManifest, now: &FilesManifest) -> String {
    let names: BTreeSet<&String> = then.files.keys().chain(now.files.keys()).collect();
    let differ = names.into_iter().filter(|name| then.files.get(*name) != now.files.get(*name));
    format!("other {}", differ.cloned().collect::<Vec<_>>().join(", "))
}

/// `None` where they cannot be read.
fn rows(then: &DatasetManifest, then_in: &Store, now: &DatasetManifest, now_in: &Store) -> Option<String> {
    let read = |digest: &Digest| load_column(now_in, digest).or_else(|_| load_column(then_in, digest));
    let RowChanges { now: total, added, removed, changed, by_column, .. } =
        compare::rows(then, now, None, &read).ok()?;
    let columns = by_column.keys().cloned().collect::<Vec<_>>().join(", ");
    let told = [
        (&changed, format!("{} of {total} rows changed (in {columns})", changed.count)),
        (&added, format!("{} rows more", added.count)),
        (&removed, format!("{} rows fewer", removed.count)),
    ];
    let told = told.into_iter().filter(|(ids, _)| ids.count > 0);
    let told: Vec<String> = told.map(|(ids, what)| format!("{what}: {}", ids.first.join(", "))).collect();
    Some(if told.is_empty() { "other columns".to_owned() } else { told.join("; ") })
}
