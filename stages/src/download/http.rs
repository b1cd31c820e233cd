//! Fetching files over HTTP: resumed after a broken connection, bounded in time and size, checked by digest.
//!
//! Errors name the place without its query, and never a token. Knows nothing of what the files are for.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pipe_engine::problem::{Failure, FailureClass};
use pipe_engine::source::Secret;
use pipe_engine::step::Sink;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use ureq::config::RedirectAuthHeaders;
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

use super::source::Address;

/// How patient a client is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Time to connect.
    pub connect: Duration,
    /// Time without a byte.
    pub silence: Duration,
    /// Time of a whole request; what has come by then is kept, and the rest asked for anew.
    pub request: Duration,
    /// Tries without progress.
    pub tries: u32,
    /// Wait after the first failed try; it doubles with each further one.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            silence: Duration::from_secs(60),
            request: Duration::from_secs(30 * 60),
            tries: 6,
            pause: Duration::from_millis(500),
        }
    }
}

/// Bytes between two failures that count as progress.
const PROGRESS: u64 = 1 << 20;
/// The longest wait that a server may ask for.
const MAX_WAIT: Duration = Duration::from_secs(120);
/// The longest answer that is read into memory.
const MAX_TEXT: u64 = 64 << 20;

/// What a file must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// SHA-256 of the content.
    Sha256(String),
    /// What git names the content by: SHA-1 of `blob SIZE\0` and the content.
    GitBlob(String),
}

/// A file to fetch.
pub struct Wanted<'a> {
    /// Where from.
    pub address: &'a Address,
    /// Its size, where it is known.
    pub size: Option<u64>,
    /// What it must be, where that is known.
    pub checksum: Option<&'a Checksum>,
}

/// Bytes that all files together may have, will have as far as is known, and have.
pub struct Budget {
    limit: u64,
    expected: AtomicU64,
    used: AtomicU64,
}

impl Budget {
    /// So many bytes in all.
    pub const fn new(limit: u64) -> Self {
        Self { limit, expected: AtomicU64::new(0), used: AtomicU64::new(0) }
    }

    /// Says how many bytes will come in all, so that too many are refused before the first.
    pub fn expect(&self, bytes: u64) -> Result<(), Failure> {
        self.expected.store(bytes, Ordering::Relaxed);
        self.allow(bytes)
    }

    /// Takes bytes out of it.
    pub fn take(&self, bytes: u64) -> Result<(), Failure> {
        self.allow(self.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes))
    }

    fn allow(&self, bytes: u64) -> Result<(), Failure> {
        if bytes <= self.limit {
            return Ok(());
        }
        Err(Failure::input(format!("there are more than {} bytes", self.limit))
            .help("raise `max_bytes` if that is meant"))
    }

    /// Takes the size of a file for that of all, where nothing else is known.
    fn hint(&self, bytes: u64) -> Result<(), Failure> {
        if self.expected.load(Ordering::Relaxed) == 0 { self.expect(bytes) } else { Ok(()) }
    }

    fn report(&self, sink: &dyn Sink) {
        let used = self.used.load(Ordering::Relaxed);
        sink.progress(used, self.expected.load(Ordering::Relaxed).max(used), "bytes");
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A client of web servers.
pub struct Client<'a> {
    agent: Agent,
    patience: Patience,
    token: Option<&'a Secret>,
    sink: &'a dyn Sink,
}

/// Why a try failed.
enum Trouble {
    /// Another try may do.
    Passing(String, Option<Duration>),
    /// Another try would fail alike.
    Lasting(Failure),
}

