//! Bytes to model and back. No I/O, no clock, and no decision about stock.
//!
//! [`codes`] is the one table of wire codes, HTTP statuses and names; [`binary`] is the framed
//! protocol, `http` (with the feature `server`) is HTTP/1.1 with JSON.

pub mod binary;
pub mod codes;
#[cfg(feature = "server")]
pub mod http;
