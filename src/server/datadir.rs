//! The data directory: its lock, its manifest, and the directories of its shards' logs.
//!
//! ```text
//! DIR/LOCK       locked (flock) while a process serves or reads it; holds that process's id
//! DIR/MANIFEST   JSON: format, state, and the log id of each shard
//! DIR/shard-000/ the log of shard 0
//! DIR/shards.new/                  the shards of another number of them, in the making
//! DIR/replaced-0123456789abcdef/   the shards that they replaced, by the first one's log id
//! ```
//!
//! The manifest is written twice at creation, `creating` before the logs and `ready` behind
//! them, so that a creation that was cut short is told from a log that went missing. Where the
//! number of shards changes it goes by `moving`: from that rename on the new shards count, and
//! whoever opens the directory finishes what moving them into place was cut short. It names the
//! replaced shards until a server has done with them what its settings say.

mod error;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::error::BACKUP_LIST;
pub use self::error::{BACKUP_UNFINISHED, CUT_NOTE, DataDirError, RESTORE_UNFINISHED};
use super::restore::random;
use crate::model::ShardIndex;
use crate::runtime::file::{create_dir, create_private_dir};

/// The layout of the directory, as this version writes it.
const FORMAT: u32 = 1;

/// How often the lock is tried, and the pause behind each attempt.
const LOCK_ATTEMPTS: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// What may lie in a directory that is about to become a data directory.
const IGNORED_NAMES: [&str; 4] = ["LOCK", "MANIFEST.tmp", "lost+found", ".gitignore"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ManifestState {
    Creating,
    Moving,
    Ready,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    state: ManifestState,
    /// Log ids in hexadecimal, one for each shard.
    logs: Vec<String>,
    /// The log ids that they replaced, until it is settled what becomes of those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replaced: Vec<String>,
}

impl Manifest {
    fn new(state: ManifestState, log_ids: &[u64]) -> Self {
        Self { format: FORMAT, state, logs: hex(log_ids), replaced: Vec::new() }
    }
}

fn hex(log_ids: &[u64]) -> Vec<String> {
    log_ids.iter().map(|id| format!("{id:016x}")).collect()
}

/// What lies at the path of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing yet, or an empty directory.
    Nothing,
    /// A data directory, perhaps one whose creation was cut short.
    DataDir {
        /// How many shards it has.
        shards: NonZeroU16,
    },
    /// A data directory, or one that is being made, that another process has.
    InUse {
        /// That process, where it said so.
        owner: Option<u32>,
    },
}

/// Looks at the path of a data directory and changes nothing. The lock is tried for a moment.
pub fn inspect(path: &Path) -> Result<Found, DataDirError> {
    refuse_file(path)?;
    if !path.exists() {
        return Ok(Found::Nothing);
    }
    if let Ok(mut lock) = File::open(path.join("LOCK"))
        && matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock))
    {
        return Ok(Found::InUse { owner: owner(&mut lock) });
    }
    match read_manifest(path)? {
        None => refuse_foreign(path).map(|()| Found::Nothing),
        Some(manifest) => {
            let shards = u16::try_from(manifest.logs.len()).ok().and_then(NonZeroU16::new);
            let shards = shards.ok_or_else(|| bad_manifest(path, &"it names no log"))?;
            Ok(Found::DataDir { shards })
        }
    }
}

/// The log id and the directory of each shard, as the manifest says: for tools that only read, and
/// that take no lock. A shard whose move into place was cut short is found where it still lies.
/// `None` where there is no manifest.
pub fn logs(path: &Path) -> Result<Option<Vec<(u64, PathBuf)>>, DataDirError> {
    let Some(manifest) = read_manifest(path)? else { return Ok(None) };
    refuse_unmade(path, &manifest)?;
    let new = path.join(NEW_SHARDS);
    let is_moving = manifest.state == ManifestState::Moving;
    let place = |(shard, id)| {
        let unmoved = shard_directory(&new, ShardIndex(shard));
        let is_unmoved = is_moving && unmoved.exists();
        (id, if is_unmoved { unmoved } else { shard_directory(path, ShardIndex(shard)) })
    };
    Ok(Some((0..).zip(parse_log_ids(path, &manifest)?).map(place).collect()))
}

/// Makes a data directory of logs that lie there already, durably: the last step of a restore.
pub fn adopt(path: &Path, log_ids: &[u64]) -> Result<(), DataDirError> {
    write_manifest(path, &Manifest::new(ManifestState::Ready, log_ids))
}

