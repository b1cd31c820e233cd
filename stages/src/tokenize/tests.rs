use std::collections::BTreeMap;

use pipe_engine::Digest;
use pipe_engine::cell::Schema;
use pipe_engine::stage::{Reads, Shape};
use pipe_engine::step::{Input, Inputs};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::*;
use crate::testing::file_set;

const BOS: i64 = 1;
const EOS: i64 = 2;

/// A tokenizer with one token per byte: the byte's place in the alphabet plus 3.
fn byte_tokenizer(add_prefix_space: bool) -> Value {
    let mut alphabet: Vec<char> = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let specials = ["<pad>", "<s>", "</s>"];
    let tokens = specials.iter().map(|&t| t.to_owned()).chain(alphabet.iter().map(char::to_string));
    let vocab: Map<String, Value> = tokens.zip(0..).map(|(token, id): (String, u32)| (token, json!(id))).collect();
    let added = |(id, content): (usize, &&str)| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
    };
    let level =
        json!({ "type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0", "truncation": { "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0 },
        "padding": null, "normalizer": null, "added_tokens": specials.iter().enumerate().map(added).collect::<Vec<_>>(),
        "pre_tokenizer": level, "decoder": level, "post_processor": null,
        "model": { "type": "BPE", "vocab": vocab, "merges": [] }
    })
}

/// The id of each byte of an ASCII text without blanks.
fn ids(text: &str) -> Vec<i64> {
    let tokenizer = tokenizers::Tokenizer::from_bytes(byte_tokenizer(false).to_string()).unwrap();
    text.chars().map(|c| i64::from(tokenizer.token_to_id(&c.to_string()).unwrap())).collect()
}

struct Model {
    tokenizer: Value,
    tokenizer_config: Value,
    generation_config: Value,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            tokenizer: byte_tokenizer(false),
            tokenizer_config: json!({ "bos_token": "<s>", "eos_token": { "content": "</s>" }, "add_bos_token": true }),
            generation_config: json!({ "eos_token_id": [2, 9] }),
        }
    }
}

impl Model {
    fn inputs(&self) -> (TempDir, Inputs) {
        let (dir, files) = file_set(&[
            ("tokenizer.json", self.tokenizer.to_string().as_bytes()),
            ("tokenizer_config.json", self.tokenizer_config.to_string().as_bytes()),
            ("generation_config.json", self.generation_config.to_string().as_bytes()),
            ("config.json", br#"{"max_position_embeddings": 40, "eos_token_id": 7}"#),
        ]);
        let input = Input {
            label: "base".to_owned(),
            from: "base".to_owned(),
            kind: kinds::MODEL.to_owned(),
            digest: Digest::of(b"base"),
            data: Data::Files(files),
        };
        (dir, Inputs::from([("model".to_owned(), vec![input])]))
    }

    fn try_run(&self, params: &Value, texts: &[(&str, &str)]) -> Result<Vec<Outcome>, Failure> {
        let (_dir, inputs) = self.inputs();
        let columns = vec!["question".to_owned(), "answer".to_owned()];
        let stage = load(&Load {
            params,
            inputs: &inputs,
            columns: &columns,
            schema: &schema(),
            place: pipe_engine::stage::Place::default(),
        })?;
        let rows: Vec<Row> = texts
            .iter()
            .map(|(question, answer)| Row {
                id: "r".to_owned(),
                cells: vec![Cell::Text((*question).to_owned()), Cell::Text((*answer).to_owned())],
            })
            .collect();
        stage.run(&rows, &crate::testing::Quiet)
    }

    fn run(&self, params: &Value, question: &str, answer: &str) -> Outcome {
        self.try_run(params, &[(question, answer)]).unwrap().remove(0)
    }
}

fn schema() -> Schema {
    Schema::default().with(&[("question".to_owned(), ColumnType::Text), ("answer".to_owned(), ColumnType::Text)])
}

fn params() -> Value {
    json!({ "prompt": "{question}", "completion": "{answer}" })
}

fn with(name: &str, value: Value) -> Value {
    let mut params = params();
    params[name] = value;
    params
}

fn kept(outcome: Outcome) -> (Vec<i64>, Vec<i64>) {
    match outcome {
        Outcome::Keep(cells) => (cells[0].as_ints().unwrap().to_vec(), cells[1].as_ints().unwrap().to_vec()),
        other => panic!("{other:?}"),
    }
}

fn class(outcome: Outcome) -> String {
    match outcome {
        Outcome::Fail(failure) => failure.class,
        other => panic!("{other:?}"),
    }
}

fn concat(parts: &[&[i64]]) -> Vec<i64> {
    parts.concat()
}

#[test]
fn prompt_is_given_and_completion_learnt_with_its_end() {
    let (input_ids, labels) = kept(Model::default().run(&params(), "ab", "cde"));
    assert_eq!(input_ids, concat(&[&[BOS], &ids("ab"), &ids("cde"), &[EOS]]));
    assert_eq!(labels, concat(&[&[IGNORED; 3], &ids("cde"), &[EOS]]));
}

#[test]
fn the_prompt_is_learnt_on_request() {
    let (input_ids, labels) = kept(Model::default().run(&with("train_on_prompt", json!(true)), "ab", "cde"));
    assert_eq!(input_ids, labels);
}

#[test]
fn what_is_too_long_goes_as_asked() {
    let model = Model::default();
    let run = |policy: &str, question: &str, answer: &str| {
        let mut params = with("excess_length", json!(policy));
        params["max_length"] = json!(8);
        model.run(&params, question, answer)
    };
    assert_eq!(run("drop", "abcd", "efg"), Outcome::Drop("longer than 8 tokens".to_owned()));
    assert_eq!(class(run("fail", "abcd", "efg")), "tokenize: too long");
    let (input_ids, labels) = kept(run("truncate", "abcd", "efg"));
    assert_eq!(input_ids, concat(&[&[BOS], &ids("bcd"), &ids("efg"), &[EOS]]));
    assert_eq!(labels, concat(&[&[IGNORED; 4], &ids("efg"), &[EOS]]));
    assert_eq!(class(run("truncate", "a", "bcdefgh")), "tokenize: too long");
    kept(run("truncate", "a", "bcdefg"));
}

#[test]
fn a_row_must_have_something_to_learn() {
    assert_eq!(class(Model::default().run(&params(), "ab", "")), "tokenize: empty completion");
}

#[test]
fn rows_begin_once() {
    let model = Model::default();
    assert_eq!(class(model.run(&params(), "<s>ab", "c")), "tokenize: two beginnings");
    let (input_ids, _) = kept(model.run(&with("add_bos_token", json!(false)), "<s>ab", "c"));
    assert_eq!(input_ids, concat(&[&[BOS], &ids("ab"), &ids("c"), &[EOS]]));
}

#[test]
fn the_tokenizer_decides_on_beginnings_where_its_settings_do_not() {
    let mut model = Model { tokenizer_config: json!({ "bos_token": "<s>", "eos_token": "</s>" }), ..Model::default() };
    assert_eq!(kept(model.run(&params(), "a", "b")).0, concat(&[&ids("ab"), &[EOS]]));
    model.tokenizer["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
        "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 0 } }],
        "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } }
    });
    assert_eq!(kept(model.run(&params(), "a", "b")).0, concat(&[&[BOS], &ids("ab"), &[EOS]]));
}

