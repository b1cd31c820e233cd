//! The stages this program executes, and what they share.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipe_engine::problem::Failure;
use pipe_engine::step::StepContext;
use pipe_engine::worker::frame::LoadRows;
use pipe_engine::worker::serve::{TorchRows, TorchStages};
use pipe_models::{Device, DeviceName};
use rayon::ThreadPool;

use crate::failure::failure;
use crate::models::Models;
use crate::{caption, generate, lora_train};

/// How a stage executes.
enum Execute {
    /// Row by row.
    Rows(Prepare),
    /// On whole inputs.
    Step(Run),
}

/// Prepares a row stage.
type Prepare = fn(&Session, &LoadRows) -> Result<Box<dyn TorchRows>, Failure>;

/// Executes a step.
type Run = fn(&Session, &StepContext<'_>) -> Result<(), Failure>;

/// Every stage that `pipe-stages` leaves to this program, by name.
const TABLE: &[(&str, Execute)] = &[
    ("caption", Execute::Rows(caption::load)),
    ("generate", Execute::Rows(generate::load)),
    ("lora_train", Execute::Step(lora_train::run)),
];

/// What all stages use.
#[derive(Clone)]
pub struct Session {
    /// Where tensors lie.
    pub device: Device,
    /// The model in memory.
    pub models: Models,
    /// Threads for what is not computed with tensors.
    pub pool: Arc<ThreadPool>,
}

/// This program, as `pipe` sees it.
#[derive(Default)]
pub struct Worker {
    session: Option<Session>,
}

impl Worker {
    fn session(&self) -> Result<&Session, Failure> {
        self.session.as_ref().ok_or_else(|| Failure::internal("`pipe` did not say on which device to work"))
    }
}

impl TorchStages for Worker {
    fn start(&mut self, device: &str, threads: usize) -> Result<BTreeMap<String, String>, Failure> {
        let name: DeviceName = device.parse().map_err(failure)?;
        let device = Device::open(name).map_err(failure)?;
        pipe_models::set_num_threads(threads).map_err(failure)?;
        // On the CPU the algorithms are deterministic as they are, and the flag would only cost time.
        pipe_models::set_determinism(name != DeviceName::Cpu, false).map_err(failure)?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool =
            Arc::new(pool.map_err(|error| Failure::transient(format!("cannot start {threads} threads: {error}")))?);
        self.session = Some(Session { device, models: Models::new(device), pool });
        let facts = [
            ("pipe-torch", env!("CARGO_PKG_VERSION").to_owned()),
            ("libtorch", env!("LIBTORCH_VERSION").to_owned()),
            ("device", name.to_string()),
            ("threads", pipe_models::num_threads().to_string()),
        ];
        Ok(facts.into_iter().map(|(name, fact)| (name.to_owned(), fact)).collect())
    }

    fn load(&mut self, load: &LoadRows) -> Result<Box<dyn TorchRows>, Failure> {
        match find(&load.stage)? {
            Execute::Rows(prepare) => prepare(self.session()?, load),
            Execute::Step(_) => Err(Failure::internal(format!("stage `{}` does not work row by row", load.stage))),
        }
    }

    fn step(&mut self, context: &StepContext<'_>) -> Result<(), Failure> {
        match find(&context.task.stage)? {
            Execute::Step(run) => run(self.session()?, context),
            Execute::Rows(_) => Err(Failure::internal(format!("stage `{}` works row by row", context.task.stage))),
        }
    }
}

fn find(stage: &str) -> Result<&'static Execute, Failure> {
    TABLE.iter().find(|(name, _)| *name == stage).map(|(_, execute)| execute).ok_or_else(|| {
        Failure::internal(format!("this pipe-torch has no stage `{stage}`"))
            .help("install it from the same version as pipe")
    })
}

#[cfg(test)]
mod tests {
    use pipe_engine::stage::Execute as Declared;

    use super::*;

    /// Which stages there are, and of which shape.
    type Shapes = Vec<(&'static str, &'static str)>;

    #[test]
    fn exactly_the_stages_that_are_left_to_it() {
        let mut declared: Shapes = pipe_stages::TABLE
            .iter()
            .filter_map(|stage| match stage.execute {
                Declared::TorchRows => Some((stage.name, "rows")),
                Declared::TorchStep => Some((stage.name, "step")),
                _ => None,
            })
            .collect();
        let mut executed: Shapes = TABLE
            .iter()
            .map(|(name, execute)| match execute {
                Execute::Rows(_) => (*name, "rows"),
                Execute::Step(_) => (*name, "step"),
            })
            .collect();
        declared.sort_unstable();
        executed.sort_unstable();
        assert_eq!(executed, declared);
    }

    #[test]
    fn work_before_the_first_word_is_refused() {
        let load = LoadRows {
            step: "s".into(),
            stage: "generate".into(),
            params: serde_json::json!({}),
            inputs: BTreeMap::new(),
            columns: vec![],
            schema: pipe_engine::cell::Schema::default(),
        };
        let refused = |stage: &str| {
            let load = LoadRows { stage: stage.to_owned(), ..load.clone() };
            Worker::default().load(&load).map(drop).unwrap_err().message
        };
        assert_eq!(refused("generate"), "`pipe` did not say on which device to work");
        assert_eq!(refused("lora_train"), "stage `lora_train` does not work row by row");
        assert_eq!(refused("resize"), "this pipe-torch has no stage `resize`");
    }

    #[test]
    fn a_device_that_is_not_there_is_refused() {
        assert!(Worker::default().start("tpu", 1).unwrap_err().message.contains("`tpu` cannot be used"));
        assert!(Worker::default().start("cpu", 0).is_err());
    }
}
