//! Random data on disk: two files of records, a folder of pictures, a program. And what can happen to them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use image::{ImageFormat, Rgb, RgbImage};
use pipe_engine::dataset::ends_chunk;
use proptest::prelude::*;

/// Ids, every third of which ends a chunk, so that a few dozen rows make many chunks.
static IDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let some =
        |ends: bool, count: usize| (0..).map(|n| format!("r{n}")).filter(move |id| ends_chunk(id) == ends).take(count);
    some(true, 12).chain(some(false, 24)).collect()
});

/// The same for names of pictures.
static PICTURES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let some = |ends: bool, count: usize| {
        (0..).map(|n| format!("p{n}.png")).filter(move |id| ends_chunk(id) == ends).take(count)
    };
    some(true, 5).chain(some(false, 7)).collect()
});

/// A line of a file of records.
#[derive(Clone, Debug)]
pub struct Line {
    id: u8,
    words: Option<u8>,
    n: Option<u8>,
    tag: u8,
    note: u8,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Not a record.
    Torn,
    /// A text where a number should stand.
    Type,
    /// No id of its own.
    NoId,
}

/// A picture: a square of one colour, whole or not, with or without a label in the metadata.
#[derive(Clone, Debug)]
pub struct Picture {
    side: u8,
    shade: u8,
    broken: bool,
    label: Option<u8>,
}

/// The sources of a pipeline.
#[derive(Clone, Debug)]
pub struct Sources {
    lines: Vec<Line>,
    table: Vec<Line>,
    pictures: BTreeMap<u8, Picture>,
    program: u8,
    /// How often the file of records was renamed.
    renamed: u8,
}

/// Something that happens to the sources.
#[derive(Clone, Debug)]
pub enum Change {
    Insert(bool, u8, Line),
    Remove(bool, u8),
    Replace(bool, u8, Line),
    Note(u8, u8),
    Rotate(bool, u8),
    Twice(bool, u8),
    Draw(u8, Picture),
    Erase(u8),
    Move(u8, u8),
    Break(u8),
    Program(u8),
    RenameFile,
}

fn any_line() -> impl Strategy<Value = Line> {
    let fault =
        prop_oneof![20 => Just(Fault::None), 1 => Just(Fault::Torn), 1 => Just(Fault::Type), 1 => Just(Fault::NoId)];
    let words = prop::option::weighted(0.9, 0..8_u8);
    let n = prop::option::weighted(0.9, 0..6_u8);
    (0..36_u8, words, n, 0..3_u8, 0..2_u8, fault).prop_map(|(id, words, n, tag, note, fault)| Line {
        id,
        words,
        n,
        tag,
        note,
        fault,
    })
}

fn any_picture() -> impl Strategy<Value = Picture> {
    (1..9_u8, 0..3_u8, prop::bool::weighted(0.15), prop::option::of(0..3_u8))
        .prop_map(|(side, shade, broken, label)| Picture { side, shade, broken, label })
}

pub fn any_sources() -> impl Strategy<Value = Sources> {
    let lines = || prop::collection::vec(any_line(), 0..30);
    let pictures = prop::collection::btree_map(0..12_u8, any_picture(), 0..6);
    (lines(), lines(), pictures).prop_map(|(lines, table, pictures)| Sources {
        lines,
        table,
        pictures,
        program: 0,
        renamed: 0,
    })
}

pub fn any_change() -> impl Strategy<Value = Change> {
    let at = any::<u8>;
    let file = any::<bool>;
    prop_oneof![
        (file(), at(), any_line()).prop_map(|(file, at, line)| Change::Insert(file, at, line)),
        (file(), at()).prop_map(|(file, at)| Change::Remove(file, at)),
        (file(), at(), any_line()).prop_map(|(file, at, line)| Change::Replace(file, at, line)),
        (at(), 0..2_u8).prop_map(|(at, note)| Change::Note(at, note)),
        (file(), at()).prop_map(|(file, at)| Change::Rotate(file, at)),
        (file(), at()).prop_map(|(file, at)| Change::Twice(file, at)),
        (0..12_u8, any_picture()).prop_map(|(at, picture)| Change::Draw(at, picture)),
        at().prop_map(Change::Erase),
        (at(), 0..12_u8).prop_map(|(from, to)| Change::Move(from, to)),
        at().prop_map(Change::Break),
        (0..3_u8).prop_map(Change::Program),
        Just(Change::RenameFile),
    ]
}

