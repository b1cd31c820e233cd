//! Words as numbers, and n-grams of them as one number.

use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;

/// The longest n-grams counted here.
pub(crate) const ORDERS: usize = 4;

/// Up to four words in one number, the last in the lowest 32 bits. Word numbers start at 1, so orders never mix.
pub(crate) type Gram = u128;

/// How often each n-gram of orders 1 to 4 stands in a text.
pub(crate) type Counts = FxHashMap<Gram, u32>;

/// Numbers for words, in order of first sight.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vocabulary {
    ids: FxHashMap<String, u32>,
}

impl Vocabulary {
    /// The number of a word, given out now if it is new.
    pub(crate) fn learn(&mut self, word: &str) -> u32 {
        if let Some(&id) = self.ids.get(word) {
            return id;
        }
        let next = u32::try_from(self.ids.len() + 1).expect("fewer words than u32 can number");
        self.ids.insert(word.to_owned(), next);
        next
    }
}

/// Reads texts against a vocabulary that stays as it is: words outside it are numbered from the top down.
pub(crate) struct Reader<'a> {
    vocabulary: &'a Vocabulary,
    strange: FxHashMap<String, u32>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(vocabulary: &'a Vocabulary) -> Self {
        Self { vocabulary, strange: FxHashMap::default() }
    }

    /// The number of a word.
    pub(crate) fn id(&mut self, word: &str) -> u32 {
        if let Some(&id) = self.vocabulary.ids.get(word) {
            return id;
        }
        let next = u32::MAX - u32::try_from(self.strange.len()).expect("fewer words than u32 can number");
        match self.strange.entry(word.to_owned()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(free) => *free.insert(next),
        }
    }
}

/// A tokenised caption as the metrics of coco-caption read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caption {
    /// What splitting at any white space gives (BLEU, CIDEr); may be empty.
    pub(crate) words: Vec<u32>,
    /// What splitting at single spaces gives (ROUGE-L); a caption without tokens is one empty token.
    pub(crate) pieces: Vec<u32>,
}

impl Caption {
    /// A caption from its tokens; tokens may hold no-break spaces.
    pub(crate) fn new(tokens: &[String], mut id: impl FnMut(&str) -> u32) -> Self {
        let words = tokens.iter().flat_map(|token| token.split_whitespace()).map(&mut id).collect();
        let pieces = if tokens.is_empty() { vec![id("")] } else { tokens.iter().map(|token| id(token)).collect() };
        Self { words, pieces }
    }

    /// Counts the n-grams of all orders.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        counts.reserve(self.words.len() * ORDERS);
        for start in 0..self.words.len() {
            let mut gram: Gram = 0;
            for &word in self.words[start..].iter().take(ORDERS) {
                gram = gram << 32 | Gram::from(word);
                *counts.entry(gram).or_default() += 1;
            }
        }
        counts
    }
}

/// How many words an n-gram has, less one: its place in arrays by order.
pub(crate) fn order_index(gram: Gram) -> usize {
    (Gram::BITS - 1 - gram.leading_zeros()) as usize / 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caption(text: &str) -> Caption {
        let mut vocabulary = Vocabulary::default();
        let tokens: Vec<String> = text.split(' ').map(str::to_owned).collect();
        Caption::new(&tokens, |word| vocabulary.learn(word))
    }

    #[test]
    fn n_grams_of_all_orders_are_counted_apart() {
        let counts = caption("a b a b").counts();
        let mut by_order = [0; ORDERS];
        for (&gram, &count) in &counts {
            by_order[order_index(gram)] += count;
        }
        assert_eq!(by_order, [4, 3, 2, 1]);
        assert_eq!(counts.len(), 2 + 2 + 2 + 1);
    }

    #[test]
    fn a_token_with_a_no_break_space_is_two_words_and_one_piece() {
        let caption = caption("22\u{A0}3/4 inches");
        assert_eq!((caption.words.len(), caption.pieces.len()), (3, 2));
    }

    #[test]
    fn strange_words_keep_their_number_and_stay_apart_from_known_ones() {
        let mut vocabulary = Vocabulary::default();
        let known = vocabulary.learn("dog");
        let mut reader = Reader::new(&vocabulary);
        let strange = reader.id("okapi");
        assert_eq!(reader.id("dog"), known);
        assert_eq!(reader.id("okapi"), strange);
        assert_ne!(reader.id("quagga"), strange);
    }
}
