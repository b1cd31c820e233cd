//! Whether the tokens that steps will ask for are there, before any step runs.

use super::{Context, find_all};
use crate::graph::Graph;
use crate::problem::Failure;
use crate::spec::Diagnostic;

/// The steps of `wanted` that would execute without a credential they ask for. Those whose results are there need none.
///
/// # Errors
/// When the store cannot be read.
pub fn missing_credentials(graph: &Graph, wanted: &[bool], context: &Context<'_>) -> Result<Vec<Diagnostic>, Failure> {
    let lacks = |at: usize| {
        let names = graph.steps[at].contract.credentials.iter();
        names.filter(|name| context.credentials.get(name).is_none()).collect::<Vec<_>>()
    };
    let lacking: Vec<usize> = (0..graph.steps.len()).filter(|at| wanted[*at] && !lacks(*at).is_empty()).collect();
    if lacking.is_empty() {
        return Ok(Vec::new());
    }
    let found = find_all(graph, context)?;
    let mut missing = Vec::new();
    for at in lacking.into_iter().filter(|at| found[*at].is_none()) {
        let step = &graph.steps[at];
        for name in lacks(at) {
            let message = format!("`{}` of step `{}` needs {name}, which is not set", step.stage.name, step.name);
            let help = format!("set the environment variable {name}");
            missing.push(graph.text.diagnostic(&step.span, message).help(Some(help)));
        }
    }
    Ok(missing)
}
