//! Training against `transformers` + `peft` + `torch.optim`, and the promises of resuming and of accumulation.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{Expected, distance, files, one_thread};
use pipe_models::{
    AdapterSource, CausalLm, DType, Error, Example, LoadOptions, LoraConfig, ModelFiles, Numerics, Schedule,
    StepReport, TrainConfig, Trainer,
};
use tch::Tensor;

/// The rows that `golden/make.py` trains on, drawn again from what it stored.
struct Rows(Vec<(Vec<i64>, Vec<i64>)>);

impl Rows {
    fn golden() -> Self {
        let text = std::fs::read_to_string(common::golden("train-rows.json")).unwrap();
        let rows: Vec<Vec<Vec<i64>>> = serde_json::from_str(&text).unwrap();
        Self(rows.into_iter().map(|mut pair| (pair.remove(0), pair.remove(0))).collect())
    }

    fn examples(&self) -> Vec<Example<'_>> {
        self.0.iter().map(|(input_ids, labels)| Example { input_ids, labels }).collect()
    }

    /// The window of two micro-batches that the reference saw.
    fn window(&self) -> Vec<Vec<Example<'_>>> {
        self.examples().chunks(2).map(<[_]>::to_vec).collect()
    }
}

fn config() -> TrainConfig {
    TrainConfig {
        total_steps: 6,
        learning_rate: 2e-2,
        lr_scheduler: Schedule::Cosine,
        warmup_steps: 1.0,
        weight_decay: 0.1,
        max_grad_norm: 0.5,
        base_dropout: false,
        ..TrainConfig::default()
    }
}

fn golden_trainer(base: &str) -> Trainer {
    one_thread();
    let adapter = files(&format!("{base}-adapter"));
    let options = LoadOptions { adapter: AdapterSource::Files(&adapter), ..LoadOptions::cpu() };
    Trainer::new(CausalLm::load(&files(base), &options).unwrap(), config()).unwrap()
}

fn fresh_trainer(base: &str, dropout: f64, config: TrainConfig) -> Trainer {
    one_thread();
    let lora = LoraConfig { r: 4, lora_alpha: 8.0, lora_dropout: dropout, ..LoraConfig::default() };
    let options = LoadOptions { adapter: AdapterSource::New { config: &lora, seed: 9 }, ..LoadOptions::cpu() };
    Trainer::new(CausalLm::load(&files(base), &options).unwrap(), config).unwrap()
}

/// The bytes of the adapter and of the checkpoint.
fn bytes(trainer: &Trainer) -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    trainer.adapter().write(dir.path(), None).unwrap();
    trainer.write_checkpoint(dir.path()).unwrap();
    let names = ["adapter_model.safetensors", "adapter_config.json", "checkpoint.safetensors", "checkpoint.json"];
    names.iter().map(|name| std::fs::read(dir.path().join(name)).unwrap()).collect()
}

#[test]
fn three_steps_equal_the_references() {
    let rows = Rows::golden();
    for base in ["qwen2-tied", "opt"] {
        let expected = Expected::of(base);
        let mut trainer = golden_trainer(base);
        let (losses, norms, rates) = (expected.numbers("losses"), expected.numbers("norms"), expected.numbers("rates"));
        for step in 0..3 {
            let report = trainer.step(&rows.window()).unwrap();
            assert!((report.loss / losses[step] - 1.0).abs() < 1e-5, "{base}: {report:?} {}", losses[step]);
            assert!((report.grad_norm / norms[step] - 1.0).abs() < 1e-5, "{base}: {report:?} {}", norms[step]);
            assert!((report.learning_rate - rates[step]).abs() < 1e-15, "{base}: {report:?} {}", rates[step]);
            assert_eq!((report.step, report.tokens), (step as u64 + 1, 23));
        }
        let dir = tempfile::tempdir().unwrap();
        trainer.adapter().write(dir.path(), None).unwrap();
        let written = Tensor::read_safetensors(dir.path().join("adapter_model.safetensors")).unwrap();
        assert_eq!(written.len(), expected.names().filter(|name| name.starts_with("after.")).count());
        for (name, found) in written {
            let name = name.replace("base_model.model.", "after.");
            // Adam divides small gradients by their own size, which lifts rounding up; the optimizer itself is compared
            // bit for bit beside its code.
            let off = distance(&found, expected.tensor(&name));
            assert!(off < 1e-4, "{base} {name}: off by {off:.1e}");
        }
    }
}

