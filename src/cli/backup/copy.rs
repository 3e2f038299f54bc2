//! `boxoffice backup`: copies what has come since the last run.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use serde::Serialize;

use super::super::exit::ExitCode;
use super::super::moment::Moment;
use super::super::wal::beside::{ATTEMPTS, REST, beginning, replaced};
use super::super::wal::grounds::{Grounds, Snapshot};
use super::super::wal::logs::{Logs, ShardLog, refused};
use super::super::{Failed, print, wal};
use super::manifest::{Manifest, SegmentEntry, ShardEntry, SnapshotEntry};
use super::{checksum, is_backup, is_inside, system};
use crate::model::TimeMs;
use crate::runtime::file::{close_to_others, create_private_dir};
use crate::runtime::{Clock, SystemClock};
use crate::server::datadir::{BACKUP_UNFINISHED, DataDirError, RESTORE_UNFINISHED};
use crate::wal::snapshot::SnapshotFile;
use crate::wal::{
    Bounded, FileStorage, Identity, LogStart, LogStorage, Recovered, SegmentIndex, recover_from,
    segment_path,
};

const STILL_VALID: &str = "what an earlier run has left there is still valid; free some space or \
                           name another --to, and run this again";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The data directory, also of a running server.
    #[arg(value_name = "DATA_DIR")]
    dir: PathBuf,
    /// Where the backup is: a new directory, or that of the last run, to which only what is new
    /// is copied.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Drop from the backup what the data directory has retired. A restore can then go back no
    /// further than the data directory itself.
    #[arg(long)]
    prune: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Facts {
    backup: PathBuf,
    shards: Vec<ShardFacts>,
}

#[derive(Debug, Default, Serialize)]
struct ShardFacts {
    shard: u16,
    /// The last record in the backup, and when it was decided.
    last_lsn: u64,
    last_time_ms: Option<Moment>,
    copied_files: u64,
    copied_bytes: u64,
    unchanged_files: u64,
    /// Why what is older than its first record is not in the backup, where that is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    older_is_damaged: Option<String>,
    /// What the backup had and could not keep, for what came between was retired before this run.
    dropped_files: u64,
}

pub(in crate::cli) fn run(args: &Args) -> Result<(), Failed> {
    close_to_others();
    let logs = find_logs(&args.dir)?;
    let _lock = prepare(args)?;
    let old = Manifest::read(&args.to)?;
    if old.is_none() {
        mark(&args.to).map_err(|error| system(&args.to, "mark it", &error, STILL_VALID))?;
    }
    refuse_other_logs(args, &logs, old.as_ref())?;
    let mut entries = Vec::new();
    let mut facts = Facts { backup: args.to.clone(), shards: Vec::new() };
    for log in &logs.shards {
        let old = old.as_ref().and_then(|old| old.shards.get(usize::from(log.shard.0)));
        let (entry, shard) = copy_shard_again(args, log, old)?;
        entries.push(entry);
        facts.shards.push(shard);
    }
    let manifest = Manifest::new(SystemClock::new().wall_ms(), entries);
    manifest
        .write(&args.to)
        .and_then(|()| unmark(&args.to))
        .map_err(|error| system(&args.to, "write the list of files", &error, STILL_VALID))?;
    remove_others(&args.to, &manifest);
    print(&facts, args.json)
}

/// Says of a directory, until its list is written, that it is no whole backup.
fn mark(dir: &Path) -> io::Result<()> {
    File::create(dir.join(BACKUP_UNFINISHED))?;
    File::open(dir)?.sync_all()
}

