//! Chunked bodies (RFC 9112, 7.1), read as they come.
//!
//! Extensions are skipped and trailers dropped. What one reader might take for a chunk and
//! another not is refused: sizes with signs or white space, lines that end in a bare LF or CR,
//! folded trailers, and trailers that are no headers.

use super::decoder::BODY_BYTES_MAX;
use super::fault::HttpFault;

/// The most bytes that a chunked body may have with its sizes, extensions and trailers, where it
/// may have [`BODY_BYTES_MAX`] without.
pub const CHUNKED_BYTES_MAX: usize = coded_bytes_max(BODY_BYTES_MAX);

/// The most bytes of a chunked body that may have so many without its coding.
pub(super) const fn coded_bytes_max(body_bytes_max: usize) -> usize {
    2 * body_bytes_max
}

/// The most digits of a chunk's size, leading zeroes among them.
const SIZE_DIGITS_MAX: u8 = 8;

/// What the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A digit of a size, of which there have been so many, or what ends it.
    Size { size: u32, digits: u8 },
    /// Of an extension.
    Extension { size: u32 },
    /// The LF of a size's line.
    SizeEnd { size: u32 },
    /// Of a chunk, of which so many bytes are missing.
    Data { missing: u32 },
    /// The CR behind a chunk.
    DataCr,
    /// The LF behind a chunk.
    DataLf,
    /// The first of a trailer's line, or of the empty line.
    TrailerStart,
    /// Of the name of a trailer.
    TrailerName,
    /// Of a trailer's value.
    Trailer,
    /// The LF of a trailer.
    TrailerEnd,
    /// The LF of the empty line.
    End,
}

/// A chunked body that is being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunked {
    state: State,
    /// Bytes read, coding and all.
    read: u32,
}

impl Chunked {
    pub const START: Self = Self { state: State::Size { size: 0, digits: 0 }, read: 0 };

    /// Reads on in `coded`, which begins where the body does, and appends what it says to
    /// `body`, at most `max` bytes. Returns the length of the coded body once it is whole.
    pub fn read(
        &mut self,
        coded: &[u8],
        body: &mut Vec<u8>,
        max: usize,
    ) -> Result<Option<usize>, HttpFault> {
        let limit = coded.len().min(coded_bytes_max(max));
        let mut at = self.read as usize;
        while at < limit {
            if let State::Data { missing } = self.state {
                let taken = (missing as usize).min(limit - at);
                body.extend_from_slice(&coded[at..at + taken]);
                at += taken;
                let missing = missing - taken as u32;
                self.state = if missing == 0 { State::DataCr } else { State::Data { missing } };
                continue;
            }
            let byte = coded[at];
            at += 1;
            if self.state == State::End && byte == b'\n' {
                return Ok(Some(at));
            }
            self.state = self.state.next(byte, max - body.len())?;
        }
        self.read = at as u32;
        if at == coded_bytes_max(max) { Err(HttpFault::BodyTooLarge) } else { Ok(None) }
    }
}

impl State {
    /// The state behind one byte of the coding, where the body has room for so many bytes.
    fn next(self, byte: u8, room: usize) -> Result<Self, HttpFault> {
        Ok(match (self, byte) {
            (Self::Size { digits: 1.., size }, b'\r') => Self::SizeEnd { size },
            (Self::Size { digits: 1.., size }, b';') => Self::Extension { size },
            (Self::Size { size, digits }, byte) if digits < SIZE_DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).ok_or(HttpFault::Chunk)?;
                Self::Size { size: size << 4 | digit, digits: digits + 1 }
            }
            (Self::Extension { size }, b'\r') => Self::SizeEnd { size },
            (Self::Extension { size }, byte) if is_text(byte) => Self::Extension { size },
            (Self::SizeEnd { size: 0 }, b'\n') => Self::TrailerStart,
            (Self::SizeEnd { size }, b'\n') => {
                if size as usize > room {
                    return Err(HttpFault::BodyTooLarge);
                }
                Self::Data { missing: size }
            }
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size { size: 0, digits: 0 },
            (Self::TrailerStart, b'\r') => Self::End,
            (Self::TrailerStart | Self::TrailerName, byte) if is_token(byte) => Self::TrailerName,
            (Self::TrailerName, b':') => Self::Trailer,
            (Self::Trailer, b'\r') => Self::TrailerEnd,
            (Self::Trailer, byte) if is_text(byte) => Self::Trailer,
            (Self::TrailerEnd, b'\n') => Self::TrailerStart,
            _ => return Err(HttpFault::Chunk),
        })
    }
}

/// Whether a byte may stand in the name of a header.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.')
        || matches!(byte, b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Whether a byte may stand in the value of a header.
const fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
