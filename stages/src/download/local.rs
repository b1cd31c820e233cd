//! Files of this machine: listing, hashing and reading them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use globset::GlobSet;
use pipe_engine::cell::Cell;
use pipe_engine::dataset::changed_meanwhile;
use pipe_engine::problem::{Failure, Problem};
use pipe_engine::source::GivenFile;
use pipe_engine::stage::SourceFile;
use pipe_engine::{FileDigest, StatIndex, map_many};
use walkdir::WalkDir;

use crate::paths;

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

/// What lies at a source.
#[derive(Debug, Default)]
pub struct Listed {
    /// Its files, sorted by name.
    pub files: Vec<LocalFile>,
    /// What no file can be made of, as it may be shown, each with why.
    pub odd: Unreadable,
}

/// The files of a source that match the patterns. Hidden ones (`.git`, `.DS_Store`) are left out. `written` is how the pipeline names it.
pub fn list(written: &str, path: &Path, patterns: Option<&GlobSet>) -> Result<Listed, Problem> {
    let meta = fs::metadata(path).map_err(|error| unreadable(written, path, &error))?;
    if !meta.is_dir() && !meta.is_file() {
        let message = format!("{} is neither a file nor a folder", path.display());
        return Err(Problem::param("source", message)
            .help("what comes through a pipe or a device is gone once it is read: save it to a file"));
    }
    if meta.is_file() {
        File::open(path).map_err(|error| unreadable(written, path, &error))?;
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| {
            Problem::param("source", format!("the name of {} is {NOT_TEXT}", path.display())).help("rename it")
        })?;
        return Ok(Listed { files: vec![LocalFile::new(name, path.to_owned())], ..Listed::default() });
    }
    let mut listed = Listed::default();
    for entry in below(path)? {
        let (found, why) = match entry {
            Entry::File(found) => (found, None),
            Entry::Odd(found, why) => (found, Some(why)),
        };
        let inside = found.strip_prefix(path).unwrap_or(&found).to_owned();
        if patterns.is_some_and(|patterns| !patterns.is_match(&inside)) {
            continue;
        }
        match (why, inside.to_str()) {
            (None, Some(name)) => listed.files.push(LocalFile::new(name, found)),
            (why, _) => {
                let why = why.unwrap_or_else(|| format!("its name is {NOT_TEXT}"));
                listed.odd.push((inside.to_string_lossy().into_owned(), why));
            }
        }
    }
    listed.files.sort_by(|a, b| a.name.cmp(&b.name));
    listed.odd.sort();
    Ok(listed)
}

const NOT_TEXT: &str = "not UTF-8";

/// An entry of a folder.
enum Entry {
    File(PathBuf),
    /// One that cannot be followed, and why.
    Odd(PathBuf, String),
}

/// The files below a folder, without hidden ones. Many folders in it are walked side by side.
fn below(path: &Path) -> Result<Vec<Entry>, Problem> {
    let mut folders = Vec::new();
    let mut entries = walk(WalkDir::new(path).max_depth(1), &mut folders)?;
    for deeper in map_many(&folders, |folder| walk(WalkDir::new(folder), &mut Vec::new())) {
        entries.extend(deeper?);
    }
    Ok(entries)
}

/// What a walk finds; the folders right below where it begins are told.
fn walk(walk: WalkDir, folders: &mut Vec<PathBuf>) -> Result<Vec<Entry>, Problem> {
    let (mut entries, mut odd) = (Vec::new(), Vec::new());
    let is_taken = |entry: &walkdir::DirEntry| {
        let back = leads_back(entry);
        let is_taken = visible(entry) && back.is_none();
        odd.extend(back.filter(|_| visible(entry)).map(|to| back_link(entry.path(), &to)));
        is_taken
    };
    for entry in walk.follow_links(true).into_iter().filter_entry(is_taken) {
        match entry {
            Ok(entry) if entry.depth() == 1 && entry.file_type().is_dir() => folders.push(entry.into_path()),
            entry => entries.extend(file(entry)?),
        }
    }
    entries.extend(odd);
    Ok(entries)
}

/// The folder that a link leads to, if the link lies in it: it would be walked again and again.
fn leads_back(entry: &walkdir::DirEntry) -> Option<PathBuf> {
    if entry.depth() == 0 || !entry.path_is_symlink() || !entry.file_type().is_dir() {
        return None;
    }
    let to = fs::canonicalize(entry.path()).ok()?;
    let here = fs::canonicalize(entry.path().parent()?).ok()?;
    here.starts_with(&to).then_some(to)
}

fn back_link(link: &Path, to: &Path) -> Entry {
    Entry::Odd(link.to_owned(), format!("it is a link to {}, in which it lies", to.display()))
}

fn visible(entry: &walkdir::DirEntry) -> bool {
    entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".")
}

/// The file that an entry is, if it is one.
fn file(entry: walkdir::Result<walkdir::DirEntry>) -> Result<Option<Entry>, Problem> {
    let error = match entry {
        Ok(entry) => return Ok(entry.file_type().is_file().then(|| Entry::File(entry.into_path()))),
        Err(error) => error,
    };
    if let Some(link) = broken_link(&error) {
        return Ok(Some(Entry::File(link.to_owned())));
    }
    if let (Some(around), Some(link)) = (error.loop_ancestor(), error.path()) {
        return Ok(Some(back_link(link, around)));
    }
    Err(Problem::param("source", format!("cannot list it: {error}")).help("look who may read it: ls -l"))
}

/// A link that leads nowhere: a file that cannot be read.
fn broken_link(error: &walkdir::Error) -> Option<&Path> {
    let gone = error.io_error().is_some_and(|io| io.kind() == std::io::ErrorKind::NotFound);
    error.path().filter(|path| gone && path.is_symlink())
}

/// Says what cannot be read, and what to do if nothing is there. `written` is how the pipeline names it.
fn unreadable(written: &str, path: &Path, error: &std::io::Error) -> Problem {
    let problem = Problem::param("source", format!("cannot read {}: {error}", path.display())).gone();
    let gone = error.kind() == std::io::ErrorKind::NotFound;
    let help = gone.then(|| paths::pattern(written).or_else(|| paths::help(written, path))).flatten();
    match help {
        Some(help) => problem.help(help),
        None => problem,
    }
}

/// Names of files, each with why it cannot be read.
pub type Unreadable = Vec<(String, String)>;

/// Hashes the files on all cores, reading only those that may have changed since the last look.
pub fn digests(files: &[LocalFile], index: &StatIndex) -> Result<Vec<SourceFile>, Problem> {
    let found = look(files, index);
    let found = found.map(|(file, found)| found.map_err(|error| unreadable(&file.name, &file.path, &error)));
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
