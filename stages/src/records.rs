//! Records of JSON Lines and CSV files, and cells made of them.
//!
//! Knows text files and column types; a record that cannot be read is a value, not an end. Knows nothing of where files come
//! from or what becomes of rows.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Read};

use pipe_engine::cell::{Cell, ColumnType};
use rayon::prelude::*;
use serde_json::{Map, Value};

/// How a file of records is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFormat {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values under a line of column names.
    Csv,
}

impl RecordFormat {
    /// The format a file name tells, if any.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let extension = name.rsplit_once('.')?.1.to_ascii_lowercase();
        match extension.as_str() {
            "jsonl" | "ndjson" | "jsonlines" => Some(Self::Jsonl),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }
}

/// One record: values by column.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The line it starts on, from 1.
    pub line: u64,
    /// Its values; those of a CSV file are all texts.
    pub values: Map<String, Value>,
}

/// A record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// The line it starts on, from 1.
    pub line: u64,
    /// A short class that recurs.
    pub class: &'static str,
    /// What exactly.
    pub message: String,
}

/// The records of a file, one by one.
pub type Records = Box<dyn Iterator<Item = Result<Record, BadRecord>> + Send>;

/// Opens a file of records.
///
/// # Errors
/// When a CSV file has no usable line of column names; says why.
pub fn read(reader: impl Read + Send + 'static, format: RecordFormat) -> Result<Records, String> {
    let reader = std::io::BufReader::with_capacity(1 << 20, reader);
    match format {
        RecordFormat::Jsonl => Ok(Box::new(JsonLines::new(reader))),
        RecordFormat::Csv => csv_records(reader),
    }
}

/// Bytes of the first block of lines, so that looking at a few lines reads a few, and of the largest.
const BLOCK: std::ops::RangeInclusive<usize> = 1 << 14..=1 << 21;

/// Parses blocks of whole lines, the lines of a block in parallel.
struct JsonLines<R> {
    reader: R,
    /// Lines read so far.
    lines: u64,
    block: usize,
    ended: bool,
    ready: std::vec::IntoIter<Result<Record, BadRecord>>,
}

impl<R: BufRead> JsonLines<R> {
    fn new(reader: R) -> Self {
        Self { reader, lines: 0, block: *BLOCK.start(), ended: false, ready: Vec::new().into_iter() }
    }

    fn read_block(&mut self) {
        let mut bytes = Vec::with_capacity(self.block);
        let mut ends = vec![0];
        let mut error = None;
        while bytes.len() < self.block && !self.ended {
            match self.reader.read_until(b'\n', &mut bytes) {
                Ok(0) => self.ended = true,
                Ok(_) => ends.push(bytes.len()),
                Err(why) => {
                    self.ended = true;
                    error = Some(unreadable(self.lines + ends.len() as u64, &why));
                }
            }
        }
        let first = self.lines + 1;
        self.lines += (ends.len() - 1) as u64;
        self.block = (2 * self.block).min(*BLOCK.end());
        let line = |(at, range): (usize, &[usize])| {
            let (bytes, line) = (&bytes[range[0]..range[1]], first + at as u64);
            (!strip(bytes, line).is_empty()).then(|| json_record(bytes, line))
        };
        let mut records: Vec<Result<Record, BadRecord>> = ends.par_windows(2).enumerate().filter_map(line).collect();
        records.extend(error.map(Err));
        self.ready = records.into_iter();
    }
}

impl<R: BufRead> Iterator for JsonLines<R> {
    type Item = Result<Record, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.ready.next() {
                return Some(record);
            }
            if self.ended {
                return None;
            }
            self.read_block();
        }
    }
}

fn unreadable(line: u64, error: &dyn std::fmt::Display) -> BadRecord {
    BadRecord { line, class: "file: unreadable", message: error.to_string() }
}

/// The line without white space around it and, at the start of the file, without its byte order mark.
fn strip(bytes: &[u8], line: u64) -> &[u8] {
    let bytes = if line == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
    bytes.trim_ascii()
}

