//! Normalisation over the last dimension.

use tch::Tensor;

use super::Scope;
use crate::error::Result;
use crate::shim;

/// (x − mean) / √(variance + ε) · weight + bias (Ba et al. 2016, arXiv:1607.06450).
pub(crate) struct LayerNorm {
    width: i64,
    /// `None` where the configuration wants no learned scale.
    affine: Option<(Tensor, Tensor)>,
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn new(scope: &Scope<'_>, width: i64, eps: f64) -> Result<Self> {
        let affine = (scope.tensor("weight", &[width])?, scope.tensor("bias", &[width])?);
        Ok(Self { width, affine: Some(affine), eps })
    }

    pub(crate) fn without_affine(width: i64, eps: f64) -> Self {
        Self { width, affine: None, eps }
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = self.affine.as_ref().map(|(weight, bias)| (weight, bias)).unzip();
        Ok(x.f_layer_norm([self.width].as_slice(), weight, bias, self.eps, false)?)
    }
}

/// x / √(mean x² + ε) · weight (Zhang, Sennrich 2019, arXiv:1910.07467).
///
/// The reference normalises in 32 bits and rounds to the type of x before it multiplies by the weight.
pub(crate) struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    pub(crate) fn new(scope: &Scope<'_>, width: i64, eps: f64) -> Result<Self> {
        Ok(Self { weight: scope.tensor("weight", &[width])?, eps })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        shim::rms_norm(x, &self.weight, self.eps)
    }
}
