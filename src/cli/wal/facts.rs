//! The verdict on one log as people and scripts read it, and what to do next.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::Failed;
use super::super::backup::is_backup;
use super::super::moment::Moment;
use super::failed;
use super::grounds::{Grounds, SnapshotFacts};
use super::logs::ShardLog;
use super::loss::Loss;
use crate::model::Lsn;
use crate::wal::{
    Bounded, Entry, FileStorage, LogStart, LogStorage, Recovered, Survey, Surveyed, WalError,
    segment_header, survey,
};

/// What a log is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Verdict {
    /// It ends where its last frame does.
    Clean,
    /// It ends with what an interrupted write left; the next start removes that.
    TornTail,
    /// A server does not start on it.
    Damaged,
}

/// One log.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct ShardFacts {
    pub(super) shard: u16,
    pub(super) verdict: Verdict,
    /// Whether a server starts on it, damaged or not: from a snapshot behind the damage.
    pub(super) serves: bool,
    directory: PathBuf,
    snapshots: Vec<SnapshotFacts>,
    /// What can be relied on, behind the snapshot that a server starts from.
    records: u64,
    frames: u64,
    /// The LSN that the next record would get; absent where nothing can be relied on.
    pub(super) next_lsn: Option<u64>,
    last_time_ms: Option<Moment>,
    torn: Option<Torn>,
    /// What is wrong, and where; the last one is where the log ends.
    damages: Vec<String>,
    /// What lies behind the damage.
    lost: Option<Loss>,
    /// What to do next, in the order of preference.
    pub(super) next: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Torn {
    file: PathBuf,
    offset: u64,
    bytes: u64,
}

/// A log that was looked at.
pub(in crate::cli) struct Examined {
    pub(in crate::cli) facts: ShardFacts,
    /// As a server would read it.
    pub(in crate::cli) chain: Option<Recovered>,
    /// Where a server begins.
    pub(in crate::cli) newest: Option<LogStart>,
}

/// Which records are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Reach {
    /// All that are there.
    All,
    /// Those that a server reads: behind its newest sound snapshot.
    Serving,
}

