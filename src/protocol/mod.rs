//! Bytes to model and back. No I/O, no clock, and no decision about stock.
//!
//! [`codes`] is the one table of wire codes, HTTP statuses and names; [`binary`] is the framed
//! protocol; with the feature `server`, `http` is HTTP/1.1 with JSON, and `proxy` the header that
//! a proxy puts before a connection's first byte.

pub mod binary;
pub mod codes;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod proxy;
