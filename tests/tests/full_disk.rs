//! A disk that is full, of bytes or of inodes: what was finished stays, nothing wrong is recorded, collecting works, and with room again
//! everything comes out as ever. Each test fills a small file system of its own, and says so where it may not mount one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::fs;

use pipe_tests::{Outcome, Project, binary};

/// Runs a script of a shell in which `.pipe` is a file system of its own; `None` where that cannot be had.
fn on_small_disk(project: &Project, options: &str, script: &str) -> Option<Outcome> {
    fs::create_dir_all(project.path(".pipe")).unwrap();
    let mount = format!("mount -t tmpfs -o {options} tmpfs .pipe || exit 77\nset -e\n{script}");
    let shell = ["--user", "--map-root-user", "--mount", "sh", "-c", &mount];
    let pipe = binary("pipe").canonicalize().unwrap();
    let child = project.program("unshare", &shell).env("PIPE", pipe).spawn();
    let outcome = child.ok().map(|child| project.finish(child)).filter(|outcome| ![1, 77].contains(&outcome.code));
    if outcome.is_none() {
        println!("skipped: no file system can be mounted here");
    }
    outcome
}

/// Exit codes and standard errors of the commands of a script, which end up in files.
fn said(project: &Project, name: &str) -> (String, String) {
    let read = |end: &str| fs::read_to_string(project.path(&format!("{name}.{end}"))).unwrap_or_default();
    (read("code").trim().to_owned(), read("err"))
}

/// A function of the shell that runs `pipe` and keeps what it says under the name given first.
const KEEP: &str =
    "keep() { name=$1; shift; code=0; $PIPE \"$@\" >$name.out 2>$name.err || code=$?; echo $code >$name.code; }\n";

fn artifacts(text: &str) -> Vec<String> {
    let outcome = Outcome { code: 0, stdout: text.to_owned(), stderr: String::new(), seconds: 0.0 };
    pipe_tests::Run::of(&outcome).artifacts()
}

/// A pipeline that makes a file of so many bytes.
fn makes(bytes: u32) -> String {
    format!(
        "name = \"p\"\n[steps.made]\nstage = \"command\"\nrun = [\"sh\", \"-c\", \"head -c {bytes} /dev/urandom > {{out}}/made/x\"]\noutputs = {{ made = \"files\" }}\n"
    )
}

#[test]
fn a_step_does_not_start_without_room_for_what_it_made_last() {
    let project = Project::empty();
    project.write("p.toml", makes(3_000_000));
    project.write("q.toml", makes(3_000_001));
    let script = format!(
        "{KEEP}keep first run p.toml; head -c 3000000 /dev/zero >.pipe/other; keep second run q.toml; ls .pipe/actions >actions; rm .pipe/other; keep third run q.toml"
    );
    let Some(outcome) = on_small_disk(&project, "size=8m", &script) else { return };
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_eq!(said(&project, "first").0, "0", "{}", said(&project, "first").1);
    let (code, err) = said(&project, "second");
    assert_eq!(code, "4", "{err}");
    assert!(
        err.contains("there is no room for it where the store lies: 1.")
            && err.contains(" MB are free, 3.2 MB are needed"),
        "{err}"
    );
    assert!(err.contains("`pipe gc`"), "{err}");
    assert_eq!(fs::read_to_string(project.path("actions")).unwrap().lines().count(), 1, "it did not start");
    assert_eq!(said(&project, "third").0, "0", "{}", said(&project, "third").1);
}

/// The program goes on when it cannot write, and fails for another reason, which it keeps to itself.
#[test]
fn a_program_that_fails_on_a_full_disk_need_not_say_why() {
    let project = Project::empty();
    project.write(
        "p.toml",
        "name = \"p\"\n[steps.made]\nstage = \"command\"\nrun = [\"sh\", \"-c\", \"head -c 30m /dev/zero >{out}/made/x 2>/dev/null; exit 120\"]\noutputs = { made = \"files\" }\n",
    );
    let script = format!("{KEEP}keep run run p.toml");
    let Some(outcome) = on_small_disk(&project, "size=3m", &script) else { return };
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let (code, err) = said(&project, "run");
    assert_eq!(code, "4", "{err}");
    assert!(
        err.contains("the disk was full when it failed: sh ended with code 120") && err.contains("`pipe gc`"),
        "{err}"
    );
}

