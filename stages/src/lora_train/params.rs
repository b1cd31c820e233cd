//! The parameters of `lora_train`, named as in peft and transformers.

use pipe_engine::problem::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::precision::Numerics;

/// The parameters of `lora_train`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The rank of the adapter.
    #[serde(default = "r")]
    #[schemars(range(min = 1, max = 4096))]
    pub r: u32,
    /// The adapter is scaled by `lora_alpha / r`.
    #[serde(default = "lora_alpha")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub lora_alpha: f64,
    /// The probability that an element of the adapter's input is dropped in training.
    #[serde(default)]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub lora_dropout: f64,
    /// The linear layers to adapt: names or ends of names, a regular expression for whole names, or `all-linear`.
    #[serde(default)]
    pub target_modules: TargetModules,
    /// Scale by `lora_alpha / √r` instead.
    #[serde(default)]
    pub use_rslora: bool,
    /// The highest learning rate.
    #[serde(default = "learning_rate")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// Steps over which the learning rate rises from 0: a number of them, or below 1 a share of all.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub warmup_steps: f64,
    /// How the learning rate goes on after the warm-up: `linear` or `cosine` down to 0, or `constant`.
    #[serde(default)]
    pub lr_scheduler: Scheduler,
    /// AdamW's decoupled weight decay.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub weight_decay: f64,
    /// AdamW's decay of the first moment.
    #[serde(default = "adam_beta1")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub adam_beta1: f64,
    /// AdamW's decay of the second moment.
    #[serde(default = "adam_beta2")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub adam_beta2: f64,
    /// AdamW's ε.
    #[serde(default = "adam_epsilon")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub adam_epsilon: f64,
    /// The norm to which longer gradients are shortened.
    #[serde(default = "max_grad_norm")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub max_grad_norm: f64,
    /// Rows computed at once.
    #[serde(default = "micro_batch_size")]
    #[schemars(range(min = 1, max = 65536))]
    pub micro_batch_size: u32,
    /// Micro-batches to a step.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 65536))]
    pub gradient_accumulation_steps: u32,
    /// How often each row is learnt (once where `max_steps` is not given either).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub epochs: Option<u32>,
    /// How many steps are made, in place of `epochs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_steps: Option<u32>,
    /// The order of rows: `shuffle`, or `curriculum`, phase by phase.
    #[serde(default)]
    pub order: Order,
    /// Validation after each so many steps; it is made after the last step in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub eval_steps: Option<u32>,
    /// A checkpoint after each so many steps, from which an interrupted training goes on bit by bit the same.
    #[serde(default = "save_steps")]
    #[schemars(range(min = 1), extend("x-performance" = true))]
    pub save_steps: u32,
    /// Another seed starts from another adapter, drops other elements and shuffles otherwise.
    #[serde(default)]
    pub seed: u64,
    /// How model and adapter are computed: `fp32`; `peft_fp32`, the model in bf16; `hf_autocast`, all products in bf16.
    #[serde(default)]
    pub numerics: Numerics,
    /// The column of token ids.
    #[serde(default = "input_ids")]
    pub input_ids: String,
    /// The column of labels: a token's id where it is learnt, -100 where not.
    #[serde(default = "labels")]
    pub labels: String,
    /// The column of phases, for `order = "curriculum"`.
    #[serde(default = "phase")]
    pub phase: String,
    /// The column that says how often a row is learnt per epoch; a fraction by chance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
}

/// Which linear layers are adapted, as peft takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TargetModules {
    /// `all-linear` (all but the output layer), or a regular expression that whole module names match.
    Pattern(String),
    /// Module names, or their ends after a dot: `["q_proj", "v_proj"]`.
    Names(Vec<String>),
}

impl Default for TargetModules {
    fn default() -> Self {
        Self::Pattern("all-linear".to_owned())
    }
}

/// How the learning rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// It falls in a straight line to 0.
    #[default]
    Linear,
    /// It falls along half a cosine to 0.
    Cosine,
    /// It stays.
    Constant,
}

/// The order in which rows are learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// All rows shuffled, anew for each epoch.
    #[default]
    Shuffle,
    /// Phase by phase, with all epochs of a phase before the next; shuffled within.
    Curriculum,
}

