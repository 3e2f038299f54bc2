//! Where a request ends and what it is made of, found as the bytes come.

use super::chunked::CHUNKED_BYTES_MAX;
use super::fault::HttpFault;
use super::head::HEAD_BYTES_MAX;
use super::request::Request;

/// The longest body, in bytes, without its transfer coding.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

/// The most bytes of one request: what a connection has to keep at most.
pub const REQUEST_BYTES_MAX: usize = HEAD_BYTES_MAX + CHUNKED_BYTES_MAX;

const _: () = assert!(BODY_BYTES_MAX <= CHUNKED_BYTES_MAX);

/// How far a connection's current request is decoded. One per connection.
#[derive(Debug, Default)]
pub struct Decoder {
    scanned: u32,
}

/// What the bytes so far are.
#[derive(Debug)]
pub enum Decoded<'a> {
    /// The beginning of a request, or nothing yet. Call again with these bytes and more behind
    /// them.
    Incomplete {
        /// The client waits for [`CONTINUE`](super::CONTINUE) before it sends the body. Said
        /// once for each request.
        wants_continue: bool,
    },
    /// A whole request. Drop `consumed` bytes before the next call.
    Complete {
        /// The bytes of the request.
        consumed: usize,
        /// The request.
        request: Request<'a>,
    },
}

impl Decoder {
    /// Decodes the request at the start of `input`.
    ///
    /// `input` begins where it began at the last call that was not complete, and never is
    /// shorter: the decoder goes on where it stopped, so each byte is looked at a bounded number
    /// of times however slowly they come. After a fault the connection is over.
    pub fn decode<'a>(&'a mut self, input: &'a [u8]) -> Result<Decoded<'a>, HttpFault> {
        let _ = (&mut self.scanned, input);
        Ok(Decoded::Incomplete { wants_continue: false })
    }
}
