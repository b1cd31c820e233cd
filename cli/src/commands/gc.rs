//! `pipe gc`: what of the store nothing needs, and what keeps the rest.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pipe_cache::{Removed, Store, Swept};
use pipe_engine::event::unix_seconds;
use pipe_engine::gc::{self, Collection, Holding, Pin, Policy, Root, RootKind};
use pipe_engine::history::History;
use pipe_engine::problem::{Failure, nearest};
use pipe_engine::run::find_all;
use serde_json::json;

use crate::args::{GcArgs, KeepArgs, SpecArgs};
use crate::error::CliError;
use crate::session::{Session, open_store_of};
use crate::{exit, text};

const DAY: u64 = 24 * 3600;

/// Plans or does a collection, or changes pins.
pub fn gc(args: &GcArgs, json: bool) -> Result<u8, CliError> {
    let store = open_store_of(args.specs.first(), &args.store)?;
    if let Some((name, run)) = &args.pin {
        return pin(&store, name, run, json);
    }
    if let Some(name) = &args.unpin {
        return unpin(&store, name, json);
    }
    let roots = named(&args.specs, &store)?;
    let policy = policy(&args.specs, &args.keep);
    let collection = gc::collect(&store, roots, &policy, args.yes)?;
    if json {
        text::out(&serde_json::to_string(&collection).expect("a collection is plain data"));
    } else {
        text::out(&render(&collection));
    }
    Ok(exit::DONE)
}

/// What the pipelines that are named keep.
pub fn named(specs: &[PathBuf], store: &Store) -> Result<Vec<Root>, CliError> {
    specs.iter().map(|spec| root(spec, store)).collect()
}

/// What decides what stays.
pub fn policy(specs: &[PathBuf], args: &KeepArgs) -> Policy {
    // As run logs name them, so that none counts twice.
    let absolute = |spec: &PathBuf| std::path::absolute(spec).unwrap_or_else(|_| spec.clone());
    Policy {
        specs: specs.iter().map(absolute).collect(),
        keep_runs: args.keep_runs,
        keep: Duration::from_secs(u64::from(args.keep_days) * DAY),
        grace: Duration::from_secs(u64::from(args.grace) * 60),
        max_size: args.max_size,
    }
}

/// What a pipeline has as it stands, on this machine's device.
fn root(spec: &Path, store: &Store) -> Result<Root, CliError> {
    let session = Session::open(&SpecArgs::plain(spec, store.root()))?;
    let found = session.look(|context| find_all(&session.graph, context))?;
    Ok(gc::pipeline_root(spec.display().to_string(), &found))
}

fn pin(store: &Store, name: &str, run: &str, json: bool) -> Result<u8, CliError> {
    let history = History::open(store)?;
    let run = history.read(history.find(run)?)?;
    if !store.pin(name, &Pin::of(&run, unix_seconds()))? {
        let failure = Failure::input(format!("there is a pin `{name}` already"));
        return Err(failure.help(format!("let go of it with `pipe gc --unpin {name}`, or choose another name")).into());
    }
    if json {
        text::out(&json!({ "pin": name, "run": run.run }).to_string());
    } else {
        text::out(&format!("{name}: what run {} of {} had stays", run.run, run.pipeline));
    }
    Ok(exit::DONE)
}

fn unpin(store: &Store, name: &str, json: bool) -> Result<u8, CliError> {
    if !store.unpin(name)? {
        let pins = store.pins::<Pin>()?;
        let help = nearest(name, pins.keys().map(String::as_str)).map_or_else(
            || format!("there are {}", pins.keys().cloned().collect::<Vec<_>>().join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        return Err(Failure::input(format!("there is no pin `{name}`")).help(help).into());
    }
    if json {
        text::out(&json!({ "unpinned": name }).to_string());
    } else {
        text::out(&format!("{name}: let go; the next collection may remove what it kept"));
    }
    Ok(exit::DONE)
}

fn render(collection: &Collection) -> String {
    let mut lines = vec!["stays, because of".to_owned()];
    lines.push(text::table(&collection.roots.iter().map(holding).collect::<Vec<_>>()));
    let (goes, size) = if collection.acted { ("went", "were freed") } else { ("goes", "would be freed") };
    let removed = removed(&collection.removed);
    if !removed.is_empty() {
        lines.push(format!("\n{goes}\n{}", text::table(&removed)));
    }
    lines.extend(collection.notes.iter().map(|note| format!("note: {note}")));
    let hint = if collection.acted || collection.freed == 0 { "" } else { "; nothing was removed: --yes does it" };
    lines.push(format!("\n{} stay, {} {size}{hint}", text::bytes(collection.kept), text::bytes(collection.freed)));
    lines.join("\n")
}

fn holding(holding: &Holding) -> Vec<String> {
    let kind = match holding.kind {
        RootKind::Pipeline => "pipeline",
        RootKind::Lock => "lock file",
        RootKind::Pin => "pin",
        RootKind::Run => "run",
        RootKind::Recent | RootKind::Room => "results",
    };
    let name = format!("  {kind} {}", holding.root);
    vec![name, text::count(holding.records, "record"), text::bytes(holding.bytes)]
}

fn removed(swept: &Swept) -> Vec<Vec<String>> {
    let kinds: [(&str, Removed); 7] = [
        ("action records", swept.records),
        ("large objects", swept.objects),
        ("packs of small objects", swept.packs),
        ("packs rewritten smaller", swept.rewritten),
        ("segments of row memory", swept.memories),
        ("checkpoint records", swept.checkpoints),
        ("leftovers of killed processes and of damage", swept.leftovers),
    ];
    let there = kinds.into_iter().filter(|(_, removed)| removed.count > 0);
    there
        .map(|(what, removed)| vec![format!("  {what}"), removed.count.to_string(), text::bytes(removed.bytes)])
        .collect()
}