/// Whether a process has the directory. The lock is tried for a moment.
#[must_use]
pub fn is_in_use(path: &Path) -> bool {
    let lock = File::open(path.join("LOCK"));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
}

/// An open, locked data directory.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    log_ids: Vec<u64>,
    /// What the manifest says was replaced.
    replaced: Vec<String>,
    /// Open as long as this lives, and so is the lock.
    #[expect(dead_code, reason = "held, not read")]
    lock: File,
}

impl DataDir {
    /// Opens a data directory, making it where there is none.
    ///
    /// `make_log` makes the empty log of one shard: its directory exists, and the log is
    /// durable when it returns. A new directory gets `shards` of them; one that is there keeps
    /// its own number.
    pub fn open_or_create(
        path: &Path,
        shards: NonZeroU16,
        mut make_log: impl FnMut(&NewLog<'_>) -> io::Result<()>,
    ) -> Result<Self, DataDirError> {
        // Those of the socket in it may be in the server's group; the logs are the server's alone,
        // for they name accounts and payments.
        create_dir(path, 0o750).map_err(failed(path, "create the directory"))?;
        // Absolute from here on: not every library opens relative paths.
        let path = &path.canonicalize().map_err(failed(path, "find the directory"))?;
        let lock = lock(path)?;
        if let Some(manifest) = read_manifest(path)? {
            if manifest.state == ManifestState::Ready {
                abandon_new_shards(path)?;
            }
            if manifest.state != ManifestState::Creating {
                return Self::from_manifest(path, manifest, lock)?.with_all_shards();
            }
            remove_logs(path)?;
        } else {
            refuse_foreign(path)?;
        }
        let log_ids = new_log_ids(path, shards)?;
        let mut manifest = Manifest::new(ManifestState::Creating, &log_ids);
        write_manifest(path, &manifest)?;
        for (shard, log_id) in log_ids.iter().enumerate() {
            let shard = ShardIndex(shard as u16);
            let directory = shard_directory(path, shard);
            create_private_dir(&directory).map_err(failed(&directory, "create the directory"))?;
            make_log(&NewLog { directory: &directory, shard, shards, log_id: *log_id })
                .map_err(failed(&directory, "create a log"))?;
        }
        manifest.state = ManifestState::Ready;
        write_manifest(path, &manifest)?;
        Ok(Self { path: path.into(), log_ids, replaced: Vec::new(), lock })
    }

    /// Opens an existing data directory, for tools.
    pub fn open_existing(path: &Path) -> Result<Self, DataDirError> {
        refuse_file(path)?;
        let name = path.join("MANIFEST");
        if fs::exists(&name).map_err(failed(&name, "look at it"))? {
            return Self::locked(path);
        }
        match refuse_foreign(path) {
            // The name is right, and what is missing can be made again.
            Err(error @ DataDirError::NotOurs { .. }) if error.is_of_ours() => Err(error),
            _ => Err(DataDirError::Absent { path: path.into() }),
        }
    }

    fn locked(path: &Path) -> Result<Self, DataDirError> {
        let lock = lock(path)?;
        let manifest = read_manifest(path)?.ok_or(DataDirError::Absent { path: path.into() })?;
        refuse_unmade(path, &manifest)?;
        Self::from_manifest(path, manifest, lock)
    }

    fn from_manifest(
        path: &Path,
        mut manifest: Manifest,
        lock: File,
    ) -> Result<Self, DataDirError> {
        if manifest.state == ManifestState::Moving {
            move_into_place(path, &mut manifest)?;
        }
        let log_ids = parse_log_ids(path, &manifest)?;
        Ok(Self { path: path.into(), log_ids, replaced: manifest.replaced, lock })
    }

    /// A server never takes a shard that is gone for one that is new.
    fn with_all_shards(self) -> Result<Self, DataDirError> {
        let shards = (0..self.shards().get()).map(ShardIndex);
        let mut directories = shards.map(|shard| self.shard_directory(shard));
        match directories.find(|directory| !directory.is_dir()) {
            Some(path) => Err(DataDirError::MissingShard { path }),
            None => Ok(self),
        }
    }

    /// Makes the directories for another number of shards, and throws away what was begun of them
    /// before.
    pub fn begin_new_shards(&self, shards: NonZeroU16) -> Result<NewShards, DataDirError> {
        let new = self.path.join(NEW_SHARDS);
        abandon_new_shards(&self.path)?;
        let log_ids = new_log_ids(&self.path, shards)?;
        let shards = (0..shards.get()).map(ShardIndex);
        let directories: Vec<_> = shards.map(|shard| shard_directory(&new, shard)).collect();
        for directory in &directories {
            create_private_dir(directory).map_err(failed(directory, "create the directory"))?;
        }
        Ok(NewShards { log_ids, directories })
    }

    /// Throws away new shards that could not be made. What stays is thrown away the next time.
    pub fn abandon_new_shards(&self) {
        let _ = abandon_new_shards(&self.path);
    }

    /// Puts new shards, which are complete and durable, in the place of the old ones, which are
    /// then [`Self::replaced`].
    pub fn switch_to(&mut self, new: &NewShards) -> Result<(), DataDirError> {
        let path = self.path.clone();
        let directory = path.join(NEW_SHARDS);
        for synced in [&directory, &path] {
            sync_dir(synced).map_err(failed(synced, "sync it"))?;
        }
        let mut manifest = Manifest::new(ManifestState::Moving, &new.log_ids);
        manifest.replaced = hex(&self.log_ids);
        write_manifest(&path, &manifest)?;
        move_into_place(&path, &mut manifest)?;
        self.log_ids.clone_from(&new.log_ids);
        self.replaced = manifest.replaced;
        Ok(())
    }

    /// The directory of the shards that were replaced, until it is settled what becomes of them.
    #[must_use]
    pub fn replaced(&self) -> Option<PathBuf> {
        self.replaced.first().map(|first| replaced_directory(&self.path, first))
    }

    /// The replaced shards are where they shall be, or gone.
    pub fn settle_replaced(&mut self) -> Result<(), DataDirError> {
        self.replaced.clear();
        write_manifest(&self.path, &Manifest::new(ManifestState::Ready, &self.log_ids))
    }

    /// How many shards it has.
    #[must_use]
    pub fn shards(&self) -> NonZeroU16 {
        let count = u16::try_from(self.log_ids.len()).expect("the manifest was written by us");
        NonZeroU16::new(count).expect("a manifest names at least one log")
    }

    /// The id of a shard's log.
    #[must_use]
    pub fn log_id(&self, shard: ShardIndex) -> u64 {
        self.log_ids[usize::from(shard.0)]
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of a shard's log.
    #[must_use]
    pub fn shard_directory(&self, shard: ShardIndex) -> PathBuf {
        shard_directory(&self.path, shard)
    }
}

/// A tool has nothing to do with what only the next start makes.
fn refuse_unmade(path: &Path, manifest: &Manifest) -> Result<(), DataDirError> {
    match manifest.state {
        ManifestState::Creating => Err(DataDirError::Unmade { path: path.into() }),
        ManifestState::Moving | ManifestState::Ready => Ok(()),
    }
}

fn parse_log_ids(path: &Path, manifest: &Manifest) -> Result<Vec<u64>, DataDirError> {
    let ids = manifest.logs.iter().map(|id| u64::from_str_radix(id, 16));
    let ids = ids.collect::<Result<Vec<_>, _>>().map_err(|error| bad_manifest(path, &error))?;
    if ids.is_empty() { Err(bad_manifest(path, &"it names no log")) } else { Ok(ids) }
}

/// The shards of another number of them, in the making.
#[derive(Clone, Debug)]
pub struct NewShards {
    /// The ids of their logs.
    pub log_ids: Vec<u64>,
    /// Their directories, which are empty.
    pub directories: Vec<PathBuf>,
}

/// A log to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewLog<'a> {
    /// Where.
    pub directory: &'a Path,
    /// For which shard.
    pub shard: ShardIndex,
    /// Of how many.
    pub shards: NonZeroU16,
    /// Its id.
    pub log_id: u64,
}

/// Where the shards of another number of them are made.
const NEW_SHARDS: &str = "shards.new";

/// Where the shards go that new ones replace.
fn replaced_directory(path: &Path, first_log_id: &str) -> PathBuf {
    path.join(format!("replaced-{first_log_id}"))
}

/// Moves the old shards out of the way and the new ones into their place. Every step that was done
/// already is passed over, so that this can be cut short and begun again.
fn move_into_place(path: &Path, manifest: &mut Manifest) -> Result<(), DataDirError> {
    let Some(first) = manifest.replaced.first() else {
        return Err(bad_manifest(path, &"it says that shards are moved, and not which"));
    };
    let (new, old) = (path.join(NEW_SHARDS), replaced_directory(path, first));
    create_private_dir(&old).map_err(failed(&old, "create the directory"))?;
    for shard in (0..manifest.replaced.len() as u16).map(ShardIndex) {
        let (from, to) = (shard_directory(path, shard), shard_directory(&old, shard));
        if !to.exists() {
            fs::rename(&from, &to).map_err(failed(&from, "move it"))?;
        }
    }
    // The old shards are a data directory of their own.
    let state = ManifestState::Ready;
    let logs = manifest.replaced.clone();
    write_manifest(&old, &Manifest { format: FORMAT, state, logs, replaced: Vec::new() })?;
    for shard in (0..manifest.logs.len() as u16).map(ShardIndex) {
        let (from, to) = (shard_directory(&new, shard), shard_directory(path, shard));
        if from.exists() {
            fs::rename(&from, &to).map_err(failed(&from, "move it"))?;
        }
    }
    sync_dir(path).map_err(failed(path, "sync it"))?;
    if new.exists() {
        fs::remove_dir(&new).map_err(failed(&new, "remove it"))?;
    }
    manifest.state = ManifestState::Ready;
    write_manifest(path, manifest)
}

/// Throws away new shards that never counted.
fn abandon_new_shards(path: &Path) -> Result<(), DataDirError> {
    let new = path.join(NEW_SHARDS);
    match fs::remove_dir_all(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed(&new, "remove it")(error))
        }
        _ => Ok(()),
    }
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn shard_directory(path: &Path, shard: ShardIndex) -> PathBuf {
    path.join(format!("shard-{:03}", shard.0))
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> DataDirError {
    let path = path.to_owned();
    move |source| DataDirError::Io { path, action, source }
}

fn bad_manifest(path: &Path, reason: &dyn std::fmt::Display) -> DataDirError {
    DataDirError::BadManifest { path: path.join("MANIFEST"), reason: reason.to_string() }
}

fn lock(path: &Path) -> Result<File, DataDirError> {
    let name = path.join("LOCK");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&name)
        .map_err(failed(&name, "open the lock"))?;
    for attempt in 1.. {
        match file.try_lock() {
            Ok(()) => break,
            // A tool that only looks whether the lock is free has it for a moment.
            Err(fs::TryLockError::WouldBlock) if attempt < LOCK_ATTEMPTS => sleep(LOCK_PAUSE),
            Err(fs::TryLockError::WouldBlock) => {
                return Err(DataDirError::InUse { path: path.into(), owner: owner(&mut file) });
            }
            Err(fs::TryLockError::Error(source)) => return Err(failed(&name, "lock it")(source)),
        }
    }
    // Over what is there and never longer: a disk that is full has room for it.
    let written = file.rewind().and_then(|()| writeln!(file, "{:<10}", std::process::id()));
    written.map_err(failed(&name, "write the lock"))?;
    Ok(file)
}