/// Fills the disk in every way, under a run and a collection, and looks whether anything is wrong.
fn is_survived(options: &str, fill: &str) {
    let project = Project::small();
    let texts = |n: u32| format!("{{\"id\": \"u-{n:05}\", \"caption\": \"{}\"}}\n", "long text ".repeat(40));
    project.write("more.jsonl", (0..9000).map(texts).collect::<String>());
    let more = "\n[steps.more]\nstage = \"download\"\nsource = \"more.jsonl\"\nid = \"id\"\n\n[steps.kept]\nstage = \"filter\"\ninputs = { rows = \"more\" }\nkeep = \"size(caption) > 6\"\n";
    project.write("q.toml", pipe_tests::SMALL.replace("name = \"p\"", "name = \"q\"") + more);
    let script = format!(
        "{KEEP}keep first run p.toml
        keep large run q.toml
        keep beside verify
        {fill}
        keep full run p.toml --set size=9
        rm -f p.lock
        keep gc gc --keep-runs 0 --keep-days 0 --grace 0 --yes
        keep after verify
        rm -rf .pipe/filler
        keep sound verify
        keep again run --json p.toml
        keep last verify"
    );
    let Some(outcome) = on_small_disk(&project, options, &script) else { return };
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    for (name, wanted) in [
        ("first", "0"),
        ("beside", "0"),
        ("full", "4"),
        ("gc", "0"),
        ("after", "0"),
        ("sound", "0"),
        ("again", "0"),
        ("last", "0"),
    ] {
        let (code, err) = said(&project, name);
        assert_eq!(code, wanted, "{name}: {err}");
    }
    let err = said(&project, "full").1;
    assert!(err.contains("no room for it") && err.contains("`pipe gc`"), "{err}");
    let again = artifacts(&fs::read_to_string(project.path("again.out")).unwrap());
    let elsewhere = project.path("elsewhere");
    assert_eq!(again, project.run(&["p.toml", "--store", elsewhere.to_str().unwrap()]).artifacts());
}

/// The large texts do not fit: their steps fail in the middle of writing.
#[test]
fn bytes_that_run_out_cost_no_more_than_what_was_being_written() {
    is_survived("size=3m", "head -c 100m /dev/zero >.pipe/filler 2>/dev/null || true");
}

#[test]
fn inodes_that_run_out_cost_no_more_than_what_was_being_written() {
    let fill = "mkdir .pipe/filler; n=0; while true >.pipe/filler/$n; do n=$((n + 1)); done 2>/dev/null || true";
    is_survived("size=64m,nr_inodes=600", fill);
}

#[test]
fn a_store_that_may_only_be_read_gives_what_it_has() {
    let project = Project::small();
    let script = format!(
        "{KEEP}keep first run p.toml; mount -o remount,ro .pipe; keep plan plan p.toml; keep run run p.toml; keep export export p.toml long out; keep verify verify; keep other run p.toml --set size=9"
    );
    let Some(outcome) = on_small_disk(&project, "size=16m", &script) else { return };
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    for (name, wanted) in
        [("first", "0"), ("plan", "0"), ("run", "0"), ("export", "0"), ("verify", "0"), ("other", "4")]
    {
        let (code, err) = said(&project, name);
        assert_eq!(code, wanted, "{name}: {err}");
    }
    assert!(fs::read_to_string(project.path("plan.out")).unwrap().ends_with("nothing to do\n"));
    assert!(
        said(&project, "other").1.contains("use a store of your own with --store"),
        "{}",
        said(&project, "other").1
    );
}
