//! Which token ids begin, end and fill texts.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::ModelFiles;

const CONFIG: &str = "config.json";

/// The ids that begin, end and fill texts, as the model's own files name them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpecialTokens {
    /// Begins a text, if the model has such a token.
    pub bos: Option<i64>,
    /// Each of these ends a text.
    pub eos: Vec<i64>,
    /// Fills rows up. It may be one of `eos`: nothing here tells padding by its id.
    pub pad: Option<i64>,
}

impl SpecialTokens {
    /// Reads `config.json` (for a model of images and text, its `text_config`) and `generation_config.json`, which
    /// wins where it speaks. A field that neither has takes the reference's value for that architecture.
    pub fn read(files: &ModelFiles) -> Result<Self> {
        let config: Value = files.require_json(CONFIG)?;
        let generation: Value = files.json("generation_config.json")?.unwrap_or(Value::Null);
        let text = if config["text_config"].is_object() { &config["text_config"] } else { &config };
        let opt = matches!(text["model_type"].as_str(), Some("opt")) || text["model_type"].is_null();
        let fallback = |name: &str| match name {
            "pad_token_id" if opt => vec![1],
            "bos_token_id" | "eos_token_id" if opt => vec![2],
            _ => vec![],
        };
        // A captioner generates with its language model, whose own fields therefore come first.
        let sources = if config["text_config"].is_object() { [text, &generation] } else { [&generation, text] };
        let ids = |name: &str| -> Result<Vec<i64>> {
            for source in sources {
                if let Some(found) = ids_of(&source[name], name)? {
                    return Ok(found);
                }
            }
            Ok(fallback(name))
        };
        Ok(Self {
            bos: ids("bos_token_id")?.first().copied(),
            eos: ids("eos_token_id")?,
            pad: ids("pad_token_id")?.first().copied(),
        })
    }
}

/// One id, a list of ids, or nothing said.
fn ids_of(value: &Value, name: &str) -> Result<Option<Vec<i64>>> {
    let wrong = || Error::config(CONFIG, format!("{name} = {value} is neither an id nor a list of ids"));
    match value {
        Value::Null => Ok(None),
        Value::Array(list) => list.iter().map(|id| id.as_i64().ok_or_else(wrong)).collect::<Result<Vec<_>>>().map(Some),
        one => one.as_i64().map(|id| Some(vec![id])).ok_or_else(wrong),
    }
}
