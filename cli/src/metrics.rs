//! The numbers of two `metrics/1` artifacts side by side, with their intervals. A difference inside them is no gain.

use std::collections::{BTreeMap, BTreeSet};

use pipe_stages::evaluate::Report;
use serde::Serialize;
use serde_json::Value;

/// A number of two runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricDiff {
    /// Its name.
    pub name: String,
    /// The system it is of, where there are several.
    pub system: Option<String>,
    /// What it was.
    pub before: Option<Number>,
    /// What it is.
    pub now: Option<Number>,
    /// The second less the first.
    pub difference: Option<f64>,
    /// What that may be called.
    pub verdict: Verdict,
}

/// A number, with its interval where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Number {
    /// The value.
    pub value: f64,
    /// Its confidence interval.
    pub interval: Option<(f64, f64)>,
}

/// What a difference may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// There is none.
    Same,
    /// The intervals overlap: chance may have made it.
    Within,
    /// The intervals do not overlap.
    Beyond,
    /// There are no intervals to judge it by, or only one number.
    Unknown,
}

impl Verdict {
    /// The words for it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Same => "the same",
            Self::Within => "within the intervals",
            Self::Beyond => "beyond the intervals",
            Self::Unknown => "",
        }
    }
}

/// The numbers of two `metrics.json` that are in either.
pub fn compare(before: &[u8], now: &[u8]) -> Vec<MetricDiff> {
    let (before, now) = (numbers(before), numbers(now));
    let names: BTreeSet<&(String, Option<String>)> = before.keys().chain(now.keys()).collect();
    let one = |name: &(String, Option<String>)| {
        let (then, here) = (before.get(name).copied(), now.get(name).copied());
        MetricDiff {
            name: name.0.clone(),
            system: name.1.clone(),
            before: then,
            now: here,
            difference: then.zip(here).map(|(then, here)| here.value - then.value),
            verdict: verdict(then, here),
        }
    };
    names.into_iter().map(one).collect()
}

fn verdict(before: Option<Number>, now: Option<Number>) -> Verdict {
    let (Some(before), Some(now)) = (before, now) else { return Verdict::Unknown };
    if before == now {
        return Verdict::Same;
    }
    match (before.interval, now.interval) {
        (Some(before), Some(now)) if before.0 <= now.1 && now.0 <= before.1 => Verdict::Within,
        (Some(_), Some(_)) => Verdict::Beyond,
        _ => Verdict::Unknown,
    }
}

/// Numbers by name and system: of an evaluation its measures, of anything else every number there is.
fn numbers(bytes: &[u8]) -> BTreeMap<(String, Option<String>), Number> {
    let mut found = BTreeMap::new();
    if let Ok(report) = Report::parse(bytes) {
        for measure in report.measures {
            for (system, score) in measure.scores {
                let interval = score.interval.map(|range| (range.low, range.high));
                found.insert((measure.name.clone(), Some(system)), Number { value: score.value, interval });
            }
        }
    } else if let Ok(value) = serde_json::from_slice(bytes) {
        flatten("", &value, &mut found);
    }
    found
}

fn flatten(path: &str, value: &Value, found: &mut BTreeMap<(String, Option<String>), Number>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Number(number) => {
            if let Some(value) = number.as_f64() {
                found.insert((path.to_owned(), None), Number { value, interval: None });
            }
        }
        Value::Object(map) => map.iter().for_each(|(name, value)| flatten(&below(name), value, found)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| flatten(&below(&at.to_string()), value, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: f64, interval: Option<(f64, f64)>) -> Option<Number> {
        Some(Number { value, interval })
    }

    #[test]
    fn a_difference_inside_the_intervals_is_no_gain() {
        let five = number(5.0, Some((4.0, 6.0)));
        assert_eq!(verdict(five, number(5.9, Some((5.0, 7.0)))), Verdict::Within);
        assert_eq!(verdict(five, number(7.0, Some((6.5, 7.5)))), Verdict::Beyond);
        assert_eq!(verdict(five, number(3.0, Some((2.0, 4.0)))), Verdict::Within, "they touch");
        assert_eq!(verdict(five, number(7.0, None)), Verdict::Unknown);
        assert_eq!((verdict(five, five), verdict(five, None)), (Verdict::Same, Verdict::Unknown));
    }

    #[test]
    fn numbers_of_any_layout_are_compared() {
        let found = compare(br#"{"a": 1, "b": {"c": [2, "x"]}}"#, br#"{"a": 3, "b": {"c": [2]}}"#);
        let told: Vec<(&str, Option<f64>)> = found.iter().map(|m| (m.name.as_str(), m.difference)).collect();
        assert_eq!(told, [("a", Some(2.0)), ("b.c.0", Some(0.0))]);
    }
}
