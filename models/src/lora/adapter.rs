//! Adapters: how they come to be, and how they meet the layers of a base model.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use tch::{Kind, Tensor};

use super::config::{LoraConfig, Numerics};
use super::peft;
use super::target::Matcher;
use crate::blocks::{Attach, LoraBranch};
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::rng::Stream;
use crate::weights::Weights;

/// Where a model's adapter comes from.
#[derive(Debug, Clone, Copy, Default)]
pub enum AdapterSource<'a> {
    /// No adapter.
    #[default]
    None,
    /// The files of a `peft` adapter.
    Files(&'a ModelFiles),
    /// A fresh adapter: A uniform on ±1/√in, B zero, the same for the same seed.
    New {
        /// Its shape.
        config: &'a LoraConfig,
        /// Fixes A.
        seed: u64,
    },
}

/// The adapter of a loaded model: per adapted layer the matrices A `[r, in]` and B `[out, r]`.
pub struct Adapter {
    pub(super) config: LoraConfig,
    pub(super) layers: BTreeMap<String, Pair>,
}

/// The two matrices of one layer, 32-bit.
pub(crate) struct Pair {
    pub a: Tensor,
    pub b: Tensor,
}

impl Adapter {
    /// Its shape.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// The paths of the adapted layers, sorted.
    pub fn layers(&self) -> impl Iterator<Item = &str> {
        self.layers.keys().map(String::as_str)
    }

    /// How many numbers training may change.
    pub fn parameter_count(&self) -> usize {
        self.layers.values().map(|pair| pair.a.numel() + pair.b.numel()).sum()
    }

    /// Names (`<path>.lora_A.weight`) and tensors, sorted by path, A before B.
    pub(crate) fn tensors(&self) -> Vec<(String, &Tensor)> {
        self.layers
            .iter()
            .flat_map(|(path, pair)| [(peft::a_name(path), &pair.a), (peft::b_name(path), &pair.b)])
            .collect()
    }
}

/// Gives each linear layer of a base model its branch while the model is built, and then the whole adapter.
pub(crate) struct Plan<'a> {
    matcher: Matcher<'a>,
    config: &'a LoraConfig,
    numerics: Numerics,
    origin: Origin<'a>,
    made: RefCell<Made>,
}

enum Origin<'a> {
    Seed(u64),
    Files(&'a Weights),
}

#[derive(Default)]
struct Made {
    seen: Vec<String>,
    absent: Vec<String>,
    layers: BTreeMap<String, Pair>,
}

impl<'a> Plan<'a> {
    /// A plan for a fresh adapter.
    pub(crate) fn fresh(config: &'a LoraConfig, seed: u64, numerics: Numerics) -> Result<Self> {
        config.check()?;
        Self::new(config, Origin::Seed(seed), numerics)
    }

    /// A plan for the adapter in `weights`.
    pub(crate) fn stored(config: &'a LoraConfig, weights: &'a Weights, numerics: Numerics) -> Result<Self> {
        Self::new(config, Origin::Files(weights), numerics)
    }

    fn new(config: &'a LoraConfig, origin: Origin<'a>, numerics: Numerics) -> Result<Self> {
        let matcher = config.target_modules.matcher()?;
        Ok(Self { matcher, config, numerics, origin, made: RefCell::default() })
    }

    /// The adapter, once the model is built. Fails where the plan and the model do not cover each other.
    pub(crate) fn finish(self) -> Result<Adapter> {
        let made = self.made.into_inner();
        let failed = |reason: &str, names: Vec<String>| Err(Error::Adapter { reason: reason.to_owned(), names });
        if !made.absent.is_empty() {
            return failed("its configuration targets layers that its file lacks", made.absent);
        }
        if let Origin::Files(weights) = self.origin {
            let used: BTreeSet<String> =
                made.layers.keys().flat_map(|path| [peft::a_key(path), peft::b_key(path)]).collect();
            let loose: Vec<String> = weights.names().filter(|name| !used.contains(*name)).map(str::to_owned).collect();
            if !loose.is_empty() {
                return failed("its file has tensors that belong to no layer of the model", loose);
            }
        }
        let idle = self.matcher.idle(made.seen.iter().map(String::as_str));
        if matches!(self.origin, Origin::Seed(_)) && !idle.is_empty() {
            let ends: BTreeSet<&str> = made.seen.iter().filter_map(|path| path.rsplit('.').next()).collect();
            let ends = ends.into_iter().collect::<Vec<_>>().join(", ");
            return failed(&format!("target_modules matches no layer; there are {ends}"), idle);
        }
        if made.layers.is_empty() {
            return failed("target_modules matches no layer of the model", vec![]);
        }
        Ok(Adapter { config: self.config.clone(), layers: made.layers })
    }

    fn pair(&self, path: &str, shape: [i64; 2], device: tch::Device) -> Result<Option<Pair>> {
        let ([out, input], r) = (shape, self.config.r);
        match &self.origin {
            Origin::Seed(seed) => {
                let bound = (1.0 / (input as f64).sqrt()) as f32;
                let a = Stream::named(*seed, &peft::a_name(path)).uniform((r * input) as usize, bound);
                let a = Tensor::f_from_slice(&a)?.f_view([r, input])?.f_to(device)?;
                Ok(Some(Pair { a, b: Tensor::f_zeros([out, r], (Kind::Float, device))? }))
            }
            Origin::Files(weights) => {
                let (a, b) = (peft::a_key(path), peft::b_key(path));
                let absent: Vec<String> =
                    [&a, &b].into_iter().filter(|key| weights.shape(key).is_none()).cloned().collect();
                if !absent.is_empty() {
                    self.made.borrow_mut().absent.extend(absent);
                    return Ok(None);
                }
                Ok(Some(Pair {
                    a: stored_tensor(weights, &a, &[r, input], device)?,
                    b: stored_tensor(weights, &b, &[out, r], device)?,
                }))
            }
        }
    }
}

/// A copy that training may write to, unlike a view of the file.
fn stored_tensor(weights: &Weights, name: &str, shape: &[i64], device: tch::Device) -> Result<Tensor> {
    match weights.shape(name) {
        Some(found) if found == shape => {
            Ok(weights.tensor(name, Kind::Float, tch::Device::Cpu)?.f_to_device_(device, Kind::Float, false, true)?)
        }
        found => Err(Error::Adapter {
            reason: format!("shape {:?}, not {shape:?}", found.unwrap_or_default()),
            names: vec![name.to_owned()],
        }),
    }
}

impl Attach for Plan<'_> {
    fn branch(&self, path: &str, shape: [i64; 2], device: tch::Device) -> Result<Option<LoraBranch>> {
        self.made.borrow_mut().seen.push(path.to_owned());
        if !self.matcher.matches(path) {
            return Ok(None);
        }
        let Some(Pair { a, b }) = self.pair(path, shape, device)? else { return Ok(None) };
        let (a, b) = (a.f_set_requires_grad(true)?, b.f_set_requires_grad(true)?);
        let branch = LoraBranch {
            a: a.shallow_clone(),
            b: b.shallow_clone(),
            scale: self.config.scale(),
            dropout: self.config.lora_dropout,
            numerics: self.numerics,
        };
        self.made.borrow_mut().layers.insert(path.to_owned(), Pair { a, b });
        Ok(Some(branch))
    }
}
