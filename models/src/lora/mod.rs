//! Low-rank adapters (LoRA; Hu et al. 2021, arXiv:2106.09685), in the files and under the names of `peft`.

mod adapter;
mod config;
mod peft;
mod target;

pub(crate) use adapter::Plan;
pub use adapter::{Adapter, AdapterSource};
pub use config::{LoraConfig, Numerics};
pub(crate) use peft::{read_config, read_weights};
pub use target::TargetModules;
