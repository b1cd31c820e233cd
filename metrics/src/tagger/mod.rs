//! Parts of speech: a Brill tagger with rules of our own for the words it does not know.
//!
//! Three steps: the model of `harper-brill` (a lexicon of 26,900 words and 201 patches); a guess from shape, suffix and
//! neighbours for every word outside that lexicon (`guess`); a few corrections of known words in context (`context`).
//!
//! **Participles** count as adjectives where the model says so, and, for the words of `words::PARTICIPLES` and for unknown
//! words in `-ed`, where they stand between a determiner or adjective and what they describe (`a pointed star`).

mod context;
mod guess;
mod words;

use std::sync::Arc;

use harper_brill::{BrillTagger, FreqDict, Tagger as _, UPOS};

/// A part of speech, by Universal Dependencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tag {
    /// A word that describes a noun.
    Adjective,
    /// A preposition or postposition.
    Adposition,
    /// An adverb.
    Adverb,
    /// An auxiliary verb.
    Auxiliary,
    /// A coordinating or subordinating conjunction.
    Conjunction,
    /// An article or another determiner.
    Determiner,
    /// An interjection.
    Interjection,
    /// A common noun.
    Noun,
    /// A cardinal number.
    Numeral,
    /// A particle such as `to` or `not`.
    Particle,
    /// A pronoun.
    Pronoun,
    /// A name.
    ProperNoun,
    /// Punctuation or a symbol.
    Punctuation,
    /// A full verb.
    Verb,
}

impl Tag {
    /// Whether the word names something.
    #[must_use]
    pub fn is_noun(self) -> bool {
        matches!(self, Self::Noun | Self::ProperNoun)
    }

    fn from_upos(tag: UPOS) -> Self {
        match tag {
            UPOS::ADJ => Self::Adjective,
            UPOS::ADP => Self::Adposition,
            UPOS::ADV => Self::Adverb,
            UPOS::AUX => Self::Auxiliary,
            UPOS::CCONJ | UPOS::SCONJ => Self::Conjunction,
            UPOS::DET => Self::Determiner,
            UPOS::INTJ => Self::Interjection,
            UPOS::NOUN => Self::Noun,
            UPOS::NUM => Self::Numeral,
            UPOS::PART => Self::Particle,
            UPOS::PRON => Self::Pronoun,
            UPOS::PROPN => Self::ProperNoun,
            UPOS::PUNCT | UPOS::SYM => Self::Punctuation,
            UPOS::VERB => Self::Verb,
        }
    }
}

/// A part-of-speech tagger for English; the one place that knows which model is behind it.
pub struct Tagger {
    model: Arc<BrillTagger<FreqDict>>,
}

impl Default for Tagger {
    fn default() -> Self {
        Self::new()
    }
}

impl Tagger {
    /// Model and rule set, with versions; part of the signature of every metric that tags.
    pub const NAME: &'static str = "harper-brill-0.54.0+rules-1";

    /// The tagger; the model is read once per process.
    #[must_use]
    pub fn new() -> Self {
        Self { model: harper_brill::brill_tagger() }
    }

    /// One tag per word of one sentence or caption.
    #[must_use]
    pub fn tag(&self, words: &[String]) -> Vec<Tag> {
        let known: Vec<Option<Tag>> =
            self.model.tag_sentence(words).into_iter().map(|tag| tag.map(Tag::from_upos)).collect();
        let mut tags = guess::complete(words, &known, &|word| self.lookup(word));
        context::correct(words, &mut tags);
        tags
    }

    /// The commonest part of speech of a word on its own, if the lexicon has it.
    fn lookup(&self, word: &str) -> Option<Tag> {
        let alone = [word.to_owned()];
        self.model.tag_sentence(&alone).first().copied().flatten().map(Tag::from_upos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tag of the word in square brackets.
    fn tag(sentence: &str) -> Tag {
        let words: Vec<String> = sentence.split(' ').map(|word| word.trim_matches(['[', ']']).to_owned()).collect();
        let at = sentence.split(' ').position(|word| word.starts_with('[')).expect("one word is marked");
        Tagger::new().tag(&words)[at]
    }

    #[test]
    fn words_outside_the_lexicon_are_judged_by_shape_ending_and_neighbours() {
        let cases = [
            ("a [glossy] cat", Tag::Adjective),
            ("the [snowless] hills", Tag::Adjective),
            ("the [tallest] chair", Tag::Adjective),
            ("an [unpainted] fence", Tag::Adjective),
            ("a [heart-shaped] box", Tag::Adjective),
            ("he smiled [wobblingly] at her", Tag::Adverb),
            ("the [quagginess] of it", Tag::Noun),
            ("two [quaggas] stand there", Tag::Noun),
            ("we saw [Quibbleton] from afar", Tag::ProperNoun),
            ("in [Quibblian] waters", Tag::Adjective),
            ("about [12,500] people", Tag::Numeral),
            ("a dog [~] a cat", Tag::Punctuation),
        ];
        for (sentence, wanted) in cases {
            assert_eq!(tag(sentence), wanted, "{sentence}");
        }
    }

    #[test]
    fn known_words_are_corrected_in_context() {
        let cases = [
            ("a house [next] to a tree", Tag::Adverb),
            ("the [next] house", Tag::Adjective),
            ("[right] behind the car", Tag::Adverb),
            ("we need [more] people", Tag::Adjective),
            ("such a [kind] man", Tag::Adjective),
            ("a [round] smooth ball", Tag::Adjective),
            ("the [pointed] star", Tag::Adjective),
            ("they could [open] the door", Tag::Verb),
        ];
        for (sentence, wanted) in cases {
            assert_eq!(tag(sentence), wanted, "{sentence}");
        }
    }

    #[test]
    fn no_word_gives_no_tag() {
        assert_eq!(Tagger::new().tag(&[]), []);
    }
}
