//! Linear layers, with or without a low-rank branch.

use tch::{Kind, Tensor};

use super::Scope;
use crate::error::Result;
use crate::lora::Numerics;
use crate::shim::{self, LoraOperands};

/// y = x Wᵀ + b, plus the branch of an adapter.
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    branch: Option<LoraBranch>,
}

/// scale · B A x (LoRA; Hu et al. 2021, arXiv:2106.09685).
pub(crate) struct LoraBranch {
    /// `[r, in]`, 32-bit.
    pub a: Tensor,
    /// `[out, r]`, 32-bit.
    pub b: Tensor,
    /// α/r, or α/√r.
    pub scale: f64,
    /// The probability that training drops an element of x.
    pub dropout: f64,
    /// In which types the branch is computed.
    pub numerics: Numerics,
}

impl Linear {
    /// `shape` is that of the weight: [out, in].
    pub(crate) fn new(scope: &Scope<'_>, shape: [i64; 2], bias: bool) -> Result<Self> {
        Ok(Self {
            weight: scope.tensor("weight", &shape)?,
            bias: if bias { Some(scope.tensor("bias", &shape[..1])?) } else { None },
            branch: scope.branch(shape)?,
        })
    }

    /// `[n, in]` → `[n, out]`. `training` lets the adapter drop.
    pub(crate) fn forward(&self, x: &Tensor, training: bool) -> Result<Tensor> {
        let plain = || -> Result<Tensor> { Ok(x.f_linear(&self.weight, self.bias.as_ref())?) };
        match &self.branch {
            None => plain(),
            Some(branch) => match branch.numerics {
                Numerics::Fp32 => branch.beside(&self.weight, self.bias.as_ref(), x, training),
                Numerics::PeftFp32 => branch.added_in_full(&plain()?, x, training),
                Numerics::HfAutocast => branch.added_in_kind(plain()?, x, training),
            },
        }
    }
}

impl LoraBranch {
    /// Base and branch, all in 32 bits.
    fn beside(&self, weight: &Tensor, bias: Option<&Tensor>, x: &Tensor, training: bool) -> Result<Tensor> {
        let z = self.dropped(x, Kind::Float, training)?;
        let (a, b, scale) = (&self.a, &self.b, self.scale);
        shim::lora_linear(&LoraOperands { x, z: &z, weight, bias, a, b, scale })
    }

    /// The branch in 32 bits, the sum rounded once.
    fn added_in_full(&self, base: &Tensor, x: &Tensor, training: bool) -> Result<Tensor> {
        let low = self.dropped(x, Kind::Float, training)?.f_linear(&self.a, None::<&Tensor>)?;
        let mut sum = base.f_to_kind(Kind::Float)?;
        shim::addmm_(&mut sum, &low, &self.b.f_transpose(0, 1)?, self.scale)?;
        Ok(sum.f_to_kind(base.f_kind()?)?)
    }

    /// The branch in the type of the base.
    fn added_in_kind(&self, mut base: Tensor, x: &Tensor, training: bool) -> Result<Tensor> {
        let kind = base.f_kind()?;
        let low = self.dropped(x, kind, training)?.f_linear(&self.a.f_to_kind(kind)?, None::<&Tensor>)?;
        shim::addmm_(&mut base, &low, &self.b.f_to_kind(kind)?.f_transpose(0, 1)?, self.scale)?;
        Ok(base)
    }

    fn dropped(&self, x: &Tensor, kind: Kind, training: bool) -> Result<Tensor> {
        let x = if x.f_kind()? == kind { x.shallow_clone() } else { x.f_to_kind(kind)? };
        if training && self.dropout > 0.0 { Ok(x.f_dropout(self.dropout, true)?) } else { Ok(x) }
    }
}
