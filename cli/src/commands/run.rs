//! `pipe run`: do the work that is not done.

use std::io::IsTerminal;
use std::time::{SystemTime, UNIX_EPOCH};

use pipe_engine::event::{Events, Reporter};
use pipe_engine::problem::FailureClass;
use pipe_engine::run::{self, Summary};
use pipe_engine::spec::SpecError;

use crate::args::RunArgs;
use crate::error::CliError;
use crate::report::{Bars, JsonLines, PlainLines};
use crate::session::Session;
use crate::{exit, text};

/// Runs a pipeline.
pub fn run(args: &RunArgs, json: bool) -> Result<u8, CliError> {
    let session = Session::with_worker(&args.target.spec, args.worker.clone(), args.threads)?;
    let wanted = session.graph.select(&args.target.steps)?;
    let missing = session.look(|context| run::missing_credentials(&session.graph, &wanted, context))?;
    if !missing.is_empty() {
        return Err(SpecError::wrong(missing).into());
    }
    let reporter = reporter(json);
    let summary = {
        let events = Events::new(reporter.as_ref(), &session.store.runs(), &run_name());
        run::run(&session.graph, &wanted, &session.context(&events, args.keep_going))
    };
    drop(reporter);
    if !json {
        print_tables(&session, &summary);
        print_end(args, &summary);
    }
    Ok(code(&summary))
}

fn reporter(json: bool) -> Box<dyn Reporter> {
    if json {
        return Box::new(JsonLines);
    }
    if std::io::stderr().is_terminal() { Box::new(Bars::new()) } else { Box::new(PlainLines::new()) }
}

/// A name that sorts by time and that two runs at once do not share.
fn run_name() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{:03}-{}", now.as_secs(), now.subsec_millis(), std::process::id())
}

/// The tables of the metrics that the pipeline ends in.
fn print_tables(session: &Session, summary: &Summary) {
    for (step, result) in &summary.results {
        for artifact in result.outputs.values() {
            if let Some(table) = metrics_table(session, artifact) {
                text::out(&format!("\n{step}\n{table}"));
            }
        }
    }
}

fn metrics_table(session: &Session, artifact: &run::Artifact) -> Option<String> {
    let pipe_engine::artifact::Manifest::Files(files) = artifact.manifest.as_ref() else { return None };
    let table = files.files.get("table.md").filter(|_| files.kind.starts_with("metrics/"))?;
    String::from_utf8(session.store.read(&table.digest).ok()?).ok()
}

fn print_end(args: &RunArgs, summary: &Summary) {
    let spec = args.target.spec.spec.display();
    if summary.interrupted {
        text::err(&format!("\ninterrupted; what was finished is kept. Go on with: pipe run {spec}"));
    }
    for (step, failure) in &summary.failures {
        text::err(&format!("\nerror: step `{step}` failed: {failure}"));
        failure.help.iter().for_each(|help| text::err(&format!("  = help: {help}")));
        failure.log.iter().for_each(|log| text::err(&format!("  = log: {}", log.display())));
    }
    if !summary.skipped.is_empty() && !summary.interrupted {
        text::err(&format!("not tried: {}", summary.skipped.join(", ")));
    }
}

fn code(summary: &Summary) -> u8 {
    if summary.interrupted {
        return exit::INTERRUPTED;
    }
    match summary.failures.as_slice() {
        [] if summary.complete() => exit::DONE,
        [(step, failure), ..] if step == "store" && failure.class == FailureClass::Transient => exit::STORE,
        _ => exit::FAILED,
    }
}