impl Sources {
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Insert(file, at, line) => {
                let lines = self.file(*file);
                lines.insert(usize::from(*at) % (lines.len() + 1), line.clone());
            }
            Change::Remove(file, at) => drop(pick(self.file(*file), *at).map(|(lines, at)| lines.remove(at))),
            Change::Replace(file, at, line) => {
                if let Some((lines, at)) = pick(self.file(*file), *at) {
                    lines[at] = line.clone();
                }
            }
            Change::Note(at, note) => {
                if let Some((lines, at)) = pick(&mut self.lines, *at) {
                    lines[at].note = *note;
                }
            }
            Change::Rotate(file, by) => {
                if let Some((lines, by)) = pick(self.file(*file), *by) {
                    lines.rotate_left(by);
                }
            }
            Change::Twice(file, at) => {
                if let Some((lines, at)) = pick(self.file(*file), *at) {
                    lines.push(lines[at].clone());
                }
            }
            Change::Draw(at, picture) => drop(self.pictures.insert(*at, picture.clone())),
            Change::Erase(at) => drop(self.picture(*at).and_then(|at| self.pictures.remove(&at))),
            Change::Move(from, to) => {
                if let Some(picture) = self.picture(*from).and_then(|at| self.pictures.remove(&at)) {
                    self.pictures.insert(*to, picture);
                }
            }
            // Broken ones are mended.
            Change::Break(at) => {
                if let Some(picture) = self.picture(*at).and_then(|at| self.pictures.get_mut(&at)) {
                    picture.broken = !picture.broken;
                }
            }
            Change::Program(version) => self.program = *version,
            Change::RenameFile => self.renamed = (self.renamed + 1) % 3,
        }
    }

    fn file(&mut self, table: bool) -> &mut Vec<Line> {
        if table { &mut self.table } else { &mut self.lines }
    }

    fn picture(&self, at: u8) -> Option<u8> {
        let count = self.pictures.len();
        self.pictures.keys().nth(usize::from(at).checked_rem(count)?).copied()
    }

    /// The name of the file of records.
    pub fn records(&self) -> String {
        format!("texts{}.jsonl", self.renamed)
    }

    /// Brings the files below `dir` to what they should be; those that are right are not touched. `sly` changes keep the time of a file,
    /// and where it comes out so its size.
    pub fn write(&self, dir: &Path, sly: bool) {
        let wanted = self.files();
        fs::create_dir_all(dir.join("photos")).unwrap();
        for folder in [dir.to_owned(), dir.join("photos")] {
            for entry in fs::read_dir(folder).unwrap().flatten().filter(|entry| entry.path().is_file()) {
                let name = entry.path().strip_prefix(dir).unwrap().to_owned();
                if !wanted.contains_key(&name) {
                    fs::remove_file(entry.path()).unwrap();
                }
            }
        }
        for (name, bytes) in wanted {
            let path = dir.join(name);
            if fs::read(&path).is_ok_and(|there| there == bytes) {
                continue;
            }
            let time = fs::metadata(&path).and_then(|meta| meta.modified()).ok();
            fs::write(&path, bytes).unwrap();
            if let Some(time) = time.filter(|_| sly) {
                File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            }
        }
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let lines = [&first()].into_iter().chain(&self.lines).map(Line::json).collect::<String>();
        let mut files = BTreeMap::from([
            (PathBuf::from(self.records()), lines.into_bytes()),
            (PathBuf::from("table.csv"), self.csv().into_bytes()),
            (PathBuf::from("tool.sh"), program(self.program).into_bytes()),
        ]);
        // One that is always there, so that the folder is one of pictures with labels.
        let first = Picture { side: 6, shade: 0, broken: false, label: Some(0) };
        let mut metadata = String::new();
        let all = [("first.png", &first)].into_iter();
        for (name, picture) in all.chain(self.pictures.iter().map(|(at, p)| (PICTURES[usize::from(*at)].as_str(), p))) {
            files.insert(Path::new("photos").join(name), picture.png());
            if let Some(label) = picture.label {
                metadata += &format!("{{\"file_name\": \"{name}\", \"label\": \"l{label}\"}}\n");
            }
        }
        files.insert("photos/metadata.jsonl".into(), metadata.into_bytes());
        files
    }

    fn csv(&self) -> String {
        let line = |line: &Line| {
            let n = line.n.map(|n| n.to_string()).unwrap_or_default();
            let n = if line.fault == Fault::Type { "many".to_owned() } else { n };
            let tail = if line.fault == Fault::Torn { ",,,\"" } else { "" };
            format!("{},{},{n},t{}{tail}\n", IDS[usize::from(line.id)], line.caption().unwrap_or_default(), line.tag)
        };
        format!("key,caption,n,tag\n{}", [&first()].into_iter().chain(&self.table).map(line).collect::<String>())
    }
}

/// One that is always there: that no record has the column of ids is a mistake of the pipeline.
const fn first() -> Line {
    Line { id: 0, words: Some(2), n: Some(1), tag: 0, note: 0, fault: Fault::None }
}

/// The place of one of the lines, if there are any.
fn pick(lines: &mut Vec<Line>, at: u8) -> Option<(&mut Vec<Line>, usize)> {
    let at = usize::from(at).checked_rem(lines.len())?;
    Some((lines, at))
}

impl Line {
    fn caption(&self) -> Option<String> {
        self.words.map(|words| vec!["word"; usize::from(words)].join(" "))
    }

    fn json(&self) -> String {
        if self.fault == Fault::Torn {
            return "{\"id\": \"torn\n".to_owned();
        }
        let mut row = serde_json::json!({ "caption": self.caption(), "n": self.n, "tag": format!("t{}", self.tag), "note": self.note });
        if self.fault != Fault::NoId {
            row["id"] = IDS[usize::from(self.id)].as_str().into();
        }
        if self.fault == Fault::Type {
            row["n"] = "many".into();
        }
        format!("{row}\n")
    }
}

impl Picture {
    fn png(&self) -> Vec<u8> {
        let side = u32::from(self.side);
        let mut bytes = Cursor::new(Vec::new());
        RgbImage::from_pixel(side, side, Rgb([self.shade * 80; 3])).write_to(&mut bytes, ImageFormat::Png).unwrap();
        let mut bytes = bytes.into_inner();
        if self.broken {
            bytes.truncate(bytes.len() - 20);
        }
        bytes
    }
}

/// A program that sums up what it is given: the second version says the same, the third something else.
fn program(version: u8) -> String {
    let comment = if version == 1 { "# the same\n" } else { "" };
    let more = if version == 2 { "echo more\n" } else { "" };
    format!("{comment}cd \"$1\" && find . -type f | LC_ALL=C sort | xargs -r cksum\n{more}")
}
