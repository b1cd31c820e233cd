//! What one run through a model carries along.

use tch::Tensor;

use super::KvCache;
use crate::error::Result;
use crate::rng::mix;
use crate::shim;

/// Which positions the columns of a batch have.
pub(crate) enum Positions {
    /// Every row counts from here.
    From(i64),
    /// One position per row and column, flat: `[rows · columns]`.
    Each(Tensor),
}

/// Randomness of a training pass: every layer draws from a seed of its own, so that nothing needs to be remembered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    /// Fixes the draws of this pass.
    pub seed: u64,
    /// Whether the base model drops too, and not the adapter alone.
    pub base: bool,
}

/// One run of a batch through a model.
pub(crate) struct Pass<'a> {
    /// Rows of the batch.
    pub rows: i64,
    /// Columns of the batch, the positions that are new.
    pub columns: i64,
    /// Where the columns stand.
    pub positions: Positions,
    /// What may be attended to: bool `[rows, 1, columns, keys]`; `None` for all, or with `causal` all that came before.
    pub mask: Option<Tensor>,
    /// Whether a column sees those before it only. Never together with a mask or keys from a cache.
    pub causal: bool,
    /// Keys and values of the columns before these.
    pub cache: Option<&'a mut KvCache>,
    /// Set in training.
    pub dropout: Option<Dropout>,
    /// Rotation tables of the columns, each `[rows or 1, columns, 1, head]`; set by models that rotate.
    pub rotation: Option<(Tensor, Tensor)>,
}

impl Pass<'_> {
    /// A pass over whole rows, each column seeing those before it; padding, if any, is on the right.
    pub(crate) fn whole(rows: i64, columns: i64) -> Self {
        Pass {
            rows,
            columns,
            positions: Positions::From(0),
            mask: None,
            causal: true,
            cache: None,
            dropout: None,
            rotation: None,
        }
    }

    /// Called before each layer.
    pub(crate) fn enter_layer(&self, layer: usize) -> Result<()> {
        match self.dropout {
            Some(dropout) => shim::seed(mix(&[dropout.seed, layer as u64])),
            None => Ok(()),
        }
    }

    /// Whether adapters drop.
    pub(crate) fn training(&self) -> bool {
        self.dropout.is_some()
    }

    /// The base model's dropout probability in this pass, where its configuration says `p`.
    pub(crate) fn base_dropout(&self, p: f64) -> f64 {
        if self.dropout.is_some_and(|dropout| dropout.base) { p } else { 0.0 }
    }
}
