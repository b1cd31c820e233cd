//! BLIP-2 against the reference: pixels, scores, captions, and both generations of checkpoints.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Expected, assert_close, changed, copy, distance, files, one_thread};
use pipe_models::{Captioner, DType, Error, GenerateOptions, Generated, LoadOptions, ModelFiles, RgbImage};
use serde_json::json;
use tch::{Kind, Tensor};

struct Images(Vec<(u32, u32, Vec<u8>)>);

impl Images {
    fn of(expected: &Expected) -> Self {
        let read = |i: usize| {
            let tensor = expected.tensor(&format!("image{i}"));
            let (height, width, _) = tensor.size3().unwrap();
            let bytes: Vec<u8> = Vec::try_from(tensor.flatten(0, -1)).unwrap();
            (width as u32, height as u32, bytes)
        };
        Self((0..3).map(read).collect())
    }

    fn views(&self) -> Vec<RgbImage<'_>> {
        self.0.iter().map(|(width, height, data)| RgbImage { width: *width, height: *height, data }).collect()
    }
}

fn captioner(files: &ModelFiles) -> Captioner {
    one_thread();
    Captioner::load(files, &LoadOptions::cpu()).unwrap()
}

/// The captions of the reference: cut before the stop token, as ours are.
fn captions(expected: &Expected, name: &str, stop: i64) -> Vec<Generated> {
    let cut = |row: &Vec<i64>| match row.iter().position(|&id| id == stop) {
        Some(end) => Generated { ids: row[..end].to_vec(), stopped: true },
        None => Generated { ids: row.clone(), stopped: false },
    };
    expected.table(name).iter().map(cut).collect()
}

fn options() -> GenerateOptions {
    GenerateOptions { max_new_tokens: 10, ..GenerateOptions::default() }
}

/// Files as an older checkpoint has them: no image token, and little but what differs from the defaults.
fn older() -> (tempfile::TempDir, ModelFiles) {
    let dir = copy("blip2");
    std::fs::rename(dir.path().join("older-config.json"), dir.path().join("config.json")).unwrap();
    let files = ModelFiles::from_dir(dir.path()).unwrap();
    (dir, files)
}

#[test]
fn pixels_equal_the_processors() {
    let expected = Expected::of("blip2");
    let images = Images::of(&expected);
    let pixels = captioner(&files("blip2")).pixels(&images.views()).unwrap();
    assert!((&pixels - expected.tensor("pixels")).abs().max().double_value(&[]) < 1e-6);
}

#[test]
fn scores_equal_the_references() {
    let expected = Expected::of("blip2");
    let prompt = expected.ids("prompt");
    let model = captioner(&files("blip2"));
    let scores = model.logits(expected.tensor("pixels"), &prompt).unwrap();
    assert_close("blip2", &scores, expected.tensor("logits"));
    let (_dir, files) = older();
    let scores = captioner(&files).logits(expected.tensor("pixels"), &prompt).unwrap();
    assert_close("older blip2", &scores, expected.tensor("older_logits"));
}

#[test]
fn captions_equal_the_references() {
    let expected = Expected::of("blip2");
    let images = Images::of(&expected);
    let prompt = expected.ids("prompt");
    let model = captioner(&files("blip2"));
    assert_eq!(model.special_tokens().eos, [90]);
    let found = model.caption(&images.views(), &prompt, &options()).unwrap();
    assert_eq!(found, captions(&expected, "captions", 90));
    assert!(found.iter().any(|row| row.stopped), "the stop token must be met");
    assert_eq!(model.caption(&images.views(), &[], &options()).unwrap(), captions(&expected, "bare", 90));
    let (_dir, files) = older();
    let found = captioner(&files).caption(&images.views(), &prompt, &options()).unwrap();
    assert_eq!(found, captions(&expected, "older_captions", 90));
}

#[test]
fn a_batch_says_what_its_images_say_alone() {
    let expected = Expected::of("blip2");
    let images = Images::of(&expected);
    let model = captioner(&files("blip2"));
    let batch = model.caption(&images.views(), &[], &options()).unwrap();
    for (image, row) in images.views().iter().zip(&batch) {
        assert_eq!(&model.caption(&[*image], &[], &options()).unwrap()[0], row);
    }
    assert_eq!(model.caption(&[], &[], &options()).unwrap(), []);
}

