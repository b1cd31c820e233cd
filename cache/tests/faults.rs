//! What the system refuses costs what was to be written and nothing else: the next commit has it all, and nothing half written is ever
//! named.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use pipe_cache::{ActionRecord, Digest, Key, Store, row_key};
use rustix::process::{Resource, Rlimit, setrlimit};

fn open(dir: &Path) -> Store {
    Store::open(dir).unwrap()
}

/// Stores a small and a large object, a record that names them, and a remembered row.
fn work(store: &Store, name: &str) -> Key {
    let small = store.put(name.as_bytes()).unwrap();
    let large = store.put(&name.repeat(1 << 20).into_bytes()).unwrap();
    let key = Key::of(name.as_bytes());
    store.memory(&Key::of(b"recipe")).unwrap().insert(row_key(&key), small.bytes().to_vec());
    store.record(ActionRecord::new(key, small, [("small".to_owned(), small), ("large".to_owned(), large)].into()));
    key
}

fn is_whole(store: &Store, key: &Key) -> bool {
    let Some(record) = store.lookup(key).unwrap() else { return false };
    let row = store.memory(&Key::of(b"recipe")).unwrap().get(&row_key(key));
    row.is_some() && record.outputs.values().all(|digest| store.read(digest).is_ok())
}

/// Whatever part of a commit fails, what it was to make visible is in the next one, and no record comes before its objects.
#[test]
fn a_commit_that_failed_is_made_up_for() {
    for kind in ["objects", "packs", "rows", "actions"] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let first = work(&store, "a");
        store.commit().unwrap();
        let second = work(&store, "b");
        let (there, hidden) = (dir.path().join(kind), dir.path().join("hidden"));
        fs::rename(&there, &hidden).unwrap();
        fs::write(&there, "no directory").unwrap();
        assert!(store.commit().is_err(), "{kind}");
        fs::remove_file(&there).unwrap();
        fs::rename(&hidden, &there).unwrap();
        let third = work(&store, "c");
        if let Some(record) = open(dir.path()).lookup(&second).unwrap() {
            panic!("{kind}: {record:?} is visible");
        }
        store.finish().unwrap();
        drop(store);
        for key in [first, second, third] {
            assert!(is_whole(&open(dir.path()), &key), "{kind}");
        }
        assert!(fs::read_dir(dir.path().join("tmp")).unwrap().next().is_none(), "{kind}");
    }
}

const LARGEST: u64 = 512 << 10;

fn limit(current: Option<u64>) {
    setrlimit(Resource::Fsize, Rlimit { current, maximum: None }).unwrap();
}

/// Not a test of its own: the process of [`what_is_cut_short_is_not_named`], whose files cannot grow beyond a limit for a while.
#[test]
fn cramped() {
    let Some(dir) = std::env::var_os("PIPE_CACHE_CRAMPED") else { return };
    let store = open(Path::new(&dir));
    limit(Some(LARGEST));
    store.put(&vec![1; 300 << 10]).unwrap();
    assert!(store.put(&vec![2; 300 << 10]).is_err(), "the pack is cut short");
    assert!(store.put(&vec![3; 2 << 20]).is_err(), "as is a file of its own");
    store.put(&vec![4; 100 << 10]).unwrap();
    limit(None);
    store.put(&vec![5; 300 << 10]).unwrap();
    store.finish().unwrap();
}

#[test]
fn what_is_cut_short_is_not_named() {
    let dir = tempfile::tempdir().unwrap();
    // A shell that ignores the signal hands that on: the write then fails instead.
    let program = std::env::current_exe().unwrap();
    let status = Command::new("sh")
        .arg0("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" cramped --exact --nocapture"])
        .arg(program)
        .env("PIPE_CACHE_CRAMPED", dir.path())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let store = open(dir.path());
    for (byte, len, there) in [(1, 300, true), (2, 300, false), (3, 2048, false), (4, 100, true), (5, 300, true)] {
        let bytes = vec![byte; len << 10];
        assert_eq!(store.read(&Digest::of(&bytes)).is_ok_and(|found| found == bytes), there, "{byte}");
    }
    let damage: Vec<_> = store.parts().unwrap().iter().flat_map(|part| store.check(part).unwrap()).collect();
    assert!(damage.is_empty(), "{damage:?}");
}
