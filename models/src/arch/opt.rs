//! OPT (Zhang et al. 2022, arXiv:2205.01068): layer norms, learned positions from row 2 of their table, biases
//! everywhere.

use serde::Deserialize;
use serde_json::Value;
use tch::Tensor;

use super::{Decoder, DecoderDims};
use crate::blocks::{Activation, Attend, Embedding, Heads, LayerNorm, Linear, Pass, Positions, Scope, load_head};
use crate::error::{Error, Result};

/// The first row of the table of positions that is one.
const POSITION_OFFSET: i64 = 2;

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Fields {
    vocab_size: i64,
    hidden_size: i64,
    num_hidden_layers: usize,
    ffn_dim: i64,
    max_position_embeddings: i64,
    do_layer_norm_before: bool,
    #[serde(rename = "_remove_final_layer_norm")]
    remove_final_layer_norm: bool,
    word_embed_proj_dim: Option<i64>,
    dropout: f64,
    attention_dropout: f64,
    num_attention_heads: i64,
    activation_function: String,
    enable_bias: bool,
    layer_norm_elementwise_affine: bool,
    tie_word_embeddings: bool,
}

/// What a file may leave out is what the reference takes for it.
impl Default for Fields {
    fn default() -> Self {
        Self {
            vocab_size: 50_272,
            hidden_size: 768,
            num_hidden_layers: 12,
            ffn_dim: 3072,
            max_position_embeddings: 2048,
            do_layer_norm_before: true,
            remove_final_layer_norm: false,
            word_embed_proj_dim: None,
            dropout: 0.1,
            attention_dropout: 0.0,
            num_attention_heads: 12,
            activation_function: "relu".to_owned(),
            enable_bias: true,
            layer_norm_elementwise_affine: true,
            tie_word_embeddings: true,
        }
    }
}

/// The configuration of an OPT model, checked.
pub(crate) struct OptConfig {
    fields: Fields,
    heads: Heads,
    activation: Activation,
    /// The width of embeddings, which a 350M model projects to that of the layers.
    embedding: i64,
}

impl OptConfig {
    pub(crate) fn parse(config: &Value, file: &str) -> Result<Self> {
        let fields = Fields::deserialize(config).map_err(|error| Error::config(file, error.to_string()))?;
        let (d, count) = (fields.hidden_size, fields.num_attention_heads);
        if count < 1 || d % count != 0 {
            return Err(Error::config(file, format!("hidden_size {d} is not a multiple of {count} heads")));
        }
        Ok(Self {
            heads: Heads { queries: count, keys: count, width: d / count },
            activation: Activation::parse(&fields.activation_function, file, "activation_function")?,
            embedding: fields.word_embed_proj_dim.unwrap_or(d),
            fields,
        })
    }

    fn norm(&self, scope: &Scope<'_>) -> Result<LayerNorm> {
        const EPS: f64 = 1e-5;
        if self.fields.layer_norm_elementwise_affine {
            LayerNorm::new(scope, self.fields.hidden_size, EPS)
        } else {
            Ok(LayerNorm::without_affine(self.fields.hidden_size, EPS))
        }
    }
}

struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: Heads,
    scale: f64,
    dropout: f64,
}

impl Attention {
    fn new(config: &OptConfig, scope: &Scope<'_>) -> Result<Self> {
        let (d, bias) = (config.fields.hidden_size, config.fields.enable_bias);
        let linear = |name: &str| Linear::new(&scope.at(name), [d, d], bias);
        Ok(Self {
            q_proj: linear("q_proj")?,
            k_proj: linear("k_proj")?,
            v_proj: linear("v_proj")?,
            out_proj: linear("out_proj")?,
            heads: config.heads,
            scale: (config.heads.width as f64).powf(-0.5),
            dropout: config.fields.attention_dropout,
        })
    }

    fn forward(&self, x: &Tensor, layer: usize, pass: &mut Pass<'_>) -> Result<Tensor> {
        let (heads, rows, training) = (self.heads, pass.rows, pass.training());
        // The reference scales q before the product, and rounding depends on it.
        let q = self.q_proj.forward(x, training)?.f_mul_scalar(self.scale)?;
        let q = heads.split(&q, rows, heads.queries)?;
        let k = heads.split(&self.k_proj.forward(x, training)?, rows, heads.keys)?.f_transpose(1, 2)?;
        let v = heads.split(&self.v_proj.forward(x, training)?, rows, heads.keys)?.f_transpose(1, 2)?;
        let (k, v) = match &mut pass.cache {
            Some(cache) => cache.append(layer, k, v)?,
            None => (k, v),
        };
        let mixed = Attend::within(pass, 1.0, self.dropout).mix(&q, &k, &v)?;
        self.out_proj.forward(&mixed, training)
    }
}

struct Layer {
    self_attn: Attention,
    self_attn_layer_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    final_layer_norm: LayerNorm,
}

