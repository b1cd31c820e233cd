//! `lora_train`: trains a LoRA adapter on tokenized rows. This half declares and decides the order of rows; the worker executes.
//!
//! Parameters are named as in peft and transformers. The loss of a step is the mean over the learnt tokens of all its rows, so
//! that `micro_batch_size × gradient_accumulation_steps` counts and its factors do not. Knows nothing of texts: `tokenize` made
//! the tokens and labels.

pub mod order;
mod params;

use pipe_engine::cell::ColumnType;
use pipe_engine::problem::Problem;
use pipe_engine::stage::{Contract, DATASET, Declare, Execute, Port, Resources, Stage, params_schema};

use crate::kinds;
pub use params::{Length, Order, Params, Scheduler, TargetModules};

/// See the module.
pub const STAGE: Stage = Stage {
    name: "lora_train",
    version: 1,
    about: "trains a LoRA adapter of a language model on tokenized rows",
    inputs: &[
        Port::one("data", &[DATASET], "the rows to learn, tokenized; their phase and weight, where asked for"),
        Port::one("model", &[kinds::MODEL], "the language model to adapt"),
        Port::one("validation", &[DATASET], "tokenized rows that are never learnt, to watch the loss on").optional(),
    ],
    outputs: &[
        Port::one("adapter", &[kinds::ADAPTER], "the adapter after the last step"),
        Port::one("best", &[kinds::ADAPTER], "the adapter at the lowest validation loss; only with `validation`")
            .optional(),
        Port::one("curve", &[kinds::METRICS], "loss, learning rate and gradient norm of each step; validation losses"),
    ],
    params: params_schema::<Params>,
    resources: Resources::DEVICE,
    resolve: None,
    declare,
    execute: Execute::TorchStep,
};

fn declare(declare: &Declare<'_>) -> Result<Contract, Problem> {
    let params: Params = declare.params()?;
    params.check()?;
    let mut contract = Contract::default().reads_columns("data", data_columns(declare, &params)?);
    if declare.inputs.contains_key("validation") {
        let columns = token_columns(declare, "validation", &params)?;
        contract = contract.reads_columns("validation", columns).gives("best", kinds::ADAPTER);
    } else if params.eval_steps.is_some() {
        return Err(Problem::param("eval_steps", "there is nothing to evaluate on").help("connect port `validation`"));
    }
    if params.weight.is_none() && declare.schema("data")?.get("weight").is_some() {
        contract
            .notes
            .push("the data has a column `weight` that is not used; set weight = \"weight\" to use it".to_owned());
    }
    Ok(contract.gives("adapter", kinds::ADAPTER).gives("curve", kinds::METRICS))
}

fn token_columns<'p>(declare: &Declare<'_>, port: &str, params: &'p Params) -> Result<Vec<&'p str>, Problem> {
    for (param, column) in [("input_ids", &params.input_ids), ("labels", &params.labels)] {
        declare.column(port, param, column, &[ColumnType::Ints]).map_err(|problem| {
            if problem.message.starts_with("there is no") { untokenized(problem) } else { problem }
        })?;
    }
    Ok(vec![&params.input_ids, &params.labels])
}

fn untokenized(problem: Problem) -> Problem {
    let help = problem.help.clone().unwrap_or_default();
    problem.help(format!("{help}; `tokenize` makes the token columns"))
}

fn data_columns<'p>(declare: &Declare<'_>, params: &'p Params) -> Result<Vec<&'p str>, Problem> {
    // The order in which rows are learnt follows from their ids.
    let mut columns = vec!["id"];
    columns.extend(token_columns(declare, "data", params)?);
    if params.order == Order::Curriculum {
        declare.column("data", "phase", &params.phase, &[ColumnType::Int])?;
        columns.push(&params.phase);
    }
    if let Some(weight) = &params.weight {
        declare.column("data", "weight", weight, &[ColumnType::Float, ColumnType::Int])?;
        columns.push(weight);
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use pipe_engine::problem::Subject;
    use pipe_engine::stage::Reads;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{dataset_shape, declared, files_shape};

    const TOKENS: &[(&str, ColumnType)] = &[("input_ids", ColumnType::Ints), ("labels", ColumnType::Ints)];
    const ORDERED: &[(&str, ColumnType)] = &[
        ("input_ids", ColumnType::Ints),
        ("labels", ColumnType::Ints),
        ("phase_index", ColumnType::Int),
        ("weight", ColumnType::Float),
    ];

    fn contract(params: &Value, data: &[(&str, ColumnType)], validated: bool) -> Result<Contract, Problem> {
        let mut inputs = vec![("data", dataset_shape(data)), ("model", files_shape(kinds::MODEL))];
        if validated {
            inputs.push(("validation", dataset_shape(TOKENS)));
        }
        declared(&STAGE, params, &inputs)
    }

    fn outputs(contract: &Contract) -> Vec<&str> {
        contract.outputs.iter().map(|output| output.port.as_str()).collect()
    }

    #[test]
    fn reads_what_it_is_asked_to_use() {
        let plain = contract(&json!({}), TOKENS, false).unwrap();
        assert_eq!(plain.reads["data"], Reads::Columns(vec!["id".into(), "input_ids".into(), "labels".into()]));
        assert_eq!(outputs(&plain), ["adapter", "curve"]);
        assert!(plain.notes.is_empty());
        let params = json!({ "order": "curriculum", "weight": "weight", "eval_steps": 5 });
        let ordered = contract(&params, ORDERED, true).unwrap();
        let columns = ["id", "input_ids", "labels", "phase_index", "weight"].map(str::to_owned);
        assert_eq!(ordered.reads["data"], Reads::Columns(columns.into()));
        assert_eq!(outputs(&ordered), ["best", "adapter", "curve"]);
    }

    #[test]
    fn a_weight_left_unused_is_worth_a_word() {
        assert_eq!(contract(&json!({}), ORDERED, false).unwrap().notes.len(), 1);
    }

    #[test]
    fn mistakes_are_found_at_their_parameter() {
        let wrong = |params: Value| contract(&params, TOKENS, false).unwrap_err();
        let about = |params: Value| match wrong(params).subject {
            Subject::Param(name) => name,
            other => format!("{other:?}"),
        };
        assert_eq!(about(json!({ "order": "curriculum" })), "phase");
        assert_eq!(about(json!({ "weight": "wieght" })), "weight");
        assert_eq!(about(json!({ "eval_steps": 5 })), "eval_steps");
        assert_eq!(about(json!({ "epochs": 1, "max_steps": 5 })), "max_steps");
        assert_eq!(about(json!({ "target_modules": [] })), "target_modules");
        assert_eq!(about(json!({ "target_modules": "[" })), "target_modules");
        assert_eq!(about(json!({ "warmup_steps": 2.5 })), "warmup_steps");
        let untokenized = contract(&json!({}), &[("text", ColumnType::Text)], false).unwrap_err();
        assert!(untokenized.help.unwrap().ends_with("`tokenize` makes the token columns"));
    }
}
