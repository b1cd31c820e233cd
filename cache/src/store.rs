//! The store: objects under their digest, action records under their key, row memory under its recipe.
//!
//! ```text
//! format                 the name of this layout
//! objects/ab/cdef…       large objects, one file each
//! packs/NAME.pack, .idx  small objects, many a file
//! actions/ab/cdef…       action records
//! rows/KEY/*.rows        row memory
//! checkpoints/KEY/N      what an unfinished execution left
//! runs/*.jsonl           run logs
//! pins/NAME              what must stay, whatever else is removed
//! index/                 the stat index of each host (can be rebuilt)
//! damaged/               what failed its check, kept for a look
//! reserve/               room for records and collections on a full disk
//! tmp/OWNER/             what a living process is writing
//! ```
//!
//! Nothing becomes visible to others before [`Store::commit`], which makes objects durable before the records that name them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use crate::action::ActionRecord;
use crate::clock::Clock;
use crate::commit::{Pending, whole_or_gone};
use crate::damage::is_damage;
use crate::disk::{Disk, Room};
use crate::error::{Context, StoreError};
use crate::hash::hash;
use crate::heal::Patience;
use crate::memory::RowMemory;
use crate::packs::Packs;
use crate::{Blob, Digest, Key, StatIndex, directory, owner, pack, reserve};

const FORMAT: &str = "pipe-store/1";
const DIRECTORIES: [&str; 9] = ["objects", "packs", "actions", "rows", "checkpoints", "runs", "pins", "index", "tmp"];

/// What an unfinished execution left.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// How far it had come, in its own unit.
    pub at: u64,
    /// Its files.
    pub files: BTreeMap<String, Blob>,
}

/// An open store. Shared by all threads of a process; any number of processes may have it open.
pub struct Store {
    pub(crate) root: PathBuf,
    /// The directory of this process: everything not yet visible lies in it.
    pub(crate) own: PathBuf,
    /// Whether there is no such directory, because this user may not write here.
    read_only: bool,
    pub(crate) packs: Packs,
    pub(crate) pending: Mutex<Pending>,
    pub(crate) committing: Mutex<()>,
    memories: Mutex<Memories>,
    pub(crate) disk: OnceLock<Disk>,
    pub(crate) clock: Clock,
    pub(crate) patience: Patience,
    /// Whether a sync failed: what was written may be lost, whatever the system says later.
    pub(crate) in_doubt: AtomicBool,
}

#[derive(Default)]
struct Memories {
    /// Those in use or with something to save.
    open: HashMap<Key, Arc<RowMemory>>,
    /// Directories that got new segments.
    grown: BTreeSet<PathBuf>,
}

