//! Sources that move are pinned by the lock: asked once, asked again with `--refresh`, refused under `--locked` without a pin.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pipe_tests::Project;

/// A web server with one file.
struct Server {
    address: String,
    content: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    fn new(content: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/rows.csv", listener.local_addr().unwrap());
        let server =
            Self { address, content: Arc::new(Mutex::new(content.to_owned())), asked: Arc::new(AtomicUsize::new(0)) };
        let (content, asked) = (Arc::clone(&server.content), Arc::clone(&server.asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                asked.fetch_add(1, Ordering::Relaxed);
                BufReader::new(&stream)
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                    .for_each(drop);
                let body = content.lock().unwrap().clone();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                // The client may have left already.
                let _ = (&stream).write_all((head + &body).as_bytes());
            }
        });
        server
    }

    fn set(&self, content: &str) {
        content.clone_into(&mut self.content.lock().unwrap());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn project(server: &Server) -> Project {
    let project = Project::empty();
    let spec = format!(
        r#"name = "p"

[profiles.smoke]

[steps.rows]
stage = "download"
source = "{}"
id = "id"
columns = {{ n = "int" }}

[steps.large]
stage = "filter"
inputs = {{ rows = "rows" }}
keep = "n > 1"
"#,
        server.address
    );
    project.write("p.toml", spec);
    project
}

fn lock(project: &Project) -> String {
    std::fs::read_to_string(project.path("p.lock")).unwrap()
}

/// What differs between two locks but keys and outputs.
fn pin(project: &Project) -> String {
    lock(project).lines().find(|line| line.starts_with("pin = ")).unwrap().to_owned()
}

#[test]
fn a_source_is_asked_once_and_then_kept_to() {
    let server = Server::new("id,n\na,1\nb,2\n");
    let project = project(&server);
    let plan = project.pipe(&["plan", "p.toml"]);
    assert!(plan.stdout.contains("has no pin yet"), "{}{}", plan.stdout, plan.stderr);
    assert_eq!((project.pipe(&["check", "p.toml"]).code, server.asked()), (0, 0), "only a run asks");
    let first = project.run(&["p.toml"]);
    assert_eq!((first.executed(), server.asked()), (vec!["large".to_owned(), "rows".to_owned()], 1));
    assert!(first.events.iter().any(|event| event["event"] == "source_pinned" && event["step"] == "rows"));
    let pinned = lock(&project);
    assert!(pinned.contains(&format!("source = \"{}\"\npin = \"sha256:", server.address)), "{pinned}");
    server.set("id,n\na,1\nb,2\nc,3\n");
    assert!(project.run(&["p.toml"]).executed().is_empty());
    assert!(project.run(&["p.toml", "--locked"]).executed().is_empty());
    assert!(project.run(&["p.toml", "--profile", "smoke"]).executed().is_empty(), "one place is one state");
    assert_eq!(server.asked(), 1);
    assert!(lock(&project).starts_with(pinned.trim_end()), "the block of the default profile stays");
}

#[test]
fn refreshing_takes_what_is_there_now_and_says_so() {
    let server = Server::new("id,n\na,1\n");
    let project = project(&server);
    let _ = project.run(&["p.toml"]);
    let before = pin(&project);
    let same = project.pipe(&["run", "p.toml", "--refresh"]);
    assert!(same.stderr.contains("is what it was: sha256:"), "{}", same.stderr);
    server.set("id,n\na,1\nb,2\n");
    let refreshed = project.pipe(&["run", "p.toml", "--refresh=rows"]);
    assert!(refreshed.stderr.contains("is now pinned to sha256:"), "{}", refreshed.stderr);
    assert_ne!(pin(&project), before);
    assert!(project.run(&["p.toml", "--locked"]).executed().is_empty());
    assert_eq!(project.pipe(&["run", "p.toml", "--refresh=rowz"]).code, 2);
    assert_eq!(project.pipe(&["run", "p.toml", "--refresh", "--locked"]).code, 2);
}

#[test]
fn a_lock_without_a_pin_holds_no_run() {
    let server = Server::new("id,n\na,1\n");
    let project = project(&server);
    let spec = std::fs::read_to_string(project.path("p.toml")).unwrap();
    project.write("rows.csv", "id,n\na,1\n");
    project.write("p.toml", spec.replace(&server.address, "rows.csv"));
    let _ = project.run(&["p.toml"]);
    project.write("p.toml", spec);
    let refused = project.pipe(&["run", "p.toml", "--locked"]);
    assert_eq!((refused.code, server.asked()), (1, 0), "{}", refused.stderr);
    let server = server.address.as_str();
    insta::assert_snapshot!("locked", refused.stderr.replace(server, "ADDRESS"));
}

#[test]
fn what_is_set_for_one_run_is_pinned_for_that_run_alone() {
    let server = Server::new("id,n\na,1\n");
    let project = project(&server);
    let spec = std::fs::read_to_string(project.path("p.toml")).unwrap();
    let spec = spec.replace(&format!("source = \"{}\"", server.address), "source = \"${source}\"");
    project.write("p.toml", spec + &format!("\n[params]\nsource = \"{}\"\n", server.address));
    let other = format!("source={}?version=2", server.address);
    for asked in 1..=2 {
        let _ = project.run(&["p.toml", "--set", &other]);
        assert_eq!((server.asked(), project.path("p.lock").exists()), (asked, false));
    }
    let _ = project.run(&["p.toml"]);
    let pinned = lock(&project);
    let _ = project.run(&["p.toml", "--set", &other]);
    assert_eq!((lock(&project), server.asked()), (pinned, 4), "the lock is of another address");
}

#[test]
fn a_pin_is_kept_though_the_run_fails() {
    let server = Server::new("id,n\na,1\n");
    let project = project(&server);
    let spec = std::fs::read_to_string(project.path("p.toml")).unwrap();
    project.write("p.toml", spec + "\n[steps.wrong]\nstage = \"command\"\nrun = [\"false\"]\ninputs = { rows = \"large\" }\noutputs = { made = \"files\" }\n");
    assert_eq!(project.pipe(&["run", "p.toml"]).code, 1);
    server.set("id,n\na,1\nb,2\n");
    assert_eq!((project.pipe(&["run", "p.toml"]).code, server.asked()), (1, 1));
}

#[test]
fn a_lock_that_cannot_be_read_is_not_passed_over() {
    let server = Server::new("id,n\na,1\n");
    let project = project(&server);
    project.write("p.lock", "<<<<<<< ours\n");
    let run = project.pipe(&["run", "p.toml"]);
    assert_eq!((run.code, server.asked()), (3, 0), "{}", run.stderr);
    assert!(run.stderr.contains("p.toml:7:10") && run.stderr.contains("p.lock:1:9: not a lock"), "{}", run.stderr);
}
