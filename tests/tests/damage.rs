//! Damage in the store costs the work it hit and nothing else: one run makes it again, whatever it was.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use pipe_tests::Project;

fn packs(project: &Project, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(project.path(".pipe/packs")).unwrap().flatten().map(|entry| entry.path());
    let packs: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    assert!(!packs.is_empty());
    for pack in &packs {
        fs::set_permissions(pack, fs::Permissions::from_mode(0o644)).unwrap();
    }
    packs
}

/// Runs the pipeline with another size, so that most of it is looked at, and then as it was; everything must be as in a store of its own.
fn is_made_again(project: &Project, damage: impl Fn(&Project)) {
    let clean = project.run(&["p.toml"]).artifacts();
    damage(project);
    let _ = project.run(&["p.toml", "--set", "size=9"]);
    assert_eq!(project.run(&["p.toml"]).artifacts(), clean);
    for step in ["photos", "thumbnails", "long"] {
        let out = project.path(&format!("out-{step}"));
        let export = project.pipe(&["export", "p.toml", step, out.to_str().unwrap()]);
        if export.code != 0 {
            // What nothing had to read is found by whoever reads it first; the next run makes it again.
            assert!(export.stderr.contains("makes it again"), "{}", export.stderr);
            let _ = fs::remove_dir_all(&out);
            assert_eq!(project.run(&["p.toml"]).artifacts(), clean);
            let export = project.pipe(&["export", "p.toml", step, out.to_str().unwrap()]);
            assert_eq!(export.code, 0, "{}", export.stderr);
        }
    }
}

#[test]
fn flipped_bytes_all_over_the_packs() {
    is_made_again(&Project::small(), |project| {
        for pack in packs(project, "pack") {
            let mut bytes = fs::read(&pack).unwrap();
            bytes.iter_mut().step_by(997).for_each(|byte| *byte ^= 0x55);
            fs::write(pack, bytes).unwrap();
        }
    });
}

#[test]
fn packs_cut_short() {
    is_made_again(&Project::small(), |project| {
        for pack in packs(project, "pack") {
            fs::File::options().write(true).open(pack).unwrap().set_len(1000).unwrap();
        }
    });
}

#[test]
fn packs_that_are_gone_and_indexes_that_are_nonsense() {
    is_made_again(&Project::small(), |project| {
        packs(project, "pack").iter().for_each(|pack| fs::remove_file(pack).unwrap());
    });
    is_made_again(&Project::small(), |project| {
        packs(project, "idx").iter().for_each(|idx| fs::write(idx, "nonsense").unwrap());
    });
}

#[test]
fn a_store_that_may_not_be_written_to_gives_what_it_has() {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    let writable = |mode: u32| {
        for entry in walkdir::WalkDir::new(project.path(".pipe")) {
            let entry = entry.unwrap();
            let bits = if entry.file_type().is_dir() { mode | 0o111 } else { mode };
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(bits)).unwrap();
        }
    };
    writable(0o444);
    let denied = fs::write(project.path(".pipe/probe"), "").is_err();
    let plan = project.pipe(&["plan", "p.toml"]);
    let run = project.pipe(&["run", "p.toml"]);
    let other = project.pipe(&["run", "p.toml", "--set", "size=9"]);
    writable(0o644);
    assert!(plan.stdout.ends_with("nothing to do\n"), "{}{}", plan.stdout, plan.stderr);
    assert_eq!(run.code, 0, "{}", run.stderr);
    // Whoever may do anything may write here, too.
    if denied {
        assert_eq!(other.code, 4, "{}", other.stderr);
        assert!(other.stderr.contains("use a store of your own with --store"), "{}", other.stderr);
    }
}
