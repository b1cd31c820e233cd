//! What can be said of any step besides its stage, inputs and parameters: how it is run and judged. Of all this nothing is in its key.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::expression::{Expression, Mistake, Type, Wanted};
use crate::params::{self, Parameters};
use crate::problem::Problem;
use crate::stage::{Resources, params_schema};

/// The settings of a step as they are written.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepSettings {
    /// One step for each combination of these values, `{ r = [8, 16] }`; `${r}` is the value in that step.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "matrix_schema")]
    pub matrix: Map<String, Value>,
    /// As many steps, each with a `seed` of its own, derived from that of the step; `${replicate}` counts them from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub replicates: Option<u32>,
    /// The step exists only if this expression over parameters and matrix variables is true: `size > 64`.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schemars(schema_with = "condition_schema")]
    pub when: Value,
    /// Expressions over what the step gave that must be true: `["rows.failed <= 10", "seconds < 6 * 3600"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<ExpectSetting>,
    /// How often the step is tried again after a failure of the network, the disk, memory or a worker.
    #[serde(default)]
    #[schemars(range(max = 20))]
    pub retries: u32,
    /// How long the step may take before it is ended: `"90s"`, `"30m"`, `"1h 30m"`, or a number of seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Quantity>,
    /// Failed rows above which the step fails: a number, or a share such as `"1%"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failed_rows: Option<Quantity>,
    /// What the step occupies while it runs, where that is not what its stage says.
    #[serde(default)]
    pub resources: ResourceSettings,
}

/// One of `expect`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ExpectSetting {
    /// An expression that must be true.
    Text(String),
    /// An expression, and what to do where it is false.
    Table(ExpectTable),
}

/// One of `expect`, in full.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectTable {
    /// The expression.
    pub that: String,
    /// What to do where it is false: `fail` the step, or `warn`.
    #[serde(default)]
    pub otherwise: Otherwise,
}

/// What to do where an expectation is not met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Otherwise {
    /// Fail the step.
    #[default]
    Fail,
    /// Say so and go on.
    Warn,
}

/// What a step occupies while it runs, where that is not what its stage says.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceSettings {
    /// Cores; 0 for a step that only waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 65_536))]
    pub cpu: Option<u32>,
    /// Network connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 65_536))]
    pub net: Option<u32>,
    /// 1 for a program that computes on the GPU: then no other such step and none with tensors runs beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1))]
    pub gpu: Option<u32>,
    /// Memory, as `"8GB"`, `"512MiB"` or a number of bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
}

/// A number, or a text with a unit.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Quantity {
    /// In the smallest unit.
    Number(f64),
    /// With its unit.
    Text(String),
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["number", "string"], "minimum": 0 })
    }
}

fn matrix_schema(_: &mut SchemaGenerator) -> Schema {
    let value = json_schema!({ "type": ["string", "number", "boolean"] });
    let values = json_schema!({ "type": "array", "minItems": 1, "items": value });
    json_schema!({
        "type": "object",
        "default": {},
        "minProperties": 1,
        "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" },
        "additionalProperties": values,
    })
}

fn condition_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "boolean"] })
}

/// The schema of [`StepSettings`], ready to check with.
#[must_use]
pub fn parameters() -> Arc<Parameters> {
    params::of(params_schema::<StepSettings>)
}

/// Their names.
pub fn names() -> &'static [String] {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    NAMES.get_or_init(|| parameters().names().map(str::to_owned).collect())
}

impl StepSettings {
    /// Checks settings as they are written.
    ///
    /// # Errors
    /// Everything wrong with them, but for what [`StepSettings::resolve`] finds.
    pub fn read(given: &Value) -> Result<Self, Vec<Problem>> {
        if given.as_object().is_some_and(Map::is_empty) {
            return Ok(Self::default());
        }
        parameters().validate(given)?;
        Self::deserialize(given).map_err(|error| vec![Problem::step(format!("settings do not fit: {error}"))])
    }

