//! The content-addressed store of `pipe`: digests, packed objects, action records, row memory, the stat index.
//!
//! Knows nothing of steps, stages or datasets. Plain files only, so that it works on a laptop, a shared file system and a mirror
//! alike; no correctness rests on a lock.

mod action;
mod blob;
mod clock;
mod commit;
mod cores;
mod damage;
mod digest;
mod directory;
mod disk;
mod error;
mod gc;
mod hash;
mod heal;
mod inventory;
mod living;
mod memory;
mod owner;
mod pack;
mod packs;
mod pin;
mod probe;
mod publish;
mod reserve;
mod stat_index;
mod store;
mod usage;
mod verify;
mod view;

pub use action::ActionRecord;
pub use blob::Blob;
pub use commit::Raced;
pub use cores::map_many;
pub use digest::{Digest, Fields, Key, ParseDigestError};
pub use disk::{Left, Room};
pub use error::StoreError;
pub use gc::{Collector, Keep, Removed, Swept};
pub use inventory::Recorded;
pub use memory::{RowKey, RowMemory, row_key};
pub use probe::Ability;
pub use stat_index::{FileDigest, StatIndex};
pub use store::{Checkpoint, Store};
pub use usage::Held;
pub use verify::{Damage, Damaged, Part};
