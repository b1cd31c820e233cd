//! Examples as tensors.

use tch::Tensor;

use crate::arch::DecoderDims;
use crate::causal_lm::check_ids;
use crate::device::Device;
use crate::error::{Error, Result};

/// The label of a token that is not to be learned.
pub const IGNORED: i64 = -100;

/// A text to learn from.
#[derive(Debug, Clone, Copy)]
pub struct Example<'a> {
    /// The tokens.
    pub input_ids: &'a [i64],
    /// The same tokens, or −100 where a token is not to be learned; as many as there are tokens.
    pub labels: &'a [i64],
}

/// Examples side by side, filled up on the right, where no token that counts can see the filling.
pub(super) struct Batch {
    /// `[rows · columns]`; the last token of an example predicts nothing and is left out.
    pub ids: Tensor,
    pub rows: i64,
    pub columns: i64,
    /// Which of `ids` predict a token to be learned: `[targets]`.
    pub places: Tensor,
    /// The tokens they predict: `[targets]`.
    pub targets: Tensor,
    /// How many there are.
    pub count: i64,
}

impl Batch {
    /// Fails where an example is of one token, has other than one label per token, an id past the vocabulary, more
    /// tokens than the model has positions, or nothing to learn.
    pub(super) fn new(examples: &[Example<'_>], dims: DecoderDims, device: Device) -> Result<Self> {
        let longest = examples.iter().map(|example| example.input_ids.len()).max().unwrap_or(0);
        let columns = longest.saturating_sub(1);
        let (mut ids, mut places, mut targets) = (vec![0; examples.len() * columns], vec![], vec![]);
        for (row, example) in examples.iter().enumerate() {
            let failed = |reason: String| Error::input(format!("example {row} of a batch: {reason}"));
            check(example, dims).map_err(|error| failed(error.to_string()))?;
            let before = targets.len();
            let start = row * columns;
            let read = example.input_ids.len() - 1;
            ids[start..start + read].copy_from_slice(&example.input_ids[..read]);
            for (column, &label) in example.labels[1..].iter().enumerate().filter(|(_, label)| **label != IGNORED) {
                places.push((start + column) as i64);
                targets.push(label);
            }
            if targets.len() == before {
                return Err(failed("no token is to be learned: every label after the first is -100".to_owned()));
            }
        }
        if examples.is_empty() {
            return Err(Error::input("a batch has no examples"));
        }
        let on_device = |values: &[i64]| Tensor::f_from_slice(values)?.f_to(device.tch());
        Ok(Self {
            ids: on_device(&ids)?,
            rows: examples.len() as i64,
            columns: columns as i64,
            places: on_device(&places)?,
            targets: on_device(&targets)?,
            count: targets.len() as i64,
        })
    }
}

fn check(example: &Example<'_>, dims: DecoderDims) -> Result<()> {
    let (tokens, labels) = (example.input_ids.len(), example.labels.len());
    if tokens < 2 || tokens != labels {
        return Err(Error::input(format!("{tokens} tokens and {labels} labels: give 2 or more, as many of each")));
    }
    if tokens as i64 - 1 > dims.positions {
        return Err(Error::input(format!("{tokens} tokens, and the model has {} positions", dims.positions)));
    }
    check_ids(example.input_ids, dims.vocabulary)?;
    match example.labels.iter().find(|&&label| label != IGNORED && !(0..dims.vocabulary).contains(&label)) {
        Some(label) => Err(Error::input(format!("label {label} is neither -100 nor in the vocabulary"))),
        None => Ok(()),
    }
}
