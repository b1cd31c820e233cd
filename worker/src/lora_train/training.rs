//! A training on its way: its steps, what is watched, what is saved.

use std::path::{Path, PathBuf};
use std::time::Instant;

use pipe_engine::problem::Failure;
use pipe_engine::step::{Checkpoint, FileSet, Level, StepContext};
use pipe_models::{Example, Trainer};
use pipe_stages::lora_train::Params;
use pipe_stages::lora_train::order::Plan;

use super::curve::{CURVE, Curve, Point};
use super::examples::Examples;
use super::pace::Pace;
use crate::failure::failure;
use crate::inputs;

/// Where a checkpoint keeps the best adapter so far.
const BEST: &str = "best";

/// A training on its way.
pub struct Training<'a> {
    context: &'a StepContext<'a>,
    params: &'a Params,
    plan: Plan,
    trainer: Trainer,
    curve: Curve,
    pace: Pace,
}

impl<'a> Training<'a> {
    /// A training at its beginning.
    pub fn new(context: &'a StepContext<'a>, params: &'a Params, plan: Plan, trainer: Trainer) -> Self {
        Self { context, params, plan, trainer, curve: Curve::default(), pace: Pace::default() }
    }

    /// Goes on from the checkpoint of an earlier attempt, if it left one that can be used.
    pub fn resume(&mut self) -> Result<(), Failure> {
        let Some(checkpoint) = &self.context.task.checkpoint else { return Ok(()) };
        let sink = self.context.sink;
        match self.restore(checkpoint) {
            Ok(()) => sink.log(Level::Info, &format!("going on after step {}", checkpoint.at)),
            Err(why) => {
                let message =
                    format!("starting anew: the checkpoint after step {} cannot be used: {why}", checkpoint.at);
                sink.log(Level::Warning, &message);
            }
        }
        let (weights, steps) = (self.trainer.steps_done(), self.curve.len());
        if weights != steps as u64 {
            let message = format!("a checkpoint has the weights after step {weights} and the curve up to step {steps}");
            return Err(Failure::internal(message));
        }
        Ok(())
    }

    /// Makes all steps that are left.
    pub fn run(&mut self, data: &Examples, validation: Option<&Examples>) -> Result<(), Failure> {
        let validation = validation.map(|rows| rows.batches(self.params.micro_batch_size as usize));
        let steps = self.plan.steps();
        while self.curve.len() < steps {
            let mut point = self.step(data)?;
            if let Some(rows) = validation.as_ref().filter(|_| self.is_validated(point.step)) {
                point.validation_loss = Some(self.validate(rows, point)?);
            }
            self.curve.push(point);
            if point.step.is_multiple_of(u64::from(self.params.save_steps)) && self.curve.len() < steps {
                self.save(point.step)?;
            }
        }
        Ok(())
    }

    /// Gives the outputs.
    pub fn finish(&self) -> Result<(), Failure> {
        let base = inputs::base_name(self.context.files("model")?)?;
        self.trainer.adapter().write(self.context.output("adapter")?, base.as_deref()).map_err(failure)?;
        if self.curve.best().is_some() {
            copy_files(&self.best(), self.context.output(BEST)?)?;
        }
        let curve = self.context.output("curve")?;
        self.curve.write(curve)?;
        self.curve.write_metrics(curve, self.trainer.adapter().parameter_count())?;
        self.pace.measure(self.context.sink);
        Ok(())
    }

    /// The next step.
    fn step(&mut self, data: &Examples) -> Result<Point, Failure> {
        let window: Vec<Vec<Example<'_>>> =
            self.plan.micro_batches(self.curve.len()).map(|places| data.at(places)).collect();
        let started = Instant::now();
        let report = self.trainer.step(&window).map_err(failure)?;
        self.pace.count(started, Examples::tokens(&window));
        let is_last = self.curve.len() + 1 == self.plan.steps();
        if self.pace.is_due() || is_last {
            self.tell(report.step, &format!("loss {:.3} · {}", report.loss, self.pace.rate()));
        }
        Ok(Point {
            step: report.step,
            loss: report.loss,
            lr: report.learning_rate,
            grad_norm: report.grad_norm,
            tokens: report.tokens,
            validation_loss: None,
        })
    }

