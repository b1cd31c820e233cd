//! What `verify` finds of damage, what it costs, and that repairing mends it; that work done again comes out the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pipe_tests::{Project, steady};

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().map(Result::unwrap);
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

fn damage(path: &Path, at: impl FnOnce(usize) -> usize) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut bytes = fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 0x55;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_whole_store_is_sound() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    let verify = project.pipe(&["verify", "p.toml"]);
    assert_eq!(verify.code, 0);
    assert!(verify.stdout.ends_with("nothing is damaged\n"), "{}", verify.stdout);
}

/// Whatever byte of whatever file is damaged, it is found, and after a repair a run makes good what is missing.
#[test]
fn damage_is_found_wherever_it_is_and_mended() {
    for kind in ["packs", "actions", "rows"] {
        for at in [0.0, 0.3, 0.99] {
            let project = Project::small();
            let _ = project.run(&["p.toml"]);
            let before = project.run(&["p.toml"]).artifacts();
            let files = files_below(&project.path(&format!(".pipe/{kind}")));
            for file in files {
                #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let place = |len: usize| ((len as f64) * at) as usize;
                damage(&file, place);
            }
            let found = project.pipe(&["verify"]);
            assert_eq!(found.code, 4, "{kind} at {at}: {}", found.stdout);
            let repaired = project.pipe(&["verify", "--repair"]);
            assert_eq!(repaired.code, 0, "{}", repaired.stderr);
            let run = project.pipe(&["run", "p.toml", "--json"]);
            assert_eq!(run.code, 0, "{kind} at {at}: {}{}", run.stdout, run.stderr);
            assert_eq!(pipe_tests::Run::of(&run).artifacts(), before);
            let again = project.pipe(&["verify"]);
            assert_eq!(again.code, 0, "{kind} at {at}: {}", again.stdout);
        }
    }
}

#[test]
fn what_is_gone_is_counted_as_such() {
    let project = Project::small();
    let _ = project.run(&["p.toml", "thumbnails"]);
    fs::remove_dir_all(project.path(".pipe/packs")).unwrap();
    let told = project.pipe(&["verify"]).stdout;
    let end = regex::Regex::new(
        r"read; \d+ things gone: `pipe verify --repair` forgets the results that need it, so that runs make them again\n$",
    );
    assert!(end.unwrap().is_match(&told), "{told}");
    let repaired = project.pipe(&["verify", "--repair"]).stdout;
    assert!(repaired.ends_with("gone: the results that need it are forgotten; runs make them again\n"), "{repaired}");
}

#[test]
fn damage_is_told_with_what_it_costs() {
    let project = Project::small();
    let _ = project.run(&["p.toml", "thumbnails"]);
    // The objects of a pack lie in the order in which they were made: the last one is of the last step.
    let pack = files_below(&project.path(".pipe/packs")).into_iter().find(|path| path.extension().unwrap() == "pack");
    let pack = pack.unwrap();
    damage(&pack, |len| len / 2);
    let found = project.pipe(&["verify"]);
    let name = pack.file_name().unwrap().to_string_lossy().into_owned();
    let text = found.stdout.replace(&*project.path("").to_string_lossy(), "DIR/").replace(&name, "PACK");
    let object = regex::Regex::new("object [0-9a-f]{12}").unwrap();
    insta::assert_snapshot!("damage", steady(&object.replace_all(&text, "object OBJECT")));
}

#[test]
fn work_done_again_comes_out_the_same() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    let all = project.pipe(&["verify", "p.toml", "--sample", "100%"]);
    assert_eq!(all.code, 0, "{}{}", all.stdout, all.stderr);
    insta::assert_snapshot!("sample", steady(&all.stdout));
    let files = |name: &str| files_below(&project.path(name)).len();
    assert_eq!((files(".pipe/packs"), files(".pipe/tmp")), (2, 0), "nothing of it stays");
}

#[test]
fn another_outcome_is_shown() {
    let project = Project::small();
    // A program whose output is another every time, which its key does not tell.
    project.write("p.toml", "name = \"p\"\n[steps.now]\nstage = \"command\"\nrun = [\"sh\", \"-c\", \"date +%N > {out}/made/time; echo x > {out}/made/same\"]\noutputs = { made = \"files\" }\n");
    let _ = project.run(&["p.toml"]);
    let again = project.pipe(&["verify", "p.toml", "--sample", "1"]);
    assert_eq!(again.code, 4, "{}", again.stdout);
    let two = Project::small();
    let _ = two.run(&["p.toml"]);
    let some = two.pipe(&["verify", "p.toml", "--sample", "1"]).stdout;
    assert_eq!(some.matches("not done again: it was not drawn").count(), 4, "{some}");
    let digest = regex::Regex::new("[0-9a-f]{12}").unwrap();
    insta::assert_snapshot!("another_outcome", digest.replace_all(&steady(&again.stdout), "DIGEST"));
}

#[test]
fn the_file_system_is_tried_out() {
    let project = Project::small();
    let _ = project.run(&["p.toml", "texts"]);
    let probe = project.pipe(&["verify", "--store-probe", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&probe.stdout).unwrap();
    assert_eq!((probe.code, found["safe"].clone()), (0, true.into()), "{found}");
}
