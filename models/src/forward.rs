//! A language model's logits from file to file, so that anyone can hold them against another implementation.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::CausalLm;
use crate::error::{Error, Result};

/// Reads `input_ids` and, if it is there, `attention_mask` (both 64-bit integers, `[rows, length]`) from a safetensors file and writes
/// `logits` (32-bit floats, `[rows, length, vocabulary]`) to another. Where the mask is 0, they are 0.
///
/// # Errors
/// Fails where the files cannot be read or written, the tensors are of another type or shape, a row has no token, or the model
/// refuses the ids.
pub fn forward(model: &CausalLm, input: &Path, output: &Path) -> Result<()> {
    let bytes = std::fs::read(input).map_err(Error::io(input))?;
    let batch = Batch::read(&bytes, input)?;
    let rows: Vec<Vec<i64>> = (0..batch.rows).map(|row| batch.tokens(row)).collect();
    let scores = model.logits(&rows)?;
    let vocabulary = scores.size().last().and_then(|size| usize::try_from(*size).ok()).unwrap_or(0);
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut compact = vec![0_f32; batch.rows * longest * vocabulary];
    let count = compact.len();
    scores.f_contiguous()?.f_copy_data(&mut compact, count)?;
    let logits = batch.spread(&compact, longest, vocabulary, &rows);
    let shape = vec![batch.rows, batch.length, vocabulary];
    let view = TensorView::new(Dtype::F32, shape, &logits).map_err(|error| Error::Input(error.to_string()))?;
    let file = safetensors::serialize(HashMap::from([("logits", view)]), None);
    std::fs::write(output, file.map_err(|error| Error::Input(error.to_string()))?).map_err(Error::io(output))
}

/// Token ids as they came, with what counts of them.
struct Batch {
    rows: usize,
    length: usize,
    ids: Vec<i64>,
    mask: Vec<bool>,
}

impl Batch {
    fn read(bytes: &[u8], path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = SafeTensors::deserialize(bytes).map_err(|error| Error::damaged(&name, error))?;
        let (shape, ids) = integers(&file, "input_ids", &name)?;
        let &[rows, length] = shape.as_slice() else {
            return Err(Error::input(format!("`input_ids` has shape {shape:?}, expected [rows, length]")));
        };
        let mask = if file.names().contains(&"attention_mask") {
            let (mask_shape, mask) = integers(&file, "attention_mask", &name)?;
            if mask_shape != shape {
                return Err(Error::input(format!("`attention_mask` has shape {mask_shape:?}, `input_ids` {shape:?}")));
            }
            mask.into_iter().map(|value| value != 0).collect()
        } else {
            vec![true; ids.len()]
        };
        Ok(Self { rows, length, ids, mask })
    }

    /// The tokens of a row that count.
    fn tokens(&self, row: usize) -> Vec<i64> {
        self.places(row).map(|place| self.ids[place]).collect()
    }

    fn places(&self, row: usize) -> impl Iterator<Item = usize> + '_ {
        (row * self.length..(row + 1) * self.length).filter(|place| self.mask[*place])
    }

    /// Scores of rows filled on the left, put where the tokens came from; little endian.
    fn spread(&self, compact: &[f32], longest: usize, vocabulary: usize, rows: &[Vec<i64>]) -> Vec<u8> {
        let mut logits = vec![0; self.rows * self.length * vocabulary * 4];
        for (row, tokens) in rows.iter().enumerate() {
            let first = (row + 1) * longest - tokens.len();
            for (at, place) in self.places(row).enumerate() {
                let from = &compact[(first + at) * vocabulary..(first + at + 1) * vocabulary];
                let to = &mut logits[place * vocabulary * 4..(place + 1) * vocabulary * 4];
                for (bytes, value) in to.chunks_exact_mut(4).zip(from) {
                    bytes.copy_from_slice(&value.to_le_bytes());
                }
            }
        }
        logits
    }
}

fn integers(file: &SafeTensors<'_>, name: &str, path: &str) -> Result<(Vec<usize>, Vec<i64>)> {
    let tensor = file.tensor(name).map_err(|error| Error::input(format!("{path}: `{name}`: {error}")))?;
    if tensor.dtype() != Dtype::I64 {
        return Err(Error::input(format!("{path}: `{name}` is {:?}, expected I64", tensor.dtype())));
    }
    let number = |bytes: &[u8]| i64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
    Ok((tensor.shape().to_vec(), tensor.data().chunks_exact(8).map(number).collect()))
}
