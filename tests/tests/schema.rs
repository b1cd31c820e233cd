//! The schema for editors takes what `check` takes, and refuses what an editor should underline.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use pipe_tests::{Project, SMALL};
use serde_json::Value;

fn validator() -> jsonschema::Validator {
    let schema = Project::empty().pipe(&["schema"]);
    assert_eq!(schema.code, 0, "{}", schema.stderr);
    jsonschema::validator_for(&serde_json::from_str(&schema.stdout).unwrap()).unwrap()
}

fn as_json(spec: &str) -> Value {
    serde_json::to_value(toml::from_str::<toml::Table>(spec).unwrap()).unwrap()
}

#[test]
fn the_shipped_pipelines_and_templates_fit() {
    let validator = validator();
    let mut specs: Vec<_> = vec![];
    for folder in ["pipelines", "cli/templates"] {
        let entries = std::fs::read_dir(pipe_tests::workspace().join(folder)).unwrap().flatten();
        specs.extend(entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "toml")));
    }
    assert!(specs.len() >= 5);
    for spec in specs {
        let value = as_json(&std::fs::read_to_string(&spec).unwrap());
        let wrong: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{}: {wrong:?}", spec.display());
    }
}

#[test]
fn a_parameter_may_be_a_reference_at_any_depth() {
    let validator = validator();
    let text = SMALL.replace("parts = { train = 0.5, test = 0.5 }", "parts = { train = \"${share}\", test = 0.5 }");
    assert!(validator.is_valid(&as_json(&text)));
    assert!(!validator.is_valid(&as_json(&text.replace("${share}", "half"))));
}

/// Regular expressions of other languages know no `\\p`.
#[test]
fn python_takes_the_schema() {
    let project = Project::empty();
    let schema = project.pipe(&["schema"]).stdout;
    assert!(!schema.contains("\\\\p"), "{schema}");
    let pattern = &serde_json::from_str::<Value>(&schema).unwrap()["properties"]["steps"]["propertyNames"]["pattern"];
    let program =
        "import re, sys; print([bool(re.search(sys.argv[1], t)) for t in ['a-b_1', 'größe', 'a b', 'a.b', 'a[1]']])";
    let python =
        project.finish(project.program("python3", &["-c", program, pattern.as_str().unwrap()]).spawn().unwrap());
    assert_eq!(python.stdout.trim(), "[True, True, False, False, False]", "{}", python.stderr);
}

#[test]
fn mistakes_of_form_are_refused() {
    let validator = validator();
    assert!(validator.is_valid(&as_json(SMALL)));
    let mistakes = [
        ("stage = \"split\"", "stage = \"spilt\""),
        ("keep = \"size(caption) > 6\"", "kep = \"size(caption) > 6\""),
        ("size = \"${size}\"", "size = 0"),
        ("size = \"${size}\"", ""),
        ("inputs = { rows = \"long\" }", ""),
        ("inputs = { rows = \"long\" }", "inputs = { row = \"long\" }"),
        ("inputs = { rows = \"long\" }", "inputs = { rows = [\"long\", \"texts\"] }"),
        ("[params]", "[parms]"),
        ("name = \"p\"", ""),
        ("[steps.parts]", "[steps.\"a b\"]"),
        ("[steps.parts]", "[steps.\"a.b\"]"),
    ];
    for (from, to) in mistakes {
        assert!(SMALL.contains(from), "{from}");
        assert!(!validator.is_valid(&as_json(&SMALL.replacen(from, to, 1))), "{from} → {to}");
    }
}