    fn tell(&self, done: u64, note: &str) {
        self.context.sink.progress(done, self.plan.steps() as u64, note);
    }

    fn is_validated(&self, step: u64) -> bool {
        let regularly = self.params.eval_steps.is_some_and(|steps| step.is_multiple_of(u64::from(steps)));
        regularly || step == self.plan.steps() as u64
    }

    /// The loss on rows that are not learnt; keeps the adapter if it is the best so far.
    fn validate(&self, rows: &[Vec<Example<'_>>], point: Point) -> Result<f64, Failure> {
        self.tell(point.step, &format!("loss {:.3} · validating", point.loss));
        let loss = self.trainer.evaluate(rows).map_err(failure)?.loss;
        if !loss.is_finite() {
            return Err(Failure::input(format!("step {}: the validation loss is {loss}", point.step))
                .help("lower `learning_rate`, or warm up longer"));
        }
        if self.curve.best().is_none_or(|(_, best)| loss < best) {
            let dir = self.best();
            create_dir(&dir)?;
            let base = inputs::base_name(self.context.files("model")?)?;
            self.trainer.adapter().write(&dir, base.as_deref()).map_err(failure)?;
        }
        Ok(loss)
    }

    /// Where this attempt keeps the best adapter so far.
    fn best(&self) -> PathBuf {
        self.context.task.scratch.join(BEST)
    }

    /// Reports a checkpoint: all that [`Self::restore`] needs.
    fn save(&self, step: u64) -> Result<(), Failure> {
        let dir = self.context.task.scratch.join(format!("checkpoint-{step}"));
        create_dir(&dir)?;
        self.trainer.write_checkpoint(&dir).map_err(failure)?;
        self.curve.write(&dir)?;
        if self.curve.best().is_some() {
            let kept = dir.join(BEST);
            create_dir(&kept)?;
            copy_files(&self.best(), &kept)?;
        }
        self.context.sink.checkpoint(step, &dir)?;
        std::fs::remove_dir_all(&dir).map_err(|error| Failure::io("remove", &dir, &error))
    }

    /// Takes up the state that [`Self::save`] saved; where it says why not, the training is still at its beginning.
    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), String> {
        let files = &checkpoint.files;
        let curve = Curve::parse(&files.read(CURVE).map_err(|failure| failure.to_string())?)?;
        if curve.len() as u64 != checkpoint.at {
            return Err(format!("its curve has {} steps", curve.len()));
        }
        if curve.best().is_some() {
            let best = below(files, BEST);
            best.materialise(&self.best()).map_err(|failure| failure.to_string())?;
        }
        self.trainer.restore(&inputs::model_files(files)).map_err(|error| error.to_string())?;
        self.curve = curve;
        Ok(())
    }
}

/// The files of a directory of a file set, by their names in it.
fn below(files: &FileSet, dir: &str) -> FileSet {
    let prefix = format!("{dir}/");
    FileSet(
        files
            .0
            .iter()
            .filter_map(|(name, blob)| Some((name.strip_prefix(&prefix)?.to_owned(), blob.clone())))
            .collect(),
    )
}

fn create_dir(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|error| Failure::io("create", dir, &error))
}

fn copy_files(from: &Path, to: &Path) -> Result<(), Failure> {
    let entries = std::fs::read_dir(from).map_err(|error| Failure::io("list", from, &error))?;
    for entry in entries {
        let path = entry.map_err(|error| Failure::io("list", from, &error))?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        std::fs::copy(&path, &target).map_err(|error| Failure::io("copy", &path, &error))?;
    }
    Ok(())
}
