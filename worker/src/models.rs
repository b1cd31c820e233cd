//! The model in memory: kept from one step to the next where both need the same, and never beside another.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use pipe_engine::Blob;
use pipe_engine::problem::Failure;
use pipe_engine::step::FileSet;
use pipe_models::{AdapterSource, Captioner, CausalLm, DType, Device, LoadOptions, Numerics};
use pipe_stages::precision::Dtype;

use crate::failure::failure;
use crate::inputs::model_files;

/// The model in memory.
#[derive(Clone)]
pub struct Models {
    device: Device,
    kept: Rc<RefCell<Option<(Wanted, Model)>>>,
}

/// Which model, and how it computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    model: BTreeMap<String, Blob>,
    adapter: Option<BTreeMap<String, Blob>>,
    dtype: Dtype,
}

#[derive(Clone)]
enum Model {
    Language(Rc<CausalLm>),
    Captioner(Rc<Captioner>),
}

impl Wanted {
    /// The model of these files, with the adapter of those.
    pub fn new(model: &FileSet, adapter: Option<&FileSet>, dtype: Dtype) -> Self {
        Self { model: model.0.clone(), adapter: adapter.map(|files| files.0.clone()), dtype }
    }
}

impl Models {
    /// None is in memory yet.
    pub fn new(device: Device) -> Self {
        Self { device, kept: Rc::default() }
    }

    /// A language model.
    pub fn language(&self, wanted: &Wanted) -> Result<Rc<CausalLm>, Failure> {
        if let Some(Model::Language(model)) = self.kept(wanted) {
            return Ok(model);
        }
        let model = Rc::new(self.load(wanted, CausalLm::load)?);
        self.keep(wanted, Model::Language(model.clone()));
        Ok(model)
    }

    /// A model that puts images into words.
    pub fn captioner(&self, wanted: &Wanted) -> Result<Rc<Captioner>, Failure> {
        if let Some(Model::Captioner(model)) = self.kept(wanted) {
            return Ok(model);
        }
        let model = Rc::new(self.load(wanted, Captioner::load)?);
        self.keep(wanted, Model::Captioner(model.clone()));
        Ok(model)
    }

    /// Makes room: the next that is wanted is loaded anew.
    pub fn clear(&self) -> Result<(), Failure> {
        self.kept.replace(None);
        self.device.empty_cache().map_err(failure)
    }

    fn kept(&self, wanted: &Wanted) -> Option<Model> {
        self.kept.borrow().as_ref().filter(|(kept, _)| kept == wanted).map(|(_, model)| model.clone())
    }

    fn keep(&self, wanted: &Wanted, model: Model) {
        self.kept.replace(Some((wanted.clone(), model)));
    }

    fn load<M>(
        &self,
        wanted: &Wanted,
        load: fn(&pipe_models::ModelFiles, &LoadOptions<'_>) -> pipe_models::Result<M>,
    ) -> Result<M, Failure> {
        self.clear()?;
        let adapter = wanted.adapter.clone().map(|files| model_files(&FileSet(files)));
        let (dtype, numerics) = match wanted.dtype {
            Dtype::Fp32 => (DType::F32, Numerics::Fp32),
            // As peft computes an adapter on a bf16 model.
            Dtype::Bf16 => (DType::Bf16, Numerics::PeftFp32),
        };
        let adapter = adapter.as_ref().map_or(AdapterSource::None, AdapterSource::Files);
        let options = LoadOptions { device: self.device, dtype, adapter, numerics };
        load(&model_files(&FileSet(wanted.model.clone())), &options).map_err(failure)
    }
}
