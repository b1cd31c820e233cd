//! Networks, adapters, training and generation over libtorch, for models in the files of Hugging Face `transformers`
//! and `peft`.
//!
//! The crate takes files ([`ModelFiles`]) and plain data, and gives plain data back. It reads no environment, prints
//! nothing, and knows nothing of pipelines. Everything runs on the thread that calls; a model may move to another
//! thread, and is used by one at a time.
//!
//! - [`CausalLm`]: load a language model, with or without a LoRA adapter; continue prompts.
//! - [`Captioner`]: load BLIP-2; put images into words.
//! - [`Trainer`]: fine-tune the adapter of a [`CausalLm`], one optimizer step at a time, resumable to the bit.
//! - [`Tokenizer`]: text to ids and back.

mod arch;
mod blocks;
mod captioner;
mod causal_lm;
mod device;
mod error;
mod files;
mod forward;
mod generate;
mod image;
mod load;
mod lora;
mod rng;
mod shim;
mod special_tokens;
mod tokenizer;
mod train;
mod weights;

pub use captioner::Captioner;
pub use causal_lm::CausalLm;
pub use device::{DType, Device, DeviceMemory, DeviceName, num_threads, set_determinism, set_num_threads};
pub use error::{Error, Result};
pub use files::{FileRef, ModelFiles};
pub use forward::forward;
pub use generate::{GenerateOptions, Generated};
pub use image::{ImageProcessor, RgbImage};
pub use load::LoadOptions;
pub use lora::{Adapter, AdapterSource, LoraConfig, Numerics, TargetModules};
pub use special_tokens::SpecialTokens;
pub use tokenizer::Tokenizer;
pub use train::{EvalReport, Example, Schedule, StepReport, TrainConfig, Trainer};
pub use weights::Weights;
