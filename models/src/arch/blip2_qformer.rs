//! The querying transformer of BLIP-2: learned queries that attend to each other and, in some layers, to the image.

use serde::Deserialize;
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::blocks::{Activation, Attend, Heads, LayerNorm, Linear, Scope};
use crate::error::{Error, Result};

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Fields {
    hidden_size: i64,
    num_hidden_layers: usize,
    num_attention_heads: i64,
    intermediate_size: i64,
    hidden_act: String,
    layer_norm_eps: f64,
    cross_attention_frequency: usize,
    use_qformer_text_input: bool,
}

/// What a file may leave out is what the reference takes for it.
impl Default for Fields {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".to_owned(),
            layer_norm_eps: 1e-12,
            cross_attention_frequency: 2,
            use_qformer_text_input: false,
        }
    }
}

/// The configuration of the querying transformer, checked.
pub(super) struct QFormerConfig {
    fields: Fields,
    heads: Heads,
    activation: Activation,
    /// The width of the image features.
    image_width: i64,
}

impl QFormerConfig {
    pub(super) fn parse(config: &Value, image_width: i64, file: &str) -> Result<Self> {
        let fields =
            Fields::deserialize(config).map_err(|error| Error::config(file, format!("qformer_config: {error}")))?;
        let (d, count) = (fields.hidden_size, fields.num_attention_heads);
        if count < 1 || d % count != 0 {
            let reason = format!("qformer_config: hidden_size {d} is not a multiple of {count} heads");
            return Err(Error::config(file, reason));
        }
        if fields.cross_attention_frequency == 0 {
            return Err(Error::config(file, "qformer_config: cross_attention_frequency is 0"));
        }
        if fields.use_qformer_text_input {
            return Err(Error::Unsupported {
                file: file.to_owned(),
                what: "qformer_config.use_qformer_text_input = true".to_owned(),
                supported: "a querying transformer that reads images alone".to_owned(),
            });
        }
        Ok(Self {
            heads: Heads { queries: count, keys: count, width: d / count },
            activation: Activation::parse(&fields.hidden_act, file, "qformer_config.hidden_act")?,
            fields,
            image_width,
        })
    }

    /// The width of the queries.
    pub(super) fn width(&self) -> i64 {
        self.fields.hidden_size
    }
}

/// Attention with its residual and norm, which comes last (as in BERT).
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    dense: Linear,
    norm: LayerNorm,
    heads: Heads,
}

impl Attention {
    /// Attends to something of width `source`.
    fn new(config: &QFormerConfig, source: i64, scope: &Scope<'_>) -> Result<Self> {
        let d = config.fields.hidden_size;
        let (inner, output) = (scope.at("attention"), scope.at("output"));
        Ok(Self {
            query: Linear::new(&inner.at("query"), [d, d], true)?,
            key: Linear::new(&inner.at("key"), [d, source], true)?,
            value: Linear::new(&inner.at("value"), [d, source], true)?,
            dense: Linear::new(&output.at("dense"), [d, d], true)?,
            norm: LayerNorm::new(&output.at("LayerNorm"), d, config.fields.layer_norm_eps)?,
            heads: config.heads,
        })
    }

    fn forward(&self, x: &Tensor, source: &Tensor, rows: i64) -> Result<Tensor> {
        let heads = self.heads;
        let split = |x: &Tensor| heads.split(x, rows, heads.queries);
        let q = split(&self.query.forward(x, false)?)?;
        let k = split(&self.key.forward(source, false)?)?.f_transpose(1, 2)?;
        let v = split(&self.value.forward(source, false)?)?.f_transpose(1, 2)?;
        let mixed = Attend::freely((heads.width as f64).powf(-0.5)).mix(&q, &k, &v)?;
        self.norm.forward(&self.dense.forward(&mixed, false)?.f_add(x)?)
    }
}

struct Layer {
    attention: Attention,
    crossattention: Option<Attention>,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
}

impl Layer {
    fn new(config: &QFormerConfig, index: usize, scope: &Scope<'_>) -> Result<Self> {
        let fields = &config.fields;
        let (d, inner) = (fields.hidden_size, fields.intermediate_size);
        let crosses = index.is_multiple_of(fields.cross_attention_frequency);
        let cross = || Attention::new(config, config.image_width, &scope.at("crossattention"));
        let output = scope.at("output_query");
        Ok(Self {
            attention: Attention::new(config, d, &scope.at("attention"))?,
            crossattention: crosses.then(cross).transpose()?,
            intermediate: Linear::new(&scope.at("intermediate_query").at("dense"), [inner, d], true)?,
            output: Linear::new(&output.at("dense"), [d, inner], true)?,
            output_norm: LayerNorm::new(&output.at("LayerNorm"), d, fields.layer_norm_eps)?,
        })
    }

    fn forward(&self, x: &Tensor, image: &Tensor, rows: i64, activation: Activation) -> Result<Tensor> {
        let mut x = self.attention.forward(x, x, rows)?;
        if let Some(cross) = &self.crossattention {
            x = cross.forward(&x, image, rows)?;
        }
        let inner = activation.forward(&self.intermediate.forward(&x, false)?)?;
        self.output_norm.forward(&self.output.forward(&inner, false)?.f_add(&x)?)
    }
}

/// The querying transformer and its queries.
pub(super) struct QFormer {
    query_tokens: Tensor,
    layernorm: LayerNorm,
    layers: Vec<Layer>,
    kind: Kind,
    config: QFormerConfig,
}

impl QFormer {
    /// `scope` is the root of the model. The reference keeps this part in 32 bits where 16-bit IEEE floats are asked
    /// for, and only there.
    pub(super) fn new(config: QFormerConfig, queries: i64, scope: &Scope<'_>) -> Result<Self> {
        let kind = if scope.kind() == Kind::Half { Kind::Float } else { scope.kind() };
        let root = scope.with_kind(kind);
        let scope = root.at("qformer");
        let d = config.fields.hidden_size;
        let layers = scope.at("encoder").at("layer");
        Ok(Self {
            query_tokens: root.tensor("query_tokens", &[1, queries, d])?,
            layernorm: LayerNorm::new(&scope.at("layernorm"), d, config.fields.layer_norm_eps)?,
            layers: (0..config.fields.num_hidden_layers)
                .map(|index| Layer::new(&config, index, &layers.at(index)))
                .collect::<Result<_>>()?,
            kind,
            config,
        })
    }

    /// Image features `[images · n, image width]` → `[images · queries, width]`, in the type of the features.
    pub(super) fn forward(&self, image: &Tensor, images: i64) -> Result<Tensor> {
        let (_, queries, d) = self.query_tokens.size3()?;
        let tokens = self.query_tokens.f_expand([images, queries, d], false)?.f_reshape([-1, d])?;
        let kind = image.f_kind()?;
        let image = image.f_to_kind(self.kind)?;
        let mut x = self.layernorm.forward(&tokens)?;
        for layer in &self.layers {
            x = layer.forward(&x, &image, images, self.config.activation)?;
        }
        Ok(x.f_to_kind(kind)?)
    }
}
