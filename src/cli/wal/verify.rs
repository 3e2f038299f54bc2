//! `boxoffice wal verify`: whether the logs of a directory are whole.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::super::backup::{Backup, is_backup};
use super::super::exit::ExitCode;
use super::super::{Failed, print};
use super::beside::read;
use super::facts::{ShardFacts, Verdict};
use super::logs::Logs;
use crate::server::datadir::CUT_NOTE;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A data directory, also of a running server, or a backup.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Look at this shard alone.
    #[arg(long, value_name = "N")]
    shard: Option<u16>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Facts {
    verdict: Verdict,
    /// Whether a server has the directory; a frame that it is writing is no torn tail.
    in_use: bool,
    /// Why no server starts on the directory, whatever its logs are like.
    manifest_fault: Option<String>,
    shards: Vec<ShardFacts>,
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    let logs = Logs::find(&args.dir, args.shard)?;
    let in_use = logs.is_in_use;
    let mut shards = Vec::new();
    for log in &logs.shards {
        shards.push(read(&args.dir, log, in_use, |_, _| {})?.examined.facts);
    }
    if args.dir.join(CUT_NOTE).exists() {
        // A part of a log; what would mend a whole one is not for it.
        for shard in &mut shards {
            shard.next.clear();
        }
    }
    let of_logs = shards.iter().map(|shard| shard.verdict).max().unwrap_or(Verdict::Clean);
    let manifest_fault = match logs.manifest_fault {
        Some(fault) => Some(fault.to_string()),
        // A log that ends early looks like a whole one: only the list of a backup tells.
        None if is_backup(&args.dir) && of_logs != Verdict::Damaged => {
            let files = Backup::open(&args.dir)?.check_files(&args.dir, args.shard);
            files.err().map(|failed| failed.message)
        }
        None => None,
    };
    let verdict = if manifest_fault.is_some() { Verdict::Damaged } else { of_logs };
    let facts = Facts { verdict, in_use, manifest_fault, shards };
    print(&facts, args.json)?;
    let dir = args.dir.display();
    match verdict {
        Verdict::Damaged if of_logs != Verdict::Damaged => {
            Err(Failed::new(ExitCode::DamagedLog, facts.manifest_fault.unwrap_or_default()))
        }
        Verdict::Clean => Ok(()),
        Verdict::TornTail => Err(Failed::new(
            ExitCode::TornTail,
            format_args!("{dir} ends with an interrupted write; the next start removes it"),
        )),
        Verdict::Damaged => Err(Failed::new(
            ExitCode::DamagedLog,
            format_args!("{dir} is damaged: the lines above say where, and each way out"),
        )),
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for shard in &self.shards {
            writeln!(f, "{shard}")?;
        }
        if let Some(fault) = &self.manifest_fault {
            writeln!(f, "DAMAGED: {fault}")?;
        }
        Ok(())
    }
}