fn unmark(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(BACKUP_UNFINISHED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The logs of the data directory, each known by its id. Where the manifest is gone, they say
/// themselves whose they are.
fn find_logs(dir: &Path) -> Result<Logs, Failed> {
    let mut logs = Logs::find(dir, None)?;
    let shards = logs.shards.len();
    for log in &mut logs.shards {
        if !log.dir.is_dir() {
            let error = DataDirError::MissingShard { path: log.dir.clone() };
            return Err(refused(&error));
        }
        let is_part = [BACKUP_UNFINISHED, RESTORE_UNFINISHED].map(|mark| dir.join(mark).exists());
        if log.identity.is_none() && (is_backup(dir) || is_part.contains(&true)) {
            let dir = dir.display();
            let message = format!("{dir} has no readable MANIFEST: name a data directory");
            return Err(Failed::new(ExitCode::Configuration, message));
        }
        if log.identity.is_none() {
            log.identity = log.own_identity().map_err(|error| wal::failed(&error))?;
        }
        let is_whole =
            |own: Identity| own.shard == log.shard && own.shards.get() as usize == shards;
        if !log.identity.is_some_and(is_whole) {
            let (dir, log) = (dir.display(), log.dir.display());
            let message = format!(
                "{dir} has no readable MANIFEST, and {log} is not the log of one of its {shards} \
                 shards; put the shards that belong together back, or restore a backup"
            );
            return Err(Failed::new(ExitCode::DamagedLog, message));
        }
    }
    Ok(logs)
}

/// Makes and locks the directory of the backup.
fn prepare(args: &Args) -> Result<File, Failed> {
    let into = &args.to;
    let refused = |what: &str| {
        let message = format!("--to {}: {what}", into.display());
        Failed::new(ExitCode::Configuration, message)
    };
    let way_out = "name a directory that can be written";
    if is_inside(into, &args.dir) {
        return Err(refused("lies inside the data directory; name another directory"));
    }
    fs::create_dir_all(into).map_err(|error| system(into, "make it", &error, way_out))?;
    if !into.join("BACKUP.json").exists() {
        let list = fs::read_dir(into).map_err(|error| system(into, "list it", &error, way_out))?;
        for entry in list {
            let entry = entry.map_err(|error| system(into, "list it", &error, way_out))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // What a first run leaves that was interrupted is no reason to refuse the next.
            let made_first = ["LOCK", BACKUP_UNFINISHED, "BACKUP.json.tmp", "lost+found"];
            let is_ours = made_first.contains(&name.as_str())
                || name.starts_with("shard-") && into.join("LOCK").exists();
            if !is_ours {
                let what = format!("holds {name} and no backup; name a new or an empty directory");
                return Err(refused(&what));
            }
        }
    }
    let path = into.join("LOCK");
    let lock = File::create(&path).map_err(|error| system(&path, "make it", &error, way_out))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let message = format!("{} is in use by another run; wait for it", into.display());
            Err(Failed::new(ExitCode::DirectoryInUse, message))
        }
        Err(TryLockError::Error(error)) => Err(system(&path, "lock it", &error, way_out)),
    }
}

fn refuse_other_logs(args: &Args, logs: &Logs, old: Option<&Manifest>) -> Result<(), Failed> {
    let Some(old) = old else { return Ok(()) };
    let theirs = old.shards.iter().map(ShardEntry::log_id);
    let ours = logs.shards.iter().map(|log| log.identity.map(|identity| identity.log.0));
    if theirs.eq(ours) {
        return Ok(());
    }
    let (dir, to) = (args.dir.display(), args.to.display());
    Err(Failed::new(
        ExitCode::ForeignData,
        format_args!(
            "--to {to} is the backup of another directory than {dir} is now (a restore, or \
             another number of shards, makes new logs); name a new directory"
        ),
    ))
}

/// A segment that the server retires while it is being copied is no failure.
fn copy_shard_again(
    args: &Args,
    log: &ShardLog,
    old: Option<&ShardEntry>,
) -> Result<(ShardEntry, ShardFacts), Failed> {
    for attempt in 1..ATTEMPTS {
        let before = beginning(log);
        let copied = copy_shard(args, log, old);
        if copied.is_err() && log.is_replaced(&args.dir) {
            return Err(replaced(&args.dir));
        }
        if copied.is_ok() || beginning(log) == before {
            return copied;
        }
        thread::sleep(REST * attempt);
    }
    copy_shard(args, log, old)
}