/// Every field below decides scores without deciding a shape.
#[test]
fn each_field_of_the_configuration_is_read() {
    let expected = Expected::of("blip2");
    let cases = [
        ("vision_config", "num_attention_heads", json!(3)),
        ("vision_config", "layer_norm_eps", json!(0.5)),
        ("vision_config", "hidden_act", json!("relu")),
        ("qformer_config", "num_attention_heads", json!(2)),
        ("qformer_config", "layer_norm_eps", json!(0.5)),
        ("qformer_config", "hidden_act", json!("relu")),
        ("text_config", "num_attention_heads", json!(8)),
    ];
    for (section, field, value) in cases {
        let (_dir, files) = changed("blip2", |config| config[section][field] = value);
        let scores = captioner(&files).logits(expected.tensor("pixels"), &expected.ids("prompt")).unwrap();
        let off = distance(&scores, expected.tensor("logits"));
        assert!(off > 1e-3, "{section}.{field} changed the scores by {off:.1e} only");
    }
}

#[test]
fn sixteen_bits_stay_near_thirty_two() {
    let expected = Expected::of("blip2");
    one_thread();
    for dtype in [DType::F16, DType::Bf16] {
        let options = LoadOptions { dtype, ..LoadOptions::cpu() };
        let model = Captioner::load(&files("blip2"), &options).unwrap();
        let scores = model.logits(expected.tensor("pixels"), &expected.ids("prompt")).unwrap();
        let off = distance(&scores, expected.tensor("logits"));
        assert!(off > 1e-6 && off < 0.05, "{dtype}: off by {off:.1e}");
    }
}

#[test]
fn what_cannot_be_done_is_refused() {
    let cases = [
        (json!("vision_config"), json!({"image_size": 42, "patch_size": 14}), "the weights do not fit"),
        (json!("qformer_config"), json!({"use_qformer_text_input": true}), "use_qformer_text_input = true is not"),
        (json!("qformer_config"), json!({"cross_attention_frequency": 0}), "cross_attention_frequency is 0"),
        (json!("text_config"), json!({"model_type": "t5"}), "model_type = \"t5\" is not supported"),
        (json!("vision_config"), json!(null), "it has no `vision_config`"),
    ];
    for (section, fields, message) in cases {
        let section = section.as_str().unwrap();
        let (_dir, files) = changed("blip2", |config| match fields.as_object() {
            Some(fields) => config[section].as_object_mut().unwrap().extend(fields.clone()),
            None => config[section] = fields,
        });
        let error = Captioner::load(&files, &LoadOptions::cpu()).map(drop).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
    let error = Captioner::load(&files("opt"), &LoadOptions::cpu()).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "`config.json`: model_type = \"opt\" is not supported; supported: blip-2");
}

#[test]
fn a_processor_of_another_size_is_refused() {
    let dir = copy("blip2");
    let path = dir.path().join("preprocessor_config.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("28", "42");
    std::fs::write(&path, text).unwrap();
    let files = ModelFiles::from_dir(dir.path()).unwrap();
    let error = Captioner::load(&files, &LoadOptions::cpu()).map(drop).unwrap_err();
    assert!(error.to_string().contains("gives 42 by 42 pixels, the model takes 28 by 28"), "{error}");
}

#[test]
fn the_processor_is_found_in_the_newer_place_too() {
    let dir = copy("blip2");
    let path = dir.path().join("preprocessor_config.json");
    let inner: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    std::fs::remove_file(path).unwrap();
    let outer = json!({"image_processor": inner, "processor_class": "Blip2Processor"});
    std::fs::write(dir.path().join("processor_config.json"), outer.to_string()).unwrap();
    let expected = Expected::of("blip2");
    let images = Images::of(&expected);
    let model = captioner(&ModelFiles::from_dir(dir.path()).unwrap());
    let pixels = model.pixels(&images.views()).unwrap();
    assert_eq!(distance(&pixels, &model.pixels(&images.views()).unwrap()), 0.0);
    assert!(distance(&pixels, expected.tensor("pixels")) < 1e-6);
}

#[test]
fn images_that_are_none_are_errors() {
    let model = captioner(&files("blip2"));
    let data = [0u8; 12];
    for (width, height) in [(3, 2), (0, 0), (4, 0)] {
        let image = RgbImage { width, height, data: &data };
        assert!(matches!(model.caption(&[image], &[], &options()), Err(Error::Input(_))), "{width} by {height}");
    }
    let square = [7u8; 28 * 28 * 3];
    let image = RgbImage { width: 28, height: 28, data: &square };
    assert!(matches!(model.caption(&[image], &[96], &options()), Err(Error::Input(_))));
    let pixels = model.pixels(&[image]).unwrap();
    assert_eq!((pixels.size(), pixels.kind()), (vec![1, 3, 28, 28], Kind::Float));
    assert!(bool::try_from(Tensor::isfinite(&pixels).all()).unwrap());
}
