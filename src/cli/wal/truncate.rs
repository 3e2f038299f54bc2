//! `boxoffice wal truncate`: goes on past damage by giving up what lies behind it.
//!
//! The order: lock, look, explain, ask, copy what goes away and sync the copy, cut, look again.
//! Until the copy is durable nothing in the data directory is changed, and a cut that was
//! interrupted leaves a log on which no server starts and on which the same cut can be made again.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::exit::ExitCode;
use super::super::{Failed, print};
use super::facts::{Examined, Reach, examine};
use super::failed;
use super::logs::{Logs, ShardLog, refused};
use super::loss::Loss;
use crate::model::Lsn;
use crate::runtime::file::{close_to_others, create_private_dir};
use crate::server::datadir::{CUT_NOTE, DataDir};
use crate::wal::{
    FileStorage, LogStart, LogStorage, Position, SEGMENT_BYTES_DEFAULT, Segment, SegmentIndex, cut,
    cut_behind_snapshot, segment_header,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The data directory of a server that is not running.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The shard whose log is damaged.
    #[arg(long, value_name = "N")]
    shard: u16,
    /// The first LSN to give up, as `wal verify` says it: all records before it stay.
    #[arg(long, value_name = "LSN")]
    at: u64,
    /// Where to copy what is given up: a new or an empty directory.
    #[arg(long, value_name = "DIR")]
    backup: PathBuf,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A cut, before it is made and after.
#[derive(Debug, Serialize)]
struct Cut {
    shard: u16,
    /// The first LSN that is given up.
    at_lsn: u64,
    lost: Loss,
    /// The files that change or go away, and that are copied first.
    files: Vec<PathBuf>,
    /// What they are together.
    file_bytes: u64,
    backup: PathBuf,
    done: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    close_to_others();
    let _lock = DataDir::open_existing(&args.dir).map_err(|error| refused(&error))?;
    let logs = Logs::find(&args.dir, Some(args.shard))?;
    let log = &logs.shards[0];
    let mut ends = Ends::new(Lsn(args.at));
    let examined = examine(&args.dir, log, false, Reach::Serving, |entry, is_beyond| {
        ends.see(entry.lsn, entry.frame, is_beyond);
        if entry.lsn.0 >= args.at {
            ends.loss.add(entry);
        }
    })?;
    let end = where_to_cut(args, log, &examined, &ends)?;
    let storage = FileStorage::open_read_only(&log.dir).map_err(|error| failed(&error))?;
    let segments =
        segments_behind(&storage, end.first()).map_err(|error| copy_failed(&log.dir, &error))?;
    let mut cut = Cut {
        shard: args.shard,
        at_lsn: args.at,
        lost: ends.loss.sum_up(),
        files: segments.iter().map(|segment| storage.path(segment.index)).collect(),
        file_bytes: segments.iter().map(|segment| segment.bytes).sum(),
        backup: args.backup.clone(),
        done: false,
    };
    if !args.json {
        print(&cut, false)?;
    }
    ask(args)?;
    copy_away(args, log, &cut)?;
    make(log, &storage, end)?;
    let after = examine(&args.dir, log, false, Reach::Serving, |_, _| {})?;
    if !after.facts.serves {
        let message = format!("the log is not whole after the cut: {}", after.facts);
        return Err(Failed::new(ExitCode::DamagedLog, message.replace('\n', ";")));
    }
    cut.done = true;
    print(&cut, args.json)
}

/// What a cut leaves at the end of the log.
#[derive(Clone, Copy, Debug)]
enum End {
    /// A segment, used up to this place.
    In(Position),
    /// Nothing behind a snapshot, or nothing at all: the log begins there, in a segment that is
    /// made anew.
    Anew(LogStart),
}

impl End {
    /// The first segment that changes or goes away.
    const fn first(self) -> SegmentIndex {
        match self {
            Self::In(place) => place.segment,
            Self::Anew(_) => SegmentIndex::FIRST,
        }
    }
}

/// Where the frames around the cut start, learnt record by record.
struct Ends {
    at: Lsn,
    loss: Loss,
    /// The frame that was seen last, and its first record.
    frame: Option<(Position, Lsn)>,
    /// The frame that the record at the cut lies in, and its first record.
    cut_frame: Option<(Position, Lsn)>,
    /// The first record of the frame behind that one.
    behind: Option<Lsn>,
}

impl Ends {
    const fn new(at: Lsn) -> Self {
        Self { at, loss: Loss::from(at), frame: None, cut_frame: None, behind: None }
    }

    fn see(&mut self, lsn: Lsn, frame: Position, is_beyond: bool) {
        if is_beyond {
            return;
        }
        if self.frame.is_none_or(|(known, _)| known != frame) {
            self.frame = Some((frame, lsn));
            if self.cut_frame.is_some() && self.behind.is_none() {
                self.behind = Some(lsn);
            }
        }
        if lsn == self.at {
            self.cut_frame = self.frame;
        }
    }
}

/// Where the log shall end.
fn where_to_cut(
    args: &Args,
    log: &ShardLog,
    examined: &Examined,
    ends: &Ends,
) -> Result<End, Failed> {
    let (dir, shard, at) = (args.dir.display(), args.shard, args.at);
    let usage = |message: String| Failed::new(ExitCode::Usage, message);
    if examined.facts.serves {
        return Err(usage(format!(
            "shard {shard} is not damaged, so there is nothing to give up; `boxoffice restore \
             BACKUP --to DIR --to-lsn {shard}:LSN` goes back to an earlier point"
        )));
    }
    let (next, end) = match (&examined.chain, examined.newest) {
        (Some(chain), _) => (chain.next_lsn, End::In(chain.end)),
        (None, Some(start)) => (start.next_lsn, End::Anew(start)),
        (None, None) => {
            let start = log.identity.map(LogStart::of_log).ok_or_else(|| {
                let message = format!(
                    "nothing before the damage can be read, nor whose log it is: restore a backup \
                     (`boxoffice restore`), or see `boxoffice wal verify {dir}`"
                );
                Failed::new(ExitCode::DamagedLog, message)
            })?;
            (start.next_lsn, End::Anew(start))
        }
    };
    if at > next.0 {
        return Err(usage(format!(
            "--at {at}: the log of shard {shard} is whole up to LSN {} only; the latest cut is \
             --at {next}",
            next.0 - 1
        )));
    }
    if at == next.0 {
        return Ok(end);
    }
    match ends.cut_frame {
        Some((frame, first)) if first.0 == at => Ok(End::In(frame)),
        Some((_, first)) => Err(usage(format!(
            "--at {at} lies inside a group of records that were written together; cut at {first} \
             or at {}",
            ends.behind.unwrap_or(next)
        ))),
        None => Err(usage(format!(
            "--at {at}: the log of shard {shard} has no such LSN{}",
            examined.newest.map_or(String::new(), |start| {
                format!(" behind its snapshot; the earliest cut is --at {}", start.next_lsn)
            })
        ))),
    }
}

/// The segments that a cut changes or removes.
fn segments_behind(storage: &FileStorage, first: SegmentIndex) -> io::Result<Vec<Segment>> {
    let segments = storage.segments()?.into_iter();
    Ok(segments.filter(|segment| segment.index >= first).collect())
}

fn ask(args: &Args) -> Result<(), Failed> {
    if args.yes {
        return Ok(());
    }
    let nothing = "nothing was changed";
    if !io::stdin().is_terminal() {
        let message = format!("this gives records up for good: add --yes to do it; {nothing}");
        return Err(Failed::new(ExitCode::Usage, message));
    }
    let mut answer = String::new();
    let asked = write!(io::stderr(), "Give these records up? Type yes to go on: ")
        .and_then(|()| io::stdin().read_line(&mut answer));
    if asked.is_ok() && answer.trim() == "yes" {
        return Ok(());
    }
    Err(Failed::new(ExitCode::Failure, format_args!("not confirmed; {nothing}")))
}

/// Copies what goes away, durably, or leaves nothing behind.
fn copy_away(args: &Args, log: &ShardLog, cut: &Cut) -> Result<(), Failed> {
    let into = &args.backup;
    let data_dir = args.dir.canonicalize().unwrap_or_else(|_| args.dir.clone());
    let parent = into.ancestors().find_map(|parent| parent.canonicalize().ok());
    if parent.is_some_and(|parent| parent.starts_with(&data_dir)) {
        let message = format!("--backup {} lies inside the data directory", into.display());
        return Err(Failed::new(ExitCode::Usage, message));
    }
    let was_there = into.is_dir();
    fs::create_dir_all(into).map_err(|error| copy_failed(into, &error))?;
    if fs::read_dir(into).map_err(|error| copy_failed(into, &error))?.next().is_some() {
        let message = format!(
            "--backup {} is not empty: name a new directory; nothing was changed",
            into.display()
        );
        return Err(Failed::new(ExitCode::Usage, message));
    }
    let name = log.dir.file_name().expect("a shard's directory has a name");
    let shard_dir = into.join(name);
    let copy = || -> io::Result<()> {
        create_private_dir(&shard_dir)?;
        for file in &cut.files {
            let to = shard_dir.join(file.file_name().expect("a segment has a name"));
            // Not the mode of the original, which an open-handed umask may have made.
            let mut copy = File::create(&to)?;
            io::copy(&mut File::open(file)?, &mut copy)?;
            copy.sync_all()?;
        }
        let note = serde_json::to_vec_pretty(cut).expect("facts are plain data");
        let note_path = into.join(CUT_NOTE);
        fs::write(&note_path, note)?;
        File::open(&note_path)?.sync_all()?;
        File::open(&shard_dir)?.sync_all()?;
        File::open(into)?.sync_all()?;
        into.canonicalize()?.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    };
    copy().map_err(|error| {
        // Half a copy is none, and may be what fills the disk.
        let _ = fs::remove_dir_all(&shard_dir);
        let _ = fs::remove_file(into.join(CUT_NOTE));
        if !was_there {
            let _ = fs::remove_dir(into);
        }
        copy_failed(into, &error)
    })
}

fn copy_failed(path: &Path, error: &io::Error) -> Failed {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ExitCode::NoRoom,
        _ => ExitCode::Configuration,
    };
    Failed::new(
        code,
        format_args!(
            "{}: cannot copy what would be given up: {error}; name a --backup directory on a disk \
             with room for it; nothing was changed",
            path.display()
        ),
    )
}

