//! Qwen2 and Qwen2.5 (Qwen2 Technical Report, 2024, arXiv:2407.10671): RMS norms before each half of a layer, rotary
//! positions, grouped keys and values, biases on q, k and v alone, a gated feed-forward.

use serde::Deserialize;
use serde_json::Value;
use tch::Tensor;

use super::{Decoder, DecoderDims};
use crate::blocks::{
    Activation, Attend, Embedding, Heads, Linear, Pass, RmsNorm, RopeFields, Rotary, Scope, load_head,
};
use crate::error::{Error, Result};

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Fields {
    vocab_size: i64,
    hidden_size: i64,
    intermediate_size: i64,
    num_hidden_layers: usize,
    num_attention_heads: i64,
    num_key_value_heads: Option<i64>,
    head_dim: Option<i64>,
    hidden_act: String,
    max_position_embeddings: i64,
    rms_norm_eps: f64,
    tie_word_embeddings: bool,
    attention_dropout: f64,
    use_sliding_window: bool,
    sliding_window: Option<i64>,
    max_window_layers: usize,
    layer_types: Option<Vec<String>>,
    #[serde(flatten)]
    rope: RopeFields,
}

/// What a file may leave out is what the reference takes for it.
impl Default for Fields {
    fn default() -> Self {
        Self {
            vocab_size: 151_936,
            hidden_size: 4096,
            intermediate_size: 22_016,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: Some(32),
            head_dim: None,
            hidden_act: "silu".to_owned(),
            max_position_embeddings: 32_768,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: false,
            attention_dropout: 0.0,
            use_sliding_window: false,
            sliding_window: Some(4096),
            max_window_layers: 28,
            layer_types: None,
            rope: RopeFields::default(),
        }
    }
}

/// The configuration of a Qwen2 model, checked.
pub(crate) struct Qwen2Config {
    fields: Fields,
    heads: Heads,
    activation: Activation,
    theta: f64,
}

impl Qwen2Config {
    pub(crate) fn parse(config: &Value, file: &str) -> Result<Self> {
        let fields = Fields::deserialize(config).map_err(|error| Error::config(file, error.to_string()))?;
        let queries = fields.num_attention_heads;
        let keys = fields.num_key_value_heads.unwrap_or(queries);
        if queries < 1 || keys < 1 || queries % keys != 0 {
            return Err(Error::config(file, format!("{queries} heads cannot share {keys} of keys and values")));
        }
        let width = fields.head_dim.unwrap_or(fields.hidden_size / queries);
        if width < 2 || width % 2 != 0 {
            return Err(Error::config(file, format!("heads of width {width} cannot be rotated")));
        }
        fields.check_window(file)?;
        Ok(Self {
            heads: Heads { queries, keys, width },
            activation: Activation::parse(&fields.hidden_act, file, "hidden_act")?,
            theta: fields.rope.plain_theta(file)?,
            fields,
        })
    }
}

impl Fields {
    /// Fails where a layer would attend to a window only, as no layer of the published models does.
    fn check_window(&self, file: &str) -> Result<()> {
        let narrow =
            self.use_sliding_window && self.sliding_window.is_some_and(|window| window < self.max_position_embeddings);
        let windowed = match &self.layer_types {
            Some(types) => types.iter().any(|kind| kind != "full_attention"),
            None => self.max_window_layers < self.num_hidden_layers,
        };
        if narrow && windowed {
            return Err(Error::Unsupported {
                file: file.to_owned(),
                what: "use_sliding_window = true".to_owned(),
                supported: "full attention in every layer".to_owned(),
            });
        }
        Ok(())
    }
}

struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    heads: Heads,
    scale: f64,
    dropout: f64,
}

impl Attention {
    fn new(config: &Qwen2Config, scope: &Scope<'_>) -> Result<Self> {
        let (d, heads) = (config.fields.hidden_size, config.heads);
        let (q, kv) = (heads.queries * heads.width, heads.keys * heads.width);
        Ok(Self {
            q_proj: Linear::new(&scope.at("q_proj"), [q, d], true)?,
            k_proj: Linear::new(&scope.at("k_proj"), [kv, d], true)?,
            v_proj: Linear::new(&scope.at("v_proj"), [kv, d], true)?,
            o_proj: Linear::new(&scope.at("o_proj"), [d, q], false)?,
            heads,
            scale: (heads.width as f64).powf(-0.5),
            dropout: config.fields.attention_dropout,
        })
    }

