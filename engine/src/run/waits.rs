//! Which steps still wait for others, kept by counting: a step that is done touches those that take from it, and no other.

use std::collections::BTreeSet;

use crate::graph::Graph;

/// How many of its inputs each step still waits for.
pub(super) struct Waits {
    /// The steps that take from each.
    downstream: Vec<Vec<usize>>,
    /// How many steps that each takes from are not done.
    pending: Vec<usize>,
    /// Steps that wait for nothing and were not handed out.
    free: BTreeSet<usize>,
}

impl Waits {
    /// Nothing is done; `wanted` is a mask over the steps.
    pub(super) fn new(graph: &Graph, wanted: &[bool]) -> Self {
        let mut waits = Self {
            downstream: vec![Vec::new(); graph.steps.len()],
            pending: vec![0; graph.steps.len()],
            free: BTreeSet::new(),
        };
        for (at, step) in graph.steps.iter().enumerate().filter(|(at, _)| wanted[*at]) {
            for from in step.upstream() {
                waits.downstream[from].push(at);
                waits.pending[at] += 1;
            }
            if waits.pending[at] == 0 {
                waits.free.insert(at);
            }
        }
        waits
    }

    /// The first step that waits for nothing. It is handed out once; [`Waits::again`] hands it out again.
    pub(super) fn next(&mut self) -> Option<usize> {
        self.free.pop_first()
    }

    /// The step is to be handed out again, as soon as it waits for nothing.
    pub(super) fn again(&mut self, at: usize) {
        if self.pending[at] == 0 {
            self.free.insert(at);
        }
    }

    /// What the step gives is there.
    pub(super) fn done(&mut self, at: usize) {
        for to in &self.downstream[at] {
            self.pending[*to] -= 1;
            if self.pending[*to] == 0 {
                self.free.insert(*to);
            }
        }
    }

    /// What the step gave is there no longer.
    pub(super) fn undone(&mut self, at: usize) {
        for to in &self.downstream[at] {
            self.pending[*to] += 1;
            self.free.remove(to);
        }
        self.again(at);
    }
}
