//! Files of this machine: listing, hashing and reading them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use globset::GlobSet;
use pipe_engine::cell::Cell;
use pipe_engine::dataset::changed_meanwhile;
use pipe_engine::problem::{Failure, Problem, nearest};
use pipe_engine::source::GivenFile;
use pipe_engine::stage::SourceFile;
use pipe_engine::{FileDigest, StatIndex, map_many};
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
    if !meta.is_dir() && !meta.is_file() {
        let message = format!("{} is neither a file nor a folder", path.display());
        return Err(Problem::param("source", message)
            .help("what comes through a pipe or a device is gone once it is read: save it to a file"));
    }
    if meta.is_file() {
        File::open(path).map_err(|error| unreadable(path, &error))?;
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| not_text(path))?;
        return Ok(vec![LocalFile::new(name, path.to_owned())]);
    }
    let mut files = Vec::new();
    for found in below(path)? {
        let inside = found.strip_prefix(path).unwrap_or(&found);
        let name = inside.to_str().ok_or_else(|| not_text(&found))?.to_owned();
        if patterns.is_none_or(|patterns| patterns.is_match(&name)) {
            files.push(LocalFile::new(name, found));
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// The files below a folder, without hidden ones. Many folders in it are walked side by side.
fn below(path: &Path) -> Result<Vec<PathBuf>, Problem> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in walk(path).max_depth(1).into_iter().filter_entry(visible) {
        match entry {
            Ok(entry) if entry.depth() == 1 && entry.file_type().is_dir() => folders.push(entry.into_path()),
            entry => files.extend(file(entry)?),
        }
    }
    let walked = |folder: &PathBuf| -> Result<Vec<PathBuf>, Problem> {
        walk(folder).into_iter().filter_entry(visible).filter_map(|entry| file(entry).transpose()).collect()
    };
    for deeper in map_many(&folders, walked) {
        files.extend(deeper?);
    }
    Ok(files)
}

fn walk(path: &Path) -> WalkDir {
    WalkDir::new(path).follow_links(true)
}

fn visible(entry: &walkdir::DirEntry) -> bool {
    entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".")
}

/// Where the file lies that an entry is, if it is one.
fn file(entry: walkdir::Result<walkdir::DirEntry>) -> Result<Option<PathBuf>, Problem> {
    match entry {
        Ok(entry) => Ok(entry.file_type().is_file().then(|| entry.into_path())),
        Err(error) => match broken_link(&error) {
            Some(link) => Ok(Some(link.to_owned())),
            None => Err(Problem::param("source", format!("cannot list it: {error}"))),
        },
    }
}

/// A link that leads nowhere: a file that cannot be read.
fn broken_link(error: &walkdir::Error) -> Option<&Path> {
    let gone = error.io_error().is_some_and(|io| io.kind() == std::io::ErrorKind::NotFound);
    error.path().filter(|path| gone && path.is_symlink())
}

fn not_text(path: &Path) -> Problem {
    Problem::param("source", format!("the name of {} is not UTF-8", path.display()))
}

/// Says what cannot be read, and what lies near where it was sought.
fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    let problem = Problem::param("source", format!("cannot read {}: {error}", path.display())).gone();
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

/// Names of files, each with why it cannot be read.
pub type Unreadable = Vec<(String, String)>;

/// Hashes the files on all cores, reading only those that may have changed since the last look.
pub fn digests(files: &[LocalFile], index: &StatIndex) -> Result<Vec<SourceFile>, Problem> {
    let found = look(files, index);
    let found = found.map(|(file, found)| found.map_err(|error| unreadable(&file.path, &error)));
    Ok(by_name(found.collect::<Result<_, _>>()?))
}

/// The same, leaving out files that cannot be read; those come with why.
pub fn readable(files: &[LocalFile], index: &StatIndex) -> Result<(Vec<SourceFile>, Unreadable), Problem> {
    let (mut found, mut unreadable) = (Vec::new(), Unreadable::new());
    for (file, one) in look(files, index) {
        match one {
            Ok(one) => found.push(one),
            Err(why) => unreadable.push((file.name.clone(), why.to_string())),
        }
    }
    unreadable.sort();
    unreadable.dedup();
    if let (true, Some((name, why))) = (found.is_empty(), unreadable.first()) {
        let message = format!("none of {} images can be read; {name}: {why}", files.len());
        return Err(Problem::param("source", message).gone().help("look who may read them: ls -l"));
    }
    Ok((by_name(found), unreadable))
}

type Look<'a> = (&'a LocalFile, std::io::Result<SourceFile>);

fn look<'a>(files: &'a [LocalFile], index: &StatIndex) -> impl Iterator<Item = Look<'a>> {
    let paths: Vec<&Path> = files.iter().map(|file| file.path.as_path()).collect();
    let made = |file: &LocalFile, found: FileDigest| SourceFile {
        name: file.name.clone(),
        path: file.path.clone(),
        digest: found.digest,
        len: found.len,
    };
    files.iter().zip(index.digests(&paths)).map(move |(file, found)| (file, found.map(|found| made(file, found))))
}

fn by_name(mut files: Vec<SourceFile>) -> Vec<SourceFile> {
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files.dedup_by(|a, b| a.name == b.name);
    files
}