/// The process that wrote its id into the lock.
fn owner(lock: &mut File) -> Option<u32> {
    let mut owner = String::new();
    lock.read_to_string(&mut owner).ok()?;
    owner.trim().parse().ok()
}

fn read_manifest(path: &Path) -> Result<Option<Manifest>, DataDirError> {
    let name = path.join("MANIFEST");
    let text = match fs::read_to_string(&name) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(bad_manifest(path, &"it is not text"));
        }
        Err(error) => return Err(failed(&name, "read it")(error)),
    };
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| bad_manifest(path, &error))?;
    let format = json.get("format").and_then(serde_json::Value::as_u64);
    match format {
        Some(format) if format > u64::from(FORMAT) => {
            Err(DataDirError::NewerFormat { path: name, format })
        }
        Some(_) => {
            serde_json::from_value(json).map(Some).map_err(|error| bad_manifest(path, &error))
        }
        None => Err(bad_manifest(path, &"it has no format")),
    }
}

/// Replaces the manifest in one step, durably.
fn write_manifest(path: &Path, manifest: &Manifest) -> Result<(), DataDirError> {
    let name = path.join("MANIFEST");
    let new = path.join("MANIFEST.tmp");
    let text = serde_json::to_string_pretty(manifest).expect("a manifest is plain data");
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        fs::rename(&new, &name)?;
        sync_dir(path)
    };
    write().map_err(failed(&name, "write it"))
}

