//! The non-linearities that configurations name.

use tch::Tensor;

use crate::error::{Error, Result};

/// A non-linearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    Relu,
    /// x · Φ(x), with the exact Φ.
    Gelu,
    /// x · σ(x).
    Silu,
}

impl Activation {
    /// The activation a configuration's `field` names.
    pub(crate) fn parse(name: &str, file: &str, field: &str) -> Result<Self> {
        match name {
            "relu" => Ok(Self::Relu),
            "gelu" => Ok(Self::Gelu),
            "silu" | "swish" => Ok(Self::Silu),
            other => Err(Error::Unsupported {
                file: file.to_owned(),
                what: format!("{field} = \"{other}\""),
                supported: "relu, gelu, silu".to_owned(),
            }),
        }
    }

    pub(crate) fn forward(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Relu => x.f_relu()?,
            Self::Gelu => x.f_gelu("none")?,
            Self::Silu => x.f_silu()?,
        })
    }
}
