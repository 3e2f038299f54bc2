//! Frames: the 24-byte header, its checks, and building one in place.
//!
//! Reading borrows and allocates nothing. Checks run in the order of what they need: a wrong
//! length or version is told before the whole frame is there, so that a peer who speaks
//! something else is told at once and never makes the reader buffer.

use std::ops::RangeInclusive;

use super::opcode::Opcode;
use crate::protocol::codes::{WireCode, codes};

/// The version of the protocol.
pub const VERSION: u8 = 1;

/// The header of every frame.
pub const HEADER_BYTES: usize = 24;

/// The largest frame.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// The largest request: room for any count byte, so that too many lines are a refusal and not
/// a broken connection.
pub const REQUEST_BYTES_MAX: usize = 8 * 1024;

const LENGTH_OFFSET: usize = 4;
const CORRELATION_OFFSET: usize = 8;
const VERSION_OFFSET: usize = 16;
pub(super) const OPCODE_OFFSET: usize = 17;
pub(super) const FLAGS_OFFSET: usize = 18;
const RESERVED_OFFSET: usize = 20;

/// Why bytes are not a frame, or a frame not what its opcode says. A server sends it as `ERROR`
/// and closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} at byte {offset} of the frame", .code.name())]
pub struct DecodeError {
    /// What is wrong.
    pub code: ErrorCode,
    /// The offset in the frame of the byte at which decoding stopped.
    pub offset: u32,
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The length is below the header's or above the bound.
    BadLength,
    /// The CRC is another one.
    BadCrc,
    /// The version is not spoken here.
    BadVersion,
    /// The opcode is unknown, or its frame does not travel in this direction.
    UnknownOpcode,
    /// A byte that must be zero is not.
    NotZero,
    /// The payload ends too early.
    Truncated,
    /// The payload goes on behind its end.
    TrailingBytes,
    /// A tag, a code or a length inside the payload has no meaning.
    BadValue,
    /// The first request was not `HELLO`.
    HelloExpected,
    /// `HELLO` came a second time.
    HelloRepeated,
}

codes! { ErrorCode {
     1 BadLength     "BAD_LENGTH"
     2 BadCrc        "BAD_CRC"
     3 BadVersion    "BAD_VERSION"
     4 UnknownOpcode "UNKNOWN_OPCODE"
     5 NotZero       "NOT_ZERO"
     6 Truncated     "TRUNCATED"
     7 TrailingBytes "TRAILING_BYTES"
     8 BadValue      "BAD_VALUE"
     9 HelloExpected "HELLO_EXPECTED"
    10 HelloRepeated "HELLO_REPEATED"
} }

impl DecodeError {
    #[cold]
    pub(super) const fn at(offset: usize, code: ErrorCode) -> Self {
        Self { code, offset: offset as u32 }
    }

    /// What a server answers to any request before `HELLO`.
    pub const HELLO_EXPECTED: Self = Self::at(OPCODE_OFFSET, ErrorCode::HelloExpected);

    /// What a server answers to a second `HELLO`.
    pub const HELLO_REPEATED: Self = Self::at(OPCODE_OFFSET, ErrorCode::HelloRepeated);
}

/// A whole frame with a right checksum. Its payload is not looked into yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Which request it is, or which one it answers.
    pub correlation: u64,
    /// What it is: see [`Opcode`].
    pub opcode: u8,
    /// Zero in requests; bit 0 of an answer says that it is replayed.
    pub flags: u16,
    /// What stands behind the header.
    pub payload: &'a [u8],
    /// The bytes of the whole frame: where the next one starts.
    pub len: usize,
}

/// The frame that `bytes` start with; `None` where more bytes are needed. For clients: answers
/// go up to [`FRAME_BYTES_MAX`].
#[inline]
pub fn frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, DecodeError> {
    frame_within(bytes, HEADER_BYTES..=FRAME_BYTES_MAX)
}

/// The frame that `bytes` start with; `None` where more bytes are needed. For servers: never
/// asks for more than [`REQUEST_BYTES_MAX`].
#[inline]
pub fn request_frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, DecodeError> {
    frame_within(bytes, HEADER_BYTES..=REQUEST_BYTES_MAX)
}