/// A log that may be copied.
struct Readable {
    start: Option<LogStart>,
    recovered: Recovered,
    snapshots: Vec<Snapshot>,
    /// Why it does not begin where the log does.
    older_is_damaged: Option<String>,
}

fn copy_shard(
    args: &Args,
    log: &ShardLog,
    old: Option<&ShardEntry>,
) -> Result<(ShardEntry, ShardFacts), Failed> {
    let storage = FileStorage::open_read_only(&log.dir).map_err(|error| wal::failed(&error))?;
    let frozen = Bounded::freeze(&storage).map_err(|error| wal::failed(&error))?;
    let identity = log.identity.expect("whoever calls has checked");
    let readable = read(args, log, &frozen, identity)?;
    let Recovered { end, next_lsn, last_time, .. } = readable.recovered;
    let mut facts = ShardFacts {
        shard: log.shard.0,
        last_lsn: next_lsn.0 - 1,
        last_time_ms: Some(Moment(last_time)).filter(|time| time.0 > TimeMs(0)),
        older_is_damaged: readable.older_is_damaged.clone(),
        ..ShardFacts::default()
    };
    let mut entry = ShardEntry {
        shard: log.shard.0,
        log: identity.log.to_string(),
        next_lsn: next_lsn.0,
        last_time_ms: last_time.0,
        segments: Vec::new(),
        snapshots: Vec::new(),
    };
    let into = entry.dir(&args.to);
    create_private_dir(&into).map_err(|error| system(&into, "make it", &error, STILL_VALID))?;
    // One that is open, as an earlier version made it. Not every file system has modes.
    let _ = fs::set_permissions(&into, Permissions::from_mode(0o700));
    let first = readable.start.map_or(SegmentIndex::FIRST, |start| start.position.segment);
    let segments = frozen.segments().unwrap_or_default().into_iter();
    for segment in segments.filter(|s| (first..=end.segment).contains(&s.index)) {
        let used = if segment.index == end.segment { end.offset } else { segment.bytes };
        let (index, bytes) = (segment.index.0, segment.bytes);
        let known = old.and_then(|old| old.segment(segment.index));
        let wanted = SegmentEntry { index, bytes, used, crc32: 0 };
        entry.segments.push(copy_segment(args, log, known, wanted, &into, &mut facts)?);
    }
    entry.snapshots = copy_snapshots(&readable, old, &into, &mut facts)?;
    if let Some(old) = old {
        keep_retired(args, &mut entry, old, &mut facts)?;
    }
    let synced = File::open(&into).and_then(|dir| dir.sync_all());
    synced
        .and_then(|()| File::open(&args.to)?.sync_all())
        .map_err(|error| system(&into, "sync it", &error, STILL_VALID))?;
    Ok((entry, facts))
}

/// Reads the log to its end: all of it, or, where an old part is damaged, what a server needs.
fn read(
    args: &Args,
    log: &ShardLog,
    frozen: &Bounded<'_, FileStorage>,
    identity: Identity,
) -> Result<Readable, Failed> {
    let Grounds { snapshots, earliest, newest } = Grounds::find(&log.dir, frozen, Some(identity))?;
    let mut start = earliest;
    // What is left of a log whose beginning is gone is nothing without a snapshot.
    if start.is_some() && newest.is_none() {
        start = None;
    }
    let mut recovered = recover_from(frozen, Some(identity), start, |_| ());
    let mut older_is_damaged = None;
    if let Err(error) = &recovered
        && newest.is_some()
        && newest != start
    {
        older_is_damaged = Some(error.to_string());
        start = newest;
        recovered = recover_from(frozen, Some(identity), start, |_| ());
    }
    let recovered = recovered.map_err(|error| {
        let failed = wal::failed(&error);
        let earlier = if is_backup(&args.to) {
            format!(", and the last one in {} is still valid", args.to.display())
        } else {
            String::new()
        };
        let message = format!("{}; no backup is made of a damaged log{earlier}", failed.message);
        Failed::new(failed.code, message)
    })?;
    let is_inside = |snapshot: &Snapshot| {
        let header = snapshot.sound.as_ref().ok();
        header.is_some_and(|header| {
            header.last_lsn < recovered.next_lsn
                && start.is_none_or(|start| header.position >= start.position)
        })
    };
    let snapshots = snapshots.into_iter().filter(is_inside).collect();
    Ok(Readable { start, recovered, snapshots, older_is_damaged })
}

