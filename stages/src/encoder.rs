//! A model's tokenizer, with the tokens that begin and end its texts: one way to encode, in training and in generation.

use pipe_engine::problem::Failure;
use pipe_engine::stage::RowFailure;
use pipe_engine::step::FileSet;
use serde_json::Value;
use tokenizers::Tokenizer;

/// What a pipeline may say about the tokens of a model; `None` leaves it to the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The most tokens a row may have.
    pub max_length: Option<u32>,
    /// Whether texts begin with the beginning token.
    pub add_bos_token: Option<bool>,
    /// The token that ends a completion.
    pub eos_token: Option<String>,
}

/// The files of a model that [`Encoder::load`] reads.
pub const FILES: &[&str] = &["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];

/// Encodes prompts and completions for one model.
pub struct Encoder {
    tokenizer: Tokenizer,
    /// The beginning token, where rows begin with it.
    bos: Option<u32>,
    /// The end token.
    eos: u32,
    /// Every text is encoded as if a space stood before it, as Llama 2's tokenizer does.
    spaced: bool,
    /// The most tokens a row may have.
    pub max_length: usize,
}

impl Encoder {
    /// Reads the tokenizer of a model.
    ///
    /// # Errors
    /// When a file is missing or not understood, a token is not in the vocabulary, or `max_length` exceeds the model's.
    pub fn load(model: &FileSet, options: &Options) -> Result<Self, Failure> {
        let mut tokenizer = Tokenizer::from_bytes(model.read("tokenizer.json")?)
            .map_err(|error| Failure::input(format!("tokenizer.json: {error}")))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| Failure::internal(error.to_string()))?;
        let settings = Settings::read(model)?;
        let bos = settings.bos(&tokenizer, options)?;
        let eos = settings.eos(&tokenizer, options)?;
        let spaced = begins_with_space(&tokenizer)?;
        Ok(Self { bos, eos, spaced, max_length: settings.max_length(options)?, tokenizer })
    }

    /// The tokens of a prompt, behind the beginning token.
    ///
    /// # Errors
    /// When the text cannot be encoded, or holds a beginning token itself.
    pub fn prompt(&self, text: &str) -> Result<Vec<i64>, RowFailure> {
        let mut ids: Vec<i64> = self.bos.iter().copied().map(i64::from).collect();
        ids.extend(self.encode(text)?);
        Ok(ids)
    }

    /// The tokens of a completion, with the end token behind.
    ///
    /// # Errors
    /// When the text cannot be encoded, has no tokens, or cannot follow a prompt with this tokenizer.
    pub fn completion(&self, text: &str) -> Result<Vec<i64>, RowFailure> {
        let text = if self.spaced { self.without_space(text)? } else { text };
        let mut ids = self.encode(text)?;
        if ids.is_empty() {
            return Err(failure(
                "tokenize: empty completion",
                "the completion has no tokens: there is nothing to learn",
            ));
        }
        ids.push(i64::from(self.eos));
        Ok(ids)
    }

    /// The prompt without `cut` tokens at its beginning (the beginning token stays); `None` where it has not as many.
    #[must_use]
    pub fn cut_prompt(&self, mut prompt: Vec<i64>, cut: usize) -> Option<Vec<i64>> {
        let first = usize::from(self.bos.is_some());
        if first + cut > prompt.len() {
            return None;
        }
        prompt.drain(first..first + cut);
        Some(prompt)
    }

    fn encode(&self, text: &str) -> Result<Vec<i64>, RowFailure> {
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|error| failure("tokenize: not encodable", error.to_string()))?;
        let ids = encoding.get_ids();
        if self.bos.is_some_and(|bos| ids.contains(&bos)) {
            let message = "the text holds the beginning token, which is added already; take it out of the template or set \
                           add_bos_token = false";
            return Err(failure("tokenize: two beginnings", message));
        }
        Ok(ids.iter().copied().map(i64::from).collect())
    }

    /// The space that the tokenizer will put before the text stands for the one that is there.
    fn without_space<'t>(&self, text: &'t str) -> Result<&'t str, RowFailure> {
        text.strip_prefix(' ').ok_or_else(|| {
            let message = "the completion does not begin with a space, and this tokenizer puts one before every text";
            failure("tokenize: no space before completion", message)
        })
    }
}

/// Whether the tokenizer marks the beginning of a text as if a space stood before it.
fn begins_with_space(tokenizer: &Tokenizer) -> Result<bool, Failure> {
    let probe = tokenizer.encode("a", false).map_err(|error| Failure::input(format!("tokenizer.json: {error}")))?;
    Ok(probe.get_tokens().first().is_some_and(|token| token.starts_with(['▁', 'Ġ'])))
}

