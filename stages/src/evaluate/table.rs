//! The numbers of an evaluation as a table that people read, in Markdown and on a terminal alike.

use std::collections::BTreeMap;

use super::Missing;
use super::report::{Difference, Intervals, Measure, Range, Report, Score};

/// The table, with what is needed to read it below.
#[must_use]
pub fn table(report: &Report) -> String {
    let notes = [how(report), missing(report), left_out(report), not_computed(report)];
    let notes = notes.into_iter().flatten().map(|note| format!("\n{note}\n"));
    std::iter::once(grid(&rows(report))).chain(notes).collect()
}

fn how(report: &Report) -> Vec<String> {
    let Intervals { method, confidence, resamples, seed } = &report.intervals;
    let percent = (confidence * 1e8).round() / 1e6;
    let mut notes = vec![format!(
        "{} rows. In brackets: {percent}% intervals ({method}, {resamples} resamples, seed {seed}).",
        report.rows
    )];
    if report.systems.len() > 1 {
        notes.push(format!("Differences are from `{}`, row by row.", report.baseline));
    }
    notes
}

fn missing(report: &Report) -> Vec<String> {
    let what = match report.missing {
        Missing::Error => "",
        Missing::Skip => ", skipped for all",
        Missing::Empty => ", scored as empty",
    };
    let lacks = report.systems.iter().filter(|system| !system.missing.is_empty());
    lacks.map(|s| format!("`{}` lacks {} rows{what}: {}.", s.name, s.missing.len(), shorten(&s.missing))).collect()
}

/// Rows that metrics leave out; what is the same for several is said once.
fn left_out(report: &Report) -> Vec<String> {
    let mut by_reason: BTreeMap<(&str, u64), Vec<String>> = BTreeMap::new();
    for measure in &report.measures {
        for (system, score) in &measure.scores {
            for (reason, count) in &score.left_out {
                by_reason.entry((reason, *count)).or_default().push(format!("{} of `{system}`", measure.name));
            }
        }
    }
    let note = |((reason, count), of): ((&str, u64), Vec<String>)| {
        format!("{count} rows left out of {}: {reason}.", of.join(", "))
    };
    by_reason.into_iter().map(note).collect()
}

/// Metrics without a value; what is the same for several is said once.
fn not_computed(report: &Report) -> Vec<String> {
    let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for missing in &report.not_computed {
        let of = missing.system.as_ref().map_or_else(String::new, |system| format!(" of `{system}`"));
        by_reason.entry(missing.reason.trim_end_matches('.')).or_default().push(format!("{}{of}", missing.metric));
    }
    by_reason.into_iter().map(|(reason, what)| format!("Not computed: {}: {reason}.", what.join(", "))).collect()
}

fn shorten(ids: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = ids.iter().take(SHOWN).map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
    if ids.len() > SHOWN { format!("{shown}, …") } else { shown }
}

/// The cells, the head first.
fn rows(report: &Report) -> Vec<Vec<String>> {
    let mut head = vec!["".to_owned()];
    for system in &report.systems {
        head.push(system.name.clone());
        if system.name != report.baseline {
            head.push(format!("{} − {}", system.name, report.baseline));
        }
    }
    let body = report.measures.iter().map(|measure| row(report, measure));
    std::iter::once(head).chain(body).collect()
}

fn row(report: &Report, measure: &Measure) -> Vec<String> {
    let mut cells = vec![measure.name.clone()];
    for system in &report.systems {
        let score = measure.scores.get(&system.name);
        cells.push(score.map_or_else(|| "–".to_owned(), value));
        if system.name != report.baseline {
            let difference = score.and_then(|score| score.difference.as_ref());
            cells.push(difference.map_or_else(|| "–".to_owned(), change));
        }
    }
    cells
}

fn value(score: &Score) -> String {
    match score.interval {
        Some(range) => format!("{}{}", number(score.value), brackets(range, number)),
        None => whole(score.value).unwrap_or_else(|| number(score.value)),
    }
}

fn change(difference: &Difference) -> String {
    match difference.interval {
        Some(range) => format!("{}{}", signed(difference.value), brackets(range, signed)),
        None => whole(difference.value).map_or_else(|| signed(difference.value), |count| sign(difference.value, count)),
    }
}

/// A count, without decimals.
fn whole(value: f64) -> Option<String> {
    (value.fract() == 0.0).then(|| format!("{value:.0}"))
}

fn brackets(range: Range, show: fn(f64) -> String) -> String {
    format!(" [{}, {}]", show(range.low), show(range.high))
}