impl<'a> Client<'a> {
    /// A client that shows `token` to the host it is asked to talk to, and to no other that this one points at.
    pub fn new(patience: Patience, token: Option<&'a Secret>, sink: &'a dyn Sink) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_per_read(Some(patience.silence))
            .timeout_recv_response(Some(patience.silence))
            .timeout_global(Some(patience.request))
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .max_redirects(10)
            .user_agent(concat!("pipe/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .build()
            .new_agent();
        Self { agent, patience, token, sink }
    }

    /// Fetches a text, and says where the next part of it lies, if there is one.
    pub fn text(&self, address: &Address) -> Result<(String, Option<String>), Failure> {
        self.patiently(address, &mut || 0, &mut || {
            let mut response = self.get(address, 0)?;
            let next = next_link(response.headers());
            let text = response.body_mut().with_config().limit(MAX_TEXT).read_to_string();
            text.map(|text| (text, next)).map_err(|error| trouble(&error))
        })
    }

    /// Fetches a file to `target`, and checks it. Gives the digest that was checked, or else its SHA-256.
    pub fn fetch(&self, wanted: &Wanted<'_>, target: &Path, budget: &Budget) -> Result<String, Failure> {
        let file = File::create(target).map_err(|error| Failure::io("create", target, &error))?;
        let is_checked = wanted.checksum.is_some();
        let mut partial = Partial { file, len: 0, hasher: Hasher::new(wanted), target, budget, is_checked };
        let len = std::cell::Cell::new(0);
        let sink = self.sink;
        self.patiently(wanted.address, &mut || len.get(), &mut || {
            // The parts of two versions of a file would make a third, if no checksum told.
            let start = if is_checked { partial.len } else { 0 };
            let outcome =
                self.get(wanted.address, start).and_then(|response| partial.take(response, wanted.size, sink));
            len.set(partial.len);
            outcome
        })?;
        partial.check(wanted)
    }

    /// Tries again, after growing waits, until the trouble lasts or too many tries brought nothing.
    fn patiently<T>(
        &self,
        address: &Address,
        done: &mut dyn FnMut() -> u64,
        once: &mut dyn FnMut() -> Result<T, Trouble>,
    ) -> Result<T, Failure> {
        let (mut failed, mut before) = (0, 0);
        loop {
            let (why, asked) = match once() {
                Ok(value) => return Ok(value),
                Err(Trouble::Lasting(failure)) => return Err(about(address, failure)),
                Err(Trouble::Passing(why, wait)) => (why, wait),
            };
            if done() >= before + PROGRESS {
                (failed, before) = (0, done());
            }
            failed += 1;
            if failed >= self.patience.tries {
                let message = format!("cannot download {address}: {why} ({failed} tries)");
                return Err(Failure::transient(message).help(advice(address)));
            }
            self.sink.progress(0, 0, &format!("{why}; try {} of {}", failed + 1, self.patience.tries));
            let pause = self.patience.pause * 2u32.saturating_pow(failed - 1);
            self.wait(asked.map_or(pause, |asked| asked.max(pause)).min(MAX_WAIT))?;
        }
    }

    fn wait(&self, pause: Duration) -> Result<(), Failure> {
        let end = Instant::now() + pause;
        while Instant::now() < end {
            if self.sink.cancelled() {
                return Err(Failure::interrupted());
            }
            std::thread::sleep(Duration::from_millis(50).min(end.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    /// Asks for the bytes from `start` on; the answer is one that has bytes.
    fn get(&self, address: &Address, start: u64) -> Result<Response<Body>, Trouble> {
        if self.sink.cancelled() {
            return Err(Trouble::Lasting(Failure::interrupted()));
        }
        let mut request = self.agent.get(address.reveal());
        if address.is_loopback() {
            request = request.config().proxy(None).build();
        }
        if start > 0 {
            request = request.header("Range", format!("bytes={start}-"));
        }
        if let Some(token) = self.token.filter(|_| address.is_private()) {
            request = request.header("Authorization", format!("Bearer {}", token.reveal()));
        }
        let response = request.call().map_err(|error| trouble(&error))?;
        match response.status().as_u16() {
            200 | 206 => Ok(response),
            status @ (408 | 425 | 429 | 500..=599) => {
                let wait = header(response.headers(), "retry-after").and_then(|text| text.parse().ok());
                Err(Trouble::Passing(format!("the server answers {status}"), wait.map(Duration::from_secs)))
            }
            status => Err(Trouble::Lasting(refused(status, self.token.is_some()))),
        }
    }
}

fn about(address: &Address, mut failure: Failure) -> Failure {
    if failure.class != FailureClass::Interrupted {
        failure.message = format!("cannot download {address}: {}", failure.message);
    }
    failure
}

fn refused(status: u16, with_token: bool) -> Failure {
    let failure = Failure::input(format!("the server answers {status}"));
    match status {
        401 | 403 if with_token => {
            failure.help("the token does not give access: a gated repository asks for its terms to be accepted")
        }
        401 | 403 => failure.help("it needs a token: for the Hugging Face Hub, set HF_TOKEN"),
        404 => failure.help("nothing is there, or only for those with a token (HF_TOKEN)"),
        416 => failure.help("the file has become shorter while it was fetched"),
        _ => failure,
    }
}

const NO_ADDRESS: &str = "the name of the host has no address (DNS)";

/// What to look at where a host does not answer.
fn advice(address: &Address) -> String {
    format!(
        "check the name `{}`, that this machine is online, and its proxy if it needs one (HTTPS_PROXY); run again, or set `retries`",
        address.host()
    )
}

/// The words of an error that holds no address: those of `ureq` may name one with its query.
fn trouble(error: &ureq::Error) -> Trouble {
    use ureq::Error as E;
    let lasting = |message: &str| Trouble::Lasting(Failure::input(message));
    match error {
        E::Io(io) if io.kind() == ErrorKind::ConnectionRefused => {
            Trouble::Passing("nothing there takes connections (connection refused)".to_owned(), None)
        }
        // The system has no kind for it.
        E::Io(io) if io.to_string().contains("lookup address") => Trouble::Passing(NO_ADDRESS.to_owned(), None),
        E::Io(io) => Trouble::Passing(format!("the connection broke ({})", io.kind()), None),
        E::Timeout(phase) => Trouble::Passing(format!("the server is silent for too long ({phase})"), None),
        E::HostNotFound => Trouble::Passing(NO_ADDRESS.to_owned(), None),
        E::ConnectionFailed => Trouble::Passing("the host cannot be reached".to_owned(), None),
        E::BodyStalled | E::Protocol(_) => Trouble::Passing("the server answers nonsense".to_owned(), None),
        E::Rustls(error) => lasting(&format!("no secure connection: {error}")),
        E::Tls(error) => lasting(&format!("no secure connection: {error}")),
        E::TooManyRedirects | E::RedirectFailed => lasting("the server points to itself"),
        E::BodyExceedsLimit(limit) => lasting(&format!("the answer has more than {limit} bytes")),
        E::InvalidProxyUrl | E::ConnectProxyFailed(_) => lasting("the proxy cannot be used"),
        _ => lasting("the request cannot be made"),
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Whether the body says itself where it ends.
fn is_chunked(headers: &HeaderMap) -> bool {
    header(headers, "transfer-encoding").is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked"))
}

/// The address after `rel="next"` in a `Link` header (RFC 8288).
fn next_link(headers: &HeaderMap) -> Option<String> {
    let link = header(headers, "link")?.split(',').find(|link| link.contains("rel=\"next\""))?;
    Some(link.split_once('<')?.1.split_once('>')?.0.to_owned())
}

/// A file of which some bytes have come.
struct Partial<'a> {
    file: File,
    len: u64,
    hasher: Hasher,
    target: &'a Path,
    budget: &'a Budget,
    /// Whether a checksum will tell if something is missing.
    is_checked: bool,
}

impl Partial<'_> {
    /// Appends the bytes of an answer.
    fn take(&mut self, mut response: Response<Body>, size: Option<u64>, sink: &dyn Sink) -> Result<(), Trouble> {
        let total = self.place(&response, size)?;
        self.budget.hint(total.unwrap_or(0)).map_err(Trouble::Lasting)?;
        let mut reader = response.body_mut().with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            if sink.cancelled() {
                return Err(Trouble::Lasting(Failure::interrupted()));
            }
            let count = reader.read(&mut buffer).map_err(|error| trouble(&ureq::Error::from(error)))?;
            if count == 0 {
                break;
            }
            self.append(&buffer[..count]).map_err(Trouble::Lasting)?;
            self.budget.report(sink);
        }
        match total {
            Some(total) if self.len < total => {
                Err(Trouble::Passing(format!("the connection ended after {} of {total} bytes", self.len), None))
            }
            Some(total) if self.len > total => {
                Err(Trouble::Lasting(Failure::input(format!("{} bytes came, not {total}", self.len))))
            }
            _ => Ok(()),
        }
    }

    /// Where the answer begins: after what has come, or anew. Gives the size of the whole, where it is told.
    fn place(&mut self, response: &Response<Body>, size: Option<u64>) -> Result<Option<u64>, Trouble> {
        let range = header(response.headers(), "content-range").and_then(parse_range);
        let told = match (response.status().as_u16(), range) {
            (206, Some((start, total))) if start == self.len => total,
            (206, _) => return Err(Trouble::Passing("the server sends another part than asked for".to_owned(), None)),
            _ => {
                self.restart().map_err(Trouble::Lasting)?;
                header(response.headers(), "content-length").and_then(|text| text.parse().ok())
            }
        };
        match (size, told) {
            (Some(size), Some(told)) if size != told => {
                Err(Trouble::Lasting(Failure::input(format!("the server has {told} bytes, not {size}"))))
            }
            (None, None) if !self.is_checked && !is_chunked(response.headers()) => {
                let failure = Failure::input("the server does not say where the file ends");
                Err(Trouble::Lasting(failure.help("say with `sha256` what is meant")))
            }
            _ => Ok(size.or(told)),
        }
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.budget.give_back(self.len);
        self.len = 0;
        self.hasher.restart();
        self.file = File::create(self.target).map_err(|error| Failure::io("create", self.target, &error))?;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.budget.take(bytes.len() as u64)?;
        self.file.write_all(bytes).map_err(|error| Failure::io("write", self.target, &error))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn check(self, wanted: &Wanted<'_>) -> Result<String, Failure> {
        self.file.sync_all().map_err(|error| Failure::io("write", self.target, &error))?;
        let found = self.hasher.finish();
        let (name, expected) = match wanted.checksum {
            Some(Checksum::Sha256(digits)) => ("SHA-256", digits),
            Some(Checksum::GitBlob(digits)) => ("git SHA-1", digits),
            None => return Ok(found),
        };
        if found.eq_ignore_ascii_case(expected) {
            return Ok(found);
        }
        let message = format!("{} has {name} {found}, not {expected}", wanted.address);
        Err(Failure::input(message).help(
            "the file is another than the one that was chosen, or was damaged on the way; where the lock pins it, `pipe run --refresh` takes what is there now",
        ))
    }
}

/// The first byte and the size of the whole in `bytes 5-9/10`.
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

enum Hasher {
    Sha256(Sha256),
    GitBlob(Sha1, u64),
}

impl Hasher {
    fn new(wanted: &Wanted<'_>) -> Self {
        match wanted.checksum {
            None | Some(Checksum::Sha256(_)) => Self::Sha256(Sha256::new()),
            Some(Checksum::GitBlob(_)) => Self::git(wanted.size.unwrap_or(0)),
        }
    }

    fn git(size: u64) -> Self {
        Self::GitBlob(Sha1::new_with_prefix(format!("blob {size}\0")), size)
    }

    fn restart(&mut self) {
        *self = match self {
            Self::Sha256(_) => Self::Sha256(Sha256::new()),
            Self::GitBlob(_, size) => Self::git(*size),
        };
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::GitBlob(hasher, _) => hasher.update(bytes),
        }
    }

    fn finish(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::GitBlob(hasher, _) => hex(&hasher.finalize()),
        }
    }
}
