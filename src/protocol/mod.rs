//! Bytes to model and back. No I/O, no clock, and no decision about stock.
//!
//! [`codes`] is the one table of wire codes, HTTP statuses and names; [`binary`] is the framed
//! protocol.

pub mod binary;
pub mod codes;
