//! The head of a request: its line and its headers.

/// The longest head, in bytes, with the empty line behind it.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;

/// The most headers.
pub const HEADERS_MAX: usize = 64;

/// The longest target, in bytes.
pub const TARGET_BYTES_MAX: usize = 1024;
