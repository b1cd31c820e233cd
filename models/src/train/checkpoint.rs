//! What a training needs to go on where it stopped: `checkpoint.safetensors` (the adapter and both moments) beside
//! `checkpoint.json` (the step and the configuration). Randomness needs nothing: it is a function of seed and step.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::{Kind, Tensor};

use super::{TrainConfig, Trainer};
use crate::error::{Error, Result};
use crate::files::{ModelFiles, write_whole};
use crate::lora::{LoraConfig, Numerics};
use crate::weights::{self, Weights};

const STEM: &str = "checkpoint";
const STATE: &str = "checkpoint.json";
const FORMAT: &str = "training/1";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    format: String,
    step: u64,
    config: TrainConfig,
    lora: LoraConfig,
    dtype: String,
    numerics: Numerics,
}

impl State {
    /// What `other` has differently, as sentences.
    fn differences(&self, other: &Self) -> Vec<String> {
        let value = |state: &Self| serde_json::to_value(state).expect("plain fields serialise");
        let mut found = vec![];
        compare("", &value(self), &value(other), &mut found);
        found
    }
}

fn compare(path: &str, stored: &Value, ours: &Value, found: &mut Vec<String>) {
    match (stored, ours) {
        (Value::Object(stored), Value::Object(ours)) => {
            for (field, value) in ours {
                let path = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
                compare(&path, stored.get(field).unwrap_or(&Value::Null), value, found);
            }
        }
        _ if stored != ours => found.push(format!("{path} was {stored}, and is {ours} now")),
        _ => {}
    }
}

impl Trainer {
    /// Writes a checkpoint into `dir`, which must exist. The state file comes last: with it, the checkpoint is whole.
    pub fn write_checkpoint(&self, dir: &Path) -> Result<()> {
        let bytes = weights::serialize(&self.checkpoint_tensors())?;
        write_whole(&dir.join(format!("{STEM}.safetensors")), &bytes)?;
        let mut state = serde_json::to_vec_pretty(&self.state()?).expect("plain fields serialise");
        state.push(b'\n');
        write_whole(&dir.join(STATE), &state)
    }

    /// Goes on from a checkpoint of the same training: the next step is the one after the checkpoint's.
    ///
    /// Fails where the checkpoint was made with another configuration, adapter or numerics, and then changes nothing.
    pub fn restore(&mut self, files: &ModelFiles) -> Result<()> {
        let stored: State = files.require_json(STATE)?;
        let differences = stored.differences(&State { step: stored.step, ..self.state()? });
        if !differences.is_empty() {
            return Err(Error::Checkpoint(differences.join("; ")));
        }
        if stored.step > self.config().total_steps {
            return Err(Error::Checkpoint(format!("step {} is past the last", stored.step)));
        }
        let weights = Weights::open(files, STEM)?;
        let ours = self.checkpoint_tensors();
        let fits = |(name, tensor): &(String, &Tensor)| weights.shape(name) == Some(tensor.size().as_slice());
        if weights.names().count() != ours.len() || !ours.iter().all(fits) {
            return Err(Error::Checkpoint("its tensors are not those of this adapter".to_owned()));
        }
        let _guard = tch::no_grad_guard();
        for (name, tensor) in ours {
            let stored = weights.tensor(&name, Kind::Float, tch::Device::Cpu)?;
            tensor.shallow_clone().f_copy_(&stored)?;
        }
        self.set_step(stored.step)
    }

    fn state(&self) -> Result<State> {
        Ok(State {
            format: FORMAT.to_owned(),
            step: self.steps_done(),
            config: self.config().clone(),
            lora: self.model().require_adapter()?.config().clone(),
            dtype: self.model().dtype().to_string(),
            numerics: self.model().numerics(),
        })
    }

    fn checkpoint_tensors(&self) -> Vec<(String, &Tensor)> {
        let optimizer = self.optimizer();
        let names = &optimizer.names;
        let groups =
            [("", &optimizer.params), ("exp_avg.", &optimizer.exp_avg), ("exp_avg_sq.", &optimizer.exp_avg_sq)];
        groups
            .into_iter()
            .flat_map(|(prefix, tensors)| {
                names.iter().zip(tensors).map(move |(name, tensor)| (format!("{prefix}{name}"), tensor))
            })
            .collect()
    }
}
