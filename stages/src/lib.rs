//! The stages of `pipe`: what each declares, and how those without tensors execute.

pub mod caption;
pub mod columns;
pub mod command;
pub mod curriculum;
pub mod dedup;
pub mod download;
pub mod encoder;
pub mod evaluate;
pub mod expression;
pub mod filter;
pub mod generate;
pub mod image_file;
pub mod kinds;
pub mod layout;
mod left_out;
pub mod lora_train;
pub mod map;
pub mod ordering;
mod paths;
pub mod precision;
pub mod program;
pub mod publish;
pub mod record_rows;
pub mod records;
pub mod resize;
pub mod split;
pub mod template;
#[cfg(test)]
mod testing;
pub mod tokenize;

use pipe_engine::stage::Stage;

/// Every stage, by name.
pub const TABLE: &[&Stage] = &[
    &download::STAGE,
    &filter::STAGE,
    &dedup::STAGE,
    &resize::STAGE,
    &command::STAGE,
    &map::STAGE,
    &caption::STAGE,
    &split::STAGE,
    &tokenize::STAGE,
    &curriculum::STAGE,
    &lora_train::STAGE,
    &generate::STAGE,
    &evaluate::STAGE,
    &publish::STAGE,
];

/// The stage of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Stage> {
    TABLE.iter().copied().find(|stage| stage.name == name)
}
