//! `generate`: lets a language model continue a prompt made from each row. This half declares; the worker executes.
//!
//! Prompts are encoded as `tokenize` encodes them ([`crate::encoder`]). Decoding is greedy, so a row's text depends on that row alone. Knows nothing of chat formats: the template spells them out.

use pipe_engine::cell::ColumnType;
use pipe_engine::problem::Problem;
use pipe_engine::stage::{Contract, DATASET, Declare, Execute, Port, Resources, Stage, params_schema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kinds;
use crate::precision::Dtype;
use crate::template::Template;

/// See the module.
pub const STAGE: Stage = Stage {
    name: "generate",
    version: 1,
    about: "lets a language model, with or without an adapter, continue a prompt made from each row",
    inputs: &[
        Port::one("rows", &[DATASET], "the rows, with the columns that the prompt names"),
        Port::one("model", &[kinds::MODEL], "a language model"),
        Port::one("adapter", &[kinds::ADAPTER], "an adapter to put on the model").optional(),
    ],
    outputs: &[Port::one("rows", &[DATASET], "the rows with the texts")],
    params: params_schema::<Params>,
    resources: Resources::DEVICE,
    resolve: None,
    declare,
    execute: Execute::TorchRows,
};

/// The parameters of `generate`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Template of the text that the model continues: `Caption: {caption}\nDescription:`.
    pub prompt: String,
    /// The column that takes what the model adds.
    #[serde(default = "text")]
    pub output: String,
    /// The most tokens the model may add.
    #[serde(default = "max_new_tokens")]
    #[schemars(range(min = 1, max = 32768))]
    pub max_new_tokens: u32,
    /// Texts at which a continuation ends, besides the model's end token; they are cut off.
    #[serde(default)]
    pub stop: Vec<String>,
    /// Whether the prompt begins with the model's beginning token; as its tokenizer does where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_bos_token: Option<bool>,
    /// The number type of the model: `fp32` or `bf16`.
    #[serde(default)]
    pub dtype: Dtype,
    /// Rows computed at once.
    #[serde(default = "batch_size")]
    #[schemars(range(min = 1, max = 4096), extend("x-performance" = true))]
    pub batch_size: u32,
}

fn text() -> String {
    "text".to_owned()
}

const fn max_new_tokens() -> u32 {
    64
}

const fn batch_size() -> u32 {
    32
}

impl Params {
    /// The continuation up to the first of the stop texts, and whether there was one.
    #[must_use]
    pub fn cut_at_stop<'t>(&self, text: &'t str) -> (&'t str, bool) {
        match self.stop.iter().filter_map(|stop| text.find(stop.as_str())).min() {
            Some(end) => (&text[..end], true),
            None => (text, false),
        }
    }
}

fn declare(declare: &Declare<'_>) -> Result<Contract, Problem> {
    let params: Params = declare.params()?;
    let prompt = Template::declare("prompt", &params.prompt, declare.schema("rows")?)?;
    if params.prompt.is_empty() {
        return Err(Problem::param("prompt", "there is nothing to continue"));
    }
    if params.stop.iter().any(String::is_empty) {
        return Err(Problem::param("stop", "an empty text would end every continuation at once"));
    }
    crate::columns::check_output("output", &params.output)?;
    Ok(Contract::default().reads_columns("rows", prompt.columns()).writes(&params.output, ColumnType::Text))
}

#[cfg(test)]
mod tests {
    use pipe_engine::problem::Subject;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{dataset_shape, declared, files_shape};

    fn contract(params: &Value) -> Result<Contract, Problem> {
        let rows = dataset_shape(&[("caption", ColumnType::Text), ("image", ColumnType::Image)]);
        declared(&STAGE, params, &[("rows", rows), ("model", files_shape(kinds::MODEL))])
    }

    #[test]
    fn reads_what_the_prompt_names() {
        let contract = contract(&json!({ "prompt": "{caption}:", "output": "rich" })).unwrap();
        assert_eq!(contract.reads["rows"], pipe_engine::stage::Reads::Columns(vec!["caption".into()]));
        assert_eq!(contract.writes, [("rich".to_owned(), ColumnType::Text)]);
    }

    #[test]
    fn mistakes_are_found() {
        let problem = |params| contract(&params).unwrap_err();
        assert_eq!(problem(json!({ "prompt": "{image}" })).subject, Subject::Param("prompt".to_owned()));
        assert_eq!(problem(json!({ "prompt": "" })).message, "there is nothing to continue");
        assert!(problem(json!({ "prompt": "{caption}", "stop": [""] })).message.contains("at once"));
        assert!(problem(json!({ "prompt": "{caption}", "output": "" })).message.contains("needs a name"));
    }

    #[test]
    fn the_first_stop_text_ends() {
        let params: Params = serde_json::from_value(json!({ "prompt": "x", "stop": ["\n\n", "END"] })).unwrap();
        assert_eq!(params.cut_at_stop("a END b\n\nc"), ("a ", true));
        assert_eq!(params.cut_at_stop("a b"), ("a b", false));
    }
}
