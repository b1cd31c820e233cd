//! Scoring the hypotheses of one system on a task.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::adjectives::{self, AdjectiveCounts, Tagged};
use crate::bleu::BleuCounts;
use crate::cider::{self, CiderScores};
use crate::column::{Column, Entries};
use crate::error::{Error, Reason};
use crate::ngrams::{Caption, Counts};
use crate::pairs;
use crate::ptb;
use crate::rouge_l;
use crate::signature::Signature;
use crate::stats::{Difference, Interval, Mean, Resampling, Share};
use crate::table::{METRICS, Metric};
use crate::tagger::Tagger;
use crate::task::{Task, TaskItem};

/// What computes a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Bleu(usize),
    RougeL,
    CiderD,
    Cider,
    Adjectives,
    AdjectivesPerHundred,
    AdjectivesShare,
    AdjectivesDistinct,
    AdjectivesTotal,
    PairsKept,
    PairsAllKept,
}

/// What to do about items without a hypothesis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// Refuse to score.
    #[default]
    Error,
    /// Leave them out of every value.
    Skip,
    /// Score them as the empty text.
    Empty,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Skip => "skip",
            Self::Empty => "empty",
        })
    }
}

/// How to score.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options {
    /// What to do about items without a hypothesis.
    pub missing: Missing,
    /// How to resample for intervals.
    pub resampling: Resampling,
}

/// One item with everything, for scoring a single system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// Its id, unique among the items.
    pub id: String,
    /// The text to score.
    pub hypothesis: Option<String>,
    /// Reference texts.
    pub references: Vec<String>,
    /// The text that the hypothesis rewrites, if there is one.
    pub source: Option<String>,
}

/// The value of one metric for one system.
#[derive(Clone, Debug, Serialize)]
pub struct Value {
    /// The value over all counted items.
    pub corpus: f64,
    /// Its bootstrap interval, for metrics that have one.
    pub interval: Option<Interval>,
    /// The value of each item, in the order of the task; none where the metric leaves the item out.
    pub items: Vec<Option<f64>>,
    /// How many items the corpus value is made of.
    pub counted: usize,
    /// How many items were left out, by reason.
    pub left_out: BTreeMap<Reason, usize>,
    /// What makes the number reproducible.
    pub signature: Signature,
    #[serde(skip)]
    column: Column,
}

/// A value, or why there is none.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was computed.
    Computed(Value),
    /// It was not.
    NotComputed(Reason),
}

impl Outcome {
    /// The value, if there is one.
    #[must_use]
    pub fn value(&self) -> Option<&Value> {
        match self {
            Self::Computed(value) => Some(value),
            Self::NotComputed(_) => None,
        }
    }
}

/// All that was asked about one system.
#[derive(Clone, Debug, Serialize)]
pub struct Scores {
    /// The ids of the items, in the order of all item values.
    pub ids: Vec<String>,
    /// Items that had no hypothesis.
    pub missing: Vec<String>,
    /// One outcome per metric asked for, by name.
    pub metrics: BTreeMap<&'static str, Outcome>,
}

impl Scores {
    /// The value of a metric, if it was asked for and computed.
    #[must_use]
    pub fn value(&self, metric: &str) -> Option<&Value> {
        self.metrics.get(metric).and_then(Outcome::value)
    }

    /// How much better this system is than another on the same items, with a paired interval.
    ///
    /// # Errors
    ///
    /// If the items differ, one side lacks the metric, no item has a value on both sides, or the metric has no interval.
    pub fn difference(&self, other: &Self, metric: &str, resampling: Resampling) -> Result<Difference, Error> {
        let refuse = |reason: &str| Error::NotComparable { metric: metric.to_owned(), reason: reason.to_owned() };
        if self.ids != other.ids {
            return Err(refuse("the two systems were scored on different items"));
        }
        let (Some(mine), Some(theirs)) = (self.value(metric), other.value(metric)) else {
            return Err(refuse("one of the systems has no value for it"));
        };
        mine.column
            .difference(&theirs.column, resampling)
            .ok_or_else(|| refuse("no item has a value for both, or it cannot be resampled"))
    }
}

