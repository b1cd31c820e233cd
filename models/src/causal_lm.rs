//! A language model that continues texts.

use serde_json::Value;
use tch::Tensor;

use crate::arch::{Decoder, load_decoder};
use crate::device::{DType, Device};
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::generate::{GenerateOptions, Generated, Prompt, generate};
use crate::load::{LoadOptions, load};
use crate::lora::{Adapter, Numerics};
use crate::special_tokens::SpecialTokens;

/// A decoder-only language model (Qwen2, OPT), with or without an adapter.
pub struct CausalLm {
    decoder: Box<dyn Decoder>,
    adapter: Option<Adapter>,
    device: Device,
    dtype: DType,
    numerics: Numerics,
    tokens: SpecialTokens,
}

impl CausalLm {
    /// Loads the model that `config.json` describes from `model.safetensors` or its shards.
    ///
    /// Fails where the architecture or a field is not supported, a file is damaged, a weight is missing, unexpected or
    /// of another shape, or the adapter does not fit.
    pub fn load(files: &ModelFiles, options: &LoadOptions<'_>) -> Result<Self> {
        const CONFIG: &str = "config.json";
        let config: Value = files.require_json(CONFIG)?;
        let tokens = SpecialTokens::read(files)?;
        let (decoder, adapter) = load(files, options, |scope| load_decoder(&config, CONFIG, scope))?;
        Ok(Self { decoder, adapter, device: options.device, dtype: options.dtype, numerics: options.numerics, tokens })
    }

    /// The ids that begin, end and fill its texts.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.tokens
    }

    /// Its adapter, if it was loaded with one.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// How many positions a text may have, prompt and continuation together.
    pub fn max_positions(&self) -> usize {
        usize::try_from(self.decoder.dims().positions).unwrap_or(0)
    }

    /// Continues each prompt with its most probable tokens, all as one batch, in the order given.
    ///
    /// Fails on an empty prompt, an id past the vocabulary, or more positions than the model has.
    pub fn generate(&self, prompts: &[Vec<i64>], options: &GenerateOptions) -> Result<Vec<Generated>> {
        let _guard = tch::no_grad_guard();
        if prompts.is_empty() {
            return Ok(vec![]);
        }
        let prompt = Prompt::of_ids(self.decoder.as_ref(), prompts, self.device)?;
        generate(self.decoder.as_ref(), prompt, options, &self.tokens.eos)
    }

    /// The scores of every token after every position, `[rows, longest, vocabulary]`, 32-bit, on the CPU. Rows shorter
    /// than the longest are filled on the left, where scores mean nothing.
    pub fn logits(&self, rows: &[Vec<i64>]) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        Prompt::of_ids(self.decoder.as_ref(), rows, self.device)?.scores(self.decoder.as_ref())
    }

    pub(crate) fn decoder(&self) -> &dyn Decoder {
        self.decoder.as_ref()
    }

    pub(crate) fn device(&self) -> Device {
        self.device
    }

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    pub(crate) fn numerics(&self) -> Numerics {
        self.numerics
    }

    pub(crate) fn require_adapter(&self) -> Result<&Adapter> {
        self.adapter().ok_or_else(|| Error::input("the model was loaded without an adapter to train"))
    }
}

/// Fails unless every id is one of `vocabulary`: CUDA would end the process instead.
pub(crate) fn check_ids(ids: &[i64], vocabulary: i64) -> Result<()> {
    match ids.iter().find(|&&id| !(0..vocabulary).contains(&id)) {
        Some(id) => Err(Error::input(format!("token id {id} is not in the vocabulary of {vocabulary}"))),
        None => Ok(()),
    }
}
