//! The frame of every answer: status line, headers, body.

use super::fault::Methods;
use super::json::put_number;
use super::reply::{Reply, Site};
use super::request::Version;

/// Room for the digits of a body's length, which is known only behind the body.
const LENGTH_DIGITS: usize = 7;

/// The longest body: what [`LENGTH_DIGITS`] digits can say.
pub(super) const ANSWER_BODY_BYTES_MAX: usize = 9_999_999;

/// What an answer says behind which the connection ends.
const CLOSE: &[u8] = b"Connection: close\r\n";

/// What one says to HTTP/1.0 behind which it goes on.
const KEEP_ALIVE: &[u8] = b"Connection: keep-alive\r\n";

/// Appends an answer with a body. `put_headers` appends whole lines, `put_body` the body.
#[inline]
pub(super) fn respond(
    out: &mut Vec<u8>,
    site: &Site,
    reply: &Reply,
    status: u16,
    put_headers: impl FnOnce(&mut Vec<u8>),
    put_body: impl FnOnce(&mut Vec<u8>),
) {
    begin(out, site, reply, status);
    put_headers(out);
    out.extend_from_slice(b"Content-Length: 0000000\r\n\r\n");
    let body_start = out.len();
    put_body(out);
    seal(out, body_start, reply.is_head);
}

/// Appends an answer that has no body, whatever the method.
pub(super) fn respond_empty(
    out: &mut Vec<u8>,
    site: &Site,
    reply: &Reply,
    status: u16,
    put_headers: impl FnOnce(&mut Vec<u8>),
) {
    begin(out, site, reply, status);
    put_headers(out);
    out.extend_from_slice(b"\r\n");
}

/// The status line, and the headers that every answer has.
#[inline]
fn begin(out: &mut Vec<u8>, site: &Site, reply: &Reply, status: u16) {
    out.extend_from_slice(status_line(status).as_bytes());
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(site.date.as_bytes());
    out.extend_from_slice(b"\r\n");
    match (reply.keep_alive, reply.version) {
        (true, Version::Http11) => {}
        (true, Version::Http10) => out.extend_from_slice(KEEP_ALIVE),
        (false, _) => out.extend_from_slice(CLOSE),
    }
    if let Some(origin) = site.cors.allowed_origin(reply.sharing) {
        out.extend_from_slice(b"Access-Control-Allow-Origin: ");
        out.extend_from_slice(origin.as_bytes());
        out.extend_from_slice(
            b"\r\nAccess-Control-Expose-Headers: Idempotency-Replayed, Location, Retry-After\r\n",
        );
    }
    if site.cors.varies() {
        out.extend_from_slice(b"Vary: Origin\r\n");
    }
}

/// Makes the last answer in `out`, which begins at `start` and was encoded as one behind which the
/// connection goes on, say that the connection ends.
///
/// # Panics
///
/// Where no answer begins there.
pub fn announce_close(out: &mut Vec<u8>, start: usize) {
    let lines = out[start..].split_inclusive(|&byte| byte == b'\n');
    let head: usize = lines.take(2).map(<[u8]>::len).sum();
    let line_start = start + head;
    assert!(out[start..].starts_with(b"HTTP/1.1 ") && head > 2, "an answer begins at {start}");
    let is_told = out[line_start..].starts_with(KEEP_ALIVE);
    let line_end = line_start + if is_told { KEEP_ALIVE.len() } else { 0 };
    out.splice(line_start..line_end, CLOSE.iter().copied());
}

/// Puts the length of the body into its header, moving the body up behind its digits, and drops
/// a body that is not to be sent.
#[inline]
fn seal(out: &mut Vec<u8>, body_start: usize, is_head: bool) {
    let mut digits = itoa::Buffer::new();
    let length = out.len() - body_start;
    assert!(length <= ANSWER_BODY_BYTES_MAX, "a body of {length} bytes");
    let digits = digits.format(length).as_bytes();
    let digits_start = body_start - 4 - LENGTH_DIGITS;
    let digits_end = digits_start + digits.len();
    out[digits_start..digits_end].copy_from_slice(digits);
    let spare = LENGTH_DIGITS - digits.len();
    if is_head {
        out.truncate(body_start);
    }
    out.copy_within(body_start - 4.., digits_end);
    out.truncate(out.len() - spare);
}

/// Appends the header that says which methods a place takes.
pub(super) fn put_allow(out: &mut Vec<u8>, methods: Methods) {
    out.extend_from_slice(b"Allow: ");
    out.extend_from_slice(methods.allow().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends when to come back: whole seconds, at least one.
pub(super) fn put_retry_after(out: &mut Vec<u8>, seconds: u64) {
    out.extend_from_slice(b"Retry-After: ");
    put_number(out, seconds.max(1));
    out.extend_from_slice(b"\r\n");
}

/// Declares [`status_line`] from rows of `code "Reason"`.
macro_rules! status_lines {
    ($($code:literal $reason:literal)*) => {
        /// The first line of an answer, with its line end, for every status that an answer here
        /// can have.
        ///
        /// # Panics
        ///
        /// Where no answer has this status.
        #[must_use]
        pub fn status_line(status: u16) -> &'static str {
            match status {
                $($code => concat!("HTTP/1.1 ", $code, " ", $reason, "\r\n"),)*
                _ => unreachable!("no answer has the status {status}"),
            }
        }
    };
}

status_lines! {
    200 "OK"
    201 "Created"
    204 "No Content"
    304 "Not Modified"
    400 "Bad Request"
    401 "Unauthorized"
    403 "Forbidden"
    404 "Not Found"
    405 "Method Not Allowed"
    408 "Request Timeout"
    409 "Conflict"
    410 "Gone"
    411 "Length Required"
    413 "Content Too Large"
    414 "URI Too Long"
    415 "Unsupported Media Type"
    417 "Expectation Failed"
    422 "Unprocessable Content"
    428 "Precondition Required"
    429 "Too Many Requests"
    431 "Request Header Fields Too Large"
    501 "Not Implemented"
    503 "Service Unavailable"
    505 "HTTP Version Not Supported"
    507 "Insufficient Storage"
}
