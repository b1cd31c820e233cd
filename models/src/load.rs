//! What loading any model takes.

use crate::blocks::{Attach, Loader, Scope};
use crate::device::{DType, Device};
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::lora::{Adapter, AdapterSource, LoraConfig, Numerics, Plan, read_config, read_weights};
use crate::weights::Weights;

/// How to load a model.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions<'a> {
    /// Where it runs.
    pub device: Device,
    /// The type of its weights and activations; the file may have another.
    pub dtype: DType,
    /// Its adapter.
    pub adapter: AdapterSource<'a>,
    /// How the adapter is computed.
    pub numerics: Numerics,
}

impl LoadOptions<'_> {
    /// 32 bits on the CPU, without an adapter.
    pub fn cpu() -> Self {
        Self { device: Device::cpu(), dtype: DType::F32, adapter: AdapterSource::None, numerics: Numerics::Fp32 }
    }

    fn check(&self) -> Result<()> {
        let has_adapter = !matches!(self.adapter, AdapterSource::None);
        if has_adapter && self.numerics == Numerics::Fp32 && self.dtype != DType::F32 {
            return Err(Error::input(format!(
                "numerics fp32 with dtype {}: give dtype float32, or numerics peft_fp32 or hf_autocast",
                self.dtype
            )));
        }
        Ok(())
    }
}

/// Buffers that old versions of the reference stored and that follow from the configuration.
fn is_derived(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || name.ends_with(".position_ids")
}

/// Builds a model from `model.safetensors` (or its shards), with its adapter if it gets one.
pub(crate) fn load<M>(
    files: &ModelFiles,
    options: &LoadOptions<'_>,
    build: impl FnOnce(&Scope<'_>) -> Result<M>,
) -> Result<(M, Option<Adapter>)> {
    options.check()?;
    let stored: Option<(LoraConfig, Weights)> = match options.adapter {
        AdapterSource::Files(files) => Some((read_config(files)?, read_weights(files)?)),
        _ => None,
    };
    let plan = match (options.adapter, &stored) {
        (AdapterSource::New { config, seed }, _) => Some(Plan::fresh(config, seed, options.numerics)?),
        (_, Some((config, weights))) => Some(Plan::stored(config, weights, options.numerics)?),
        (_, None) => None,
    };
    let weights = Weights::open(files, "model")?;
    let loader = Loader::new(&weights, options.device.tch(), plan.as_ref().map(|plan| plan as &dyn Attach));
    let model = build(&loader.root(options.dtype.kind()))?;
    loader.finish(is_derived)?;
    let adapter = plan.map(Plan::finish).transpose()?;
    Ok((model, adapter))
}
