//! Where a run came from: kept in its log, for people and for commands that explain. In no key, and never with a secret.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::source::{Credentials, MASK};

/// Parameters with one of these words in their names are masked, whatever they hold.
const SECRET_NAMES: [&str; 5] = ["token", "secret", "password", "passwd", "api_key"];

/// What started a run, on what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// The pipeline file, as an absolute path.
    pub spec: PathBuf,
    /// The profile in use.
    pub profile: Option<String>,
    /// What the command line set.
    pub set: BTreeMap<String, String>,
    /// The parameters of the pipeline as they were used.
    pub params: Map<String, Value>,
    /// The steps named on the command line; all of them where none is.
    pub asked: Vec<String>,
    /// Where torch steps ran: `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// Threads of torch steps.
    pub threads: usize,
    /// The version of `pipe`.
    pub version: String,
    /// The name of the machine.
    pub host: String,
    /// The name of the process in the store.
    pub owner: String,
}

impl Origin {
    /// The same without what must not be kept: credentials, passwords in addresses, parameters named like secrets.
    #[must_use]
    pub fn masked(mut self, credentials: &Credentials) -> Self {
        for (name, value) in &mut self.set {
            *value = if is_secret_name(name) { MASK.to_owned() } else { mask_text(value, credentials) };
        }
        for (name, value) in &mut self.params {
            mask_value(name, value, credentials);
        }
        self
    }
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|word| name.contains(word)) && !name.contains("tokens")
}

fn mask_value(name: &str, value: &mut Value, credentials: &Credentials) {
    match value {
        Value::String(text) if is_secret_name(name) => MASK.clone_into(text),
        Value::String(text) => *text = mask_text(text, credentials),
        Value::Array(items) => items.iter_mut().for_each(|item| mask_value(name, item, credentials)),
        Value::Object(map) => map.iter_mut().for_each(|(name, item)| mask_value(name, item, credentials)),
        _ => {}
    }
}

/// Replaces credentials, and what stands between `://` and `@` in an address.
fn mask_text(text: &str, credentials: &Credentials) -> String {
    let masked = credentials.mask(text);
    let Some(start) = masked.find("://").map(|at| at + 3) else { return masked };
    let authority = start..masked[start..].find('/').map_or(masked.len(), |len| start + len);
    match masked[authority.clone()].rfind('@') {
        Some(at) => format!("{}{MASK}{}", &masked[..start], &masked[authority.start + at..]),
        None => masked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Secret;

    #[test]
    fn nothing_secret_is_kept() {
        let credentials = Credentials([("HF_TOKEN".to_owned(), Secret::new("hf_abcdef"))].into());
        let params = serde_json::json!({
            "source": "https://me:hunter2@host/a/b@c",
            "nested": [{ "password": "hunter2" }, "x hf_abcdef y"],
            "api_key": "k",
            "max_new_tokens": "12",
            "plain": "https://host/a@b",
        });
        let set = [("token".to_owned(), "t".to_owned()), ("size".to_owned(), "8".to_owned())].into();
        let origin = Origin { params: params.as_object().unwrap().clone(), set, ..Origin::default() };
        let kept = origin.masked(&credentials);
        assert_eq!(
            Value::Object(kept.params),
            serde_json::json!({
                "source": "https://***@host/a/b@c",
                "nested": [{ "password": "***" }, "x *** y"],
                "api_key": "***",
                "max_new_tokens": "12",
                "plain": "https://host/a@b",
            })
        );
        assert_eq!((kept.set["token"].as_str(), kept.set["size"].as_str()), ("***", "8"));
    }
}
