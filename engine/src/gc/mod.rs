//! What of a store is needed, and by what: from roots (pipelines, lock files, pins, runs) to the records and objects that must stay.
//!
//! Knows what an object refers to; removing is the store's affair ([`pipe_cache::Collector`]). A plan and a collection walk the same way.

mod mark;
mod roots;
mod usage;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use pipe_cache::{Collector, Store, Swept};
use serde::Serialize;

use crate::artifact::store_failure;
use crate::history::History;
use crate::problem::Failure;

pub(crate) use mark::Marker;
pub use roots::{Pin, Root, RootKind, pipeline_root};
pub use usage::{StepUsage, Usage, usage};

/// What decides what stays.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Pipeline files whose lock files count, besides those that run logs tell of.
    pub specs: Vec<PathBuf>,
    /// This many last runs of each pipeline, those under each profile and each choice of `--set` apart.
    pub keep_runs: usize,
    /// Runs that were going within this time.
    pub keep: Duration,
    /// What was used within this time.
    pub grace: Duration,
    /// Bytes up to which what no root needs may stay too, the least recently used going first; none of it where this is `None`.
    pub max_size: Option<u64>,
}

/// What a collection did, or would do.
#[derive(Clone, Debug, Serialize)]
pub struct Collection {
    /// Whether anything was removed.
    pub acted: bool,
    /// What keeps what stays. A thing that several need counts for the first.
    pub roots: Vec<Holding>,
    /// What goes.
    pub removed: Swept,
    /// Bytes that `removed` takes.
    pub freed: u64,
    /// Bytes of records and objects that stay because something needs them.
    pub kept: u64,
    /// Things worth saying.
    pub notes: Vec<String>,
}

/// What a root holds that no root before it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holding {
    /// Its kind.
    pub kind: RootKind,
    /// Its name.
    pub root: String,
    /// Action records.
    pub records: u64,
    /// Bytes of records and objects.
    pub bytes: u64,
}

/// Collects what no root needs, or only says what that would be.
///
/// # Errors
/// When the store cannot be read, or it is not certain what a root needs.
pub fn collect(store: &Store, named: Vec<Root>, policy: &Policy, act: bool) -> Result<Collection, Failure> {
    let collector = Collector::new(store, policy.grace, act).map_err(store_failure)?;
    let (mut marker, mut holdings) = needed(store, &collector, named, policy)?;
    let mut swept = collector.records(&marker.keep).map_err(store_failure)?;
    if act {
        // Whatever is recorded by now was recorded or looked up meanwhile.
        for recorded in store.recorded().map_err(store_failure)? {
            marker.record(&recorded.key)?;
        }
    }
    swept = collector.content(&marker.keep, swept).map_err(store_failure)?;
    let notes = notes(&marker, policy, &swept);
    holdings.retain(|holding| holding.bytes > 0 || holding.records > 0 || holding.kind == RootKind::Pin);
    Ok(Collection { acted: act, roots: holdings, freed: swept.bytes(), removed: swept, kept: marker.bytes, notes })
}

/// Marks what must stay; says what keeps it.
fn needed<'a>(
    store: &'a Store,
    collector: &Collector<'_>,
    named: Vec<Root>,
    policy: &Policy,
) -> Result<(Marker<'a>, Vec<Holding>), Failure> {
    let history = History::open(store)?;
    let mut marker = Marker::new(store)?;
    let mut holdings = Vec::new();
    let mut roots = named;
    roots.extend(roots::of_store(store, &history, policy, collector.now())?);
    for root in &roots {
        holdings.push(marker.root(root)?);
    }
    holdings.push(recently_used(collector, &mut marker, store)?);
    unfinished(collector, &mut marker, store, policy)?;
    if let Some(max) = policy.max_size {
        holdings.push(as_room_allows(&mut marker, store, max)?);
    }
    Ok((marker, holdings))
}

/// Everything a store records as used within the grace period stays.
fn recently_used(collector: &Collector<'_>, marker: &mut Marker<'_>, store: &Store) -> Result<Holding, Failure> {
    let recorded = store.recorded().map_err(store_failure)?;
    let keys = recorded.into_iter().filter(|recorded| !collector.is_old(recorded.used)).map(|recorded| recorded.key);
    marker.root(&Root {
        kind: RootKind::Recent,
        name: "used just now".to_owned(),
        keys: keys.collect(),
        ..Root::default()
    })
}

/// Work that has no record yet: checkpoints and rows that are as young as the runs that are kept.
fn unfinished(
    collector: &Collector<'_>,
    marker: &mut Marker<'_>,
    store: &Store,
    policy: &Policy,
) -> Result<(), Failure> {
    let abandoned = |used: SystemTime| collector.now().duration_since(used).is_ok_and(|age| age >= policy.keep);
    for found in store.checkpointed().map_err(store_failure)? {
        if !abandoned(found.used) || marker.keep.checkpoints.contains(&found.key) {
            marker.checkpoints(&found.key)?;
        }
    }
    for found in store.remembered().map_err(store_failure)? {
        if !abandoned(found.used) && !marker.keep.memories.contains(&found.key) {
            marker.memory(&found.key)?;
        }
    }
    Ok(())
}

/// What was used last stays too, as far as there is room.
fn as_room_allows(marker: &mut Marker<'_>, store: &Store, max: u64) -> Result<Holding, Failure> {
    let mut recorded = store.recorded().map_err(store_failure)?;
    recorded.retain(|recorded| !marker.keep.records.contains(&recorded.key));
    recorded.sort_by_key(|recorded| (std::cmp::Reverse(recorded.used), recorded.key));
    let mut holding =
        Holding { kind: RootKind::Room, root: "used last, as room allows".to_owned(), records: 0, bytes: 0 };
    let before = marker.clone();
    let fits = |marker: &mut Marker<'_>, key| marker.record(key).map(|()| marker.bytes <= max);
    let mut room = 0;
    for recorded in &recorded {
        if !fits(marker, &recorded.key)? {
            break;
        }
        room += 1;
    }
    // The last one did not fit: once more without it.
    let bytes = before.bytes;
    *marker = before;
    recorded[..room].iter().try_for_each(|recorded| marker.record(&recorded.key))?;
    (holding.records, holding.bytes) = (room as u64, marker.bytes - bytes);
    Ok(holding)
}

fn notes(marker: &Marker<'_>, policy: &Policy, swept: &Swept) -> Vec<String> {
    let mut notes = Vec::new();
    if !marker.missing.is_empty() {
        notes.push(format!(
            "{} objects that are needed are gone; runs make them again (see `pipe verify`)",
            marker.missing.len()
        ));
    }
    if policy.max_size.is_some_and(|max| marker.bytes > max) {
        notes.push(
            "what the roots need takes more than --max-size; fewer --keep-runs or --keep-days let go of more"
                .to_owned(),
        );
    }
    if swept.postponed.count > 0 {
        notes.push(format!(
            "{} packs could be rewritten, for {} bytes, while no other process has the store open",
            swept.postponed.count, swept.postponed.bytes
        ));
    }
    notes.extend(swept.trouble.iter().map(|trouble| format!("packs were not rewritten: {trouble}")));
    notes
}
