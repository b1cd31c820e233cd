//! `pipe plan`: what a run would do, and why.

use pipe_engine::plan::{self, Action, Estimate, Plan, StepPlan};
use pipe_engine::problem::Failure;
use pipe_engine::spec::LeftOutStep;

use crate::args::TargetArgs;
use crate::error::CliError;
use crate::session::Session;
use crate::{exit, text};

/// Plans a pipeline.
pub fn plan(args: &TargetArgs, json: bool) -> Result<u8, CliError> {
    let session = Session::open(&args.spec)?;
    let wanted = session.graph.select(&args.steps)?;
    let profile = args.spec.profile.as_deref();
    let plan = session.look(|context| {
        let mut plan = plan::plan(&session.graph, &wanted, context)?;
        plan.estimate(&session.graph, profile, context)?;
        Ok::<_, Failure>(plan)
    })?;
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
    let estimated = plan.steps.iter().any(|step| step.seconds.is_some());
    let cells = |step: &StepPlan| {
        let mut cells = vec![step.step.clone(), step.stage.to_owned(), what(step)];
        cells.extend(estimated.then(|| time(step)));
        cells.push(step.reason.clone());
        cells
    };
    let rows: Vec<Vec<String>> = plan.steps.iter().map(cells).collect();
    let mut lines = vec![text::table(&rows)];
    for step in &plan.steps {
        lines.extend(step.notes.iter().map(|note| format!("note: {}: {note}", step.step)));
    }
    lines.extend(left_out.iter().map(left_out_line));
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
            let about = if rows.exact { "" } else { "about " };
            format!("{about}{} of {}", rows.execute, text::count(rows.total, "row"))
        }
    }
}

fn time(step: &StepPlan) -> String {
    match (step.action, step.seconds) {
        (Action::Run, Some(seconds)) => format!("about {}", text::duration(seconds)),
        (Action::Run, None) => "no estimate".to_owned(),
        _ => String::new(),
    }
}

fn summary(plan: &Plan) -> String {
    let running = plan.steps.iter().filter(|step| step.action == Action::Run).count() as u64;
    if running == 0 {
        return "nothing to do".to_owned();
    }
    let steps = format!("{} of {} would run", text::count(running, "step"), plan.steps.len());
    let Some(Estimate { seconds, without }) = &plan.estimate else { return steps };
    let time = text::duration(*seconds);
    match without.len() as u64 {
        0 => format!("{steps}, for about {time}"),
        all if all == running => format!("{steps}; no estimate: no past run tells how long"),
        some => format!("{steps}, for {time} or more: no estimate of {}", text::count(some, "step")),
    }
}

fn left_out_line(LeftOutStep { step, when, place }: &LeftOutStep) -> String {
    let why = if when == "false" { "`when` is false".to_owned() } else { format!("`{when}` is false") };
    format!("left out: {step}: {why} ({place})")
}
