//! The store as its users see it: what is committed is there, what is not is not, whatever happened in between.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use pipe_cache::{ActionRecord, Digest, Key, Raced, Store, StoreError, row_key};

fn open(dir: &Path) -> Store {
    Store::open(dir).unwrap()
}

/// Stores an object, a record that names it, and a remembered row.
fn work(store: &Store, name: &str) -> Key {
    let output = store.put(name.repeat(100).as_bytes()).unwrap();
    let key = Key::of(name.as_bytes());
    let memory = store.memory(&Key::of(b"recipe")).unwrap();
    memory.insert(row_key(&key), output.bytes().to_vec());
    store.record(ActionRecord::new(key, output, [("out".to_owned(), output)].into()));
    key
}

fn is_whole(store: &Store, key: &Key) -> bool {
    let Some(record) = store.lookup(key).unwrap() else { return false };
    let row = store.memory(&Key::of(b"recipe")).unwrap().get(&row_key(key));
    row.is_some() && record.outputs.values().all(|digest| store.read(digest).is_ok())
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().map(Result::unwrap);
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

#[test]
fn a_row_that_is_forgotten_may_be_remembered_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (recipe, row) = (Key::of(b"recipe"), row_key(&Key::of(b"a")));
    let get = || open(dir.path()).memory(&recipe).unwrap().get(&row);
    for (value, wanted) in [(Some(b"one"), Some(b"one".to_vec())), (None, None), (Some(b"two"), Some(b"two".to_vec()))]
    {
        let store = open(dir.path());
        let memory = store.memory(&recipe).unwrap();
        value.map_or_else(|| memory.forget(row), |value| memory.insert(row, value.to_vec()));
        assert_eq!(memory.get(&row), wanted);
        store.commit().unwrap();
        assert_eq!(get(), wanted);
    }
}

#[test]
fn nothing_is_visible_to_others_before_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, reader) = (open(dir.path()), open(dir.path()));
    let key = work(&writer, "a");
    assert!(is_whole(&writer, &key));
    assert!(reader.lookup(&key).unwrap().is_none());
    writer.commit().unwrap();
    let reader = open(dir.path());
    assert!(is_whole(&reader, &key));
}

#[test]
fn an_open_store_sees_what_others_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, reader) = (open(dir.path()), open(dir.path()));
    let key = work(&writer, "a");
    writer.commit().unwrap();
    let record = reader.lookup(&key).unwrap().unwrap();
    assert!(reader.read(&record.outputs["out"]).is_ok());
}

#[test]
fn finishing_leaves_one_index_and_few_segments() {
    let dir = tempfile::tempdir().unwrap();
    let mut keys = Vec::new();
    {
        let store = open(dir.path());
        for n in 0..20 {
            keys.push(work(&store, &format!("object {n}")));
            store.commit().unwrap();
        }
        store.finish().unwrap();
    }
    let indexes =
        files_below(&dir.path().join("packs")).into_iter().filter(|p| p.extension().unwrap() == "idx").count();
    assert_eq!(indexes, 1);
    assert_eq!(files_below(&dir.path().join("rows")).len(), 1);
    assert!(files_below(&dir.path().join("tmp")).is_empty());
    let store = open(dir.path());
    assert!(keys.iter().all(|key| is_whole(&store, key)));
}

#[test]
fn the_first_record_of_a_key_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (open(dir.path()), open(dir.path()));
    let key = Key::of(b"k");
    for (store, text) in [(&one, "first"), (&two, "second")] {
        let output = store.put(text.as_bytes()).unwrap();
        store.record(ActionRecord::new(key, output, [("out".to_owned(), output)].into()));
    }
    assert!(one.commit().unwrap().is_empty());
    let raced = two.commit().unwrap();
    assert_eq!(raced, [Raced { key, differs: vec!["out".to_owned()] }]);
    assert_eq!(open(dir.path()).lookup(&key).unwrap().unwrap().outputs["out"], Digest::of(b"first"));
}

#[test]
fn two_that_record_the_same_agree() {
    let dir = tempfile::tempdir().unwrap();
    let key = Key::of(b"k");
    let [one, two] = ["one", "two"].map(|run| {
        let store = open(dir.path());
        let output = store.put(b"the same").unwrap();
        let record = ActionRecord::new(key, output, [("out".to_owned(), output)].into());
        store.record(ActionRecord { run: run.to_owned(), ..record });
        store
    });
    assert!(one.commit().unwrap().is_empty());
    assert_eq!(two.commit().unwrap(), [Raced { key, differs: Vec::new() }]);
    assert_eq!(open(dir.path()).lookup(&key).unwrap().unwrap().run, "one");
}

#[test]
fn large_objects_are_files_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = vec![7; 3 << 20];
    let digest = store.put(&bytes).unwrap();
    store.commit().unwrap();
    drop(store);
    let blob = open(dir.path()).locate(&digest).unwrap().unwrap();
    assert!(blob.path.starts_with(dir.path().join("objects")));
    assert_eq!(blob.read().unwrap(), bytes);
}

