//! Whatever is left of a run log, reading it never panics, and what it still tells is what happened.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod toys;

use std::fs;

use pipe_cache::Store;
use pipe_engine::history::History;
use proptest::prelude::*;
use proptest::sample::Index;

/// A run with a failure, a step that is skipped, rows and numbers.
const SPEC: &str = r#"name = "toy"
[steps.rows]
stage = "rows"
good = 3
bad = 1
[steps.numbers]
stage = "measure"
metrics = { loss = 0.5 }
[steps.bad]
stage = "say"
mood = "bad"
[steps.after]
stage = "list"
inputs = { all = ["bad", "rows"] }
"#;

#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Cut(Index),
    Drop(Index),
    Repeat(Index, Index),
    Number(Index, &'static str),
}

fn damage() -> impl Strategy<Value = Damage> {
    let number = prop::sample::select(vec!["-1", "1e400", "99999999999999999999", "null", "\"\"", "[]", "{}"]);
    prop_oneof![
        (any::<Index>(), 1..=u8::MAX).prop_map(|(at, mask)| Damage::Flip(at, mask)),
        any::<Index>().prop_map(Damage::Cut),
        any::<Index>().prop_map(Damage::Drop),
        any::<(Index, Index)>().prop_map(|(from, to)| Damage::Repeat(from, to)),
        (any::<Index>(), number).prop_map(|(at, number)| Damage::Number(at, number)),
    ]
}

fn apply(damage: &Damage, log: &mut Vec<u8>) {
    let mut lines: Vec<Vec<u8>> = log.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let (bytes, count) = (log.len(), lines.len());
    match damage {
        _ if log.is_empty() => return,
        Damage::Flip(at, mask) => return log[at.index(bytes)] ^= mask,
        Damage::Cut(at) => return log.truncate(at.index(bytes)),
        Damage::Drop(at) => drop(lines.remove(at.index(count))),
        Damage::Repeat(from, to) => lines.insert(to.index(count), lines[from.index(count)].clone()),
        Damage::Number(at, number) => {
            let line = &mut lines[at.index(count)];
            let text = String::from_utf8_lossy(line).into_owned();
            let colons: Vec<usize> = text.match_indices(':').map(|(at, _)| at + 1).collect();
            if !colons.is_empty() {
                let from = colons[at.index(colons.len())];
                let len = text[from..].find([',', '}']).unwrap_or(0);
                *line = format!("{}{number}{}", &text[..from], &text[from + len..]).into_bytes();
            }
        }
    }
    *log = lines.concat();
}

proptest! {
    #[test]
    fn a_damaged_log_is_read_or_left_out(hits in prop::collection::vec(damage(), 1..4)) {
        thread_local!(static RUN: (toys::Toy, Vec<u8>) = {
            let toy = toys::Toy::new();
            toy.run(SPEC);
            let log = fs::read(toy.dir.path().join("store/runs/test.jsonl")).unwrap();
            (toy, log)
        });
        RUN.with(|(toy, log)| {
            let mut log = log.clone();
            hits.iter().for_each(|hit| apply(hit, &mut log));
            fs::write(toy.dir.path().join("store/runs/test.jsonl"), log).unwrap();
            let store = Store::open(&toy.dir.path().join("store")).unwrap();
            let history = History::open(&store).unwrap();
            assert_eq!(history.find("last").unwrap(), "test");
            let known = ["rows", "numbers", "bad", "after"];
            let runs: Vec<_> = history.runs().collect();
            let flipped = hits.iter().any(|hit| matches!(hit, Damage::Flip(..)));
            let mut steps = runs.iter().flat_map(|run| &run.steps);
            assert!(flipped || steps.all(|step| known.contains(&step.step.as_str()) || step.step.is_empty()));
        });
    }
}
