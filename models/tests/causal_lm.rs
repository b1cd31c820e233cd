//! Language models against the reference: scores, continuations, and that the comparison would notice a difference.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Expected, assert_close, causal, changed, distance, files, load_error};
use pipe_models::{CausalLm, DType, Error, GenerateOptions, Generated, LoadOptions, ModelFiles};
use serde_json::json;

const MODELS: [&str; 4] = ["qwen2-tied", "qwen2-untied", "opt", "opt-post"];

/// The new ids of a continuation as the reference gives them, cut before `stop`.
fn cut(row: &[i64], stop: Option<i64>) -> Generated {
    match stop.and_then(|stop| row.iter().position(|&id| id == stop)) {
        Some(end) => Generated { ids: row[..end].to_vec(), stopped: true },
        None => Generated { ids: row.to_vec(), stopped: false },
    }
}

fn options(stop: Vec<i64>) -> GenerateOptions {
    GenerateOptions { max_new_tokens: 12, stop: Some(stop), ..GenerateOptions::default() }
}

#[test]
fn scores_equal_the_references_alone_and_padded() {
    for name in MODELS {
        let (model, expected) = (causal(name), Expected::of(name));
        let rows = expected.prompts();
        let padded = model.logits(&rows).unwrap();
        let longest = padded.size()[1];
        for (i, row) in rows.iter().enumerate() {
            let alone = model.logits(std::slice::from_ref(row)).unwrap().get(0);
            assert_close(&format!("{name} row {i}"), &alone, expected.tensor(&format!("logits{i}")));
            let length = row.len() as i64;
            let padded = padded.get(i as i64).narrow(0, longest - length, length);
            assert_close(&format!("{name} padded row {i}"), &padded, expected.tensor(&format!("padded{i}")));
        }
    }
}

#[test]
fn continuations_equal_the_references() {
    for name in MODELS {
        let (model, expected) = (causal(name), Expected::of(name));
        let prompts = expected.prompts();
        let stop = expected.ids("stop")[0];
        let check = |setting: &str, options: GenerateOptions, stop: Option<i64>| {
            let found = model.generate(&prompts, &options).unwrap();
            let wanted: Vec<_> = expected.table(setting).iter().map(|row| cut(row, stop)).collect();
            assert_eq!(found, wanted, "{name} {setting}");
        };
        check("free", options(vec![]), None);
        check("stopped", options(vec![stop]), Some(stop));
        check("at_least", GenerateOptions { min_new_tokens: 9, ..options(vec![stop]) }, Some(stop));
    }
}

#[test]
fn the_repetition_penalty_is_the_references() {
    for name in MODELS {
        let (model, expected) = (causal(name), Expected::of(name));
        let options = GenerateOptions { repetition_penalty: 1.7, ..options(vec![]) };
        let alone = model.generate(&expected.prompts()[..1], &options).unwrap();
        assert_eq!(alone[0].ids, expected.table("penalised")[0], "{name}");
        let batch = model.generate(&expected.prompts(), &options).unwrap();
        assert_eq!(batch[0], alone[0], "{name}: filling must not be penalised");
    }
}

#[test]
fn a_batch_says_what_its_rows_say_alone() {
    for name in MODELS {
        let (model, prompts) = (causal(name), Expected::of(name).prompts());
        let batch = model.generate(&prompts, &options(vec![])).unwrap();
        for (prompt, row) in prompts.iter().zip(&batch) {
            let alone = model.generate(std::slice::from_ref(prompt), &options(vec![])).unwrap();
            assert_eq!(&alone[0], row, "{name}");
        }
    }
}

#[test]
fn the_cache_changes_nothing() {
    for name in MODELS {
        let (model, prompts) = (causal(name), Expected::of(name).prompts());
        let cached = model.generate(&prompts[..1], &options(vec![])).unwrap();
        let mut row = prompts[0].clone();
        for &id in &cached[0].ids {
            let scores = model.logits(std::slice::from_ref(&row)).unwrap();
            let best = scores.get(0).get(row.len() as i64 - 1).argmax(0, false);
            assert_eq!(i64::try_from(best).unwrap(), id, "{name} after {row:?}");
            row.push(id);
        }
    }
}

#[test]
fn texts_end_at_the_models_own_tokens_by_default() {
    let stop = Expected::of("opt").ids("stop")[0];
    let (_dir, files) = changed("opt", |config| config["eos_token_id"] = json!([stop, 95]));
    let files: ModelFiles = files
        .names()
        .filter(|name| *name != "generation_config.json")
        .map(|name| (name.to_owned(), files.get(name).unwrap().clone()))
        .collect();
    let model = CausalLm::load(&files, &LoadOptions::cpu()).unwrap();
    assert_eq!(model.special_tokens().eos, [stop, 95]);
    let rows = model.generate(&Expected::of("opt").prompts(), &GenerateOptions::default()).unwrap();
    assert!(rows[0].stopped && rows[0].ids.len() < 12);
}