/// Removes what a creation left that was cut short.
fn remove_logs(path: &Path) -> Result<(), DataDirError> {
    for entry in fs::read_dir(path).map_err(failed(path, "list it"))? {
        let entry = entry.map_err(failed(path, "list it"))?;
        if entry.file_name().to_string_lossy().starts_with("shard-") {
            fs::remove_dir_all(entry.path()).map_err(failed(&entry.path(), "remove it"))?;
        }
    }
    Ok(())
}

/// Refuses a path on which a file lies, there or on the way.
fn refuse_file(path: &Path) -> Result<(), DataDirError> {
    let there = path.ancestors().find_map(|at| Some((at, fs::metadata(at).ok()?)));
    match there {
        Some((at, found)) if !found.is_dir() => {
            Err(DataDirError::NotADirectory { path: at.into() })
        }
        _ => Ok(()),
    }
}

fn refuse_foreign(path: &Path) -> Result<(), DataDirError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(failed(path, "list it"))? {
        let entry = entry.map_err(failed(path, "list it"))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| !IGNORED_NAMES.contains(&name.as_str()));
    // What says most of the directory, first.
    let rank = |name: &String| match name.as_str() {
        BACKUP_LIST | BACKUP_UNFINISHED | RESTORE_UNFINISHED | CUT_NOTE => 0,
        shard if shard.starts_with("shard-") => 1,
        _ => 2,
    };
    match names.into_iter().min_by_key(rank) {
        Some(found) => Err(DataDirError::NotOurs { path: path.into(), found }),
        None => Ok(()),
    }
}