impl Store {
    /// Opens the store in `root`, making it if there is none, and removes what dead processes left. One that may not be written to
    /// gives what it has; whatever would write fails.
    ///
    /// # Errors
    /// When the directory cannot be made or read, or holds another format.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let root = std::path::absolute(root).context("find", root)?;
        let own = root.join("tmp").join(owner::unique_name());
        let make = || prepare(&root).and_then(|()| directory::make(&own).map(drop));
        let read_only = match make() {
            Err(error) if error.is_denied() && holds_store(&root) => true,
            // Whoever makes room must be let in.
            Err(error) if error.is_full() && reserve::spend(&root) => make().map(|()| false)?,
            made => made.map(|()| false)?,
        };
        let store = Self {
            packs: Packs::new(root.join("packs")),
            root,
            own,
            read_only,
            pending: Mutex::default(),
            committing: Mutex::default(),
            memories: Mutex::default(),
            disk: OnceLock::new(),
            clock: Clock::start(),
            patience: Patience::default(),
            in_doubt: AtomicBool::new(false),
        };
        store.packs.refresh()?;
        Ok(store)
    }

    /// The directory of the store.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where an object lies; `None` if the store has none of that name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn locate(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        if let Some(blob) = self.pending().blob(digest) {
            return Ok(Some(blob));
        }
        if let Some(blob) = self.packs.find(digest) {
            return Ok(Some(blob));
        }
        if let Some(blob) = self.find_loose(digest) {
            return Ok(Some(blob));
        }
        Ok(if self.packs.refresh()? { self.packs.find(digest) } else { None })
    }

    fn find_loose(&self, digest: &Digest) -> Option<Blob> {
        let path = self.object_path(digest);
        let len = fs::metadata(&path).ok()?.len();
        Some(Blob { digest: *digest, path: path.into(), offset: 0, len })
    }

    /// Everywhere that an object lies, as far as this process knows.
    pub(crate) fn places(&self, digest: &Digest) -> Vec<Blob> {
        let pending = self.pending().blob(digest);
        pending.into_iter().chain(self.packs.find_all(digest)).chain(self.find_loose(digest)).collect()
    }

    /// Reads an object and checks it against its digest. A damaged one is moved aside, so that it is made again.
    ///
    /// # Errors
    /// When it is missing, damaged, or cannot be read.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        self.read_somewhere(digest).map(|(_, bytes)| bytes)
    }

    /// Where an object lies whose bytes are as its digest says: one in a pack is read, a large one is read if it changed since `index`
    /// last saw it. A damaged one is moved aside, so that it is made again.
    ///
    /// # Errors
    /// When it is missing, damaged, or cannot be read.
    pub fn locate_whole(&self, digest: &Digest, index: &StatIndex) -> Result<Blob, StoreError> {
        let blob = self.locate_named(digest)?.ok_or(StoreError::Missing(*digest))?;
        if !blob.path.starts_with(self.root.join("objects")) {
            return self.read_somewhere(digest).map(|(blob, _)| blob);
        }
        match index.digest(&blob.path) {
            Ok(found) if found.digest == *digest => Ok(blob),
            Err(error) if !is_damage(&error) && error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("read", &blob.path)
            }
            _ => {
                self.set_aside(&blob);
                self.read_elsewhere(blob).map(|(blob, _)| blob)
            }
        }
    }

    /// Stores bytes under their digest. Readable at once by this process; durable and visible to others after the next commit.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if self.rely_on(&digest)?.is_none() {
            self.writing()?;
            self.pending().put(self, digest, bytes)?;
        }
        Ok(digest)
    }

    /// Where an object lies that is to be relied on: notes that it is used, so that no collection takes it away.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn rely_on(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        let Some(blob) = self.locate(digest)? else { return Ok(None) };
        if self.note_use(&blob.path).is_ok() {
            return Ok(Some(blob));
        }
        // What another user stored may not be this one's to touch.
        Ok(self.places(digest).into_iter().find(|blob| self.note_use(&blob.path).is_ok()))
    }

    /// Stores the content of a file. A large file of a scratch directory is taken over by a link, any other is copied; what is hashed is
    /// what is kept.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn put_file(&self, path: &Path) -> Result<(Digest, u64), StoreError> {
        let len = fs::metadata(path).context("read", path)?.len();
        if len < crate::commit::LOOSE_FROM {
            let bytes = fs::read(path).context("read", path)?;
            return Ok((self.put(&bytes)?, bytes.len() as u64));
        }
        self.writing()?;
        let aside = self.aside();
        let linked = path.starts_with(&self.own) && fs::hard_link(path, &aside).is_ok();
        if !linked {
            whole_or_gone(&aside, fs::copy(path, &aside).map(drop))?;
        }
        let (digest, len) = fs::File::open(&aside).and_then(|file| hash(&file)).context("read", &aside)?;
        if self.rely_on(&digest)?.is_some() {
            owner::remove(&aside);
        } else {
            self.pending().add_loose(digest, aside, len)?;
        }
        Ok((digest, len))
    }

    /// What a key gave, if it was ever executed. A record that fails its check is set aside and counts as none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn lookup(&self, key: &Key) -> Result<Option<ActionRecord>, StoreError> {
        if let Some(record) = self.pending().record(key) {
            return Ok(Some(record));
        }
        let path = self.action_path(key);
        let (bytes, used) = match read_record(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.context("read", &path)?,
        };
        match decode_record(&bytes).filter(|record: &ActionRecord| record.key == *key) {
            Some(record) => {
                // A store that cannot be written to is read all the same.
                let _ = self.note_use_since(&path, used);
                Ok(Some(record))
            }
            None => {
                self.quarantine(&path);
                Ok(None)
            }
        }
    }

    /// Records what a key gave; the first record of a key stays. Visible after the next commit, and not before the objects stored so far.
    pub fn record(&self, record: ActionRecord) {
        self.pending().add_record(record);
    }

    /// Forgets a key, because what it gave is gone or damaged.
    pub fn forget(&self, key: &Key) {
        self.pending().forget(key);
        // A record that cannot be removed is found wanting again by the next reader.
        let _ = fs::remove_file(self.action_path(key));
    }

    /// The row memory of a recipe.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn memory(&self, recipe: &Key) -> Result<Arc<RowMemory>, StoreError> {
        let mut memories = lock(&self.memories);
        if let Some(memory) = memories.open.get(recipe) {
            return Ok(memory.clone());
        }
        let memory = Arc::new(RowMemory::open(&self.root.join("rows").join(recipe.to_string()))?);
        memories.open.insert(*recipe, memory.clone());
        Ok(memory)
    }

    /// The memories that are open.
    pub(crate) fn memories(&self) -> Vec<Arc<RowMemory>> {
        lock(&self.memories).open.values().cloned().collect()
    }

    /// Closes the memories that nobody uses and that have nothing to save.
    pub(crate) fn close_memories(&self) {
        let mut memories = lock(&self.memories);
        let Memories { open, grown } = &mut *memories;
        open.retain(|_, memory| {
            grown.extend(memory.has_grown().then(|| memory.directory().to_owned()));
            Arc::strong_count(memory) > 1 || !memory.is_clean()
        });
    }

    /// The directories of row memory that grew since the last call.
    pub(crate) fn take_grown_memories(&self) -> BTreeSet<PathBuf> {
        std::mem::take(&mut lock(&self.memories).grown)
    }

    /// Records files as the checkpoint of an unfinished execution. Durable after the next commit.
    pub fn add_checkpoint(&self, key: &Key, at: u64, files: BTreeMap<String, Digest>) {
        self.pending().add_checkpoint(*key, at, files);
    }

    /// The latest checkpoint of a key whose files are all there.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn latest_checkpoint(&self, key: &Key) -> Result<Option<Checkpoint>, StoreError> {
        let directory = self.checkpoint_directory(key);
        let Ok(entries) = fs::read_dir(&directory) else { return Ok(None) };
        let mut found: Vec<u64> = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        for at in found {
            let bytes = fs::read(directory.join(at.to_string())).unwrap_or_default();
            if let Some(files) = decode_record::<BTreeMap<String, Digest>>(&bytes)
                && let Some(blobs) = self.locate_all(&files)?
            {
                return Ok(Some(Checkpoint { at, files: blobs }));
            }
        }
        Ok(None)
    }

    /// Removes the checkpoints of a key that is now recorded.
    pub fn clear_checkpoints(&self, key: &Key) {
        owner::remove(&self.checkpoint_directory(key));
    }

    /// Where objects lie, by name; `None` if one of them is gone.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn locate_all(&self, files: &BTreeMap<String, Digest>) -> Result<Option<BTreeMap<String, Blob>>, StoreError> {
        let mut blobs = BTreeMap::new();
        for (name, digest) in files {
            let Some(blob) = self.locate_named(digest)? else { return Ok(None) };
            blobs.insert(name.clone(), blob);
        }
        Ok(Some(blobs))
    }

    /// A new, empty directory of this process alone, on the store's file system. Gone when the store is closed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self) -> Result<PathBuf, StoreError> {
        self.writing()?;
        let path = self.aside();
        fs::create_dir(&path).context("create", &path)?;
        Ok(path)
    }

    /// What is left of the file system that the store lies on.
    ///
    /// # Errors
    /// When it does not say.
    pub fn room(&self) -> Result<Room, StoreError> {
        self.disk()?.room()
    }

    /// The file system, to write to; to be asked for before anything is written that is to be synced.
    pub(crate) fn writing(&self) -> Result<&Disk, StoreError> {
        if self.read_only {
            let source = std::io::ErrorKind::PermissionDenied.into();
            return Err(StoreError::Io { what: "write to", path: self.root.clone(), source });
        }
        self.disk()
    }

    pub(crate) fn disk(&self) -> Result<&Disk, StoreError> {
        if let Some(disk) = self.disk.get() {
            return Ok(disk);
        }
        let disk = Disk::open(&self.root)?;
        Ok(self.disk.get_or_init(|| disk))
    }

    /// The stat index of this host.
    #[must_use]
    pub fn stat_index(&self) -> StatIndex {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        StatIndex::open(&self.root.join("index").join(format!("{}.stat", Digest::of(host.trim().as_bytes()).short())))
    }

    /// Where run logs lie.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    pub(crate) fn pending(&self) -> MutexGuard<'_, Pending> {
        lock(&self.pending)
    }

    pub(crate) fn object_path(&self, digest: &Digest) -> PathBuf {
        fan_out(&self.root.join("objects"), &digest.to_string())
    }

    pub(crate) fn action_path(&self, key: &Key) -> PathBuf {
        fan_out(&self.root.join("actions"), &key.to_string())
    }

    pub(crate) fn checkpoint_directory(&self, key: &Key) -> PathBuf {
        self.root.join("checkpoints").join(key.to_string())
    }

    /// Stops remembering where packed objects lie that the published indexes know by now.
    pub(crate) fn release(&self, packed: &[pack::Entry]) {
        let mut pending = self.pending();
        for entry in packed.iter().filter(|entry| self.packs.find(&entry.digest).is_some()) {
            pending.release(&entry.digest);
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.pending().remove_unpublished();
        owner::remove(&self.own);
    }
}

