//! Penn Treebank tokens as the coco-caption metrics use them.
//!
//! The reference is Stanford's `PTBTokenizer` 3.4.1 with `-preserveLines -lowerCase`, followed by the removal of the tokens in
//! [`PUNCTUATION`]. This is a lexer of its own, written from that program's behaviour; it differs from it in two things on
//! purpose:
//!
//! * every text is read alone: the reference lets the next line of its input decide whether a final `P.` keeps its stop;
//! * every character that breaks lines is read as a space: in the reference a carriage return shifts all later captions.
//!
//! Two traits of the reference are kept because scores depend on them: round brackets become `-lrb-` and `-rrb-` and survive
//! the removal (its list has them in capitals), and a few tokens hold a no-break space (`22 3/4`).

mod classes;
mod lexer;
mod lists;
mod rules;
mod spelling;

use std::cell::RefCell;

use lexer::Lexer;

/// The name of this tokenizer in signatures.
pub const NAME: &str = "ptb-3.4.1-coco";

/// The tokens that coco-caption removes, as its list has them.
pub const PUNCTUATION: [&str; 17] =
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"];

thread_local! {
    static LEXER: RefCell<Lexer> = RefCell::new(Lexer::new());
}

/// The lower-case tokens of one caption without punctuation, as BLEU, ROUGE-L and CIDEr of coco-caption see it.
///
/// Takes any text; the result may be empty.
#[must_use]
pub fn tokenize(text: &str) -> Vec<String> {
    let mut tokens = all_tokens(text);
    tokens.retain(|token| !PUNCTUATION.contains(&token.as_str()));
    tokens
}

/// All lower-case tokens of one text, punctuation included.
#[must_use]
pub fn all_tokens(text: &str) -> Vec<String> {
    let mut tokens = cased_tokens(text);
    for token in &mut tokens {
        *token = token.to_lowercase();
    }
    tokens
}

/// All tokens of one text in their own case.
#[must_use]
pub fn cased_tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    LEXER.with_borrow_mut(|lexer| lexer.run(text, &mut tokens));
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cases: &[(&str, &str)]) {
        for (text, wanted) in cases {
            assert_eq!(all_tokens(text).join(" ").replace('\u{A0}', "~"), *wanted, "{text}");
        }
    }

    #[test]
    fn contractions_and_apostrophes() {
        check(&[
            ("He can't, won't & shouldn't've.", "he ca n't , wo n't & should n't 've ."),
            ("It’s a dog’s life", "it 's a dog 's life"),
            ("cannot gonna 'tis 'Twas", "can not gon na 't is 't was"),
            ("rock'n'roll at five o'clock, ma'am", "rock 'n' roll at five o'clock , ma'am"),
            ("the '90s, '99 and 1980's", "the '90s , '99 and 1980 's"),
            ("O'Neil, d'Artagnan and y'all", "o'neil , d'artagnan and y' all"),
        ]);
    }

    #[test]
    fn full_stops() {
        check(&[
            ("Mr. and Mrs. Smith of St. Ives at 5 p.m.", "mr. and mrs. smith of st. ives at 5 p.m."),
            ("a dog.A cat.", "a dog.a cat ."),
            ("by P. The dog", "by p . the dog"),
            ("the U.S. The dog", "the u.s. . the dog"),
            ("apples etc. The dog, figs etc. too", "apples etc. . the dog , figs etc. too"),
            ("no. 5, no. dog, fig. 3", "no. 5 , no . dog , fig. 3"),
            ("...... . . . …", "... ... ..."),
            ("Wow!!! Really?!", "wow !!! really ?!"),
        ]);
    }

    #[test]
    fn numbers_and_signs() {
        check(&[
            ("$5.00 for 50% of 1,000", "$ 5.00 for 50 % of 1,000"),
            ("22 3/4 inches, ½ cup, €5, £10", "22~3/4 inches , 1/2 cup , $ 5 , # 10"),
            ("(555) 555-1234", "-lrb-555-rrb-~555-1234"),
            ("10:30 on 2012-12-25", "10:30 on 2012-12-25"),
            ("a/b/c/d and and/or", "a/b/c / d and and/or"),
            ("[a] {b} <br /> &lt;b&gt; &amp;", "-lsb- a -rsb- -lcb- b -rcb- <br~/> < b > &"),
        ]);
    }

    #[test]
    fn the_net_and_names() {
        check(&[
            ("AT&T at&t M&Ms C++ C#", "at&t at & t m&m s c++ c#"),
            ("http://example.com/a?b=c#d.", "http://example.com/a?b=c#d ."),
            ("me@example.com @name #tag :) ^_^", "me@example.com @name #tag :-rrb- ^_^"),
        ]);
    }

    #[test]
    fn what_is_unknown_vanishes() {
        check(&[("😀 a dog 🐶", "a dog"), ("zero\u{200B}width", "zero width"), ("soft\u{AD}hyphen", "softhyphen")]);
        check(&[("", ""), (" \u{A0}\t", ""), ("\0\u{FEFF}", "")]);
    }

    #[test]
    fn captions_lose_punctuation_but_not_brackets() {
        assert_eq!(tokenize("\"A (small) dog,\" she said..."), ["a", "-lrb-", "small", "-rrb-", "dog", "she", "said"]);
    }

    #[test]
    fn the_end_of_a_text_is_no_start_of_a_sentence() {
        assert_eq!(all_tokens("sign with a P."), ["sign", "with", "a", "p."]);
    }
}
