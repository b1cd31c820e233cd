//! The image encoder of BLIP-2: a vision transformer (ViT; Dosovitskiy et al. 2020, arXiv:2010.11929).

use serde::Deserialize;
use serde_json::Value;
use tch::Tensor;

use crate::blocks::{Activation, Attend, Heads, LayerNorm, Linear, Scope};
use crate::error::{Error, Result};

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Fields {
    hidden_size: i64,
    intermediate_size: i64,
    num_hidden_layers: usize,
    num_attention_heads: i64,
    image_size: i64,
    patch_size: i64,
    hidden_act: String,
    layer_norm_eps: f64,
    qkv_bias: bool,
}

/// What a file may leave out is what the reference takes for it.
impl Default for Fields {
    fn default() -> Self {
        Self {
            hidden_size: 1408,
            intermediate_size: 6144,
            num_hidden_layers: 39,
            num_attention_heads: 16,
            image_size: 224,
            patch_size: 14,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: 1e-6,
            qkv_bias: true,
        }
    }
}

/// The configuration of the image encoder, checked.
pub(super) struct VisionConfig {
    fields: Fields,
    heads: Heads,
    activation: Activation,
}

impl VisionConfig {
    pub(super) fn parse(config: &Value, file: &str) -> Result<Self> {
        let fields =
            Fields::deserialize(config).map_err(|error| Error::config(file, format!("vision_config: {error}")))?;
        let (d, count) = (fields.hidden_size, fields.num_attention_heads);
        if count < 1 || d % count != 0 {
            let reason = format!("vision_config: hidden_size {d} is not a multiple of {count} heads");
            return Err(Error::config(file, reason));
        }
        if fields.patch_size < 1 || fields.image_size < fields.patch_size {
            let reason = format!(
                "vision_config: images of {} cannot be cut into patches of {}",
                fields.image_size, fields.patch_size
            );
            return Err(Error::config(file, reason));
        }
        Ok(Self {
            heads: Heads { queries: count, keys: count, width: d / count },
            activation: Activation::parse(&fields.hidden_act, file, "vision_config.hidden_act")?,
            fields,
        })
    }

    /// The width of the features.
    pub(super) fn width(&self) -> i64 {
        self.fields.hidden_size
    }

    /// The height and width of the images it takes, in pixels.
    pub(super) fn image_size(&self) -> i64 {
        self.fields.image_size
    }
}

struct Layer {
    layer_norm1: LayerNorm,
    qkv: Linear,
    projection: Linear,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl Layer {
    fn new(fields: &Fields, scope: &Scope<'_>) -> Result<Self> {
        let (d, inner, eps) = (fields.hidden_size, fields.intermediate_size, fields.layer_norm_eps);
        let (attention, mlp) = (scope.at("self_attn"), scope.at("mlp"));
        Ok(Self {
            layer_norm1: LayerNorm::new(&scope.at("layer_norm1"), d, eps)?,
            qkv: Linear::new(&attention.at("qkv"), [3 * d, d], fields.qkv_bias)?,
            projection: Linear::new(&attention.at("projection"), [d, d], true)?,
            layer_norm2: LayerNorm::new(&scope.at("layer_norm2"), d, eps)?,
            fc1: Linear::new(&mlp.at("fc1"), [inner, d], true)?,
            fc2: Linear::new(&mlp.at("fc2"), [d, inner], true)?,
        })
    }

    fn forward(&self, x: &Tensor, rows: i64, config: &VisionConfig) -> Result<Tensor> {
        let Heads { queries, width, .. } = config.heads;
        let qkv = self.qkv.forward(&self.layer_norm1.forward(x)?, false)?;
        let qkv = qkv.f_view([rows, -1, 3, queries, width])?.f_unbind(2)?;
        let (k, v) = (qkv[1].f_transpose(1, 2)?, qkv[2].f_transpose(1, 2)?);
        let mixed = Attend::freely((width as f64).powf(-0.5)).mix(&qkv[0], &k, &v)?;
        let x = x.f_add(&self.projection.forward(&mixed, false)?)?;
        let inner = self.fc1.forward(&self.layer_norm2.forward(&x)?, false)?;
        Ok(x.f_add(&self.fc2.forward(&config.activation.forward(&inner)?, false)?)?)
    }
}

/// The image encoder.
pub(super) struct VisionModel {
    class_embedding: Tensor,
    patch_weight: Tensor,
    patch_bias: Tensor,
    position_embedding: Tensor,
    layers: Vec<Layer>,
    post_layernorm: LayerNorm,
    config: VisionConfig,
}

impl VisionModel {
    pub(super) fn new(config: VisionConfig, scope: &Scope<'_>) -> Result<Self> {
        let fields = &config.fields;
        let (d, patch) = (fields.hidden_size, fields.patch_size);
        let patches = (fields.image_size / patch).pow(2);
        let embeddings = scope.at("embeddings");
        let layers = scope.at("encoder").at("layers");
        Ok(Self {
            class_embedding: embeddings.tensor("class_embedding", &[1, 1, d])?,
            patch_weight: embeddings.tensor("patch_embedding.weight", &[d, 3, patch, patch])?,
            patch_bias: embeddings.tensor("patch_embedding.bias", &[d])?,
            position_embedding: embeddings.tensor("position_embedding", &[1, patches + 1, d])?,
            layers: (0..fields.num_hidden_layers)
                .map(|index| Layer::new(fields, &layers.at(index)))
                .collect::<Result<_>>()?,
            post_layernorm: LayerNorm::new(&scope.at("post_layernorm"), d, fields.layer_norm_eps)?,
            config,
        })
    }

    /// `[images, 3, size, size]` → `[images · (1 + patches), width]`, the class token first.
    pub(super) fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let rows = pixels.size4()?.0;
        let (d, patch) = (self.config.fields.hidden_size, self.config.fields.patch_size);
        let pixels = pixels.f_to_kind(self.patch_weight.f_kind()?)?;
        let stride = [patch, patch];
        let patches = pixels.f_conv2d(&self.patch_weight, Some(&self.patch_bias), stride, [0, 0], [1, 1], 1)?;
        let patches = patches.f_flatten(2, -1)?.f_transpose(1, 2)?;
        let class = self.class_embedding.f_expand([rows, 1, d], false)?;
        let x = Tensor::f_cat(&[class, patches], 1)?.f_add(&self.position_embedding)?;
        let mut x = x.f_view([-1, d])?;
        for layer in &self.layers {
            x = layer.forward(&x, rows, &self.config)?;
        }
        self.post_layernorm.forward(&x)
    }
}
