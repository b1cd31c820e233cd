//! Tokenizers against the reference's.
#![allow(clippy::unwrap_used)]

mod common;

use common::{copy, files, golden};
use pipe_models::{Error, ModelFiles, SpecialTokens, Tokenizer};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<i64>,
    with_special: Vec<i64>,
    decoded: String,
}

#[test]
fn ids_and_texts_equal_the_references() {
    let tokenizer = Tokenizer::load(&files("tokenizer")).unwrap();
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(golden("tokenizer/cases.json")).unwrap()).unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        assert_eq!(tokenizer.encode(&case.text, false).unwrap(), case.ids, "{}", case.text);
        assert_eq!(tokenizer.encode(&case.text, true).unwrap(), case.with_special, "{}", case.text);
        assert_eq!(tokenizer.decode(&case.with_special, true).unwrap(), case.decoded);
        assert_eq!(case.decoded, case.text);
    }
    assert_eq!(tokenizer.decode(&[1, 2], false).unwrap(), "<s></s>");
    assert_eq!((tokenizer.token_id("</s>"), tokenizer.token_id("<none>")), (Some(2), None));
    assert_eq!(tokenizer.vocabulary_size(), 313);
}

#[test]
fn bad_ids_and_files_are_errors() {
    let tokenizer = Tokenizer::load(&files("tokenizer")).unwrap();
    assert!(matches!(tokenizer.decode(&[-1], true), Err(Error::Tokenizer(_))));
    let dir = copy("tokenizer");
    std::fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    let broken = ModelFiles::from_dir(dir.path()).unwrap();
    assert!(matches!(Tokenizer::load(&broken).map(drop), Err(Error::Damaged { .. })));
    assert!(matches!(Tokenizer::load(&files("opt")).map(drop), Err(Error::MissingFile { .. })));
}

#[test]
fn special_tokens_come_from_the_models_files() {
    let read = |name: &str| SpecialTokens::read(&files(name)).unwrap();
    assert_eq!(read("qwen2-tied"), SpecialTokens { bos: None, eos: vec![2], pad: Some(0) });
    assert_eq!(read("opt"), SpecialTokens { bos: Some(2), eos: vec![2], pad: Some(1) });
    assert_eq!(read("blip2"), SpecialTokens { bos: Some(2), eos: vec![90], pad: Some(1) });
}

#[test]
fn generation_settings_win_over_the_configuration() {
    let dir = copy("qwen2-tied");
    let path = dir.path().join("generation_config.json");
    let settings = |text: &str| {
        std::fs::write(&path, text).unwrap();
        SpecialTokens::read(&ModelFiles::from_dir(dir.path()).unwrap())
    };
    assert_eq!(settings(r#"{"eos_token_id": [4, 2]}"#).unwrap().eos, [4, 2]);
    assert_eq!(settings(r#"{"eos_token_id": null}"#).unwrap().eos, [2]);
    assert!(matches!(settings(r#"{"eos_token_id": "2"}"#), Err(Error::Config { .. })));
}
