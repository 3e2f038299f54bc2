//! `boxoffice backup` and `boxoffice restore`: a copy of the logs and snapshots of a data
//! directory, made beside a running server, and a data directory made of it.
//!
//! ```text
//! BACKUP/BACKUP.json        what belongs to the backup: files, sizes, checksums, LSNs
//! BACKUP/LOCK               locked while a backup is made or read
//! BACKUP/shard-000/*.wal    segments under their own names; the last one up to a frame's end
//! BACKUP/shard-000/*.snap   snapshots
//! ```
//!
//! A backup is made of whole frames only, and of a log that was read to its end: a damaged log
//! makes no backup. A log only grows, so the next run copies what has come, and an older list of
//! files stays true while it does: the list counts the bytes that it knows, and is replaced, in one
//! step, once all that the new one names is durable. Segments that the server has retired stay in
//! the backup, as long as no part between is missing.
//!
//! | file | owns |
//! |---|---|
//! | `manifest` | the list |
//! | `copy` | `backup` |
//! | `check` | whether the backup is what its list says |
//! | `restore` | `restore` |

mod check;
mod copy;
mod manifest;
mod restore;

pub(super) use self::check::Backup;
pub(super) use self::copy::{Args as BackupArgs, run as backup};
pub(super) use self::manifest::is_backup;
pub(super) use self::restore::{Args as RestoreArgs, run as restore};

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::Failed;
use super::exit::ExitCode;

/// A file or directory that cannot be used, as the program ends with it.
fn system(path: &Path, doing: impl Display, source: &io::Error, way_out: &str) -> Failed {
    let code = match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ExitCode::NoRoom,
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::PermissionDenied => ExitCode::Configuration,
        _ => ExitCode::Failure,
    };
    let way_out = match source.kind() {
        io::ErrorKind::PermissionDenied => "run this as a user who may",
        _ => way_out,
    };
    Failed::new(code, format_args!("{}: cannot {doing}: {source}; {way_out}", path.display()))
}

/// Whether a path, which need not be there yet, is `dir` or lies in it.
fn is_inside(path: &Path, dir: &Path) -> bool {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let there = path.ancestors().find_map(|ancestor| {
        let is_here = ancestor.as_os_str().is_empty();
        let ancestor = if is_here { Path::new(".") } else { ancestor };
        ancestor.canonicalize().ok()
    });
    there.is_some_and(|there| there.starts_with(&dir))
}

/// The CRC32 of the first `bytes` of a file; `None` where it has fewer.
fn checksum(path: &Path, bytes: u64) -> io::Result<Option<u32>> {
    let mut file = File::open(path)?.take(bytes);
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut rest = bytes;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((rest == 0).then(|| hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
        rest -= read as u64;
    }
}
