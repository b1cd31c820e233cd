//! Adapters: files of `peft`, fresh ones, and what does not fit.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{Expected, assert_close, causal, copy, distance, files, one_thread};
use pipe_models::{
    AdapterSource, CausalLm, DType, Error, LoadOptions, LoraConfig, ModelFiles, Numerics, TargetModules,
};
use serde_json::{Value, json};
use tch::Tensor;

fn with_adapter(adapter: AdapterSource<'_>) -> pipe_models::Result<CausalLm> {
    one_thread();
    CausalLm::load(&files("qwen2-tied"), &LoadOptions { adapter, ..LoadOptions::cpu() })
}

fn fresh(target_modules: TargetModules) -> LoraConfig {
    LoraConfig { r: 4, lora_alpha: 8.0, target_modules, ..LoraConfig::default() }
}

fn list(names: &[&str]) -> TargetModules {
    TargetModules::List(names.iter().map(|&name| name.to_owned()).collect())
}

/// A copy of the golden adapter with one file changed.
fn changed(change: impl FnOnce(&Path)) -> (tempfile::TempDir, ModelFiles) {
    let dir = copy("qwen2-tied-adapter");
    change(dir.path());
    let files = ModelFiles::from_dir(dir.path()).unwrap();
    (dir, files)
}