fn copy_segment(
    args: &Args,
    log: &ShardLog,
    known: Option<&SegmentEntry>,
    wanted: SegmentEntry,
    into: &Path,
    facts: &mut ShardFacts,
) -> Result<SegmentEntry, Failed> {
    let source = segment_path(&log.dir, SegmentIndex(wanted.index));
    if let Some(known) = known {
        let prefix = if known.used <= wanted.used {
            checksum(&source, known.used).map_err(|error| copy_failed(&source, &error))?
        } else {
            None
        };
        if prefix != Some(known.crc32) {
            return Err(Failed::new(
                ExitCode::ForeignData,
                format_args!(
                    "{} is not what the backup in {} has of it: its end was cut off since \
                     (`boxoffice wal truncate`); keep that backup and name a new directory",
                    source.display(),
                    args.to.display()
                ),
            ));
        }
    }
    let crc32 = known.filter(|known| known.used == wanted.used).map(|known| known.crc32);
    let copied = copy_file(&source, into, (wanted.used, wanted.bytes), crc32);
    let crc32 = copied.map_err(|error| copy_failed(&source, &error))?;
    facts.count(&crc32, wanted.used);
    Ok(SegmentEntry { crc32: crc32.value(), ..wanted })
}

/// Copies the snapshots, the oldest first. One that the server retired meanwhile is left out, where
/// the backup does not need it.
fn copy_snapshots(
    readable: &Readable,
    old: Option<&ShardEntry>,
    into: &Path,
    facts: &mut ShardFacts,
) -> Result<Vec<SnapshotEntry>, Failed> {
    let mut entries = Vec::new();
    let mut retired = None;
    for SnapshotFile { lsn, path, bytes } in readable.snapshots.iter().map(|known| &known.file) {
        let known = old.and_then(|old| old.snapshots.iter().find(|known| known.lsn == lsn.0));
        match copy_file(path, into, (*bytes, *bytes), known.map(|known| known.crc32)) {
            Ok(copied) => {
                facts.count(&copied, *bytes);
                entries.push(SnapshotEntry { lsn: lsn.0, bytes: *bytes, crc32: copied.value() });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                retired = Some(copy_failed(path, &error));
            }
            Err(error) => return Err(copy_failed(path, &error)),
        }
    }
    if let Some(retired) = retired.filter(|_| readable.start.is_some() && entries.is_empty()) {
        return Err(retired);
    }
    entries.sort_by_key(|entry| entry.lsn);
    Ok(entries)
}

/// What became of a file, and its checksum.
enum Copied {
    Unchanged(u32),
    Copied(u32),
}

impl Copied {
    const fn value(&self) -> u32 {
        match self {
            Self::Unchanged(crc32) | Self::Copied(crc32) => *crc32,
        }
    }
}

impl ShardFacts {
    const fn count(&mut self, copied: &Copied, bytes: u64) {
        match copied {
            Copied::Unchanged(_) => self.unchanged_files += 1,
            Copied::Copied(_) => {
                self.copied_files += 1;
                self.copied_bytes += bytes;
            }
        }
    }
}

/// Copies the first bytes of a file, durably and in one step; the copy has as many bytes as the
/// second number says. Where its checksum is known and its size is right, it is there already.
fn copy_file(
    source: &Path,
    into: &Path,
    (used, bytes): (u64, u64),
    known: Option<u32>,
) -> io::Result<Copied> {
    let name = source.file_name().expect("a file of a log has a name");
    let (to, new) = (into.join(name), into.join(format!("{}.tmp", name.to_string_lossy())));
    if let Some(known) = known
        && fs::metadata(&to).is_ok_and(|meta| meta.len() == bytes)
    {
        return Ok(Copied::Unchanged(known));
    }
    let copy = || {
        let mut from = File::open(source)?.take(used);
        let mut file = File::create(&new)?;
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = from.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            file.write_all(&buffer[..read])?;
        }
        if from.limit() > 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        file.set_len(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &to)?;
        Ok(Copied::Copied(hasher.finalize()))
    };
    copy().inspect_err(|_| {
        // Half a copy may be what fills the disk.
        let _ = fs::remove_file(&new);
    })
}

