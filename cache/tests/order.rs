//! What a power cut could leave, as far as the order of system calls tells: nothing is named before it is durable. And a kill at any
//! of those calls. Both need `strace`, and say so where there is none.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and says if it is left out"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pipe_cache::{ActionRecord, Key, Store, row_key};

/// Stores `records` records with objects of both sizes and a remembered row each.
fn work(store: &Store, records: u32) {
    for n in 0..records {
        let small = store.put(format!("small {n}").as_bytes()).unwrap();
        let large = store.put(&vec![u8::try_from(n).unwrap(); 1 << 20]).unwrap();
        let key = key(n);
        store.memory(&Key::of(b"recipe")).unwrap().insert(row_key(&key), small.bytes().to_vec());
        store.record(ActionRecord::new(key, small, [("small".to_owned(), small), ("large".to_owned(), large)].into()));
    }
}

fn key(n: u32) -> Key {
    Key::of(&n.to_le_bytes())
}

/// Not a test of its own: the process whose calls are watched. It does two commits and leaves the store tidy.
#[test]
fn watched() {
    let Some(dir) = std::env::var_os("PIPE_CACHE_WATCHED") else { return };
    let records = std::env::var("PIPE_CACHE_RECORDS").unwrap().parse().unwrap();
    let store = Store::open(Path::new(&dir)).unwrap();
    work(&store, records);
    store.commit().unwrap();
    store.memory(&Key::of(b"recipe")).unwrap().insert(row_key(&Key::of(b"more")), b"more".to_vec());
    store.put(b"more").unwrap();
    store.finish().unwrap();
}

/// Runs [`watched`] under `strace`; `None` where that cannot be done.
fn strace(dir: &Path, records: u32, args: &[&str]) -> Option<std::process::ExitStatus> {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-qq", "-s", "0"]).args(args).arg(program);
    command.args(["watched", "--exact", "--nocapture", "--test-threads=1"]);
    command.env("PIPE_CACHE_WATCHED", dir).env("PIPE_CACHE_RECORDS", records.to_string());
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().ok()
}

#[expect(clippy::print_stdout, reason = "says why a test is skipped")]
fn can_trace() -> bool {
    let works = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    let works = works.is_ok_and(|status| status.success());
    if !works {
        println!("skipped: strace is not here, or may not trace");
    }
    works
}

/// What a power cut would cost, as a trace goes on.
#[derive(Default)]
struct Unsynced {
    /// Files whose bytes may not be on the disk.
    bytes: BTreeSet<PathBuf>,
    /// Names that may not be.
    names: BTreeSet<PathBuf>,
    /// Records that were named.
    records: usize,
}

impl Unsynced {
    fn see(&mut self, line: &str, root: &Path) {
        let call = line.split_whitespace().nth(1).and_then(|call| call.split('(').next()).unwrap_or_default();
        let failed = line.rsplit_once(" = ").is_none_or(|(_, result)| result.starts_with('-'));
        let mut texts = line.split('"').skip(1).step_by(2).map(PathBuf::from);
        let of_descriptor = || PathBuf::from(line.split(['<', '>']).nth(1).unwrap());
        match call {
            _ if failed => {}
            "write" | "pwrite64" => {
                self.bytes.insert(of_descriptor());
            }
            "openat" if line.contains("O_CREAT") => {
                self.names.extend(texts.next().into_iter().filter(|name| !name.starts_with(root.join("tmp"))));
            }
            "mkdir" | "mkdirat" => self.names.extend(texts),
            "syncfs" => {
                self.bytes.clear();
                self.names.clear();
            }
            "fsync" | "fdatasync" => {
                let path = of_descriptor();
                self.bytes.remove(&path);
                self.names.retain(|name| name.parent() != Some(&path));
            }
            "link" | "linkat" => self.link(&texts.next().unwrap(), &texts.next().unwrap(), root),
            _ => {}
        }
    }

    fn link(&mut self, aside: &Path, name: &Path, root: &Path) {
        if name.starts_with(root.join("tmp")) {
            return;
        }
        assert!(!self.bytes.contains(aside), "{} is named before its bytes are durable", name.display());
        let packs = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "pack");
        assert!(!self.bytes.iter().any(packs), "{} is named before the pack is durable", name.display());
        if name.starts_with(root.join("actions")) {
            self.records += 1;
            let others: Vec<&PathBuf> = self.names.iter().filter(|path| of_results(path, root)).collect();
            assert!(others.is_empty(), "a record is named before {others:?} are");
        }
        self.names.insert(name.to_owned());
    }
}

/// Whether a name matters for what records refer to.
fn of_results(path: &Path, root: &Path) -> bool {
    path.starts_with(root) && !["actions", "tmp", "reserve"].iter().any(|other| path.starts_with(root.join(other)))
}

const CALLS: &str = "trace=openat,write,pwrite64,link,linkat,mkdir,mkdirat,fsync,fdatasync,syncfs";

/// Few files are synced each by itself, many at once.
#[test]
fn nothing_is_named_before_it_is_durable() {
    if !can_trace() {
        return;
    }
    for records in [2, 12] {
        let dir = tempfile::tempdir().unwrap();
        let (root, trace) = (dir.path().join("store"), dir.path().join("trace"));
        let status = strace(&root, records, &["-e", CALLS, "-o", trace.to_str().unwrap()]).unwrap();
        assert!(status.success());
        let mut unsynced = Unsynced::default();
        let trace = fs::read_to_string(trace).unwrap();
        trace.lines().for_each(|line| unsynced.see(line, &root));
        assert_eq!(unsynced.records, records as usize);
        assert_eq!(trace.contains("syncfs("), records == 12);
        let records = |path: &Path| path.starts_with(root.join("actions"));
        let left: Vec<&PathBuf> =
            unsynced.names.iter().filter(|path| of_results(path, &root) || records(path)).collect();
        assert!(left.is_empty(), "{left:?} could be lost in the end");
    }
}

/// Whatever is visible is whole, and doing the work again makes the rest good.
fn is_sound(root: &Path, at: &str) {
    let store = Store::open(root).unwrap();
    for recorded in store.recorded().unwrap() {
        let record = store.lookup(&recorded.key).unwrap().unwrap();
        for digest in record.outputs.values() {
            assert!(store.read(digest).is_ok(), "{at}: a record without its object");
        }
    }
    let damage: Vec<_> = store.parts().unwrap().iter().flat_map(|part| store.check(part).unwrap()).collect();
    assert!(damage.is_empty(), "{at}: {damage:?}");
    work(&store, 1);
    store.finish().unwrap();
    assert!(store.lookup(&key(0)).unwrap().unwrap().outputs.values().all(|digest| store.read(digest).is_ok()), "{at}");
    drop(store);
    let left: Vec<_> = fs::read_dir(root.join("tmp")).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{at}: {left:?} is left");
}

#[test]
fn a_kill_before_any_call_leaves_what_is_whole() {
    if !can_trace() {
        return;
    }
    for call in ["link", "linkat", "fsync", "fdatasync", "mkdir", "unlink", "pwrite64", "rename"] {
        for nth in 1.. {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("store");
            drop(Store::open(&root).unwrap());
            let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={nth}"));
            let status = strace(&root, 1, &["-e", &trace, "-e", &inject, "-o", "/dev/null"]).unwrap();
            is_sound(&root, &format!("{call} {nth}"));
            if status.success() {
                break;
            }
        }
    }
}
