//! `rows.jsonl`: each row with what was said of it and how that scored.

use serde::Serialize;
use serde_json::Map;

use super::align::Aligned;
use super::scoring::{RowScores, Scored};

#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    references: Option<&'a [String]>,
    /// By system, in order; null where it said nothing.
    predictions: Map<String, serde_json::Value>,
    scores: RowScores<'a>,
}

/// The bytes of `rows.jsonl`, in order of id.
pub(super) fn to_jsonl(aligned: &Aligned, scored: &Scored) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (place, id) in aligned.ids.iter().enumerate() {
        let said = aligned.systems.iter().map(|system| (system.name.clone(), system.texts[place].clone().into()));
        let line = Line {
            id,
            source: aligned.sources.as_ref().and_then(|sources| sources[place].as_deref()),
            references: aligned.references.as_ref().map(|references| references[place].as_slice()),
            predictions: said.collect(),
            scores: scored.of_row(aligned, place),
        };
        serde_json::to_writer(&mut bytes, &line).expect("plain data with text keys can be written as JSON");
        bytes.push(b'\n');
    }
    bytes
}
