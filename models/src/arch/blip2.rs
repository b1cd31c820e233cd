//! BLIP-2 (Li et al. 2023, arXiv:2301.12597): an image encoder, queries that read from it, and a language model that
//! continues from what they found.
//!
//! Checkpoints come in two generations. The older has no `image_token_index`; the newer holds the places of the image
//! with that token, whose embeddings are then overwritten. Both put the queries before everything else, as is done here.

use serde_json::Value;
use tch::Tensor;

use super::blip2_qformer::{QFormer, QFormerConfig};
use super::blip2_vision::{VisionConfig, VisionModel};
use super::{Decoder, load_decoder};
use crate::blocks::{Linear, Scope};
use crate::error::{Error, Result};

/// A BLIP-2 model with a decoder-only language model.
pub(crate) struct Blip2 {
    vision_model: VisionModel,
    qformer: QFormer,
    language_projection: Linear,
    language_model: Box<dyn Decoder>,
    /// Height and width of the images it takes, in pixels.
    image_size: i64,
}

impl Blip2 {
    pub(crate) fn new(config: &Value, file: &str, scope: &Scope<'_>) -> Result<Self> {
        let vision = VisionConfig::parse(section(config, "vision_config", file)?, file)?;
        let qformer = QFormerConfig::parse(section(config, "qformer_config", file)?, vision.width(), file)?;
        let queries = match &config["num_query_tokens"] {
            Value::Null => 32,
            count => count
                .as_i64()
                .filter(|&count| count > 0)
                .ok_or_else(|| Error::config(file, format!("num_query_tokens = {count} is not a count above 0")))?,
        };
        let mut text = section(config, "text_config", file)?.clone();
        if text["model_type"].is_null() {
            text["model_type"] = "opt".into();
        }
        let (image_size, query_width) = (vision.image_size(), qformer.width());
        let language_model = load_decoder(&text, file, &scope.at("language_model"))?;
        let projection = [language_model.dims().embedding, query_width];
        Ok(Self {
            vision_model: VisionModel::new(vision, &scope.at("vision_model"))?,
            qformer: QFormer::new(qformer, queries, scope)?,
            language_projection: Linear::new(&scope.at("language_projection"), projection, true)?,
            language_model,
            image_size,
        })
    }

    /// The language model.
    pub(crate) fn language_model(&self) -> &dyn Decoder {
        self.language_model.as_ref()
    }

    /// Height and width of the images it takes, in pixels.
    pub(crate) fn image_size(&self) -> i64 {
        self.image_size
    }

    /// Pixels `[images, 3, size, size]` and the ids that follow the image (`[n]`, n ≥ 1) → the embeddings the language
    /// model continues from, `[images, queries + n, embedding]`.
    pub(crate) fn embed(&self, pixels: &Tensor, ids: &Tensor) -> Result<Tensor> {
        let images = pixels.size4()?.0;
        let features = self.vision_model.forward(pixels)?;
        let found = self.qformer.forward(&features, images)?;
        let width = self.language_model.dims().embedding;
        let found = self.language_projection.forward(&found, false)?.f_view([images, -1, width])?;
        let text = self.language_model.embed(ids)?;
        let text = text.f_unsqueeze(0)?.f_expand([images, -1, width], false)?;
        Ok(Tensor::f_cat(&[found, text], 1)?)
    }
}

fn section<'a>(config: &'a Value, name: &str, file: &str) -> Result<&'a Value> {
    let section = &config[name];
    if section.is_object() { Ok(section) } else { Err(Error::config(file, format!("it has no `{name}`"))) }
}
