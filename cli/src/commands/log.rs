//! `pipe log`: what was run, and what became of it.

use pipe_engine::event::RowCounts;
use pipe_engine::history::{History, Run, RunStep, StepState};
use pipe_engine::problem::{Failure, nearest};
use serde_json::json;

use crate::args::LogArgs;
use crate::error::CliError;
use crate::session::open_store;
use crate::{exit, text};

/// Lists the runs of a store, or tells of one of them.
pub fn log(args: &LogArgs, json: bool) -> Result<u8, CliError> {
    let store = open_store(&args.store)?;
    let history = History::open(&store)?;
    let Some(name) = &args.run else {
        list(&history, args, json);
        return Ok(exit::DONE);
    };
    let run = history.read(history.find(name)?)?;
    let step = args.step.as_deref().map(|step| find(&run, step)).transpose()?;
    let shown = match (step, json) {
        (None, true) => json!(run).to_string(),
        (None, false) => tell(&run),
        (Some(step), true) => json!(step).to_string(),
        (Some(step), false) => tell_step(&run, step),
    };
    text::out(&shown);
    Ok(exit::DONE)
}

fn list(history: &History<'_>, args: &LogArgs, json: bool) {
    let wanted = |run: &Run| args.pipeline.as_ref().is_none_or(|name| *name == run.pipeline);
    let runs: Vec<Run> = history.runs().filter(wanted).take(args.limit).collect();
    if json {
        let runs: Vec<_> = runs.iter().map(summary_json).collect();
        return text::out(&json!({ "runs": runs }).to_string());
    }
    if runs.is_empty() {
        return text::out("no runs; `pipe run` makes one");
    }
    let cells = |words: [&str; 8]| words.map(str::to_owned).to_vec();
    let mut rows = vec![cells(["run", "when", "pipeline", "took", "executed", "reused", "failed", "ended"])];
    rows.extend(runs.iter().map(|run| {
        let failed = run.count(StepState::Failed) + run.count(StepState::Skipped);
        vec![
            run.run.clone(),
            text::when(run.started),
            run.pipeline.clone(),
            text::duration(run.seconds),
            run.count(StepState::Executed).to_string(),
            run.count(StepState::Reused).to_string(),
            failed.to_string(),
            run.end.name().to_owned(),
        ]
    }));
    text::out(&text::table(&rows));
}

fn summary_json(run: &Run) -> serde_json::Value {
    json!({
        "run": run.run,
        "pipeline": run.pipeline,
        "started": run.started,
        "seconds": run.seconds,
        "end": run.end,
        "spec": run.origin.spec,
        "executed": run.count(StepState::Executed),
        "reused": run.count(StepState::Reused),
        "failed": run.count(StepState::Failed) + run.count(StepState::Skipped),
    })
}

fn find<'a>(run: &'a Run, name: &str) -> Result<&'a RunStep, Failure> {
    run.step(name).ok_or_else(|| {
        let names = || run.steps.iter().map(|step| step.step.as_str());
        let help = nearest(name, names()).map_or_else(
            || format!("it has {}", names().collect::<Vec<_>>().join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        Failure::input(format!("run {} has no step `{name}`", run.run)).help(help)
    })
}

fn tell(run: &Run) -> String {
    let mut lines = vec![format!("run {} of {}: {}", run.run, run.pipeline, run.end.name())];
    lines.push(text::table(&facts(run)));
    lines.push(String::new());
    lines.push(text::table(&run.steps.iter().map(step_cells).collect::<Vec<_>>()));
    lines.extend(run.warnings.iter().map(|warning| format!("warning: {}: {}", warning.step, warning.message)));
    for step in &run.steps {
        if let Some(failure) = &step.failure {
            lines.push(String::new());
            lines.extend(failure_lines(&step.step, failure));
        }
    }
    lines.join("\n")
}

/// What started the run, as far as its log says.
fn facts(run: &Run) -> Vec<Vec<String>> {
    let origin = &run.origin;
    let set = origin.set.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
    let facts = [
        ("when", text::when(run.started)),
        ("took", text::duration(run.seconds)),
        ("file", origin.spec.display().to_string()),
        ("profile", origin.profile.clone().unwrap_or_default()),
        ("set", set),
        ("steps", origin.asked.join(" ")),
        ("device", origin.device.clone()),
        ("version", origin.version.clone()),
        ("host", origin.host.clone()),
    ];
    let told = facts.into_iter().filter(|(_, value)| !value.is_empty());
    told.map(|(name, value)| vec![format!("  {name}"), value]).collect()
}

fn step_cells(step: &RunStep) -> Vec<String> {
    let seconds = if step.seconds > 0.0 { text::duration(step.seconds) } else { String::new() };
    let mut words = step.rows.as_ref().map(rows).unwrap_or_default();
    if let Some(because) = &step.because {
        words = reason(because);
    }
    vec![step.step.clone(), step.stage.clone(), step.state.name().to_owned(), seconds, words]
}

/// Why a step was not tried: a step that it needs, or the end of the run.
fn reason(because: &str) -> String {
    if because.contains(' ') { because.to_owned() } else { format!("because of {because}") }
}

fn rows(rows: &RowCounts) -> String {
    let mut words = match rows.executed {
        0 => text::count(rows.total, "row"),
        some if some == rows.total => format!("{} executed", text::count(some, "row")),
        some => format!("{some} of {} executed", text::count(rows.total, "row")),
    };
    for (what, reasons) in [("dropped", &rows.dropped), ("FAILED", &rows.failed)] {
        let list: Vec<String> = reasons.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
        if !list.is_empty() {
            words.push_str(&format!("; {what} {}", list.join(", ")));
        }
    }
    words
}

fn failure_lines(step: &str, failure: &Failure) -> Vec<String> {
    let mut lines = vec![format!("error: step `{step}` failed: {failure}")];
    lines.extend(failure.help.iter().map(|help| format!("  = help: {help}")));
    lines.extend(failure.log.iter().map(|log| format!("  = log: {}", log.display())));
    lines
}

fn tell_step(run: &Run, step: &RunStep) -> String {
    let mut lines = vec![format!("{} of run {}: {}", step.step, run.run, step.state.name())];
    let mut facts = vec![("stage", step.stage.clone())];
    facts.extend(step.key.map(|key| ("key", key.to_string())));
    facts.push(("took", text::duration(step.seconds)));
    facts.extend(step.rows.as_ref().map(|counts| ("rows", rows(counts))));
    facts.extend(step.because.as_deref().map(|because| ("why", reason(because))));
    lines.push(text::table(
        &facts.into_iter().map(|(name, value)| vec![format!("  {name}"), value]).collect::<Vec<_>>(),
    ));
    let mut section = |title: &str, rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            lines.push(format!("{title}\n{}", text::table(&rows)));
        }
    };
    section(
        "outputs",
        step.outputs.iter().map(|(port, digest)| vec![format!("  {port}"), digest.to_string()]).collect(),
    );
    section(
        "measures",
        step.measures.iter().map(|(name, value)| vec![format!("  {name}"), value.to_string()]).collect(),
    );
    let warnings = run.warnings.iter().filter(|warning| warning.step == step.step);
    lines.extend(warnings.map(|warning| format!("warning: {}", warning.message)));
    lines.extend(step.failure.iter().flat_map(|failure| failure_lines(&step.step, failure)));
    lines.join("\n")
}