    fn forward(&self, x: &Tensor, rotary: &Rotary, layer: usize, pass: &mut Pass<'_>) -> Result<Tensor> {
        let (heads, rows, training) = (self.heads, pass.rows, pass.training());
        let rotation = pass.rotation.as_ref().expect("`enter` sets the rotation of every pass");
        let q = heads.split(&self.q_proj.forward(x, training)?, rows, heads.queries)?;
        let k = heads.split(&self.k_proj.forward(x, training)?, rows, heads.keys)?;
        let v = heads.split(&self.v_proj.forward(x, training)?, rows, heads.keys)?.f_transpose(1, 2)?;
        let q = rotary.rotate(&q, rotation)?;
        let k = rotary.rotate(&k, rotation)?.f_transpose(1, 2)?;
        let (k, v) = match &mut pass.cache {
            Some(cache) => cache.append(layer, k, v)?,
            None => (k, v),
        };
        let mixed = Attend::within(pass, self.scale, self.dropout).mix(&q, &k, &v)?;
        self.o_proj.forward(&mixed, training)
    }
}

struct Mlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
    activation: Activation,
}

impl Mlp {
    fn new(config: &Qwen2Config, scope: &Scope<'_>) -> Result<Self> {
        let (d, inner) = (config.fields.hidden_size, config.fields.intermediate_size);
        Ok(Self {
            gate_proj: Linear::new(&scope.at("gate_proj"), [inner, d], false)?,
            up_proj: Linear::new(&scope.at("up_proj"), [inner, d], false)?,
            down_proj: Linear::new(&scope.at("down_proj"), [d, inner], false)?,
            activation: config.activation,
        })
    }

    fn forward(&self, x: &Tensor, training: bool) -> Result<Tensor> {
        let gate = self.activation.forward(&self.gate_proj.forward(x, training)?)?;
        let gated = gate.f_mul(&self.up_proj.forward(x, training)?)?;
        self.down_proj.forward(&gated, training)
    }
}

struct Layer {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
}

impl Layer {
    fn new(config: &Qwen2Config, scope: &Scope<'_>) -> Result<Self> {
        let (d, eps) = (config.fields.hidden_size, config.fields.rms_norm_eps);
        Ok(Self {
            input_layernorm: RmsNorm::new(&scope.at("input_layernorm"), d, eps)?,
            self_attn: Attention::new(config, &scope.at("self_attn"))?,
            post_attention_layernorm: RmsNorm::new(&scope.at("post_attention_layernorm"), d, eps)?,
            mlp: Mlp::new(config, &scope.at("mlp"))?,
        })
    }
}

/// A Qwen2 model with its output head.
pub(crate) struct Qwen2 {
    embed_tokens: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    lm_head: Tensor,
    rotary: Rotary,
    dims: DecoderDims,
}

impl Qwen2 {
    pub(crate) fn new(config: Qwen2Config, scope: &Scope<'_>) -> Result<Self> {
        let f = &config.fields;
        let model = scope.at("model");
        let embedding = model.at("embed_tokens");
        let embed_tokens = Embedding::new(&embedding, f.vocab_size, f.hidden_size)?;
        let head_shape = [f.vocab_size, f.hidden_size];
        let tied = f.tie_word_embeddings;
        let target = (scope.kind(), scope.device());
        Ok(Self {
            lm_head: load_head(&scope.at("lm_head"), (&embedding, &embed_tokens), head_shape, tied)?,
            embed_tokens,
            layers: (0..f.num_hidden_layers)
                .map(|index| Layer::new(&config, &model.at("layers").at(index)))
                .collect::<Result<_>>()?,
            norm: RmsNorm::new(&model.at("norm"), f.hidden_size, f.rms_norm_eps)?,
            rotary: Rotary::new(config.theta, config.heads.width, f.max_position_embeddings, target)?,
            dims: DecoderDims {
                layers: f.num_hidden_layers,
                heads: config.heads,
                vocabulary: f.vocab_size,
                positions: f.max_position_embeddings,
                embedding: f.hidden_size,
            },
        })
    }
}

impl Decoder for Qwen2 {
    fn dims(&self) -> DecoderDims {
        self.dims
    }

    fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        self.embed_tokens.forward(ids)
    }

    fn enter(&self, embeddings: Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        pass.rotation = Some(self.rotary.of(pass)?);
        Ok(embeddings)
    }

    fn layer(&self, index: usize, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let layer = &self.layers[index];
        let normal = layer.input_layernorm.forward(x)?;
        let x = x.f_add(&layer.self_attn.forward(&normal, &self.rotary, index, pass)?)?;
        let normal = layer.post_attention_layernorm.forward(&x)?;
        Ok(x.f_add(&layer.mlp.forward(&normal, pass.training())?)?)
    }

    fn leave(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward(x)
    }

    fn head(&self) -> &Tensor {
        &self.lm_head
    }
}