fn json_record(bytes: &[u8], line: u64) -> Result<Record, BadRecord> {
    match serde_json::from_slice(strip(bytes, line)) {
        Ok(Value::Object(values)) => Ok(Record { line, values }),
        Ok(other) => Err(BadRecord {
            line,
            class: "record: not an object",
            message: format!("{} is not an object", brief(&other)),
        }),
        Err(error) => Err(BadRecord { line, class: "record: not JSON", message: error.to_string() }),
    }
}

/// Read behind the end of a CSV file as a line of its own. Where it ends up in a value, a quote was not closed, which the parser takes for
/// granted.
const END: &str = "\u{1}end of file\u{1}";
/// The same after the end of the last line.
const LAST_LINE: &[u8] = b"\n\x01end of file\x01";

/// What a value that runs on to the end of the file holds of it, if it is one.
fn open_to_the_end(value: &str) -> Option<&str> {
    value.strip_suffix(END).and_then(|value| value.strip_suffix('\n'))
}

fn csv_records(reader: impl BufRead + Send + 'static) -> Result<Records, String> {
    let reader = reader.chain(LAST_LINE);
    let mut rows = csv::ReaderBuilder::new().flexible(true).from_reader(reader);
    let header = rows.headers().map_err(|error| format!("the line of column names cannot be read: {error}"))?;
    if header.iter().next_back().is_some_and(|name| open_to_the_end(name).is_some()) {
        return Err("a quote in the line of column names is not closed".to_owned());
    }
    let names: Vec<String> = header.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_owned()).collect();
    if names.is_empty() || names.iter().any(|name| name.is_empty() || name == END) {
        return Err("the first line must name every column".to_owned());
    }
    if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        return Err(format!("the first line names `{}` twice", twice.1));
    }
    let ends = |row: &Result<csv::StringRecord, csv::Error>| row.as_ref().is_ok_and(|row| row.iter().eq([END]));
    Ok(Box::new(rows.into_records().filter(move |row| !ends(row)).map(move |row| csv_record(row, &names))))
}

fn csv_record(row: Result<csv::StringRecord, csv::Error>, names: &[String]) -> Result<Record, BadRecord> {
    let row = row.map_err(|error| {
        let line = error.position().map_or(0, csv::Position::line);
        BadRecord { line, class: "record: not CSV", message: error.to_string() }
    })?;
    let line = row.position().map_or(0, csv::Position::line);
    if let Some(swallowed) = row.iter().next_back().and_then(open_to_the_end) {
        let lines = swallowed.lines().count().saturating_sub(1);
        let message =
            format!("a quote in it is not closed, so that the rest of the file belongs to it, lines after it: {lines}");
        return Err(BadRecord { line, class: "record: quote not closed", message });
    }
    if row.len() != names.len() {
        let count = |n: usize, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
        let message = format!("{} under {}", count(row.len(), "value"), count(names.len(), "column name"));
        return Err(BadRecord { line, class: "record: not CSV", message });
    }
    let values = names.iter().cloned().zip(row.iter().map(|text| Value::String(text.to_owned()))).collect();
    Ok(Record { line, values })
}

/// The first number that is too large for an integer of 64 bits.
const BEYOND: f64 = 9_223_372_036_854_775_808.0;

/// Makes the cell of a column from a value; an image cell cannot be made from a value alone.
///
/// # Errors
/// When the value does not fit the type; says what it is.
pub fn cell(value: &Value, column_type: ColumnType, format: RecordFormat) -> Result<Cell, String> {
    let made = match format {
        RecordFormat::Jsonl => json_cell(value, column_type),
        RecordFormat::Csv => value.as_str().and_then(|text| csv_cell(text, column_type)),
    };
    let beyond = |number: f64| column_type == ColumnType::Int && number.fract() == 0.0 && number.abs() >= BEYOND;
    made.ok_or_else(|| match value.as_f64() {
        Some(number) if beyond(number) => format!("an integer of more than 64 bits (about {value})"),
        _ => format!("{} where {column_type} is expected", brief(value)),
    })
}

