//! The model card: `README.md`.

use std::fmt::Write as _;

use pipe_engine::step::Ancestor;
use serde_json::{Map, Value};

use super::adapter::Adapter;
use super::front_matter::front_matter;
use super::license::License;
use super::provenance::{Provenance, text_param};
use super::{Evaluation, Params};
use crate::evaluate::table;
use crate::template::Template;

/// What the card is written from.
pub(super) struct Card<'a> {
    pub params: &'a Params,
    pub license: License,
    /// The type of the base model.
    pub base: Option<String>,
    pub evaluation: Option<Evaluation>,
    pub adapter: Option<Adapter>,
    pub data: Vec<Rows>,
    pub provenance: &'a Provenance,
}

/// A dataset whose size the card states.
pub(super) struct Rows {
    pub label: String,
    pub rows: u64,
    pub digest: String,
}

impl Card<'_> {
    pub fn to_markdown(&self) -> String {
        let sections = [
            self.what(),
            self.results(),
            self.training(),
            self.data(),
            self.usage(),
            self.limits(),
            self.how_it_came_to_be(),
        ];
        let body = sections.into_iter().flatten().collect::<Vec<_>>().join("\n");
        format!("{}\n{body}", front_matter(self))
    }

    fn what(&self) -> Option<String> {
        let params = self.params;
        let mut text = format!("# {}\n", params.name);
        if !params.description.is_empty() {
            write(&mut text, format_args!("\n{}\n", params.description.trim()));
        }
        if let Some(adapter) = &self.adapter {
            let base = match (&params.base_model, &self.base) {
                (Some(name), Some(kind)) => format!("`{name}` ({kind})"),
                (Some(name), None) => format!("`{name}`"),
                (None, Some(kind)) => format!("a model of type {kind}"),
                (None, None) => "a language model".to_owned(),
            };
            let (modules, parameters) = (adapter.modules, adapter.parameters);
            write(
                &mut text,
                format_args!("\nA LoRA adapter of {base}: {parameters} parameters on {modules} modules.\n"),
            );
        }
        let name = &self.license.name;
        let license = self.license.link.as_ref().map_or_else(|| name.clone(), |link| format!("[{name}]({link})"));
        write(&mut text, format_args!("\nLicence: {license}.\n"));
        Some(text)
    }

    fn results(&self) -> Option<String> {
        let Evaluation { report, system } = self.evaluation.as_ref()?;
        let mut text = "## Results\n\n".to_owned();
        write(
            &mut text,
            format_args!(
                "On {}. This release is `{system}`. All digits are in `metrics.json`.\n\n",
                self.params.evaluation_data
            ),
        );
        text.push_str(&table(report));
        text.push_str("\nSignatures:\n\n");
        for measure in &report.measures {
            write(&mut text, format_args!("- {}: `{}`\n", measure.name, measure.signature));
        }
        Some(text)
    }

    fn training(&self) -> Option<String> {
        let maker = self.adapter.as_ref().and_then(|_| self.provenance.maker("adapter"))?;
        let mut text = format!(
            "## Training\n\nStep `{}`, stage `{}`.\n\n| parameter | value |\n|---|---|\n",
            maker.step, maker.stage
        );
        for (name, value) in maker.params.as_object().into_iter().flatten() {
            write(&mut text, format_args!("| `{name}` | {} |\n", cell(value)));
        }
        Some(text)
    }

    fn data(&self) -> Option<String> {
        let sources: Vec<&Ancestor> = self.provenance.steps_of("download").collect();
        if sources.is_empty() && self.data.is_empty() {
            return None;
        }
        let mut text = "## Data\n\n".to_owned();
        if !self.data.is_empty() {
            text.push_str("| dataset | rows | digest |\n|---|---|---|\n");
            for data in &self.data {
                write(&mut text, format_args!("| {} | {} | `{}` |\n", escape(&data.label), data.rows, data.digest));
            }
            text.push('\n');
        }
        if !sources.is_empty() {
            text.push_str("What the pipeline started from:\n\n| step | read as | digest |\n|---|---|---|\n");
            for source in sources {
                let digests =
                    source.outputs.values().map(|digest| format!("`{digest}`")).collect::<Vec<_>>().join(", ");
                let pin =
                    if source.pin.is_empty() { "its content".to_owned() } else { format!("`{}`", escape(&source.pin)) };
                write(&mut text, format_args!("| {} | {pin} | {digests} |\n", escape(&source.step)));
            }
        }
        Some(text)
    }

    fn usage(&self) -> Option<String> {
        self.adapter.as_ref()?;
        let quoted = |text: &str| Value::from(text).to_string();
        let base = self.params.base_model.as_deref().unwrap_or("path/to/the/base/model");
        let generation = self.provenance.steps_of("generate").last();
        let max_new_tokens = generation.and_then(|step| step.params.get("max_new_tokens")?.as_u64()).unwrap_or(64);
        let mut text = "## How to use\n\n".to_owned();
        write(
            &mut text,
            format_args!(
                "```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = {}
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), {})
prompt = {}
inputs = tokenizer(prompt, return_tensors=\"pt\")
output = model.generate(**inputs, max_new_tokens={max_new_tokens}, do_sample=False)
print(tokenizer.decode(output[0][inputs[\"input_ids\"].shape[1]:], skip_special_tokens=True))
```\n",
                quoted(base),
                quoted(&self.params.name),
                self.prompt(),
            ),
        );
        Some(text)
    }

    /// A prompt as training had it, as an expression of Python: templates have the syntax of `str.format`.
    fn prompt(&self) -> String {
        let text =
            self.provenance.steps_of("tokenize").next().and_then(|step| text_param(step, "prompt")).unwrap_or_default();
        let Ok(template) = Template::compile(text) else { return Value::from(text).to_string() };
        let cells: Map<String, Value> =
            template.columns().iter().map(|name| ((*name).to_owned(), "…".into())).collect();
        if cells.is_empty() {
            Value::from(text).to_string()
        } else {
            format!("{}.format(**{})", Value::from(text), Value::from(cells))
        }
    }

    fn limits(&self) -> Option<String> {
        let mut text = "## Limits\n\n".to_owned();
        if !self.params.limitations.is_empty() {
            write(&mut text, format_args!("{}\n\n", self.params.limitations.trim()));
        }
        match &self.evaluation {
            Some(Evaluation { report, .. }) => write(
                &mut text,
                format_args!(
                    "It was measured on {} rows ({}); nothing is known beyond them.\n",
                    report.rows, self.params.evaluation_data
                ),
            ),
            None => text.push_str("It was not evaluated.\n"),
        }
        Some(text)
    }

    fn how_it_came_to_be(&self) -> Option<String> {
        let steps = &self.provenance.steps;
        let mut text =
            "## Provenance\n\n`provenance.json` holds the parameters, inputs and digests of each of these steps.\n"
                .to_owned();
        if !steps.is_empty() {
            text.push_str("\n| step | stage | key |\n|---|---|---|\n");
            for step in steps {
                write(
                    &mut text,
                    format_args!("| {} | `{}` | `{}` |\n", escape(&step.step), step.stage, step.key.short()),
                );
            }
        }
        Some(text)
    }
}

fn write(text: &mut String, content: std::fmt::Arguments<'_>) {
    text.write_fmt(content).expect("writing to a string cannot fail");
}

/// A value in a cell of a table.
fn cell(value: &Value) -> String {
    code(&value.to_string())
}

/// A text as code, whatever it holds.
fn code(text: &str) -> String {
    let text = escape(&text.replace('\n', "\\n"));
    if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") }
}

/// A text that cannot end a cell.
fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