#[test]
fn sixteen_bit_bases_train_as_the_references() {
    one_thread();
    let (rows, expected) = (Rows::golden(), Expected::of("qwen2-tied"));
    let exact = (expected.numbers("losses")[0], expected.numbers("norms")[0]);
    let adapter = files("qwen2-tied-adapter");
    for (name, numerics) in [("peft_fp32", Numerics::PeftFp32), ("hf_autocast", Numerics::HfAutocast)] {
        let options =
            LoadOptions { dtype: DType::Bf16, adapter: AdapterSource::Files(&adapter), numerics, ..LoadOptions::cpu() };
        let model = CausalLm::load(&files("qwen2-tied"), &options).unwrap();
        let report = Trainer::new(model, config()).unwrap().step(&rows.window()).unwrap();
        let reference = expected.numbers(name);
        // Rounding differs from kernel to kernel; being no further from the truth than the reference is what counts,
        // with a floor for where it happens to be close.
        let near = |found: f64, reference: f64, exact: f64| {
            (found - exact).abs() <= (1.5 * (reference - exact).abs()).max(4e-3 * exact)
        };
        assert!(near(report.loss, reference[0], exact.0), "{name}: {report:?} {reference:?} {exact:?}");
        assert!(near(report.grad_norm, reference[1], exact.1), "{name}: {report:?} {reference:?} {exact:?}");
        assert!(report.loss != exact.0);
    }
}

#[test]
fn a_training_in_two_parts_gives_the_bytes_of_one_in_one() {
    let rows = Rows::golden();
    let config = TrainConfig { base_dropout: true, seed: 4, ..config() };
    for base in ["opt", "qwen2-tied"] {
        let mut whole = fresh_trainer(base, 0.2, config.clone());
        let reports: Vec<StepReport> = (0..6).map(|_| whole.step(&rows.window()).unwrap()).collect();
        for stop in [0, 2, 5] {
            let mut first = fresh_trainer(base, 0.2, config.clone());
            for _ in 0..stop {
                first.step(&rows.window()).unwrap();
            }
            let dir = tempfile::tempdir().unwrap();
            first.write_checkpoint(dir.path()).unwrap();
            drop(first);
            let mut second = fresh_trainer(base, 0.2, config.clone());
            second.restore(&ModelFiles::from_dir(dir.path()).unwrap()).unwrap();
            assert_eq!(second.steps_done(), stop);
            for report in &reports[stop as usize..] {
                assert_eq!(&second.step(&rows.window()).unwrap(), report, "{base} after {stop}");
            }
            assert!(bytes(&second) == bytes(&whole), "{base}: bytes differ after {stop}");
        }
    }
}

#[test]
fn dropout_is_drawn_anew_for_each_step_and_micro_batch_and_from_the_seed() {
    let rows = Rows::golden();
    // At rate 0 nothing but dropout tells two steps apart.
    let still = |seed: u64| TrainConfig { learning_rate: 0.0, base_dropout: true, seed, ..config() };
    let mut trainer = fresh_trainer("opt", 0.0, still(1));
    let losses: Vec<f64> = (0..3).map(|_| trainer.step(&rows.window()).unwrap().loss).collect();
    assert!(losses[0] != losses[1] && losses[1] != losses[2]);
    assert!(fresh_trainer("opt", 0.0, still(2)).step(&rows.window()).unwrap().loss != losses[0]);
    let same = rows.examples()[0];
    let window = [vec![same], vec![same]];
    let twice = fresh_trainer("opt", 0.0, still(1)).step(&window).unwrap().loss;
    let once = fresh_trainer("opt", 0.0, still(1)).step(&window[..1]).unwrap().loss;
    assert!(twice != once, "the second micro-batch must drop other elements");
    let off = TrainConfig { base_dropout: false, ..still(1) };
    let mut trainer = fresh_trainer("opt", 0.0, off);
    let losses: Vec<f64> = (0..2).map(|_| trainer.step(&rows.window()).unwrap().loss).collect();
    assert_eq!(losses[0], losses[1]);
}

