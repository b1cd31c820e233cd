//! One JSON object per event on standard output.

use pipe_engine::event::{Event, Reporter};

use crate::text;

/// Prints every event as it comes.
pub struct JsonLines;

impl Reporter for JsonLines {
    fn report(&self, event: &Event) {
        text::out(&serde_json::to_string(event).expect("an event is plain data"));
    }
}
