//! Chunked bodies, read as they come.

/// The most bytes that a chunked body may have with its sizes, extensions and trailers.
pub const CHUNKED_BYTES_MAX: usize = 32 * 1024;
