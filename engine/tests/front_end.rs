//! Whatever is written in a pipeline file, reading it never panics, and every complaint points into it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod toys;

use std::path::Path;

use pipe_cache::StatIndex;
use pipe_engine::graph;
use pipe_engine::spec::{Overrides, Spec, SpecError, SpecText};
use proptest::prelude::*;

/// A pipeline that uses everything the language has.
const WHOLE: &str = r#"name = "whole"
description = "täglich ✓"

[params]
ranks = [8, 16]
subject = "engraving"
limits = { low = 1, high = 2.5 }

[profiles.small]
ranks = [1]

[steps.rows]
stage = "rows"
good = 3
bad = 1
max_failed_rows = "50%"
expect = ["rows.failed <= 1", { that = "seconds < 60", otherwise = "warn" }]

[steps.train]
stage = "say"
matrix = { r = "${ranks}", p = ["a", "b,c\"]", true] }
replicates = 2
text = "An ${subject} of ${r}: ${p}"
when = "r > 8 || p != 'a'"
retries = 2
timeout = "1h 30m"
resources = { cpu = 2, net = 1, memory = "8GB" }

[steps.one]
stage = "pick"
inputs = { one = "train[r=16, p=a, replicate=0].said" }

[steps.all]
stage = "list"
inputs = { all = { base = "one", tuned = "train[r=16,*]", rows = "rows.rows" } }
"#;

/// Pieces that matter to the grammar.
const TOKENS: &[&str] = &[
    "[",
    "]",
    "{",
    "}",
    "=",
    "\"",
    "'",
    "\"\"\"",
    ",",
    ".",
    "*",
    "\n",
    "#",
    "${",
    "${r}",
    "${x",
    "train",
    "train[*]",
    "[steps.",
    "[[steps.all]]",
    "matrix = ",
    "when = ",
    "expect = ",
    "inputs = ",
    "stage = ",
    "name = ",
    "replicates = 0",
    "timeout = 1e400",
    "1e999",
    "-1",
    "0x",
    "nan",
    "9223372036854775808",
    "true",
    "é",
    "\u{0}",
    "\r",
    "&& ((",
    "[\"a\", [1]]",
    "r=8",
    "a.b.c = 1",
];

/// Values that are read well, where something else was meant.
const VALUES: &[&str] = &[
    "\"\"",
    "\"text\"",
    "\"${r}\"",
    "\"${ranks}\"",
    "\"${limits}\"",
    "\"train[*]\"",
    "\"train[r=16,*].said\"",
    "\"rows.failed <= 1\"",
    "\"r > \"",
    "\"1h\"",
    "\"500%\"",
    "\"99999999999999999TB\"",
    "-1",
    "0",
    "1001",
    "9223372036854775807",
    "1e308",
    "inf",
    "nan",
    "true",
    "1979-05-27",
    "[]",
    "[[]]",
    "[1, \"a\", true]",
    "[8, 8.0]",
    "[nan]",
    "[\"rows\", \"rows.rows\"]",
    "[{ that = \"true\" }]",
    "{}",
    "{ r = [1, 2], q = \"${ranks}\" }",
    "{ one = \"train\", all = [\"all\"] }",
    "{ cpu = -1, memory = \"8XB\" }",
];

fn read(text: &str) -> Result<(), TestCaseError> {
    let source = SpecText::new(Path::new("p.toml"), text);
    let spec = Spec::parse(source, &Overrides::default());
    let checked = spec.and_then(|spec| graph::check(&spec, toys::STAGES, &StatIndex::in_memory()).map(drop));
    if let Err(SpecError::Wrong(complaints)) = checked {
        prop_assert!(!complaints.is_empty());
        for complaint in complaints {
            let span = &complaint.span;
            prop_assert!(span.start <= span.end && span.end <= text.len(), "{span:?} of {}: {complaint}", text.len());
            prop_assert!(text.is_char_boundary(span.start) && text.is_char_boundary(span.end), "{span:?}: {complaint}");
        }
    }
    Ok(())
}

/// A place in the text, moved to the border of a character.
fn place(text: &str, at: usize) -> usize {
    let mut at = at % (text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[derive(Clone, Debug)]
enum Edit {
    Insert(usize, String),
    Remove(usize, usize),
    Repeat(usize, usize, usize),
    /// Another value on a line.
    Value(usize, usize),
    /// A line once more elsewhere.
    Line(usize, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = || 0..4096_usize;
    let token = (0..TOKENS.len()).prop_map(|at| TOKENS[at].to_owned());
    prop_oneof![
        3 => (at(), token).prop_map(|(at, token)| Edit::Insert(at, token)),
        1 => (at(), any::<char>()).prop_map(|(at, c)| Edit::Insert(at, c.to_string())),
        2 => (at(), 1..40_usize).prop_map(|(at, len)| Edit::Remove(at, len)),
        1 => (at(), at(), 1..60_usize).prop_map(|(from, to, len)| Edit::Repeat(from, to, len)),
        6 => (at(), 0..VALUES.len()).prop_map(|(line, value)| Edit::Value(line, value)),
        3 => (at(), at()).prop_map(|(from, to)| Edit::Line(from, to)),
    ]
}

fn edited(text: &mut String, edit: Edit) {
    match edit {
        Edit::Insert(at, what) => text.insert_str(place(text, at), &what),
        Edit::Remove(at, len) => {
            let from = place(text, at);
            let to = place(text, (from + len).min(text.len()));
            text.replace_range(from..to.max(from), "");
        }
        Edit::Repeat(from, to, len) => {
            let from = place(text, from);
            let end = place(text, (from + len).min(text.len())).max(from);
            let piece = text[from..end].to_owned();
            text.insert_str(place(text, to), &piece);
        }
        Edit::Value(at, value) => {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let count = lines.iter().filter(|line| line.contains(" = ")).count();
            let mut set = lines.iter_mut().filter(|line| line.contains(" = "));
            if let Some(line) = at.checked_rem(count).and_then(|at| set.nth(at)) {
                let name = line.split(" = ").next().unwrap_or_default();
                *line = format!("{name} = {}", VALUES[value]);
            }
            *text = lines.join("\n");
        }
        Edit::Line(from, to) => {
            let mut lines: Vec<&str> = text.lines().collect();
            if let Some(from) = from.checked_rem(lines.len()) {
                lines.insert(to % (lines.len() + 1), lines[from]);
            }
            *text = lines.join("\n");
        }
    }
}

#[test]
fn the_whole_language_is_right() {
    assert_eq!(toys::wrong(WHOLE), "nothing");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn edited_pipelines_are_read_or_refused(edits in proptest::collection::vec(edit(), 1..5)) {
        let mut text = WHOLE.to_owned();
        for one in edits {
            edited(&mut text, one);
        }
        read(&text)?;
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        read(&text)?;
    }
}
