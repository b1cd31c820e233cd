//! Adjectives in descriptions: how many, how often, how varied.
//!
//! A word is a token with a letter or digit; contractions are one word. What counts as an adjective is decided by [`Tagger`].

use std::collections::BTreeSet;

use crate::ptb;
use crate::tagger::{Tag, Tagger};

/// Clitics that the tagger wants with the word before them.
const CLITICS: [&str; 7] = ["n't", "'s", "'m", "'d", "'re", "'ve", "'ll"];

/// A description with its parts of speech.
#[derive(Clone, Debug, PartialEq)]
pub struct Tagged {
    /// Words and punctuation, in their own case.
    pub words: Vec<String>,
    /// One tag per word.
    pub tags: Vec<Tag>,
}

impl Tagged {
    /// Cuts a text into words and tags them.
    #[must_use]
    pub fn new(text: &str, tagger: &Tagger) -> Self {
        let words = words(text);
        let tags = tagger.tag(&words);
        Self { words, tags }
    }

    /// Words, punctuation left out.
    #[must_use]
    pub fn word_count(&self) -> usize {
        self.words.iter().filter(|word| word.contains(char::is_alphanumeric)).count()
    }

    /// The adjectives in lower case, in order, repetitions included.
    #[must_use]
    pub fn adjectives(&self) -> Vec<String> {
        let pairs = self.words.iter().zip(&self.tags);
        pairs.filter(|(_, tag)| **tag == Tag::Adjective).map(|(word, _)| word.to_lowercase()).collect()
    }
}

/// The words of a text as the tagger reads them: Penn Treebank tokens with contractions joined and signs as they are written.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for token in ptb::cased_tokens(text) {
        match words.last_mut() {
            Some(last) if CLITICS.contains(&token.to_lowercase().as_str()) && last.ends_with(char::is_alphabetic) => {
                last.push_str(&token);
            }
            _ => words.push(written(token)),
        }
    }
    words
}

fn written(token: String) -> String {
    let sign = match token.as_str() {
        "-lrb-" => "(",
        "-rrb-" => ")",
        "-lsb-" => "[",
        "-rsb-" => "]",
        "-lcb-" => "{",
        "-rcb-" => "}",
        "``" | "''" => "\"",
        "`" => "'",
        _ => return token,
    };
    sign.to_owned()
}

/// What one description contributes to the adjective metrics.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AdjectiveCounts {
    pub(crate) words: usize,
    pub(crate) adjectives: Vec<String>,
}

impl AdjectiveCounts {
    pub(crate) fn new(tagged: &Tagged) -> Self {
        Self { words: tagged.word_count(), adjectives: tagged.adjectives() }
    }

    /// Different adjectives of this description.
    pub(crate) fn distinct(&self) -> usize {
        self.adjectives.iter().collect::<BTreeSet<_>>().len()
    }
}

/// Different adjectives of all descriptions together.
pub(crate) fn distinct<'a>(items: impl IntoIterator<Item = &'a AdjectiveCounts>) -> usize {
    items.into_iter().flat_map(|item| &item.adjectives).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adjectives(text: &str) -> Vec<String> {
        Tagged::new(text, &Tagger::new()).adjectives()
    }

    #[test]
    fn adjectives_of_a_description_are_found() {
        assert_eq!(
            adjectives("a small shiny red car next to an old leafy tree"),
            ["small", "shiny", "red", "old", "leafy"]
        );
        assert_eq!(adjectives("Two dogs run across the street."), Vec::<String>::new());
    }

    #[test]
    fn unknown_words_are_judged_by_their_endings() {
        assert_eq!(adjectives("a glossy snowless starry night"), ["glossy", "snowless", "starry"]);
    }

    #[test]
    fn participles_count_before_the_noun_they_describe() {
        assert_eq!(adjectives("a pointed star above the shining sea"), ["pointed", "shining"]);
        assert_eq!(adjectives("the sun was shining"), Vec::<String>::new());
    }

    #[test]
    fn contractions_are_one_word_and_brackets_none() {
        let tagged = Tagged::new("It isn't (really) big.", &Tagger::new());
        assert_eq!(tagged.words, ["It", "isn't", "(", "really", ")", "big", "."]);
        assert_eq!(tagged.word_count(), 4);
    }

    #[test]
    fn repeated_adjectives_are_one_distinct_one() {
        let counts = AdjectiveCounts::new(&Tagged::new("a red house and a red car", &Tagger::new()));
        assert_eq!((counts.adjectives.len(), counts.distinct()), (2, 1));
    }
}
