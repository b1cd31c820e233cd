//! AdamW (Loshchilov, Hutter 2019, arXiv:1711.05101), to the bit that of `torch.optim.AdamW(fused=True)`.

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::shim::{self, AdamWOptions};

/// Parameters with the state of their optimizer, in one fixed order.
pub(super) struct AdamW {
    pub names: Vec<String>,
    pub params: Vec<Tensor>,
    /// First moments.
    pub exp_avg: Vec<Tensor>,
    /// Second moments.
    pub exp_avg_sq: Vec<Tensor>,
    /// How many steps each parameter has seen, one 32-bit number each.
    steps: Vec<Tensor>,
}

/// Sizes of a gradient, before clipping.
pub(super) struct GradNorms {
    /// Of all parameters together.
    pub total: f64,
    /// Of each parameter.
    pub each: Vec<f32>,
}

impl AdamW {
    pub(super) fn new(params: Vec<(String, Tensor)>) -> Result<Self> {
        let (names, params): (Vec<_>, Vec<_>) = params.into_iter().unzip();
        let zeros = || params.iter().map(|p| Ok(p.f_detach()?.f_zeros_like()?)).collect::<Result<Vec<_>>>();
        let count = |p: &Tensor| Ok(Tensor::f_zeros([], (Kind::Float, p.device()))?);
        Ok(Self {
            exp_avg: zeros()?,
            exp_avg_sq: zeros()?,
            steps: params.iter().map(count).collect::<Result<_>>()?,
            names,
            params,
        })
    }

    /// Forgets the gradients.
    pub(super) fn clear_grads(&self) -> Result<()> {
        shim::clear_grads(&self.params)
    }

    /// Scales the gradients down to `max_norm` in total (0: leaves them).
    pub(super) fn clip(&self, max_norm: f64) -> Result<GradNorms> {
        let (each, total) = shim::clip_grads(&self.params, max_norm)?;
        Ok(GradNorms { total: f64::try_from(&total)?, each: Vec::try_from(&each)? })
    }

    /// Applies the gradients.
    pub(super) fn step(&self, options: &AdamWOptions) -> Result<()> {
        shim::fused_adamw(&self.params, [&self.exp_avg, &self.exp_avg_sq, &self.steps], options)
    }

    /// Sets the count of steps of every parameter.
    pub(super) fn set_steps(&mut self, steps: u64) -> Result<()> {
        for count in &mut self.steps {
            let _ = count.f_fill_(steps as f64)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Gives `param` a gradient, as a backward pass would.
    fn set_grad(param: &Tensor, grad: &Tensor) {
        shim::backward(&param.f_mul_scalar(1.0).unwrap(), grad).unwrap();
    }

    #[test]
    fn clipped_steps_equal_torchs_to_the_bit() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/optimizer.safetensors");
        let golden: HashMap<String, Tensor> = Tensor::read_safetensors(path).unwrap().into_iter().collect();
        let param = |i: usize| golden[&format!("before.{i}")].f_set_requires_grad(true).unwrap();
        let adamw = AdamW::new((0..2).map(|i| (i.to_string(), param(i))).collect()).unwrap();
        for step in 0..5 {
            adamw.clear_grads().unwrap();
            for (i, param) in adamw.params.iter().enumerate() {
                set_grad(param, &golden[&format!("grad.{step}.{i}")]);
            }
            let norms = adamw.clip(0.9).unwrap();
            assert_eq!(norms.total, f64::try_from(&golden[&format!("norm.{step}")]).unwrap());
            let options = AdamWOptions { lr: 3e-3, beta1: 0.9, beta2: 0.999, weight_decay: 0.01, eps: 1e-8 };
            adamw.step(&options).unwrap();
        }
        for (name, tensors) in
            [("after", &adamw.params), ("exp_avg", &adamw.exp_avg), ("exp_avg_sq", &adamw.exp_avg_sq)]
        {
            for (i, tensor) in tensors.iter().enumerate() {
                let expected = &golden[&format!("{name}.{i}")];
                assert!(tensor.f_detach().unwrap().f_equal(expected).unwrap(), "{name} {i}");
            }
        }
    }

    #[test]
    fn a_parameter_without_a_gradient_is_an_error() {
        let param = Tensor::f_zeros([2], (Kind::Float, tch::Device::Cpu)).unwrap().f_set_requires_grad(true).unwrap();
        let adamw = AdamW::new(vec![("p".to_owned(), param)]).unwrap();
        let error = adamw.clip(1.0).map(drop).unwrap_err();
        assert!(error.to_string().contains("parameter 0 has no gradient"), "{error}");
    }
}