/// About four digits: `0.1908`, `1.234`, `12.34`, `1234`.
fn number(value: f64) -> String {
    match value.abs() {
        size if size < 1.0 => format!("{value:.4}"),
        size if size < 10.0 => format!("{value:.3}"),
        size if size < 100.0 => format!("{value:.2}"),
        size if size < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn signed(value: f64) -> String {
    sign(value, number(value))
}

/// A shown number with its sign: `+0.5`, `−0.5`.
fn sign(value: f64, shown: String) -> String {
    if value > 0.0 { format!("+{shown}") } else { shown.replacen('-', "−", 1) }
}

/// A Markdown table whose columns line up.
fn grid(rows: &[Vec<String>]) -> String {
    let escaped: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| cell.replace('|', "\\|")).collect()).collect();
    let columns = escaped.first().map_or(0, Vec::len);
    let width = |column: usize| escaped.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (index, row) in escaped.iter().enumerate() {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} |"));
        text.push('|');
        text.extend(cells);
        text.push('\n');
        if index == 0 {
            text.push('|');
            text.extend(widths.iter().map(|width| format!("{}|", "-".repeat(width + 2))));
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::report::{FORMAT, NotComputed, System};
    use super::*;

    fn system(name: &str, missing: &[&str]) -> System {
        System { name: name.to_owned(), missing: missing.iter().map(|&id| id.to_owned()).collect() }
    }

    /// Two systems, two measures, one of which one system lacks.
    pub(crate) fn report() -> Report {
        let range = |low, high| Some(Range { low, high, resamples: 1000 });
        let base = Score {
            value: 0.190_829_043_767,
            n: 40,
            left_out: BTreeMap::new(),
            interval: range(0.170_1, 0.211),
            difference: None,
        };
        let difference = Difference { value: 0.031_25, n: 40, interval: range(-0.002, 0.064) };
        let tuned = Score { value: 0.222_079_043_767, difference: Some(difference), ..base.clone() };
        let partial = BTreeMap::from([("no references".to_owned(), 3)]);
        let measure = |name: &str, scores: Vec<(&str, Score)>| Measure {
            name: name.to_owned(),
            metric: "bleu".to_owned(),
            about: "Words shared.".to_owned(),
            signature: format!("{name}|case:lower|tok:ptb"),
            scores: scores.into_iter().map(|(name, score)| (name.to_owned(), score)).collect::<BTreeMap<_, _>>(),
        };
        Report {
            format: FORMAT.to_owned(),
            rows: 40,
            missing: Missing::Skip,
            baseline: "base".to_owned(),
            systems: vec![system("base", &[]), system("tuned", &["a", "b"])],
            intervals: Intervals {
                method: "percentile bootstrap over rows".into(),
                confidence: 0.95,
                resamples: 1000,
                seed: 7,
            },
            measures: vec![
                measure("bleu_4", vec![("base", base.clone()), ("tuned", tuned)]),
                measure("a|b", vec![("base", Score { value: 12.345, interval: None, left_out: partial, ..base })]),
            ],
            not_computed: vec![NotComputed {
                metric: "cider_d".into(),
                system: None,
                reason: "there are no references".into(),
            }],
        }
    }

    #[test]
    fn the_table_lines_up_and_explains_itself() {
        let expected = "\
|        | base                    | tuned                   | tuned − base                        |
|--------|-------------------------|-------------------------|-------------------------------------|
| bleu_4 | 0.1908 [0.1701, 0.2110] | 0.2221 [0.1701, 0.2110] | +0.0312 [−0.0020, +0.0640] |
| a\\|b   | 12.35                   | –                       | –                                   |
";
        let text = table(&report());
        let normalise =
            |text: &str| text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
        let dashes = |lines: Vec<String>| lines.into_iter().filter(|line| !line.starts_with("|--")).collect::<Vec<_>>();
        assert_eq!(dashes(normalise(&text))[..3], dashes(normalise(expected))[..]);
        let lengths: Vec<usize> = text.lines().take(4).map(|line| line.chars().count()).collect();
        assert!(lengths.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
        assert!(
            text.contains(
                "40 rows. In brackets: 95% intervals (percentile bootstrap over rows, 1000 resamples, seed 7)."
            )
        );
        assert!(text.contains("3 rows left out of a|b of `base`: no references."));
        assert!(text.contains("`tuned` lacks 2 rows, skipped for all: `a`, `b`."));
        assert!(text.contains("Not computed: cider_d: there are no references."));
    }

    #[test]
    fn numbers_have_about_four_digits() {
        let shown = [0.0, -0.5, 1.2345, 12.345, 123.45, 12345.6].map(number);
        assert_eq!(shown, ["0.0000", "-0.5000", "1.234", "12.35", "123.5", "12346"]);
        let count = |value| change(&Difference { value, n: 1, interval: None });
        assert_eq!([3.0, 0.0, -2039.0, 0.25].map(count), ["+3", "0", "−2039", "+0.2500"]);
        assert_eq!([0.5, 0.0, -0.5].map(signed), ["+0.5000", "0.0000", "−0.5000"]);
    }

    #[test]
    fn the_report_reads_back() {
        let report = report();
        assert_eq!(Report::parse(&report.to_json()).unwrap(), report);
        let other = Report { format: "evaluation/9".to_owned(), ..report };
        assert_eq!(
            Report::parse(&other.to_json()).unwrap_err(),
            "metrics.json has format `evaluation/9`, expected `evaluation/1`"
        );
    }
}
