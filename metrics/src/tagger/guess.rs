//! Tags for words outside the lexicon of the model: shape first, then endings, with an eye on the neighbours.

use super::Tag;
use super::words::{ADJECTIVE_ENDINGS, ADJECTIVES, HYPHEN_ADJECTIVES, NOUN_ENDINGS, PREFIXES};

/// Looks a word up in the lexicon.
pub(super) type Lexicon<'a> = dyn Fn(&str) -> Option<Tag> + 'a;

/// A word outside the lexicon with what stands around it.
struct Unknown<'a> {
    word: &'a str,
    lower: String,
    before: Option<Tag>,
    after: Option<Tag>,
    next: &'a str,
    opens: bool,
}

/// Fills every gap among the tags of one sentence, from right to left, so that a guess can see what follows.
pub(super) fn complete(words: &[String], known: &[Option<Tag>], lexicon: &Lexicon<'_>) -> Vec<Tag> {
    let mut tags: Vec<Option<Tag>> = known.to_vec();
    for at in (0..words.len()).rev() {
        let lower_name = known[at] == Some(Tag::ProperNoun) && !words[at].starts_with(char::is_uppercase);
        if known[at].is_some() && !lower_name {
            continue;
        }
        let guessed = unknown(words, &tags, at).tag(lexicon);
        // The lexicon calls some words names that are none in lower case (`starry`).
        if !lower_name || guessed == Tag::Adjective {
            tags[at] = Some(guessed);
        }
    }
    tags.into_iter().map(|tag| tag.unwrap_or(Tag::Noun)).collect()
}

fn unknown<'a>(words: &'a [String], tags: &[Option<Tag>], at: usize) -> Unknown<'a> {
    Unknown {
        word: &words[at],
        lower: words[at].to_lowercase(),
        before: at.checked_sub(1).and_then(|before| tags[before]),
        after: tags.get(at + 1).copied().flatten(),
        next: words.get(at + 1).map_or("", String::as_str),
        opens: words[..at].iter().all(|word| !word.contains(char::is_alphanumeric)),
    }
}

impl Unknown<'_> {
    fn tag(&self, lexicon: &Lexicon<'_>) -> Tag {
        if !self.word.contains(char::is_alphanumeric) {
            return Tag::Punctuation;
        }
        if self.word.contains(|c: char| c.is_numeric()) {
            return self.numeric();
        }
        if self.word.starts_with(char::is_uppercase) && !self.opens {
            return self.capitalised();
        }
        match self.lower.rsplit_once('-') {
            Some((first, last)) if !first.is_empty() && !last.is_empty() => self.hyphened(last, lexicon),
            _ => self.plain(lexicon),
        }
    }

    fn before_noun_phrase(&self) -> bool {
        matches!(self.after, Some(Tag::Noun | Tag::Adjective))
    }

    fn numeric(&self) -> Tag {
        let digits = self.lower.trim_end_matches(char::is_alphabetic);
        let ordinal = digits.chars().all(|c| c.is_ascii_digit())
            && matches!(&self.lower[digits.len()..], "st" | "nd" | "rd" | "th");
        if ordinal {
            Tag::Adjective
        } else if self.word.starts_with(char::is_numeric) {
            Tag::Numeral
        } else {
            Tag::ProperNoun
        }
    }

    /// A capital inside a sentence is a name, except in words for peoples and places that describe (`Icelandic waters`).
    fn capitalised(&self) -> Tag {
        let people = ["ian", "ese", "ish", "ean", "an", "ic", "i"].iter().any(|ending| self.lower.ends_with(ending));
        let lower_follows = self.next.starts_with(char::is_lowercase) && self.before_noun_phrase();
        if lower_follows && (people && self.lower.len() > 4 || self.word.contains('-')) {
            Tag::Adjective
        } else {
            Tag::ProperNoun
        }
    }

    fn hyphened(&self, last: &str, lexicon: &Lexicon<'_>) -> Tag {
        let describes = last.ends_with("ed") || lexicon(last) == Some(Tag::Adjective);
        let may_describe = last.ends_with("ing") || HYPHEN_ADJECTIVES.contains(&last);
        let noun_follows = self.after == Some(Tag::Noun)
            || may_describe && self.after.is_some_and(|tag| tag.is_noun() || tag == Tag::Adjective);
        if describes || noun_follows { Tag::Adjective } else { Tag::Noun }
    }

    fn plain(&self, lexicon: &Lexicon<'_>) -> Tag {
        let word = self.lower.as_str();
        if ADJECTIVES.contains(&word) || is_compared(word, lexicon) || is_noun_with_y(word, lexicon) {
            Tag::Adjective
        } else if word.ends_with("ly") && word.len() > 4 {
            Tag::Adverb
        } else if ends_with_any(word, NOUN_ENDINGS) || is_verb_with_al(word, lexicon) {
            Tag::Noun
        } else if is_prefixed_adjective(word, lexicon) {
            Tag::Adjective
        } else if word.ends_with('s') && !["ous", "ss", "us"].iter().any(|ending| word.ends_with(ending)) {
            self.plural_or_verb()
        } else {
            self.by_ending(word)
        }
    }

    fn plural_or_verb(&self) -> Tag {
        let verb = matches!(self.before, Some(Tag::Pronoun | Tag::ProperNoun))
            && matches!(self.after, Some(Tag::Determiner | Tag::Pronoun));
        if verb { Tag::Verb } else { Tag::Noun }
    }

    fn ends_like_adjective(&self, word: &str) -> bool {
        let ambiguous = word.ends_with("ant") || word.ends_with("ent");
        word.len() > 4 && ends_with_any(word, ADJECTIVE_ENDINGS) || ambiguous && self.before_noun_phrase()
    }

    fn by_ending(&self, word: &str) -> Tag {
        let after_determiner = matches!(self.before, Some(Tag::Determiner | Tag::Adjective));
        if word.ends_with("ed") {
            if after_determiner && self.before_noun_phrase() { Tag::Adjective } else { Tag::Verb }
        } else if word.ends_with("ing") {
            Tag::Verb
        } else if self.ends_like_adjective(word) {
            Tag::Adjective
        } else if self.before == Some(Tag::Particle) {
            Tag::Verb
        } else {
            Tag::Noun
        }
    }
}