#[inline]
fn frame_within(
    bytes: &[u8],
    lengths: RangeInclusive<usize>,
) -> Result<Option<Frame<'_>>, DecodeError> {
    let Some(start) = bytes.first_chunk::<CORRELATION_OFFSET>() else { return Ok(None) };
    let len = u32_at(start, LENGTH_OFFSET) as usize;
    if !lengths.contains(&len) {
        return Err(DecodeError::at(LENGTH_OFFSET, ErrorCode::BadLength));
    }
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    if header[VERSION_OFFSET] != VERSION {
        return Err(DecodeError::at(VERSION_OFFSET, ErrorCode::BadVersion));
    }
    let Some(whole) = bytes.get(..len) else { return Ok(None) };
    if crc32fast::hash(&whole[LENGTH_OFFSET..]) != u32_at(header, 0) {
        return Err(DecodeError::at(0, ErrorCode::BadCrc));
    }
    if u32_at(header, RESERVED_OFFSET) != 0 {
        return Err(DecodeError::at(RESERVED_OFFSET, ErrorCode::NotZero));
    }
    Ok(Some(Frame {
        correlation: u64::from(u32_at(header, CORRELATION_OFFSET))
            | u64::from(u32_at(header, CORRELATION_OFFSET + 4)) << 32,
        opcode: header[OPCODE_OFFSET],
        flags: u16::from_le_bytes([header[FLAGS_OFFSET], header[FLAGS_OFFSET + 1]]),
        payload: &whole[HEADER_BYTES..],
        len,
    }))
}

#[inline]
fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Appends one frame to `out`: the header, then what `payload` appends.
///
/// # Panics
///
/// Where the frame would be longer than [`FRAME_BYTES_MAX`]; the bounds of the model forbid it.
#[inline]
pub(super) fn append(
    out: &mut Vec<u8>,
    correlation: u64,
    opcode: Opcode,
    flags: u16,
    payload: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    let mut header = [0; HEADER_BYTES];
    header[CORRELATION_OFFSET..VERSION_OFFSET].copy_from_slice(&correlation.to_le_bytes());
    header[VERSION_OFFSET] = VERSION;
    header[OPCODE_OFFSET] = opcode.wire() as u8;
    header[FLAGS_OFFSET..RESERVED_OFFSET].copy_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&header);
    payload(out);
    seal(&mut out[start..]);
}

/// Fills in the length and then the CRC, which covers it.
#[inline]
fn seal(frame: &mut [u8]) {
    assert!(frame.len() <= FRAME_BYTES_MAX, "a frame of {} bytes", frame.len());
    let len = (frame.len() as u32).to_le_bytes();
    frame[LENGTH_OFFSET..CORRELATION_OFFSET].copy_from_slice(&len);
    let crc = crc32fast::hash(&frame[LENGTH_OFFSET..]).to_le_bytes();
    frame[..LENGTH_OFFSET].copy_from_slice(&crc);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_told_apart_as_early_as_its_bytes_allow() {
        let mut bytes = Vec::new();
        append(&mut bytes, 7, Opcode::Done, 1, |_| ());
        assert_eq!(frame(&bytes[..HEADER_BYTES - 1]), Ok(None));
        let whole = frame(&bytes).expect("valid").expect("whole");
        assert_eq!((whole.correlation, whole.flags, whole.len), (7, 1, HEADER_BYTES));

        let error = |bytes: &[u8]| frame(bytes).expect_err("must be refused");
        let mut oversize = bytes.clone();
        oversize[LENGTH_OFFSET + 3] = 1;
        assert_eq!(error(&oversize[..8]), DecodeError::at(4, ErrorCode::BadLength));
        let mut next = bytes.clone();
        next[LENGTH_OFFSET] = 200;
        next[VERSION_OFFSET] = 2;
        assert_eq!(error(&next), DecodeError::at(16, ErrorCode::BadVersion));
        assert_eq!(error(b"GET / HTTP/1.1\r\n"), DecodeError::at(4, ErrorCode::BadLength));
    }

    #[test]
    fn a_server_bounds_requests_below_answers() {
        let mut bytes = Vec::new();
        append(&mut bytes, 0, Opcode::Hello, 0, |out| out.resize(REQUEST_BYTES_MAX + 1, 0));
        assert!(frame(&bytes).is_ok());
        let error = request_frame(&bytes).expect_err("too long for a request");
        assert_eq!(error.code, ErrorCode::BadLength);
    }
}
