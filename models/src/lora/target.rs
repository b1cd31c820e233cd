//! Which linear layers get a branch.

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const ALL_LINEAR: &str = "all-linear";

/// The layers that get a branch, written as in `peft`: a list, a regular expression, or `"all-linear"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub enum TargetModules {
    /// Layers whose path is one of these or ends in a dot and one of these.
    List(Vec<String>),
    /// Layers whose whole path matches this regular expression.
    Pattern(String),
    /// Every linear layer but the output head.
    AllLinear,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    List(Vec<String>),
}

impl From<Written> for TargetModules {
    fn from(written: Written) -> Self {
        match written {
            Written::Text(text) if text.eq_ignore_ascii_case(ALL_LINEAR) => Self::AllLinear,
            Written::Text(text) => Self::Pattern(text),
            Written::List(names) => Self::List(names),
        }
    }
}

impl From<TargetModules> for Written {
    fn from(target: TargetModules) -> Self {
        match target {
            TargetModules::AllLinear => Self::Text(ALL_LINEAR.to_owned()),
            TargetModules::Pattern(text) => Self::Text(text),
            TargetModules::List(names) => Self::List(names),
        }
    }
}

impl TargetModules {
    /// Fails on an empty list and on an expression that cannot be read.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::List(names) if names.is_empty() => Err(Error::input("target_modules is an empty list")),
            _ => self.matcher().map(drop),
        }
    }

    pub(crate) fn matcher(&self) -> Result<Matcher<'_>> {
        Ok(match self {
            Self::List(names) => Matcher::List(names),
            Self::AllLinear => Matcher::All,
            Self::Pattern(text) => {
                let whole = Regex::new(&format!(r"\A(?:{text})\z"));
                Matcher::Pattern(whole.map_err(|error| Error::input(format!("target_modules: {error}")))?)
            }
        })
    }
}

pub(crate) enum Matcher<'a> {
    List(&'a [String]),
    Pattern(Regex),
    All,
}

impl Matcher<'_> {
    pub(crate) fn matches(&self, path: &str) -> bool {
        match self {
            Self::List(names) => names.iter().any(|name| is_or_ends_in(path, name)),
            Self::Pattern(whole) => whole.is_match(path),
            Self::All => true,
        }
    }

    /// The entries of a list that match none of `paths`.
    pub(crate) fn idle<'p>(&self, paths: impl Iterator<Item = &'p str> + Clone) -> Vec<String> {
        match self {
            Self::List(names) => {
                let idle = |name: &&String| !paths.clone().any(|path| is_or_ends_in(path, name));
                names.iter().filter(idle).cloned().collect()
            }
            Self::Pattern(_) | Self::All => vec![],
        }
    }
}

fn is_or_ends_in(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "model.layers.0.self_attn.q_proj";

    fn matches(json: &str, path: &str) -> bool {
        let target: TargetModules = serde_json::from_str(json).unwrap();
        target.matcher().unwrap().matches(path)
    }

    #[test]
    fn lists_match_whole_names_at_the_end() {
        assert!(matches(r#"["q_proj"]"#, PATH) && matches(r#"["self_attn.q_proj"]"#, PATH));
        assert!(matches(r#"["q_proj"]"#, "q_proj"));
        assert!(!matches(r#"["q_proj"]"#, "model.xq_proj") && !matches(r#"["proj"]"#, PATH));
    }

    #[test]
    fn expressions_match_whole_paths() {
        assert!(matches(r#"".*\\.self_attn\\.(q|v)_proj""#, PATH));
        assert!(!matches(r#""q_proj""#, PATH) && !matches(r#"".*self_attn""#, PATH));
    }

    #[test]
    fn all_linear_is_a_word_of_its_own() {
        assert!(matches(r#""all-linear""#, "anything"));
        assert_eq!(serde_json::to_string(&TargetModules::AllLinear).unwrap(), r#""all-linear""#);
    }

    #[test]
    fn an_expression_that_cannot_be_read_is_an_error() {
        assert!(TargetModules::Pattern("(".into()).check().is_err());
    }
}
