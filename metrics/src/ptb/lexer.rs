//! The automaton that finds the longest match of all rules at once, and the loop around it.

use std::sync::LazyLock;

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::{Anchored, Input, MatchKind};

use super::classes::{is_line_break, is_space};
use super::rules::{self, Keep, RULES, Rule};
use super::spelling;

/// Memory for the states of the automaton that one lexer has met, in bytes.
const CACHE_BYTES: usize = 32 << 20;

/// How far a match may reach, in bytes. Without a limit a text that tempts every rule to look far ahead (`&&&&...`) would take
/// time quadratic in its length; tokens longer than this are cut, which no caption will notice.
const REACH: usize = 16 << 10;

static AUTOMATON: LazyLock<DFA> = LazyLock::new(|| {
    let patterns: Vec<String> = RULES.iter().map(|rule| rules::expand(rule.pattern)).collect();
    DFA::builder()
        .configure(DFA::config().match_kind(MatchKind::All).cache_capacity(CACHE_BYTES))
        .build_many(&patterns)
        .expect("the rules are constants, and a test builds them")
});

/// Cuts text into tokens by [`RULES`].
pub(super) struct Lexer {
    cache: Cache,
    text: String,
}

impl Lexer {
    pub(super) fn new() -> Self {
        Self { cache: AUTOMATON.create_cache(), text: String::new() }
    }

    /// Appends the tokens of one text, in their own case.
    pub(super) fn run(&mut self, text: &str, tokens: &mut Vec<String>) {
        self.text.clear();
        self.text.extend(text.chars().map(|c| if is_line_break(c) { ' ' } else { c }));
        // Rules look ahead to the end of the line.
        self.text.push('\n');
        let mut at = 0;
        while at < self.text.len() {
            at = match self.longest(at) {
                Some((rule, end)) => take(rule, &self.text[at..end], tokens) + at,
                None => at + self.text[at..].chars().next().map_or(1, char::len_utf8),
            };
        }
    }

    /// The rule with the longest match that starts at a position, and where the match ends.
    fn longest(&mut self, at: usize) -> Option<(&'static Rule, usize)> {
        let reach = self.text.floor_char_boundary(at.saturating_add(REACH));
        let input = Input::new(&self.text).range(at..reach).anchored(Anchored::Yes);
        let found = AUTOMATON
            .try_search_fwd(&mut self.cache, &input)
            .expect("a search fails only on quit bytes or a limit to cache clears, and neither is set")?;
        Some((&RULES[found.pattern().as_usize()], found.offset()))
    }
}

/// Writes the token of a match; gives how many bytes of it are read (at least one character).
fn take(rule: &Rule, found: &str, tokens: &mut Vec<String>) -> usize {
    let to_space = || found.find(is_space).unwrap_or(found.len());
    let (token, read) = match rule.keep {
        Keep::Whole => (found.len(), found.len()),
        Keep::ButLast(count) => {
            let end = found.char_indices().rev().nth(count - 1).map_or(0, |(index, _)| index);
            (end, end)
        }
        Keep::ToSpace => (to_space(), to_space()),
        Keep::ToSpaceStopTwice => (to_space(), to_space() - 1),
        Keep::ToSpaceLessStop => (to_space() - 1, to_space() - 1),
    };
    if let Some(token) = spelling::write(rule.spell, &found[..token]) {
        tokens.push(token);
    }
    // Every rule keeps at least one character; should one ever not, the lexer must still move on.
    read.max(found.chars().next().map_or(1, char::len_utf8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_words_are_cut() {
        let mut tokens = Vec::new();
        Lexer::new().run(&"é".repeat(REACH), &mut tokens);
        assert_eq!(tokens.len(), 2);
        assert_eq!(tokens.concat().chars().count(), REACH);
    }

    #[test]
    fn every_rule_builds_alone_and_reads_something() {
        for rule in RULES {
            let pattern = rules::expand(rule.pattern);
            let dfa = DFA::new(&pattern).unwrap_or_else(|error| panic!("rule {}: {error}", rule.name));
            let found = dfa.try_search_fwd(&mut dfa.create_cache(), &Input::new("").anchored(Anchored::Yes));
            assert!(matches!(found, Ok(None)), "rule {} matches the empty text", rule.name);
        }
    }
}
