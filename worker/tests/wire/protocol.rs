//! The protocol, and the ends a worker can come to.

use std::process::Command;

use pipe_engine::problem::FailureClass;
use pipe_engine::worker::frame::{PROTOCOL, Reply, Request};
use serde_json::json;

use crate::lora_train;
use crate::support::{Worker, inputs, load_rows, model, text_row};

#[test]
fn it_says_what_it_is() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_pipe-torch")).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, version, _) = run(&["--version"]);
    assert_eq!(code, Some(0));
    assert!(version.starts_with(concat!("pipe-torch ", env!("CARGO_PKG_VERSION"), " (libtorch 2.")), "{version}");
    let (code, about, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    assert!(about.starts_with("The half of `pipe` that computes with libtorch"), "{about}");
    assert_eq!(run(&["what"]).0, Some(2));
}

#[test]
fn it_greets_with_facts_and_ends_with_its_input() {
    let mut worker = Worker::spawn();
    let facts = worker.hello("cpu").unwrap();
    assert_eq!((facts["device"].as_str(), facts["threads"].as_str()), ("cpu", "2"));
    assert!(facts["libtorch"].starts_with("2."));
    let (status, said) = worker.end();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[test]
fn a_refusal_is_an_answer_and_not_the_end() {
    let mut worker = Worker::spawn();
    worker.send(&Request::Hello { protocol: PROTOCOL + 1, device: "cpu".to_owned(), threads: 1 });
    let refused = worker.until_ready(|reply| panic!("{reply:?}")).unwrap_err();
    assert!(refused.message.contains("protocol"), "{refused}");
    let no_device = worker.hello("cuda:4096").unwrap_err();
    assert_eq!(no_device.class, FailureClass::Input);
    worker.hello("cpu").unwrap();
    let early = worker.rows(&[text_row("a", "b")]).unwrap_err();
    assert_eq!(early.message, "rows came before a stage was loaded");
    let unknown = worker.load(&load_rows("resize", json!({}), inputs([]), &[])).unwrap_err();
    assert_eq!(unknown.message, "this pipe-torch has no stage `resize`");
    let wrong = load_rows("caption", json!({}), inputs([("model", model("scenes-qwen2"))]), &[]);
    assert!(worker.load(&wrong).is_err());
    assert!(worker.rows(&[text_row("a", "b")]).is_err(), "what could not be loaded is not there");
}

#[test]
fn noise_on_the_wire_ends_it() {
    for noise in [&[0xff; 8][..], b"\x02\0\0\0{]", b"\x04\0\0\0null"] {
        let mut worker = Worker::ready();
        worker.send_bytes(noise);
        let (status, said) = worker.ended();
        assert_eq!(status.code(), Some(1));
        assert!(said.starts_with("pipe-torch: "), "{said}");
    }
}

#[test]
fn it_does_not_outlive_its_input_in_the_middle_of_a_step() {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = Worker::ready();
    let endless = json!({ "max_steps": 20_000, "save_steps": 20_000 });
    worker.send(&Request::Step(Box::new(lora_train::task(dir.path(), endless))));
    let first = worker.receive();
    assert!(matches!(first, Some(Reply::Progress { .. })), "{first:?}");
    let (status, _) = worker.end();
    assert!(!status.success());
}
