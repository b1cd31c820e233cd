//! Whatever happens to the files of a store, what it gives is right or missing, and nothing panics.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pipe_cache::{ActionRecord, Digest, Key, RowKey, Store, row_key};
use proptest::prelude::*;

/// Objects by digest, records by key, remembered rows.
#[derive(Default)]
struct Content {
    objects: BTreeMap<Digest, Vec<u8>>,
    records: BTreeMap<Key, ActionRecord>,
    rows: BTreeMap<RowKey, Vec<u8>>,
}

const RECIPE: &[u8] = b"recipe";

/// Fills a store in several commits, so that there are packs, parts of indexes, segments and large objects.
fn fill(root: &Path) -> Content {
    let mut content = Content::default();
    for run in 0..3_u8 {
        let store = Store::open(root).unwrap();
        let memory = store.memory(&Key::of(RECIPE)).unwrap();
        for n in 0..6_u8 {
            let bytes = vec![run * 6 + n; if n == 5 { 1 << 20 } else { 40 * usize::from(n) }];
            let digest = store.put(&bytes).unwrap();
            content.objects.insert(digest, bytes);
            let key = Key::of(&[run, n]);
            let record = ActionRecord::new(key, digest, [("out".to_owned(), digest)].into());
            store.record(record.clone());
            content.records.insert(key, record);
            memory.insert(row_key(&key), vec![n; usize::from(run) + 1]);
            content.rows.insert(row_key(&key), vec![n; usize::from(run) + 1]);
            store.add_checkpoint(&key, 7, [("weights".to_owned(), digest)].into());
            store.commit().unwrap();
        }
        if run > 0 {
            store.finish().unwrap();
        }
    }
    content
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().map(Result::unwrap);
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

fn copy(from: &Path, to: &Path) {
    for file in files_below(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, &target).unwrap();
        let mut permissions = fs::metadata(&target).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
        fs::set_permissions(&target, permissions).unwrap();
    }
}

#[derive(Clone, Debug)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Grow(Vec<u8>),
    Replace(Vec<u8>),
    Remove,
    Directory,
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<prop::sample::Index>(), 1..=u8::MAX).prop_map(|(at, mask)| Damage::Flip(at, mask)),
        2 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        1 => prop::collection::vec(any::<u8>(), 1..80).prop_map(Damage::Grow),
        1 => prop::collection::vec(any::<u8>(), 0..80).prop_map(Damage::Replace),
        1 => Just(Damage::Remove),
        1 => Just(Damage::Directory),
    ]
}

fn apply(damage: &Damage, file: &Path) {
    let Ok(mut bytes) = fs::read(file) else { return };
    match damage {
        Damage::Flip(at, mask) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        Damage::Cut(at) if !bytes.is_empty() => bytes.truncate(at.index(bytes.len())),
        Damage::Grow(more) => bytes.extend(more),
        Damage::Replace(other) => bytes.clone_from(other),
        Damage::Remove => return fs::remove_file(file).unwrap(),
        Damage::Directory => {
            fs::remove_file(file).unwrap();
            return fs::create_dir(file).unwrap();
        }
        _ => {}
    }
    fs::write(file, bytes).unwrap();
}

/// What the store still gives is what was put there.
fn check(store: &Store, content: &Content) {
    for (digest, bytes) in &content.objects {
        if let Ok(found) = store.read(digest) {
            assert_eq!(found, *bytes);
        }
    }
    for (key, record) in &content.records {
        if let Ok(Some(found)) = store.lookup(key) {
            assert_eq!(found, *record);
        }
        let _ = store.latest_checkpoint(key);
    }
    if let Ok(memory) = store.memory(&Key::of(RECIPE)) {
        for (key, value) in &content.rows {
            assert!(memory.get(key).is_none_or(|found| found == *value));
        }
    }
}

/// Everything can be put and found again, whatever was damaged.
fn heal(store: &Store, content: &Content) {
    for (digest, bytes) in &content.objects {
        // The first read of a damaged object sets it aside.
        let _ = store.read(digest);
        assert_eq!(store.put(bytes).unwrap(), *digest);
    }
    store.commit().unwrap();
    for (digest, bytes) in &content.objects {
        assert_eq!(store.read(digest).unwrap(), *bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn damage_is_a_miss_and_never_a_wrong_answer(hits in prop::collection::vec((any::<prop::sample::Index>(), damage()), 1..6)) {
        thread_local!(static FILLED: (tempfile::TempDir, Content) = {
            let dir = tempfile::tempdir().unwrap();
            let content = fill(dir.path());
            (dir, content)
        });
        FILLED.with(|(filled, content)| {
            let dir = tempfile::tempdir().unwrap();
            copy(filled.path(), dir.path());
            let files: Vec<PathBuf> =
                files_below(dir.path()).into_iter().filter(|file| !file.ends_with("format")).collect();
            for (at, damage) in &hits {
                apply(damage, &files[at.index(files.len())]);
            }
            let store = Store::open(dir.path()).unwrap();
            check(&store, content);
            heal(&store, content);
        });
    }
}
