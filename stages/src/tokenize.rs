//! `tokenize`: turns rows into token ids and labels to train on, with a model's own tokenizer.
//!
//! Prompt and completion are encoded apart and joined, so which tokens are learnt is known and never searched for. The
//! completion ends with the model's end token, which is learnt too: a model that never saw an end never stops. What is too long
//! is dropped, failed, or loses the beginning of its prompt; a completion is never cut. Knows nothing of weights or batches.

use pipe_engine::cell::{Cell, ColumnType, Row};
use pipe_engine::problem::{Failure, Problem, Subject};
use pipe_engine::stage::{
    Contract, DATASET, Declare, Execute, Load, Outcome, Port, Resources, RowFailure, RowStage, Stage, params_schema,
};
use pipe_engine::step::{Data, Sink};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::encoder::{self, Encoder};
use crate::kinds;
use crate::template::{BoundTemplate, Template};

/// See the module.
pub const STAGE: Stage = Stage {
    name: "tokenize",
    version: 1,
    about: "turns rows into token ids and labels to train on",
    inputs: &[
        Port::one("rows", &[DATASET], "the rows, with the columns that the templates name"),
        Port::one("model", &[kinds::MODEL], "the model whose tokenizer is used; its weights are not read"),
    ],
    outputs: &[Port::one("rows", &[DATASET], "the rows with their tokens and labels")],
    params: params_schema::<Params>,
    resources: Resources::CORES,
    resolve: None,
    declare,
    execute: Execute::Rows(load),
};

/// The label of a token that is not learnt.
pub const IGNORED: i64 = -100;

/// The parameters of `tokenize`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Template of the text that is given: `Caption: {caption}\nDescription:`. It is not learnt.
    #[serde(default)]
    pub prompt: String,
    /// Template of the text that is learnt: ` {description}`. The model's end token follows it.
    pub completion: String,
    /// The most tokens a row may have; the model's own limit where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2))]
    pub max_length: Option<u32>,
    /// What becomes of a row with more tokens: `drop`, `fail`, or `truncate` the beginning of its prompt.
    #[serde(default)]
    pub excess_length: ExcessLength,
    /// Learn the prompt as well.
    #[serde(default)]
    pub train_on_prompt: bool,
    /// Whether rows begin with the model's beginning token; as its tokenizer does where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_bos_token: Option<bool>,
    /// The token that ends a completion; the tokenizer's own where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos_token: Option<String>,
}

/// What becomes of a row with more tokens than `max_length`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExcessLength {
    /// It leaves, counted.
    #[default]
    Drop,
    /// The beginning of its prompt is cut off; it fails where the completion alone is too long.
    Truncate,
    /// It fails.
    Fail,
}

fn declare(declare: &Declare<'_>) -> Result<Contract, Problem> {
    let params: Params = declare.params()?;
    let schema = declare.schema("rows")?;
    let prompt = Template::declare("prompt", &params.prompt, schema)?;
    let completion = Template::declare("completion", &params.completion, schema)?;
    if completion.columns().is_empty() {
        return Err(Problem { subject: Subject::Param("completion".to_owned()), ..no_columns(&params.completion) });
    }
    let mut columns = prompt.columns();
    columns.extend(completion.columns().into_iter().filter(|column| !prompt.columns().contains(column)));
    Ok(Contract::default()
        .reads_columns("rows", columns)
        .reads_files("model", encoder::FILES)
        .writes("input_ids", ColumnType::Ints)
        .writes("labels", ColumnType::Ints))
}

fn no_columns(completion: &str) -> Problem {
    Problem::step(format!("`{completion}` is the same for every row: there is nothing to learn"))
        .help("name the column to learn in braces, such as ` {description}`")
}

fn load(load: &Load<'_>) -> Result<Box<dyn RowStage>, Failure> {
    let params: Params = load.params()?;
    let Some(Data::Files(model)) = load.inputs.get("model").and_then(|inputs| inputs.first()).map(|input| &input.data)
    else {
        return Err(Failure::internal("port `model` carries no files"));
    };
    let bind = |text: &str| {
        let template = Template::compile(text).map_err(|error| Failure::internal(error.to_string()))?;
        template.bind(load.columns)
    };
    let options = encoder::Options {
        max_length: params.max_length,
        add_bos_token: params.add_bos_token,
        eos_token: params.eos_token.clone(),
    };
    Ok(Box::new(Tokenize {
        prompt: bind(&params.prompt)?,
        completion: bind(&params.completion)?,
        encoder: Encoder::load(model, &options)?,
        excess_length: params.excess_length,
        train_on_prompt: params.train_on_prompt,
    }))
}

struct Tokenize {
    prompt: BoundTemplate,
    completion: BoundTemplate,
    encoder: Encoder,
    excess_length: ExcessLength,
    train_on_prompt: bool,
}

impl RowStage for Tokenize {
    fn run(&self, rows: &[Row], _: &dyn Sink) -> Result<Vec<Outcome>, Failure> {
        Ok(rows.iter().map(|row| self.row(row).unwrap_or_else(Outcome::Fail)).collect())
    }
}

impl Tokenize {
    fn row(&self, row: &Row) -> Result<Outcome, RowFailure> {
        let prompt = self.encoder.prompt(&self.prompt.render(row)?)?;
        let completion = self.encoder.completion(&self.completion.render(row)?)?;
        let (length, limit) = (prompt.len() + completion.len(), self.encoder.max_length);
        let cut = length.saturating_sub(limit);
        let prompt = match self.excess_length {
            _ if cut == 0 => prompt,
            ExcessLength::Drop => return Ok(Outcome::Drop(format!("longer than {limit} tokens"))),
            ExcessLength::Fail => return Err(too_long(format!("{length} tokens, {limit} at most"))),
            ExcessLength::Truncate => self.encoder.cut_prompt(prompt, cut).ok_or_else(|| {
                too_long(format!("its completion alone has {} tokens, {limit} at most in all", completion.len()))
            })?,
        };
        let labels = if self.train_on_prompt { prompt.clone() } else { vec![IGNORED; prompt.len()] };
        let joined = |head: Vec<i64>| Cell::Ints(head.into_iter().chain(completion.iter().copied()).collect());
        Ok(Outcome::Keep(vec![joined(prompt), joined(labels)]))
    }
}

fn too_long(message: String) -> RowFailure {
    RowFailure { class: "tokenize: too long".to_owned(), message, transient: false }
}

#[cfg(test)]
mod tests;
