//! What the text of `source` means.

use std::fmt;
use std::path::{Path, PathBuf};

use pipe_engine::Digest;
use pipe_engine::problem::Problem;

/// Where data lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file or folder of this machine.
    Local(PathBuf),
    /// A file of a web server.
    Web(Address),
    /// A repository of the Hugging Face Hub.
    Hub(Repo),
}

/// An address of the web: `http` or `https`, without user and password. Shown without its query, which may hold a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(String);

/// The branch that is meant where none is named.
const MAIN: &str = "main";

/// Whether a revision is a commit: 40 hexadecimal digits.
pub fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A repository at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repo {
    /// A dataset, not a model.
    pub dataset: bool,
    /// `owner/name`, or a `name` alone.
    pub name: String,
    /// A commit (40 hexadecimal digits), or a branch or tag, which moves.
    pub revision: String,
}

impl Source {
    /// Reads the text of `source`; relative paths start from `base`.
    pub fn parse(text: &str, base: &Path) -> Result<Self, Problem> {
        match text.split_once("://") {
            None => Ok(Self::Local(base.join(text))),
            Some(("file", path)) if path.starts_with('/') => Ok(Self::Local(PathBuf::from(path))),
            Some(("file", _)) => Err(wrong("a file:// address names no host").help("write file:///path")),
            Some(("http" | "https", _)) => Address::parse(text).map(Self::Web).map_err(wrong),
            Some(("hf", rest)) => Repo::parse(rest).map(Self::Hub),
            Some((scheme, _)) => Err(wrong(format!("`{scheme}://` is not a place to download from"))
                .help("a path, file:///…, https://… or hf://owner/name")),
        }
    }
}

fn wrong(message: impl Into<String>) -> Problem {
    Problem::param("source", message)
}

