//! Whether a store is what it says: every byte against its digest, and what damage costs; a sample of the work done again.

mod bound;
mod damage;

pub use crate::run::{Again, Difference, Sample, Size, again};
pub use bound::upper_bound;
pub use damage::{Cost, Finding, Verified, verify};
