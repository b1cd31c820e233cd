//! Text to token ids and back.

use crate::error::{Error, Result};
use crate::files::ModelFiles;

/// The tokenizer of a model, from its `tokenizer.json`.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
}

impl Tokenizer {
    /// Reads `tokenizer.json`. Padding and truncation it may ask for are switched off: rows keep their length.
    pub fn load(files: &ModelFiles) -> Result<Self> {
        let bytes = files.require("tokenizer.json")?.read()?;
        let mut inner =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| Error::damaged("tokenizer.json", error))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(failed)?;
        Ok(Self { inner })
    }

    /// The ids of a text; `special` adds the tokens the model's files put around every text.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<i64>> {
        let encoding = self.inner.encode_fast(text, special).map_err(failed)?;
        Ok(encoding.get_ids().iter().map(|&id| i64::from(id)).collect())
    }

    /// The text of ids; `skip_special` leaves the special tokens out.
    pub fn decode(&self, ids: &[i64], skip_special: bool) -> Result<String> {
        let ids = ids.iter().map(|&id| u32::try_from(id)).collect::<Result<Vec<_>, _>>();
        let ids = ids.map_err(|_| Error::Tokenizer("an id is below 0 or past 32 bits".to_owned()))?;
        self.inner.decode(&ids, skip_special).map_err(failed)
    }

    /// The id of a token written exactly so, if there is one.
    pub fn token_id(&self, token: &str) -> Option<i64> {
        self.inner.token_to_id(token).map(i64::from)
    }

    /// How many ids there are, added tokens included.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}

#[allow(clippy::needless_pass_by_value)]
fn failed(error: tokenizers::Error) -> Error {
    Error::Tokenizer(error.to_string())
}
