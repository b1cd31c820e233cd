//! Columns of records that a dataset has not, counted while its rows are made: what is lost is told.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use pipe_engine::cell::Schema;
use pipe_engine::step::{Level, Sink};
use serde_json::Value;

use crate::records::Record;

/// Names that are told one by one.
const SHOWN: usize = 8;
/// Names that are counted: records may have names without end.
const COUNTED: usize = 1000;

/// The columns left out so far.
#[derive(Debug, Default)]
pub struct LeftOut(Mutex<BTreeMap<String, Count>>);

#[derive(Debug)]
struct Count {
    rows: u64,
    /// The first place by line.
    first: (String, u64),
}

impl LeftOut {
    /// Notes the values of a record of `file` that are in no column of the schema, and are not called like one of `others`.
    pub fn note(&self, record: &Record, file: &str, schema: &Schema, others: &[&str]) {
        let is_lost = |(name, value): &(&String, &Value)| {
            !value.is_null() && schema.get(name).is_none() && !others.contains(&name.as_str())
        };
        for (name, _) in record.values.iter().filter(is_lost) {
            let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let room = counts.len() < COUNTED;
            match counts.get_mut(name) {
                Some(count) => {
                    count.rows += 1;
                    let same_file = count.first.0 == file;
                    count.first.1 = if same_file { count.first.1.min(record.line) } else { count.first.1 };
                }
                None if room => {
                    counts.insert(name.clone(), Count { rows: 1, first: (file.to_owned(), record.line) });
                }
                None => {}
            }
        }
    }

    /// Tells what was left out, and that `param` would keep it.
    pub fn tell(&self, param: &str, sink: &dyn Sink) {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, Count { rows, first: (file, line) }) in counts.iter().take(SHOWN) {
            let rows = if *rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
            let message = format!(
                "column `{name}` is left out, which {rows} have (the first at {file}:{line}): `{param}` can say its type"
            );
            sink.log(Level::Warning, &message);
        }
        if counts.len() > SHOWN {
            let more = counts.len() - SHOWN;
            let or_more = if counts.len() == COUNTED { " or more" } else { "" };
            sink.log(Level::Warning, &format!("{more}{or_more} further columns are left out"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Told, schema};
    use pipe_engine::cell::ColumnType;
    use serde_json::json;

    #[test]
    fn what_is_lost_is_counted() {
        let left_out = LeftOut::default();
        let schema = schema(&[("kept", ColumnType::Int)]);
        for line in [9, 2, 5] {
            let Value::Object(values) = json!({ "id": "a", "kept": 1, "lost": line, "null": null }) else { panic!() };
            left_out.note(&Record { line, values }, "rows.jsonl", &schema, &["id"]);
        }
        let told = Told::default();
        left_out.tell("columns", &told);
        let wanted =
            "column `lost` is left out, which 3 rows have (the first at rows.jsonl:2): `columns` can say its type";
        assert_eq!(told.warnings(), [wanted]);
    }

    #[test]
    fn names_without_end_are_not_told_without_end() {
        let left_out = LeftOut::default();
        let values = (0..3000).map(|n| (format!("n{n:04}"), json!(n))).collect();
        left_out.note(&Record { line: 1, values }, "rows.jsonl", &Schema::default(), &[]);
        let told = Told::default();
        left_out.tell("columns", &told);
        assert_eq!(
            (told.warnings().len(), told.warnings()[8].as_str()),
            (9, "992 or more further columns are left out")
        );
    }
}
