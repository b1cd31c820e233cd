//! `pipe plan`: what a run would do, and why.

use pipe_engine::plan::{self, Action, Plan, StepPlan};
use pipe_engine::spec::LeftOutStep;

use crate::args::TargetArgs;
use crate::error::CliError;
use crate::session::Session;
use crate::{exit, text};

/// Plans a pipeline.
pub fn plan(args: &TargetArgs, json: bool) -> Result<u8, CliError> {
    let session = Session::open(&args.spec)?;
    let wanted = session.graph.select(&args.steps)?;
    let plan = session.look(|context| plan::plan(&session.graph, &wanted, context))?;
    if json {
        let mut value = serde_json::to_value(&plan).expect("a plan is plain data");
        value["left_out"] = serde_json::to_value(&session.graph.left_out).expect("names and places are plain data");
        text::out(&value.to_string());
    } else {
        text::out(&render(&plan, &session.graph.left_out));
    }
    Ok(exit::DONE)
}

fn render(plan: &Plan, left_out: &[LeftOutStep]) -> String {
    let rows: Vec<Vec<String>> = plan
        .steps
        .iter()
        .map(|step| vec![step.step.clone(), step.stage.to_owned(), what(step), step.reason.clone()])
        .collect();
    let mut lines = vec![text::table(&rows)];
    for step in &plan.steps {
        lines.extend(step.notes.iter().map(|note| format!("note: {}: {note}", step.step)));
    }
    lines.extend(left_out.iter().map(|one| format!("left out: {}: `{}` is false ({})", one.step, one.when, one.place)));
    lines.push(String::new());
    lines.push(summary(plan));
    lines.join("\n")
}

fn what(step: &StepPlan) -> String {
    match (step.action, step.rows) {
        (Action::Reuse, _) => "nothing".to_owned(),
        (Action::Assemble, _) => "nothing (all rows remembered)".to_owned(),
        (Action::Run, None) => "run".to_owned(),
        (Action::Run, Some(rows)) => {
            let about = if rows.exact { "" } else { "at most " };
            format!("{about}{} of {}", rows.execute, text::count(rows.total, "row"))
        }
    }
}

fn summary(plan: &Plan) -> String {
    let running = plan.steps.iter().filter(|step| step.action == Action::Run).count() as u64;
    if running == 0 {
        return "nothing to do".to_owned();
    }
    format!("{} of {} would run", text::count(running, "step"), plan.steps.len())
}
