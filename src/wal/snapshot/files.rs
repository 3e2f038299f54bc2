//! The snapshot files of a shard's directory, by blocking calls.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::super::files::listed_bytes;
use super::reader::SnapshotReader;
use super::{SnapshotError, SnapshotHeader};
use crate::model::Lsn;

const SUFFIX: &str = ".snap";
const UNFINISHED_SUFFIX: &str = ".snap.tmp";
const DIGITS: usize = 20;

/// A file that has the name of a snapshot; whether it is one shows when it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// The last record inside, by its name.
    pub lsn: Lsn,
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// The file of a snapshot in a shard's directory.
#[must_use]
pub fn snapshot_path(dir: &Path, lsn: Lsn) -> PathBuf {
    dir.join(format!("{:0DIGITS$}{SUFFIX}", lsn.0))
}

/// The file that a snapshot is written to, and renamed from once it is whole.
#[must_use]
pub fn snapshot_preparation(dir: &Path, lsn: Lsn) -> PathBuf {
    dir.join(format!("{:0DIGITS$}{UNFINISHED_SUFFIX}", lsn.0))
}

/// The snapshot files of a shard's directory, the newest first.
pub fn snapshots(dir: &Path) -> io::Result<Vec<SnapshotFile>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let lsn = entry.file_name().to_str().and_then(|name| parse_name(name, SUFFIX));
        let Some(lsn) = lsn else { continue };
        if let Some(bytes) = listed_bytes(&entry)? {
            found.push(SnapshotFile { lsn, path: entry.path(), bytes });
        }
    }
    found.sort_unstable_by_key(|file| std::cmp::Reverse(file.lsn));
    Ok(found)
}

/// Opens a snapshot and reads its header, which must be of the LSN in the file's name. The file is
/// read through what `through` makes of it.
pub fn open_snapshot<R: Read>(
    file: &SnapshotFile,
    through: impl FnOnce(BufReader<File>) -> R,
) -> Result<SnapshotReader<R>, SnapshotError> {
    // Sections of any size pass by the buffer; it is for their headers.
    let reader = SnapshotReader::new(through(BufReader::new(File::open(&file.path)?)))?;
    let SnapshotHeader { last_lsn, .. } = *reader.header();
    if last_lsn == file.lsn {
        return Ok(reader);
    }
    let what = format!("it ends at LSN {last_lsn}, and its name says {}", file.lsn);
    Err(SnapshotError::Damaged { offset: 0, what })
}

/// Removes what a process left that ended while it wrote a snapshot.
pub fn remove_unfinished_snapshots(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().and_then(|name| parse_name(name, UNFINISHED_SUFFIX)).is_some() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn parse_name(name: &str, suffix: &str) -> Option<Lsn> {
    let digits = name.strip_suffix(suffix)?;
    let is_number = digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten().map(Lsn)
}
