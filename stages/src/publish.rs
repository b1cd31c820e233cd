//! `publish`: builds a directory ready to be pushed to a model hub: adapter, model card, numbers, provenance.
//!
//! Every number in the card is one of `metrics.json` or of the lineage, both of which lie beside it. Checks what it publishes: an
//! adapter that is whole, finite and not inert, a licence that exists, no token or key in any text. Pushes nothing.

mod adapter;
mod card;
mod front_matter;
mod license;
mod provenance;
mod secrets;

use std::path::Path;

use pipe_engine::problem::{Failure, Problem};
use pipe_engine::stage::{Contract, DATASET, Declare, Execute, Port, Resources, Stage, params_schema};
use pipe_engine::step::{Data, FileSet, StepContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::evaluate::Report;
use crate::kinds;
use adapter::Adapter;
use card::{Card, Rows};
use license::License;
use provenance::Provenance;

/// See the module.
pub const STAGE: Stage = Stage {
    name: "publish",
    version: 1,
    about: "builds a directory ready to be pushed to a model hub, with model card and provenance",
    inputs: &[
        Port::one("adapter", &[kinds::ADAPTER], "the adapter to publish").optional(),
        Port::one("model", &[kinds::MODEL], "the model it adapts, for its name; its weights are not copied").optional(),
        Port::one("metrics", &[kinds::METRICS], "an evaluation, for the results").optional(),
        Port::one("data", &[DATASET], "datasets whose size the card states").many().optional(),
    ],
    outputs: &[Port::one("release", &[kinds::RELEASE], "the directory")],
    params: params_schema::<Params>,
    resources: Resources::ONE_CORE,
    resolve: None,
    declare,
    execute: Execute::Step(execute),
};

/// The parameters of `publish`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The name of what is published, as on the hub: `narrator-3b` or `org/narrator-3b`.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Its licence: an SPDX identifier such as `apache-2.0`, or `other` with `license_name`.
    pub license: String,
    /// The name of a licence that SPDX does not list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_name: Option<String>,
    /// Where that licence can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_link: Option<String>,
    /// The name of the base model on the hub: `Qwen/Qwen2.5-3B`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_model: Option<String>,
    /// What it is, in a paragraph.
    #[serde(default)]
    pub description: String,
    /// What it should not be used for, and where it fails.
    #[serde(default)]
    pub limitations: String,
    /// Tags for the hub.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Languages, as ISO 639-1 codes: `en`.
    #[serde(default)]
    pub language: Vec<String>,
    /// The system of the evaluation that is published; where there is one besides the baseline, that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// What the evaluation was made on, in a few words.
    #[serde(default = "evaluation_data")]
    pub evaluation_data: String,
}

fn evaluation_data() -> String {
    "held-out rows of this pipeline".to_owned()
}

fn declare(declare: &Declare<'_>) -> Result<Contract, Problem> {
    let params: Params = declare.params()?;
    License::read(&params)?;
    for code in &params.language {
        if !(2..=3).contains(&code.len()) || !code.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Err(
                Problem::param("language", format!("`{code}` is not a language code")).help("such as `en` or `km`")
            );
        }
    }
    if ["adapter", "metrics", "data"].iter().all(|port| !declare.inputs.contains_key(*port)) {
        return Err(Problem::step("there is nothing to publish").help("connect port `adapter`, `metrics` or `data`"));
    }
    let mut contract = Contract::default().uses_lineage().gives("release", kinds::RELEASE);
    if declare.inputs.contains_key("adapter") && params.base_model.is_none() {
        contract
            .notes
            .push("without `base_model` the card cannot say where the model that is adapted is found".to_owned());
    }
    Ok(contract)
}