/// How long training goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// So many times over the rows.
    Epochs(u32),
    /// So many steps.
    Steps(u32),
}

impl Params {
    /// How long training goes on.
    #[must_use]
    pub const fn length(&self) -> Length {
        match (self.max_steps, self.epochs) {
            (Some(steps), _) => Length::Steps(steps),
            (None, Some(epochs)) => Length::Epochs(epochs),
            (None, None) => Length::Epochs(1),
        }
    }

    /// Rows to a step.
    #[must_use]
    pub const fn batch(&self) -> usize {
        self.micro_batch_size as usize * self.gradient_accumulation_steps as usize
    }

    /// Steps of rising learning rate, of `total`: as transformers counts them.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    pub fn warmup(&self, total: u64) -> u64 {
        if self.warmup_steps >= 1.0 {
            self.warmup_steps as u64
        } else {
            (self.warmup_steps * total as f64).ceil() as u64
        }
    }

    /// What the schema cannot say.
    ///
    /// # Errors
    /// A problem at the parameter.
    pub(super) fn check(&self) -> Result<(), Problem> {
        if self.epochs.is_some() && self.max_steps.is_some() {
            return Err(Problem::param("max_steps", "`epochs` and `max_steps` both say how long to train")
                .help("take one of them away"));
        }
        if self.warmup_steps > 1.0 && self.warmup_steps.fract() != 0.0 {
            return Err(Problem::param("warmup_steps", format!("{} is no number of steps", self.warmup_steps))
                .help("a whole number of steps, or below 1 a share of all"));
        }
        match &self.target_modules {
            TargetModules::Names(names) if names.is_empty() => {
                Err(Problem::param("target_modules", "no layer is named, so there is nothing to train"))
            }
            TargetModules::Pattern(pattern) => regex::Regex::new(pattern).map(|_| ()).map_err(|error| {
                Problem::param("target_modules", format!("`{pattern}` is not a regular expression: {error}"))
            }),
            TargetModules::Names(_) => Ok(()),
        }
    }
}

const fn r() -> u32 {
    8
}

const fn lora_alpha() -> f64 {
    8.0
}

const fn learning_rate() -> f64 {
    2e-4
}

const fn adam_beta1() -> f64 {
    0.9
}

const fn adam_beta2() -> f64 {
    0.999
}

const fn adam_epsilon() -> f64 {
    1e-8
}

const fn max_grad_norm() -> f64 {
    1.0
}

const fn micro_batch_size() -> u32 {
    8
}

const fn one() -> u32 {
    1
}

const fn save_steps() -> u32 {
    100
}

fn input_ids() -> String {
    "input_ids".to_owned()
}

fn labels() -> String {
    "labels".to_owned()
}

fn phase() -> String {
    "phase_index".to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn params(value: serde_json::Value) -> Params {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn warm_up_is_a_count_or_a_share() {
        assert_eq!(params(json!({ "warmup_steps": 0.1 })).warmup(95), 10);
        assert_eq!(params(json!({ "warmup_steps": 7 })).warmup(95), 7);
        assert_eq!(params(json!({})).warmup(95), 0);
    }

    #[test]
    fn one_epoch_where_nothing_is_said() {
        assert_eq!(params(json!({})).length(), Length::Epochs(1));
        assert_eq!(params(json!({ "epochs": 3 })).length(), Length::Epochs(3));
        assert_eq!(params(json!({ "max_steps": 9 })).length(), Length::Steps(9));
    }

    #[test]
    fn target_modules_are_a_list_or_a_text() {
        let list = params(json!({ "target_modules": ["q_proj"] })).target_modules;
        assert_eq!(list, TargetModules::Names(vec!["q_proj".to_owned()]));
        assert_eq!(params(json!({})).target_modules, TargetModules::Pattern("all-linear".to_owned()));
    }

    #[test]
    fn saving_does_not_change_what_is_learnt() {
        let schema = pipe_engine::stage::params_schema::<Params>();
        let property = |name: &str| schema.as_value()["properties"][name]["x-performance"].clone();
        assert_eq!(property("save_steps"), json!(true));
        assert_eq!(property("micro_batch_size"), serde_json::Value::Null);
    }
}
