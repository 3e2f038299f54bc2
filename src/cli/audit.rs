//! `boxoffice audit`: the judge of a stopped server's logs.

use std::path::PathBuf;

use super::backup::{Backup, is_backup};
use super::exit::ExitCode;
use super::wal::logs::refused;
use super::{Failed, print};
use crate::audit::audit;
use crate::server::datadir::DataDir;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The data directory of a server that is not running, or a backup.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is held while the logs are read.
#[expect(dead_code, reason = "held, not read")]
enum Locked {
    DataDir(DataDir),
    Backup(Backup),
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    // The lock keeps a server from writing while its logs are read, and a backup likewise.
    let _lock = if is_backup(&args.dir) {
        let backup = Backup::open(&args.dir)?;
        backup.check_files(&args.dir, None)?;
        Locked::Backup(backup)
    } else {
        Locked::DataDir(DataDir::open_existing(&args.dir).map_err(|error| refused(&error))?)
    };
    let report = audit(&args.dir).map_err(|error| Failed::new(ExitCode::Failure, error))?;
    print(&report, args.json)?;
    if report.is_clean() {
        return Ok(());
    }
    let violations = report.violation_count;
    if violations > 0 {
        let message = format!("the audit found {violations} violations; the report lists them");
        return Err(Failed::new(ExitCode::Violation, message));
    }
    Err(Failed::new(ExitCode::DamagedLog, "a log or a snapshot could not be read; see the report"))
}
