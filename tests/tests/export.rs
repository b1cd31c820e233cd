//! What `export` writes, opened by the programs it is for, where Python has them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::process::Command;

use pipe_tests::Project;

/// Runs a program of Python in the project; `None`, with a word on it, where Python lacks a module. `PIPE_TEST_PYTHON` names the Python.
fn python(project: &Project, module: &str, program: &str) -> Option<String> {
    let python = std::env::var("PIPE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if !has.is_ok_and(|output| output.status.success()) {
        println!("skipped: {python} has no module {module}");
        return None;
    }
    let output = Command::new(&python).args(["-c", program]).current_dir(project.path("")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

fn exported(step: &str, format: &str) -> Project {
    let project = Project::small();
    let _ = project.run(&["p.toml"]);
    let export = project.pipe(&["export", "p.toml", step, "out", "--format", format]);
    assert_eq!(export.code, 0, "{}", export.stderr);
    project
}

#[test]
fn pandas_opens_parquet() {
    let project = exported("long", "parquet");
    let told = python(
        &project,
        "pandas, pyarrow",
        "import pandas as pd; t = pd.read_parquet('out/rows.parquet'); print(len(t), list(t.columns), t.caption[0])",
    );
    if let Some(told) = told {
        assert_eq!(told, "50 ['id', 'caption', 'note'] text 10\n");
    }
}

#[test]
fn datasets_opens_a_hub_dataset_with_its_images() {
    let project = exported("thumbnails", "huggingface");
    let told = python(
        &project,
        "datasets, PIL",
        "import datasets; d = datasets.load_dataset('out', split='train', cache_dir='cache'); print(len(d), d[0]['image'].size, d[0]['id'])",
    );
    if let Some(told) = told {
        assert_eq!(told, "6 (8, 8) scene-0001.png\n");
    }
}

#[test]
fn tar_opens_webdataset_shards() {
    let project = exported("thumbnails", "webdataset");
    let told = python(
        &project,
        "tarfile",
        "import tarfile, json; t = tarfile.open('out/rows-000000.tar'); print(len(t.getnames()), json.load(t.extractfile('scene-0001_png.json'))['id'])",
    );
    if let Some(told) = told {
        assert_eq!(told, "12 scene-0001.png\n");
    }
}

#[test]
fn rows_alone_are_one_file() {
    let project = exported("long", "jsonl");
    let text = std::fs::read_to_string(project.path("out/rows.jsonl")).unwrap();
    assert_eq!(text.lines().next(), Some("{\"id\":\"t-10\",\"caption\":\"text 10\",\"note\":\"x\"}"));
    assert_eq!((text.lines().count(), std::fs::read_dir(project.path("out")).unwrap().count()), (50, 1));
}

#[test]
fn files_are_written_as_they_are() {
    let project = Project::small();
    let spec = "name = \"f\"\n[steps.files]\nstage = \"download\"\nsource = \"photos\"\nformat = \"files\"\n";
    project.write("f.toml", spec);
    let _ = project.run(&["f.toml"]);
    let parquet = project.pipe(&["export", "f.toml", "files", "out", "--format", "parquet"]);
    assert_eq!(parquet.code, 2);
    insta::assert_snapshot!("no_rows", parquet.stderr);
    assert!(!project.path("out").exists());
    assert_eq!(project.pipe(&["export", "f.toml", "files", "out"]).code, 0);
}
