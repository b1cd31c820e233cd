//! Token embeddings and the output head, which may be the same matrix.

use tch::Tensor;

use super::Scope;
use crate::error::Result;

/// A table of vectors.
pub(crate) struct Embedding {
    table: Tensor,
}

impl Embedding {
    /// A table of `[entries, width]`.
    pub(crate) fn new(scope: &Scope<'_>, entries: i64, width: i64) -> Result<Self> {
        Ok(Self { table: scope.tensor("weight", &[entries, width])? })
    }

    /// `[n]` → `[n, width]`. Ids are checked where they enter the crate: on CUDA an id past the end ends the process.
    pub(crate) fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        Ok(self.table.f_index_select(0, ids)?)
    }

    /// The `count` vectors from `start`: `[count, width]`.
    pub(crate) fn range(&self, start: i64, count: i64) -> Result<Tensor> {
        Ok(self.table.f_narrow(0, start, count)?)
    }
}

/// The output head `[vocabulary, width]`: the embedding's own table where `tied`, unless the file holds another.
pub(crate) fn load_head(
    scope: &Scope<'_>,
    embedding: (&Scope<'_>, &Embedding),
    shape: [i64; 2],
    tied: bool,
) -> Result<Tensor> {
    let (embedding_scope, embedding) = embedding;
    if tied && !scope.has_its_own("weight", embedding_scope, "weight") {
        return Ok(embedding.table.shallow_clone());
    }
    scope.tensor("weight", &shape)
}
