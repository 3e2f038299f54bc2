//! `boxoffice wal`: looking at logs, judging them, and the one way to go on past damage.
//!
//! | file | owns |
//! |---|---|
//! | `logs` | finding the logs of a directory: a data directory or a backup |
//! | `dump`, `record` | showing records |
//! | `grounds` | the snapshots that a log stands on |
//! | `verify`, `facts` | the verdict, and what to do next |
//! | `beside` | reading while a server retires what is read |
//! | `loss` | what lies behind a cut |
//! | `truncate` | making the cut |
//!
//! `dump` and `verify` change nothing and may run beside a server.

pub(super) mod beside;
mod dump;
pub(super) mod facts;
pub(super) mod grounds;
pub(super) mod logs;
mod loss;
mod record;
mod truncate;
mod verify;

use clap::Subcommand;

use super::Failed;
use super::exit::ExitCode;
use crate::wal::WalError;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show the records of the logs, also beside a running server, also of a damaged log.
    Dump(dump::Args),
    /// Say whether the logs are whole, and if not, where, what is lost, and what to do.
    Verify(verify::Args),
    /// Give up the end of a damaged log, after a copy of it, so that the server starts again.
    Truncate(truncate::Args),
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    match &args.what {
        What::Dump(args) => dump::run(args),
        What::Verify(args) => verify::run(args),
        What::Truncate(args) => truncate::run(args),
    }
}

/// A log that cannot be used, as a program ends with it.
pub(super) fn failed(error: &WalError) -> Failed {
    if let WalError::Io { path, source, .. } = error {
        return system(path, source, error);
    }
    Failed::new(ExitCode::of_log(error), error)
}

/// What the system refused, with the way out where there is a usual one.
fn system(
    path: &std::path::Path,
    source: &std::io::Error,
    error: &dyn std::fmt::Display,
) -> Failed {
    use std::io::ErrorKind;
    let hint = match source.kind() {
        ErrorKind::PermissionDenied => "run this as the server's user",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some space there",
        ErrorKind::NotFound | ErrorKind::NotADirectory => "name a data directory or a backup",
        _ if source.raw_os_error() == Some(5) => {
            "the disk does not give it back: copy the directory to another disk (ddrescue), and \
             go on there"
        }
        _ => return Failed::new(ExitCode::CannotRead, error),
    };
    let code = match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ExitCode::NoRoom,
        ErrorKind::PermissionDenied => ExitCode::Configuration,
        ErrorKind::NotFound | ErrorKind::NotADirectory if !path.is_dir() => ExitCode::Configuration,
        _ => ExitCode::CannotRead,
    };
    Failed::new(code, format_args!("{error}; {hint}"))
}
