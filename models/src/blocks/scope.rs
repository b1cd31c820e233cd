//! Where blocks find their weights.

use std::cell::RefCell;
use std::collections::BTreeSet;

use tch::{Kind, Tensor};

use super::LoraBranch;
use crate::error::{Error, Result};
use crate::weights::Weights;

/// Decides which linear layers get an adapter.
pub(crate) trait Attach {
    /// The branch for the layer at `path` with a weight of `[shape[0], shape[1]]` = [out, in], if it gets one.
    fn branch(&self, path: &str, shape: [i64; 2], device: tch::Device) -> Result<Option<LoraBranch>>;
}

/// Hands out the tensors of a file, and keeps account of what was asked for.
///
/// A name that is missing or has another shape gets a stand-in, so that [`finish`](Self::finish) can report all of them
/// at once; nothing may be computed before it.
pub(crate) struct Loader<'a> {
    weights: &'a Weights,
    device: tch::Device,
    attach: Option<&'a dyn Attach>,
    account: RefCell<Account>,
}

#[derive(Default)]
struct Account {
    used: BTreeSet<String>,
    missing: Vec<String>,
    wrong: Vec<String>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(weights: &'a Weights, device: tch::Device, attach: Option<&'a dyn Attach>) -> Self {
        Self { weights, device, attach, account: RefCell::default() }
    }

    /// The root of the names, for tensors of `kind`.
    pub(crate) fn root(&'a self, kind: Kind) -> Scope<'a> {
        Scope { loader: self, path: String::new(), kind }
    }

    /// Fails unless every name asked for was there, in its shape, and every name there was asked for. Names for which
    /// `ignored` holds are buffers that old versions of the reference wrote.
    pub(crate) fn finish(self, ignored: impl Fn(&str) -> bool) -> Result<()> {
        let Account { used, missing, wrong } = self.account.into_inner();
        let unexpected: Vec<String> =
            self.weights.names().filter(|name| !used.contains(*name) && !ignored(name)).map(str::to_owned).collect();
        if missing.is_empty() && wrong.is_empty() && unexpected.is_empty() {
            return Ok(());
        }
        Err(Error::Weights { missing, unexpected, wrong })
    }

    fn tensor(&self, name: &str, shape: &[i64], kind: Kind) -> Result<Tensor> {
        let mut account = self.account.borrow_mut();
        account.used.insert(name.to_owned());
        match self.weights.shape(name) {
            Some(found) if found == shape => return self.weights.tensor(name, kind, self.device),
            Some(found) => account.wrong.push(format!("{name}: shape {found:?}, not {shape:?}")),
            None => account.missing.push(name.to_owned()),
        }
        Ok(Tensor::f_zeros([0], (kind, self.device))?)
    }
}

/// A place among the names: what `self.q_proj` is to a module of the reference.
#[derive(Clone)]
pub(crate) struct Scope<'a> {
    loader: &'a Loader<'a>,
    path: String,
    kind: Kind,
}

impl<'a> Scope<'a> {
    /// The place `name` below this one.
    pub(crate) fn at(&self, name: impl std::fmt::Display) -> Scope<'a> {
        Scope { path: self.name(&name.to_string()), ..self.clone() }
    }

    /// The same place, for tensors of another kind.
    pub(crate) fn with_kind(&self, kind: Kind) -> Scope<'a> {
        Scope { kind, ..self.clone() }
    }

    /// The tensor `name` at this place.
    pub(crate) fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        self.loader.tensor(&self.name(name), shape, self.kind)
    }

    /// The adapter of the linear layer at this place, if it gets one.
    pub(crate) fn branch(&self, shape: [i64; 2]) -> Result<Option<LoraBranch>> {
        match self.loader.attach {
            Some(attach) => attach.branch(&self.path, shape, self.loader.device),
            None => Ok(None),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn device(&self) -> tch::Device {
        self.loader.device
    }

    /// Whether the file has `name` at this place, and does not just repeat the tensor at `other`. A repetition counts
    /// as asked for.
    pub(crate) fn has_its_own(&self, name: &str, other: &Scope<'_>, other_name: &str) -> bool {
        let (name, other) = (self.name(name), other.name(other_name));
        if self.loader.weights.shape(&name).is_none() {
            return false;
        }
        let repeats = self.loader.weights.same_bytes(&name, &other);
        if repeats {
            self.loader.account.borrow_mut().used.insert(name);
        }
        !repeats
    }

    fn name(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}
