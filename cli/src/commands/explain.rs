//! `pipe explain`: why a step would run, or did.

use pipe_engine::explain::{self, Change, Explanation, Fact, Node, State};
use pipe_engine::plan::Action;

use crate::args::ExplainArgs;
use crate::error::CliError;
use crate::session::Session;
use crate::{changes, exit, text};

/// Explains a step.
pub fn explain(args: &ExplainArgs, json: bool) -> Result<u8, CliError> {
    let session = Session::open(&args.spec)?;
    let (at, _) = session.graph.locate(&args.step)?;
    let explanation = session.look(|context| explain::explain(&session.graph, at, context))?;
    if json {
        text::out(&serde_json::to_string(&explanation).expect("an explanation is plain data"));
    } else {
        text::out(&render(&explanation));
    }
    Ok(exit::DONE)
}

fn render(explanation: &Explanation) -> String {
    let mut lines = vec![verdict(explanation)];
    lines.extend(compared(explanation));
    if explanation.compared_with.is_none() {
        return lines.join("\n");
    }
    if !explanation.chains.is_empty() {
        lines.push(String::new());
    }
    for chain in &explanation.chains {
        let cause = chain.last().and_then(|last| explanation.steps.iter().find(|node| node.step == *last));
        lines.push(format!("{}: {}", chain.join(" ← "), cause.map(first_cause).unwrap_or_default()));
    }
    for node in explanation.steps.iter().filter(|node| node.state != State::Same) {
        lines.push(String::new());
        lines.push(format!("{} ({})", node.step, node.stage));
        lines.push(text::table(&facts(node)));
    }
    lines.join("\n")
}

/// What a run would do with the step.
fn verdict(explanation: &Explanation) -> String {
    let step = &explanation.step;
    let key = explanation.key.map(|key| key.to_string()).unwrap_or_default();
    match (explanation.action, explanation.rows) {
        (Action::Reuse, _) => {
            let by = explanation.made_by.as_ref().map_or_else(String::new, |run| format!(", made by run {run}"));
            format!("{step}: nothing changed; the result of key {key} is there{by}")
        }
        (Action::Assemble, _) => format!("{step}: no row would execute; all of them are remembered"),
        (Action::Run, Some(rows)) => {
            let about = if rows.exact { "" } else { "about " };
            format!("{step} would run: {about}{} of {}", rows.execute, text::count(rows.total, "row"))
        }
        (Action::Run, None) => format!("{step} would run"),
    }
}

fn compared(explanation: &Explanation) -> Vec<String> {
    let Some(past) = &explanation.compared_with else {
        let words = match explanation.action {
            Action::Reuse => "there is no other result of it to compare with",
            _ if explanation.ran => {
                "what it gave before is gone from the store, so there is nothing to compare it with"
            }
            _ => "it never ran: no run of this pipeline has a result of it",
        };
        return vec![words.to_owned()];
    };
    let then = if explanation.action == Action::Reuse {
        "it ran then because its recipe differs from that of"
    } else {
        "compared with"
    };
    vec![format!("{then} run {} ({})", past.run, text::when(past.started))]
}

/// The first thing that changed, in a few words.
fn first_cause(node: &Node) -> String {
    let rows = node.rows.first().map(|rows| {
        let from = rows.taken_before.as_ref().map(|before| format!("it takes {} where it took {before}: ", rows.of));
        format!("{}{}", from.unwrap_or_default(), changes::rows(&rows.changes))
    });
    match node.state {
        State::New => "no earlier result of it is known".to_owned(),
        State::Gone => "its result is gone from the store".to_owned(),
        State::Same => "the same recipe gave another result".to_owned(),
        State::Waiting => "what it reads may change".to_owned(),
        State::Changed => match (&node.files, own(node)) {
            (Some(files), _) => {
                [Some(changes::files(files)), rows].into_iter().flatten().collect::<Vec<_>>().join("; ")
            }
            (None, Some(change)) => {
                let (name, how) = changes::fact(change);
                format!("{name} {how}")
            }
            (None, None) => rows.unwrap_or_else(|| "what it reads changed".to_owned()),
        },
    }
}

/// The first change that is not one of an input.
fn own(node: &Node) -> Option<&Change> {
    node.changes.iter().find(|change| !matches!(change.fact, Fact::Input { .. } | Fact::From { .. }))
}

/// Everything that changed in a step, a line each.
fn facts(node: &Node) -> Vec<Vec<String>> {
    let mut facts: Vec<(String, String)> = Vec::new();
    for change in &node.changes {
        match (&change.fact, &node.files) {
            (Fact::Source, Some(files)) => facts.push(("files".to_owned(), changes::files(files))),
            (Fact::Source, None) => {
                facts.push(("files".to_owned(), "others; which ones, the earlier result does not say".to_owned()));
            }
            _ => facts.push(changes::fact(change)),
        }
    }
    for rows in &node.rows {
        let before = rows.taken_before.as_ref().map_or_else(String::new, |before| format!(" (before: {before})"));
        facts.push((format!("rows of {}{before}", rows.of), changes::rows(&rows.changes)));
    }
    for wait in &node.waits {
        facts.push((
            format!("input {}", wait.port),
            format!("{} will be known when `{}` has run", wait.from, wait.step),
        ));
    }
    match node.state {
        State::New => facts.push(("new".to_owned(), "no earlier result of it is known".to_owned())),
        State::Gone => facts.push(("result".to_owned(), "was recorded, but is gone from the store".to_owned())),
        _ => {}
    }
    facts.into_iter().map(|(name, how)| vec![format!("  {name}"), how]).collect()
}
