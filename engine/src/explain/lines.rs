//! Recipes line by line: which facts differ between two.

use std::collections::BTreeMap;

use serde::Serialize;

/// What a line of a recipe tells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "what", rename_all = "lowercase")]
pub enum Fact {
    /// The version of recipes.
    Format,
    /// The stage and its version.
    Stage,
    /// A parameter.
    Param {
        /// Its name.
        name: String,
    },
    /// The class of the device.
    Device,
    /// What a source pins.
    Pin,
    /// The local files of a source.
    Source,
    /// An output.
    Gives {
        /// Its port.
        port: String,
    },
    /// What an input holds, as far as it is read.
    Input {
        /// Its port.
        port: String,
        /// Its label, on a port that takes many.
        #[serde(skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
    /// A step that led there.
    From {
        /// Its name.
        step: String,
    },
    /// A line of a later version.
    Other {
        /// Its first word.
        word: String,
    },
}

/// A fact that differs between two recipes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Which.
    #[serde(flatten)]
    pub fact: Fact,
    /// What it was; `None` where it was not there.
    pub before: Option<String>,
    /// What it is; `None` where it is not there.
    pub now: Option<String>,
}

/// The facts of a recipe.
fn facts(recipe: &str) -> BTreeMap<Fact, Vec<String>> {
    let mut facts: BTreeMap<Fact, Vec<String>> = BTreeMap::new();
    for line in recipe.lines() {
        let (fact, value) = fact(line);
        facts.entry(fact).or_default().push(value.to_owned());
    }
    facts
}

fn fact(line: &str) -> (Fact, &str) {
    let split = |text: &'_ str| text.find(' ').unwrap_or(text.len());
    let (word, rest) = line.split_at(split(line));
    let rest = rest.trim_start();
    let (name, value) = rest.split_at(split(rest));
    let (name, value) = (name.to_owned(), value.trim_start());
    match word {
        "stage" => (Fact::Stage, rest),
        "device" => (Fact::Device, rest),
        "pin" => (Fact::Pin, rest),
        "source" => (Fact::Source, rest),
        "param" => (Fact::Param { name }, value),
        "gives" => (Fact::Gives { port: name }, value),
        "from" => (Fact::From { step: name }, value),
        "input" => {
            let (label, value) = label(value);
            (Fact::Input { port: name, label }, value)
        }
        _ if word.starts_with("recipe/") => (Fact::Format, word),
        _ => (Fact::Other { word: word.to_owned() }, rest),
    }
}

/// A label is JSON, which a digest never begins like.
fn label(text: &str) -> (Option<String>, &str) {
    if !text.starts_with('"') {
        return (None, text);
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
    match values.next() {
        Some(Ok(label)) => {
            let end = values.byte_offset();
            (Some(label), text[end..].trim_start())
        }
        _ => (None, text),
    }
}

/// The facts that differ, in the order of recipes.
#[must_use]
pub fn diff(before: &str, now: &str) -> Vec<Change> {
    let (mut before, mut now) = (facts(before), facts(now));
    let mut all: Vec<Fact> = before.keys().chain(now.keys()).cloned().collect();
    all.sort();
    all.dedup();
    let mut changes = Vec::new();
    for fact in all {
        let (then, here) = (before.remove(&fact).unwrap_or_default(), now.remove(&fact).unwrap_or_default());
        for at in 0..then.len().max(here.len()) {
            let (before, now) = (then.get(at).cloned(), here.get(at).cloned());
            if before != now {
                changes.push(Change { fact: fact.clone(), before, now });
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = "recipe/1\nstage tokenize/1\nparam a \"x y\"\nparam b 1\ninput rows aa columns id of dataset/1\ninput systems \"the \\\"base\\\" one\" bb all of dataset/1\n";

    #[test]
    fn a_changed_a_new_and_a_gone_fact_are_told_apart() {
        let now =
            RECIPE.replace("\"x y\"", "\"z\"").replace("param b 1\n", "").replace("bb all", "cc all") + "pin v2\n";
        let changes = diff(RECIPE, &now);
        let shown: Vec<String> = changes.iter().map(|c| format!("{:?} {:?} {:?}", c.fact, c.before, c.now)).collect();
        assert_eq!(
            shown,
            [
                r#"Param { name: "a" } Some("\"x y\"") Some("\"z\"")"#,
                r#"Param { name: "b" } Some("1") None"#,
                r#"Pin None Some("v2")"#,
                r#"Input { port: "systems", label: Some("the \"base\" one") } Some("bb all of dataset/1") Some("cc all of dataset/1")"#,
            ]
        );
        assert!(diff(RECIPE, RECIPE).is_empty());
    }
}
