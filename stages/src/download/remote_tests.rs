//! Tests of what comes over a network or out of an archive, against a server on the loopback.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Cursor, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pipe_engine::source::Secret;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::http::{Budget, Checksum, Client, Patience, Wanted};
use super::source::Address;
use super::tests::Scene;
use crate::testing::Quiet;

/// A request as the server saw it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub path: String,
    pub headers: BTreeMap<String, String>,
}

/// What the server answers.
#[derive(Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Break the connection after so many bytes of the body.
    pub cut: Option<usize>,
    /// Do not say how long the body is.
    pub endless: bool,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    pub fn with(mut self, header: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((header, value.into()));
        self
    }
}

pub struct Server {
    pub origin: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// A server that answers each request, counted from 0, by `answer`; it ends with the test's process.
    pub fn new(answer: impl Fn(usize, &Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read_request(&stream) else { continue };
                let count = log.lock().unwrap().len();
                log.lock().unwrap().push(request.clone());
                send(&mut stream, &answer(count, &request));
            }
        });
        Self { origin, seen }
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        Some((name.to_ascii_lowercase(), value.to_owned()))
    });
    Some(Request { path, headers: headers.collect() })
}

fn send(stream: &mut TcpStream, reply: &Reply) {
    let length = if reply.endless { String::new() } else { format!("Content-Length: {}\r\n", reply.body.len()) };
    let mut head = format!("HTTP/1.1 {} X\r\n{length}Connection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let body = &reply.body[..reply.cut.unwrap_or(reply.body.len())];
    // The client may have left already.
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(b"\r\n"))
        .and_then(|()| stream.write_all(body));
}

