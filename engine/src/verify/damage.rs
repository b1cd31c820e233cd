//! Damage of a store, and what it costs.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use pipe_cache::{Damage, Damaged, Digest, Key, Store};
use rayon::prelude::*;
use serde::Serialize;

use crate::artifact::store_failure;
use crate::gc::Marker;
use crate::history::History;
use crate::problem::Failure;
use crate::worker::client::{Cancel, is_cancelled};

/// What checking a store showed.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// Files and stretches of packs that were checked.
    pub parts: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is damaged.
    pub damage: Vec<Finding>,
    /// Objects that a record needs and that are gone.
    pub missing: Vec<Digest>,
    /// What has to be made again for what is missing.
    pub missing_costs: Vec<Cost>,
    /// Whether what is damaged was set aside.
    pub repaired: bool,
}

impl Verified {
    /// Whether everything is as it should be.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.damage.is_empty() && self.missing.is_empty()
    }
}

/// Something damaged, with what it costs.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What.
    #[serde(flatten)]
    pub damage: Damage,
    /// What has to be made again when it is needed.
    pub costs: Vec<Cost>,
}

/// A result that has to be made again when it is needed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Its key.
    pub key: Key,
    /// The step that had it, where a run tells.
    pub step: Option<String>,
    /// Seconds it took, where they were measured.
    pub seconds: Option<f64>,
}

/// Checks every part of a store, in parallel; `progress` is told bytes done and in all. With `repair` what is damaged is set aside.
///
/// # Errors
/// When the store cannot be read, or the user interrupts.
pub fn verify(
    store: &Store,
    repair: bool,
    cancel: &Cancel,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Verified, Failure> {
    let parts = store.parts().map_err(store_failure)?;
    let total = parts.iter().map(pipe_cache::Part::len).sum();
    let done = std::sync::atomic::AtomicU64::new(0);
    let checked = parts.par_iter().map(|part| {
        if is_cancelled(cancel) {
            return Err(Failure::interrupted());
        }
        let damage = store.check(part).map_err(store_failure);
        let before = done.fetch_add(part.len(), std::sync::atomic::Ordering::Relaxed);
        progress(before + part.len(), total);
        damage
    });
    let mut damage: Vec<Damage> = checked.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    damage.sort_by(|a, b| (a.what, &a.path, a.object).cmp(&(b.what, &b.path, b.object)));
    damage.dedup();
    let bad: HashSet<Digest> = damage.iter().filter_map(|damage| damage.object).collect();
    let mut missing = Marker::of_everything(store)?.missing;
    missing.retain(|digest| !bad.contains(digest));
    let hurt = if bad.is_empty() && missing.is_empty() { BTreeMap::new() } else { hurt(store, &bad, &missing)? };
    let findings = damage.into_iter().map(|damage| Finding { costs: costs(&damage, &hurt), damage });
    let findings: Vec<Finding> = findings.collect();
    let missing_costs = unite(missing.iter().filter_map(|digest| hurt.get(digest)));
    if repair {
        findings.iter().for_each(|finding| store.repair(&finding.damage));
        // Without their records these results count as not there, and are made again.
        let costs = findings.iter().flat_map(|finding| &finding.costs).chain(&missing_costs);
        costs.for_each(|cost| store.forget(&cost.key));
    }
    let parts = parts.len() as u64;
    Ok(Verified {
        parts,
        bytes: total,
        damage: findings,
        missing: missing.into_iter().collect(),
        missing_costs,
        repaired: repair,
    })
}

/// The results that need an object, by object.
fn hurt(
    store: &Store,
    bad: &HashSet<Digest>,
    missing: &BTreeSet<Digest>,
) -> Result<BTreeMap<Digest, Vec<Cost>>, Failure> {
    let mut names: BTreeMap<Key, String> = BTreeMap::new();
    for run in History::open(store)?.runs() {
        names.extend(run.steps.into_iter().filter_map(|step| Some((step.key?, step.step))));
    }
    let mut hurt: BTreeMap<Digest, Vec<Cost>> = BTreeMap::new();
    let all = Marker::new(store)?;
    for recorded in store.recorded().map_err(store_failure)? {
        let mut marker = all.clone();
        marker.record(&recorded.key)?;
        let needed = marker.keep.objects.iter().filter(|digest| bad.contains(*digest) || missing.contains(*digest));
        for digest in needed {
            let record = store.peek(&recorded.key).map_err(store_failure)?;
            let seconds = record.and_then(|record| record.measures.get("seconds").copied());
            let step = names.get(&recorded.key).cloned();
            hurt.entry(*digest).or_default().push(Cost { key: recorded.key, step, seconds });
        }
    }
    Ok(hurt)
}

fn costs(damage: &Damage, hurt: &BTreeMap<Digest, Vec<Cost>>) -> Vec<Cost> {
    match (damage.what, damage.object, damage.key) {
        (_, Some(object), _) => hurt.get(&object).cloned().unwrap_or_default(),
        (Damaged::Record, _, Some(key)) => vec![Cost { key, step: None, seconds: None }],
        _ => Vec::new(),
    }
}

fn unite<'a>(costs: impl Iterator<Item = &'a Vec<Cost>>) -> Vec<Cost> {
    let mut all: Vec<Cost> = costs.flatten().cloned().collect();
    all.sort_by_key(|cost| cost.key);
    all.dedup_by_key(|cost| cost.key);
    all
}