/// A cell as JSON: an image as the digest of its file.
#[must_use]
pub fn value(cell: &Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Bool(value) => Value::from(*value),
        Cell::Int(value) => Value::from(*value),
        Cell::Float(value) => Value::from(*value),
        Cell::Text(text) => Value::from(text.as_str()),
        Cell::Texts(texts) => Value::from(texts.as_slice()),
        Cell::Ints(values) => Value::from(values.as_slice()),
        Cell::Image(_) | Cell::NewImage(_) | Cell::ImageFile(_) => {
            cell.image_digest().map_or(Value::Null, |digest| Value::from(digest.to_string()))
        }
    }
}

fn json_cell(value: &Value, column_type: ColumnType) -> Option<Cell> {
    match (column_type, value) {
        (_, Value::Null) => Some(Cell::Null),
        (ColumnType::Bool, Value::Bool(value)) => Some(Cell::Bool(*value)),
        (ColumnType::Int, Value::Number(number)) => number.as_i64().map(Cell::Int),
        (ColumnType::Float, Value::Number(number)) => number.as_f64().filter(|n| n.is_finite()).map(Cell::Float),
        (ColumnType::Text, Value::String(text)) => Some(Cell::Text(text.clone())),
        (ColumnType::Texts, Value::Array(items)) => {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>().map(Cell::Texts)
        }
        (ColumnType::Ints, Value::Array(items)) => {
            items.iter().map(Value::as_i64).collect::<Option<_>>().map(Cell::Ints)
        }
        _ => None,
    }
}

/// Lists stand in a CSV file as JSON; nothing at all is null, except in a text column.
fn csv_cell(text: &str, column_type: ColumnType) -> Option<Cell> {
    match column_type {
        ColumnType::Text => Some(Cell::Text(text.to_owned())),
        _ if text.trim().is_empty() => Some(Cell::Null),
        ColumnType::Bool => text.trim().to_ascii_lowercase().parse().ok().map(Cell::Bool),
        ColumnType::Int => text.trim().parse().ok().map(Cell::Int),
        ColumnType::Float => text.trim().parse().ok().filter(|n: &f64| n.is_finite()).map(Cell::Float),
        ColumnType::Texts | ColumnType::Ints => json_cell(&serde_json::from_str(text).ok()?, column_type),
        ColumnType::Image => None,
    }
}

/// A value as a message shows it.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// What the columns of a file seem to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sniffed {
    /// Their types.
    pub columns: BTreeMap<String, ColumnType>,
    /// Columns whose values are of no one type.
    pub left_out: BTreeSet<String>,
    /// Whether no further record could bring another column.
    pub complete: bool,
}

/// What is known of a column so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    EmptyList,
    Type(ColumnType),
    Mixed,
}

/// Looks at the first `limit` records of a file and tells the types of its columns. Columns of a CSV file are text; an integer column with
/// a float among its values is a float column; a column of nothing but nulls is text. Records that cannot be read are skipped.
#[must_use]
pub fn sniff(mut records: Records, format: RecordFormat, limit: usize) -> Sniffed {
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    for record in records.by_ref().take(limit).filter_map(Result::ok) {
        for (name, value) in &record.values {
            let entry = seen.entry(name.clone()).or_insert(Seen::Nothing);
            *entry =
                merge(*entry, if format == RecordFormat::Csv { Seen::Type(ColumnType::Text) } else { look(value) });
        }
    }
    let complete = format == RecordFormat::Csv || records.next().is_none();
    let mut sniffed = Sniffed { complete, ..Sniffed::default() };
    for (name, seen) in seen {
        match seen {
            Seen::Type(column_type) => drop(sniffed.columns.insert(name, column_type)),
            Seen::Nothing => drop(sniffed.columns.insert(name, ColumnType::Text)),
            Seen::EmptyList => drop(sniffed.columns.insert(name, ColumnType::Texts)),
            Seen::Mixed => drop(sniffed.left_out.insert(name)),
        }
    }
    sniffed
}

