//! `pipe du`: what takes the room of a store.

use pipe_engine::gc::{self, StepUsage, Usage};

use crate::args::DuArgs;
use crate::commands::gc::{named, policy};
use crate::error::CliError;
use crate::session::open_store_of;
use crate::{exit, text};

/// Tells what each step takes.
pub fn du(args: &DuArgs, json: bool) -> Result<u8, CliError> {
    let store = open_store_of(args.specs.first(), &args.store)?;
    let usage = gc::usage(&store, named(&args.specs, &store)?, &policy(&args.specs, &args.keep))?;
    if json {
        text::out(&serde_json::to_string(&usage).expect("sizes are plain data"));
    } else {
        text::out(&render(&usage));
    }
    Ok(exit::DONE)
}

fn render(usage: &Usage) -> String {
    let mut lines = vec!["on the disk".to_owned()];
    let files = usage.files.iter().map(|(kind, held)| {
        vec![format!("  {}", directory(kind)), text::count(held.count, "file"), text::bytes(held.bytes)]
    });
    lines.push(text::table(&files.collect::<Vec<_>>()));
    for steps in usage.steps.chunk_by(|a, b| a.pipeline == b.pipeline) {
        let title = match steps[0].pipeline.as_str() {
            "" => "what no run log tells of".to_owned(),
            name => format!("steps of {name}, in all runs"),
        };
        lines.push(format!("\n{title}\n{}", table(steps)));
    }
    let whole: u64 = usage.files.values().map(|held| held.bytes).sum();
    lines.push(format!("\n{} in all; `pipe gc` would free {}", text::bytes(whole), text::bytes(usage.freed)));
    lines.join("\n")
}

fn table(steps: &[StepUsage]) -> String {
    const HEAD: [&str; 7] = ["", "results", "alone", "shared", "row memory", "checkpoints", "not needed"];
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    for step in steps {
        let sizes = [step.results, step.alone, step.results - step.alone, step.memory, step.checkpoints, step.unneeded];
        rows.push([format!("  {}", step.step)].into_iter().chain(sizes.map(size)).collect());
    }
    text::table(&rows)
}

fn size(bytes: u64) -> String {
    if bytes == 0 { "-".to_owned() } else { text::bytes(bytes) }
}

/// What a directory of the store holds, in words.
fn directory(name: &str) -> &str {
    match name {
        "actions" => "action records",
        "objects" => "large objects",
        "packs" => "packs of small objects",
        "rows" => "row memory",
        "runs" => "run logs",
        "index" => "what is known of local files",
        "tmp" => "what processes are writing",
        other => other,
    }
}
