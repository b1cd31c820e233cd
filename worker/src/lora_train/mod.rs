//! `lora_train`: trains a LoRA adapter on tokenized rows.
//!
//! Which rows a step learns is `pipe-stages`' decision, how a step is computed `pipe-models`'; here the two meet, are
//! watched, and are saved.

mod curve;
mod examples;
mod pace;
mod training;

use pipe_engine::problem::Failure;
use pipe_engine::step::{DatasetView, StepContext};
use pipe_models::{AdapterSource, CausalLm, DType, LoadOptions, LoraConfig, Schedule, TrainConfig, Trainer};
use pipe_stages::lora_train::order::Plan;
use pipe_stages::lora_train::{Order, Params, Scheduler, TargetModules};
use pipe_stages::precision::Numerics;

use self::examples::{Columns, Examples};
use self::training::Training;
use crate::failure::failure;
use crate::inputs;
use crate::memory::Peak;
use crate::stages::Session;

/// Executes the stage.
pub fn run(session: &Session, context: &StepContext<'_>) -> Result<(), Failure> {
    let params: Params = context.params()?;
    let peak = Peak::start(session.device);
    let data = Examples::read(context.dataset("data")?, &data_columns(&params))?;
    let validation = validation(context)?.map(|view| Examples::read(view, &token_columns(&params))).transpose()?;
    let plan = Plan::new(&data.items(), &params)?;
    // Whatever another step left there: this one needs the room.
    session.models.clear()?;
    let model = load_model(session, context, &params)?;
    data.check_length(model.max_positions())?;
    if let Some(rows) = &validation {
        rows.check_length(model.max_positions())?;
    }
    let trainer = Trainer::new(model, train_config(&params, plan.steps())).map_err(failure)?;
    let mut training = Training::new(context, &params, plan, trainer);
    training.resume()?;
    training.run(&data, validation.as_ref())?;
    training.finish()?;
    peak.measure(context.sink);
    Ok(())
}

/// The rows to watch the loss on, where that port is connected.
fn validation<'a>(context: &'a StepContext<'_>) -> Result<Option<&'a DatasetView>, Failure> {
    const PORT: &str = "validation";
    if context.inputs(PORT).is_empty() { Ok(None) } else { context.dataset(PORT).map(Some) }
}

fn token_columns(params: &Params) -> Columns<'_> {
    Columns { input_ids: &params.input_ids, labels: &params.labels, phase: None, weight: None }
}

fn data_columns(params: &Params) -> Columns<'_> {
    let phase = (params.order == Order::Curriculum).then_some(params.phase.as_str());
    Columns { phase, weight: params.weight.as_deref(), ..token_columns(params) }
}

fn load_model(session: &Session, context: &StepContext<'_>, params: &Params) -> Result<CausalLm, Failure> {
    let (dtype, numerics) = match params.numerics {
        Numerics::Fp32 => (DType::F32, pipe_models::Numerics::Fp32),
        Numerics::PeftFp32 => (DType::Bf16, pipe_models::Numerics::PeftFp32),
        Numerics::HfAutocast => (DType::Bf16, pipe_models::Numerics::HfAutocast),
    };
    let config = lora_config(params);
    let adapter = AdapterSource::New { config: &config, seed: params.seed };
    let options = LoadOptions { device: session.device, dtype, adapter, numerics };
    CausalLm::load(&inputs::model_files(context.files("model")?), &options).map_err(failure)
}

fn lora_config(params: &Params) -> LoraConfig {
    LoraConfig {
        r: i64::from(params.r),
        lora_alpha: params.lora_alpha,
        lora_dropout: params.lora_dropout,
        target_modules: match &params.target_modules {
            TargetModules::Names(names) => pipe_models::TargetModules::List(names.clone()),
            TargetModules::Pattern(word) if word == "all-linear" => pipe_models::TargetModules::AllLinear,
            TargetModules::Pattern(pattern) => pipe_models::TargetModules::Pattern(pattern.clone()),
        },
        use_rslora: params.use_rslora,
    }
}

fn train_config(params: &Params, steps: usize) -> TrainConfig {
    TrainConfig {
        total_steps: steps as u64,
        learning_rate: params.learning_rate,
        lr_scheduler: match params.lr_scheduler {
            Scheduler::Linear => Schedule::Linear,
            Scheduler::Cosine => Schedule::Cosine,
            Scheduler::Constant => Schedule::Constant,
        },
        warmup_steps: params.warmup_steps,
        weight_decay: params.weight_decay,
        adam_beta1: params.adam_beta1,
        adam_beta2: params.adam_beta2,
        adam_epsilon: params.adam_epsilon,
        max_grad_norm: params.max_grad_norm,
        seed: params.seed,
        // The model drops as its own configuration says, as the reference does.
        base_dropout: true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parameters_reach_the_models_unchanged() {
        let params: Params = serde_json::from_value(json!({
            "r": 32, "lora_alpha": 64, "lora_dropout": 0.1, "target_modules": ["q_proj"], "use_rslora": true,
            "learning_rate": 1e-3, "lr_scheduler": "cosine", "warmup_steps": 0.03, "weight_decay": 0.01,
            "adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": 1e-6, "max_grad_norm": 0.5, "seed": 7,
        }))
        .unwrap();
        let target_modules = pipe_models::TargetModules::List(vec!["q_proj".into()]);
        let lora = LoraConfig { r: 32, lora_alpha: 64.0, lora_dropout: 0.1, target_modules, use_rslora: true };
        assert_eq!(lora_config(&params), lora);
        let train = TrainConfig {
            total_steps: 12,
            learning_rate: 1e-3,
            lr_scheduler: Schedule::Cosine,
            warmup_steps: 0.03,
            weight_decay: 0.01,
            adam_beta1: 0.8,
            adam_beta2: 0.95,
            adam_epsilon: 1e-6,
            max_grad_norm: 0.5,
            seed: 7,
            base_dropout: true,
        };
        assert_eq!(train_config(&params, 12), train);
    }

    #[test]
    fn all_linear_is_no_regular_expression() {
        let config = |value| lora_config(&serde_json::from_value(json!({ "target_modules": value })).unwrap());
        assert_eq!(config("all-linear").target_modules, pipe_models::TargetModules::AllLinear);
        assert_eq!(config(".*q").target_modules, pipe_models::TargetModules::Pattern(".*q".into()));
    }
}
