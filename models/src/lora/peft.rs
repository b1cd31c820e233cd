//! Adapters as `peft` stores them: `adapter_config.json` beside `adapter_model.safetensors`.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tch::Kind;

use super::{Adapter, LoraConfig, TargetModules};
use crate::error::{Error, Result};
use crate::files::{ModelFiles, write_whole};
use crate::weights::{self, Weights};

const CONFIG: &str = "adapter_config.json";
const STEM: &str = "adapter_model";
/// The version of `peft` whose fields `adapter_config.json` has.
const PEFT_VERSION: &str = "0.21.2";

pub(super) fn a_name(path: &str) -> String {
    format!("{path}.lora_A.weight")
}

pub(super) fn b_name(path: &str) -> String {
    format!("{path}.lora_B.weight")
}

/// The name of A in the file: `peft` wraps the base model in two modules of its own.
pub(super) fn a_key(path: &str) -> String {
    key(&a_name(path))
}

/// The name of B in the file.
pub(super) fn b_key(path: &str) -> String {
    key(&b_name(path))
}

fn key(name: &str) -> String {
    format!("base_model.model.{name}")
}

/// The fields of `adapter_config.json` that matter; of the others, those that would change the mathematics must be off.
#[derive(Deserialize)]
struct Stored {
    r: i64,
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    target_modules: TargetModules,
    #[serde(default)]
    use_rslora: bool,
    #[serde(flatten)]
    others: Map<String, Value>,
}

const MUST_BE_OFF: &[&str] = &[
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "fan_in_fan_out",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "layers_to_transform",
    "layer_replication",
    "exclude_modules",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
];

/// The configuration of a stored adapter. Fails on what this crate does not compute.
pub(crate) fn read_config(files: &ModelFiles) -> Result<LoraConfig> {
    let stored: Stored = files.require_json(CONFIG)?;
    let unsupported = |what: String, supported: &str| {
        Err(Error::Unsupported { file: CONFIG.to_owned(), what, supported: supported.to_owned() })
    };
    match stored.others.get("peft_type") {
        Some(Value::String(kind)) if kind == "LORA" => {}
        other => return unsupported(format!("peft_type = {}", other.unwrap_or(&Value::Null)), "\"LORA\""),
    }
    match stored.others.get("bias") {
        None => {}
        Some(Value::String(bias)) if bias == "none" => {}
        Some(other) => return unsupported(format!("bias = {other}"), "\"none\""),
    }
    for &field in MUST_BE_OFF {
        let value = stored.others.get(field).unwrap_or(&Value::Null);
        let off = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Object(map) => map.is_empty(),
            Value::Array(list) => list.is_empty(),
            _ => false,
        };
        if !off {
            return unsupported(format!("{field} = {value}"), "it absent, null or empty");
        }
    }
    let config = LoraConfig {
        r: stored.r,
        lora_alpha: stored.lora_alpha,
        lora_dropout: stored.lora_dropout,
        target_modules: stored.target_modules,
        use_rslora: stored.use_rslora,
    };
    config.check().map_err(|error| Error::config(CONFIG, error.to_string()))?;
    Ok(config)
}

/// The tensors of a stored adapter.
pub(crate) fn read_weights(files: &ModelFiles) -> Result<Weights> {
    Weights::open(files, STEM)
}

impl Adapter {
    /// Writes the adapter into `dir` (which must exist) so that `peft` loads it, and reads it again to be sure. `base`
    /// names the model it belongs to. The same adapter gives the same bytes.
    ///
    /// Fails, and leaves no complete adapter, where a value is not finite.
    pub fn write(&self, dir: &Path, base: Option<&str>) -> Result<()> {
        let tensors: Vec<_> = self.tensors().into_iter().map(|(name, tensor)| (key(&name), tensor)).collect();
        let broken: Vec<String> = tensors
            .iter()
            .filter_map(|(name, tensor)| match finite(tensor) {
                Ok(true) => None,
                Ok(false) => Some(Ok(name.clone())),
                Err(error) => Some(Err(error)),
            })
            .collect::<Result<_>>()?;
        if !broken.is_empty() {
            return Err(Error::Adapter { reason: "values that are not finite".to_owned(), names: broken });
        }
        write_whole(&dir.join(format!("{STEM}.safetensors")), &weights::serialize(&tensors)?)?;
        let mut config = serde_json::to_vec_pretty(&self.config_json(base)).expect("JSON values serialise");
        config.push(b'\n');
        write_whole(&dir.join(CONFIG), &config)?;
        self.check_written(dir)
    }

    fn config_json(&self, base: Option<&str>) -> Value {
        let mut targets = match &self.config.target_modules {
            TargetModules::List(names) => names.clone(),
            TargetModules::AllLinear => self.layers.keys().cloned().collect(),
            TargetModules::Pattern(_) => vec![],
        };
        targets.sort();
        let target_modules = match &self.config.target_modules {
            TargetModules::Pattern(text) => json!(text),
            _ => json!(targets),
        };
        let alpha = self.config.lora_alpha;
        json!({
            "alpha_pattern": {},
            "base_model_name_or_path": base,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": if alpha.fract() == 0.0 { json!(alpha as i64) } else { json!(alpha) },
            "lora_dropout": self.config.lora_dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "peft_version": PEFT_VERSION,
            "r": self.config.r,
            "rank_pattern": {},
            "revision": null,
            "target_modules": target_modules,
            "task_type": "CAUSAL_LM",
            "use_dora": false,
            "use_rslora": self.config.use_rslora,
        })
    }

    /// Reads what was written and compares it, number by number.
    fn check_written(&self, dir: &Path) -> Result<()> {
        let files = ModelFiles::from_dir(dir)?;
        let config = read_config(&files)?;
        let stored = read_weights(&files)?;
        let ours = self.tensors();
        let mut differing = vec![];
        for (name, tensor) in &ours {
            let key = key(name);
            let equal = stored.shape(&key) == Some(tensor.size().as_slice())
                && stored.tensor(&key, Kind::Float, tch::Device::Cpu)?.f_equal(&tensor.f_to(tch::Device::Cpu)?)?;
            if !equal {
                differing.push(key);
            }
        }
        if differing.is_empty() && stored.names().count() == ours.len() && config.scale() == self.config.scale() {
            return Ok(());
        }
        let reason = "what was written reads differently: is the disk sound?".to_owned();
        Err(Error::Adapter { reason, names: differing })
    }
}

fn finite(tensor: &tch::Tensor) -> Result<bool> {
    Ok(tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0)
}
