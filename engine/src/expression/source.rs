//! The text of an expression, and where its parts stand in it.

use std::ops::Range;

use cel::common::ast::{Expr, IdedExpr, SourceInfo};

use super::tree::each_part;

/// Longest part of an expression that a message quotes, in characters.
const MOST_QUOTED: usize = 48;

/// The text, with the places of its tokens.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub text: String,
    info: SourceInfo,
    /// Brackets that belong together, by byte, inner ones first.
    pairs: Vec<(usize, usize)>,
}

impl Source {
    pub(super) fn new(text: &str, info: SourceInfo) -> Self {
        Self { text: text.to_owned(), info, pairs: pairs(text) }
    }

    /// A part as it is written.
    pub(super) fn quote(&self, part: &IdedExpr) -> String {
        let written = self.text.get(self.range(part)).unwrap_or(&self.text).trim();
        match written.char_indices().nth(MOST_QUOTED) {
            Some((cut, _)) => format!("{}…", &written[..cut]),
            None => written.to_owned(),
        }
    }

    /// Where a part stands, in bytes.
    pub(super) fn range(&self, part: &IdedExpr) -> Range<usize> {
        let mut range = (usize::MAX, 0);
        self.widen(part, &mut range);
        let (mut start, mut end) = range;
        if start >= end {
            return 0..self.text.len();
        }
        for (open, close) in &self.pairs {
            let (open_in, close_in) = ((start..end).contains(open), (start..end).contains(close));
            if open_in != close_in {
                (start, end) = (start.min(*open), end.max(close + 1));
            }
        }
        start..end
    }

    /// Adds the tokens of a part to a range.
    fn widen(&self, part: &IdedExpr, range: &mut (usize, usize)) {
        if let Some((first, last)) = self.info.offset_for(part.id) {
            let (mut first, last) = (first as usize, last as usize + 1);
            // The token of a call is its bracket; its name stands before it.
            let is_call = matches!(&part.expr, Expr::Call(_) | Expr::Select(_));
            let opens = self.text.get(first..).is_some_and(|rest| rest.starts_with('('));
            if let Some(before) = self.text.get(..first).filter(|_| is_call && opens) {
                let before = before.trim_end();
                first = before.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '_').len();
            }
            *range = (range.0.min(first), range.1.max(last));
        }
        each_part(part, &mut |inner| self.widen(inner, range));
        if let Expr::Select(select) = &part.expr {
            // The token of a field is its dot.
            let name = range.1 + select.field.len();
            if self.text.get(range.1..name) == Some(select.field.as_str()) {
                range.1 = name;
            }
        }
    }
}

/// Brackets that belong together; those in texts do not count.
fn pairs(text: &str) -> Vec<(usize, usize)> {
    let (mut open, mut pairs) = (Vec::new(), Vec::new());
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '(' | '[' | '{' => open.push(at),
            ')' | ']' | '}' => pairs.extend(open.pop().map(|start| (start, at))),
            quote @ ('"' | '\'') => {
                while let Some((_, inner)) = characters.next() {
                    match inner {
                        '\\' => drop(characters.next()),
                        end if end == quote => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    pairs
}