fn edit_config(dir: &Path, field: &str, value: Value) {
    let path = dir.join("adapter_config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config[field] = value;
    std::fs::write(path, config.to_string()).unwrap();
}

fn edit_tensors(dir: &Path, change: impl FnOnce(&mut Vec<(String, Tensor)>)) {
    let path = dir.join("adapter_model.safetensors");
    let mut tensors = Tensor::read_safetensors(&path).unwrap();
    change(&mut tensors);
    Tensor::write_safetensors(&tensors, path).unwrap();
}

#[test]
fn an_adapter_of_peft_gives_pefts_scores() {
    let expected = Expected::of("qwen2-tied");
    let adapter = files("qwen2-tied-adapter");
    let model = with_adapter(AdapterSource::Files(&adapter)).unwrap();
    let scores = model.logits(&expected.prompts()[..1]).unwrap().get(0);
    assert_close("adapted", &scores, expected.tensor("adapted0"));
    assert!(distance(&scores, expected.tensor("logits0")) > 0.01, "the adapter must not be inert");
}

#[test]
fn what_is_written_is_what_was_read() {
    let adapter = files("qwen2-tied-adapter");
    let model = with_adapter(AdapterSource::Files(&adapter)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    model.adapter().unwrap().write(dir.path(), Some("some/base")).unwrap();
    let read = |dir: &Path, name: &str| std::fs::read(dir.join(name)).unwrap();
    let golden = common::golden("qwen2-tied-adapter");
    assert!(
        read(dir.path(), "adapter_model.safetensors") == read(&golden, "adapter_model.safetensors"),
        "bytes differ"
    );
    let config: Value = serde_json::from_slice(&read(dir.path(), "adapter_config.json")).unwrap();
    let reference: Value = serde_json::from_slice(&read(&golden, "adapter_config.json")).unwrap();
    for (field, value) in config.as_object().unwrap() {
        match field.as_str() {
            "base_model_name_or_path" => assert_eq!(value, "some/base"),
            "target_modules" => {
                let names: Vec<&str> = value.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
                assert!(names.is_sorted() && names.len() == 14, "{names:?}");
            }
            _ => assert_eq!(value, &reference[field], "{field}"),
        }
    }
    let again = tempfile::tempdir().unwrap();
    model.adapter().unwrap().write(again.path(), Some("some/base")).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        assert!(read(dir.path(), name) == read(again.path(), name), "{name} differs between two writes");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else may be left behind");
}

#[test]
fn a_fresh_adapter_changes_nothing_and_depends_on_its_seed() {
    let expected = Expected::of("qwen2-tied");
    let config = fresh(TargetModules::AllLinear);
    let written = |seed: u64| {
        let model = with_adapter(AdapterSource::New { config: &config, seed }).unwrap();
        let scores = model.logits(&expected.prompts()[..1]).unwrap().get(0);
        assert_close("fresh", &scores, expected.tensor("logits0"));
        let dir = tempfile::tempdir().unwrap();
        model.adapter().unwrap().write(dir.path(), None).unwrap();
        std::fs::read(dir.path().join("adapter_model.safetensors")).unwrap()
    };
    assert!(written(1) == written(1) && written(1) != written(2));
}

#[test]
fn a_fresh_adapter_begins_as_pefts_does() {
    let config = fresh(TargetModules::AllLinear);
    let model = with_adapter(AdapterSource::New { config: &config, seed: 5 }).unwrap();
    let adapter = model.adapter().unwrap();
    assert_eq!((adapter.layers().count(), adapter.parameter_count()), (14, 3712));
    let dir = tempfile::tempdir().unwrap();
    adapter.write(dir.path(), None).unwrap();
    for (name, tensor) in Tensor::read_safetensors(dir.path().join("adapter_model.safetensors")).unwrap() {
        let most = tensor.abs().max().double_value(&[]);
        if name.contains("lora_B") {
            assert_eq!(most, 0.0, "{name}");
        } else {
            let bound = 1.0 / (tensor.size()[1] as f64).sqrt();
            assert!(most <= bound && most > 0.9 * bound, "{name}: {most} of {bound}");
        }
    }
}

#[test]
fn targets_choose_layers() {
    let layers = |target: TargetModules| {
        let config = fresh(target);
        let model = with_adapter(AdapterSource::New { config: &config, seed: 5 }).unwrap();
        model.adapter().unwrap().layers().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(layers(list(&["q_proj", "v_proj"])).len(), 4);
    assert_eq!(layers(list(&["model.layers.1.mlp.up_proj"])), ["model.layers.1.mlp.up_proj"]);
    let pattern = TargetModules::Pattern(r".*\.1\.self_attn\.[qk]_proj".to_owned());
    assert_eq!(layers(pattern), ["model.layers.1.self_attn.k_proj", "model.layers.1.self_attn.q_proj"]);
}

#[test]
fn targets_that_match_nothing_are_named() {
    let refused = |target: TargetModules| {
        let config = fresh(target);
        match with_adapter(AdapterSource::New { config: &config, seed: 5 }).map(drop) {
            Err(Error::Adapter { reason, names }) => (reason, names),
            other => panic!("{other:?}"),
        }
    };
    let (reason, names) = refused(list(&["q_proj", "c_attn", "lm_head"]));
    assert_eq!(names, ["c_attn", "lm_head"]);
    assert!(reason.ends_with("there are down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"), "{reason}");
    assert_eq!(refused(TargetModules::Pattern("nothing".to_owned())).1, [""; 0]);
}

#[test]
fn tensors_that_belong_nowhere_are_named() {
    let (_dir, adapter) = changed(|dir| {
        edit_tensors(dir, |tensors| {
            for (name, _) in tensors.iter_mut() {
                *name = name.replace("base_model.model.model.layers.1", "base_model.model.layers.1");
            }
        });
    });
    let Err(Error::Adapter { names, .. }) = with_adapter(AdapterSource::Files(&adapter)).map(drop) else {
        panic!("it was loaded");
    };
    assert_eq!(names.len(), 14);
    assert!(names.iter().all(|name| name.starts_with("base_model.model.model.layers.1.")), "{names:?}");
    let (_dir, adapter) = changed(|dir| {
        edit_tensors(dir, |tensors| {
            tensors.push(("base_model.model.lm_head.lora_A.weight".to_owned(), Tensor::from(1f32)));
        });
    });
    let error = with_adapter(AdapterSource::Files(&adapter)).map(drop).unwrap_err().to_string();
    assert!(error.contains("belong to no layer") && error.contains("lm_head.lora_A.weight"), "{error}");
}

#[test]
fn an_adapter_of_another_shape_is_refused() {
    let (_dir, adapter) = changed(|dir| edit_config(dir, "r", json!(8)));
    let error = with_adapter(AdapterSource::Files(&adapter)).map(drop).unwrap_err().to_string();
    assert!(error.contains("shape [4, 32], not [8, 32]"), "{error}");
}

#[test]
fn what_is_not_computed_is_refused() {
    let cases = [
        ("use_dora", json!(true)),
        ("bias", json!("all")),
        ("peft_type", json!("LOHA")),
        ("rank_pattern", json!({"q_proj": 2})),
        ("modules_to_save", json!(["lm_head"])),
        ("fan_in_fan_out", json!(true)),
        ("layers_to_transform", json!([0])),
    ];
    for (field, value) in cases {
        let (_dir, adapter) = changed(|dir| edit_config(dir, field, value));
        let error = with_adapter(AdapterSource::Files(&adapter)).map(drop).unwrap_err();
        assert!(matches!(&error, Error::Unsupported { what, .. } if what.starts_with(field)), "{field}: {error}");
    }
    let (_dir, adapter) = changed(|dir| edit_config(dir, "lora_dropout", json!(1.5)));
    assert!(matches!(with_adapter(AdapterSource::Files(&adapter)).map(drop), Err(Error::Config { .. })));
}

#[test]
fn the_scale_of_the_file_is_used() {
    let expected = Expected::of("qwen2-tied");
    for (field, value) in [("lora_alpha", json!(12)), ("use_rslora", json!(true))] {
        let (_dir, adapter) = changed(|dir| edit_config(dir, field, value));
        let model = with_adapter(AdapterSource::Files(&adapter)).unwrap();
        let scores = model.logits(&expected.prompts()[..1]).unwrap().get(0);
        assert!(distance(&scores, expected.tensor("adapted0")) > 1e-3, "{field} is not read");
    }
}

#[test]
fn numbers_that_are_not_finite_are_not_written() {
    let (_dir, adapter) = changed(|dir| {
        edit_tensors(dir, |tensors| {
            let _ = tensors[0].1.get(0).fill_(f64::NAN);
        });
    });
    let model = with_adapter(AdapterSource::Files(&adapter)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let error = model.adapter().unwrap().write(dir.path(), None).unwrap_err();
    assert!(matches!(&error, Error::Adapter { names, .. } if names.len() == 1), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn types_and_numerics_must_agree() {
    let adapter = files("qwen2-tied-adapter");
    let options = LoadOptions { dtype: DType::Bf16, adapter: AdapterSource::Files(&adapter), ..LoadOptions::cpu() };
    let error = CausalLm::load(&files("qwen2-tied"), &options).map(drop).unwrap_err();
    assert!(error.to_string().starts_with("numerics fp32 with dtype bfloat16"), "{error}");
    let expected = Expected::of("qwen2-tied");
    for numerics in [Numerics::PeftFp32, Numerics::HfAutocast] {
        let model = CausalLm::load(&files("qwen2-tied"), &LoadOptions { numerics, ..options }).unwrap();
        let scores = model.logits(&expected.prompts()[..1]).unwrap().get(0);
        assert!(distance(&scores, expected.tensor("adapted0")) < 0.05, "{numerics}");
    }
    assert!(causal("qwen2-tied").adapter().is_none());
}