#[test]
fn a_tokenizer_that_puts_spaces_uses_the_one_that_is_there() {
    let model = Model { tokenizer: byte_tokenizer(true), ..Model::default() };
    let (input_ids, _) = kept(model.run(&params(), "a", " b"));
    assert_eq!(input_ids, concat(&[&[BOS], &ids("ĠaĠb"), &[EOS]]));
    assert_eq!(class(model.run(&params(), "a", "b")), "tokenize: no space before completion");
}

#[test]
fn a_model_must_be_able_to_stop() {
    let message = |model: &Model, params: &Value| model.try_run(params, &[]).unwrap_err().to_string();
    let model = Model { generation_config: json!({ "eos_token_id": 50 }), ..Model::default() };
    assert_eq!(
        message(&model, &params()),
        "the tokenizer ends texts with `</s>` (2), but generation stops at [50]: a model trained so never stops"
    );
    model.try_run(&with("eos_token", json!("<pad>")), &[]).unwrap();
    assert_eq!(
        message(&model, &with("eos_token", json!("<end>"))),
        "token `<end>` is not in the vocabulary of tokenizer.json"
    );
    let bare = Model { tokenizer_config: json!({}), ..Model::default() };
    assert_eq!(message(&bare, &params()), "tokenizer_config.json names no eos_token");
    let from_model = Model { generation_config: json!({}), ..Model::default() };
    assert!(message(&from_model, &params()).contains("generation stops at [7]"));
}

#[test]
fn the_model_sets_the_limit() {
    let message = Model::default().try_run(&with("max_length", json!(41)), &[]).unwrap_err().to_string();
    assert_eq!(message, "max_length = 41, but the model has 40 positions");
    let long = "a".repeat(40);
    assert_eq!(Model::default().run(&params(), &long, "b"), Outcome::Drop("longer than 40 tokens".to_owned()));
}

#[test]
fn declaring_names_what_is_read() {
    let declared = |params: &Value| {
        let shape = |schema| Shape { label: "x".to_owned(), kind: String::new(), schema };
        let inputs =
            BTreeMap::from([("rows".to_owned(), vec![shape(Some(schema()))]), ("model".to_owned(), vec![shape(None)])]);
        declare(&Declare { params, inputs: &inputs, resolution: None })
    };
    let contract = declared(&json!({ "prompt": "{question} {id}", "completion": " {answer} {question}" })).unwrap();
    assert_eq!(contract.reads["rows"], Reads::Columns(vec!["question".into(), "id".into(), "answer".into()]));
    assert_eq!(contract.reads["model"], Reads::Files(encoder::FILES.iter().map(|&f| f.to_owned()).collect()));
    assert_eq!(contract.writes, [("input_ids".to_owned(), ColumnType::Ints), ("labels".to_owned(), ColumnType::Ints)]);
    let problem = declared(&json!({ "completion": "{anwser}" })).unwrap_err();
    assert_eq!(problem.subject, Subject::Param("completion".to_owned()));
    assert!(problem.help.unwrap().starts_with("did you mean `answer`?"));
    assert!(declared(&json!({ "completion": "yes" })).unwrap_err().message.contains("nothing to learn"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_row_learns_its_completion_whole(question in ".{0,20}", answer in ".{1,20}", limit in 2..60_u32) {
        let model = Model::default();
        let mut params = with("excess_length", json!("truncate"));
        params["max_length"] = json!(limit.min(40));
        if let Outcome::Keep(cells) = model.run(&params, &question, &answer) {
            let (input_ids, labels) = kept(Outcome::Keep(cells));
            prop_assert!(input_ids.len() <= limit as usize);
            prop_assert_eq!(input_ids.len(), labels.len());
            let learnt: Vec<i64> = labels.iter().copied().filter(|label| *label != IGNORED).collect();
            prop_assert_eq!(&input_ids[input_ids.len() - learnt.len()..], &learnt[..]);
            prop_assert_eq!(learnt.len(), answer.len() + 1);
            prop_assert_eq!(learnt.last(), Some(&EOS));
        }
    }
}
