//! What programs print, as a message shows it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Lines of output shown when it fails.
const SHOWN_LINES: usize = 20;
/// Bytes of output read for them.
const SHOWN_BYTES: u64 = 8 * 1024;

/// The last that a program printed.
pub(super) fn last_lines(log: &Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(SHOWN_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(SHOWN_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<String> = text.trim_end().lines().map(plain).collect();
    Ok(lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n"))
}

/// A line as a terminal would have shown it in the end, without what would do something to the terminal: colours, jumps, bells.
#[must_use]
pub fn plain(line: &str) -> String {
    // A bar that draws itself again begins with a carriage return.
    let last = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let mut out = String::with_capacity(last.len());
    let mut rest = last.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' if rest.next_if_eq(&'[').is_some() => {
                // Up to the letter that says what to do.
                while rest.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(plain("10%\r50%\r100%\r"), "100%");
        assert_eq!(plain("\x1b[1;31mred\x1b[0m\x0c \tbell\x07\x1b"), "red \tbell");
        assert_eq!(plain("\x1b[2J\x1b[38;5"), "");
        assert_eq!(plain("Größe → 7"), "Größe → 7");
    }

    proptest::proptest! {
        #[test]
        fn no_line_keeps_a_control(line in ".*") {
            let shown = plain(&line);
            proptest::prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\t'), "{shown:?}");
        }
    }
}
