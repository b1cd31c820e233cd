//! What an adapter looks like, in the words of `peft`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::TargetModules;
use crate::error::{Error, Result};

/// The shape of an adapter; the fields are named as in `peft.LoraConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// The rank, 1 or more.
    pub r: i64,
    /// α: the branch is scaled by α/r.
    pub lora_alpha: f64,
    /// The probability, in [0, 1), that training drops an element of the branch's input.
    pub lora_dropout: f64,
    /// Which linear layers get a branch.
    pub target_modules: TargetModules,
    /// Scale by α/√r instead (rsLoRA; Kalajdzievski 2023, arXiv:2312.03732).
    pub use_rslora: bool,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { r: 8, lora_alpha: 8.0, lora_dropout: 0.0, target_modules: TargetModules::AllLinear, use_rslora: false }
    }
}

impl LoraConfig {
    /// Fails where a number is out of its range or no layer can match.
    pub fn check(&self) -> Result<()> {
        if self.r < 1 {
            return Err(Error::input(format!("r = {} is not 1 or more", self.r)));
        }
        if !(self.lora_alpha.is_finite() && self.lora_alpha > 0.0) {
            return Err(Error::input(format!("lora_alpha = {} is not above 0", self.lora_alpha)));
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            return Err(Error::input(format!("lora_dropout = {} is not in [0, 1)", self.lora_dropout)));
        }
        self.target_modules.check()
    }

    /// What the branch is multiplied by.
    pub(crate) fn scale(&self) -> f64 {
        let r = self.r as f64;
        self.lora_alpha / if self.use_rslora { r.sqrt() } else { r }
    }
}

/// In which number types an adapter is computed beside its base; weights of adapters are always 32-bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Numerics {
    /// All in 32 bits; for a 32-bit base.
    #[default]
    Fp32,
    /// The branch in 32 bits, the sum rounded once: what `peft` does without autocast.
    PeftFp32,
    /// The branch in the type of the base: what `Trainer(bf16=True)` does.
    HfAutocast,
}

impl FromStr for Numerics {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "fp32" => Ok(Self::Fp32),
            "peft_fp32" => Ok(Self::PeftFp32),
            "hf_autocast" => Ok(Self::HfAutocast),
            other => Err(Error::input(format!("numerics `{other}` is none of `fp32`, `peft_fp32`, `hf_autocast`"))),
        }
    }
}

impl fmt::Display for Numerics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp32 => "fp32",
            Self::PeftFp32 => "peft_fp32",
            Self::HfAutocast => "hf_autocast",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_alpha_over_r_or_its_root() {
        let config = LoraConfig { r: 16, lora_alpha: 32.0, ..LoraConfig::default() };
        assert_eq!(config.scale(), 2.0);
        assert_eq!(LoraConfig { use_rslora: true, ..config }.scale(), 8.0);
    }

    #[test]
    fn ranges_are_checked() {
        let good = LoraConfig::default();
        good.check().unwrap();
        assert!(LoraConfig { r: 0, ..good.clone() }.check().is_err());
        assert!(LoraConfig { lora_alpha: f64::NAN, ..good.clone() }.check().is_err());
        assert!(LoraConfig { lora_dropout: 1.0, ..good.clone() }.check().is_err());
        assert!(LoraConfig { target_modules: TargetModules::List(vec![]), ..good }.check().is_err());
    }

    #[test]
    fn an_unknown_field_is_refused() {
        assert!(serde_json::from_str::<LoraConfig>(r#"{"rank": 8}"#).is_err());
    }
}
