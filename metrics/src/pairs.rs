//! Attribute–object pairs: does a rewritten description keep which object has which colour?
//!
//! A pair is an attribute word (by default a basic colour term) and the noun it stands before: the last noun of the noun phrase
//! that follows, in the singular and in lower case. `a small shiny red sports car` gives `(red, car)`; `a black and white cat`
//! gives `(black, cat)` and `(white, cat)`. The phrase runs over adjectives, nouns and numbers; before its first noun also over
//! `and` or a comma with an adjective behind it, and over an adverb before an adjective. A possessive ends it (`a red man's hat`
//! is about the man), and so does an attribute word after a noun.
//!
//! Where the tagger finds no noun, two fallbacks apply: the last adjective behind the attribute (`the red light`), else a word
//! taken for a verb right where the noun should be (`a red float`), if a determiner opened the phrase. An attribute with no
//! object behind it (`a man in red`, `the house is red`) gives no pair.

use std::collections::BTreeMap;

use crate::adjectives::Tagged;
use crate::stats::Share;
use crate::tagger::Tag;

/// The eleven basic colour terms (Berlin and Kay 1969).
pub const COLOURS: [&str; 11] =
    ["black", "white", "red", "green", "yellow", "blue", "brown", "orange", "pink", "purple", "grey"];

/// The words that count as attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeWords {
    name: String,
    words: Vec<String>,
}

impl Default for AttributeWords {
    fn default() -> Self {
        Self { name: "colours-11".to_owned(), words: COLOURS.iter().map(|&word| word.to_owned()).collect() }
    }
}

impl AttributeWords {
    /// A list of one's own; case is ignored, and `gray` is read as `grey`.
    #[must_use]
    pub fn new(words: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut words: Vec<String> = words.into_iter().map(|word| canonical(word.as_ref())).collect();
        words.sort_unstable();
        words.dedup();
        Self { name: words.join(","), words }
    }

    /// What signatures say about the list.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn find(&self, word: &str) -> Option<String> {
        let word = canonical(word);
        self.words.contains(&word).then_some(word)
    }
}

fn canonical(word: &str) -> String {
    let lower = word.to_lowercase();
    if lower == "gray" { "grey".to_owned() } else { lower }
}

/// The pairs of one text and how often each stands there.
pub type Pairs = BTreeMap<(String, String), usize>;

/// All pairs of a tagged text.
#[must_use]
pub fn pairs(text: &Tagged, attributes: &AttributeWords) -> Pairs {
    let mut found = Pairs::new();
    for (at, word) in text.words.iter().enumerate() {
        if let Some(attribute) = attributes.find(word)
            && let Some(object) = object(text, at, attributes)
        {
            *found.entry((attribute, object)).or_default() += 1;
        }
    }
    found
}

/// How many of the source's pairs a text has kept, out of how many; pairs are counted with repetition.
#[must_use]
pub fn kept(source: &Pairs, text: &Pairs) -> Share {
    let both = source.iter().map(|(pair, &count)| count.min(text.get(pair).copied().unwrap_or(0)));
    Share { part: both.sum::<usize>() as f64, whole: source.values().sum::<usize>() as f64 }
}

/// The object of the attribute at a position.
fn object(text: &Tagged, attribute: usize, attributes: &AttributeWords) -> Option<String> {
    let (mut noun, mut adjective) = (None, None);
    let mut at = attribute + 1;
    while at < text.words.len() {
        let is_attribute = attributes.find(&text.words[at]).is_some();
        match text.tags[at] {
            _ if is_attribute && noun.is_some() => break,
            _ if is_attribute => {}
            tag if tag.is_noun() => {
                noun = Some(at);
                if possessor(&text.words[at]).is_some() {
                    break;
                }
            }
            Tag::Adjective => adjective = Some(at),
            Tag::Numeral => {}
            _ if noun.is_none() && links(text, at, attributes) => {}
            _ => break,
        }
        at += 1;
    }
    let head =
        noun.or_else(|| adjective.filter(|&last| last + 1 == at)).or_else(|| mistaken_verb(text, attribute, at))?;
    let word = possessor(&text.words[head]).unwrap_or(&text.words[head]);
    Some(singular(&word.to_lowercase()))
}

/// Whether a word joins what stands before it to an adjective behind it: `and`, a comma, an adverb, or a comma and an adverb.
fn links(text: &Tagged, at: usize, attributes: &AttributeWords) -> bool {
    let adverb = text.tags[at] == Tag::Adverb;
    let joins = adverb || matches!(text.words[at].to_lowercase().as_str(), "and" | "or" | "," | "&");
    let Some(next) = text.words.get(at + 1) else { return false };
    let describes = text.tags[at + 1] == Tag::Adjective || attributes.find(next).is_some();
    joins && (describes || !adverb && text.tags[at + 1] == Tag::Adverb && links(text, at + 1, attributes))
}

