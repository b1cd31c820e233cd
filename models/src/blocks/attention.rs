//! Scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762) over a batch of heads.

use tch::Tensor;

use super::Pass;
use crate::error::Result;

/// How a width is cut into heads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    /// Heads of queries.
    pub queries: i64,
    /// Heads of keys and values; each serves `queries / keys` heads of queries.
    pub keys: i64,
    /// The width of one head.
    pub width: i64,
}

impl Heads {
    /// `[rows · columns, heads · width]` → `[rows, columns, heads, width]`.
    pub(crate) fn split(self, x: &Tensor, rows: i64, heads: i64) -> Result<Tensor> {
        Ok(x.f_view([rows, -1, heads, self.width])?)
    }
}

/// How scores become weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attend<'a> {
    /// What scores are multiplied by.
    pub scale: f64,
    /// Whether a query sees the keys at and before its own place only. Never together with a mask.
    pub causal: bool,
    /// What may be seen: bool `[rows, 1, queries, keys]`.
    pub mask: Option<&'a Tensor>,
    /// The probability that a weight is dropped.
    pub dropout: f64,
}

impl<'a> Attend<'a> {
    /// Every query sees every key.
    pub(crate) fn freely(scale: f64) -> Self {
        Self { scale, causal: false, mask: None, dropout: 0.0 }
    }

    /// As `pass` says; `dropout` is the base model's.
    pub(crate) fn within(pass: &'a Pass<'_>, scale: f64, dropout: f64) -> Self {
        Self { scale, causal: pass.causal, mask: pass.mask.as_ref(), dropout: pass.base_dropout(dropout) }
    }

    /// softmax(scale · q kᵀ) v for q `[rows, queries, heads, width]`, k and v `[rows, heads, keys, width]`, as
    /// `[rows · queries, heads · width]`.
    pub(crate) fn mix(self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let grouped = q.size4()?.2 != k.size4()?.1;
        let q = q.f_transpose(1, 2)?;
        let Self { scale, causal, mask, dropout } = self;
        let out = Tensor::f_scaled_dot_product_attention(&q, k, v, mask, dropout, causal, scale, grouped)?;
        let (rows, heads, queries, width) = out.size4()?;
        Ok(out.f_transpose(1, 2)?.f_reshape([rows * queries, heads * width])?)
    }
}
