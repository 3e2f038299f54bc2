//! `boxoffice audit`: the judge of a stopped server's logs.

use std::path::PathBuf;

use super::backup::{Backup, is_backup};
use super::exit::ExitCode;
use super::wal::logs::refused;
use super::{Failed, print};
use crate::audit::audit;
use crate::server::datadir::{DataDir, DataDirError};

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
        Locked::DataDir(DataDir::open_existing(&args.dir).map_err(|error| unlocked(&error))?)
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

/// A directory that cannot be locked. What a server has can be judged as a copy.
fn unlocked(error: &DataDirError) -> Failed {
    let failed = refused(error);
    let DataDirError::InUse { path, .. } = error else { return failed };
    let message = format_args!(
        "{}, or audit a backup: `boxoffice backup {} --to BACKUP` makes one beside it, and \
         `boxoffice audit BACKUP` judges that",
        failed.message,
        path.display()
    );
    Failed::new(failed.code, message)
}
