//! Printing, and small texts: tables, durations, counts. The only place that writes to the terminal besides the bars.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// Prints a line to standard output. A reader that went away (`| head`) is no error.
pub fn out(line: &str) {
    match writeln!(anstream::stdout().lock(), "{line}") {
        // Whoever read along has seen enough.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe && !LOST.swap(true, Ordering::Relaxed) => {
            err(&format!("error: cannot write to standard output: {error}"));
        }
        _ => {}
    }
}

/// Whether something of the output could not be written.
pub fn is_lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

static LOST: AtomicBool = AtomicBool::new(false);

/// Prints a line to standard error.
pub fn err(line: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{line}");
}

/// Rows of cells, columns padded to the same width.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// `840 ms`, `12.3 s`, `4 min 5 s`, `2 h 3 min`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.9995 => format!("{:.0} ms", s * 1000.0),
        s if s < 59.95 => format!("{s:.1} s"),
        s if s < 3599.5 => {
            let whole = s.round();
            format!("{:.0} min {:.0} s", (whole / 60.0).floor(), whole % 60.0)
        }
        s => {
            let minutes = (s / 60.0).round();
            format!("{:.0} h {:.0} min", (minutes / 60.0).floor(), minutes % 60.0)
        }
    }
}

/// A time in seconds since 1970, as a clock on the wall shows it.
pub fn when(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "whole seconds of our time")]
    let whole = seconds as i64;
    match jiff::Timestamp::from_second(whole) {
        Ok(time) => time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("{seconds} s"),
    }
}

/// `812 bytes`, `1.5 MB`, `20 GB`: in powers of 1000.
#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
pub fn bytes(n: u64) -> String {
    let mut value = n as f64;
    let mut unit = "";
    for next in ["kB", "MB", "GB", "TB", "PB"] {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    match unit {
        "" => count(n, "byte"),
        _ if value < 9.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// A text on one line that does nothing to a terminal: control characters as they are escaped in code.
pub fn plain(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// At most `width` characters of a text on one line.
pub fn shorten(text: &str, width: usize) -> String {
    let text = plain(text);
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// `1 row`, `2 rows`.
pub fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well_at_every_border() {
        let shown = [0.0004, 0.9994, 0.9996, 59.94, 59.96, 119.6, 3599.0, 3600.0, 7379.0].map(duration);
        assert_eq!(
            shown,
            ["0 ms", "999 ms", "1.0 s", "59.9 s", "1 min 0 s", "2 min 0 s", "59 min 59 s", "1 h 0 min", "2 h 3 min"]
        );
    }

    #[test]
    fn sizes_have_two_digits_or_more() {
        let shown = [0, 1, 999, 1000, 9_940, 9_960, 999_400, 999_600, 20_000_000_000].map(bytes);
        assert_eq!(shown, ["0 bytes", "1 byte", "999 bytes", "1.0 kB", "9.9 kB", "10 kB", "999 kB", "1.0 MB", "20 GB"]);
    }

    #[test]
    fn tables_are_aligned_without_trailing_blanks() {
        let cell = |text: &str| text.to_owned();
        let rows = [vec![cell("a"), cell("bb")], vec![cell("ccc"), cell("")]];
        assert_eq!(table(&rows), "a    bb\nccc");
    }
}
