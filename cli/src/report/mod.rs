//! Showing events: bars on a terminal, plain lines elsewhere, JSON for programs.

mod bars;
mod json;
mod lines;
mod pace;
mod words;

pub use bars::Bars;
pub use json::JsonLines;
pub use lines::PlainLines;