/// Every field below decides scores without deciding a shape: were one not read, the parity tests could still pass.
#[test]
fn each_field_of_the_configuration_is_read() {
    let qwen2 = [
        ("rope_parameters", json!({"rope_type": "default", "rope_theta": 10000.0})),
        ("rms_norm_eps", json!(0.1)),
        ("hidden_act", json!("relu")),
    ];
    let opt = [
        ("num_attention_heads", json!(8)),
        ("activation_function", json!("gelu")),
        ("do_layer_norm_before", json!(false)),
    ];
    let cases = qwen2.map(|case| ("qwen2-tied", case)).into_iter().chain(opt.map(|case| ("opt", case)));
    for (name, (field, value)) in cases {
        let expected = Expected::of(name);
        let (_dir, files) = changed(name, |config| {
            config[field] = value;
            if field == "do_layer_norm_before" {
                // The last norm goes with it; keep the file's names as they are.
                config["_remove_final_layer_norm"] = json!(false);
            }
        });
        match CausalLm::load(&files, &LoadOptions::cpu()) {
            Ok(model) => {
                let scores = model.logits(&expected.prompts()[..1]).unwrap().get(0);
                let off = distance(&scores, expected.tensor("logits0"));
                assert!(off > 1e-3, "{name}: {field} changed the scores by {off:.1e} only");
            }
            Err(Error::Weights { unexpected, .. }) if field == "do_layer_norm_before" => {
                assert!(unexpected.iter().all(|name| name.contains("final_layer_norm")), "{unexpected:?}");
            }
            Err(error) => panic!("{name} {field}: {error}"),
        }
    }
}

#[test]
fn half_precision_stays_near_full() {
    for name in MODELS {
        let expected = Expected::of(name);
        let options = LoadOptions { dtype: DType::Bf16, ..LoadOptions::cpu() };
        let model = CausalLm::load(&files(name), &options).unwrap();
        let off = distance(&model.logits(&expected.prompts()[..1]).unwrap().get(0), expected.tensor("logits0"));
        assert!(off > 1e-5 && off < 0.05, "{name}: off by {off:.1e}");
    }
}

#[test]
fn unknown_architectures_and_rotations_are_refused() {
    let cases = [
        ("model_type", json!("mamba"), "`config.json`: model_type = \"mamba\" is not supported; supported: qwen2, opt"),
        ("rope_parameters", json!({"rope_type": "yarn", "rope_theta": 1e4}), "rope_type = \"yarn\" is not supported"),
        ("rope_scaling", json!({"type": "linear", "factor": 2.0}), "type = \"linear\" is not supported"),
        ("rope_parameters", json!({}), "neither `rope_theta` nor `rope_parameters.rope_theta` is given"),
        ("hidden_act", json!("quick_gelu"), "hidden_act = \"quick_gelu\" is not supported; supported: relu, gelu"),
        ("num_key_value_heads", json!(3), "4 heads cannot share 3 of keys and values"),
        ("num_attention_heads", json!("four"), "invalid type"),
    ];
    for (field, value, message) in cases {
        let (_dir, files) = changed("qwen2-tied", |config| config[field] = value);
        let error = load_error(&files);
        assert!(matches!(error, Error::Config { .. } | Error::Unsupported { .. }), "{error:?}");
        assert!(error.to_string().contains(message), "{field}: {error}");
    }
}

#[test]
fn windows_are_refused_unless_nothing_falls_outside() {
    let window = |window: i64, first: usize| {
        changed("qwen2-tied", |config| {
            config["use_sliding_window"] = json!(true);
            config["sliding_window"] = json!(window);
            config["max_window_layers"] = json!(first);
            config["layer_types"] = json!(null);
        })
    };
    for (size, first, refused) in [(16, 1, true), (64, 1, false), (16, 2, false)] {
        let (_dir, files) = window(size, first);
        let result = CausalLm::load(&files, &LoadOptions::cpu());
        assert_eq!(result.is_err(), refused, "window {size} from layer {first}");
    }
}

#[test]
fn bad_input_is_an_error() {
    let model = causal("opt");
    let fails = |prompts: &[Vec<i64>], options: &GenerateOptions| match model.generate(prompts, options) {
        Err(Error::Input(text)) => text,
        other => panic!("{other:?}"),
    };
    let free = options(vec![]);
    assert_eq!(fails(&[vec![96]], &free), "token id 96 is not in the vocabulary of 96");
    assert_eq!(fails(&[vec![-1]], &free), "token id -1 is not in the vocabulary of 96");
    assert_eq!(fails(&[vec![5], vec![]], &free), "a prompt has no tokens");
    assert_eq!(fails(&[vec![5; 60]], &free), "71 positions are needed, the model has 64");
    assert!(fails(&[vec![5]], &GenerateOptions { max_new_tokens: 0, ..free.clone() }).contains("1 or more"));
    assert!(fails(&[vec![5]], &options(vec![96])).contains("token id 96"));
    assert_eq!(model.generate(&[], &free).unwrap(), []);
    // The last new token needs no position: 53 + 12 − 1 = 64.
    assert_eq!(model.generate(&[vec![5; 53]], &free).unwrap()[0].ids.len(), 12);
}
