//! The rule: whatever was run before in a store, and however that ended, a run gives what a run in an empty store gives.
//!
//! On random data, random pipelines of every stage that needs no tensors, and random sequences of what happens to both.
//! `PROPTEST_CASES=20000 cargo nextest run -p pipe-stages --test rule` looks longer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod pipeline;
mod sources;
mod world;

use pipeline::{Edit, Pipeline};
use proptest::prelude::*;
use sources::Change;
use world::World;

/// What happens between two looks at the rule.
#[derive(Clone, Debug)]
enum Move {
    /// The sources change; files may keep their time and size.
    Change(Change, bool),
    Edit(Edit),
    /// A run is interrupted after so many events.
    Interrupt(u32),
    /// A step is run with what it needs.
    Step(usize),
    /// The store is collected but for the last runs.
    Collect(usize),
    /// Another pipeline runs in the same store.
    Other(Edit),
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        5 => (sources::any_change(), any::<bool>()).prop_map(|(change, sly)| Move::Change(change, sly)),
        5 => pipeline::any_edit().prop_map(Move::Edit),
        1 => (1..40_u32).prop_map(Move::Interrupt),
        1 => (0..8_usize).prop_map(Move::Step),
        1 => (0..3_usize).prop_map(Move::Collect),
        1 => pipeline::any_edit().prop_map(Move::Other),
    ]
}

/// Several things may happen before the next look.
fn any_history() -> impl Strategy<Value = Vec<Vec<Move>>> {
    prop::collection::vec(prop::collection::vec(any_move(), 1..4), 1..5)
}

fn make(world: &mut World, moves: &[Move]) {
    for one in moves {
        match one {
            Move::Change(change, sly) => {
                world.sources.apply(change);
                world.write(*sly);
            }
            Move::Edit(edit) => world.pipeline.apply(edit),
            Move::Interrupt(events) => world.interrupted(*events),
            Move::Step(step) => world.one_step(*step),
            Move::Collect(keep_runs) => world.collect(*keep_runs),
            Move::Other(edit) => {
                let mut other: Pipeline = world.pipeline.clone();
                other.apply(edit);
                world.other(&other);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn an_incremental_run_gives_what_a_clean_one_gives(
        sources in sources::any_sources(),
        pipeline in pipeline::any_pipeline(),
        history in any_history(),
    ) {
        let mut world = World::new(sources, pipeline);
        for moves in std::iter::once(Vec::new()).chain(history) {
            make(&mut world, &moves);
            let (incremental, clean) = (world.incremental(), world.clean());
            prop_assert_eq!(incremental, clean, "{}", world.text());
        }
        world.verify();
    }
}