/// A word tagged as a verb where the noun of a phrase with a determiner should stand.
fn mistaken_verb(text: &Tagged, attribute: usize, at: usize) -> Option<usize> {
    let opened = text.tags[..attribute].iter().rev().find(|&&tag| tag != Tag::Adjective);
    let ends = text.tags.get(at + 1).is_none_or(|next| !matches!(next, Tag::Determiner | Tag::Pronoun));
    (opened == Some(&Tag::Determiner) && ends && text.tags.get(at) == Some(&Tag::Verb)).then_some(at)
}

/// The owner in a possessive.
fn possessor(word: &str) -> Option<&str> {
    ["'s", "’s"].iter().find_map(|ending| word.strip_suffix(ending)).filter(|owner| !owner.is_empty())
}

/// Nouns whose plural no rule gives.
const IRREGULAR: &[(&str, &str)] = &[
    ("children", "child"),
    ("feet", "foot"),
    ("geese", "goose"),
    ("knives", "knife"),
    ("leaves", "leaf"),
    ("men", "man"),
    ("mice", "mouse"),
    ("people", "person"),
    ("scarves", "scarf"),
    ("shelves", "shelf"),
    ("teeth", "tooth"),
    ("wolves", "wolf"),
    ("women", "woman"),
];

/// The singular of a noun in lower case, by a few rules: enough to match a text with its rewriting.
fn singular(noun: &str) -> String {
    if let Some((_, singular)) = IRREGULAR.iter().find(|(plural, _)| *plural == noun) {
        return (*singular).to_owned();
    }
    if let Some(stem) = noun.strip_suffix("ies").filter(|stem| stem.len() > 1) {
        return format!("{stem}y");
    }
    for ending in ["ches", "shes", "xes", "sses", "zes", "uses"] {
        if noun.ends_with(ending) && noun.len() > ending.len() && noun != "houses" {
            return noun[..noun.len() - "es".len()].to_owned();
        }
    }
    match noun.strip_suffix('s') {
        Some(stem) if stem.len() > 1 && !stem.ends_with(['s', 'u', 'i']) => stem.to_owned(),
        _ => noun.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tagger::Tagger;

    fn found(text: &str) -> Vec<String> {
        let pairs = pairs(&Tagged::new(text, &Tagger::new()), &AttributeWords::default());
        pairs.iter().flat_map(|((attribute, object), &count)| vec![format!("{attribute} {object}"); count]).collect()
    }

    #[test]
    fn the_object_is_the_last_noun_of_the_phrase() {
        assert_eq!(
            found("a small shiny red sports car next to an old leafy green tree, beside a black and white cat"),
            ["black cat", "green tree", "red car", "white cat"]
        );
    }

    #[test]
    fn plain_lists_give_one_pair_each() {
        assert_eq!(
            found("there is a red house , a blue car and a white star in the city"),
            ["blue car", "red house", "white star"]
        );
        assert_eq!(found("a delicate fragrant white flower"), ["white flower"]);
    }

    #[test]
    fn the_colour_may_stand_anywhere_among_the_adjectives() {
        for text in
            ["a bright shiny fast red car", "a red shiny car", "a bright red shiny fast car", "a red, very shiny car"]
        {
            assert_eq!(found(text), ["red car"], "{text}");
        }
    }

    #[test]
    fn plurals_and_repetitions_count() {
        assert_eq!(found("two red cars and a red car"), ["red car", "red car"]);
        assert_eq!(found("white houses, green leaves, brown buses"), ["brown bus", "green leaf", "white house"]);
    }

    #[test]
    fn an_attribute_without_an_object_gives_nothing() {
        for text in ["a man in red", "the house is red.", "an orange on a plate", "red", ""] {
            assert_eq!(found(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn possessives_end_the_phrase_and_spelling_of_grey_does_not_matter() {
        assert_eq!(found("a gray dog's bone"), ["grey dog"]);
    }

    #[test]
    fn adjectives_stand_in_for_nouns_the_tagger_missed() {
        assert_eq!(found("a car waits at the red light"), ["red light"]);
    }

    #[test]
    fn kept_pairs_are_counted_as_multisets() {
        let tagger = Tagger::new();
        let read = |text: &str| pairs(&Tagged::new(text, &tagger), &AttributeWords::default());
        let source = read("a red car, a red car and a blue boat");
        assert_eq!(kept(&source, &read("a fast red car and a blue boat")), Share { part: 2.0, whole: 3.0 });
        assert_eq!(kept(&source, &read("a blue car and a red boat")), Share { part: 0.0, whole: 3.0 });
    }

    #[test]
    fn lists_of_ones_own_are_named_in_full() {
        let words = AttributeWords::new(["Wooden", "metal", "wooden"]);
        assert_eq!(words.name(), "metal,wooden");
        let text = Tagged::new("a wooden boat and a metal ball", &Tagger::new());
        assert_eq!(pairs(&text, &words).len(), 2);
    }
}
