//! Why a data directory cannot be used, and the way out of each.

use std::io;
use std::path::{Path, PathBuf};

/// What lies in a directory that `boxoffice restore` has not finished. Nothing in it counts.
pub const RESTORE_UNFINISHED: &str = "RESTORE-UNFINISHED";

/// What lies in a directory that a first `boxoffice backup` has not finished. What is in it is a
/// part of the logs, and no one can tell which.
pub const BACKUP_UNFINISHED: &str = "BACKUP-UNFINISHED";

/// What a backup has in the place of a manifest.
pub(super) const BACKUP_LIST: &str = "BACKUP.json";

/// What `boxoffice wal truncate` leaves beside what it gave up.
pub const CUT_NOTE: &str = "CUT.json";

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it.
    #[error(
        "{path}: in use by another instance{}; stop it first",
        .owner.map_or(String::new(), |pid| format!(" (process {pid})"))
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other process, where it said so.
        owner: Option<u32>,
    },
    /// It holds other things.
    #[error(
        "{path}: holds {found} but no MANIFEST, so it is not a data directory; {}",
        way_out(.path, .found)
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Something that lies in it.
        found: String,
    },
    /// A file lies where the directory, or one above it, is to be.
    #[error("{path}: a file, where a directory is needed; move it away, or name a directory")]
    NotADirectory {
        /// The file.
        path: PathBuf,
    },
    /// There is no data directory.
    #[error("{path}: not a data directory, it has no MANIFEST; name a data directory")]
    Absent {
        /// The directory.
        path: PathBuf,
    },
    /// It was never made in whole.
    #[error(
        "{path}: its creation was cut short, before anything could be stored in it; start the \
         server, which makes it anew"
    )]
    Unmade {
        /// The directory.
        path: PathBuf,
    },
    /// A later version made it.
    #[error("{path}: written by a later version (format {format}); run that version")]
    NewerFormat {
        /// The manifest.
        path: PathBuf,
        /// Its format.
        format: u64,
    },
    /// The manifest is unreadable.
    #[error("{path}: not a manifest ({reason}); {}", of_its_logs(.path.parent().unwrap_or(.path)))]
    BadManifest {
        /// The manifest.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The directory of a shard is gone.
    #[error(
        "{path}: the MANIFEST names this shard, and its directory is missing. Nothing was changed. \
         Put it back; `boxoffice wal verify {}` shows each way out",
        .path.parent().unwrap_or(.path).display()
    )]
    MissingShard {
        /// The directory that should be there.
        path: PathBuf,
    },
    /// The operating system refused something.
    #[error("{path}: cannot {action}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl DataDirError {
    /// Whether what was found is a part of what Boxoffice makes.
    pub(super) fn is_of_ours(&self) -> bool {
        let Self::NotOurs { found, .. } = self else { return false };
        [BACKUP_LIST, BACKUP_UNFINISHED, RESTORE_UNFINISHED, CUT_NOTE].contains(&found.as_str())
            || found.starts_with("shard-")
    }
}

/// What to do with a directory that has no manifest, by what was found in it.
fn way_out(path: &Path, found: &str) -> String {
    let dir = path.display();
    match found {
        RESTORE_UNFINISHED => {
            "a restore into it was cut short: run that again, or name a new directory".to_owned()
        }
        BACKUP_UNFINISHED => format!(
            "a backup into it was cut short, and has a part of the logs alone: run `boxoffice \
             backup DATA_DIR --to {dir}` again, which finishes it"
        ),
        BACKUP_LIST => format!(
            "it is a backup: `boxoffice restore {dir} --to NEW_DATA_DIR` makes a data directory of \
             it"
        ),
        CUT_NOTE => format!(
            "it has what `boxoffice wal truncate` gave up: `boxoffice wal dump {dir} \
             --past-damage` shows its records"
        ),
        shard if shard.starts_with("shard-") => of_its_logs(path),
        _ => "name an empty or a new directory".to_owned(),
    }
}

/// What to do where the manifest is gone and the logs may be whole.
fn of_its_logs(path: &Path) -> String {
    format!(
        "`boxoffice backup {} --to BACKUP` and `boxoffice restore BACKUP --to NEW_DATA_DIR` make a \
         data directory of its logs, where they are whole",
        path.display()
    )
}
