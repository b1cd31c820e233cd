//! `pipe verify`: whether the store is what it says, and whether the work gives the same again.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use pipe_cache::{Ability, Store};
use pipe_engine::verify::{self, Again, Cost, Sample, Verified, upper_bound};
use serde_json::json;

use crate::args::{SpecArgs, VerifyArgs};
use crate::error::CliError;
use crate::session::{CANCEL, Session, open_store_of};
use crate::{exit, text};

/// Differences shown for a step, at most.
const SHOWN: usize = 10;

/// Checks the store, does a sample of the work again, or tries out the file system.
pub fn verify(args: &VerifyArgs, json: bool) -> Result<u8, CliError> {
    if args.sample.is_some() {
        return sample(args, json);
    }
    let store = open_store_of(args.spec.as_ref(), &args.store)?;
    if args.store_probe {
        return probe(&store, json);
    }
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{bar:24} {bytes}/{total_bytes}  {eta} left").expect("it is fixed"));
    let verified = verify::verify(&store, args.repair, &CANCEL, &|done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    if json {
        text::out(&serde_json::to_string(&verified).expect("findings are plain data"));
    } else {
        text::out(&render(&verified));
    }
    Ok(if verified.is_sound() || verified.repaired { exit::DONE } else { exit::STORE })
}

fn render(verified: &Verified) -> String {
    let read = format!("{} of {} read", text::bytes(verified.bytes), text::count(verified.parts, "part"));
    if verified.is_sound() {
        return format!("{read}; nothing is damaged");
    }
    let mut lines = Vec::new();
    for finding in &verified.damage {
        let name = finding.damage.object.map_or_else(String::new, |object| format!(" {}", object.short()));
        lines.push(format!("damaged {}{name} in {}", finding.damage.what.name(), finding.damage.path.display()));
        lines.extend(costs(&finding.costs));
    }
    if !verified.missing.is_empty() {
        lines.push(format!("{} that records name are gone", text::count(verified.missing.len() as u64, "object")));
        lines.extend(costs(&verified.missing_costs));
    }
    let counts = [(verified.damage.len(), "damaged"), (verified.missing.len(), "gone")];
    let found = counts.into_iter().filter(|(count, _)| *count > 0);
    let found = found.map(|(count, what)| format!("{} {what}", text::count(count as u64, "thing"))).collect::<Vec<_>>();
    let end = match (verified.repaired, verified.damage.is_empty()) {
        (true, true) => "the results that need it are forgotten; runs make them again",
        (true, false) => "set aside in `damaged`; runs make again what they need",
        (false, true) => "`pipe verify --repair` forgets the results that need it, so that runs make them again",
        (false, false) => "`pipe verify --repair` sets it aside, so that runs make it again",
    };
    lines.push(format!("\n{read}; {}: {end}", found.join(", ")));
    lines.join("\n")
}

fn costs(costs: &[Cost]) -> Vec<String> {
    let cost = |cost: &Cost| {
        let step = cost.step.clone().unwrap_or_else(|| format!("the result of key {}", cost.key.short()));
        let took = cost.seconds.map_or_else(String::new, |seconds| format!(" (took {})", text::duration(seconds)));
        format!("  costs {step}{took}")
    };
    costs.iter().map(cost).collect()
}

fn probe(store: &Store, json: bool) -> Result<u8, CliError> {
    let abilities = store.probe()?;
    let safe = abilities.iter().all(|ability| ability.works || !ability.needed);
    if json {
        text::out(&json!({ "store": store.root(), "safe": safe, "abilities": abilities }).to_string());
    } else {
        text::out(&text::table(&abilities.iter().map(ability).collect::<Vec<_>>()));
        let verdict = if safe { "is safe for a store" } else { "is NOT safe for a store" };
        text::out(&format!("\n{} {verdict}", store.root().display()));
    }
    Ok(if safe { exit::DONE } else { exit::STORE })
}

fn ability(ability: &Ability) -> Vec<String> {
    let mark = match (ability.works, ability.needed) {
        (true, _) => "yes",
        (false, true) => "NO",
        (false, false) => "no",
    };
    let found = if ability.found == "ok" { String::new() } else { format!(" ({})", ability.found) };
    vec![mark.to_owned(), ability.name.to_owned(), format!("{}{found}", ability.means)]
}

fn sample(args: &VerifyArgs, json: bool) -> Result<u8, CliError> {
    let (Some(spec), Some(size)) = (&args.spec, args.sample) else { return Ok(exit::USAGE) };
    let spec = SpecArgs {
        spec: spec.clone(),
        profile: args.profile.clone(),
        set: args.set.clone(),
        store: args.store.store.clone(),
        device: args.device.clone(),
    };
    let session = Session::with_worker(&spec, args.worker.clone(), None)?;
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(100));
    let sample = Sample { size, seed: args.seed };
    let again = session
        .look(|context| verify::again(&session.graph, &sample, context, &|step| bar.set_message(step.to_owned())))?;
    bar.finish_and_clear();
    let differ: u64 = again.iter().map(|again| again.differ).sum();
    if json {
        let steps: Vec<_> = again.iter().map(again_json).collect();
        text::out(&json!({ "seed": args.seed, "differ": differ, "steps": steps }).to_string());
    } else {
        text::out(&render_again(&again));
    }
    Ok(if differ == 0 { exit::DONE } else { exit::STORE })
}

fn again_json(again: &Again) -> serde_json::Value {
    let mut value = json!(again);
    value["upper_bound"] = json!(bound(again));
    value
}

/// The share of all units of a step that could differ; none where all of them were done again, or none.
fn bound(again: &Again) -> Option<f64> {
    (again.checked > 0 && again.checked < again.of).then(|| upper_bound(again.differ, again.checked))
}

fn render_again(all: &[Again]) -> String {
    let row = |again: &Again| {
        let found = match (&again.skipped, again.differ) {
            (Some(why), _) => format!("not done again: {why}"),
            (None, 0) => "the same".to_owned(),
            (None, differ) => format!("{differ} DIFFER"),
        };
        let bound = bound(again)
            .map_or_else(String::new, |bound| format!("at most {:.2} % of all could differ (95 %)", bound * 100.0));
        let unit = if again.rows { "row" } else { "execution" };
        let of = if again.skipped.is_some() {
            String::new()
        } else {
            format!("{} of {}", again.checked, text::count(again.of, unit))
        };
        vec![again.step.clone(), again.stage.clone(), of, found, bound]
    };
    let mut lines = vec![text::table(&all.iter().map(row).collect::<Vec<_>>())];
    for again in all {
        let shown = again.differences.iter().take(SHOWN);
        lines.extend(shown.map(|difference| format!("{}: {}: {}", again.step, difference.what, difference.how)));
    }
    let rows: Vec<&Again> = all.iter().filter(|again| again.rows && again.skipped.is_none()).collect();
    let sum = |of: fn(&Again) -> u64| rows.iter().map(|again| of(again)).sum::<u64>();
    let (checked, all, differ) = (sum(|again| again.checked), sum(|again| again.of), sum(|again| again.differ));
    let all_rows = format!("{checked} of {} done again, {differ} differ", text::count(all, "row"));
    if checked == all && all > 0 {
        lines.push(format!("\n{all_rows}"));
    } else if checked > 0 {
        let bound = upper_bound(differ, checked) * 100.0;
        lines.push(format!("\n{all_rows}: at most {bound:.2} % of all could (95 % confidence)"));
    }
    lines.join("\n")
}