fn make(log: &ShardLog, storage: &FileStorage, end: End) -> Result<(), Failed> {
    let made = match end {
        End::In(place) => segment_header(storage, place.segment)
            .and_then(|header| cut(&log.dir, place, header.segment)),
        End::Anew(start) => {
            let sizes = storage.segments().unwrap_or_default().into_iter();
            let sizes = sizes.filter_map(|segment| segment_header(storage, segment.index).ok());
            let bytes = sizes.map(|header| header.segment.bytes).next();
            cut_behind_snapshot(&log.dir, &start, bytes.unwrap_or(SEGMENT_BYTES_DEFAULT))
        }
    };
    made.map_err(|error| failed(&error))
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, at_lsn, .. } = self;
        let backup = self.backup.display();
        if self.done {
            return write!(
                f,
                "shard {shard} ends before LSN {at_lsn} now, and is clean; what was given up is in \
                 {backup}. Next: boxoffice audit, then boxoffice serve"
            );
        }
        writeln!(f, "shard {shard}: LSN {at_lsn} and all behind it will be given up")?;
        writeln!(f, "  lost: {}", self.lost)?;
        let (files, bytes) = (self.files.len(), self.file_bytes);
        writeln!(f, "  copied first: {files} files, {bytes} bytes, to {backup}")?;
        write!(
            f,
            "  buyers with orders among them were told that these are safe: tell them, or enter \
             them again (`boxoffice wal dump {backup} --past-damage --from-lsn {}` shows the \
             records then)",
            self.at_lsn
        )
    }
}