/// The answer of a server that knows ranges.
pub fn ranged(request: &Request, content: &[u8]) -> Reply {
    let start =
        request.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match start {
        None => Reply::new(200, content),
        Some(start) => Reply::new(206, &content[start..])
            .with("Content-Range", format!("bytes {start}-{}/{}", content.len() - 1, content.len())),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn git_blob(bytes: &[u8]) -> String {
    hex(&Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

/// Patience for tests.
fn quick() -> Patience {
    let second = Duration::from_secs(1);
    Patience { connect: second, silence: second / 2, request: 5 * second, tries: 3, pause: Duration::from_millis(5) }
}

/// Fetches from a server, patient only as long as a test may last.
fn fetch(address: &str, content_sha256: &str, limit: u64) -> Result<Vec<u8>, String> {
    let dir = tempfile::tempdir().unwrap();
    let address = Address::parse(address).unwrap();
    let wanted = Wanted { address: &address, size: None, checksum: Some(&Checksum::Sha256(content_sha256.to_owned())) };
    let token = Secret::new("SECRET");
    let client = Client::new(quick(), Some(&token), &Quiet);
    let target = dir.path().join("file");
    client.fetch(&wanted, &target, &Budget::new(limit)).map_err(|failure| failure.message)?;
    Ok(std::fs::read(target).unwrap())
}

fn content() -> Vec<u8> {
    (0..3_000_000u32).flat_map(u32::to_le_bytes).take(3_000_000).collect()
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let server = Server::new(|count, request| match count {
        0 => Reply { cut: Some(2_000_000), ..ranged(request, &content()) },
        1 => Reply::new(503, "busy").with("Retry-After", "0"),
        _ => ranged(request, &content()),
    });
    let whole = fetch(&format!("{}/file", server.origin), &sha256(&content()), 4 << 20).unwrap();
    assert!(whole == content());
    let ranges: Vec<_> = server.seen().iter().map(|request| request.headers.get("range").cloned()).collect();
    assert_eq!(ranges[0], None);
    let resumed: usize = ranges[2].as_ref().unwrap()[6..].trim_end_matches('-').parse().unwrap();
    assert!((1..=2_000_000).contains(&resumed));
}

#[test]
fn a_server_without_ranges_starts_anew() {
    let server = Server::new(|count, _| Reply { cut: (count == 0).then_some(5), ..Reply::new(200, "hello world") });
    assert_eq!(fetch(&format!("{}/file", server.origin), &sha256(b"hello world"), 11).unwrap(), b"hello world");
}

#[test]
fn what_does_not_fit_is_refused() {
    let server = Server::new(|_, request| match request.path.split('?').next().unwrap() {
        "/none" => Reply::new(404, ""),
        "/closed" => Reply::new(401, ""),
        "/cut" => Reply { cut: Some(3), ..Reply::new(200, "hello") },
        "/other-part" => Reply::new(206, "hello").with("Content-Range", "bytes 3-7/8"),
        "/loop" => Reply::new(302, "").with("Location", "/loop"),
        _ => Reply::new(200, "hello"),
    });
    let message = |path: &str, limit| {
        let wrong = fetch(&format!("{}{path}?key=SECRET", server.origin), &sha256(b"other"), limit).unwrap_err();
        assert!(!wrong.contains("SECRET"), "{wrong}");
        wrong.replace(&server.origin, "")
    };
    assert_eq!(message("/none", 9), "cannot download /none: the server answers 404");
    assert_eq!(message("/closed", 9), "cannot download /closed: the server answers 401");
    assert_eq!(message("/file", 4), "cannot download /file: there are more than 4 bytes");
    assert_eq!(message("/cut", 9), "cannot download /cut: the connection broke (unexpected end of file) (3 tries)");
    assert_eq!(
        message("/other-part", 9),
        "cannot download /other-part: the server sends another part than asked for (3 tries)"
    );
    assert_eq!(message("/loop", 9), "cannot download /loop: the server points to itself");
    assert_eq!(message("/file", 9), format!("/file has SHA-256 {}, not {}", sha256(b"hello"), sha256(b"other")));
}

#[test]
fn a_silent_server_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}/x", listener.local_addr().unwrap());
    let wrong = fetch(&origin, &sha256(b""), 9).unwrap_err();
    assert!(wrong.contains("silent for too long") && wrong.ends_with("(3 tries)"), "{wrong}");
    drop(listener);
    let wrong = fetch(&origin, &sha256(b""), 9).unwrap_err();
    assert!(wrong.contains("nothing there takes connections (connection refused)"), "{wrong}");
}

#[test]
fn the_token_stays_with_its_host() {
    let other = Server::new(|_, _| Reply::new(200, "hello"));
    let elsewhere = format!("{}/file?signature=x", other.origin.replace("127.0.0.1", "localhost"));
    let server = Server::new(move |_, _| Reply::new(302, "").with("Location", elsewhere.clone()));
    fetch(&format!("{}/file", server.origin), &sha256(b"hello"), 9).unwrap();
    assert_eq!(server.seen()[0].headers["authorization"], "Bearer SECRET");
    assert_eq!(other.seen()[0].path, "/file?signature=x");
    assert!(!other.seen()[0].headers.contains_key("authorization"));
}

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A Hub with one repository, `org/tiny`.
pub fn hub(files: &'static [(&'static str, &'static [u8])], corrupt: &'static str) -> Server {
    Server::new(move |_, request| {
        if request.path == "/api/models/org/tiny/revision/refs%2Fpr%2F7" {
            return Reply::new(200, json!({ "id": "org/tiny", "sha": COMMIT }).to_string());
        }
        let api = format!("/api/models/org/tiny/tree/{COMMIT}?recursive=true");
        if request.path == api || request.path == format!("{api}&cursor=2") {
            let first = request.path == api;
            let half: Vec<Value> =
                files.iter().enumerate().filter(|(at, _)| (at % 2 == 0) == first).map(entry).collect();
            let next = format!("<http://{}{api}&cursor=2>; rel=\"next\"", request.headers["host"]);
            let reply = Reply::new(200, json!(half).to_string());
            return if first { reply.with("Link", next) } else { reply };
        }
        let name =
            request.path.strip_prefix(&format!("/org/tiny/resolve/{COMMIT}/")).unwrap_or_default().replace("%20", " ");
        match files.iter().find(|(file, _)| *file == name) {
            Some((file, _)) if *file == corrupt => Reply::new(200, "weirdos"),
            Some((_, content)) => ranged(request, content),
            None => Reply::new(404, ""),
        }
    })
}

fn entry((_, (name, content)): (usize, &(&str, &[u8]))) -> Value {
    if name.ends_with(".safetensors") {
        let lfs = json!({ "oid": sha256(content), "size": content.len(), "pointerSize": 130 });
        return json!({ "type": "file", "path": name, "size": content.len(), "oid": "pointer", "lfs": lfs });
    }
    json!({ "type": "file", "path": name, "size": content.len(), "oid": git_blob(content) })
}

pub const TINY: &[(&str, &[u8])] = &[
    ("config.json", br#"{"model_type": "opt"}"#),
    ("model.safetensors", b"weights"),
    ("pytorch_model.bin", b"pickle"),
    ("sub dir/tokenizer.json", b"{}"),
    (".gitattributes", b""),
];

pub fn hub_scene(server: &Server) -> Scene {
    let mut scene = Scene::new(&[]);
    scene.credentials.0.insert("HF_ENDPOINT".into(), Secret::new(format!("{}/", server.origin)));
    scene.credentials.0.insert("HF_TOKEN".into(), Secret::new("SECRET"));
    scene
}

#[test]
fn a_model_of_the_hub_is_fetched_at_its_commit() {
    let server = hub(TINY, "");
    let scene = hub_scene(&server);
    let params = json!({ "source": format!("hf://org/tiny@{COMMIT}") });
    assert_eq!(scene.resolve(&params).unwrap().pin, format!("hf://org/tiny@{COMMIT} model"));
    assert_eq!(server.seen().len(), 0, "planning asks no network");
    assert_eq!(scene.declare(&params).unwrap().outputs[0].kind, "model/1");
    assert_eq!(scene.run(&params).unwrap().files["sub dir/tokenizer.json"], b"{}");
    let mut paths: Vec<String> = server.seen().into_iter().map(|request| request.path).collect();
    paths.sort();
    let prefix = format!("/org/tiny/resolve/{COMMIT}/");
    let files: Vec<_> = paths.iter().filter_map(|path| path.strip_prefix(&prefix)).collect();
    assert_eq!(files, ["config.json", "model.safetensors", "sub%20dir/tokenizer.json"]);
    assert!(server.seen().iter().all(|request| request.headers["authorization"] == "Bearer SECRET"));
}

#[test]
fn damaged_files_of_the_hub_are_refused() {
    for (damaged, digest) in [("model.safetensors", "SHA-256"), ("config.json", "bytes, not")] {
        let server = hub(TINY, damaged);
        let failure = hub_scene(&server).run(&json!({ "source": format!("hf://org/tiny@{COMMIT}") })).err().unwrap();
        assert!(failure.message.contains(digest) && failure.message.contains(damaged), "{failure}");
        assert!(!failure.message.contains("SECRET"));
    }
}

#[test]
fn a_listing_cannot_lead_outside_or_elsewhere() {
    let hostile: [fn(&Request) -> Reply; 3] = [
        |_| Reply::new(200, r#"[{"type": "file", "path": "../evil.json", "size": 1, "oid": "0"}]"#),
        |_| Reply::new(200, "[]").with("Link", "<https://evil.example/next>; rel=\"next\""),
        |request| {
            Reply::new(200, "[]")
                .with("Link", format!("<http://{}@evil.example/>; rel=\"next\"", request.headers["host"]))
        },
    ];
    for reply in hostile {
        let server = Server::new(move |_, request| reply(request));
        let failure = hub_scene(&server).run(&json!({ "source": format!("hf://org/tiny@{COMMIT}") })).err().unwrap();
        assert!(failure.message.contains("cannot be written") || failure.message.contains("another host"), "{failure}");
    }
}

#[test]
fn a_token_is_not_sent_where_others_can_listen() {
    let mut scene = Scene::new(&[]);
    scene.credentials.0.insert("HF_ENDPOINT".into(), Secret::new("http://mirror.example"));
    scene.credentials.0.insert("HF_TOKEN".into(), Secret::new("SECRET"));
    let failure = scene.run(&json!({ "source": format!("hf://org/tiny@{COMMIT}") })).err().unwrap();
    assert!(failure.message.starts_with("HF_ENDPOINT is not encrypted"), "{failure}");
}

fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn tar_entry(builder: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    // Written directly, since the crate refuses to make what a hostile archive holds.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    if kind.is_symlink() {
        header.set_link_name("/etc/passwd").unwrap();
    }
    header.set_cksum();
    builder.append(&header, content).unwrap();
}

fn tarred(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    entries.iter().for_each(|(name, kind, content)| tar_entry(&mut builder, name, *kind, content));
    builder.into_inner().unwrap()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const FILE: tar::EntryType = tar::EntryType::Regular;

#[test]
fn a_dataset_comes_from_a_pinned_archive() {
    let archive = zipped(&[
        ("photos/metadata.jsonl", b"{\"file_name\": \"a.png\", \"caption\": \"one\"}\n"),
        ("photos/a.png", b"png"),
        ("photos/readme.txt", b""),
    ]);
    let digest = sha256(&archive);
    let server = Server::new(move |_, request| ranged(request, &archive));
    let scene = Scene::new(&[]);
    let params = json!({
        "source": format!("{}/photos.zip?key=SECRET", server.origin), "sha256": digest,
        "format": "images", "columns": { "caption": "text" },
    });
    let resolution = scene.resolve(&params).unwrap();
    assert_eq!(resolution.pin, format!("sha256:{digest} photos.zip images"));
    let given = scene.run(&params).unwrap();
    assert_eq!(given.ids(), ["photos/a.png"]);
    assert_eq!(given.rows[0].cells[0], pipe_engine::cell::Cell::Text("one".into()));
}

#[test]
fn archives_of_this_machine_are_unpacked() {
    let files: &[(&str, tar::EntryType, &[u8])] =
        &[("tiny/config.json", FILE, br#"{"model_type": "opt"}"#), ("tiny/model.safetensors", FILE, b"weights")];
    let scene =
        Scene::new(&[("tiny.tar.gz", &gzipped(&tarred(files))), ("rows.zip", &zipped(&[("x.csv", b"id,n\na,1\n")]))]);
    let given = scene.run(&json!({ "source": "tiny.tar.gz", "format": "model" })).unwrap();
    assert_eq!(given.files["model.safetensors"], b"weights");
    let params = json!({ "source": "rows.zip", "format": "csv", "id": "id", "columns": { "n": "int" } });
    assert_eq!(scene.run(&params).unwrap().ids(), ["a"]);
}

#[test]
fn hostile_archives_are_refused() {
    let refused = |name: &str, archive: Vec<u8>, max_bytes: u64| {
        let scene = Scene::new(&[(name, &archive)]);
        let failure = scene.run(&json!({ "source": name, "format": "files", "max_bytes": max_bytes })).err().unwrap();
        assert_eq!(scene.left(), 0, "nothing is left: {name}");
        failure.message
    };
    let link = tar::EntryType::Symlink;
    assert!(refused("a.zip", zipped(&[("../x", b"")]), 9).contains("\"../x\", which leads out"));
    assert!(refused("a.zip", zipped(&[("/x", b"")]), 9).contains("leads out"));
    assert!(refused("a.tar", tarred(&[("../x", FILE, b"")]), 9).contains("leads out"));
    assert!(refused("a.tar", tarred(&[("l", link, b"")]), 9).contains("`l` in it is a link"));
    assert!(refused("a.tar", tarred(&[("d", link, b""), ("d/x", FILE, b"")]), 9).contains("is a link"));
    assert!(refused("a.tar", tarred(&[("x", FILE, b"1"), ("x", FILE, b"2")]), 9).contains("holds x twice"));
    assert!(refused("a.tgz", gzipped(&tarred(&[("x", FILE, &[0; 10_000])])), 5_000).contains("more than 5000 bytes"));
    assert!(refused("a.zip", b"PK nonsense".to_vec(), 9).contains("it is damaged"));
    let whole = gzipped(&tarred(&[("x", FILE, b"some content")]));
    assert!(refused("a.tgz", whole[..whole.len() / 2].to_vec(), 99).contains("it is damaged"));
}

#[test]
fn what_cannot_be_pinned_is_a_mistake() {
    let scene = Scene::new(&[("a.zip", b"")]);
    let problem = |params: Value| scene.problem(&params);
    let wrong = problem(json!({ "source": "http://h.example/x.zip?key=SECRET", "format": "images" }));
    assert!(
        wrong.starts_with("source: http://h.example/x.zip is not encrypted") && !wrong.contains("SECRET"),
        "{wrong}"
    );
    let digest = "0".repeat(64);
    let web = "https://h.example/x.jsonl";
    assert!(problem(json!({ "source": web, "sha256": digest })).starts_with("columns: its columns cannot be told"));
    assert!(problem(json!({ "source": "a.zip" })).starts_with("format: what it holds cannot be told"));
    assert!(
        problem(json!({ "source": "a.zip", "format": "files", "sha256": digest }))
            .starts_with("sha256: only a file at an https://")
    );
    let data = format!("hf://datasets/org/tiny@{COMMIT}");
    assert!(problem(json!({ "source": data })).starts_with("format: "));
    assert!(
        problem(json!({ "source": data, "format": "files", "columns": { "a": "int" } }))
            .starts_with("columns: these are files")
    );
}