/// Scores one system by some metrics; see [`Task`] for many systems on the same items.
///
/// # Errors
///
/// As [`Task::new`] and [`Task::score`].
pub fn score(metrics: &[&str], items: &[Item], options: &Options) -> Result<Scores, Error> {
    let task = |item: &Item| TaskItem {
        id: item.id.clone(),
        references: item.references.clone(),
        source: item.source.clone(),
    };
    let hypotheses = items.iter().filter_map(|item| Some((item.id.as_str(), item.hypothesis.as_deref()?)));
    Task::new(items.iter().map(task).collect())?.score(metrics, hypotheses, options)
}

impl Task {
    /// Scores the hypotheses of one system, given as pairs of item id and text, by some metrics of [`METRICS`].
    ///
    /// A metric that needs references or source texts leaves out items without them, and is [`Outcome::NotComputed`] if no item
    /// is left: never 0.
    ///
    /// # Errors
    ///
    /// If a metric is unknown, a hypothesis belongs to no item or is not the only one of its item, or an item has none and
    /// [`Missing::Error`] is chosen.
    pub fn score<'h>(
        &self,
        metrics: &[&str],
        hypotheses: impl IntoIterator<Item = (&'h str, &'h str)>,
        options: &Options,
    ) -> Result<Scores, Error> {
        let metrics = metrics.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
        let (texts, missing) = self.align(hypotheses, options.missing)?;
        let run = Run::new(self, texts);
        let outcomes = metrics.into_iter().map(|metric| (metric.name, run.outcome(metric, options)));
        Ok(Scores {
            metrics: outcomes.collect(),
            ids: self.items().iter().map(|item| item.id.clone()).collect(),
            missing,
        })
    }

    /// The hypothesis of every item, in order, and the ids of the items without one.
    fn align<'h>(
        &self,
        hypotheses: impl IntoIterator<Item = (&'h str, &'h str)>,
        policy: Missing,
    ) -> Result<(Vec<Option<&'h str>>, Vec<String>), Error> {
        let mut texts: Vec<Option<&'h str>> = vec![None; self.items().len()];
        let (mut twice, mut unknown) = (BTreeSet::new(), BTreeSet::new());
        for (id, text) in hypotheses {
            match self.place(id) {
                Some(place) if texts[place].replace(text).is_some() => drop(twice.insert(id.to_owned())),
                Some(_) => {}
                None => drop(unknown.insert(id.to_owned())),
            }
        }
        if !unknown.is_empty() {
            return Err(Error::UnknownHypotheses { ids: unknown.into_iter().collect() });
        }
        if !twice.is_empty() {
            return Err(Error::DuplicateHypotheses { ids: twice.into_iter().collect() });
        }
        let absent = self.items().iter().zip(&texts).filter(|(_, text)| text.is_none());
        let missing: Vec<String> = absent.map(|(item, _)| item.id.clone()).collect();
        match policy {
            Missing::Error if !missing.is_empty() => return Err(Error::MissingHypotheses { ids: missing }),
            Missing::Empty => texts.iter_mut().for_each(|text| *text = text.or(Some(""))),
            Missing::Error | Missing::Skip => {}
        }
        Ok((texts, missing))
    }
}

fn find(name: &str) -> Result<&'static Metric, Error> {
    let known = || METRICS.iter().map(|metric| metric.name).collect::<Vec<_>>().join(", ");
    Metric::named(name).ok_or_else(|| Error::UnknownMetric { name: name.to_owned(), known: known() })
}

/// The hypotheses of one system; what several metrics share is worked out once.
struct Run<'a> {
    task: &'a Task,
    texts: Vec<Option<&'a str>>,
    tagger: Tagger,
    captions: OnceCell<Vec<Option<(Caption, Counts)>>>,
    tagged: OnceCell<Vec<Option<Tagged>>>,
    bleu: OnceCell<Entries<BleuCounts>>,
    cider: OnceCell<Entries<CiderScores>>,
    adjectives: OnceCell<Entries<AdjectiveCounts>>,
    kept: OnceCell<Entries<Share>>,
}

