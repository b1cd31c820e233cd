//! Checking a store: every byte against the digest that names it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::damage::is_damage;
use crate::error::{Context, StoreError};
use crate::hash::hash;
use crate::inventory::{fanned, files, list_names};
use crate::memory::is_whole_segment;
use crate::pack::{Entry, Index, index_files, pack_of};
use crate::store::decode_record;
use crate::{ActionRecord, Blob, Digest, Key, Store};

/// Bytes of a pack that are checked at a time.
const STRETCH: u64 = 64 << 20;

/// A part of a store that is checked by itself.
#[derive(Clone, Debug)]
pub struct Part {
    what: What,
    path: PathBuf,
    len: u64,
}

#[derive(Clone, Debug)]
enum What {
    Object(Digest),
    Packed(Vec<Entry>),
    Index,
    Record(Key),
    Segment,
    Checkpoint,
    Pin,
}

/// What kind of thing is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damaged {
    /// An object.
    Object,
    /// The index of a pack: the objects it lists cannot be found.
    Index,
    /// An action record.
    Record,
    /// A segment of row memory.
    Segment,
    /// A checkpoint record.
    Checkpoint,
    /// A pin.
    Pin,
}

impl Damaged {
    /// The words for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Index => "index of a pack",
            Self::Record => "action record",
            Self::Segment => "row memory",
            Self::Checkpoint => "checkpoint",
            Self::Pin => "pin",
        }
    }
}

/// Something that is not what its name says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// What.
    pub what: Damaged,
    /// The file it lies in.
    pub path: PathBuf,
    /// The object, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Digest>,
    /// The key, where it is a record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    #[serde(skip)]
    place: Option<Entry>,
}

impl Part {
    /// Bytes to read.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing to read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Store {
    /// Everything that can be checked, in no order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn parts(&self) -> Result<Vec<Part>, StoreError> {
        let mut parts = Vec::new();
        for (name, file) in fanned(&self.root.join("objects"))? {
            parts.extend(name.parse().ok().map(|name| Part {
                what: What::Object(name),
                path: file.path,
                len: file.len,
            }));
        }
        for (name, file) in fanned(&self.root.join("actions"))? {
            parts.extend(name.parse().ok().map(|key| Part { what: What::Record(key), path: file.path, len: file.len }));
        }
        for (directory, what) in [("rows", What::Segment), ("checkpoints", What::Checkpoint)] {
            for below in list_names(&self.root.join(directory))? {
                let files = files(&below)?.into_iter();
                parts.extend(files.map(|file| Part { what: what.clone(), path: file.path, len: file.len }));
            }
        }
        let pins = files(&self.root.join("pins"))?.into_iter();
        parts.extend(pins.map(|file| Part { what: What::Pin, path: file.path, len: file.len }));
        for index in index_files(&self.root.join("packs"))? {
            parts.extend(packed(&index));
        }
        Ok(parts)
    }

    /// Checks one part. What is removed or merged meanwhile is not damaged, nor what another machine wrote and shows late.
    ///
    /// # Errors
    /// When a file cannot be read although it is there.
    pub fn check(&self, part: &Part) -> Result<Vec<Damage>, StoreError> {
        let damage = self.check_now(part)?;
        let whole = || Ok(self.check_now(part)?.is_empty().then_some(Vec::new()));
        if damage.is_empty() { Ok(damage) } else { Ok(self.wait_for(whole, None)?.unwrap_or(damage)) }
    }

    fn check_now(&self, part: &Part) -> Result<Vec<Damage>, StoreError> {
        let damage = |what| Damage { what, path: part.path.clone(), object: None, key: None, place: None };
        let of_record = |what, whole: &dyn Fn(&[u8]) -> bool| match fs::read(&part.path) {
            Ok(bytes) if whole(&bytes) => Ok(Vec::new()),
            Ok(_) => Ok(vec![damage(what)]),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).context("read", &part.path),
        };
        match &part.what {
            What::Object(digest) => {
                let same = digest_of(&part.path)?.is_none_or(|found| found == *digest);
                Ok(if same { Vec::new() } else { vec![Damage { object: Some(*digest), ..damage(Damaged::Object) }] })
            }
            What::Packed(entries) => check_packed(&part.path, entries),
            What::Index => Ok(vec![damage(Damaged::Index)]),
            What::Record(key) => {
                let whole =
                    |bytes: &[u8]| decode_record::<ActionRecord>(bytes).is_some_and(|record| record.key == *key);
                let found = of_record(Damaged::Record, &whole)?;
                Ok(found.into_iter().map(|damage| Damage { key: Some(*key), ..damage }).collect())
            }
            What::Segment => of_record(Damaged::Segment, &|bytes| is_whole_segment(&part.path, bytes)),
            What::Checkpoint => {
                of_record(Damaged::Checkpoint, &|bytes| decode_record::<serde_json::Value>(bytes).is_some())
            }
            What::Pin => of_record(Damaged::Pin, &|bytes| decode_record::<serde_json::Value>(bytes).is_some()),
        }
    }

    /// Takes something damaged out of use, so that it is made again when it is needed.
    pub fn repair(&self, damage: &Damage) {
        match (damage.object, damage.place) {
            (Some(digest), Some(place)) => {
                let path = damage.path.as_path().into();
                self.set_aside(&Blob { digest, path, offset: place.offset, len: place.len });
            }
            _ => self.quarantine(&damage.path),
        }
    }
}

