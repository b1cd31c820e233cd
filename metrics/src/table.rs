//! The metrics, one row each.

use crate::score::Family;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// More is better.
    Higher,
    /// Neither: the number describes.
    Neither,
}

/// What the numbers of a metric mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// A score or share in 0..=1.
    Unit,
    /// A score in 0..=10, which papers often print times 100.
    Ten,
    /// A count per description.
    PerDescription,
    /// A count per hundred words.
    PerHundredWords,
    /// A count over all descriptions.
    Count,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name in calls, tables and signatures.
    pub name: &'static str,
    /// The exact variant, for signatures.
    pub variant: &'static str,
    /// What it says, in one sentence.
    pub about: &'static str,
    /// Whether items need references.
    pub needs_references: bool,
    /// Whether items need the source text that was rewritten.
    pub needs_source: bool,
    /// Which way is better.
    pub direction: Direction,
    /// What its numbers mean.
    pub scale: Scale,
    /// Whether its corpus value gets a bootstrap interval.
    pub has_interval: bool,
    pub(crate) family: Family,
}

impl Metric {
    /// The metric of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        METRICS.iter().find(|metric| metric.name == name)
    }
}

const fn against_references(
    name: &'static str,
    family: Family,
    variant: &'static str,
    scale: Scale,
    about: &'static str,
) -> Metric {
    Metric {
        name,
        variant,
        about,
        needs_references: true,
        needs_source: false,
        direction: Direction::Higher,
        scale,
        has_interval: true,
        family,
    }
}

const fn about_adjectives(name: &'static str, family: Family, scale: Scale, about: &'static str) -> Metric {
    Metric {
        name,
        variant: "upos-adj",
        about,
        needs_references: false,
        needs_source: false,
        direction: Direction::Neither,
        scale,
        has_interval: true,
        family,
    }
}

const fn without_interval(mut metric: Metric) -> Metric {
    metric.has_interval = false;
    metric
}

const fn against_source(name: &'static str, family: Family, about: &'static str) -> Metric {
    Metric {
        name,
        variant: "attribute-object",
        about,
        needs_references: false,
        needs_source: true,
        direction: Direction::Higher,
        scale: Scale::Unit,
        has_interval: true,
        family,
    }
}

/// All metrics.
pub const METRICS: &[Metric] = &[
    against_references(
        "bleu_1",
        Family::Bleu(1),
        "coco-caption",
        Scale::Unit,
        "Words shared with the references, clipped, with a brevity penalty.",
    ),
    against_references(
        "bleu_2",
        Family::Bleu(2),
        "coco-caption",
        Scale::Unit,
        "Geometric mean of the clipped precisions of 1-grams and 2-grams.",
    ),
    against_references(
        "bleu_3",
        Family::Bleu(3),
        "coco-caption",
        Scale::Unit,
        "Geometric mean of the clipped precisions of 1-grams to 3-grams.",
    ),
    against_references(
        "bleu_4",
        Family::Bleu(4),
        "coco-caption",
        Scale::Unit,
        "Geometric mean of the clipped precisions of 1-grams to 4-grams.",
    ),
    against_references(
        "rouge_l_coco",
        Family::RougeL,
        "coco-caption",
        Scale::Unit,
        "F-measure (beta 1.2) of the longest common subsequence.",
    ),
    against_references(
        "cider_d",
        Family::CiderD,
        "coco-caption",
        Scale::Ten,
        "Consensus of tf-idf weighted n-grams, clipped, with a length penalty: what papers call CIDEr.",
    ),
    against_references(
        "cider",
        Family::Cider,
        "original",
        Scale::Ten,
        "Consensus of tf-idf weighted n-grams, neither clipped nor penalised for length.",
    ),
    about_adjectives("adjectives", Family::Adjectives, Scale::PerDescription, "Adjectives per description."),
    about_adjectives(
        "adjectives_per_100_words",
        Family::AdjectivesPerHundred,
        Scale::PerHundredWords,
        "Adjectives per hundred words.",
    ),
    about_adjectives(
        "adjectives_share",
        Family::AdjectivesShare,
        Scale::Unit,
        "Share of descriptions with at least one adjective.",
    ),
    without_interval(about_adjectives(
        "adjectives_distinct",
        Family::AdjectivesDistinct,
        Scale::Count,
        "Different adjectives in all descriptions together.",
    )),
    without_interval(about_adjectives(
        "adjectives_total",
        Family::AdjectivesTotal,
        Scale::Count,
        "Adjectives in all descriptions together.",
    )),
    against_source(
        "pairs_kept",
        Family::PairsKept,
        "Share of the source's attribute-object pairs that the text keeps.",
    ),
    against_source(
        "pairs_all_kept",
        Family::PairsAllKept,
        "Share of texts that keep every attribute-object pair of their source.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_fit_for_keys() {
        for (at, metric) in METRICS.iter().enumerate() {
            assert!(METRICS[at + 1..].iter().all(|other| other.name != metric.name), "{}", metric.name);
            assert!(
                metric.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                "{}",
                metric.name
            );
            assert!(metric.about.ends_with('.'), "{}", metric.name);
        }
    }
}
