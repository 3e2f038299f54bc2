//! The lines of a head: the request line and the headers, each read once and none kept.
//!
//! Of what RFC 9112 leaves open, the strict side is taken, so that no reader in front can see
//! other lines in the same bytes: a line ends in CR and LF, one space stands on either side of the
//! target, nothing stands before a header's name or between it and its colon, and no line is
//! folded. A value is of visible characters, spaces, tabs and bytes beyond ASCII.

use super::fault::HttpFault;
use super::head::HEADERS_MAX;
use super::request::Version;

/// A request line, taken apart.
pub(super) struct RequestLine<'a> {
    pub method: &'a [u8],
    pub target: &'a [u8],
    pub version: Version,
}

/// A header, taken apart.
pub(super) struct Header<'a> {
    /// What stands before the colon: [`is_token`] says whether it is a name, where it is no known
    /// one.
    pub name: &'a [u8],
    /// The value, without the spaces around it.
    pub value: &'a [u8],
}

/// What of a head is yet to be read.
pub(super) struct Lines<'a> {
    rest: &'a [u8],
    headers: usize,
}

impl<'a> Lines<'a> {
    /// Begins with the request line. What stands behind the head does not matter.
    pub const fn of(input: &'a [u8]) -> Self {
        Self { rest: input, headers: 0 }
    }

    /// The bytes that were not read.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The first line.
    pub fn request_line(&mut self) -> Result<RequestLine<'a>, HttpFault> {
        let method = self.take_until::<{ b' ' + 1 }, DEL>(b' ')?;
        let target = self.take_until::<{ b' ' + 1 }, DEL>(b' ')?;
        let (version, rest) = if let Some(rest) = self.rest.strip_prefix(b"HTTP/1.1\r\n") {
            (Version::Http11, rest)
        } else if let Some(rest) = self.rest.strip_prefix(b"HTTP/1.0\r\n") {
            (Version::Http10, rest)
        } else {
            return Err(fault_of_version(self.rest));
        };
        self.rest = rest;
        Ok(RequestLine { method, target, version })
    }

    /// The next header. `None` is the empty line at the end.
    #[inline]
    pub fn header(&mut self) -> Result<Option<Header<'a>>, HttpFault> {
        if let Some(rest) = self.rest.strip_prefix(b"\r\n") {
            self.rest = rest;
            return Ok(None);
        }
        self.headers += 1;
        if self.headers > HEADERS_MAX {
            return Err(HttpFault::HeadTooLarge);
        }
        let name = self.take_until::<{ b' ' + 1 }, b':'>(b':')?;
        let mut end = first_of::<b' ', DEL>(self.rest);
        while self.rest.get(end) == Some(&b'\t') {
            end += 1;
            end += first_of::<b' ', DEL>(&self.rest[end..]);
        }
        let (value, rest) = self.rest.split_at(end);
        self.rest = rest.strip_prefix(b"\r\n").ok_or(HttpFault::Syntax)?;
        Ok(Some(Header { name, value: value.trim_ascii() }))
    }

    /// What stands before the first byte that [`first_of`] finds, at least one byte; that has to
    /// be this one, and is taken too.
    #[inline]
    fn take_until<const LIMIT: u8, const OTHER: u8>(
        &mut self,
        end: u8,
    ) -> Result<&'a [u8], HttpFault> {
        let (taken, rest) = self.rest.split_at(first_of::<LIMIT, OTHER>(self.rest));
        match rest {
            [first, rest @ ..] if *first == end && !taken.is_empty() => {
                self.rest = rest;
                Ok(taken)
            }
            _ => Err(HttpFault::Syntax),
        }
    }
}

/// What stands where a version should: a well-formed one that is not ours, or something else.
#[cold]
fn fault_of_version(rest: &[u8]) -> HttpFault {
    match rest {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b'\r', b'\n', ..]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            HttpFault::Version
        }
        _ => HttpFault::Syntax,
    }
}

const DEL: u8 = 0x7f;

/// Where the first byte is that is `OTHER` or below `LIMIT`, or how many bytes there are: eight at
/// a time.
#[inline]
fn first_of<const LIMIT: u8, const OTHER: u8>(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let (words, tail) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The highest bit of a byte is set where the byte is below the limit. A borrow can set
        // further ones, but only in bytes behind such a one.
        let below = word.wrapping_sub(ONES * u64::from(LIMIT)) & !word;
        let differs = word ^ (ONES * u64::from(OTHER));
        let other = differs.wrapping_sub(ONES) & !differs;
        let found = (below | other) & HIGH;
        if found != 0 {
            return at * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let is_found = |&byte: &u8| byte < LIMIT || byte == OTHER;
    bytes.len() - tail.len() + tail.iter().position(is_found).unwrap_or(tail.len())
}

/// Whether these are the bytes of a token (RFC 9110, 5.6.2).
pub(super) fn is_token(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| TOKEN_BYTES[usize::from(byte)])
}

/// The bytes of a token.
const TOKEN_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut mark = 0;
    while mark < marks.len() {
        table[marks[mark] as usize] = true;
        mark += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Each byte at each place of a text of several lengths, before and behind others.
    #[test]
    fn the_first_byte_that_ends_something_is_found() {
        for length in 0..20 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    for around in [b'!', 0xff, b'~', 0x80, b';'] {
                        let mut bytes = vec![around; length];
                        bytes[at] = byte;
                        if at + 1 < length {
                            bytes[length - 1] = b'\r';
                        }
                        let expected = |limit: u8, other: u8| {
                            let is_found = |&byte: &u8| byte < limit || byte == other;
                            bytes.iter().position(is_found).unwrap_or(length)
                        };
                        let found = [first_of::<b' ', DEL>(&bytes), first_of::<b'!', b':'>(&bytes)];
                        let expected = [expected(b' ', DEL), expected(b'!', b':')];
                        assert_eq!(found, expected, "{bytes:?}");
                    }
                }
            }
        }
    }
}
