//! Every promise in `docs/store.md` names tests, and these are there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;

use pipe_tests::workspace;

/// The source of every test that the page may name.
fn sources() -> String {
    let directories = ["cache/src", "cache/tests", "engine/tests", "tests/tests"];
    let files = directories.iter().flat_map(|directory| walkdir::WalkDir::new(workspace().join(directory)));
    let rust = files.flatten().filter(|entry| entry.path().extension().is_some_and(|extension| extension == "rs"));
    rust.map(|entry| fs::read_to_string(entry.path()).unwrap()).collect()
}

#[test]
fn every_promise_of_the_store_has_its_tests() {
    let (page, sources) = (fs::read_to_string(workspace().join("docs/store.md")).unwrap(), sources());
    let rows: Vec<&str> =
        page.lines().filter(|line| line.starts_with("| ") && line.split(" | ").count() == 4).collect();
    let numbered: Vec<&str> =
        rows.into_iter().filter(|row| row[2..].starts_with(|c: char| c.is_ascii_digit())).collect();
    assert_eq!(numbered.len(), 22);
    for row in numbered {
        let tests = row.rsplit(" | ").next().unwrap();
        let quoted: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!quoted.is_empty(), "{row}");
        for word in quoted.iter().flat_map(|name| name.split([' ', ':'])).filter(|word| word.contains('_')) {
            let there = sources.contains(&format!("fn {word}("))
                || workspace().join("cache/trials").join(word).exists()
                || workspace().join("tests/tests").join(format!("{word}.rs")).exists();
            assert!(there, "{word}");
        }
    }
}
