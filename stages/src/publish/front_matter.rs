//! The YAML at the head of a model card, as <https://huggingface.co/docs/hub/model-cards> describes it.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Evaluation;
use super::card::Card;

/// The block between the `---` lines, those included.
pub(super) fn front_matter(card: &Card<'_>) -> String {
    let mut fields = vec![("license", json!(card.license.id))];
    if card.license.id == "other" {
        fields.push(("license_name", json!(card.license.name)));
    }
    let params = card.params;
    fields.extend(card.license.link.as_ref().map(|link| ("license_link", json!(link))));
    fields.extend((!params.language.is_empty()).then(|| ("language", json!(params.language))));
    fields.extend(params.base_model.as_ref().map(|name| ("base_model", json!(name))));
    if card.adapter.is_some() {
        fields.push(("library_name", json!("peft")));
        fields.push(("pipeline_tag", json!("text-generation")));
    }
    let mut tags: Vec<&str> = params.tags.iter().map(String::as_str).collect();
    if card.adapter.is_some() && !tags.contains(&"lora") {
        tags.push("lora");
    }
    fields.extend((!tags.is_empty()).then(|| ("tags", json!(tags))));
    fields.extend(card.evaluation.as_ref().map(|evaluation| ("model-index", model_index(card, evaluation))));
    let mut text = "---\n".to_owned();
    for (name, value) in &fields {
        entry(name, value, 0, &mut text);
    }
    text.push_str("---\n");
    text
}

fn model_index(card: &Card<'_>, evaluation: &Evaluation) -> Value {
    let scores = evaluation.report.measures.iter().filter_map(|measure| {
        let score = measure.scores.get(&evaluation.system)?;
        Some(json!({ "type": measure.metric, "name": measure.name, "value": score.value }))
    });
    json!([{
        "name": card.params.name,
        "results": [{
            "task": { "type": "text-generation" },
            "dataset": { "type": "custom", "name": card.params.evaluation_data },
            "metrics": scores.collect::<Vec<_>>(),
        }],
    }])
}

/// A field of a mapping, in block style; texts are quoted as in JSON, which YAML reads alike.
fn entry(name: &str, value: &Value, depth: usize, text: &mut String) {
    write!(text, "{:depth$}{name}:", "").expect("writing to a string cannot fail");
    match value {
        Value::Array(items) => {
            text.push('\n');
            items.iter().for_each(|item| list_item(item, depth, text));
        }
        Value::Object(fields) => {
            text.push('\n');
            fields.iter().for_each(|(name, value)| entry(name, value, depth + 2, text));
        }
        _ => {
            writeln!(text, " {}", scalar(value)).expect("writing to a string cannot fail");
        }
    }
}

fn list_item(item: &Value, depth: usize, text: &mut String) {
    let Value::Object(fields) = item else {
        writeln!(text, "{:depth$}- {}", "", scalar(item)).expect("writing to a string cannot fail");
        return;
    };
    let start = text.len();
    fields.iter().for_each(|(name, value)| entry(name, value, depth + 2, text));
    // The dash takes the place of the first field's indentation.
    text.replace_range(start..start + depth + 2, &format!("{:depth$}- ", ""));
}

/// A float is written without an exponent: YAML 1.1 takes `1e-7` for a text.
fn scalar(value: &Value) -> String {
    match value.as_f64() {
        Some(float) if value.is_f64() => plain(float),
        _ => value.to_string(),
    }
}

fn plain(float: f64) -> String {
    let text = float.to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_so_that_yaml_reads_them_back() {
        let mut text = String::new();
        entry("a", &json!([{ "b": "x: \"y\"", "c": [1, { "d": 1e-7 }] }, "e"]), 0, &mut text);
        let expected = "\
a:
- b: \"x: \\\"y\\\"\"
  c:
  - 1
  - d: 0.0000001
- \"e\"
";
        assert_eq!(text, expected);
        assert_eq!(scalar(&json!(3.0)), "3.0");
        assert_eq!(scalar(&json!(true)), "true");
    }
}
