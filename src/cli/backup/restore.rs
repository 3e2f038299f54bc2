//! `boxoffice restore`: makes a data directory of a backup, whole or up to a point.
//!
//! A restored log has a new id: it goes on otherwise than the original did, and neither its
//! segments nor its backups may be taken for those of the original.
//!
//! Until all is durable there is no MANIFEST, but a marker, so that no server starts on half of it.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::exit::ExitCode;
use super::super::moment::Moment;
use super::super::wal::grounds::Snapshot;
use super::super::wal::logs::refused;
use super::super::{Failed, print, wal};
use super::check::{Backup, Checked};
use super::manifest::ShardEntry;
use super::{is_inside, system};
use crate::audit::audit;
use crate::model::{Lsn, ShardIndex, TimeMs};
use crate::runtime::file::{close_to_others, create_private_dir};
use crate::server::datadir::{RESTORE_UNFINISHED, adopt, new_log_ids};
use crate::wal::snapshot::{
    SnapshotError, SnapshotHeader, SnapshotWriter, open_snapshot, snapshot_path,
};
use crate::wal::{Identity, LogId, Segment, Until, WalError, restamp, segment_path, shard_dir};

/// What lies in a directory that is being restored.
const MARKER: &str = RESTORE_UNFINISHED;

const ZEROS: &[u8] = &[0; 1 << 20];

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The backup.
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,
    /// The data directory to make: a new or an empty one.
    #[arg(long, value_name = "DATA_DIR", required_unless_present = "verify")]
    to: Option<PathBuf>,
    /// Audit what was restored. Without --to, only check the backup, and write nothing.
    #[arg(long)]
    verify: bool,
    /// The last record of a shard to restore; may be given for several shards.
    #[arg(long, value_name = "SHARD:LSN", value_parser = parse_point, conflicts_with = "to_time")]
    to_lsn: Vec<(u16, Lsn)>,
    /// Restore what was decided up to this time: RFC 3339 in UTC, or milliseconds since the Unix
    /// epoch.
    #[arg(long, value_name = "TIME")]
    to_time: Option<Moment>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn parse_point(text: &str) -> Result<(u16, Lsn), String> {
    let parts = text.split_once(':');
    let parsed = parts.and_then(|(shard, lsn)| Some((shard.parse().ok()?, lsn.parse().ok()?)));
    let (shard, lsn) = parsed.ok_or("a point is written as SHARD:LSN, as in 0:4711")?;
    Ok((shard, Lsn(lsn)))
}

#[derive(Debug, Serialize)]
struct Facts {
    backup: PathBuf,
    made_at_ms: Moment,
    /// Absent where the backup was only checked.
    data_dir: Option<PathBuf>,
    shards: Vec<ShardFacts>,
}

#[derive(Debug, Serialize)]
struct ShardFacts {
    shard: u16,
    /// The last record, and when it was decided.
    last_lsn: u64,
    last_time_ms: Option<Moment>,
    /// Records of the backup behind that one, which were left out.
    left_out: u64,
    /// The earliest LSN that a restore can end with.
    earliest_lsn: u64,
}

pub(in crate::cli) fn run(args: &Args) -> Result<(), Failed> {
    close_to_others();
    let backup = Backup::open(&args.backup)?;
    refuse_inside(args)?;
    let entries = &backup.manifest.shards;
    let mut checked = Vec::new();
    for entry in entries {
        checked.push(Checked::read(&args.backup, entry)?);
    }
    let untils = points(args, entries, &checked)?;
    let made_at_ms = Moment(TimeMs(backup.manifest.made_at_ms));
    let mut facts = Facts {
        backup: args.backup.clone(),
        made_at_ms,
        data_dir: args.to.clone(),
        shards: Vec::new(),
    };
    if let Some(to) = &args.to {
        let target = Target::prepare(to)?;
        let restored = restore(&target, &checked, &untils).and_then(|(shards, ids)| {
            if args.verify {
                judge(to)?;
            }
            target.finish(&ids).map(|()| shards)
        });
        facts.shards = restored.inspect_err(|_| target.remove())?;
    } else {
        judge(&args.backup)?;
        facts.shards = checked
            .iter()
            .zip(entries)
            .map(|(checked, entry)| ShardFacts {
                shard: entry.shard,
                last_lsn: entry.next_lsn - 1,
                last_time_ms: Some(Moment(checked.recovered.last_time)),
                left_out: 0,
                earliest_lsn: checked.earliest().0,
            })
            .collect();
    }
    print(&facts, args.json)
}

/// What belongs to a backup is for the next run of `backup` to say.
fn refuse_inside(args: &Args) -> Result<(), Failed> {
    let Some(to) = args.to.as_ref().filter(|to| is_inside(to, &args.backup)) else { return Ok(()) };
    let message = format!("--to {} lies inside the backup; name another directory", to.display());
    Err(Failed::new(ExitCode::Configuration, message))
}