#[test]
fn however_a_window_is_cut_the_step_is_the_same() {
    let rows = Rows::golden();
    let examples = rows.examples();
    let cuts: [&[usize]; 5] = [&[4], &[2, 2], &[1, 1, 1, 1], &[3, 1], &[1, 3]];
    let results: Vec<(StepReport, BTreeMap<String, Tensor>)> = cuts
        .iter()
        .map(|cut| {
            let mut rest = examples.as_slice();
            let window: Vec<Vec<Example<'_>>> = cut
                .iter()
                .map(|&count| {
                    let (taken, left) = rest.split_at(count);
                    rest = left;
                    taken.to_vec()
                })
                .collect();
            let mut trainer = golden_trainer("qwen2-tied");
            let report = (0..2).map(|_| trainer.step(&window).unwrap()).next_back().unwrap();
            let dir = tempfile::tempdir().unwrap();
            trainer.adapter().write(dir.path(), None).unwrap();
            let tensors = Tensor::read_safetensors(dir.path().join("adapter_model.safetensors")).unwrap();
            (report, tensors.into_iter().collect())
        })
        .collect();
    let (report, tensors) = &results[0];
    for ((other, others), cut) in results.iter().zip(cuts).skip(1) {
        assert_eq!(report.tokens, other.tokens);
        assert!((report.loss / other.loss - 1.0).abs() < 1e-6, "{cut:?}");
        assert!((report.grad_norm / other.grad_norm - 1.0).abs() < 1e-5, "{cut:?}");
        for (name, tensor) in tensors {
            assert!(distance(&others[name], tensor) < 1e-4, "{cut:?} {name}");
        }
    }
}

#[test]
fn evaluation_is_the_loss_of_training_without_its_effects() {
    let rows = Rows::golden();
    let mut trainer = golden_trainer("qwen2-tied");
    let before = trainer.evaluate(&rows.window()).unwrap();
    assert_eq!(trainer.evaluate(&rows.window()).unwrap(), before);
    let report = trainer.step(&rows.window()).unwrap();
    assert!((before.loss / report.loss - 1.0).abs() < 1e-6 && before.tokens == report.tokens);
    trainer.step(&rows.window()).unwrap();
    assert!(trainer.evaluate(&rows.window()).unwrap().loss < before.loss, "two steps must have helped");
}

#[test]
fn a_checkpoint_of_another_training_is_refused() {
    let rows = Rows::golden();
    let mut trainer = fresh_trainer("qwen2-tied", 0.0, config());
    trainer.step(&rows.window()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    trainer.write_checkpoint(dir.path()).unwrap();
    let files = ModelFiles::from_dir(dir.path()).unwrap();
    let before = bytes(&trainer);
    for other in [
        TrainConfig { seed: 1, ..config() },
        TrainConfig { total_steps: 7, ..config() },
        TrainConfig { learning_rate: 1e-3, ..config() },
    ] {
        let mut other = fresh_trainer("qwen2-tied", 0.0, other);
        assert!(matches!(other.restore(&files), Err(Error::Checkpoint(_))));
        assert_eq!(other.steps_done(), 0);
    }
    assert!(matches!(fresh_trainer("qwen2-tied", 0.5, config()).restore(&files), Err(Error::Checkpoint(_))));
    assert!(matches!(fresh_trainer("opt", 0.0, config()).restore(&files), Err(Error::Checkpoint(_))));
    std::fs::write(dir.path().join("checkpoint.safetensors"), b"short").unwrap();
    let files = ModelFiles::from_dir(dir.path()).unwrap();
    assert!(matches!(trainer.restore(&files), Err(Error::Damaged { .. })));
    assert!(bytes(&trainer) == before, "a refused checkpoint must change nothing");
}

#[test]
fn losses_that_are_not_finite_stop_the_training() {
    one_thread();
    let rows = Rows::golden();
    let dir = common::copy("qwen2-tied-adapter");
    let path = dir.path().join("adapter_model.safetensors");
    let tensors = Tensor::read_safetensors(&path).unwrap();
    let _ = tensors[0].1.get(0).fill_(f64::INFINITY);
    Tensor::write_safetensors(&tensors, &path).unwrap();
    let adapter = ModelFiles::from_dir(dir.path()).unwrap();
    let options = LoadOptions { adapter: AdapterSource::Files(&adapter), ..LoadOptions::cpu() };
    let mut trainer = Trainer::new(CausalLm::load(&files("qwen2-tied"), &options).unwrap(), config()).unwrap();
    let error = trainer.step(&rows.window()).unwrap_err();
    assert!(matches!(error, Error::Training { step: 1, .. }), "{error}");
    assert_eq!(trainer.steps_done(), 0);
}

#[test]
fn a_layer_that_learns_nothing_is_named() {
    // With one position to look at, attention has nothing to choose: q and k cannot learn.
    let mut trainer = fresh_trainer("qwen2-tied", 0.0, config());
    let (ids, labels) = (vec![5, 6], vec![-100, 6]);
    let error = trainer.step(&[vec![Example { input_ids: &ids, labels: &labels }]]).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("step 1: no gradient reaches ") && text.contains("q_proj.lora_B.weight"), "{text}");
}

