//! Work on all cores, where there is enough of it.

use rayon::prelude::*;

/// Fewer items are done sooner than threads are woken.
const FEW: usize = 16;

/// What `each` makes of every item, in their order; on all cores, if there are many.
pub fn map_many<T: Sync, R: Send>(items: &[T], each: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    if items.len() < FEW { items.iter().map(each).collect() } else { items.par_iter().map(each).collect() }
}
