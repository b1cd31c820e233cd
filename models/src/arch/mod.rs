//! One file per architecture, each from configuration to model, with the reference's weight names.

pub(crate) mod blip2;
mod blip2_qformer;
mod blip2_vision;
mod decoder;
mod opt;
mod qwen2;

pub(crate) use decoder::{Decoder, DecoderDims, load_decoder, model_type};