fn look(value: &Value) -> Seen {
    match value {
        Value::Null => Seen::Nothing,
        Value::Bool(_) => Seen::Type(ColumnType::Bool),
        Value::Number(number) if number.is_i64() => Seen::Type(ColumnType::Int),
        Value::Number(_) => Seen::Type(ColumnType::Float),
        Value::String(_) => Seen::Type(ColumnType::Text),
        Value::Array(items) if items.is_empty() => Seen::EmptyList,
        Value::Array(items) if items.iter().all(Value::is_string) => Seen::Type(ColumnType::Texts),
        Value::Array(items) if items.iter().all(Value::is_i64) => Seen::Type(ColumnType::Ints),
        Value::Array(_) | Value::Object(_) => Seen::Mixed,
    }
}

fn merge(left: Seen, right: Seen) -> Seen {
    use ColumnType::{Float, Int, Ints, Texts};
    match (left, right) {
        (same, other) if same == other => same,
        (Seen::Nothing, other) | (other, Seen::Nothing) => other,
        (Seen::EmptyList, Seen::Type(list @ (Texts | Ints))) | (Seen::Type(list @ (Texts | Ints)), Seen::EmptyList) => {
            Seen::Type(list)
        }
        (Seen::Type(Int | Float), Seen::Type(Int | Float)) => Seen::Type(Float),
        _ => Seen::Mixed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn records(text: &str, format: RecordFormat) -> Vec<Result<Record, BadRecord>> {
        read(std::io::Cursor::new(text.to_owned()), format).unwrap().collect()
    }

    #[test]
    fn bad_lines_do_not_end_a_file() {
        let found = records("\u{feff}{\"a\":1}\n\n{\"a\":\n[1]\n  {\"a\":2}  ", RecordFormat::Jsonl);
        let lines: Vec<_> = found.iter().map(|r| r.as_ref().map(|r| r.line).map_err(|r| (r.line, r.class))).collect();
        assert_eq!(lines, [Ok(1), Err((3, "record: not JSON")), Err((4, "record: not an object")), Ok(5)]);
    }

    #[test]
    fn csv_counts_lines_with_quoted_breaks() {
        let found = records("id,text\n1,\"two\nlines\"\n2\n3,\"a \"\"b\"\"\"\n", RecordFormat::Csv);
        let first = found[0].as_ref().unwrap();
        assert_eq!((first.line, &first.values["text"]), (2, &json!("two\nlines")));
        let bad = found[1].as_ref().unwrap_err();
        assert_eq!((bad.line, bad.message.as_str()), (4, "1 value under 2 column names"));
        assert_eq!(found[2].as_ref().unwrap().values["text"], json!("a \"b\""));
    }

    #[test]
    fn a_quote_that_is_not_closed_is_no_value() {
        let found = records("id,text\n1,fine\n2,\"open\n3,lost\n4,lost\n", RecordFormat::Csv);
        let bad = found[1].as_ref().unwrap_err();
        assert_eq!((found.len(), bad.line, bad.class), (2, 3, "record: quote not closed"));
        assert!(bad.message.ends_with("lines after it: 2"), "{}", bad.message);
        for whole in ["id,text\n1,\"a\"\"b\"", "id,text\n1,\"a\n\"\n", "id,text\n1,5\" pipe\n\n", "id,text\r\n1,x\r\n"]
        {
            let found = records(whole, RecordFormat::Csv);
            assert!(matches!(&found[..], [Ok(_)]), "{whole:?}: {found:?}");
        }
        let header = read(std::io::Cursor::new("id,\"text\n1,x\n"), RecordFormat::Csv).err().unwrap();
        assert_eq!(header, "a quote in the line of column names is not closed");
    }

    #[test]
    fn csv_needs_its_column_names() {
        let message = |text: &str| read(std::io::Cursor::new(text.to_owned()), RecordFormat::Csv).err().unwrap();
        assert_eq!(message("a,,b\n"), "the first line must name every column");
        assert_eq!(message("a,b,a\n"), "the first line names `a` twice");
        assert_eq!(message(""), "the first line must name every column");
    }

    #[test]
    fn cells_fit_their_column_or_say_why_not() {
        use ColumnType::{Bool, Float, Int, Ints, Text, Texts};
        let jsonl = |value, column_type| cell(&value, column_type, RecordFormat::Jsonl);
        assert_eq!(jsonl(json!(3), Float), Ok(Cell::Float(3.0)));
        assert_eq!(jsonl(json!(["a"]), Texts), Ok(Cell::Texts(vec!["a".into()])));
        assert_eq!(jsonl(json!(3.5), Int), Err("3.5 where int is expected".into()));
        assert_eq!(jsonl(json!(1e20), Int), Err("an integer of more than 64 bits (about 1e+20)".into()));
        assert_eq!(jsonl(json!(3), Text), Err("3 where text is expected".into()));
        let csv = |text: &str, column_type| cell(&json!(text), column_type, RecordFormat::Csv);
        assert_eq!(csv("True", Bool), Ok(Cell::Bool(true)));
        assert_eq!(csv("[1, 2]", Ints), Ok(Cell::Ints(vec![1, 2])));
        assert_eq!(csv("", Int), Ok(Cell::Null));
        assert_eq!(csv("", Text), Ok(Cell::Text(String::new())));
        assert_eq!(csv("nan", Float), Err("\"nan\" where float is expected".into()));
    }

    #[test]
    fn sniffing_settles_on_one_type_per_column() {
        let text = r#"{"i":1,"f":1,"n":null,"t":"a","l":[],"e":[],"x":1,"o":{},"b":true}
            {"i":2,"f":2.5,"t":null,"l":[1],"x":"y","late":[ "r" ]}"#;
        let found = sniff(read(std::io::Cursor::new(text), RecordFormat::Jsonl).unwrap(), RecordFormat::Jsonl, 10);
        let types: Vec<_> = found.columns.iter().map(|(name, t)| (name.as_str(), t.name())).collect();
        let wanted = [
            ("b", "bool"),
            ("e", "texts"),
            ("f", "float"),
            ("i", "int"),
            ("l", "ints"),
            ("late", "texts"),
            ("n", "text"),
            ("t", "text"),
        ];
        assert_eq!(types, wanted);
        assert_eq!(found.left_out.iter().collect::<Vec<_>>(), ["o", "x"]);
        assert!(found.complete);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text in "[a-z,\"\n\r{}:0-9]{0,80}") {
            for format in [RecordFormat::Jsonl, RecordFormat::Csv] {
                for content in [bytes.clone(), text.clone().into_bytes()] {
                    if let Ok(records) = read(std::io::Cursor::new(content.clone()), format) {
                        let _ = sniff(records, format, 10);
                    }
                }
            }
        }

        #[test]
        fn what_is_sniffed_can_be_read(values in proptest::collection::vec(proptest::option::of(-5i64..5), 1..9), halves: bool) {
            let number = |n: i64| if halves && n > 2 { json!(0.5) } else { json!(n) };
            let lines = values.iter().map(|value| format!("{}\n", json!({ "n": value.map(number) })));
            let text: String = lines.collect();
            let open = || read(std::io::Cursor::new(text.clone()), RecordFormat::Jsonl).unwrap();
            let column_type = sniff(open(), RecordFormat::Jsonl, 100).columns["n"];
            for record in open() {
                cell(&record.unwrap().values["n"], column_type, RecordFormat::Jsonl).unwrap();
            }
        }
    }
}
