//! What names steps: `train`, `train[r=8]`, `train[r=8,*]`, each with `.port` where one of its outputs is meant.

use serde_json::Value;

/// The text of a reference, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The name of the step as the file has it.
    pub family: String,
    /// Which of its instances, where that is said.
    pub instances: Option<Instances>,
    /// The output, if named.
    pub port: Option<String>,
}

/// Some instances of a step with a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instances {
    /// Values of variables.
    pub terms: Vec<(String, String)>,
    /// `*`: whatever the other variables are.
    pub open: bool,
}

impl Selector {
    /// Takes the text of a reference apart.
    ///
    /// # Errors
    /// What is wrong with its brackets.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(at) = text.find(['[', '.']).filter(|at| text[*at..].starts_with('[')) else {
            let (family, port) = match text.split_once('.') {
                Some((family, port)) => (family, Some(port.to_owned())),
                None => (text, None),
            };
            return Ok(Self { family: family.to_owned(), instances: None, port });
        };
        let (terms, rest) = split_terms(&text[at + 1..]).ok_or_else(|| format!("`{text}` lacks a closing bracket"))?;
        let port = match rest.strip_prefix('.') {
            Some(port) => Some(port.to_owned()),
            None if rest.is_empty() => None,
            None => return Err(format!("`{text}`: after the bracket stands `.port` or nothing")),
        };
        let mut instances = Instances { terms: Vec::new(), open: false };
        for term in terms.into_iter().map(str::trim) {
            match term.split_once('=') {
                _ if term == "*" => instances.open = true,
                Some((name, value)) => instances.terms.push((name.trim().to_owned(), unquote(value.trim()))),
                None => return Err(format!("`{text}`: in the brackets stand `*` and NAME=VALUE, not `{term}`")),
            }
        }
        Ok(Self { family: text[..at].to_owned(), instances: Some(instances), port })
    }
}

/// The terms before the closing bracket, and what stands after it. Quotes hide commas and brackets.
fn split_terms(text: &str) -> Option<(Vec<&str>, &str)> {
    let (mut terms, mut from, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                terms.push(&text[from..at]);
                from = at + 1;
            }
            ']' if !quoted => {
                terms.push(&text[from..at]);
                return Some((terms, &text[at + 1..]));
            }
            _ => {}
        }
    }
    None
}

fn unquote(text: &str) -> String {
    serde_json::from_str::<String>(text).unwrap_or_else(|_| text.to_owned())
}

/// A value of a matrix variable as it stands in a step's name: texts are quoted where they would be ambiguous.
#[must_use]
pub fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let plain = |c: char| c.is_alphanumeric() || "_-.+:/@ ".contains(c);
            let ambiguous = text.is_empty() || !text.chars().all(plain) || text.trim() != text;
            if ambiguous { value.to_string() } else { text.clone() }
        }
        other => other.to_string(),
    }
}

/// Whether a reference's text means this value: numbers may be written in any way, `1e-4` or `0.0001`.
#[must_use]
pub fn means(text: &str, value: &Value) -> bool {
    match value {
        Value::String(value) => text == value,
        Value::Number(number) => {
            number.to_string() == text || text.parse::<f64>().is_ok_and(|wanted| number.as_f64() == Some(wanted))
        }
        Value::Bool(value) => text.parse() == Ok(*value),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parts(text: &str) -> (String, Vec<(String, String)>, bool, Option<String>) {
        let selector = Selector::parse(text).unwrap();
        let instances = selector.instances.unwrap_or(Instances { terms: Vec::new(), open: false });
        (selector.family, instances.terms, instances.open, selector.port)
    }

    fn term(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn brackets_come_before_ports() {
        assert_eq!(parts("train"), ("train".into(), vec![], false, None));
        assert_eq!(parts("split.test"), ("split".into(), vec![], false, Some("test".into())));
        let both = vec![term("r", "8"), term("lr", "0.0001")];
        assert_eq!(parts("train[r=8, lr=0.0001].adapter"), ("train".into(), both, false, Some("adapter".into())));
        assert_eq!(parts("train[r=8,*]"), ("train".into(), vec![term("r", "8")], true, None));
        assert_eq!(parts(r#"t[p="a=1],b"].x"#).1, [term("p", "a=1],b")]);
    }

    #[test]
    fn mistakes_are_told() {
        assert_eq!(Selector::parse("t[r=8").unwrap_err(), "`t[r=8` lacks a closing bracket");
        assert_eq!(Selector::parse("t[8]").unwrap_err(), "`t[8]`: in the brackets stand `*` and NAME=VALUE, not `8`");
        assert_eq!(Selector::parse("t[r=8]x").unwrap_err(), "`t[r=8]x`: after the bracket stands `.port` or nothing");
    }

    #[test]
    fn a_number_is_a_number_however_it_is_written() {
        assert!(means("1e-4", &json!(0.0001)) && means("8", &json!(8)) && means("8.0", &json!(8)));
        assert!(!means("8", &json!("8.0")) && !means("true", &json!("True")) && means("true", &json!(true)));
    }

    proptest! {
        /// Whatever a text is, the name made of it leads back to it.
        #[test]
        fn names_lead_back(text in any::<String>()) {
            let name = format!("s[p={}].out", value_text(&json!(text)));
            prop_assert_eq!(parts(&name), ("s".into(), vec![term("p", &text)], false, Some("out".into())));
        }

        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _ = Selector::parse(&text);
        }
    }
}