impl Layer {
    fn new(config: &OptConfig, scope: &Scope<'_>) -> Result<Self> {
        let (d, inner, bias) = (config.fields.hidden_size, config.fields.ffn_dim, config.fields.enable_bias);
        Ok(Self {
            self_attn: Attention::new(config, &scope.at("self_attn"))?,
            self_attn_layer_norm: config.norm(&scope.at("self_attn_layer_norm"))?,
            fc1: Linear::new(&scope.at("fc1"), [inner, d], bias)?,
            fc2: Linear::new(&scope.at("fc2"), [d, inner], bias)?,
            final_layer_norm: config.norm(&scope.at("final_layer_norm"))?,
        })
    }
}

/// An OPT model with its output head.
pub(crate) struct Opt {
    embed_tokens: Embedding,
    embed_positions: Embedding,
    project_in: Option<Linear>,
    project_out: Option<Linear>,
    layers: Vec<Layer>,
    final_layer_norm: Option<LayerNorm>,
    lm_head: Tensor,
    activation: Activation,
    norm_before: bool,
    dropout: f64,
    dims: DecoderDims,
}

impl Opt {
    pub(crate) fn new(config: OptConfig, scope: &Scope<'_>) -> Result<Self> {
        let f = &config.fields;
        let (d, e) = (f.hidden_size, config.embedding);
        let decoder = scope.at("model").at("decoder");
        let embedding = decoder.at("embed_tokens");
        let embed_tokens = Embedding::new(&embedding, f.vocab_size, e)?;
        let head_shape = [f.vocab_size, e];
        let tied = f.tie_word_embeddings;
        let project = |name: &str, shape: [i64; 2]| -> Result<Option<Linear>> {
            if d == e { Ok(None) } else { Linear::new(&decoder.at(name), shape, false).map(Some) }
        };
        let normed_last = f.do_layer_norm_before && !f.remove_final_layer_norm;
        let positions = f.max_position_embeddings;
        Ok(Self {
            lm_head: load_head(&scope.at("lm_head"), (&embedding, &embed_tokens), head_shape, tied)?,
            embed_tokens,
            embed_positions: Embedding::new(&decoder.at("embed_positions"), positions + POSITION_OFFSET, d)?,
            project_in: project("project_in", [d, e])?,
            project_out: project("project_out", [e, d])?,
            layers: (0..f.num_hidden_layers)
                .map(|index| Layer::new(&config, &decoder.at("layers").at(index)))
                .collect::<Result<_>>()?,
            final_layer_norm: normed_last.then(|| config.norm(&decoder.at("final_layer_norm"))).transpose()?,
            activation: config.activation,
            norm_before: f.do_layer_norm_before,
            dropout: f.dropout,
            dims: DecoderDims {
                layers: f.num_hidden_layers,
                heads: config.heads,
                vocabulary: f.vocab_size,
                positions,
                embedding: e,
            },
        })
    }

    fn feed_forward(&self, layer: &Layer, x: &Tensor, training: bool) -> Result<Tensor> {
        let inner = self.activation.forward(&layer.fc1.forward(x, training)?)?;
        layer.fc2.forward(&inner, training)
    }

    fn dropped(&self, x: Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let p = pass.base_dropout(self.dropout);
        if p > 0.0 { Ok(x.f_dropout(p, true)?) } else { Ok(x) }
    }
}

impl Decoder for Opt {
    fn dims(&self) -> DecoderDims {
        self.dims
    }

    fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        self.embed_tokens.forward(ids)
    }

    fn enter(&self, embeddings: Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = match &self.project_in {
            Some(project) => project.forward(&embeddings, pass.training())?,
            None => embeddings,
        };
        match &pass.positions {
            Positions::From(start) => {
                let places = self.embed_positions.range(start + POSITION_OFFSET, pass.columns)?;
                let width = x.size2()?.1;
                let batch = x.f_view([pass.rows, pass.columns, width])?;
                Ok(batch.f_add(&places)?.f_view([-1, width])?)
            }
            Positions::Each(positions) => {
                let rows = positions.f_add_scalar(POSITION_OFFSET)?;
                Ok(x.f_add(&self.embed_positions.forward(&rows)?)?)
            }
        }
    }

    fn layer(&self, index: usize, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let layer = &self.layers[index];
        let normal = if self.norm_before { layer.self_attn_layer_norm.forward(x)? } else { x.shallow_clone() };
        let mixed = layer.self_attn.forward(&normal, index, pass)?;
        let mut x = x.f_add(&self.dropped(mixed, pass)?)?;
        if !self.norm_before {
            x = layer.self_attn_layer_norm.forward(&x)?;
        }
        let normal = if self.norm_before { layer.final_layer_norm.forward(&x)? } else { x.shallow_clone() };
        let fed = self.feed_forward(layer, &normal, pass.training())?;
        let x = x.f_add(&self.dropped(fed, pass)?)?;
        if self.norm_before { Ok(x) } else { layer.final_layer_norm.forward(&x) }
    }

    fn leave(&self, x: &Tensor) -> Result<Tensor> {
        let x = match &self.final_layer_norm {
            Some(norm) => norm.forward(x)?,
            None => x.shallow_clone(),
        };
        match &self.project_out {
            Some(project) => project.forward(&x, false),
            None => Ok(x),
        }
    }

    fn head(&self) -> &Tensor {
        &self.lm_head
    }
}