    /// The settings as a run uses them, for a stage with these needs.
    ///
    /// # Errors
    /// Expressions that are none, and quantities without sense.
    pub fn resolve(&self, stage: Resources) -> Result<Settings, Vec<Problem>> {
        let mut wrong = Vec::new();
        let mut settings = Settings { retries: self.retries, resources: stage, ..Settings::default() };
        let given = &self.resources;
        settings.resources.cpu = given.cpu.unwrap_or(stage.cpu);
        settings.resources.net = given.net.unwrap_or(stage.net);
        settings.resources.device = stage.device || given.gpu == Some(1);
        if stage.device && given.gpu == Some(0) {
            let problem =
                Problem::param("resources.gpu", "`resources.gpu` is 0, and steps with tensors share the device");
            wrong.push(problem.help("leave it out"));
        }
        let memory = given.memory.as_ref().map(bytes).transpose();
        memory.map_or_else(
            |problem| wrong.push(problem),
            |found| settings.resources.memory = found.unwrap_or(stage.memory),
        );
        let timeout = self.timeout.as_ref().map(duration).transpose();
        timeout.map_or_else(|problem| wrong.push(problem), |found| settings.timeout = found);
        let limit = self.max_failed_rows.as_ref().map(row_limit).transpose();
        limit.map_or_else(|problem| wrong.push(problem), |found| settings.max_failed_rows = found);
        for (at, one) in self.expect.iter().enumerate() {
            let (that, otherwise) = match one {
                ExpectSetting::Text(that) => (that, Otherwise::Fail),
                ExpectSetting::Table(table) => (&table.that, table.otherwise),
            };
            // What the step gives is not known yet; how its parts are used is.
            let parsed = Expression::parse(that).and_then(|one| {
                let checked = one.check(&|_| Ok(Type::Any), Wanted::Bool);
                let told = |mistake: Mistake| Mistake {
                    message: format!("in `{}`: {}", one.in_brief(), mistake.message),
                    ..mistake
                };
                checked.map_err(told).map(|()| one)
            });
            match parsed {
                Ok(expression) => settings.expect.push(Expectation { expression, otherwise, place: String::new() }),
                Err(mistake) => wrong.push(Problem::expression(&format!("expect.{at}.that"), that, mistake)),
            }
        }
        if wrong.is_empty() { Ok(settings) } else { Err(wrong) }
    }
}

/// How a step is run and judged.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How often it is tried again after a failure that may pass.
    pub retries: u32,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// How many rows of it may fail.
    pub max_failed_rows: Option<RowLimit>,
    /// What it occupies while it runs.
    pub resources: Resources,
    /// What must be true of what it gave.
    pub expect: Vec<Expectation>,
}

/// How many rows may fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RowLimit {
    /// So many.
    Count(u64),
    /// This share of those that came in, from 0 to 1.
    Share(f64),
}

impl RowLimit {
    /// The most that may fail of so many.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rounded down to whole rows, and never negative"
    )]
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Count(count) => count,
            Self::Share(share) => (share * total as f64 + 1e-9) as u64,
        }
    }
}

/// What must be true of what a step gave.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// The condition.
    pub expression: Expression,
    /// What to do where it is false.
    pub otherwise: Otherwise,
    /// Where it stands: `file:line:column`.
    pub place: String,
}

fn duration(given: &Quantity) -> Result<Duration, Problem> {
    let found = match given {
        Quantity::Number(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
        Quantity::Text(text) => humantime::parse_duration(text).ok(),
    };
    found.filter(|found| !found.is_zero()).ok_or_else(|| {
        let message = format!("`timeout` is {}, which is no length of time", shown(given));
        Problem::param("timeout", message).help("write it as \"90s\", \"30m\", \"1h 30m\", or a number of seconds")
    })
}

fn row_limit(given: &Quantity) -> Result<RowLimit, Problem> {
    let found = match given {
        Quantity::Number(number) => whole(*number).map(RowLimit::Count),
        Quantity::Text(text) => {
            let percent = text.trim().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
            percent.filter(|percent| (0.0..=100.0).contains(percent)).map(|percent| RowLimit::Share(percent / 100.0))
        }
    };
    found.ok_or_else(|| {
        let message = format!("`max_failed_rows` is {}, which is neither a number of rows nor a share", shown(given));
        Problem::param("max_failed_rows", message).help("write it as 10 or as \"1%\"")
    })
}

fn bytes(given: &Quantity) -> Result<u64, Problem> {
    let found = match given {
        Quantity::Number(number) => whole(*number),
        Quantity::Text(text) => text.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64()),
    };
    found.ok_or_else(|| {
        let message = format!("`resources.memory` is {}, which is no amount of memory", shown(given));
        Problem::param("resources.memory", message).help("write it as \"8GB\", \"512MiB\", or a number of bytes")
    })
}