/// New log ids.
pub fn new_log_ids(path: &Path, count: NonZeroU16) -> Result<Vec<u64>, DataDirError> {
    let ids = (0..count.get()).map(|_| random().map(u64::from_le_bytes));
    ids.collect::<io::Result<_>>().map_err(failed(path, "draw a log id from /dev/urandom"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NonZeroU16 = NonZeroU16::MIN;

    const TWO: NonZeroU16 = NonZeroU16::new(2).unwrap();

    fn open(path: &Path, shards: NonZeroU16) -> Result<DataDir, DataDirError> {
        DataDir::open_or_create(path, shards, |log| {
            fs::write(log.directory.join("log"), log.log_id.to_le_bytes())
        })
    }

    #[test]
    fn it_is_made_once_and_opened_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("new");
        let made = open(&path, TWO).expect("it is made");
        let ids = made.log_ids.clone();
        assert!(matches!(open(&path, ONE), Err(DataDirError::InUse { owner: Some(_), .. })));
        assert!(matches!(inspect(&path), Ok(Found::InUse { owner: Some(_) })));
        drop(made);
        assert_eq!(inspect(&path).expect("it is ours"), Found::DataDir { shards: TWO });
        let opened = open(&path, ONE).expect("it opens");
        assert_eq!((opened.shards().get(), &opened.log_ids), (2, &ids));
    }

    #[test]
    fn a_creation_that_was_cut_short_is_done_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let cut = DataDir::open_or_create(directory.path(), ONE, |_| {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert!(matches!(cut, Err(DataDirError::Io { .. })));
        assert!(matches!(logs(directory.path()), Err(DataDirError::Unmade { .. })));
        let tool = DataDir::open_existing(directory.path());
        assert!(matches!(tool, Err(DataDirError::Unmade { .. })));
        open(directory.path(), ONE).expect("it is made now");
        assert!(directory.path().join("shard-000/log").exists());
    }

    /// The directories of shards with the log ids in them, wherever they lie.
    fn ids(path: &Path, shards: u16) -> Vec<u64> {
        let logs = (0..shards).map(|shard| shard_directory(path, ShardIndex(shard)).join("log"));
        let ids = logs.map(|log| fs::read(log).expect("a log").try_into().expect("eight bytes"));
        ids.map(u64::from_le_bytes).collect()
    }

    /// A directory that was left by a crash: of one shard, about to have two.
    fn begun(path: &Path) -> (Vec<u64>, NewShards) {
        let made = open(path, ONE).expect("it is made");
        let new = made.begin_new_shards(TWO).expect("they are begun");
        for (id, directory) in new.log_ids.iter().zip(&new.directories) {
            fs::write(directory.join("log"), id.to_le_bytes()).expect("it writes");
        }
        (made.log_ids.clone(), new)
    }

    #[test]
    fn new_shards_replace_the_old_ones_in_one_step() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let (old, _) = begun(path);
        // Until the manifest says so, nothing has changed.
        let opened = open(path, ONE).expect("it opens");
        assert_eq!((&opened.log_ids, ids(path, 1)), (&old, old.clone()));
        assert!(!path.join(NEW_SHARDS).exists(), "what was begun is thrown away");
        drop(opened);
        fs::remove_dir_all(path).expect("it is removed");
        let (old, new) = begun(path);
        let mut opened = DataDir::open_existing(path).expect("it opens");
        opened.switch_to(&new).expect("they are switched");
        let replaced = opened.replaced().expect("they are still there");
        assert_eq!((&opened.log_ids, ids(path, 2)), (&new.log_ids, new.log_ids.clone()));
        drop(opened);
        let mut opened = open(path, ONE).expect("it opens");
        assert_eq!((&opened.log_ids, opened.replaced()), (&new.log_ids, Some(replaced.clone())));
        opened.settle_replaced().expect("it is settled");
        drop(opened);
        let opened = open(path, ONE).expect("it opens");
        assert_eq!((&opened.log_ids, opened.replaced()), (&new.log_ids, None));
        assert_eq!(open(&replaced, ONE).expect("it is a directory too").log_ids, old);
        assert!(!path.join(NEW_SHARDS).exists());
    }

    #[test]
    fn a_move_that_was_cut_short_anywhere_is_finished() {
        for done in 0..5 {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path();
            let (old, new) = begun(path);
            let mut manifest = Manifest::new(ManifestState::Moving, &new.log_ids);
            manifest.replaced = hex(&old);
            write_manifest(path, &manifest).expect("it writes");
            let replaced = replaced_directory(path, &manifest.replaced[0]);
            let steps: [&dyn Fn() -> io::Result<()>; 4] = [
                &|| fs::create_dir(&replaced),
                &|| fs::rename(path.join("shard-000"), replaced.join("shard-000")),
                &|| fs::rename(path.join("shards.new/shard-000"), path.join("shard-000")),
                &|| fs::rename(path.join("shards.new/shard-001"), path.join("shard-001")),
            ];
            for step in &steps[..done] {
                step().expect("as moving does it");
            }
            // Who only looks sees the new shards already, wherever they lie.
            let seen = logs(path).expect("it is ours").expect("there is a manifest");
            for (id, directory) in seen {
                let lies = fs::read(directory.join("log")).expect("a log");
                assert_eq!(lies, id.to_le_bytes(), "{done} steps were done");
            }
            let opened = DataDir::open_existing(path).expect("it is finished");
            assert_eq!((&opened.log_ids, ids(path, 2)), (&new.log_ids, new.log_ids.clone()));
            assert_eq!(opened.replaced().as_ref(), Some(&replaced));
            assert_eq!(open(&replaced, ONE).expect("it is a directory too").log_ids, old);
        }
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("precious"), "x").expect("it writes");
        assert!(matches!(open(directory.path(), ONE), Err(DataDirError::NotOurs { .. })));
        assert!(matches!(inspect(directory.path()), Err(DataDirError::NotOurs { .. })));
        assert!(matches!(inspect(&directory.path().join("new")), Ok(Found::Nothing)));
        assert!(!directory.path().join("MANIFEST").exists());
    }

    #[test]
    fn newer_and_broken_manifests_are_told_apart() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("MANIFEST"), r#"{"format": 2}"#).expect("it writes");
        let newer = open(directory.path(), ONE);
        assert!(matches!(newer, Err(DataDirError::NewerFormat { format: 2, .. })));
        for broken in [&b"nonsense"[..], b"\xff\xfe\x00\x9c"] {
            fs::write(directory.path().join("MANIFEST"), broken).expect("it writes");
            let opened = open(directory.path(), ONE);
            assert!(matches!(opened, Err(DataDirError::BadManifest { .. })), "{opened:?}");
        }
    }

    #[test]
    fn a_file_is_told_from_a_directory() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("file");
        fs::write(&file, "x").expect("it writes");
        for path in [file.clone(), file.join("below/it")] {
            for refused in [inspect(&path).err(), DataDir::open_existing(&path).err()] {
                let Some(DataDirError::NotADirectory { path }) = refused else {
                    panic!("{refused:?}");
                };
                assert_eq!(path, file);
            }
        }
    }
}
