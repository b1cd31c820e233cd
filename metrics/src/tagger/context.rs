//! Corrections of the model's tags in context, for words it knows.

use super::Tag;
use super::words::{AFTER_RIGHT, FLAT_ADVERBS, HOMOGRAPHS, INFINITIVE, PARTICIPLES, VERBS_TOO};

/// Corrects the tags of one sentence from left to right.
pub(super) fn correct(words: &[String], tags: &mut [Tag]) {
    let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    for at in 0..tags.len() {
        let place = Place {
            word: &lower[at],
            tag: tags[at],
            previous: at.checked_sub(1).map_or("", |before| &lower[before]),
            before: at.checked_sub(1).map(|before| tags[before]),
            next: lower.get(at + 1).map_or("", String::as_str),
            after: tags.get(at + 1).copied(),
        };
        tags[at] = place.corrected();
    }
}

/// A tagged word with its neighbours.
struct Place<'a> {
    word: &'a str,
    tag: Tag,
    previous: &'a str,
    before: Option<Tag>,
    next: &'a str,
    after: Option<Tag>,
}

impl Place<'_> {
    fn corrected(&self) -> Tag {
        match self.tag {
            Tag::Adjective if self.word == "such" && matches!(self.next, "a" | "an") => Tag::Determiner,
            Tag::Adjective if VERBS_TOO.contains(&self.word) && INFINITIVE.contains(&self.previous) => Tag::Verb,
            Tag::Adjective if self.is_adverb() => Tag::Adverb,
            Tag::Adverb if self.is_quantity() || self.is_degree_before_noun() => Tag::Adjective,
            Tag::Noun if HOMOGRAPHS.contains(&self.word) && matches!(self.after, Some(Tag::Noun | Tag::Adjective)) => {
                Tag::Adjective
            }
            Tag::Noun if self.word == "kind" && self.is_kind_adjective() => Tag::Adjective,
            Tag::Adposition if self.word == "round" && self.is_attributive() => Tag::Adjective,
            Tag::Verb | Tag::Noun if PARTICIPLES.contains(&self.word) && self.is_attributive() => Tag::Adjective,
            tag => tag,
        }
    }

    /// Between a determiner or adjective and what it describes.
    fn is_attributive(&self) -> bool {
        matches!(self.before, Some(Tag::Determiner | Tag::Adjective))
            && matches!(self.after, Some(Tag::Noun | Tag::Adjective))
    }

    fn starts_noun_phrase(&self) -> bool {
        matches!(self.after, Some(Tag::Noun | Tag::Adjective | Tag::ProperNoun | Tag::Numeral))
    }

    fn is_adverb(&self) -> bool {
        match self.word {
            "next" => self.next == "to",
            "right" if AFTER_RIGHT.contains(&self.next) => true,
            "just" => self.before != Some(Tag::Determiner),
            "more" | "most" | "less" => matches!(self.after, Some(Tag::Adjective | Tag::Adverb)),
            "long" if self.is_duration() => true,
            word => {
                let free =
                    !self.starts_noun_phrase() && matches!(self.before, Some(Tag::Verb | Tag::Noun | Tag::ProperNoun));
                FLAT_ADVERBS.contains(&word) && (free || self.after == Some(Tag::Verb))
            }
        }
    }

    /// `how long`, `long ago`.
    fn is_duration(&self) -> bool {
        let asked = matches!(self.previous, "how" | "as" | "so" | "very" | "have" | "has" | "had");
        let dated = matches!(self.next, "ago" | "before" | "after" | "been");
        (asked || dated) && !matches!(self.after, Some(Tag::Noun | Tag::Adjective))
    }

    /// `more people`, `more than ten`, `most of them`, `too much.`
    fn is_quantity(&self) -> bool {
        let alone = matches!(self.after, None | Some(Tag::Noun | Tag::Punctuation));
        matches!(self.word, "more" | "most" | "less" | "much") && (alone || matches!(self.next, "than" | "of"))
    }

    /// `a further step`.
    fn is_degree_before_noun(&self) -> bool {
        matches!(self.word, "further" | "later" | "earlier")
            && self.after == Some(Tag::Noun)
            && matches!(self.before, Some(Tag::Determiner | Tag::Numeral | Tag::Adverb | Tag::Verb | Tag::Adposition))
    }

    fn is_kind_adjective(&self) -> bool {
        let graded = matches!(self.previous, "very" | "so" | "too" | "really" | "extremely" | "most" | "how");
        graded || self.before == Some(Tag::Auxiliary) && self.next != "of" || self.after == Some(Tag::Noun)
    }
}
