//! The release's adapter loads in Hugging Face `peft` on the shipped base model and gives the same logits.
//!
//! Runs where `PIPE_PYTHON` names a Python with torch, transformers, peft and safetensors: `make test` counts it as skipped
//! elsewhere.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::Command;

use pipe_tests::{Project, binary, workspace};

#[test]
#[ignore = "needs PIPE_PYTHON: a Python with torch, transformers, peft and safetensors"]
fn the_released_adapter_gives_the_same_logits_in_peft() {
    let python = std::env::var("PIPE_PYTHON")
        .expect("PIPE_PYTHON names a Python with torch, transformers, peft and safetensors");
    let project = Project::shipped();
    let _ = project.run(&["quickstart.toml", "release"]);
    assert_eq!(project.pipe(&["export", "quickstart.toml", "release", "release"]).code, 0);
    let output = Command::new(python)
        .arg(workspace().join("tests/peft_parity.py"))
        .args([project.path("models/scenes-qwen2"), project.path("release"), binary("pipe-torch")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
