//! What `pipe show` knows, as lines for a person: the JSON of `--json` without its marks.

use serde_json::{Map, Value};

use crate::text;

/// Letters of a digest that are shown.
const SHORT: usize = 12;

/// A value as indented lines.
pub fn render(value: &Value) -> String {
    let mut lines = Vec::new();
    render_into(value, 0, &mut lines);
    lines.join("\n")
}

fn render_into(value: &Value, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match special(name, value) {
                    Some(Special::Line(text)) => lines.push(format!("{indent}{name}  {text}")),
                    Some(Special::Lines(inner)) => {
                        lines.push(format!("{indent}{name}"));
                        lines.extend(inner.iter().map(|line| format!("{indent}  {line}")));
                    }
                    None => render_field(name, value, depth, lines),
                }
            }
        }
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            lines.extend(items.iter().map(|item| format!("{indent}{}", scalar(item))));
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                if at > 0 && item.as_object().is_some_and(|map| map.len() > 4) {
                    lines.push(String::new());
                }
                match one_line(item) {
                    Some(line) => lines.push(format!("{indent}{line}")),
                    None => render_into(item, depth, lines),
                }
            }
        }
        _ => lines.push(format!("{indent}{}", scalar(value))),
    }
}

fn render_field(name: &str, value: &Value, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(inner) if inner.is_empty() => {}
        Value::Array(inner) if inner.is_empty() => {}
        Value::Object(_) | Value::Array(_) => {
            lines.push(format!("{indent}{name}"));
            render_into(value, depth + 1, lines);
        }
        _ => lines.push(format!("{indent}{name}  {}", scalar(value))),
    }
}

/// What reads better in words of its own.
enum Special {
    Line(String),
    Lines(Vec<String>),
}

fn special(name: &str, value: &Value) -> Option<Special> {
    match (name, value) {
        ("columns", Value::Object(columns)) => {
            let columns = columns.iter().map(|(name, kind)| format!("{name}: {}", scalar(kind)));
            let all: Vec<String> = std::iter::once("id: text".to_owned()).chain(columns).collect();
            Some(Special::Line(all.join(", ")))
        }
        ("left_out", Value::Array(rows)) => Some(Special::Lines(left_out(rows))),
        ("more", Value::Number(more)) => Some(Special::Line(format!("{more}, which `--rows N` lists, too"))),
        ("files", Value::Array(files)) if !files.is_empty() => {
            let line = |file: &Value| format!("{} ({} bytes)", scalar(&file["name"]), file["bytes"]);
            Some(Special::Lines(files.iter().map(line).collect()))
        }
        (_, Value::Object(map)) => image(map).map(Special::Line),
        _ => None,
    }
}

/// The rows that a step left out: what became of each, and why.
fn left_out(rows: &[Value]) -> Vec<String> {
    if rows.is_empty() {
        return vec!["no row".to_owned()];
    }
    let row = |row: &Value| {
        let how = if row["failed"] == true { "failed" } else { "dropped" };
        let line = |name: &str| text::shorten(&scalar(&row[name]), usize::MAX);
        vec![line("id"), how.to_owned(), line("reason"), line("message")]
    };
    text::table(&rows.iter().map(row).collect::<Vec<_>>()).lines().map(str::to_owned).collect()
}

/// An image cell.
fn image(map: &Map<String, Value>) -> Option<String> {
    let digest = map.get("digest")?.as_str().filter(|_| map.contains_key("offset"))?;
    Some(format!("image {} ({} bytes)", digest.get(..SHORT).unwrap_or(digest), map.get("bytes")?))
}

/// A small object on one line.
fn one_line(value: &Value) -> Option<String> {
    let small = |value: &Value| match value {
        Value::Object(map) => map.values().all(Value::is_string),
        Value::Array(items) => !items.iter().any(|item| item.is_object() || item.is_array()),
        _ => true,
    };
    let map = value.as_object().filter(|map| map.len() <= 4 && map.values().all(small))?;
    let text = map.values().map(|value| match value {
        Value::Array(items) => items.iter().map(scalar).collect::<Vec<_>>().join(", "),
        Value::Object(outputs) => {
            let short = |digest: &Value| scalar(digest).chars().take(SHORT).collect::<String>();
            outputs.iter().map(|(port, digest)| format!("{port} {}", short(digest))).collect::<Vec<_>>().join(", ")
        }
        value => scalar(value),
    });
    Some(text.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("  "))
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text::plain(text),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_person_reads_words_where_a_program_reads_values() {
        let digest = "0123456789abcdef";
        let value = json!({
            "step": "clean",
            "columns": { "image": "image", "score": "float" },
            "first": [{
                "id": "a", "a": 1, "b": 2, "image": { "digest": digest, "bytes": 7, "path": "/x", "offset": 3 }, "score": null,
            }],
            "files": [{ "name": "config.json", "digest": digest, "bytes": 12 }],
            "left_out": [
                { "id": "b\nc", "failed": false, "reason": "duplicate", "message": "" },
                { "id": "d", "failed": true, "reason": "image", "message": "cut off" },
            ],
        });
        let lines = render(&value);
        for line in [
            "columns  id: text, image: image, score: float",
            "  image  image 0123456789ab (7 bytes)",
            "  score  null",
            "  config.json (12 bytes)",
            "  b\\nc  dropped  duplicate",
            "  d     failed   image      cut off",
        ] {
            assert!(lines.lines().any(|found| found == line), "no {line:?} in\n{lines}");
        }
        assert_eq!(render(&json!({ "left_out": [] })), "left_out\n  no row");
    }

    #[test]
    fn files_stand_below_each_other_and_control_characters_in_words() {
        let file = |name: &str| json!({ "name": name, "digest": "00", "bytes": 1 });
        let output =
            json!({ "port": "made", "kind": "files/1", "digest": "00", "files": [file("a"), file("b\u{1b}[2J")] });
        let lines = render(&json!({ "outputs": [output], "first": [{ "id": "a\nb\rc" }] }));
        assert!(lines.contains("a (1 bytes)\n") && lines.contains("b\\u{1b}[2J (1 bytes)"), "{lines}");
        assert!(lines.contains("a\\nb\\rc"), "{lines}");
    }
}