/// Reads a log as far as it goes, and hands out each record, with whether it is behind damage.
pub(in crate::cli) fn examine(
    data_dir: &Path,
    log: &ShardLog,
    is_in_use: bool,
    reach: Reach,
    mut on_record: impl FnMut(&Entry<'_>, bool),
) -> Result<Examined, Failed> {
    if let Some(what) = no_directory(&log.dir)? {
        let mut facts = absent(data_dir, log, what);
        facts.advise_of_backup(data_dir);
        return Ok(Examined { facts, chain: None, newest: None });
    }
    let storage = FileStorage::open_read_only(&log.dir).map_err(|error| failed(&error))?;
    let frozen = Bounded::freeze(&storage).map_err(|error| failed(&error))?;
    let grounds = Grounds::find(&log.dir, &storage, log.identity)?;
    let first_lsn = grounds.newest.map_or(Lsn(1), |start| start.next_lsn);
    let mut next_lsn = first_lsn;
    let mut loss = None;
    let is_one = grounds.newest == grounds.earliest;
    let serving = survey(&frozen, log.identity, grounds.newest, |part| {
        let (entry, is_beyond) = match part {
            Surveyed::Chain(entry) => {
                next_lsn = entry.lsn.next();
                (entry, false)
            }
            Surveyed::Beyond(entry) => {
                loss.get_or_insert_with(|| Loss::from(next_lsn)).add(&entry);
                (entry, true)
            }
        };
        if is_one || reach == Reach::Serving {
            on_record(&entry, is_beyond);
        }
    });
    let serving = serving.map_err(|error| failed(&error))?;
    let mut damages: Vec<String> = grounds.faults().collect();
    if !is_one {
        let all = survey(&frozen, log.identity, grounds.earliest, |part| {
            if let (Reach::All, Surveyed::Chain(entry)) = (reach, part) {
                on_record(&entry, false);
            } else if let (Reach::All, Surveyed::Beyond(entry)) = (reach, part) {
                on_record(&entry, true);
            }
        });
        damages.extend(all.map_err(|error| failed(&error))?.damages.iter().map(what));
    }
    damages.extend(serving.damages.iter().map(what));
    // One place may be seen by both readings.
    let mut seen = HashSet::new();
    damages.retain(|damage| seen.insert(damage.clone()));
    let mut facts = facts(log, &serving, &storage, is_in_use);
    facts.snapshots = grounds.facts();
    facts.damages = damages;
    if !serving.damages.is_empty() {
        let next_lsn = serving.chain.as_ref().map_or(first_lsn, |chain| chain.next_lsn);
        facts.lost = Some(loss.unwrap_or_else(|| Loss::from(next_lsn)).sum_up());
        facts.next = advice(data_dir, log, &serving, grounds.newest, &storage);
    } else if !facts.damages.is_empty() {
        facts.verdict = Verdict::Damaged;
        facts.next = vec![format!(
            "the server starts all the same, for it needs none of this: take a backup now: \
             boxoffice backup {} --to BACKUP",
            data_dir.display()
        )];
    }
    facts.advise_of_backup(data_dir);
    Ok(Examined { facts, chain: serving.chain, newest: grounds.newest })
}

impl ShardFacts {
    /// What helps a data directory is not for a backup, which is as good as its weakest file.
    fn advise_of_backup(&mut self, dir: &Path) {
        if self.verdict == Verdict::Damaged && is_backup(dir) {
            self.next = vec![
                "this backup cannot be restored: use another one, or make a new one of the data \
                 directory, while that is whole"
                    .to_owned(),
            ];
        }
    }
}

/// Why there is no directory for the shard, where there is none.
fn no_directory(dir: &Path) -> Result<Option<&'static str>, Failed> {
    match fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => Ok(None),
        Ok(_) => Ok(Some("is not a directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some("is missing")),
        Err(source) => {
            let error = WalError::Io { path: dir.to_owned(), doing: "open the log", source };
            Err(failed(&error))
        }
    }
}

fn absent(data_dir: &Path, log: &ShardLog, what: &str) -> ShardFacts {
    let directory = log.dir.display();
    ShardFacts {
        shard: log.shard.0,
        verdict: Verdict::Damaged,
        serves: false,
        directory: log.dir.clone(),
        snapshots: Vec::new(),
        records: 0,
        frames: 0,
        next_lsn: None,
        last_time_ms: None,
        torn: None,
        damages: vec![format!("{directory} {what}")],
        lost: Some(Loss::from(Lsn(1))),
        next: vec![format!("put the directory {directory} back"), restore(data_dir)],
    }
}

fn facts(log: &ShardLog, survey: &Survey, storage: &FileStorage, is_in_use: bool) -> ShardFacts {
    let chain = survey.chain.as_ref();
    let torn = chain.and_then(|chain| chain.torn).filter(|_| survey.damages.is_empty());
    // Beside a server, what is not whole is a frame that is being written.
    let torn = torn.filter(|_| !is_in_use).map(|torn| Torn {
        file: storage.path(torn.start.segment),
        offset: torn.start.offset,
        bytes: torn.bytes,
    });
    let verdict = match (survey.damages.is_empty(), &torn) {
        (false, _) => Verdict::Damaged,
        (true, Some(_)) => Verdict::TornTail,
        (true, None) => Verdict::Clean,
    };
    ShardFacts {
        shard: log.shard.0,
        verdict,
        serves: survey.damages.is_empty(),
        directory: log.dir.clone(),
        snapshots: Vec::new(),
        records: chain.map_or(0, |chain| chain.records),
        frames: chain.map_or(0, |chain| chain.frames),
        next_lsn: chain.map(|chain| chain.next_lsn.0),
        last_time_ms: chain.filter(|chain| chain.frames > 0).map(|chain| Moment(chain.last_time)),
        torn,
        damages: Vec::new(),
        lost: None,
        next: Vec::new(),
    }
}

/// Where and what, without what the server would advise.
fn what(damage: &WalError) -> String {
    match damage {
        WalError::Damage { file, offset, lsn, what } => {
            format!("{}: offset {offset}, LSN {lsn}: {what}", file.display())
        }
        WalError::NotASegment { file } => {
            format!("{} is not a segment: its first bytes are something else", file.display())
        }
        WalError::ForeignLog { file, found, expected } => {
            format!("{} belongs to the log {found}, not to {expected}", file.display())
        }
        WalError::MissingSegment { file, .. } => format!("{} is missing", file.display()),
        other => other.to_string(),
    }
}

fn restore(data_dir: &Path) -> String {
    let dir = data_dir.display();
    format!("restore a backup into a new directory: boxoffice restore BACKUP --to {dir}.restored")
}

fn advice(
    data_dir: &Path,
    log: &ShardLog,
    survey: &Survey,
    newest: Option<LogStart>,
    storage: &FileStorage,
) -> Vec<String> {
    let mut next = Vec::new();
    let log_id = log.identity.or_else(|| survey.chain.as_ref().map(|chain| chain.identity));
    for segment in storage.segments().unwrap_or_default() {
        let Ok(header) = segment_header(storage, segment.index) else { continue };
        let index = header.segment.index;
        if index != segment.index && log_id.is_some_and(|whose| whose.log == header.identity.log) {
            let (file, name) = (storage.path(segment.index), storage.path(index));
            let (file, name) = (file.display(), name.display());
            next.push(format!("{file} is segment {index} of this log: give it its name, {name}"));
        }
    }
    for damage in &survey.damages {
        match damage {
            WalError::MissingSegment { file, .. } => {
                next.push(format!("put {} back, if it was moved away", file.display()));
            }
            WalError::ForeignLog { file, .. }
            | WalError::NotASegment { file }
            | WalError::WrongShard { file, .. } => {
                next.push(format!("put the right file in the place of {}", file.display()));
            }
            _ => {}
        }
    }
    next.push(restore(data_dir));
    let chain_ends = survey.chain.as_ref().map(|chain| chain.next_lsn);
    let (dir, shard) = (data_dir.display(), log.shard);
    let truncate = |lsn: Lsn| {
        format!("boxoffice wal truncate {dir} --shard {shard} --at {lsn} --backup {dir}.cut")
    };
    if let Some(lsn) = chain_ends.or(newest.map(|start| start.next_lsn)) {
        let truncate = truncate(lsn);
        next.push(format!("without a backup, keep what lies before the damage: {truncate}"));
    } else if log.identity.is_some() {
        let truncate = truncate(Lsn(1));
        next.push(format!(
            "without a backup, give up all that this shard has, so that the others serve: \
             {truncate}"
        ));
    }
    next
}

impl fmt::Display for ShardFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {}: ", self.shard)?;
        match self.verdict {
            Verdict::Clean => write!(f, "clean: ")?,
            Verdict::TornTail => write!(f, "torn tail: ")?,
            Verdict::Damaged => write!(f, "DAMAGED: ")?,
        }
        write!(f, "{} records in {} frames are whole", self.records, self.frames)?;
        if let Some(time) = self.last_time_ms {
            write!(f, ", the last at {time}")?;
        }
        if let Some(next) = self.next_lsn {
            write!(f, "; the next LSN is {next}")?;
        }
        if let Some(Torn { file, offset, bytes }) = &self.torn {
            write!(
                f,
                "\n  a write was interrupted: {}: offset {offset}, {bytes} bytes; unless the disk \
                 has spoiled what it had taken, it was never acknowledged; the next start removes \
                 it",
                file.display()
            )?;
        }
        for snapshot in &self.snapshots {
            write!(f, "\n  {snapshot}")?;
        }
        for damage in &self.damages {
            write!(f, "\n  {damage}")?;
        }
        if let Some(lost) = &self.lost {
            write!(f, "\n  lost: {lost}")?;
        }
        for (number, next) in (1..).zip(&self.next) {
            write!(f, "\n  next {number}: {next}")?;
        }
        Ok(())
    }
}
