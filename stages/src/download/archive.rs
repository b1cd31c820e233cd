//! Unpacking archives (zip, tar, tar.gz) that may be hostile.
//!
//! Nothing is written outside the folder, no link is made, no file twice; what comes out is bounded in number, in bytes, and in proportion
//! to what went in.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use pipe_engine::problem::Failure;
use pipe_engine::step::Sink;

use super::http::Budget;
use crate::record_rows::stays_inside;

/// Files in an archive.
const MAX_FILES: usize = 5_000_000;
/// Bytes out per byte in, beyond the first [`UNJUDGED`]: far more than data compresses, far less than a bomb does.
const MAX_RATIO: u64 = 1000;
/// Bytes that may come out whatever went in.
const UNJUDGED: u64 = 1 << 30;

/// A kind of archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archive {
    /// PKZIP.
    Zip,
    /// A tape archive.
    Tar,
    /// A tape archive, compressed by gzip.
    TarGz,
}

impl Archive {
    /// The kind a file name tells, if any.
    pub fn of(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        match () {
            () if ends(&[".zip"]) => Some(Self::Zip),
            () if ends(&[".tar.gz", ".tgz"]) => Some(Self::TarGz),
            () if ends(&[".tar"]) => Some(Self::Tar),
            () => None,
        }
    }
}

/// Unpacks the files of an archive below `dir`.
pub fn unpack(path: &Path, archive: Archive, dir: &Path, budget: &Budget, sink: &dyn Sink) -> Result<(), Failure> {
    let file = File::open(path).map_err(|error| Failure::io("open", path, &error))?;
    let packed = file.metadata().map_err(|error| Failure::io("read", path, &error))?.len();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut unpacker = Unpacker { dir, budget, sink, packed, written: 0, names: BTreeSet::new() };
    let reader = BufReader::with_capacity(1 << 20, file);
    let done = match archive {
        Archive::Zip => unpacker.zip(reader),
        Archive::Tar => unpacker.tar(reader),
        Archive::TarGz => unpacker.tar(flate2::bufread::MultiGzDecoder::new(reader)),
    };
    done.map_err(|mut failure| {
        failure.message = format!("cannot unpack {name}: {}", failure.message);
        failure
    })
}

struct Unpacker<'a> {
    dir: &'a Path,
    budget: &'a Budget,
    sink: &'a dyn Sink,
    packed: u64,
    written: u64,
    names: BTreeSet<String>,
}

fn damaged(error: impl std::fmt::Display) -> Failure {
    Failure::input(format!("it is damaged: {error}"))
}

impl Unpacker<'_> {
    fn zip(&mut self, reader: impl Read + io::Seek) -> Result<(), Failure> {
        let mut archive = zip::ZipArchive::new(reader).map_err(damaged)?;
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).map_err(damaged)?;
            let name = entry.name().map_err(damaged)?.into_owned();
            if entry.is_dir() {
                continue;
            }
            if entry.is_symlink() {
                return Err(link(&name));
            }
            self.write(&name, &mut entry)?;
        }
        Ok(())
    }

    fn tar(&mut self, reader: impl Read) -> Result<(), Failure> {
        use tar::EntryType as T;
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries().map_err(damaged)? {
            let mut entry = entry.map_err(damaged)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            match entry.header().entry_type() {
                T::Regular | T::Continuous | T::GNUSparse => self.write(&name, &mut entry)?,
                T::Directory | T::XGlobalHeader => {}
                _ => return Err(link(&name)),
            }
        }
        Ok(())
    }

    fn write(&mut self, name: &str, content: &mut dyn Read) -> Result<(), Failure> {
        let name = name.trim_start_matches("./");
        if name.is_empty() || !stays_inside(name) || name.contains(['\0', '\\']) {
            return Err(Failure::input(format!("it holds a file named {name:?}, which leads out of the folder")));
        }
        if !self.names.insert(name.to_owned()) {
            return Err(Failure::input(format!("it holds {name} twice")));
        }
        if self.names.len() > MAX_FILES {
            return Err(Failure::input(format!("it holds more than {MAX_FILES} files")));
        }
        let target = self.dir.join(name);
        let folder = target.parent().unwrap_or(self.dir);
        fs::create_dir_all(folder).map_err(|error| Failure::io("create", folder, &error))?;
        let file = File::create_new(&target).map_err(|error| Failure::io("create", &target, &error))?;
        let written = |error: io::Error| Failure::io("write", &target, &error);
        let mut file = BufWriter::new(file);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = content.read(&mut buffer).map_err(damaged)?;
            if count == 0 {
                return file.flush().map_err(written);
            }
            self.account(count as u64)?;
            file.write_all(&buffer[..count]).map_err(written)?;
        }
    }

    fn account(&mut self, bytes: u64) -> Result<(), Failure> {
        if self.sink.cancelled() {
            return Err(Failure::interrupted());
        }
        self.budget.take(bytes)?;
        self.written += bytes;
        if self.written > UNJUDGED && self.written / MAX_RATIO > self.packed {
            return Err(Failure::input(format!("{} bytes unpack to more than {} bytes", self.packed, self.written)));
        }
        Ok(())
    }
}

fn link(name: &str) -> Failure {
    Failure::input(format!("`{name}` in it is a link or a device")).help("pack the files themselves")
}
