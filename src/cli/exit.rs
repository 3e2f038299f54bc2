//! The exit codes of every program, as scripts and service managers see them.
//!
//! The numbers are a promise: one keeps its meaning for ever, and a new reason takes a new
//! number. They stay below 64, apart from what shells and signals use. A failing program also
//! says on stderr, in one last line that starts with `boxoffice: `, what happened, where, and
//! what to do next. The table in the README is held to this one by a test.

use std::process;
use std::{fmt, io};

use crate::wal::WalError;

/// Why a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// It did what it was asked.
    Success = 0,
    /// It failed for a reason that has no code of its own.
    Failure = 1,
    /// The command line is wrong: an unknown flag, or a value that is not one.
    Usage = 2,
    /// A setting cannot be used: a directory, a key file, an address without keys.
    Configuration = 3,
    /// The machine lacks something: `io_uring`, locked memory, a CPU.
    Environment = 4,
    /// Another instance has the data directory.
    DirectoryInUse = 5,
    /// An address cannot be listened on.
    CannotListen = 6,
    /// The log is damaged; nothing was changed.
    DamagedLog = 7,
    /// The data is of a newer version, of another log, or not Boxoffice's; nothing was changed.
    ForeignData = 8,
    /// A write or sync of the log failed; what was acknowledged before is safe.
    DiskFailed = 9,
    /// A proof failed: the audit or the demo found a rule that was broken.
    Violation = 10,
    /// No running server was reached, or none that answered.
    NoServer = 11,
    /// A running server refused what was asked of it.
    Refused = 12,
    /// `wal verify` found what an interrupted write left; the next start removes it.
    TornTail = 13,
    /// The log has no room on the disk; what was acknowledged before is safe.
    NoRoom = 14,
    /// The log could not be read; nothing was changed.
    CannotRead = 15,
}

impl ExitCode {
    /// Every code, by number.
    pub const ALL: [Self; 16] = [
        Self::Success,
        Self::Failure,
        Self::Usage,
        Self::Configuration,
        Self::Environment,
        Self::DirectoryInUse,
        Self::CannotListen,
        Self::DamagedLog,
        Self::ForeignData,
        Self::DiskFailed,
        Self::Violation,
        Self::NoServer,
        Self::Refused,
        Self::TornTail,
        Self::NoRoom,
        Self::CannotRead,
    ];

    /// Why a log that cannot be used ends a program.
    pub(super) fn of_log(error: &WalError) -> Self {
        match error {
            WalError::Damage { .. }
            | WalError::NotASegment { .. }
            | WalError::NoSnapshot { .. }
            | WalError::MissingSegment { .. } => Self::DamagedLog,
            WalError::NewerFormat { .. }
            | WalError::ForeignLog { .. }
            | WalError::WrongShard { .. } => Self::ForeignData,
            WalError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Self::Configuration
            }
            WalError::Io { .. } => Self::CannotRead,
        }
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// What it means, as `--help` and the README say it.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "it did what it was asked",
            Self::Failure => "any other failure",
            Self::Usage => "wrong command line",
            Self::Configuration => "a setting cannot be used",
            Self::Environment => "the machine lacks something, such as io_uring",
            Self::DirectoryInUse => "another instance has the data directory",
            Self::CannotListen => "an address cannot be listened on",
            Self::DamagedLog => "the log is damaged; nothing was changed",
            Self::ForeignData => {
                "the data is of a newer version or another log; nothing was changed"
            }
            Self::DiskFailed => "a write or sync failed; what was acknowledged is safe",
            Self::Violation => "the audit or the demo found a broken rule",
            Self::NoServer => "no running server was reached, or none that answered",
            Self::Refused => "a running server refused what was asked",
            Self::TornTail => {
                "`wal verify`: only an interrupted write, which the next start removes"
            }
            Self::NoRoom => "the log has no room on the disk; what was acknowledged is safe",
            Self::CannotRead => "the log could not be read; nothing was changed",
        }
    }
}

impl fmt::Display for ExitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.number(), self.meaning())
    }
}

impl From<ExitCode> for process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_dense_and_in_order() {
        for (number, code) in ExitCode::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(code.number()), number, "{code:?}");
        }
    }

    #[test]
    fn the_readme_has_this_very_table() {
        let readme = include_str!("../../README.md");
        let rows: Vec<&str> = readme
            .lines()
            .skip_while(|line| *line != "| exit code | meaning |")
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .collect();
        let expected =
            ExitCode::ALL.map(|code| format!("| {} | {} |", code.number(), code.meaning()));
        assert_eq!(rows, expected);
    }
}
