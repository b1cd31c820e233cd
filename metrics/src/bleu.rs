//! BLEU-1 to BLEU-4 of coco-caption (Papineni et al. 2002; `BleuScorer` with the closest reference length).
//!
//! With `c_k` the clipped n-gram matches, `g_k` the n-grams of the hypothesis, `l` its length and `r` the closest reference
//! length (the shorter of two equally close ones), all summed over the items:
//!
//! ```text
//! BLEU_n = (prod_{k<=n} (c_k + 1e-15) / (g_k + 1e-9))^(1/n) * min(1, exp(1 - 1/q)),  q = (l + 1e-15) / (r + 1e-9)
//! ```
//!
//! There is no smoothing: an item without a matching 4-gram has a BLEU-4 near 1e-4, not 0.

use crate::ngrams::{Caption, Counts, ORDERS, order_index};
use crate::stats::Statistic;

const TINY: f64 = 1e-15;
const SMALL: f64 = 1e-9;

/// The ten numbers of an item (or their sums over items) that BLEU of all orders is computed from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BleuCounts {
    /// Clipped matches by order.
    pub correct: [f64; ORDERS],
    /// N-grams of the hypothesis by order.
    pub guessed: [f64; ORDERS],
    /// Words of the hypothesis.
    pub length: f64,
    /// Words of the reference closest in length.
    pub reference_length: f64,
}

impl Statistic for BleuCounts {
    fn add(&mut self, other: &Self) {
        for order in 0..ORDERS {
            self.correct[order] += other.correct[order];
            self.guessed[order] += other.guessed[order];
        }
        self.length += other.length;
        self.reference_length += other.reference_length;
    }
}

impl BleuCounts {
    /// BLEU up to `order` (1 to 4), in 0..=1; orders outside that range are read as the nearest inside it.
    #[must_use]
    pub fn bleu(&self, order: usize) -> f64 {
        let order = order.clamp(1, ORDERS);
        let product: f64 = (0..order).map(|k| (self.correct[k] + TINY) / (self.guessed[k] + SMALL)).product();
        let ratio = (self.length + TINY) / (self.reference_length + SMALL);
        let brevity = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
        product.powf(1.0 / order as f64) * brevity
    }
}

/// The references of one item as BLEU needs them.
#[derive(Clone, Debug)]
pub(crate) struct BleuReferences {
    most: Counts,
    lengths: Vec<usize>,
}

impl BleuReferences {
    pub(crate) fn new(references: &[Caption], counts: &[Counts]) -> Self {
        let mut most = Counts::default();
        for counts in counts {
            for (&gram, &count) in counts {
                let seen = most.entry(gram).or_default();
                *seen = count.max(*seen);
            }
        }
        Self { most, lengths: references.iter().map(|reference| reference.words.len()).collect() }
    }

    /// The numbers of one hypothesis against these references.
    pub(crate) fn compare(&self, hypothesis: &Caption, counts: &Counts) -> BleuCounts {
        let length = hypothesis.words.len();
        let closest =
            self.lengths.iter().copied().min_by_key(|&reference| (reference.abs_diff(length), reference)).unwrap_or(0);
        let mut result =
            BleuCounts { length: length as f64, reference_length: closest as f64, ..BleuCounts::default() };
        for (order, guessed) in result.guessed.iter_mut().enumerate() {
            *guessed = length.saturating_sub(order) as f64;
        }
        for (gram, &count) in counts {
            let most = self.most.get(gram).copied().unwrap_or(0);
            result.correct[order_index(*gram)] += f64::from(count.min(most));
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ngrams::Vocabulary;

    fn counts(hypothesis: &str, references: &[&str]) -> BleuCounts {
        let mut vocabulary = Vocabulary::default();
        let mut read = |text: &str| {
            let tokens: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            Caption::new(&tokens, |word| vocabulary.learn(word))
        };
        let references: Vec<Caption> = references.iter().map(|text| read(text)).collect();
        let reference_counts: Vec<Counts> = references.iter().map(Caption::counts).collect();
        let hypothesis = read(hypothesis);
        BleuReferences::new(&references, &reference_counts).compare(&hypothesis, &hypothesis.counts())
    }

    #[test]
    fn matches_are_clipped_at_the_largest_count_in_one_reference() {
        let counts = counts("the the the the the the the", &["the cat is on the mat", "there is a cat on the mat"]);
        assert_eq!(counts.correct[0], 2.0);
        assert_eq!(counts.guessed, [7.0, 6.0, 5.0, 4.0]);
        assert!((counts.bleu(1) - 2.0 / 7.0).abs() < 1e-9);
    }

    #[test]
    fn the_shorter_of_two_equally_close_lengths_counts() {
        assert_eq!(counts("a b c", &["a b", "a b c d"]).reference_length, 2.0);
    }

    #[test]
    fn short_hypotheses_pay_by_the_brevity_penalty() {
        let bleu = counts("a b", &["a b c d"]).bleu(1);
        assert!((bleu - (1.0_f64 - 2.0).exp()).abs() < 1e-8, "{bleu}");
    }

    #[test]
    fn an_empty_hypothesis_scores_nothing() {
        assert_eq!(counts("", &["a b c d"]).bleu(4), 0.0);
    }

    #[test]
    fn the_corpus_sums_before_it_divides() {
        let mut sum = counts("a b", &["a c"]);
        sum.add(&counts("x y z w", &["x y z w"]));
        assert!((sum.bleu(1) - 5.0 / 6.0).abs() < 1e-9);
    }
}
