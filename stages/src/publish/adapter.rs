//! What a PEFT adapter must be before it is published: whole, finite, and not inert.

use std::collections::{BTreeMap, BTreeSet};

use pipe_engine::problem::Failure;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value};

/// The prefix that peft puts before the path of a module.
const PREFIX: &str = "base_model.model.";

/// A checked adapter.
pub(super) struct Adapter {
    config: Map<String, Value>,
    /// Adapted modules.
    pub modules: usize,
    /// Numbers in the adapter.
    pub parameters: usize,
}

impl Adapter {
    /// Reads and checks an adapter.
    pub fn check(config: &[u8], weights: &[u8]) -> Result<Self, Failure> {
        let config: Map<String, Value> =
            serde_json::from_slice(config).map_err(|error| wrong(format!("adapter_config.json: {error}")))?;
        let tensors =
            SafeTensors::deserialize(weights).map_err(|error| wrong(format!("adapter_model.safetensors: {error}")))?;
        let tensors: BTreeMap<&str, TensorView<'_>> = tensors.iter().collect();
        let mut modules = BTreeSet::new();
        for (name, tensor) in &tensors {
            check_finite(name, tensor)?;
            modules.extend(module(name)?);
        }
        if modules.is_empty() {
            return Err(wrong("it adapts no module".to_owned()));
        }
        let rank = config.get("r").and_then(Value::as_u64).filter(|_| !has_patterns(&config));
        for module in &modules {
            check_pair(module, &tensors, rank)?;
        }
        let parameters = tensors.values().map(|tensor| tensor.shape().iter().product::<usize>()).sum();
        Ok(Self { modules: modules.len(), parameters, config })
    }

    /// `adapter_config.json`, naming this base model.
    pub fn config_for(&self, base_model: Option<&str>) -> String {
        let mut config = self.config.clone();
        if let Some(name) = base_model {
            config.insert("base_model_name_or_path".to_owned(), Value::from(name));
        }
        let mut text = serde_json::to_string_pretty(&config).expect("what was read as JSON can be written");
        text.push('\n');
        text
    }
}

fn wrong(message: String) -> Failure {
    Failure::input(format!("the adapter cannot be published: {message}"))
}

fn has_patterns(config: &Map<String, Value>) -> bool {
    config.get("rank_pattern").and_then(Value::as_object).is_some_and(|patterns| !patterns.is_empty())
}

/// The module whose low-rank pair a tensor belongs to; `None` for what accompanies pairs.
fn module(name: &str) -> Result<Option<&str>, Failure> {
    let path = name
        .strip_prefix(PREFIX)
        .ok_or_else(|| wrong(format!("tensor `{name}` does not begin with `{PREFIX}`, so peft would not load it")))?;
    if path.ends_with(".lora_magnitude_vector") {
        return Ok(None);
    }
    let module = path.strip_suffix(".lora_A.weight").or_else(|| path.strip_suffix(".lora_B.weight"));
    module.map(Some).ok_or_else(|| wrong(format!("tensor `{name}` is no part of a LoRA adapter")))
}

fn check_pair(module: &str, tensors: &BTreeMap<&str, TensorView<'_>>, rank: Option<u64>) -> Result<(), Failure> {
    let half = |which: &str| {
        let name = format!("{PREFIX}{module}.lora_{which}.weight");
        tensors.get(name.as_str()).ok_or_else(|| wrong(format!("module `{module}` has no lora_{which}")))
    };
    let (a, b) = (half("A")?, half("B")?);
    let ([r, _], [_, other]) = (a.shape(), b.shape()) else {
        return Err(wrong(format!(
            "module `{module}`: lora_A is {:?}, lora_B {:?}; both must have two sides",
            a.shape(),
            b.shape()
        )));
    };
    if r != other || rank.is_some_and(|rank| rank != *r as u64) {
        let named = rank.map_or_else(String::new, |rank| format!("; adapter_config.json says {rank}"));
        return Err(wrong(format!("module `{module}`: lora_A has rank {r}, lora_B {other}{named}")));
    }
    if b.data().iter().all(|byte| *byte == 0) {
        return Err(wrong(format!("module `{module}` is inert: its lora_B is zero, as before training")));
    }
    Ok(())
}

fn check_finite(name: &str, tensor: &TensorView<'_>) -> Result<(), Failure> {
    let halves = |exponent: u16| {
        tensor.data().as_chunks::<2>().0.iter().all(|bytes| u16::from_le_bytes(*bytes) & exponent != exponent)
    };
    let finite = match tensor.dtype() {
        Dtype::F32 => tensor.data().as_chunks::<4>().0.iter().all(|bytes| f32::from_le_bytes(*bytes).is_finite()),
        Dtype::F16 => halves(0x7c00),
        Dtype::BF16 => halves(0x7f80),
        other => return Err(wrong(format!("tensor `{name}` is of type {other:?}"))),
    };
    if finite { Ok(()) } else { Err(wrong(format!("tensor `{name}` holds values that are not finite"))) }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// The bytes of an adapter with these tensors of 32-bit floats.
    pub(crate) fn weights(tensors: &[(&str, [usize; 2], Vec<f32>)]) -> Vec<u8> {
        let bytes: Vec<Vec<u8>> =
            tensors.iter().map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
        let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
            ((*name).to_owned(), TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap())
        });
        safetensors::serialize(views, None).unwrap()
    }

    pub(crate) const A: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    pub(crate) const B: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";

    type Tensors = Vec<(&'static str, [usize; 2], Vec<f32>)>;

    fn check(tensors: &[(&str, [usize; 2], Vec<f32>)]) -> Result<Adapter, String> {
        let config = json!({ "peft_type": "LORA", "r": 2, "base_model_name_or_path": "here" }).to_string();
        Adapter::check(config.as_bytes(), &weights(tensors)).map_err(|failure| failure.message)
    }

    fn good() -> Tensors {
        vec![(A, [2, 3], vec![0.5; 6]), (B, [4, 2], vec![0.25; 8])]
    }

    #[test]
    fn a_good_adapter_is_counted_and_renamed() {
        let adapter = check(&good()).unwrap();
        assert_eq!((adapter.modules, adapter.parameters), (1, 14));
        let named: Value = serde_json::from_str(&adapter.config_for(Some("org/base"))).unwrap();
        assert_eq!(named, json!({ "peft_type": "LORA", "r": 2, "base_model_name_or_path": "org/base" }));
        assert!(adapter.config_for(None).contains("\"here\""));
    }

    #[test]
    fn a_bad_adapter_is_refused() {
        let message = |change: &dyn Fn(&mut Tensors)| {
            let mut tensors = good();
            change(&mut tensors);
            check(&tensors).err().unwrap()
        };
        assert!(message(&|t| t[0].2[1] = f32::NAN).ends_with("holds values that are not finite"));
        assert!(message(&|t| t[1].2 = vec![0.0; 8]).contains("is inert"));
        assert!(message(&|t| drop(t.pop())).ends_with("has no lora_B"));
        assert!(
            message(&|t| t[0] = (A, [3, 2], vec![1.0; 6]))
                .ends_with("lora_A has rank 3, lora_B 2; adapter_config.json says 2")
        );
        assert!(message(&|t| t[0].0 = "model.q_proj.lora_A.weight").contains("so peft would not load it"));
        assert!(message(&|t| t[0].0 = "base_model.model.embed.weight").ends_with("is no part of a LoRA adapter"));
        assert!(message(&|t| t.clear()).ends_with("it adapts no module"));
        assert!(Adapter::check(b"{}", b"not tensors").is_err());
        assert!(Adapter::check(b"[", &weights(&good())).is_err());
    }
}
