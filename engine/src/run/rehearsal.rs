//! How long steps take side by side: the scheduler's queue, with times in place of work.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::queue::{Limits, Queue};
use super::waits::Waits;
use crate::graph::Graph;

/// Seconds from the first step's begin to the last one's end, each step beginning when what it needs is done and what it occupies is free.
/// `seconds` says by step how long it takes; `None` stands for one that takes nothing, because it does not execute.
pub(crate) fn side_by_side(graph: &Graph, wanted: &[bool], seconds: &[Option<f64>], limits: Limits) -> f64 {
    let needs = |at: usize| graph.steps[at].settings.resources;
    let (mut waits, mut queue) = (Waits::new(graph, wanted), Queue::new(limits));
    let mut running = BinaryHeap::new();
    let mut now = 0_u64;
    loop {
        while let Some(at) = waits.next() {
            match seconds[at] {
                Some(_) => queue.push(at, needs(at)),
                None => waits.done(at),
            }
        }
        while let Some(at) = queue.start() {
            let end = now.saturating_add(microseconds(seconds[at].unwrap_or_default()));
            running.push(Reverse((end, at)));
        }
        let Some(Reverse((end, at))) = running.pop() else { break };
        now = end;
        queue.end(needs(at));
        waits.done(at);
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    let seconds = now as f64 / 1e6;
    seconds
}

/// Times that sort.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is no such time becomes the nearest that is"
)]
fn microseconds(seconds: f64) -> u64 {
    (seconds * 1e6).round() as u64
}
