//! CIDEr-D and CIDEr (Vedantam, Zitnick, Parikh 2015), as coco-caption and its authors compute them.
//!
//! With `tf` the count of an n-gram in a caption, `df` the number of items whose references hold it and `N` the number of items,
//! a caption is one vector per order n = 1..4: `v(g) = tf(g) * (ln N - ln max(1, df(g)))`. For a hypothesis `h` and a
//! reference `r` of one item:
//!
//! ```text
//! CIDEr   sim_n = sum_g v_h(g) v_r(g) / (|v_h| |v_r|)
//! CIDEr-D sim_n = sum_g min(v_h(g), v_r(g)) v_r(g) / (|v_h| |v_r|) * exp(-(b_h - b_r)² / (2 * 6²)),   b = number of bigrams
//! score = 10 * mean over references of the mean over n of sim_n,   corpus = mean over items
//! ```
//!
//! What papers print as CIDEr from coco-caption is **CIDEr-D**. Words are not stemmed. With one document every weight is 0, so
//! frequencies from outside are needed then.

use rustc_hash::FxHashMap;

use crate::ngrams::{Caption, Counts, Gram, ORDERS, Vocabulary, order_index};
use crate::ptb;

const SIGMA: f64 = 6.0;

/// In how many documents (items) each n-gram stands, and how many documents there are.
#[derive(Clone, Debug, Default)]
pub struct DocumentFrequencies {
    pub(crate) vocabulary: Vocabulary,
    counts: FxHashMap<Gram, u32>,
    documents: usize,
}

impl DocumentFrequencies {
    /// The frequencies of a corpus: for every item its references, as raw text.
    pub fn of_corpus<'a, R>(items: impl IntoIterator<Item = R>) -> Self
    where
        R: IntoIterator<Item = &'a str>,
    {
        let mut frequencies = Self::default();
        for references in items {
            let counts: Vec<Counts> = references
                .into_iter()
                .map(|text| Caption::new(&ptb::tokenize(text), |word| frequencies.vocabulary.learn(word)).counts())
                .collect();
            frequencies.add(&counts);
        }
        frequencies
    }

    /// How many documents were counted.
    #[must_use]
    pub fn documents(&self) -> usize {
        self.documents
    }

    /// Counts one more document, given the n-grams of each of its references.
    pub(crate) fn add(&mut self, references: &[Counts]) {
        self.documents += 1;
        let mut seen: Vec<Gram> = references.iter().flat_map(|counts| counts.keys().copied()).collect();
        seen.sort_unstable();
        seen.dedup();
        for gram in seen {
            *self.counts.entry(gram).or_default() += 1;
        }
    }

    fn weight(&self, gram: Gram, log_documents: f64) -> f64 {
        let frequency = self.counts.get(&gram).copied().unwrap_or(0).max(1);
        log_documents - f64::from(frequency).ln()
    }

    /// The vector of one caption.
    pub(crate) fn vector(&self, counts: &Counts) -> Vector {
        let log_documents = (self.documents.max(1) as f64).ln();
        let mut vector = Vector { weights: FxHashMap::default(), norms: [0.0; ORDERS], bigrams: 0 };
        vector.weights.reserve(counts.len());
        for (&gram, &count) in counts {
            let value = f64::from(count) * self.weight(gram, log_documents);
            let order = order_index(gram);
            vector.norms[order] += value * value;
            vector.weights.insert(gram, value);
            if order == 1 {
                vector.bigrams += count;
            }
        }
        vector.norms = vector.norms.map(f64::sqrt);
        vector
    }
}

/// One caption as CIDEr sees it.
#[derive(Clone, Debug)]
pub(crate) struct Vector {
    weights: FxHashMap<Gram, f64>,
    norms: [f64; ORDERS],
    bigrams: u32,
}

/// The two scores of one item, each in 0..=10.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CiderScores {
    pub(crate) cider: f64,
    pub(crate) cider_d: f64,
}

/// Both scores of a hypothesis against the references of its item; 0 without references.
pub(crate) fn cider(hypothesis: &Vector, references: &[Vector]) -> CiderScores {
    let mut sums = CiderScores { cider: 0.0, cider_d: 0.0 };
    for reference in references {
        let (plain, clipped) = products(hypothesis, reference);
        let difference = f64::from(hypothesis.bigrams) - f64::from(reference.bigrams);
        let penalty = (-(difference * difference) / (2.0 * SIGMA * SIGMA)).exp();
        for order in 0..ORDERS {
            let norm = hypothesis.norms[order] * reference.norms[order];
            if norm > 0.0 {
                sums.cider += plain[order] / norm;
                sums.cider_d += clipped[order] / norm * penalty;
            }
        }
    }
    let scale = 10.0 / (ORDERS * references.len().max(1)) as f64;
    CiderScores { cider: sums.cider * scale, cider_d: sums.cider_d * scale }
}

/// The dot product of two captions by order, plain and with the hypothesis clipped at the reference.
fn products(hypothesis: &Vector, reference: &Vector) -> ([f64; ORDERS], [f64; ORDERS]) {
    let (mut plain, mut clipped) = ([0.0; ORDERS], [0.0; ORDERS]);
    for (gram, &mine) in &hypothesis.weights {
        if let Some(&theirs) = reference.weights.get(gram) {
            let order = order_index(*gram);
            plain[order] += mine * theirs;
            clipped[order] += mine.min(theirs) * theirs;
        }
    }
    (plain, clipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(hypothesis: &str, references: &[&str], corpus: &[&[&str]]) -> CiderScores {
        let mut frequencies =
            DocumentFrequencies::of_corpus(corpus.iter().map(|references| references.iter().copied()));
        let mut vector = |text: &str| {
            let caption = Caption::new(&ptb::tokenize(text), |word| frequencies.vocabulary.learn(word));
            frequencies.vector(&caption.counts())
        };
        let references: Vec<Vector> = references.iter().map(|text| vector(text)).collect();
        let hypothesis = vector(hypothesis);
        cider(&hypothesis, &references)
    }

    #[test]
    fn the_same_rare_caption_scores_ten() {
        let scores = score(
            "a red house by the sea",
            &["a red house by the sea"],
            &[&["a red house by the sea"], &["two dogs run"]],
        );
        assert!((scores.cider - 10.0).abs() < 1e-9 && (scores.cider_d - 10.0).abs() < 1e-9, "{scores:?}");
    }

    #[test]
    fn n_grams_of_every_document_weigh_nothing() {
        let scores = score("a dog", &["a dog"], &[&["a dog"], &["a dog runs"]]);
        assert_eq!(scores, CiderScores { cider: 0.0, cider_d: 0.0 });
    }

    #[test]
    fn repetition_pays_in_cider_but_not_in_cider_d() {
        let corpus: &[&[&str]] = &[&["red house stands here"], &["two dogs run"]];
        let once = score("red house", &["red house stands here"], corpus);
        let often = score("red house red house red house", &["red house stands here"], corpus);
        assert!(often.cider_d < once.cider_d, "{often:?} {once:?}");
        assert!(often.cider > often.cider_d);
    }
}
