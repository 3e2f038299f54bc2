//! The verdict on one log as people and scripts read it, and what to do next.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::Failed;
use super::super::moment::Moment;
use super::failed;
use super::logs::ShardLog;
use super::loss::Loss;
use crate::model::Lsn;
use crate::wal::{
    Bounded, Entry, FileStorage, LogStorage, Part, Recovered, Survey, WalError, segment_header,
    survey,
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
    directory: PathBuf,
    /// What can be relied on.
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
    next: Vec<String>,
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
    pub(in crate::cli) chain: Option<Recovered>,
}

/// Reads a log as far as it goes, and hands out each record, with whether it is behind damage.
pub(in crate::cli) fn examine(
    data_dir: &Path,
    log: &ShardLog,
    is_in_use: bool,
    mut on_record: impl FnMut(&Entry<'_>, bool),
) -> Result<Examined, Failed> {
    if let Some(what) = no_directory(&log.dir)? {
        return Ok(Examined { facts: absent(data_dir, log, what), chain: None });
    }
    let storage = FileStorage::open_read_only(&log.dir).map_err(|error| failed(&error))?;
    let frozen = Bounded::freeze(&storage).map_err(|error| failed(&error))?;
    let mut loss = None;
    let mut next_lsn = Lsn(1);
    let survey = survey(&frozen, log.identity, |part| match part {
        Part::Chain(entry) => {
            next_lsn = entry.lsn.next();
            on_record(&entry, false);
        }
        Part::Beyond(entry) => {
            loss.get_or_insert_with(|| Loss::from(next_lsn)).add(&entry);
            on_record(&entry, true);
        }
    });
    let survey = survey.map_err(|error| failed(&error))?;
    let mut facts = facts(log, &survey, &storage, is_in_use);
    if facts.verdict == Verdict::Damaged {
        let next_lsn = survey.chain.as_ref().map_or(Lsn(1), |chain| chain.next_lsn);
        facts.lost = Some(loss.unwrap_or_else(|| Loss::from(next_lsn)).sum_up());
        facts.next = advice(data_dir, log, &survey, &storage);
    }
    Ok(Examined { facts, chain: survey.chain })
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
        directory: log.dir.clone(),
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
        directory: log.dir.clone(),
        records: chain.map_or(0, |chain| chain.records),
        frames: chain.map_or(0, |chain| chain.frames),
        next_lsn: chain.map(|chain| chain.next_lsn.0),
        last_time_ms: chain.filter(|chain| chain.frames > 0).map(|chain| Moment(chain.last_time)),
        torn,
        damages: survey.damages.iter().map(what).collect(),
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

fn advice(data_dir: &Path, log: &ShardLog, survey: &Survey, storage: &FileStorage) -> Vec<String> {
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
    if let Some(chain) = &survey.chain {
        let (dir, shard, lsn) = (data_dir.display(), log.shard, chain.next_lsn);
        next.push(format!(
            "without a backup, keep what lies before the damage: boxoffice wal truncate {dir} \
             --shard {shard} --at {lsn} --backup {dir}.cut"
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
                "\n  a write was interrupted: {}: offset {offset}, {bytes} bytes; it was never \
                 acknowledged, and the next start removes it",
                file.display()
            )?;
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
