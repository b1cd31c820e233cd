//! Keys and values of the positions a decoder has seen, in buffers of a fixed size.

use tch::{Kind, Tensor};

use super::Heads;
use crate::error::Result;

/// Per layer the keys and values, each `[rows, heads, capacity, width]`, of which the first `len` columns are set.
pub(crate) struct KvCache {
    layers: Vec<(Tensor, Tensor)>,
    len: i64,
}

impl KvCache {
    /// An empty cache for `layers` layers and up to `capacity` columns.
    pub(crate) fn new(
        layers: usize,
        heads: Heads,
        rows: i64,
        capacity: i64,
        target: (Kind, tch::Device),
    ) -> Result<Self> {
        let buffer = || Tensor::f_empty([rows, heads.keys, capacity, heads.width], target);
        let layers = (0..layers).map(|_| Ok((buffer()?, buffer()?))).collect::<Result<_>>()?;
        Ok(Self { layers, len: 0 })
    }

    /// How many columns are set.
    pub(crate) fn len(&self) -> i64 {
        self.len
    }

    /// Writes the keys and values of new columns, each `[rows, heads, columns, width]`, and gives those of all columns
    /// so far. Every layer of a pass writes at the same place; [`advance`](Self::advance) ends the pass.
    pub(crate) fn append(&mut self, layer: usize, k: Tensor, v: Tensor) -> Result<(Tensor, Tensor)> {
        let columns = k.size4()?.2;
        let (keys, values) = &self.layers[layer];
        keys.f_narrow(2, self.len, columns)?.f_copy_(&k)?;
        values.f_narrow(2, self.len, columns)?.f_copy_(&v)?;
        if self.len == 0 {
            return Ok((k, v));
        }
        let end = self.len + columns;
        Ok((keys.f_narrow(2, 0, end)?, values.f_narrow(2, 0, end)?))
    }

    /// Counts `columns` new columns as set.
    pub(crate) fn advance(&mut self, columns: i64) {
        self.len += columns;
    }
}
