//! What systems are scored on: items with references and source texts, read once for all systems.

use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;

use crate::adjectives::Tagged;
use crate::bleu::BleuReferences;
use crate::cider::{DocumentFrequencies, Vector};
use crate::error::Error;
use crate::ngrams::{Caption, Counts, Reader};
use crate::pairs::{self, AttributeWords, Pairs};
use crate::ptb;
use crate::tagger::Tagger;

/// One item with what its hypotheses are held against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskItem {
    /// Its id, unique in the task.
    pub id: String,
    /// Reference texts; metrics that need them leave out items without any.
    pub references: Vec<String>,
    /// The text that a hypothesis rewrites, if there is one.
    pub source: Option<String>,
}

/// The references of one item as the metrics read them.
pub(crate) struct References {
    pub(crate) captions: Vec<Caption>,
    pub(crate) bleu: BleuReferences,
    pub(crate) vectors: Vec<Vector>,
}

/// The references of all items, and the document frequencies their vectors were made with.
pub(crate) struct ReadReferences {
    pub(crate) items: Vec<Option<References>>,
    pub(crate) frequencies: DocumentFrequencies,
}

/// A set of items on which any number of systems can be scored.
///
/// References are tokenised and source texts tagged when a metric first needs them, and then kept.
pub struct Task {
    items: Vec<TaskItem>,
    places: HashMap<String, usize>,
    attributes: AttributeWords,
    outside: Option<DocumentFrequencies>,
    references: OnceLock<ReadReferences>,
    pairs: OnceLock<Vec<Option<Pairs>>>,
}

impl Task {
    /// A task of these items, in this order.
    ///
    /// # Errors
    ///
    /// If an id stands there twice, or a reference is empty or nothing but white space.
    pub fn new(items: Vec<TaskItem>) -> Result<Self, Error> {
        let mut places = HashMap::with_capacity(items.len());
        let mut twice = BTreeSet::new();
        for (place, item) in items.iter().enumerate() {
            if places.insert(item.id.clone(), place).is_some() {
                twice.insert(item.id.clone());
            }
        }
        if !twice.is_empty() {
            return Err(Error::DuplicateItems { ids: twice.into_iter().collect() });
        }
        let blank = |item: &&TaskItem| item.references.iter().any(|reference| reference.trim().is_empty());
        let empty: Vec<String> = items.iter().filter(blank).map(|item| item.id.clone()).collect();
        if !empty.is_empty() {
            return Err(Error::EmptyReferences { ids: empty });
        }
        Ok(Self {
            items,
            places,
            attributes: AttributeWords::default(),
            outside: None,
            references: OnceLock::new(),
            pairs: OnceLock::new(),
        })
    }

    /// Computes CIDEr with document frequencies of another corpus instead of those of these items.
    #[must_use]
    pub fn with_document_frequencies(mut self, frequencies: DocumentFrequencies) -> Self {
        self.outside = Some(frequencies);
        self.references = OnceLock::new();
        self
    }

    /// Counts pairs of these attribute words instead of the basic colour terms.
    #[must_use]
    pub fn with_attributes(mut self, attributes: AttributeWords) -> Self {
        self.attributes = attributes;
        self.pairs = OnceLock::new();
        self
    }

    /// The items, in the order given.
    #[must_use]
    pub fn items(&self) -> &[TaskItem] {
        &self.items
    }

    /// The place of an item.
    pub(crate) fn place(&self, id: &str) -> Option<usize> {
        self.places.get(id).copied()
    }

    pub(crate) fn attributes(&self) -> &AttributeWords {
        &self.attributes
    }

    /// Whether document frequencies came from outside.
    pub(crate) fn has_outside_frequencies(&self) -> bool {
        self.outside.is_some()
    }

    /// The references of all items, read now if they were not yet.
    pub(crate) fn references(&self) -> &ReadReferences {
        self.references.get_or_init(|| self.read_references())
    }

    /// The pairs of all source texts, found now if they were not yet.
    pub(crate) fn pairs(&self, tagger: &Tagger) -> &[Option<Pairs>] {
        self.pairs.get_or_init(|| {
            let find = |source: &String| pairs::pairs(&Tagged::new(source, tagger), &self.attributes);
            self.items.iter().map(|item| item.source.as_ref().map(find)).collect()
        })
    }

    fn read_references(&self) -> ReadReferences {
        let mut frequencies = self.outside.clone().unwrap_or_default();
        let read = |item: &TaskItem| -> (Vec<Caption>, Vec<Counts>) {
            let captions = item
                .references
                .iter()
                .map(|text| Caption::new(&ptb::tokenize(text), |word| frequencies.vocabulary.learn(word)));
            let captions: Vec<Caption> = captions.collect();
            let counts = captions.iter().map(Caption::counts).collect();
            (captions, counts)
        };
        let texts: Vec<(Vec<Caption>, Vec<Counts>)> = self.items.iter().map(read).collect();
        if self.outside.is_none() {
            texts.iter().filter(|(captions, _)| !captions.is_empty()).for_each(|(_, counts)| frequencies.add(counts));
        }
        let prepare = |(captions, counts): (Vec<Caption>, Vec<Counts>)| {
            (!captions.is_empty()).then(|| References {
                bleu: BleuReferences::new(&captions, &counts),
                vectors: counts.iter().map(|counts| frequencies.vector(counts)).collect(),
                captions,
            })
        };
        ReadReferences { items: texts.into_iter().map(prepare).collect(), frequencies }
    }
}

impl ReadReferences {
    /// Reads hypotheses with the same word numbers as the references.
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader::new(&self.frequencies.vocabulary)
    }
}
