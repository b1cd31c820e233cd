//! `caption`: describes each image with a BLIP-2 model. This half declares; the worker executes.
//!
//! Decoding is greedy. Knows nothing of image sizes: the model's own preprocessing applies.

use pipe_engine::cell::ColumnType;
use pipe_engine::problem::Problem;
use pipe_engine::stage::{Contract, DATASET, Declare, Execute, Port, Resources, Stage, params_schema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kinds;
use crate::precision::Dtype;

/// See the module.
pub const STAGE: Stage = Stage {
    name: "caption",
    version: 1,
    about: "describes each image in a sentence, with a BLIP-2 model",
    inputs: &[
        Port::one("images", &[DATASET], "rows with an image"),
        Port::one("model", &[kinds::MODEL], "a BLIP-2 model with an OPT decoder"),
    ],
    outputs: &[Port::one("rows", &[DATASET], "the rows with their captions")],
    params: params_schema::<Params>,
    resources: Resources::DEVICE,
    resolve: None,
    declare,
    execute: Execute::TorchRows,
};

/// The parameters of `caption`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The column that holds the images.
    #[serde(default = "image")]
    pub image: String,
    /// The column that takes the captions.
    #[serde(default = "caption")]
    pub output: String,
    /// Words that are given to the model and that every caption begins with, such as `An engraving depicting`.
    #[serde(default)]
    pub prefix: String,
    /// Words that are given to the model before the caption and are no part of it, such as `Question: what is it? Answer:`.
    #[serde(default)]
    pub prompt: String,
    /// The most tokens the model may add.
    #[serde(default = "max_new_tokens")]
    #[schemars(range(min = 1, max = 1024))]
    pub max_new_tokens: u32,
    /// The fewest tokens the model must add.
    #[serde(default)]
    #[schemars(range(max = 1024))]
    pub min_new_tokens: u32,
    /// The number type of the model: `fp32` or `bf16`.
    #[serde(default)]
    pub dtype: Dtype,
    /// Images computed at once.
    #[serde(default = "batch_size")]
    #[schemars(range(min = 1, max = 4096), extend("x-performance" = true))]
    pub batch_size: u32,
}

fn image() -> String {
    "image".to_owned()
}

fn caption() -> String {
    "caption".to_owned()
}

const fn max_new_tokens() -> u32 {
    30
}

const fn batch_size() -> u32 {
    32
}

impl Params {
    /// The words given to the model: prompt, then prefix; `None` where there are none.
    #[must_use]
    pub fn given(&self) -> Option<String> {
        let given = join(&self.prompt, &self.prefix);
        (!given.is_empty()).then_some(given)
    }

    /// The caption, from what the model added.
    #[must_use]
    pub fn caption(&self, added: &str) -> String {
        join(&self.prefix, added.trim())
    }
}

/// Two texts with one space between, where both are something.
fn join(first: &str, second: &str) -> String {
    match (first.trim_end(), second) {
        ("", text) | (text, "") => text.to_owned(),
        (first, second) => format!("{first} {second}"),
    }
}

fn declare(declare: &Declare<'_>) -> Result<Contract, Problem> {
    let params: Params = declare.params()?;
    declare.column("images", "image", &params.image, &[ColumnType::Image])?;
    if params.min_new_tokens > params.max_new_tokens {
        let message =
            format!("min_new_tokens = {} exceeds max_new_tokens = {}", params.min_new_tokens, params.max_new_tokens);
        return Err(Problem::param("min_new_tokens", message));
    }
    crate::columns::check_output("output", &params.output)?;
    Ok(Contract::default().reads_columns("images", [&params.image]).writes(&params.output, ColumnType::Text))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{dataset_shape, declared, files_shape};

    fn contract(params: &Value) -> Result<Contract, Problem> {
        let images = dataset_shape(&[("image", ColumnType::Image), ("title", ColumnType::Text)]);
        declared(&STAGE, params, &[("images", images), ("model", files_shape(kinds::MODEL))])
    }

    #[test]
    fn reads_the_image_alone() {
        let contract = contract(&json!({})).unwrap();
        assert_eq!(contract.reads.len(), 1, "the model is read whole");
        assert_eq!(contract.reads["images"], pipe_engine::stage::Reads::Columns(vec!["image".into()]));
        assert_eq!(contract.writes, [("caption".to_owned(), ColumnType::Text)]);
    }

    #[test]
    fn mistakes_are_found() {
        let message = |params| contract(&params).unwrap_err().message;
        assert_eq!(message(json!({ "image": "title" })), "column `title` is text, expected image");
        assert_eq!(message(json!({ "output": "id" })), "`id` cannot be written: it names the rows");
        assert_eq!(
            message(json!({ "min_new_tokens": 9, "max_new_tokens": 8 })),
            "min_new_tokens = 9 exceeds max_new_tokens = 8"
        );
    }

    #[test]
    fn words_given_and_words_kept() {
        let params = |prompt: &str, prefix: &str| -> Params {
            serde_json::from_value(json!({ "prompt": prompt, "prefix": prefix })).unwrap()
        };
        assert_eq!(params("", "").given(), None);
        assert_eq!(params("", "").caption(" a boat\n"), "a boat");
        let engraving = params("", "An engraving depicting");
        assert_eq!(engraving.given().unwrap(), "An engraving depicting");
        assert_eq!(engraving.caption(" a boat"), "An engraving depicting a boat");
        let question = params("Question: what? Answer:", "It is");
        assert_eq!(question.given().unwrap(), "Question: what? Answer: It is");
        assert_eq!(question.caption("a boat"), "It is a boat");
    }
}
