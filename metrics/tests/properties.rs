//! What holds for any text: nothing panics, scores stay in range, and identical texts score highest.

use pipe_metrics::adjectives::Tagged;
use pipe_metrics::tagger::Tagger;
use pipe_metrics::{AttributeWords, Item, METRICS, Options, Outcome, Resampling, Scale, Scores, pairs, ptb, score};
use proptest::prelude::*;

/// Any text at all, or one of pieces that tokenizers trip over.
fn any_text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "a",
        "red",
        "car",
        "The",
        "St.",
        "U.S.",
        "P.",
        "no.",
        "don't",
        "'s",
        "'",
        "\"",
        "``",
        "“",
        "’",
        "(",
        ")",
        "<b>",
        "<",
        "&amp;",
        "&",
        "-",
        "--",
        "...",
        ".",
        ",",
        "!",
        "1/2",
        "22 3/4",
        "3.5",
        "$",
        "http://a.b/c",
        "@a",
        "#b",
        ":)",
        "\u{AD}",
        "\u{200B}",
        "🐶",
        "\n",
        "\r\n",
        "\u{2028}",
        " ",
        "\t",
        "\u{A0}",
        "é",
        "中",
        "ß",
        "İ",
        "\0",
    ]);
    prop_oneof![any::<String>(), prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())]
}

/// A text with at least one word that every tokenizer keeps.
fn wordy_text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["red", "house", "dog", "runs", "sea", "small", "tree"]), 5..12)
        .prop_map(|words| words.join(" "))
}

fn scores(items: &[Item]) -> Scores {
    let names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
    let options = Options { resampling: Resampling { resamples: 20, ..Resampling::default() }, ..Options::default() };
    score(&names, items, &options).expect("ids are unique, references are not blank")
}

fn item(id: usize, hypothesis: String, references: Vec<String>, source: Option<String>) -> Item {
    Item { id: id.to_string(), hypothesis: Some(hypothesis), references, source }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_token_is_empty_or_holds_what_separates_tokens(text in any_text()) {
        for token in ptb::all_tokens(&text) {
            prop_assert!(!token.is_empty());
            prop_assert!(!token.contains([' ', '\n', '\r', '\t']), "{token:?}");
        }
    }

    #[test]
    fn captions_do_not_touch_each_other(left in any_text(), right in any_text()) {
        let (first, second) = (ptb::tokenize(&left), ptb::tokenize(&right));
        prop_assert_eq!((ptb::tokenize(&right), ptb::tokenize(&left)), (second, first));
    }

    #[test]
    fn line_breaks_are_spaces(left in "[a-zA-Z .,]{0,20}", right in "[a-zA-Z .,]{0,20}") {
        prop_assert_eq!(ptb::tokenize(&format!("{left}\r{right}")), ptb::tokenize(&format!("{left} {right}")));
    }

    #[test]
    fn every_word_has_one_tag_and_pairs_name_words(text in any_text()) {
        let tagged = Tagged::new(&text, &Tagger::new());
        prop_assert_eq!(tagged.words.len(), tagged.tags.len());
        prop_assert!(tagged.adjectives().len() <= tagged.words.len());
        let attributes = AttributeWords::default();
        let found = pairs::pairs(&tagged, &attributes);
        let all = pairs::kept(&found, &found);
        prop_assert_eq!(all.part, all.whole);
    }

    #[test]
    fn values_stay_in_range(texts in prop::collection::vec((any_text(), any_text(), any_text()), 2..5)) {
        let items: Vec<Item> = texts
            .into_iter()
            .enumerate()
            .map(|(id, (hypothesis, reference, source))| item(id, hypothesis, vec![format!("x{reference}")], Some(source)))
            .collect();
        let scores = scores(&items);
        for metric in METRICS {
            let Outcome::Computed(value) = &scores.metrics[metric.name] else { continue };
            let most = match metric.scale {
                Scale::Unit => 1.0,
                Scale::Ten => 10.0,
                Scale::PerHundredWords => 100.0,
                Scale::PerDescription | Scale::Count => f64::INFINITY,
            };
            let interval = value.interval.map(|interval| [interval.low, interval.high]);
            for found in value.items.iter().flatten().chain([&value.corpus]).chain(interval.iter().flatten()) {
                prop_assert!(found.is_finite() && (0.0..=most + 1e-9).contains(found), "{} is {found}", metric.name);
            }
        }
    }

    #[test]
    fn the_same_text_scores_highest(texts in prop::collection::hash_set(wordy_text(), 3..6)) {
        let items: Vec<Item> = texts
            .into_iter()
            .enumerate()
            .map(|(id, text)| item(id, text.clone(), vec![text.clone()], Some(text)))
            .collect();
        let scores = scores(&items);
        for name in ["bleu_1", "bleu_4", "rouge_l_coco"] {
            let value = scores.value(name).expect("every item has a reference");
            prop_assert!(value.items.iter().flatten().all(|found| (found - 1.0).abs() < 1e-6), "{name}");
            prop_assert!((value.corpus - 1.0).abs() < 1e-6, "{name}");
        }
        for name in ["pairs_kept", "pairs_all_kept"] {
            if let Some(value) = scores.value(name) {
                prop_assert_eq!(value.corpus, 1.0);
            }
        }
    }

    #[test]
    fn another_reference_never_lowers_clipped_matches(hypothesis in wordy_text(), one in wordy_text(), two in wordy_text()) {
        let with = |references: Vec<String>| {
            let other = item(1, "a boat".to_owned(), vec!["a boat".to_owned()], None);
            let scores = scores(&[item(0, hypothesis.clone(), references, None), other]);
            scores.value("rouge_l_coco").and_then(|value| value.items[0]).unwrap_or_default()
        };
        prop_assert!(with(vec![one.clone(), two.clone()]) >= with(vec![one.clone()]) - 1e-12);
    }
}
