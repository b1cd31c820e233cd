//! ROUGE-L of coco-caption (Lin 2004).
//!
//! With `lcs_i` the longest common subsequence of the hypothesis (length `h`) and reference `i` (length `r_i`), in tokens:
//!
//! ```text
//! P = max_i lcs_i / h,   R = max_i lcs_i / r_i,   F = (1 + 1.2²) P R / (R + 1.2² P),   corpus = mean over items
//! ```
//!
//! P and R may come from different references. A caption without tokens is one empty token, as in the reference program:
//! an empty hypothesis scores 0 unless a reference is empty too, then 1.

use crate::ngrams::Caption;

const BETA_SQUARED: f64 = 1.2 * 1.2;

/// ROUGE-L of one hypothesis in 0..=1; 0 without references.
pub(crate) fn rouge_l(hypothesis: &Caption, references: &[Caption]) -> f64 {
    let (mut precision, mut recall) = (0.0_f64, 0.0_f64);
    for reference in references {
        let common = common_subsequence(&hypothesis.pieces, &reference.pieces) as f64;
        precision = precision.max(common / hypothesis.pieces.len() as f64);
        recall = recall.max(common / reference.pieces.len() as f64);
    }
    if precision == 0.0 || recall == 0.0 {
        return 0.0;
    }
    (1.0 + BETA_SQUARED) * precision * recall / (recall + BETA_SQUARED * precision)
}

/// The length of the longest common subsequence.
fn common_subsequence(left: &[u32], right: &[u32]) -> usize {
    let mut row = vec![0; right.len() + 1];
    for a in left {
        let mut diagonal = 0;
        for (at, b) in right.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if a == b { diagonal + 1 } else { above.max(row[at]) };
            diagonal = above;
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caption(pieces: &[u32]) -> Caption {
        Caption { words: pieces.to_vec(), pieces: pieces.to_vec() }
    }

    #[test]
    fn subsequences_need_not_be_contiguous() {
        assert_eq!(common_subsequence(&[1, 2, 3, 4], &[1, 9, 3, 8, 4]), 3);
        assert_eq!(common_subsequence(&[], &[1]), 0);
    }

    #[test]
    fn precision_and_recall_may_come_from_different_references() {
        let score = rouge_l(&caption(&[1, 2, 3, 4]), &[caption(&[1, 2, 3, 7, 8, 9]), caption(&[1])]);
        let (precision, recall) = (0.75, 1.0);
        assert!((score - 2.44 * precision * recall / (recall + 1.44 * precision)).abs() < 1e-12);
    }

    #[test]
    fn the_same_text_scores_one_and_a_foreign_one_nothing() {
        assert!((rouge_l(&caption(&[1, 2]), &[caption(&[1, 2])]) - 1.0).abs() < 1e-12);
        assert_eq!(rouge_l(&caption(&[1, 2]), &[caption(&[3])]), 0.0);
    }
}
