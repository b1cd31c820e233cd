//! Repositories of the Hugging Face Hub: what commit a branch is at, listing a commit and fetching its files, several at a time.
//!
//! The commit's own listing says what every file must be (SHA-256 of large files, git's SHA-1 of small ones).
//! Format: <https://huggingface.co/docs/hub/api>.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use globset::GlobSet;
use pipe_engine::problem::Failure;
use serde::Deserialize;

use super::http::{Budget, Checksum, Client, Wanted};
use super::local::LocalFile;
use super::source::{Address, Repo, is_commit};
use crate::record_rows::stays_inside;

/// Where the Hub is, unless the credentials say otherwise.
pub const ENDPOINT: &str = "https://huggingface.co";

/// Files fetched at a time.
const CONNECTIONS: usize = 8;
/// Pages of a listing (of a thousand files each).
const MAX_PAGES: usize = 5_000;

/// A line of a listing.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    entry_type: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<Lfs>,
}

/// What the Hub says of a revision.
#[derive(Debug, Deserialize)]
struct Revision {
    sha: String,
}

/// A file kept outside of git.
#[derive(Debug, Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

/// A file of a repository.
struct Remote {
    name: String,
    address: Address,
    size: u64,
    checksum: Checksum,
}

/// Fetches the files of a repository that match the patterns below `dir`.
pub fn fetch(
    client: &Client<'_>,
    (endpoint, repo): (&str, &Repo),
    patterns: Option<&GlobSet>,
    dir: &Path,
    budget: &Budget,
) -> Result<Vec<LocalFile>, Failure> {
    let files = list(client, endpoint, repo, patterns)?;
    budget.expect(files.iter().map(|file| file.size).fold(0, u64::saturating_add))?;
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS.min(files.len()) {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = fetch_one(client, file, dir, budget) {
                        // The others stop at their next file.
                        next.store(files.len(), Ordering::Relaxed);
                        failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(failure);
                    }
                }
            });
        }
    });
    match failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(failure) => Err(failure),
        None => Ok(files.into_iter().map(|file| LocalFile::new(&*file.name, dir.join(&file.name))).collect()),
    }
}

fn fetch_one(client: &Client<'_>, file: &Remote, dir: &Path, budget: &Budget) -> Result<(), Failure> {
    let target = dir.join(&file.name);
    let folder = target.parent().unwrap_or(dir);
    fs::create_dir_all(folder).map_err(|error| Failure::io("create", folder, &error))?;
    let wanted = Wanted { address: &file.address, size: Some(file.size), checksum: Some(&file.checksum) };
    client.fetch(&wanted, &target, budget).map(drop)
}

/// The files of a commit that match the patterns, sorted by name. Hidden ones are left out, as of a folder.
fn list(client: &Client<'_>, endpoint: &str, repo: &Repo, patterns: Option<&GlobSet>) -> Result<Vec<Remote>, Failure> {
    let kind = kind(repo);
    let mut page = format!("{endpoint}/api/{kind}/{}/tree/{}?recursive=true", repo.name, repo.revision);
    let (mut files, mut names) = (Vec::new(), BTreeSet::new());
    for _ in 0..MAX_PAGES {
        let (text, next) = client.text(&Address::parse(&page).map_err(Failure::internal)?)?;
        let entries: Vec<Entry> = serde_json::from_str(&text)
            .map_err(|error| Failure::input(format!("the listing of {repo} cannot be read: {error}")))?;
        for entry in entries.into_iter().filter(|entry| entry.entry_type == "file" && !is_hidden(&entry.path)) {
            if patterns.is_none_or(|patterns| patterns.is_match(&entry.path)) {
                if !stays_inside(&entry.path) || !names.insert(entry.path.clone()) {
                    return Err(Failure::input(format!(
                        "the listing of {repo} names {:?}, which cannot be written",
                        entry.path
                    )));
                }
                files.push(remote(entry, endpoint, repo)?);
            }
        }
        match next {
            None => {
                files.sort_by(|a, b| a.name.cmp(&b.name));
                return Ok(files);
            }
            // The token goes to the Hub alone.
            Some(next) if next.starts_with(&format!("{endpoint}/")) => page = next,
            Some(_) => return Err(Failure::input(format!("the listing of {repo} goes on at another host"))),
        }
    }
    Err(Failure::input(format!("the listing of {repo} has no end")))
}

/// The commit that a branch or tag is at.
pub fn commit(client: &Client<'_>, endpoint: &str, repo: &Repo) -> Result<String, Failure> {
    let address = format!("{endpoint}/api/{}/{}/revision/{}", kind(repo), repo.name, encode(&repo.revision));
    let (text, _) = client.text(&Address::parse(&address).map_err(Failure::internal)?)?;
    match serde_json::from_str(&text) {
        Ok(Revision { sha }) if is_commit(&sha) => Ok(sha),
        _ => Err(Failure::input(format!("what the Hub says of {repo} names no commit"))),
    }
}

const fn kind(repo: &Repo) -> &'static str {
    if repo.dataset { "datasets" } else { "models" }
}

fn is_hidden(path: &str) -> bool {
    path.split('/').any(|part| part.starts_with('.') && part != "..")
}

fn remote(entry: Entry, endpoint: &str, repo: &Repo) -> Result<Remote, Failure> {
    let path: Vec<String> = entry.path.split('/').map(encode).collect();
    let address = format!("{endpoint}/{}/resolve/{}/{}", repo.path(), repo.revision, path.join("/"));
    let (size, checksum) = match entry.lfs {
        Some(lfs) => (lfs.size, Checksum::Sha256(lfs.oid.trim_start_matches("sha256:").to_owned())),
        None => (entry.size, Checksum::GitBlob(entry.oid)),
    };
    Ok(Remote { name: entry.path, address: Address::parse(&address).map_err(Failure::internal)?, size, checksum })
}

/// Percent-encodes all but the characters that need no encoding anywhere (RFC 3986, 2.3).
fn encode(part: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    part.bytes().map(byte).collect()
}