impl<'a> Run<'a> {
    fn new(task: &'a Task, texts: Vec<Option<&'a str>>) -> Self {
        Self {
            task,
            texts,
            tagger: Tagger::new(),
            captions: OnceCell::new(),
            tagged: OnceCell::new(),
            bleu: OnceCell::new(),
            cider: OnceCell::new(),
            adjectives: OnceCell::new(),
            kept: OnceCell::new(),
        }
    }

    fn outcome(&self, metric: &'static Metric, options: &Options) -> Outcome {
        if matches!(metric.family, Family::Cider | Family::CiderD)
            && self.task.references().frequencies.documents() == 1
        {
            return Outcome::NotComputed(Reason::OneDocument);
        }
        let column = self.column(metric.family);
        let corpus = match column.corpus() {
            Ok(corpus) => corpus,
            Err(reason) => return Outcome::NotComputed(reason),
        };
        let items = column.items();
        Outcome::Computed(Value {
            corpus,
            interval: if metric.has_interval { column.interval(options.resampling) } else { None },
            counted: items.iter().flatten().count(),
            signature: self.signature(metric, &items, options.missing),
            left_out: column.left_out(),
            items,
            column,
        })
    }

    fn column(&self, family: Family) -> Column {
        match family {
            Family::Bleu(order) => Column::Bleu(order, self.bleu().clone()),
            Family::RougeL => Column::Means(self.rouge_l()),
            Family::CiderD => Column::Means(each(self.cider(), |scores| Ok(Mean::of(scores.cider_d)))),
            Family::Cider => Column::Means(each(self.cider(), |scores| Ok(Mean::of(scores.cider)))),
            Family::Adjectives => {
                Column::Means(each(self.adjectives(), |counts| Ok(Mean::of(counts.adjectives.len() as f64))))
            }
            Family::AdjectivesPerHundred => Column::Shares(each(self.adjectives(), adjectives_in_words), 100.0),
            Family::AdjectivesShare => {
                Column::Means(each(self.adjectives(), |counts| Ok(Mean::of(f64::from(!counts.adjectives.is_empty())))))
            }
            Family::AdjectivesDistinct => {
                let all = adjectives::distinct(self.adjectives().iter().flatten());
                Column::Whole(each(self.adjectives(), |counts| Ok(counts.distinct() as f64)), all as f64)
            }
            Family::AdjectivesTotal => {
                let all: usize = self.adjectives().iter().flatten().map(|counts| counts.adjectives.len()).sum();
                Column::Whole(each(self.adjectives(), |counts| Ok(counts.adjectives.len() as f64)), all as f64)
            }
            Family::PairsKept => Column::Shares(self.kept().clone(), 1.0),
            Family::PairsAllKept => {
                Column::Means(each(self.kept(), |share| Ok(Mean::of(f64::from(share.part == share.whole)))))
            }
        }
    }

    fn captions(&self) -> &[Option<(Caption, Counts)>] {
        self.captions.get_or_init(|| {
            let mut reader = self.task.references().reader();
            let mut read = |text: &str| {
                let caption = Caption::new(&ptb::tokenize(text), |word| reader.id(word));
                let counts = caption.counts();
                (caption, counts)
            };
            self.texts.iter().map(|text| text.map(&mut read)).collect()
        })
    }

    fn tagged(&self) -> &[Option<Tagged>] {
        self.tagged
            .get_or_init(|| self.texts.iter().map(|text| text.map(|text| Tagged::new(text, &self.tagger))).collect())
    }

    fn bleu(&self) -> &Entries<BleuCounts> {
        self.bleu.get_or_init(|| {
            self.against_references(|caption, counts, place| {
                self.references(place).map(|references| references.bleu.compare(caption, counts))
            })
        })
    }