#[test]
fn bad_examples_are_errors() {
    let mut trainer = fresh_trainer("qwen2-tied", 0.0, config());
    let good = [5i64, 6, 7];
    let long = [5i64; 66];
    let cases: [(&[i64], &[i64], &str); 6] = [
        (&good, &[-100, -100, -100], "example 0 of a batch: no token is to be learned"),
        (&good, &[5, -100, -100], "no token is to be learned: every label after the first"),
        (&good, &[5, 6], "3 tokens and 2 labels"),
        (&[5], &[5], "1 tokens and 1 labels"),
        (&[5, 6, 96], &[5, 6, -100], "token id 96 is not in the vocabulary"),
        (&long, &long, "66 tokens, and the model has 64 positions"),
    ];
    for (input_ids, labels, message) in cases {
        let error = trainer.step(&[vec![Example { input_ids, labels }]]).unwrap_err();
        assert!(matches!(error, Error::Input(_)) && error.to_string().contains(message), "{error}");
    }
    assert!(trainer.step(&[]).is_err() && trainer.step(&[vec![]]).is_err());
    assert!(trainer.step(&[vec![Example { input_ids: &good, labels: &[5, 6, -7] }]]).is_err());
    assert!(trainer.evaluate(&[]).is_err());
    assert_eq!(trainer.steps_done(), 0);
}

#[test]
fn a_training_ends_after_its_steps() {
    let rows = Rows::golden();
    let mut trainer = fresh_trainer("qwen2-tied", 0.0, TrainConfig { total_steps: 1, ..config() });
    trainer.step(&rows.window()).unwrap();
    assert_eq!(trainer.step(&rows.window()).unwrap_err().to_string(), "all 1 steps are done");
}

#[test]
fn a_trained_model_continues_prompts_with_its_adapter() {
    let rows = Rows::golden();
    let long = TrainConfig { total_steps: 60, max_grad_norm: 0.0, ..config() };
    let mut trainer = fresh_trainer("qwen2-tied", 0.0, long);
    for _ in 0..60 {
        trainer.step(&rows.window()).unwrap();
    }
    // So few rows are learned by heart.
    let (ids, labels) = &rows.0[0];
    let start = labels.iter().position(|&label| label != -100).unwrap();
    let options = pipe_models::GenerateOptions {
        max_new_tokens: ids.len() - start,
        stop: Some(vec![]),
        ..pipe_models::GenerateOptions::default()
    };
    let said = trainer.model().generate(&[ids[..start].to_vec()], &options).unwrap();
    assert_eq!(said[0].ids, ids[start..]);
}

#[test]
fn rates_equal_the_references() {
    let text = std::fs::read_to_string(common::golden("schedules.json")).unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let config = TrainConfig {
            total_steps: case["total"].as_u64().unwrap(),
            learning_rate: case["base"].as_f64().unwrap(),
            lr_scheduler: serde_json::from_value(case["schedule"].clone()).unwrap(),
            warmup_steps: case["warmup"].as_f64().unwrap(),
            ..TrainConfig::default()
        };
        for (done, rate) in case["rates"].as_array().unwrap().iter().enumerate() {
            let found = config.learning_rate_after(done as u64);
            assert!((found - rate.as_f64().unwrap()).abs() < 1e-15, "{case}: step {done} has {found}");
        }
    }
}

#[test]
fn configurations_are_checked() {
    let good = config();
    good.check().unwrap();
    for bad in [
        TrainConfig { total_steps: 0, ..good.clone() },
        TrainConfig { learning_rate: f64::NAN, ..good.clone() },
        TrainConfig { adam_beta2: 1.0, ..good.clone() },
        TrainConfig { max_grad_norm: -1.0, ..good },
    ] {
        assert!(matches!(bad.check(), Err(Error::Input(_))), "{bad:?}");
    }
    assert!(serde_json::from_str::<TrainConfig>(r#"{"learning_rte": 1}"#).is_err());
    let model = common::causal("opt");
    assert!(Trainer::new(model, config()).is_err(), "without an adapter there is nothing to train");
}
