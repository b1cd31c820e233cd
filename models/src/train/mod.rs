//! Fine-tuning the adapter of a language model.
//!
//! The caller owns the order of the data: it hands over, step by step, the examples of that step. Everything random is a
//! function of (seed, step, micro-batch, layer), so that a training that goes on from a checkpoint gives the bytes of the
//! uninterrupted one, on the same device with the same number of threads.

mod batch;
mod checkpoint;
mod loss;
mod optimizer;
mod schedule;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use self::batch::Batch;
pub use self::batch::Example;
use self::loss::cross_entropy;
use self::optimizer::{AdamW, GradNorms};
pub use self::schedule::Schedule;
use self::schedule::warmup_steps;
use crate::blocks::{Dropout, Pass};
use crate::causal_lm::CausalLm;
use crate::error::{Error, Result};
use crate::lora::Adapter;
use crate::rng::mix;
use crate::shim::{self, AdamWOptions};

/// How to train; the fields are named as in `transformers.TrainingArguments`, and mean the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// How many optimizer steps the whole training has.
    pub total_steps: u64,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// Its course after warm-up.
    pub lr_scheduler: Schedule,
    /// Steps of warm-up: a count from 1 on, a share of `total_steps` below.
    pub warmup_steps: f64,
    /// How much of each weight a step takes off, times the learning rate.
    pub weight_decay: f64,
    /// The decay of the first moment.
    pub adam_beta1: f64,
    /// The decay of the second moment.
    pub adam_beta2: f64,
    /// Keeps the quotient of the moments finite.
    pub adam_epsilon: f64,
    /// The gradient is scaled down to this norm; 0 leaves it.
    pub max_grad_norm: f64,
    /// Fixes dropout.
    pub seed: u64,
    /// Whether the base model drops too, as its configuration says (OPT: 0.1), and as the reference does.
    pub base_dropout: bool,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            total_steps: 0,
            learning_rate: 5e-5,
            lr_scheduler: Schedule::Cosine,
            warmup_steps: 0.0,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: 1.0,
            seed: 0,
            base_dropout: true,
        }
    }
}

impl TrainConfig {
    /// Fails where a number is out of its range.
    pub fn check(&self) -> Result<()> {
        let at_least_zero = [
            ("learning_rate", self.learning_rate),
            ("warmup_steps", self.warmup_steps),
            ("weight_decay", self.weight_decay),
            ("adam_epsilon", self.adam_epsilon),
            ("max_grad_norm", self.max_grad_norm),
        ];
        for (name, value) in at_least_zero {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::input(format!("{name} = {value} is not 0 or more")));
            }
        }
        for (name, value) in [("adam_beta1", self.adam_beta1), ("adam_beta2", self.adam_beta2)] {
            if !(0.0..1.0).contains(&value) {
                return Err(Error::input(format!("{name} = {value} is not in [0, 1)")));
            }
        }
        if self.total_steps == 0 {
            return Err(Error::input("total_steps is 0"));
        }
        Ok(())
    }

    /// The learning rate of the step after `done` steps.
    pub fn learning_rate_after(&self, done: u64) -> f64 {
        let warmup = warmup_steps(self.warmup_steps, self.total_steps);
        self.learning_rate * self.lr_scheduler.factor(done, warmup, self.total_steps)
    }
}

/// What one optimizer step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Its number, from 1.
    pub step: u64,
    /// The mean loss per learned token, in nats, over all its micro-batches.
    pub loss: f64,
    /// The norm of the gradient, before clipping.
    pub grad_norm: f64,
    /// The learning rate it used.
    pub learning_rate: f64,
    /// How many tokens were learned.
    pub tokens: u64,
}

/// The loss on examples that are not learned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvalReport {
    /// The mean loss per token that counts, in nats.
    pub loss: f64,
    /// How many tokens counted.
    pub tokens: u64,
}

/// Trains the adapter of a language model.
///
/// ```no_run
/// # use std::path::Path;
/// # use pipe_models::{CausalLm, Example, Result, TrainConfig, Trainer};
/// fn train(model: CausalLm, config: TrainConfig, windows: &[Vec<Vec<Example<'_>>>], dir: &Path) -> Result<()> {
///     let mut trainer = Trainer::new(model, config)?;
///     for window in windows {
///         let report = trainer.step(window)?;
///         if report.step % 100 == 0 {
///             trainer.write_checkpoint(dir)?;
///         }
///     }
///     trainer.adapter().write(dir, None)
/// }
/// ```
pub struct Trainer {
    model: CausalLm,
    config: TrainConfig,
    optimizer: AdamW,
    done: u64,
}

impl Trainer {
    /// A training at its beginning. Fails where the model has no adapter or a number is out of its range.
    pub fn new(model: CausalLm, config: TrainConfig) -> Result<Self> {
        config.check()?;
        let params = model.require_adapter()?.tensors();
        let params = params.into_iter().map(|(name, tensor)| (name, tensor.shallow_clone())).collect();
        let optimizer = AdamW::new(params)?;
        Ok(Self { model, config, optimizer, done: 0 })
    }

    /// How many steps are done.
    pub fn steps_done(&self) -> u64 {
        self.done
    }

    /// The configuration.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The model, as trained so far.
    pub fn model(&self) -> &CausalLm {
        &self.model
    }

    /// The adapter, as trained so far.
    pub fn adapter(&self) -> &Adapter {
        self.model.adapter().expect("`new` checked that there is one")
    }

