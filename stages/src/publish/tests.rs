use std::collections::BTreeMap;

use pipe_engine::problem::Subject;
use pipe_engine::step::{Ancestor, DatasetView, Inputs, StepTask};
use pipe_engine::{Digest, Key};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::evaluate::table::tests::report;
use crate::testing::{Quiet, dataset_shape, declared, file_set, files_shape, input, task};

fn params() -> Value {
    json!({ "name": "org/narrator", "license": "Apache-2.0", "base_model": "org/base", "description": "Says what is seen.",
            "tags": ["captions"], "language": ["en"], "evaluation_data": "40 scenes" })
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut params = params();
    params[name] = value.into();
    params
}

fn ancestor(step: &str, stage: &str, params: Value, output: &str) -> Ancestor {
    Ancestor {
        step: step.to_owned(),
        stage: stage.to_owned(),
        key: Key::of(step.as_bytes()),
        params,
        outputs: BTreeMap::from([("out".to_owned(), Digest::of(output.as_bytes()))]),
        pin: String::new(),
    }
}

struct Fixture {
    inputs: Inputs,
    lineage: Vec<Ancestor>,
    _dirs: Vec<TempDir>,
}

/// An adapter, its model, an evaluation and two datasets, with the steps that made them.
fn fixture() -> Fixture {
    let weights = adapter::tests::weights(&[
        (adapter::tests::A, [2, 3], vec![0.5; 6]),
        (adapter::tests::B, [4, 2], vec![0.25; 8]),
    ]);
    let config = json!({ "peft_type": "LORA", "r": 2, "base_model_name_or_path": "/somewhere" }).to_string();
    let metrics = report().to_json();
    let (one, adapter) =
        file_set(&[("adapter_config.json", config.as_bytes()), ("adapter_model.safetensors", &weights)]);
    let (two, model) = file_set(&[("config.json", br#"{"model_type":"qwen2"}"#)]);
    let (three, metrics) = file_set(&[("metrics.json", &metrics)]);
    let view = |rows| Data::Dataset(DatasetView { rows, ..DatasetView::default() });
    let inputs = Inputs::from([
        ("adapter".to_owned(), vec![input("adapter", kinds::ADAPTER, Data::Files(adapter))]),
        ("model".to_owned(), vec![input("model", kinds::MODEL, Data::Files(model))]),
        ("metrics".to_owned(), vec![input("metrics", kinds::METRICS, Data::Files(metrics))]),
        ("data".to_owned(), vec![input("train", DATASET, view(900)), input("test", DATASET, view(100))]),
    ]);
    let lineage = vec![
        Ancestor { pin: "commit 0a1b".to_owned(), ..ancestor("photos", "download/1", json!({}), "photos") },
        ancestor("tokens", "tokenize/1", json!({ "prompt": "Caption: {caption}\nDescription:" }), "tokens"),
        ancestor(
            "tune",
            "lora_train/1",
            json!({ "r": 2, "learning_rate": 0.0002, "target_modules": "a|b" }),
            "adapter",
        ),
    ];
    Fixture { inputs, lineage, _dirs: vec![one, two, three] }
}

fn publish(params: &Value, fixture: Fixture) -> Result<BTreeMap<String, String>, Failure> {
    let dir = tempfile::tempdir().unwrap();
    let task = StepTask { lineage: fixture.lineage, ..task(&STAGE, params.clone(), fixture.inputs, dir.path()) };
    execute(&StepContext {
        task: &task,
        sink: &Quiet,
        credentials: pipe_engine::source::Credentials::none(),
        datasets: None,
    })?;
    let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let bytes = std::fs::read(entry.path()).unwrap();
        (entry.file_name().into_string().unwrap(), String::from_utf8_lossy(&bytes).into_owned())
    });
    Ok(files.collect())
}

#[test]
fn a_release_is_whole() {
    let files = publish(&params(), fixture()).unwrap();
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["README.md", "adapter_config.json", "adapter_model.safetensors", "metrics.json", "provenance.json"]
    );
    let config: Value = serde_json::from_str(&files["adapter_config.json"]).unwrap();
    assert_eq!(config["base_model_name_or_path"], "org/base");
    let provenance: Value = serde_json::from_str(&files["provenance.json"]).unwrap();
    assert_eq!(provenance["steps"][2]["params"]["r"], 2);
    assert_eq!(provenance["inputs"]["data"][1]["label"], "test");
    assert_eq!(publish(&params(), fixture()).unwrap(), files, "the same inputs give the same bytes");
}

