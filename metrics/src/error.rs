//! What can be wrong with what a caller hands in, and why a metric was not computed.

use std::fmt;

use serde::Serialize;

/// A list of ids for messages: the first five, then how many more.
struct Ids<'a>(&'a [String]);

impl fmt::Display for Ids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        let shown: Vec<String> = self.0.iter().take(SHOWN).map(|id| format!("`{id}`")).collect();
        write!(f, "{}", shown.join(", "))?;
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Input that cannot be scored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A metric nobody knows.
    #[error("no metric is called `{name}`; there are: {known}")]
    UnknownMetric {
        /// The name given.
        name: String,
        /// All names, separated by commas.
        known: String,
    },
    /// Items that stand there twice.
    #[error("{} stand more than once among the items; ids must be unique", Ids(ids))]
    DuplicateItems {
        /// Their ids.
        ids: Vec<String>,
    },
    /// References without any text.
    #[error("{} have a reference without text; leave such references out", Ids(ids))]
    EmptyReferences {
        /// The ids of the items.
        ids: Vec<String>,
    },
    /// Hypotheses that stand there twice.
    #[error("{} have more than one hypothesis; give each item one", Ids(ids))]
    DuplicateHypotheses {
        /// The ids of the items.
        ids: Vec<String>,
    },
    /// Hypotheses for items that are not there.
    #[error("{} have a hypothesis but are not among the items; check that both come from the same split", Ids(ids))]
    UnknownHypotheses {
        /// Their ids.
        ids: Vec<String>,
    },
    /// Items without a hypothesis where every item must have one.
    #[error("{} have no hypothesis; produce them, or choose to skip them or to count them as empty", Ids(ids))]
    MissingHypotheses {
        /// Their ids.
        ids: Vec<String>,
    },
    /// Scores of different items, or of a metric that one side lacks, cannot be compared.
    #[error("`{metric}` cannot be compared: {reason}")]
    NotComparable {
        /// The metric.
        metric: String,
        /// What differs.
        reason: String,
    },
}

/// Why a metric has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No item with a hypothesis has references.
    NoReferences,
    /// No item with a hypothesis has a source text.
    NoSource,
    /// Document frequencies of one item weigh every n-gram 0.
    OneDocument,
    /// No source text holds a pair.
    NoPairs,
    /// No hypothesis holds a word.
    NoWords,
    /// No item has a hypothesis.
    NoHypotheses,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoReferences => "not computed: no references",
            Self::NoSource => "not computed: no source texts",
            Self::OneDocument => {
                "not computed: one item gives every n-gram weight 0; hand in document frequencies of a corpus"
            }
            Self::NoPairs => "not computed: no source text holds an attribute-object pair",
            Self::NoWords => "not computed: no hypothesis holds a word",
            Self::NoHypotheses => "not computed: no hypotheses",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_of_ids_are_cut() {
        let ids: Vec<String> = (0..8).map(|id| id.to_string()).collect();
        let message = Error::MissingHypotheses { ids }.to_string();
        assert!(message.starts_with("`0`, `1`, `2`, `3`, `4` and 3 more have no hypothesis"), "{message}");
    }
}
