//! Weight files: what is read, and what is refused.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{Expected, assert_close, causal, copy, golden, load_error, one_thread};
use pipe_models::{CausalLm, Error, FileRef, LoadOptions, ModelFiles, Weights};
use tch::Tensor;

/// A copy of a golden model whose tensors are changed.
fn rewritten(name: &str, change: impl FnOnce(&mut Vec<(String, Tensor)>)) -> (tempfile::TempDir, ModelFiles) {
    let dir = copy(name);
    let path = dir.path().join("model.safetensors");
    let mut tensors = Tensor::read_safetensors(&path).unwrap();
    change(&mut tensors);
    Tensor::write_safetensors(&tensors, &path).unwrap();
    let files = ModelFiles::from_dir(dir.path()).unwrap();
    (dir, files)
}

#[test]
fn missing_unexpected_and_misshapen_tensors_are_all_named() {
    let (_dir, files) = rewritten("opt", |tensors| {
        tensors.retain(|(name, _)| !name.ends_with("fc1.bias"));
        for (name, tensor) in tensors.iter_mut() {
            if name.ends_with("layers.0.fc2.weight") {
                *tensor = tensor.transpose(0, 1).contiguous();
            }
        }
        tensors.push(("model.decoder.extra".to_owned(), Tensor::from_slice(&[1f32])));
        tensors.push(("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), Tensor::from_slice(&[1f32])));
    });
    let Error::Weights { missing, unexpected, wrong } = load_error(&files) else { panic!("another error") };
    assert_eq!(missing, ["model.decoder.layers.0.fc1.bias", "model.decoder.layers.1.fc1.bias"]);
    assert_eq!(unexpected, ["model.decoder.extra"]);
    assert_eq!(wrong, ["model.decoder.layers.0.fc2.weight: shape [64, 32], not [32, 64]"]);
}

#[test]
fn a_file_cut_short_anywhere_is_an_error() {
    let dir = copy("opt");
    let path = dir.path().join("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 7, 8, 100, 5000, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = load_error(&ModelFiles::from_dir(dir.path()).unwrap());
        assert!(matches!(&error, Error::Damaged { file, .. } if file == "model.safetensors"), "{length}: {error}");
    }
    let mut longer = whole;
    longer.push(0);
    std::fs::write(&path, &longer).unwrap();
    assert!(matches!(load_error(&ModelFiles::from_dir(dir.path()).unwrap()), Error::Damaged { .. }));
}

#[test]
fn a_file_that_shrank_after_it_was_listed_is_an_error() {
    let dir = copy("opt");
    let files = ModelFiles::from_dir(dir.path()).unwrap();
    std::fs::File::options().write(true).open(dir.path().join("model.safetensors")).unwrap().set_len(999).unwrap();
    assert!(matches!(load_error(&files), Error::Damaged { .. }));
}

#[test]
fn headers_of_nonsense_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let header = |json: &str| [&(json.len() as u64).to_le_bytes(), json.as_bytes()].concat();
    let cases = [
        header("not json"),
        header(r#"{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}"#),
        header(r#"{"a": {"dtype": "F32", "shape": [4611686018427387904], "data_offsets": [0, 0]}}"#),
        header(r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}"#),
        [u64::MAX.to_le_bytes().to_vec(), vec![b'{'; 16]].concat(),
    ];
    for case in cases {
        std::fs::write(&path, &case).unwrap();
        let files = ModelFiles::from_dir(dir.path()).unwrap();
        let result = Weights::open(&files, "model").map(drop);
        assert!(matches!(result, Err(Error::Damaged { .. })), "{}", String::from_utf8_lossy(&case));
    }
}

#[test]
fn shards_and_their_index_must_agree() {
    let index = |change: &dyn Fn(String) -> String| {
        let dir = copy("qwen2-untied");
        let path = dir.path().join("model.safetensors.index.json");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(text)).unwrap();
        load_error(&ModelFiles::from_dir(dir.path()).unwrap())
    };
    let error = index(&|text| text.replacen("\"model.norm.weight\"", "\"model.other\"", 1));
    assert!(matches!(&error, Error::Damaged { file, .. } if file == "model.safetensors.index.json"), "{error}");
    let error = index(&|text| text.replace("00003-of-00003", "00004-of-00003"));
    assert!(matches!(&error, Error::MissingFile { .. }), "{error}");
    let error = index(&|text| text.replace("model-0", "../model-0"));
    assert!(matches!(&error, Error::MissingFile { .. }), "{error}");
    let error = index(&|_| "[]".to_owned());
    assert!(matches!(&error, Error::Config { .. }), "{error}");
}

/// One file that holds the whole model at an odd offset, so that nothing is aligned.
#[test]
fn a_model_inside_a_pack_reads_as_a_model() {
    one_thread();
    let dir = tempfile::tempdir().unwrap();
    let pack = dir.path().join("pack");
    let mut bytes = vec![7u8; 4099];
    let mut files = vec![];
    for name in ["config.json", "model.safetensors", "generation_config.json"] {
        let file = std::fs::read(golden("opt").join(name)).unwrap();
        let at = FileRef { path: pack.clone(), offset: bytes.len() as u64, len: file.len() as u64 };
        files.push((name.to_owned(), at));
        bytes.extend(file);
    }
    std::fs::write(&pack, bytes).unwrap();
    let model = CausalLm::load(&files.into_iter().collect(), &LoadOptions::cpu()).unwrap();
    let expected = Expected::of("opt");
    let scores = model.logits(&expected.prompts()[..1]).unwrap().get(0);
    assert_close("packed", &scores, expected.tensor("logits0"));
}

#[test]
fn a_model_outlives_the_names_of_its_files() {
    one_thread();
    let dir = copy("opt");
    let model = CausalLm::load(&ModelFiles::from_dir(dir.path()).unwrap(), &LoadOptions::cpu()).unwrap();
    drop(dir);
    let expected = Expected::of("opt");
    let scores = model.logits(&expected.prompts()[..1]).unwrap().get(0);
    assert_close("unlinked", &scores, expected.tensor("logits0"));
}

#[test]
fn a_tied_head_may_be_repeated_and_may_differ() {
    one_thread();
    let expected = Expected::of("qwen2-tied");
    let with_head = |scale: f64| {
        let (_dir, files) = rewritten("qwen2-tied", |tensors| {
            let table = tensors.iter().find(|(name, _)| name == "model.embed_tokens.weight").unwrap();
            let head = &table.1 * scale;
            tensors.push(("lm_head.weight".to_owned(), head));
        });
        let model = CausalLm::load(&files, &LoadOptions::cpu()).unwrap();
        model.logits(&expected.prompts()[..1]).unwrap().get(0)
    };
    assert_close("repeated head", &with_head(1.0), expected.tensor("logits0"));
    assert_close("own head", &with_head(2.0), &(expected.tensor("logits0") * 2.0));
}

#[test]
fn an_untied_head_must_be_there() {
    let dir = copy("qwen2-tied");
    let path = dir.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false")).unwrap();
    let error = load_error(&ModelFiles::from_dir(dir.path()).unwrap());
    assert!(matches!(&error, Error::Weights { missing, .. } if missing == &["lm_head.weight"]), "{error}");
    drop(causal("qwen2-tied"));
}

#[test]
fn a_directory_that_is_none_is_an_error() {
    let error = ModelFiles::from_dir(Path::new("/nonexistent/model")).unwrap_err();
    assert!(matches!(&error, Error::Io { .. }) && error.to_string().starts_with("/nonexistent/model: "), "{error}");
    let error = load_error(&ModelFiles::from_dir(golden("tokenizer")).unwrap());
    assert!(matches!(&error, Error::MissingFile { name, .. } if name == "config.json"), "{error}");
}
