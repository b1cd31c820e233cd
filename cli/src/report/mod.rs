//! Showing events: bars on a terminal, plain lines elsewhere, JSON for programs.

mod bars;
mod json;
mod lines;
mod pace;
pub mod terminal;
mod words;

pub use bars::Bars;
pub use json::JsonLines;
pub use lines::PlainLines;
