//! Batches that shrink where the device's memory does not hold them.

use pipe_engine::problem::Failure;
use pipe_models::{Device, Error};

use crate::failure::failure;

/// Computes items batch by batch.
pub struct Fit {
    device: Device,
    size: usize,
}

impl Fit {
    /// Begins with batches of `size`.
    pub fn new(device: Device, size: u32) -> Self {
        Self { device, size: usize::try_from(size).unwrap_or(usize::MAX).max(1) }
    }

    /// How many items are computed at once at present.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// What `work` gives for each item, in order. Where memory is full the batch is halved, and stays so; an item that does
    /// not fit alone gives the text of the error.
    pub fn each<T, R>(
        &mut self,
        items: &[T],
        mut work: impl FnMut(&[T]) -> pipe_models::Result<Vec<R>>,
    ) -> Result<Vec<Result<R, String>>, Failure> {
        let mut done = Vec::with_capacity(items.len());
        while done.len() < items.len() {
            let batch = &items[done.len()..items.len().min(done.len() + self.size)];
            match work(batch) {
                Ok(results) if results.len() == batch.len() => done.extend(results.into_iter().map(Ok)),
                Ok(results) => {
                    let message = format!("a model gave {} results for {} rows", results.len(), batch.len());
                    return Err(Failure::internal(message));
                }
                Err(error @ Error::OutOfMemory(_)) => {
                    self.device.empty_cache().map_err(failure)?;
                    if batch.len() == 1 {
                        done.push(Err(error.to_string()));
                    } else {
                        self.size = batch.len().div_ceil(2);
                    }
                }
                Err(error) => return Err(failure(error)),
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds batches whose numbers sum to `room` at most.
    fn doubled(room: u32) -> impl FnMut(&[u32]) -> pipe_models::Result<Vec<u32>> {
        move |batch| match batch.iter().sum::<u32>() > room {
            true => Err(Error::OutOfMemory("full".into())),
            false => Ok(batch.iter().map(|n| n * 2).collect()),
        }
    }

    #[test]
    fn batches_shrink_and_stay_small() {
        let mut fit = Fit::new(Device::cpu(), 4);
        let mut sizes = vec![];
        let mut work = doubled(20);
        let results = fit.each(&[9, 9, 9, 9, 9], |batch| {
            sizes.push(batch.len());
            work(batch)
        });
        assert_eq!(results.unwrap(), [18, 18, 18, 18, 18].map(Ok));
        assert_eq!((sizes, fit.size()), (vec![4, 2, 2, 1], 2));
    }

    #[test]
    fn what_never_fits_is_told_and_the_rest_goes_on() {
        let results = Fit::new(Device::cpu(), 2).each(&[30, 1, 2], doubled(20)).unwrap();
        assert_eq!(results, [Err("out of memory: full".to_owned()), Ok(2), Ok(4)]);
    }

    #[test]
    fn any_other_error_ends_the_work() {
        let failed = Fit::new(Device::cpu(), 2).each(&[1], |_: &[i32]| Err::<Vec<()>, _>(Error::Torch("x".into())));
        assert_eq!(failed.unwrap_err().message, "libtorch: x");
        assert!(Fit::new(Device::cpu(), 2).each(&[1, 2], |_| Ok(vec![()])).is_err());
    }
}
