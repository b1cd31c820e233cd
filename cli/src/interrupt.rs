//! Ctrl-C and its like: the first ends the command in order, the second at once.

use std::sync::Once;
use std::sync::atomic::Ordering;

use pipe_engine::event::{Event, Reporter};

use crate::session::CANCEL;
use crate::{exit, report};

/// From now on an interruption ends the command in order. Before, it ends it at once, which the store survives.
pub fn in_order() {
    static ONCE: Once = Once::new();
    let handler = || {
        if CANCEL.swap(true, Ordering::Relaxed) {
            report::terminal::restore();
            std::process::exit(exit::INTERRUPTED.into());
        }
    };
    // Without a handler it stays as it was.
    ONCE.call_once(|| drop(ctrlc::set_handler(handler)));
}

/// A reporter of a run that is interrupted in order as soon as it does something: the thread that waits for interruptions costs a run
/// with nothing to do as much as the rest of it.
pub struct InOrder(pub Box<dyn Reporter>);

impl Reporter for InOrder {
    fn report(&self, event: &Event) {
        if matches!(event, Event::StepStarted { .. } | Event::SourceAsked { .. }) {
            in_order();
        }
        self.0.report(event);
    }
}