impl Address {
    /// Checks an address; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let uri: ureq::http::Uri = text.parse().map_err(|error| format!("not an address: {error}"))?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            _ => return Err("not an address of the web".to_owned()),
        }
        let authority = uri.authority().map(ureq::http::uri::Authority::as_str).unwrap_or_default();
        if uri.host().is_none_or(str::is_empty) {
            return Err("the address names no host".to_owned());
        }
        if authority.contains('@') {
            return Err("an address holds no user or password: it would be written down in many places".to_owned());
        }
        Ok(Self(text.split('#').next().unwrap_or(text).to_owned()))
    }

    /// The address with its query, for the one call that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What it is called where it is written down: without its query, of which a digest stands there, because it may hold a key.
    pub fn name(&self) -> String {
        match self.0.split_once('?') {
            None => self.0.clone(),
            Some((address, _)) => format!("{address}?{}", Digest::of(self.0.as_bytes()).short()),
        }
    }

    /// Whether what travels is encrypted, or never leaves this machine.
    pub fn is_private(&self) -> bool {
        self.0.starts_with("https://") || self.is_loopback()
    }

    /// The host, with its port where one is given.
    pub fn host(&self) -> String {
        let uri: Option<ureq::http::Uri> = self.0.parse().ok();
        uri.as_ref().and_then(ureq::http::Uri::authority).map(ToString::to_string).unwrap_or_default()
    }

    /// Whether the host is this machine.
    pub fn is_loopback(&self) -> bool {
        let uri: Option<ureq::http::Uri> = self.0.parse().ok();
        let host = uri.as_ref().and_then(ureq::http::Uri::host).unwrap_or_default();
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }

    /// The last part of the path, decoded; `download` where that cannot name a file.
    pub fn file_name(&self) -> String {
        let path = self.0.split('?').next().unwrap_or_default();
        let rest = path.split_once("://").map_or(path, |(_, rest)| rest);
        let name = rest.split('/').skip(1).last().map(decode).unwrap_or_default();
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
        if plain { name } else { "download".to_owned() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.split('?').next().unwrap_or_default())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Undoes percent-encoding; bytes that are no text become the replacement character.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Repo {
    fn parse(text: &str) -> Result<Self, Problem> {
        let (dataset, path) = match text.strip_prefix("datasets/") {
            Some(path) => (true, path),
            None => (false, text),
        };
        let (name, revision) = path.split_once('@').unwrap_or((path, MAIN));
        let parts: Vec<&str> = name.split('/').collect();
        let is_part = |part: &&str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        if parts.len() > 2 || !parts.iter().all(is_part) {
            return Err(wrong(format!("`{name}` is not a repository")).help(
                "write hf://owner/name, or hf://datasets/owner/name; `@` and a commit, branch or tag may follow",
            ));
        }
        let is_revision = revision.split('/').all(|part| is_part(&part) && !part.contains(".."));
        if !is_revision {
            return Err(wrong(format!("`{revision}` is not a revision"))
                .help("a commit, branch or tag: letters, digits, `-`, `_`, `.`, and `/` between"));
        }
        Ok(Self { dataset, name: name.to_owned(), revision: revision.to_owned() })
    }

    /// Whether the revision is a commit, which never changes.
    pub fn is_fixed(&self) -> bool {
        is_commit(&self.revision)
    }

    /// The same repository at a commit.
    pub fn at(&self, commit: &str) -> Self {
        Self { revision: commit.to_owned(), ..self.clone() }
    }

    /// The name with its kind: `datasets/owner/name`.
    pub fn path(&self) -> String {
        if self.dataset { format!("datasets/{}", self.name) } else { self.name.clone() }
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf://{}@{}", self.path(), self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn parse(text: &str) -> Result<Source, String> {
        Source::parse(text, Path::new("/base")).map_err(|problem| problem.message)
    }

    #[test]
    fn places_are_told_apart() {
        assert_eq!(parse("data/x"), Ok(Source::Local("/base/data/x".into())));
        assert_eq!(parse("/data"), Ok(Source::Local("/data".into())));
        assert_eq!(parse("file:///data"), Ok(Source::Local("/data".into())));
        let Ok(Source::Hub(repo)) = parse(&format!("hf://datasets/a/b.c@{COMMIT}")) else { panic!() };
        assert_eq!((repo.dataset, repo.path().as_str()), (true, "datasets/a/b.c"));
        let Ok(Source::Hub(repo)) = parse(&format!("hf://gpt2@{COMMIT}")) else { panic!() };
        assert_eq!(repo.to_string(), format!("hf://gpt2@{COMMIT}"));
        assert!(repo.is_fixed());
        for (text, shown) in [("hf://a/b", "hf://a/b@main"), ("hf://a/b@refs/pr/7", "hf://a/b@refs/pr/7")] {
            let Ok(Source::Hub(repo)) = parse(text) else { panic!("{text}") };
            assert_eq!((repo.to_string().as_str(), repo.is_fixed()), (shown, false));
        }
        for bad in ["", "a b", "/x", "a..b", "../x", "-x?y", "a//b"] {
            assert!(parse(&format!("hf://a/b@{bad}")).unwrap_err().ends_with("is not a revision"), "{bad}");
        }
        for bad in ["hf://a/../b", "hf://a/b/c", "hf://", "hf://a b"] {
            assert!(parse(&format!("{bad}@{COMMIT}")).unwrap_err().ends_with("is not a repository"), "{bad}");
        }
        assert!(parse("ftp://x").is_err() && parse("file://host/x").is_err() && parse("https:///x").is_err());
    }

    #[test]
    fn addresses_keep_their_secrets() {
        let address = Address::parse("https://h.example/a/b%20c.zip?key=SECRET#part").unwrap();
        assert_eq!(format!("{address} {address:?}"), "https://h.example/a/b%20c.zip https://h.example/a/b%20c.zip");
        assert_eq!(address.file_name(), "b c.zip");
        assert_eq!(address.reveal(), "https://h.example/a/b%20c.zip?key=SECRET");
        let name = |text: &str| Address::parse(text).unwrap().name();
        let (one, other) = (name("https://h.example/a?v=1"), name("https://h.example/a?v=2"));
        assert!(one != other && one.starts_with("https://h.example/a?") && !one.contains("v="), "{one}");
        assert!(!Address::parse("https://user:SECRET@h.example/").unwrap_err().contains("SECRET"));
        for name in ["https://h", "https://h/", "https://h/..", "https://h/a%2fb", "https://h/.x"] {
            assert_eq!(Address::parse(name).unwrap().file_name(), "download", "{name}");
        }
    }

    #[test]
    fn only_loopback_is_private_without_encryption() {
        let private = |text: &str| Address::parse(text).unwrap().is_private();
        assert!(private("https://h/x") && private("http://localhost:80/x") && private("http://127.1.2.3/"));
        assert!(private("http://[::1]:8080/x") && !private("http://h/x") && !private("http://127.0.0.1.evil.example/"));
    }
}