#[test]
fn the_card_says_what_it_is() {
    let card = publish(&params(), fixture()).unwrap().remove("README.md").unwrap();
    for expected in [
        "---\nlicense: \"apache-2.0\"\nlanguage:\n- \"en\"\nbase_model: \"org/base\"\nlibrary_name: \"peft\"\n",
        "tags:\n- \"captions\"\n- \"lora\"\n",
        "model-index:\n- name: \"org/narrator\"\n  results:\n  - task:\n      type: \"text-generation\"\n",
        "# org/narrator\n\nSays what is seen.\n\nA LoRA adapter of `org/base` (qwen2): 14 parameters on 1 modules.\n",
        "Licence: Apache License 2.0.",
        "On 40 scenes. This release is `tuned`.",
        "| bleu_4 | 0.1908 [0.1701, 0.2110] |",
        "Not computed: cider_d: there are no references.",
        "- bleu_4: `bleu_4|case:lower|tok:ptb`",
        "| `learning_rate` | `0.0002` |",
        "| `target_modules` | `\"a\\|b\"` |",
        "| train | 900 |",
        "| photos | `commit 0a1b` |",
        "prompt = \"Caption: {caption}\\nDescription:\".format(**{\"caption\":\"…\"})",
        "max_new_tokens=64,",
        "PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), \"org/narrator\")",
        "| tune | `lora_train/1` |",
    ] {
        assert!(card.contains(expected), "no {expected:?} in\n{card}");
    }
}

#[test]
fn every_number_of_the_front_matter_is_in_the_metrics() {
    let files = publish(&params(), fixture()).unwrap();
    let metrics: Value = serde_json::from_str(&files["metrics.json"]).unwrap();
    let front = files["README.md"].split("---\n").nth(1).unwrap();
    let values: Vec<f64> =
        front.lines().filter_map(|line| line.trim().strip_prefix("value: ")).map(|v| v.parse().unwrap()).collect();
    assert_eq!(values, [metrics["measures"][0]["scores"]["tuned"]["value"].as_f64().unwrap()]);
}

#[test]
fn the_system_must_be_clear() {
    let failure = publish(&with("system", "best"), fixture()).unwrap_err();
    assert_eq!(failure.message, "the evaluation has no system `best`, only base, tuned");
    let mut three = report();
    three.systems.push(crate::evaluate::report::System { name: "other".to_owned(), missing: Vec::new() });
    assert!(released(&three, None).unwrap_err().help.unwrap().contains("say which"));
    assert_eq!(released(&three, Some("base")).unwrap(), "base");
    three.systems.truncate(1);
    assert_eq!(released(&three, None).unwrap(), "base");
}

#[test]
fn secrets_are_not_published() {
    let mut leaky = fixture();
    leaky.lineage[0].params = json!({ "headers": format!("hf_{}", "x1".repeat(17)) });
    let failure = publish(&params(), leaky).unwrap_err();
    assert!(failure.message.starts_with("provenance.json would hold what looks like a Hugging Face token"));
    assert!(!failure.message.contains("x1x1"));
}

#[test]
fn a_curve_is_no_evaluation() {
    let mut fixture = fixture();
    let (_dir, curve) = file_set(&[("metrics.json", b"{}")]);
    fixture.inputs.insert("metrics".to_owned(), vec![input("curve", kinds::METRICS, Data::Files(curve))]);
    let failure = publish(&params(), fixture).unwrap_err();
    assert!(failure.message.starts_with("metrics.json is not that of an evaluation"), "{failure}");
}

#[test]
fn numbers_alone_can_be_published() {
    let mut fixture = fixture();
    fixture.inputs.retain(|port, _| port == "metrics");
    let files = publish(&params(), fixture).unwrap();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["README.md", "metrics.json", "provenance.json"]);
    assert!(!files["README.md"].contains("How to use"));
}

#[test]
fn mistakes_are_found_at_their_parameter() {
    let problem = |params: Value| declared(&STAGE, &params, &[("adapter", files_shape(kinds::ADAPTER))]).unwrap_err();
    let unknown = problem(with("license", "apache-2"));
    assert_eq!(unknown.message, "SPDX lists no licence `apache-2`");
    assert!(unknown.help.unwrap().starts_with("did you mean `apache-2.0`?"));
    assert_eq!(problem(with("license", "other")).message, "`other` names no licence");
    assert_eq!(problem(with("license_name", "X")).subject, Subject::Param("license_name".to_owned()));
    assert_eq!(problem(with("language", json!(["English"]))).message, "`English` is not a language code");
    assert_eq!(declared(&STAGE, &params(), &[]).unwrap_err().message, "there is nothing to publish");
}

#[test]
fn a_licence_may_be_one_of_ones_own() {
    let mut own = with("license", "other");
    own["license_name"] = json!("qwen-research");
    own["license_link"] = json!("https://example.org/license");
    let card = publish(&own, fixture()).unwrap().remove("README.md").unwrap();
    assert!(card.starts_with(
        "---\nlicense: \"other\"\nlicense_name: \"qwen-research\"\nlicense_link: \"https://example.org/license\"\n"
    ));
    assert!(card.contains("Licence: [qwen-research](https://example.org/license)."));
}

#[test]
fn an_adapter_without_the_name_of_its_base_is_worth_a_word() {
    let mut unnamed = params();
    unnamed.as_object_mut().unwrap().remove("base_model");
    let contract = declared(&STAGE, &unnamed, &[("adapter", files_shape(kinds::ADAPTER))]).unwrap();
    assert_eq!(contract.notes.len(), 1);
    let data = declared(&STAGE, &unnamed, &[("data", dataset_shape(&[]))]).unwrap();
    assert!(data.notes.is_empty());
}
