//! `boxoffice audit`: the judge of a stopped server's logs.

use std::path::PathBuf;

use super::exit::ExitCode;
use super::{Failed, print};
use crate::audit::audit;
use crate::server::datadir::{DataDir, DataDirError};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The data directory of a server that is not running.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    // The lock keeps a server from writing while its logs are read.
    let _lock = DataDir::open_existing(&args.dir).map_err(|error| {
        let code = match &error {
            DataDirError::InUse { .. } => ExitCode::DirectoryInUse,
            DataDirError::NewerFormat { .. } => ExitCode::ForeignData,
            DataDirError::BadManifest { .. } => ExitCode::DamagedLog,
            _ => ExitCode::Configuration,
        };
        Failed::new(code, error)
    })?;
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
    Err(Failed::new(ExitCode::DamagedLog, "a log could not be read to its end; see the report"))
}
