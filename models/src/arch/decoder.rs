//! What training and generation ask of a decoder-only language model, and the table of those there are.

use serde_json::Value;
use tch::Tensor;

use super::opt::{Opt, OptConfig};
use super::qwen2::{Qwen2, Qwen2Config};
use crate::blocks::{Heads, Pass, Scope};
use crate::error::{Error, Result};

/// Sizes that callers of a decoder need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DecoderDims {
    /// How many layers.
    pub layers: usize,
    /// How attention is cut into heads.
    pub heads: Heads,
    /// Token ids are below this.
    pub vocabulary: i64,
    /// Positions are below this.
    pub positions: i64,
    /// The width of embeddings.
    pub embedding: i64,
}

/// A decoder-only language model: [`embed`](Self::embed), then [`run`](Self::run), then [`leave`](Self::leave) on the
/// positions of interest, then a product with [`head`](Self::head).
pub(crate) trait Decoder: Send {
    /// The sizes.
    fn dims(&self) -> DecoderDims;

    /// `[n]` ids → `[n, embedding]`.
    fn embed(&self, ids: &Tensor) -> Result<Tensor>;

    /// What comes between embeddings and the first layer: `[n, embedding]` → `[n, width]`.
    fn enter(&self, embeddings: Tensor, pass: &mut Pass<'_>) -> Result<Tensor>;

    /// One layer: `[n, width]` → `[n, width]`.
    fn layer(&self, index: usize, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor>;

    /// What comes between the last layer and the output head, row by row: `[n, width]` → `[n, embedding]`.
    fn leave(&self, x: &Tensor) -> Result<Tensor>;

    /// The output head, `[vocabulary, embedding]`.
    fn head(&self) -> &Tensor;

    /// All layers: `[n, embedding]` → `[n, width]`.
    fn run(&self, embeddings: Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let mut x = self.enter(embeddings, pass)?;
        for index in 0..self.dims().layers {
            pass.enter_layer(index)?;
            x = self.layer(index, &x, pass)?;
        }
        if let Some(cache) = &mut pass.cache {
            cache.advance(pass.columns);
        }
        Ok(x)
    }
}

const KNOWN: &str = "qwen2, opt";

/// The field `model_type` of a configuration.
pub(crate) fn model_type<'a>(config: &'a Value, file: &str) -> Result<&'a str> {
    config["model_type"].as_str().ok_or_else(|| Error::config(file, "it has no text field `model_type`"))
}

/// The decoder that `config` (of `file`, for errors) describes, with the weights at `scope`.
pub(crate) fn load_decoder(config: &Value, file: &str, scope: &Scope<'_>) -> Result<Box<dyn Decoder>> {
    match model_type(config, file)? {
        "qwen2" => Ok(Box::new(Qwen2::new(Qwen2Config::parse(config, file)?, scope)?)),
        "opt" => Ok(Box::new(Opt::new(OptConfig::parse(config, file)?, scope)?)),
        other => Err(Error::Unsupported {
            file: file.to_owned(),
            what: format!("model_type = \"{other}\""),
            supported: KNOWN.to_owned(),
        }),
    }
}