    /// One optimizer step over the micro-batches of `window`, in order. Every learned token of the window counts the
    /// same, however it is cut.
    ///
    /// Fails, and leaves the adapter as it was, where an example cannot be used, all steps are done, or loss or gradient
    /// are not finite; in the first step also where a layer of the adapter gets no gradient.
    pub fn step(&mut self, window: &[Vec<Example<'_>>]) -> Result<StepReport> {
        let step = self.done + 1;
        if step > self.config.total_steps {
            return Err(Error::input(format!("all {} steps are done", self.config.total_steps)));
        }
        let batches = window.iter().map(|examples| self.batch(examples)).collect::<Result<Vec<_>>>()?;
        let tokens: i64 = batches.iter().map(|batch| batch.count).sum();
        if tokens == 0 {
            return Err(Error::input("a step has no examples"));
        }
        self.optimizer.clear_grads()?;
        let mut loss = Tensor::f_zeros([], (Kind::Double, self.model.device().tch()))?;
        for (micro, batch) in batches.iter().enumerate() {
            loss = loss.f_add(&self.accumulate(batch, micro as u64, 1.0 / tokens as f64)?)?;
        }
        let norms = self.optimizer.clip(self.config.max_grad_norm)?;
        let loss = f64::try_from(&loss)?;
        self.check_finite(step, loss, &norms)?;
        let learning_rate = self.config.learning_rate_after(self.done);
        self.optimizer.step(&AdamWOptions {
            lr: learning_rate,
            beta1: self.config.adam_beta1,
            beta2: self.config.adam_beta2,
            weight_decay: self.config.weight_decay,
            eps: self.config.adam_epsilon,
        })?;
        self.done = step;
        Ok(StepReport { step, loss, grad_norm: norms.total, learning_rate, tokens: tokens as u64 })
    }

    /// The loss on `batches`, each run as one.
    pub fn evaluate(&self, batches: &[Vec<Example<'_>>]) -> Result<EvalReport> {
        let _guard = tch::no_grad_guard();
        let decoder = self.model.decoder();
        let (mut loss, mut tokens) = (0.0, 0);
        for examples in batches {
            let batch = self.batch(examples)?;
            let mut pass = Pass::whole(batch.rows, batch.columns);
            let x = decoder.run(decoder.embed(&batch.ids)?, &mut pass)?;
            let hidden = decoder.leave(&x.f_index_select(0, &batch.places)?)?;
            let (sum, _) = cross_entropy(&hidden, &batch.targets, decoder.head(), 1.0, false)?;
            loss += f64::try_from(&sum)?;
            tokens += batch.count;
        }
        if tokens == 0 {
            return Err(Error::input("there are no examples to evaluate"));
        }
        Ok(EvalReport { loss: loss / tokens as f64, tokens: tokens as u64 })
    }

    fn batch(&self, examples: &[Example<'_>]) -> Result<Batch> {
        Batch::new(examples, self.model.decoder().dims(), self.model.device())
    }

    /// Runs one micro-batch forward and back; gives its share of the loss.
    fn accumulate(&self, batch: &Batch, micro: u64, weight: f64) -> Result<Tensor> {
        let decoder = self.model.decoder();
        let mut pass = Pass::whole(batch.rows, batch.columns);
        pass.dropout = self.draws(micro);
        let x = decoder.run(decoder.embed(&batch.ids)?, &mut pass)?;
        let hidden = decoder.leave(&x.f_index_select(0, &batch.places)?)?;
        let (loss, gradient) = cross_entropy(&hidden.f_detach()?, &batch.targets, decoder.head(), weight, true)?;
        shim::backward(&hidden, &gradient.expect("a gradient was asked for"))?;
        Ok(loss)
    }

    /// The randomness of one micro-batch, where anything is random.
    fn draws(&self, micro: u64) -> Option<Dropout> {
        let base = self.config.base_dropout;
        let drops = base || self.adapter().config().lora_dropout > 0.0;
        drops.then(|| Dropout { seed: mix(&[self.config.seed, self.done, micro]), base })
    }

    fn check_finite(&self, step: u64, loss: f64, norms: &GradNorms) -> Result<()> {
        let failed = |reason: String| Err(Error::Training { step, reason });
        if !loss.is_finite() {
            return failed(format!("the loss is {loss}"));
        }
        if !norms.total.is_finite() {
            let broken = self.names_where(norms, |_, norm| !norm.is_finite());
            return failed(format!("the gradient is {} in {broken}", norms.total));
        }
        // A is still at rest in the first step, because B is zero; B must move.
        let still = self.names_where(norms, |name, norm| norm == 0.0 && name.contains(".lora_B."));
        if step == 1 && !still.is_empty() {
            return failed(format!("no gradient reaches {still}"));
        }
        Ok(())
    }

    fn names_where(&self, norms: &GradNorms, holds: impl Fn(&str, f32) -> bool) -> String {
        let names = self.optimizer.names.iter().zip(&norms.each).filter(|(name, norm)| holds(name, **norm));
        names.map(|(name, _)| name.as_str()).take(8).collect::<Vec<_>>().join(", ")
    }

    fn optimizer(&self) -> &AdamW {
        &self.optimizer
    }

    fn set_step(&mut self, step: u64) -> Result<()> {
        self.done = step;
        self.optimizer.set_steps(step)
    }
}