fn execute(ctx: &StepContext<'_>) -> Result<(), Failure> {
    let params: Params = ctx.params()?;
    let mut release = Release { dir: ctx.output("release")? };
    let evaluation = match files(ctx, "metrics") {
        Some(metrics) => Some(release.metrics(metrics, &params)?),
        None => None,
    };
    let adapter = match files(ctx, "adapter") {
        Some(files) => Some(release.adapter(files, &params)?),
        None => None,
    };
    let provenance = Provenance::of(ctx.task, &params);
    release.text("provenance.json", &provenance.to_json())?;
    let card = Card {
        license: License::read(&params).map_err(|problem| Failure::input(problem.message))?,
        params: &params,
        base: base(ctx)?,
        evaluation,
        adapter,
        data: rows(ctx),
        provenance: &provenance,
    };
    release.text("README.md", &card.to_markdown())
}

fn files<'c>(ctx: &'c StepContext<'_>, port: &str) -> Option<&'c FileSet> {
    match ctx.inputs(port).first().map(|input| &input.data) {
        Some(Data::Files(files)) => Some(files),
        _ => None,
    }
}

/// What `config.json` of the model calls it: `qwen2`.
fn base(ctx: &StepContext<'_>) -> Result<Option<String>, Failure> {
    let Some(model) = files(ctx, "model") else { return Ok(None) };
    let config: Value = serde_json::from_slice(&model.read("config.json")?)
        .map_err(|error| Failure::input(format!("config.json of the model: {error}")))?;
    Ok(config.get("model_type").and_then(Value::as_str).map(str::to_owned))
}

fn rows(ctx: &StepContext<'_>) -> Vec<Rows> {
    let rows = |input: &pipe_engine::step::Input| match &input.data {
        Data::Dataset(view) => {
            Some(Rows { label: input.label.clone(), rows: view.rows, digest: input.digest.to_string() })
        }
        Data::Files(_) => None,
    };
    ctx.inputs("data").iter().filter_map(rows).collect()
}

/// The evaluation in a release, and which of its systems is released.
pub(crate) struct Evaluation {
    report: Report,
    system: String,
}

/// The directory while it is filled.
struct Release<'a> {
    dir: &'a Path,
}

impl Release<'_> {
    fn metrics(&mut self, files: &FileSet, params: &Params) -> Result<Evaluation, Failure> {
        let bytes = files.read("metrics.json")?;
        let report = Report::parse(&bytes)
            .map_err(|why| Failure::input(why).help("connect the output of an `evaluate` step to port `metrics`"))?;
        let system = released(&report, params.system.as_deref())?.to_owned();
        self.bytes("metrics.json", &bytes)?;
        Ok(Evaluation { report, system })
    }

    fn adapter(&mut self, files: &FileSet, params: &Params) -> Result<Adapter, Failure> {
        let weights = files.read("adapter_model.safetensors")?;
        let adapter = Adapter::check(&files.read("adapter_config.json")?, &weights)?;
        self.bytes("adapter_model.safetensors", &weights)?;
        self.text("adapter_config.json", &adapter.config_for(params.base_model.as_deref()))?;
        Ok(adapter)
    }

    /// Writes a text, after a look for secrets.
    fn text(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        if let Some(secret) = secrets::find(text) {
            return Err(Failure::input(format!("{name} would hold what looks like {secret}; it is not published"))
                .help("take it out of the parameters of the steps that led here, and revoke it"));
        }
        self.bytes(name, text.as_bytes())
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.dir.join(name);
        std::fs::write(&path, bytes).map_err(|error| Failure::io("write", &path, &error))
    }
}

/// The system that is released.
fn released<'r>(report: &'r Report, wanted: Option<&str>) -> Result<&'r str, Failure> {
    let names: Vec<&str> = report.systems.iter().map(|system| system.name.as_str()).collect();
    let others: Vec<&str> = names.iter().copied().filter(|name| *name != report.baseline).collect();
    match (wanted, others.as_slice(), names.as_slice()) {
        (Some(wanted), ..) => names.iter().copied().find(|name| *name == wanted).ok_or_else(|| {
            Failure::input(format!("the evaluation has no system `{wanted}`, only {}", names.join(", ")))
        }),
        (None, [only], _) | (None, _, [only]) => Ok(only),
        _ => Err(Failure::input(format!("the evaluation has the systems {}", names.join(", ")))
            .help("say which is published: system = \"…\"")),
    }
}

#[cfg(test)]
mod tests;
