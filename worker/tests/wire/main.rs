//! The program as `pipe` sees it: requests in, replies out, on the small models and data the repository ships.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod caption;
mod generate;
mod lora_train;
mod protocol;
mod support;
