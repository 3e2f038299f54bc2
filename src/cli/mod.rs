//! The programs: flags, texts, exit codes.

pub mod exit;