fn ends_with_any(word: &str, endings: &[&str]) -> bool {
    endings.iter().any(|ending| word.ends_with(ending))
}

/// A known adjective in the comparative or superlative (`tallest`).
fn is_compared(word: &str, lexicon: &Lexicon<'_>) -> bool {
    ["est", "er"].iter().any(|ending| {
        word.strip_suffix(ending)
            .is_some_and(|stem| stems(stem).iter().any(|stem| lexicon(stem) == Some(Tag::Adjective)))
    })
}

/// A known noun or verb with `-y` (`leafy`, `grainy`, `hilly`), not one of the nouns that end so.
fn is_noun_with_y(word: &str, lexicon: &Lexicon<'_>) -> bool {
    let Some(stem) = word.strip_suffix('y') else { return false };
    let nouns = ["ary", "cy", "ery", "gy", "ity", "phy", "ory"];
    stem.len() > 2
        && !ends_with_any(word, &nouns)
        && stems(stem).iter().any(|stem| matches!(lexicon(stem), Some(Tag::Noun | Tag::Verb)))
}

/// A known verb with `-al` (`dismissal`).
fn is_verb_with_al(word: &str, lexicon: &Lexicon<'_>) -> bool {
    word.strip_suffix("al").is_some_and(|stem| stems(stem).iter().any(|stem| lexicon(stem) == Some(Tag::Verb)))
}

fn is_prefixed_adjective(word: &str, lexicon: &Lexicon<'_>) -> bool {
    PREFIXES
        .iter()
        .filter_map(|prefix| word.strip_prefix(prefix))
        .any(|rest| rest.len() > 3 && lexicon(rest) == Some(Tag::Adjective))
        || word.starts_with("un") && word.ends_with("ed") && word.len() > 6
}

/// What a word may have been before an ending was put to it: as it is, with `e`, without a doubled letter, with `y` for `i`.
fn stems(stem: &str) -> Vec<String> {
    let mut stems = vec![stem.to_owned(), format!("{stem}e")];
    let mut backwards = stem.chars().rev();
    if let (Some(last), Some(before)) = (backwards.next(), backwards.next()) {
        let shorter = &stem[..stem.len() - last.len_utf8()];
        if last == before {
            stems.push(shorter.to_owned());
        }
        if last == 'i' {
            stems.push(format!("{shorter}y"));
        }
    }
    stems
}