fn failure(class: &str, message: impl Into<String>) -> RowFailure {
    RowFailure { class: class.to_owned(), message: message.into(), transient: false }
}

/// The JSON files beside the tokenizer; null where there is none.
struct Settings {
    tokenizer: Value,
    generation: Value,
    model: Value,
}

impl Settings {
    fn read(files: &FileSet) -> Result<Self, Failure> {
        let read = |name: &str| match files.0.contains_key(name) {
            false => Ok(Value::Null),
            true => serde_json::from_slice(&files.read(name)?).map_err(|e| Failure::input(format!("{name}: {e}"))),
        };
        Ok(Self {
            tokenizer: read("tokenizer_config.json")?,
            generation: read("generation_config.json")?,
            model: read("config.json")?,
        })
    }

    /// A setting of the model, or of its text part where it has several.
    fn of_text_model(&self, name: &str) -> Option<&Value> {
        let text = self.model.get("text_config").and_then(|text| text.get(name));
        text.or_else(|| self.model.get(name)).filter(|value| !value.is_null())
    }

    fn bos(&self, tokenizer: &Tokenizer, options: &Options) -> Result<Option<u32>, Failure> {
        let token = token_text(&self.tokenizer, "bos_token");
        let wanted = options.add_bos_token.or_else(|| self.tokenizer.get("add_bos_token").and_then(Value::as_bool));
        match (wanted, token) {
            (Some(false), _) | (None, None) => Ok(None),
            (Some(true), None) => Err(Failure::input("tokenizer_config.json names no bos_token to begin rows with")
                .help("set add_bos_token = false, or use a model that has one")),
            (Some(true), Some(token)) => id_of(tokenizer, token).map(Some),
            (None, Some(token)) => {
                let bos = id_of(tokenizer, token)?;
                let bare =
                    tokenizer.encode("a", true).map_err(|error| Failure::input(format!("tokenizer.json: {error}")))?;
                Ok(bare.get_ids().first().copied().filter(|first| *first == bos))
            }
        }
    }

    fn eos(&self, tokenizer: &Tokenizer, options: &Options) -> Result<u32, Failure> {
        if let Some(token) = &options.eos_token {
            return id_of(tokenizer, token);
        }
        let token = token_text(&self.tokenizer, "eos_token").ok_or_else(|| {
            Failure::input("tokenizer_config.json names no eos_token").help("name the end token: eos_token = \"…\"")
        })?;
        let eos = id_of(tokenizer, token)?;
        let stops = self.stops();
        if stops.is_empty() || stops.contains(&u64::from(eos)) {
            return Ok(eos);
        }
        Err(Failure::input(format!(
            "the tokenizer ends texts with `{token}` ({eos}), but generation stops at {stops:?}: a model trained so never stops"
        ))
        .help("name the token at which generation stops: eos_token = \"…\""))
    }

    /// The ids at which generation stops.
    fn stops(&self) -> Vec<u64> {
        let named = self.generation.get("eos_token_id").filter(|value| !value.is_null());
        match named.or_else(|| self.of_text_model("eos_token_id")) {
            Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_u64).collect(),
            Some(id) => id.as_u64().into_iter().collect(),
            None => Vec::new(),
        }
    }

    fn max_length(&self, options: &Options) -> Result<usize, Failure> {
        let model = self.of_text_model("max_position_embeddings").and_then(Value::as_u64);
        let limit = match (options.max_length.map(u64::from), model) {
            (Some(wanted), Some(model)) if wanted > model => {
                let message = format!("max_length = {wanted}, but the model has {model} positions");
                return Err(Failure::input(message).help(format!("set max_length to {model} or less")));
            }
            (Some(limit), _) | (None, Some(limit)) => limit,
            (None, None) => {
                return Err(Failure::input("config.json names no max_position_embeddings").help("set max_length"));
            }
        };
        usize::try_from(limit).map_err(|_| Failure::input(format!("max_length = {limit} is too large")))
    }
}

/// A token named in `tokenizer_config.json`, as a text or as a table with its `content`.
fn token_text<'v>(config: &'v Value, name: &str) -> Option<&'v str> {
    let value = config.get(name)?;
    value.as_str().or_else(|| value.get("content").and_then(Value::as_str))
}

fn id_of(tokenizer: &Tokenizer, token: &str) -> Result<u32, Failure> {
    tokenizer
        .token_to_id(token)
        .ok_or_else(|| Failure::input(format!("token `{token}` is not in the vocabulary of tokenizer.json")))
}
