//! The number types that torch stages compute in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The type of a model's weights and of what flows between its layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit floats.
    #[default]
    Fp32,
    /// 16-bit brain floats: half the memory, three decimal digits.
    Bf16,
}

/// How an adapter is computed beside the model it adapts; weights, gradients and moments of the adapter are 32-bit in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Numerics {
    /// Model and adapter in 32 bits.
    #[default]
    Fp32,
    /// The model in bf16, the adapter in 32 bits, their sum rounded once: as peft does without autocast.
    PeftFp32,
    /// Model and adapter multiply in bf16: as transformers' Trainer does with `bf16=True`.
    HfAutocast,
}
