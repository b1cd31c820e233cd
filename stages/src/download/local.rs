//! Files of this machine: listing, hashing and reading them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use globset::GlobSet;
use pipe_engine::cell::Cell;
use pipe_engine::dataset::changed_meanwhile;
use pipe_engine::problem::{Failure, Problem, nearest};
use pipe_engine::source::GivenFile;
use pipe_engine::stage::SourceFile;
use pipe_engine::{FileDigest, StatIndex};
use walkdir::WalkDir;

/// A file at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFile {
    /// Path relative to the source, with `/`.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// What planning saw, of a file of the user's; fetched files were checked as they came.
    pub seen: Option<SourceFile>,
}

impl LocalFile {
    /// A file that has not been looked into yet.
    pub fn new(name: impl Into<String>, path: PathBuf) -> Self {
        Self { name: name.into(), path, seen: None }
    }

    /// A file that planning has seen.
    pub fn of(file: &SourceFile) -> Self {
        Self { name: file.name.clone(), path: file.path.clone(), seen: Some(file.clone()) }
    }

    /// The file as the cell of an image column, broken or not.
    pub fn image(&self) -> Result<Cell, Failure> {
        match &self.seen {
            Some(file) => Ok(Cell::ImageFile(file.clone())),
            None => fs::read(&self.path).map(Cell::NewImage).map_err(|error| Failure::io("read", &self.path, &error)),
        }
    }

    /// The file as a part of an artifact of files.
    pub fn given(&self) -> GivenFile {
        let seen = self.seen.as_ref().map(|seen| seen.digest);
        GivenFile { name: self.name.clone(), path: self.path.clone(), seen }
    }

    /// Checks that it still holds what planning saw.
    pub fn verify(&self) -> Result<(), Failure> {
        let Some(seen) = &self.seen else { return Ok(()) };
        let found = StatIndex::in_memory().digest(&self.path);
        let found = found.map_err(|error| Failure::io("read", &self.path, &error))?;
        if found.digest == seen.digest { Ok(()) } else { Err(changed_meanwhile(&self.path)) }
    }
}

/// The files of a source that match the patterns, sorted by name. Hidden ones (`.git`, `.DS_Store`) are left out.
pub fn list(path: &Path, patterns: Option<&GlobSet>) -> Result<Vec<LocalFile>, Problem> {
    let meta = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !meta.is_dir() {
        File::open(path).map_err(|error| unreadable(path, &error))?;
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| not_text(path))?;
        return Ok(vec![LocalFile::new(name, path.to_owned())]);
    }
    let mut files = Vec::new();
    let visible =
        |entry: &walkdir::DirEntry| entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".");
    for entry in WalkDir::new(path).follow_links(true).into_iter().filter_entry(visible) {
        let entry = entry.map_err(|error| Problem::param("source", format!("cannot list it: {error}")))?;
        if entry.file_type().is_file() {
            let inside = entry.path().strip_prefix(path).unwrap_or(entry.path());
            let name = inside.to_str().ok_or_else(|| not_text(entry.path()))?.to_owned();
            if patterns.is_none_or(|patterns| patterns.is_match(&name)) {
                files.push(LocalFile::new(name, entry.into_path()));
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

fn not_text(path: &Path) -> Problem {
    Problem::param("source", format!("the name of {} is not UTF-8", path.display()))
}

/// Says what cannot be read, and what lies near where it was sought.
fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    let problem = Problem::param("source", format!("cannot read {}: {error}", path.display()));
    if error.kind() != std::io::ErrorKind::NotFound {
        return problem;
    }
    let Some(existing) = path.ancestors().skip(1).find(|folder| folder.is_dir()) else { return problem };
    let sought = path.strip_prefix(existing).ok().and_then(|rest| rest.iter().next()).and_then(|name| name.to_str());
    let entries = fs::read_dir(existing).into_iter().flatten().filter_map(Result::ok);
    let names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    match sought.and_then(|sought| nearest(sought, names.iter().map(String::as_str))) {
        Some(near) => problem.help(format!("did you mean {}?", existing.join(near).display())),
        None => problem.help(format!("{} exists, and has no `{}`", existing.display(), sought.unwrap_or_default())),
    }
}

/// Hashes the files on all cores, reading only those that may have changed since the last look.
pub fn digests(files: &[LocalFile], index: &StatIndex) -> Result<Vec<SourceFile>, Problem> {
    let paths: Vec<&Path> = files.iter().map(|file| file.path.as_path()).collect();
    let hashed = |(file, found): (&LocalFile, std::io::Result<FileDigest>)| {
        let found = found.map_err(|error| unreadable(&file.path, &error))?;
        Ok(SourceFile { name: file.name.clone(), path: file.path.clone(), digest: found.digest, len: found.len })
    };
    let mut hashed: Vec<SourceFile> = files.iter().zip(index.digests(&paths)).map(hashed).collect::<Result<_, _>>()?;
    hashed.sort_by(|a, b| a.name.cmp(&b.name));
    hashed.dedup_by(|a, b| a.name == b.name);
    Ok(hashed)
}