/// How far each shard is restored.
fn points(args: &Args, entries: &[ShardEntry], checked: &[Checked]) -> Result<Vec<Until>, Failed> {
    let usage = |message: String| Failed::new(ExitCode::Usage, message);
    let all = args.to_time.map_or(Until::End, |time| Until::Time(time.0));
    let mut untils = vec![all; entries.len()];
    for (shard, lsn) in &args.to_lsn {
        let Some(until) = untils.get_mut(usize::from(*shard)) else {
            return Err(usage(format!("--to-lsn {shard}:{lsn}: the backup has no shard {shard}")));
        };
        let (earliest, last) =
            (checked[usize::from(*shard)].earliest(), entries[usize::from(*shard)].next_lsn - 1);
        if *lsn < earliest || lsn.0 > last {
            return Err(usage(format!(
                "--to-lsn {shard}:{lsn}: the backup can restore shard {shard} to any LSN from \
                 {earliest} to {last}"
            )));
        }
        *until = Until::Lsn(*lsn);
    }
    Ok(untils)
}

/// An independent judgement of what lies in a directory.
fn judge(dir: &Path) -> Result<(), Failed> {
    let report = audit(dir).map_err(|error| Failed::new(ExitCode::Failure, error))?;
    if report.is_clean() {
        return Ok(());
    }
    let message = format!("the audit finds fault with it: {report}").replace('\n', "; ");
    Err(Failed::new(ExitCode::Violation, message))
}

type Restored = (Vec<ShardFacts>, Vec<u64>);

fn restore(target: &Target, checked: &[Checked], untils: &[Until]) -> Result<Restored, Failed> {
    let shards = NonZeroU16::new(checked.len() as u16).expect("a backup has shards");
    let ids = new_log_ids(&target.dir, shards).map_err(|error| refused(&error))?;
    let mut facts = Vec::new();
    for (((shard, checked), until), id) in (0..).map(ShardIndex).zip(checked).zip(untils).zip(&ids)
    {
        let to = Identity { log: LogId(*id), shard, shards };
        facts.push(restore_shard(target, checked, to, *until)?);
    }
    Ok((facts, ids))
}

fn restore_shard(
    target: &Target,
    checked: &Checked,
    to: Identity,
    until: Until,
) -> Result<ShardFacts, Failed> {
    let dir = shard_dir(&target.dir, to.shard);
    create_private_dir(&dir).map_err(|error| target.failed(&error))?;
    let mut files = Files { dir: &dir, open: None };
    let lsns: Vec<Lsn> = checked.headers().map(|header| header.last_lsn).collect();
    let log = checked.log()?;
    let copied = restamp(&log, checked.start, to, until, &lsns, |segment, offset, bytes| {
        files.write(segment, offset, bytes)
    });
    let copied = copied.map_err(|error| match error {
        WalError::Io { doing: "copy the log", source, .. } => target.failed(&source),
        error => wal::failed(&error),
    })?;
    files.close().map_err(|error| target.failed(&error))?;
    let earliest_lsn = checked.earliest().0;
    // What lies before the log that is there cannot be left out, whenever it was.
    let oldest = checked.headers().next().filter(|_| checked.start.is_some());
    let is_too_early =
        oldest.is_some_and(|oldest| matches!(until, Until::Time(time) if oldest.last_time > time));
    if copied.last_lsn.0 < earliest_lsn || is_too_early {
        let since =
            oldest.map_or(String::new(), |oldest| format!(" of {}", Moment(oldest.last_time)));
        let message = format!(
            "shard {}: the backup reaches back to LSN {earliest_lsn}{since} only, and this point \
             is before it; use an older backup",
            to.shard
        );
        return Err(Failed::new(ExitCode::Usage, message));
    }
    for snapshot in &checked.snapshots {
        let Ok(header) = &snapshot.sound else { continue };
        if header.last_lsn <= copied.last_lsn {
            let previous_crc = copied.crcs[&header.last_lsn];
            let header = SnapshotHeader { identity: to, previous_crc, ..*header };
            copy_snapshot(snapshot, &header, &dir).map_err(|error| target.failed(&error))?;
        }
    }
    let synced = File::open(&dir).and_then(|dir| dir.sync_all());
    synced.map_err(|error| target.failed(&error))?;
    Ok(ShardFacts {
        shard: to.shard.0,
        last_lsn: copied.last_lsn.0,
        last_time_ms: Some(Moment(copied.last_time)).filter(|time| time.0 > TimeMs(0)),
        left_out: copied.original.next_lsn.0 - 1 - copied.last_lsn.0,
        earliest_lsn,
    })
}

