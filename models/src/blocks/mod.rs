//! What the architectures share. Each block takes its weights from a [`Scope`], by the reference's names.
//!
//! Activations are matrices `[rows · positions, width]` throughout; only attention looks at them as a batch.

mod activation;
mod attention;
mod cache;
mod embedding;
mod linear;
mod norm;
mod pass;
mod rotary;
mod scope;

pub(crate) use activation::Activation;
pub(crate) use attention::{Attend, Heads};
pub(crate) use cache::KvCache;
pub(crate) use embedding::{Embedding, load_head};
pub(crate) use linear::{Linear, LoraBranch};
pub(crate) use norm::{LayerNorm, RmsNorm};
pub(crate) use pass::{Dropout, Pass, Positions};
pub(crate) use rotary::{RopeFields, Rotary};
pub(crate) use scope::{Attach, Loader, Scope};