/// The stretches of a pack that an index lists.
fn packed(index: &Path) -> Vec<Part> {
    let pack = pack_of(index);
    let len = fs::metadata(index).map_or(0, |meta| meta.len());
    let mut entries: Vec<Entry> = match Index::open(index) {
        Ok(Some(index)) => index.entries().collect(),
        // Without its pack an index counts for nothing.
        Ok(None) if pack.exists() => return vec![Part { what: What::Index, path: index.to_owned(), len }],
        _ => return Vec::new(),
    };
    entries.sort_by_key(|entry| entry.offset);
    // A damaged index may tell any length; what is read is never more than there is.
    let pack_len = fs::metadata(&pack).map_or(0, |meta| meta.len());
    let mut parts: Vec<Part> = Vec::new();
    for entry in entries {
        let to_read = entry.len.min(pack_len);
        match parts.last_mut() {
            Some(Part { what: What::Packed(some), len, .. }) if *len < STRETCH => {
                some.push(entry);
                *len += to_read;
            }
            _ => parts.push(Part { what: What::Packed(vec![entry]), path: pack.clone(), len: to_read }),
        }
    }
    parts
}

fn check_packed(pack: &Path, entries: &[Entry]) -> Result<Vec<Damage>, StoreError> {
    let file = match File::open(pack) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file.context("open", pack)?,
    };
    let (mut damage, path, len) = (Vec::new(), Arc::<Path>::from(pack), file.metadata().context("read", pack)?.len());
    for entry in entries {
        let blob = Blob { digest: entry.digest, path: path.clone(), offset: entry.offset, len: entry.len };
        let whole = match blob.read_from(&file, len) {
            Err(error) if is_damage(&error) => false,
            read => read.context("read", pack).map(|_| true)?,
        };
        if !whole {
            let (what, path) = (Damaged::Object, pack.to_owned());
            damage.push(Damage { what, path, object: Some(entry.digest), key: None, place: Some(*entry) });
        }
    }
    Ok(damage)
}

/// The digest of a file; `None` if it is gone.
fn digest_of(path: &Path) -> Result<Option<Digest>, StoreError> {
    match File::open(path).and_then(|file| hash(&file)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        hashed => hashed.context("read", path).map(|(digest, _)| Some(digest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::index_bytes;

    #[test]
    fn an_index_that_tells_any_length_is_damage_and_takes_no_memory() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let digest = store.put(b"packed").unwrap();
        store.finish().unwrap();
        let index = index_files(&dir.path().join("packs")).unwrap().remove(0);
        let place = Index::open(&index).unwrap().unwrap().entries().next().unwrap();
        for (offset, len) in [(0, u64::MAX), (u64::MAX, 1), (1 << 62, 1 << 62), (0, place.len + 1), (1, place.len - 1)]
        {
            fs::remove_file(&index).unwrap();
            fs::write(&index, index_bytes(&mut [Entry { digest, offset, len }, place])).unwrap();
            let parts = store.parts().unwrap();
            assert!(parts.iter().map(Part::len).sum::<u64>() <= 2 * place.len);
            let damage: Vec<Damage> = parts.iter().flat_map(|part| store.check(part).unwrap()).collect();
            assert_eq!(damage.iter().map(|one| one.object).collect::<Vec<_>>(), [Some(digest)], "{offset} {len}");
        }
    }
}