#[test]
fn what_is_published_is_read_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    work(&store, "a");
    let large = store.put(&vec![7; 2 << 20]).unwrap();
    store.add_checkpoint(&Key::of(b"training"), 1, BTreeMap::from([("state".to_owned(), large)]));
    store.finish().unwrap();
    for kind in ["objects", "packs", "actions", "rows", "checkpoints"] {
        let files = files_below(&dir.path().join(kind));
        assert!(!files.is_empty(), "{kind}");
        for file in files {
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o444, "{}", file.display());
        }
    }
}

#[test]
fn damage_is_found_on_reading_and_the_object_can_be_stored_again() {
    for size in [100, 2 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let (good, other) = (vec![1; size], vec![2; size]);
        let store = open(dir.path());
        let digest = store.put(&good).unwrap();
        let neighbour = store.put(&other).unwrap();
        store.finish().unwrap();
        drop(store);

        let store = open(dir.path());
        let blob = store.locate(&digest).unwrap().unwrap();
        fs::set_permissions(&blob.path, fs::Permissions::from_mode(0o644)).unwrap();
        let mut bytes = fs::read(&blob.path).unwrap();
        bytes[usize::try_from(blob.offset).unwrap() + 50] ^= 1;
        fs::write(&blob.path, bytes).unwrap();

        assert!(matches!(store.read(&digest), Err(StoreError::Damaged { .. })));
        assert!(store.locate(&digest).unwrap().is_none(), "a damaged object is a miss");
        assert_eq!(store.read(&neighbour).unwrap(), other, "its neighbours are not");
        store.put(&good).unwrap();
        store.commit().unwrap();
        assert_eq!(open(dir.path()).read(&digest).unwrap(), good);
    }
}

#[test]
fn a_damaged_record_counts_as_none_and_makes_room_for_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let key = {
        let store = open(dir.path());
        let key = work(&store, "a");
        store.finish().unwrap();
        key
    };
    let record = files_below(&dir.path().join("actions")).pop().unwrap();
    let mut bytes = fs::read(&record).unwrap();
    bytes[10] ^= 1;
    fs::set_permissions(&record, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&record, bytes).unwrap();
    let store = open(dir.path());
    assert!(store.lookup(&key).unwrap().is_none());
    work(&store, "a");
    store.commit().unwrap();
    assert!(is_whole(&open(dir.path()), &key));
}

#[test]
fn checkpoints_are_found_by_key_latest_first_and_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let key = Key::of(b"training");
    for at in [50, 100, 9] {
        let digest = store.put(format!("state {at}").as_bytes()).unwrap();
        store.add_checkpoint(&key, at, BTreeMap::from([("state".to_owned(), digest)]));
        store.commit().unwrap();
    }
    let latest = store.latest_checkpoint(&key).unwrap().unwrap();
    assert_eq!((latest.at, latest.files["state"].read().unwrap()), (100, b"state 100".to_vec()));
    store.clear_checkpoints(&key);
    assert!(store.latest_checkpoint(&key).unwrap().is_none());
}

#[test]
fn a_store_of_another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("format"), "pipe-store/99\n").unwrap();
    let Err(error) = Store::open(dir.path()) else { panic!("opened") };
    assert!(error.to_string().contains("pipe-store/99"), "{error}");
}

#[test]
fn files_of_a_scratch_directory_are_taken_over_and_others_copied() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let outside = dir.path().join("outside");
    let inside = store.scratch().unwrap().join("inside");
    for (path, byte) in [(&outside, 1), (&inside, 2)] {
        fs::write(path, vec![byte; 2 << 20]).unwrap();
        store.put_file(path).unwrap();
    }
    store.commit().unwrap();
    // The user's own file stays theirs to change.
    fs::write(&outside, vec![3; 2 << 20]).unwrap();
    assert!(store.read(&Digest::of(&vec![1; 2 << 20])).is_ok());
    assert!(store.read(&Digest::of(&vec![2; 2 << 20])).is_ok());
}

/// Not a test of its own: the process that [`a_killed_process_loses_nothing_it_committed`] kills.
#[test]
fn victim() {
    let Some(dir) = std::env::var_os("PIPE_CACHE_VICTIM") else { return };
    let store = open(Path::new(&dir));
    for n in 0.. {
        work(&store, &format!("{}-{n}", std::process::id()));
        store.commit().unwrap();
        fs::write(Path::new(&dir).join("committed"), n.to_string()).unwrap();
    }
}

#[test]
fn a_killed_process_loses_nothing_it_committed() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..12_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["victim", "--exact", "--nocapture"])
            .env("PIPE_CACHE_VICTIM", dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(30 + 17 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let Ok(committed) = fs::read_to_string(dir.path().join("committed")) else { continue };
        fs::remove_file(dir.path().join("committed")).unwrap();
        let store = open(dir.path());
        let committed: u64 = committed.parse().unwrap_or(0);
        for n in 0..=committed {
            let key = Key::of(format!("{}-{n}", child.id()).as_bytes());
            assert!(is_whole(&store, &key), "round {round}: {n} of {committed}");
        }
        // Whatever else is visible is whole.
        for path in files_below(&dir.path().join("actions")) {
            let name = format!(
                "{}{}",
                path.parent().unwrap().file_name().unwrap().to_str().unwrap(),
                path.file_name().unwrap().to_str().unwrap()
            );
            assert!(is_whole(&store, &name.parse().unwrap()));
        }
    }
}
