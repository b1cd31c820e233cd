//! Metrics of text and captions, with their statistics.
//!
//! Pure computation: no file, no network, no environment, and no text makes it panic. [`METRICS`] lists what there is. Many
//! systems on the same items are scored through a [`Task`], which reads references and source texts once; [`score()`] is the
//! short way for one system.
//!
//! ```
//! use pipe_metrics::{Item, Options, score};
//!
//! let item = |id: &str, hypothesis: &str, reference: &str| Item {
//!     id: id.to_owned(),
//!     hypothesis: Some(hypothesis.to_owned()),
//!     references: vec![reference.to_owned()],
//!     source: None,
//! };
//! let items = [item("1", "a red house", "A red house."), item("2", "a dog", "Two dogs run.")];
//! let scores = score(&["bleu_1", "cider_d", "adjectives"], &items, &Options::default())?;
//! let bleu = scores.value("bleu_1").expect("both items have references");
//! assert!((bleu.items[0].unwrap_or_default() - 1.0).abs() < 1e-6);
//! assert!(bleu.signature.to_string().starts_with("bleu_1|variant:coco-caption|tok:ptb-3.4.1-coco|refs:1"));
//! # Ok::<(), pipe_metrics::Error>(())
//! ```
//!
//! # Policies
//!
//! * Ids join hypotheses to items, never positions; unknown and repeated ids are errors that list them.
//! * An item without a hypothesis is an error, is left out, or counts as the empty text: [`Missing`], and the signature says it.
//! * An item without references is left out of the metrics that need them; with no item left the metric is *not computed*,
//!   never 0. An empty reference is an error.
//! * CIDEr's document frequencies are those of all items of the task, whatever was left out, or of another corpus; with one
//!   document CIDEr is not computed.

pub mod adjectives;
pub mod bleu;
pub mod cider;
mod column;
mod error;
mod ngrams;
pub mod pairs;
pub mod ptb;
mod rouge_l;
mod score;
mod signature;
pub mod stats;
mod table;
pub mod tagger;
mod task;

pub use cider::DocumentFrequencies;
pub use error::{Error, Reason};
pub use pairs::AttributeWords;
pub use score::{Item, Missing, Options, Outcome, Scores, Value, score};
pub use signature::Signature;
pub use stats::{Difference, Interval, Resampling};
pub use table::{Direction, METRICS, Metric, Scale};
pub use task::{Task, TaskItem};