/// Whether there is a store of this format.
fn holds_store(root: &Path) -> bool {
    fs::read_to_string(root.join("format")).is_ok_and(|text| text.trim() == FORMAT)
}

/// Makes the directories of a store, or checks that there is one of this format, and removes what dead processes left.
fn prepare(root: &Path) -> Result<(), StoreError> {
    let is_new = match fs::read_to_string(root.join("format")) {
        Ok(text) if text.trim() == FORMAT => false,
        Ok(text) => {
            let found = text.trim().to_owned();
            return Err(StoreError::Format { path: root.to_owned(), found, wanted: FORMAT });
        }
        Err(_) => {
            directory::make(root)?;
            true
        }
    };
    for directory in DIRECTORIES {
        directory::make(&root.join(directory))?;
    }
    if is_new {
        begin(root)?;
    }
    owner::sweep(&root.join("tmp"))
}

/// Makes a store of what are empty directories, durable before anything is stored in it. Another process may do so at the same time.
fn begin(root: &Path) -> Result<(), StoreError> {
    reserve::keep(root);
    let format = root.join("format");
    let aside = root.join("tmp").join(owner::unique_name());
    fs::write(&aside, format!("{FORMAT}\n")).context("write", &aside)?;
    fs::rename(&aside, &format).context("create", &format)?;
    fs::write(root.join(".gitignore"), "*\n").context("write", root)?;
    Disk::open(root)?.sync([format.as_path(), root, root.parent().unwrap_or(root)])
}

/// `ab/cdef…` below a directory: at most 256 entries each on the first level.
fn fan_out(directory: &Path, name: &str) -> PathBuf {
    directory.join(&name[..2]).join(&name[2..])
}

/// The bytes of a record, and when it was last used.
fn read_record(path: &Path) -> std::io::Result<(Vec<u8>, SystemTime)> {
    let mut file = fs::File::open(path)?;
    let meta = file.metadata()?;
    let mut bytes = vec![0; usize::try_from(meta.len()).map_err(std::io::Error::other)?];
    file.read_exact(&mut bytes)?;
    Ok((bytes, meta.modified()?))
}

/// JSON, a line break, its BLAKE3.
pub(crate) fn encode_record<T: serde::Serialize>(record: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(record).expect("plain data becomes JSON");
    bytes.push(b'\n');
    let check = Digest::of(&bytes).to_string();
    bytes.extend_from_slice(check.as_bytes());
    bytes.push(b'\n');
    bytes
}

pub(crate) fn decode_record<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let body = bytes.len().checked_sub(65)?;
    let (json, check) = bytes.split_at(body);
    (Digest::of(json).to_string().as_bytes() == &check[..64]).then(|| serde_json::from_slice(json).ok())?
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