/// Copies a snapshot under another header.
fn copy_snapshot(snapshot: &Snapshot, header: &SnapshotHeader, dir: &Path) -> io::Result<()> {
    let io = |error| match error {
        SnapshotError::Io(error) => error,
        other => io::Error::other(other),
    };
    let mut reader = open_snapshot(&snapshot.file, |file| file).map_err(io)?;
    let file = File::create(snapshot_path(dir, header.last_lsn))?;
    let mut writer = SnapshotWriter::new(io::BufWriter::with_capacity(1 << 20, file), header)?;
    while let Some(part) = reader.next_part().map_err(io)? {
        writer.part(&part)?;
    }
    let (file, _) = writer.finish()?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// The segments of a shard that is being restored, one after the other.
struct Files<'t> {
    dir: &'t Path,
    open: Option<(Segment, File)>,
}

impl Files<'_> {
    fn write(&mut self, segment: Segment, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.open.as_ref().is_none_or(|(open, _)| open.index != segment.index) {
            self.close()?;
            let file = File::create(segment_path(self.dir, segment.index))?;
            self.open = Some((segment, file));
        }
        let (_, file) = self.open.as_mut().expect("it was opened just now");
        fill_to(file, offset)?;
        file.write_all(bytes)
    }

    fn close(&mut self) -> io::Result<()> {
        let Some((segment, mut file)) = self.open.take() else { return Ok(()) };
        fill_to(&mut file, segment.bytes)?;
        file.sync_all()
    }
}

/// Writes zeros up to `end`: a log writes over zeros, not over holes.
fn fill_to(file: &mut File, end: u64) -> io::Result<()> {
    let mut at = file.seek(SeekFrom::End(0))?;
    while at < end {
        let length = (end - at).min(ZEROS.len() as u64);
        file.write_all(&ZEROS[..length as usize])?;
        at += length;
    }
    Ok(())
}

/// The directory that is being made.
struct Target {
    dir: PathBuf,
    was_there: bool,
}

impl Target {
    /// Takes a directory that is new or empty, or that an interrupted restore left.
    fn prepare(dir: &Path) -> Result<Self, Failed> {
        let was_there = dir.exists();
        let target = Self { dir: dir.to_owned(), was_there };
        let way_out = "name a new directory with --to";
        fs::create_dir_all(dir).map_err(|error| system(dir, "make it", &error, way_out))?;
        let is_left = dir.join(MARKER).exists() && !dir.join("MANIFEST").exists();
        if is_left {
            target.clear();
        }
        let list = fs::read_dir(dir).map_err(|error| system(dir, "list it", &error, way_out))?;
        let names = list.flatten().map(|entry| entry.file_name());
        if let Some(name) = names.into_iter().find(|name| name != "lost+found" && name != "LOCK") {
            let (dir, name) = (dir.display(), name.display());
            let message =
                format!("--to {dir} holds {name}: a restore writes over nothing; {way_out}");
            return Err(Failed::new(ExitCode::Configuration, message));
        }
        let marked = File::create(dir.join(MARKER)).and_then(|marker| marker.sync_all());
        marked.map_err(|error| system(dir, "write to it", &error, way_out))?;
        Ok(target)
    }

    /// Makes a data directory of it, once all in it is durable.
    fn finish(&self, ids: &[u64]) -> Result<(), Failed> {
        adopt(&self.dir, ids).map_err(|error| refused(&error))?;
        let marker = fs::remove_file(self.dir.join(MARKER));
        marker.and_then(|()| File::open(&self.dir)?.sync_all()).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> Failed {
        let way_out = "free some space, or name another --to; nothing was restored";
        system(&self.dir, "restore", error, way_out)
    }

    fn clear(&self) {
        let Ok(list) = fs::read_dir(&self.dir) else { return };
        for entry in list.flatten() {
            if entry.file_name().to_string_lossy().starts_with("shard-") {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        // The marker goes last: it says that what is here may go.
        for name in ["MANIFEST.tmp", MARKER] {
            let _ = fs::remove_file(self.dir.join(name));
        }
    }

    /// Leaves nothing of a restore that failed.
    fn remove(&self) {
        if self.dir.join("MANIFEST").exists() {
            return;
        }
        self.clear();
        if !self.was_there {
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (backup, made_at) = (self.backup.display(), self.made_at_ms);
        writeln!(f, "the backup in {backup}, of {made_at}, is whole")?;
        for shard in &self.shards {
            let ShardFacts { shard, last_lsn, last_time_ms, left_out, earliest_lsn } = shard;
            write!(f, "shard {shard}: up to LSN {last_lsn}")?;
            if let Some(time) = last_time_ms {
                write!(f, " of {time}")?;
            }
            writeln!(f, "; {left_out} records left out; the earliest point is LSN {earliest_lsn}")?;
        }
        let Some(data_dir) = &self.data_dir else { return Ok(()) };
        let dir = data_dir.display();
        write!(
            f,
            "restored into {dir}. What was acknowledged after these points is not in it: its order \
             numbers are given again, and a request of then that is repeated makes a new order. \
             Compare payments first; then boxoffice audit {dir} and \
             boxoffice serve --data-dir {dir}"
        )
    }
}