    fn rouge_l(&self) -> Entries<Mean> {
        self.against_references(|caption, _, place| {
            self.references(place).map(|references| Mean::of(rouge_l::rouge_l(caption, &references.captions)))
        })
    }

    fn cider(&self) -> &Entries<CiderScores> {
        let frequencies = &self.task.references().frequencies;
        self.cider.get_or_init(|| {
            self.against_references(|_, counts, place| {
                self.references(place).map(|references| cider::cider(&frequencies.vector(counts), &references.vectors))
            })
        })
    }

    fn references(&self, place: usize) -> Option<&crate::task::References> {
        self.task.references().items[place].as_ref()
    }

    fn against_references<S>(&self, mut compare: impl FnMut(&Caption, &Counts, usize) -> Option<S>) -> Entries<S> {
        let entry = |(place, caption): (usize, &Option<(Caption, Counts)>)| {
            let (caption, counts) = caption.as_ref().ok_or(Reason::NoHypotheses)?;
            compare(caption, counts, place).ok_or(Reason::NoReferences)
        };
        self.captions().iter().enumerate().map(entry).collect()
    }

    fn adjectives(&self) -> &Entries<AdjectiveCounts> {
        let count = |tagged: &Option<Tagged>| tagged.as_ref().map(AdjectiveCounts::new).ok_or(Reason::NoHypotheses);
        self.adjectives.get_or_init(|| self.tagged().iter().map(count).collect())
    }

    fn kept(&self) -> &Entries<Share> {
        self.kept.get_or_init(|| {
            let sources = self.task.pairs(&self.tagger);
            let entry = |(text, source): (&Option<Tagged>, &Option<pairs::Pairs>)| {
                let text = text.as_ref().ok_or(Reason::NoHypotheses)?;
                let source = source.as_ref().ok_or(Reason::NoSource)?;
                let share = pairs::kept(source, &pairs::pairs(text, self.task.attributes()));
                if share.whole > 0.0 { Ok(share) } else { Err(Reason::NoPairs) }
            };
            self.tagged().iter().zip(sources).map(entry).collect()
        })
    }

    fn signature(&self, metric: &Metric, items: &[Option<f64>], missing: Missing) -> Signature {
        let mut signature = Signature::new(metric.name, metric.variant).with("tok", ptb::NAME);
        if metric.needs_references {
            signature = signature.with("refs", self.reference_range(items));
        } else {
            signature = signature.with("tagger", Tagger::NAME);
        }
        if matches!(metric.family, Family::Cider | Family::CiderD) {
            let origin = if self.task.has_outside_frequencies() { "outside" } else { "items" };
            signature = signature.with("df", format!("{origin}-{}", self.task.references().frequencies.documents()));
        }
        if metric.needs_source {
            signature = signature.with("words", self.task.attributes().name());
        }
        signature.with("missing", missing).with("version", env!("CARGO_PKG_VERSION"))
    }

    /// How many references the counted items have: one number, or the least and the most.
    fn reference_range(&self, items: &[Option<f64>]) -> String {
        let counts = self
            .task
            .items()
            .iter()
            .zip(items)
            .filter(|(_, value)| value.is_some())
            .map(|(item, _)| item.references.len());
        let (least, most) = counts.fold((usize::MAX, 0), |(least, most), count| (least.min(count), most.max(count)));
        if least == most { most.to_string() } else { format!("{least}-{most}") }
    }
}

fn each<S, T>(entries: &Entries<S>, of: impl Fn(&S) -> Result<T, Reason>) -> Entries<T> {
    entries.iter().map(|entry| entry.as_ref().map_err(|&reason| reason).and_then(&of)).collect()
}

fn adjectives_in_words(counts: &AdjectiveCounts) -> Result<Share, Reason> {
    if counts.words == 0 {
        return Err(Reason::NoWords);
    }
    Ok(Share { part: counts.adjectives.len() as f64, whole: counts.words as f64 })
}