/// A whole number that floats hold exactly.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be whole and in range")]
fn whole(number: f64) -> Option<u64> {
    (number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number)).then_some(number as u64)
}

fn shown(given: &Quantity) -> String {
    match given {
        Quantity::Number(number) => number.to_string(),
        Quantity::Text(text) => Value::from(text.as_str()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resolved(given: &Value) -> Result<Settings, Vec<String>> {
        let messages = |problems: Vec<Problem>| problems.into_iter().map(|problem| problem.message).collect();
        let settings = StepSettings::read(given).map_err(messages)?;
        settings.resolve(Resources::ONE_CORE).map_err(messages)
    }

    #[test]
    fn quantities_have_units() {
        let given = json!({
            "timeout": "1h 30m", "max_failed_rows": "1.5%", "resources": { "cpu": 2, "memory": "8GB" }, "retries": 3
        });
        let settings = resolved(&given).unwrap();
        assert_eq!(settings.timeout, Some(Duration::from_secs(5400)));
        assert_eq!(settings.resources, Resources { cpu: 2, memory: 8_000_000_000, ..Resources::ONE_CORE });
        let limit = settings.max_failed_rows.unwrap();
        assert_eq!([0, 66, 67, 200, 1000].map(|total| limit.of(total)), [0, 0, 1, 3, 15]);
        let given = json!({ "timeout": 1.5, "max_failed_rows": 10, "resources": { "memory": "512MiB" } });
        let settings = resolved(&given).unwrap();
        assert_eq!(settings.timeout, Some(Duration::from_millis(1500)));
        assert_eq!((settings.max_failed_rows, settings.resources.memory), (Some(RowLimit::Count(10)), 512 << 20));
    }

    #[test]
    fn a_program_may_need_the_gpu() {
        let gpu = |gpu: u32| StepSettings::read(&json!({ "resources": { "gpu": gpu } })).unwrap();
        assert_eq!(
            gpu(1).resolve(Resources::ONE_CORE).unwrap().resources,
            Resources { device: true, ..Resources::ONE_CORE }
        );
        assert_eq!(gpu(0).resolve(Resources::ONE_CORE).unwrap().resources, Resources::ONE_CORE);
        assert_eq!(gpu(1).resolve(Resources::DEVICE).unwrap().resources, Resources::DEVICE);
        assert!(gpu(0).resolve(Resources::DEVICE).is_err());
        assert!(StepSettings::read(&json!({ "resources": { "gpu": 2 } })).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for (given, told) in [
            (json!({ "timeout": "soon" }), "`timeout` is \"soon\", which is no length of time"),
            (json!({ "timeout": 0 }), "`timeout` is 0, which is no length of time"),
            (json!({ "timeout": -1 }), "`timeout` is -1, expected at least 0"),
            (
                json!({ "max_failed_rows": "101%" }),
                "`max_failed_rows` is \"101%\", which is neither a number of rows nor a share",
            ),
            (
                json!({ "max_failed_rows": 1.5 }),
                "`max_failed_rows` is 1.5, which is neither a number of rows nor a share",
            ),
            (
                json!({ "resources": { "memory": "much" } }),
                "`resources.memory` is \"much\", which is no amount of memory",
            ),
            (json!({ "retries": 21 }), "`retries` is 21, expected at most 20"),
            (json!({ "replicates": 0 }), "`replicates` is 0, expected at least 1"),
            (json!({ "resources": { "cpus": 1 } }), "unknown parameter `cpus`"),
            (json!({ "matrix": { "r": [] } }), "`matrix.r` has no values"),
            (json!({ "matrix": { "r": [[1]] } }), "`matrix.r.0` is [1] (list), expected boolean or number or text"),
            (json!({ "expect": ["rows.failed <"] }), "`rows.failed <` is not an expression: it ends too early"),
        ] {
            let wrong = resolved(&given).unwrap_err();
            assert!(wrong[0].starts_with(told), "{given}: {wrong:?}");
        }
    }
}
