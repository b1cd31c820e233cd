//! The character classes of the tokenizer, as fragments of regular expressions.
//!
//! What the reference implementation takes for a letter or a symbol was fixed with the Unicode of its day; both sets were
//! read off its behaviour, code point by code point. Everything in no class is dropped without a trace, as it is there.

/// Letters: those of Unicode 6.1, less a few vowel signs that became letters only later.
pub(super) const LETTER: &str = r"[\p{L}&&\p{age:6.1}--[\u19B0-\u19C0\u19C8\u19C9\u1CF2\u1CF3]]";

/// Decimal digits of every script.
pub(super) const DIGIT: &str = r"[\p{Nd}&&\p{age:6.1}]";

/// Signs that count as letters inside words: combining marks and modifiers, the soft hyphen, digits of other scripts.
pub(super) const MARK: &str = concat!(
    r"[\u00AD\u02C2-\u02C5\u02D2-\u02DF\u02E5-\u02EB\u02ED\u02EF-\u036F\u0375\u0378\u0379\u0384\u0385\u03F6\u0483-\u0487",
    r"\u055A-\u055F\u0591-\u05BD\u05BF\u05C1\u05C2\u05C4\u05C5\u05C7\u0615-\u061A\u064B-\u065E\u0670\u06D6-\u06E4",
    r"\u06E7-\u06ED\u06FD\u06FE\u070F\u0711\u0730-\u074C\u07A6-\u07B0\u07EB-\u07F3\u0900-\u0903\u093C\u093E-\u094E",
    r"\u0951-\u0955\u0962\u0963\u0981-\u0983\u09BC\u09BE-\u09C4\u09C7\u09C8\u09CB-\u09CD\u09D7\u09E2\u09E3\u0A01-\u0A03",
    r"\u0A3C\u0A3E-\u0A4F\u0A81-\u0A83\u0ABC\u0ABE-\u0ACF\u0B82\u0BBE-\u0BC2\u0BC6-\u0BC8\u0BCA-\u0BCD\u0C01-\u0C03",
    r"\u0C3E-\u0C56\u0D3E-\u0D44\u0D46-\u0D48\u0E31\u0E34-\u0E3A\u0E47-\u0E4E\u0EB1\u0EB4-\u0EBC\u0EC8-\u0ECD\u1885\u1886",
    r"[\p{Nd}&&\p{age:6.1}--[0-9]]]",
);

/// Signs that are tokens of their own.
pub(super) const SYMBOL: &str = concat!(
    r"[!-/:-@\[-`{-~\u00A1\u00A5-\u00A9\u00AC\u00AE-\u00B1\u00B4\u00B6-\u00B8\u00BF\u00D7\u00F7\u037E\u0387\u0589\u05BE",
    r"\u05C0\u05C3\u05C6\u05F3\u05F4\u0600-\u0603\u0606-\u060C\u0614\u061B\u061E\u061F\u066A\u066D\u06D4\u0700-\u070D",
    r"\u07F6-\u07F8\u0964\u0965\u0E3F\u0E4F\u1FBD\u2016\u2017\u2020-\u2023\u2030-\u2038\u203B\u203E-\u2042\u2044\u207A-\u207E",
    r"\u208A-\u208E\u20A4\u2100\u2101\u2103-\u2106\u2108\u2109\u2114\u2116-\u2118\u211E-\u2123\u2125\u2127\u2129\u212E",
    r"\u213A\u213B\u2140-\u2144\u214A-\u214D\u214F\u2155-\u215E\u2190-\u2BFF\u3001\u3002\u3012\u30FB\uFF01-\uFF0F",
    r"\uFF1A-\uFF20\uFF3B-\uFF40\uFF5B-\uFF65\uFFE0\uFFE1\uFFE5\uFFE6]",
);

/// White space that separates tokens, line breaks apart.
pub(super) const SPACE: &str = r"[ \t\u00A0\u2000-\u200A\u3000]";

/// Whether a character is in [`SPACE`].
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{A0}' | '\u{2000}'..='\u{200A}' | '\u{3000}')
}

/// Whether a character breaks lines; such characters are read as spaces, because a caption is one line.
pub(super) fn is_line_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{0B}' | '\u{0C}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}