fn copy_failed(source: &Path, error: &io::Error) -> Failed {
    system(source, "copy it", error, STILL_VALID)
}

/// Keeps what the backup has from before, where nothing is missing between.
fn keep_retired(
    args: &Args,
    entry: &mut ShardEntry,
    old: &ShardEntry,
    facts: &mut ShardFacts,
) -> Result<(), Failed> {
    let first = entry.segments[0].index;
    let older = old.segments.iter().filter(|known| known.index < first);
    let kept: Vec<SegmentEntry> = older.copied().collect();
    let is_joined = kept.last().is_none_or(|last| last.index + 1 == first && last.is_complete());
    let known: HashSet<u64> = entry.snapshots.iter().map(|snapshot| snapshot.lsn).collect();
    let snapshots = old.snapshots.iter().filter(|old| !known.contains(&old.lsn)).copied();
    if is_joined && !args.prune {
        let into = entry.dir(&args.to);
        let segments = kept.iter().map(|segment| (segment.path(&into), segment.bytes));
        let files = segments.chain(snapshots.clone().map(|s| (s.path(&into), s.bytes)));
        refuse_lost(files)?;
        entry.segments.splice(0..0, kept);
        entry.snapshots.extend(snapshots);
        entry.snapshots.sort_by_key(|snapshot| snapshot.lsn);
    } else {
        facts.dropped_files = (kept.len() + snapshots.count()) as u64;
    }
    Ok(())
}

/// Refuses where one of these files, which nobody else has, is gone from the backup or cut short.
fn refuse_lost(mut files: impl Iterator<Item = (PathBuf, u64)>) -> Result<(), Failed> {
    let is_lost = |path: &Path, bytes| !fs::metadata(path).is_ok_and(|meta| meta.len() == bytes);
    let Some((path, _)) = files.find(|(path, bytes)| is_lost(path, *bytes)) else { return Ok(()) };
    let message = format!(
        "{} is missing or cut short, and the data directory has retired it: put it back from \
         where it was archived, or name a new directory; --prune gives up all that was retired",
        path.display()
    );
    Err(Failed::new(ExitCode::DamagedLog, message))
}

/// Removes what no longer belongs to the backup. What cannot be removed does no harm.
fn remove_others(backup: &Path, manifest: &Manifest) {
    let files: HashSet<PathBuf> = manifest.files(backup).into_iter().collect();
    for shard in &manifest.shards {
        let Ok(list) = fs::read_dir(shard.dir(backup)) else { continue };
        for entry in list.flatten().filter(|entry| !files.contains(&entry.path())) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for shard in &self.shards {
            let ShardFacts { shard: number, last_lsn, last_time_ms, .. } = shard;
            write!(f, "shard {number}: up to LSN {last_lsn}")?;
            if let Some(time) = last_time_ms {
                write!(f, " of {time}")?;
            }
            writeln!(f)?;
            if let Some(why) = &shard.older_is_damaged {
                writeln!(
                    f,
                    "WARNING: its older records are not in this backup, from the snapshot on it is \
                     whole: {why}; keep the data directory or an older backup, where those count"
                )?;
            }
        }
        let sum = |of: fn(&ShardFacts) -> u64| self.shards.iter().map(of).sum::<u64>();
        writeln!(
            f,
            "{} files copied ({} bytes), {} unchanged, {} older ones dropped",
            sum(|shard| shard.copied_files),
            sum(|shard| shard.copied_bytes),
            sum(|shard| shard.unchanged_files),
            sum(|shard| shard.dropped_files),
        )?;
        let backup = self.backup.display();
        write!(f, "the backup in {backup} is whole; `boxoffice restore {backup} --verify` reads it")
    }
}
