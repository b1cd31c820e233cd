//! A model that puts images into words.

use serde_json::Value;
use tch::Tensor;

use crate::arch::blip2::Blip2;
use crate::arch::model_type;
use crate::causal_lm::check_ids;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::generate::{GenerateOptions, Generated, Prompt, generate};
use crate::image::{ImageProcessor, RgbImage};
use crate::load::{LoadOptions, load};
use crate::lora::Adapter;
use crate::special_tokens::SpecialTokens;

const CONFIG: &str = "config.json";

/// A model that continues a text that begins with an image (BLIP-2).
pub struct Captioner {
    model: Blip2,
    processor: ImageProcessor,
    adapter: Option<Adapter>,
    device: Device,
    tokens: SpecialTokens,
    bos: i64,
}

impl Captioner {
    /// Loads the model that `config.json` and `preprocessor_config.json` describe; fails as
    /// [`CausalLm::load`](crate::CausalLm::load) does.
    pub fn load(files: &ModelFiles, options: &LoadOptions<'_>) -> Result<Self> {
        let config: Value = files.require_json(CONFIG)?;
        match model_type(&config, CONFIG)? {
            "blip-2" => {}
            other => {
                return Err(Error::Unsupported {
                    file: CONFIG.to_owned(),
                    what: format!("model_type = \"{other}\""),
                    supported: "blip-2".to_owned(),
                });
            }
        }
        let processor = ImageProcessor::load(files)?;
        let tokens = SpecialTokens::read(files)?;
        let bos = tokens.bos.ok_or_else(|| Error::config(CONFIG, "text_config has no `bos_token_id`"))?;
        let (model, adapter) = load(files, options, |scope| Blip2::new(&config, CONFIG, scope))?;
        let size = model.image_size();
        if processor.size() != [size, size] {
            let [height, width] = processor.size();
            let reason = format!("the processor gives {width} by {height} pixels, the model takes {size} by {size}");
            return Err(Error::config(CONFIG, reason));
        }
        Ok(Self { model, processor, adapter, device: options.device, tokens, bos })
    }

    /// The ids that begin, end and fill its texts.
    pub fn special_tokens(&self) -> &SpecialTokens {
        &self.tokens
    }

    /// Its adapter, if it was loaded with one.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// A text for each image, continuing `prompt` (ids without those that stand for the image or begin the text; may
    /// be empty), all as one batch.
    pub fn caption(
        &self,
        images: &[RgbImage<'_>],
        prompt: &[i64],
        options: &GenerateOptions,
    ) -> Result<Vec<Generated>> {
        let _guard = tch::no_grad_guard();
        if images.is_empty() {
            return Ok(vec![]);
        }
        let embeddings = self.embed(&self.processor.pixels(images)?, prompt)?;
        let decoder = self.model.language_model();
        generate(decoder, Prompt::of_embeddings(&embeddings)?, options, &self.tokens.eos)
    }

    /// The pixels the image encoder sees, `[images, 3, size, size]`, 32-bit, on the CPU.
    pub fn pixels(&self, images: &[RgbImage<'_>]) -> Result<Tensor> {
        self.processor.pixels(images)
    }

    /// The scores of every token after every position of image and prompt, `[images, positions, vocabulary]`, 32-bit,
    /// on the CPU.
    pub fn logits(&self, pixels: &Tensor, prompt: &[i64]) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let embeddings = self.embed(pixels, prompt)?;
        Prompt::of_embeddings(&embeddings)?.scores(self.model.language_model())
    }

    fn embed(&self, pixels: &Tensor, prompt: &[i64]) -> Result<Tensor> {
        let ids: Vec<i64> = std::iter::once(self.bos).chain(prompt.iter().copied()).collect();
        check_ids(&ids, self.model.language_model().dims().vocabulary)?;
        let device = self.device.tch();
        self.model.embed(&pixels.f_to(device)?, &Tensor::f_from_slice(&ids)?.f_to(device)?)
    }
}
