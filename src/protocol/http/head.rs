//! The head of a request: its line and its headers, and what they say about the body.

use memchr::memchr;

use super::fault::HttpFault;
use super::lines::{Header, Lines, is_token};
use super::request::{Method, Request, Version};
use super::target::{Target, is_authority};

/// The longest head, in bytes, with the empty line behind it.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;

/// The most headers.
pub const HEADERS_MAX: usize = 64;

/// The longest target, in bytes.
pub const TARGET_BYTES_MAX: usize = 1024;

/// The longest request line whose target may fit: method and version beside it.
const REQUEST_LINE_BYTES_MAX: usize = TARGET_BYTES_MAX + 64;

/// How the end of a request is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// By its head: this many bytes of body, zero where there is nothing said.
    Length(u64),
    /// By a chunk of no bytes.
    Chunked,
}

/// A head, taken apart.
pub(super) struct Head<'a> {
    /// How many bytes it is, with the empty line.
    pub len: usize,
    /// The request, yet without its body.
    pub request: Request<'a>,
    /// How its end is known.
    pub framing: Framing,
    /// Whether the client waits to be told to go on.
    pub expects_continue: bool,
}

/// The empty line that may stand before a request; it is no part of its head.
pub(super) fn skipped(input: &[u8]) -> usize {
    if input.starts_with(b"\r\n") { 2 } else { 0 }
}

/// Where the head that begins at `start` ends: behind its empty line. `scanned` says how far it
/// was looked for before, and then, how far now.
pub(super) fn find_end(
    input: &[u8],
    start: usize,
    scanned: &mut u32,
) -> Result<Option<usize>, HttpFault> {
    // What does not begin like a method is another protocol, and not worth waiting for.
    if input.get(start).is_some_and(|byte| !byte.is_ascii_graphic()) && input != b"\r" {
        return Err(HttpFault::Syntax);
    }
    let limit = input.len().min(start + HEAD_BYTES_MAX);
    let mut from = (*scanned as usize).max(start);
    while let Some(offset) = memchr(b'\n', &input[from..limit]) {
        let line_end = from + offset;
        if input[line_end - 1] != b'\r' {
            return Err(HttpFault::LineEnd);
        }
        from = line_end + 1;
        if input[line_end - 2] == b'\n' {
            return Ok(Some(from));
        }
    }
    *scanned = limit as u32;
    if limit < start + HEAD_BYTES_MAX {
        return Ok(None);
    }
    let line = &input[start..start + REQUEST_LINE_BYTES_MAX];
    let is_line = memchr(b'\n', line).is_some();
    Err(if is_line { HttpFault::HeadTooLarge } else { HttpFault::TargetTooLong })
}

/// Takes the head apart that `input` begins with.
#[inline]
pub(super) fn parse(input: &[u8]) -> Result<Head<'_>, HttpFault> {
    let input = &input[..input.len().min(HEAD_BYTES_MAX)];
    let mut lines = Lines::of(input);
    let line = lines.request_line()?;
    let behind_line = lines.rest();
    let mut fields = Fields::default();
    while let Some(header) = lines.header()? {
        fields.take(&header)?;
    }
    let version = line.version;
    let method = method_of(line.method)?;
    let target = Target::parse(line.target, method)?;
    let framing = fields.framing(version)?;
    let expects_continue = fields.expects_continue(version)?;
    fields.check_host(version)?;
    Ok(Head {
        len: input.len() - lines.rest().len(),
        request: Request {
            method,
            version,
            path: target.path,
            query: target.query,
            keep_alive: fields.keep_alive(version),
            has_length: fields.content_length.is_some() || framing == Framing::Chunked,
            body: &[],
            authorization: fields.authorization,
            idempotency_key: fields.idempotency_key,
            content_type: fields.content_type,
            content_encoding: fields.content_encoding,
            origin: fields.origin,
            requested_method: fields.requested_method,
            header_lines: &behind_line[..behind_line.len() - lines.rest().len()],
        },
        framing,
        expects_continue,
    })
}

fn method_of(name: &[u8]) -> Result<Method, HttpFault> {
    Ok(match name {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        b"POST" => Method::Post,
        b"OPTIONS" => Method::Options,
        b"PUT" => Method::Put,
        b"DELETE" | b"PATCH" | b"CONNECT" | b"TRACE" | b"QUERY" => Method::Foreign,
        _ if is_token(name) => Method::Unknown,
        _ => return Err(HttpFault::Syntax),
    })
}

/// The headers that matter, gathered one by one.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
    expect: Option<&'a [u8]>,
    closes: bool,
    keeps_alive: bool,
    authorization: Option<&'a [u8]>,
    idempotency_key: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    content_encoding: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    requested_method: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, header: &Header<'a>) -> Result<(), HttpFault> {
        let Header { name, value } = *header;
        let (place, fault) = match name.len() {
            4 if is(name, b"host") => (&mut self.host, HttpFault::Host),
            6 if is(name, b"expect") => (&mut self.expect, HttpFault::RepeatedHeader),
            6 if is(name, b"origin") => (&mut self.origin, HttpFault::RepeatedHeader),
            10 if is(name, b"connection") => {
                self.take_connection(value);
                return Ok(());
            }
            12 if is(name, b"content-type") => (&mut self.content_type, HttpFault::RepeatedHeader),
            13 if is(name, b"authorization") => {
                (&mut self.authorization, HttpFault::RepeatedHeader)
            }
            14 if is(name, b"content-length") => {
                (&mut self.content_length, HttpFault::ContentLength)
            }
            15 if is(name, b"idempotency-key") => {
                (&mut self.idempotency_key, HttpFault::RepeatedHeader)
            }
            16 if is(name, b"content-encoding") => {
                (&mut self.content_encoding, HttpFault::RepeatedHeader)
            }
            17 if is(name, b"transfer-encoding") => {
                (&mut self.transfer_encoding, HttpFault::TransferEncoding)
            }
            29 if is(name, b"access-control-request-method") => {
                (&mut self.requested_method, HttpFault::RepeatedHeader)
            }
            _ if is_token(name) => return Ok(()),
            _ => return Err(HttpFault::Syntax),
        };
        if place.replace(value).is_some() { Err(fault) } else { Ok(()) }
    }

    fn take_connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            self.closes |= option.eq_ignore_ascii_case(b"close");
            self.keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn keep_alive(&self, version: Version) -> bool {
        !self.closes && (version == Version::Http11 || self.keeps_alive)
    }

    fn framing(&self, version: Version) -> Result<Framing, HttpFault> {
        match (self.transfer_encoding, self.content_length) {
            (Some(_), Some(_)) => Err(HttpFault::BothLengths),
            (Some(coding), None) => {
                let is_chunked = coding.eq_ignore_ascii_case(b"chunked");
                if is_chunked && version == Version::Http11 {
                    Ok(Framing::Chunked)
                } else {
                    Err(HttpFault::TransferEncoding)
                }
            }
            (None, Some(length)) => decimal(length).map(Framing::Length),
            (None, None) => Ok(Framing::Length(0)),
        }
    }

    /// HTTP/1.0 has no expectations: there the header means nothing.
    fn expects_continue(&self, version: Version) -> Result<bool, HttpFault> {
        match self.expect {
            Some(expected) if version == Version::Http11 => {
                let is_continue = expected.eq_ignore_ascii_case(b"100-continue");
                if is_continue { Ok(true) } else { Err(HttpFault::Expectation) }
            }
            _ => Ok(false),
        }
    }

    fn check_host(&self, version: Version) -> Result<(), HttpFault> {
        match self.host {
            Some(host) if is_authority(host) => Ok(()),
            None if version == Version::Http10 => Ok(()),
            _ => Err(HttpFault::Host),
        }
    }
}

/// A length of digits alone; one past the range of `u64` is the largest there is.
fn decimal(text: &[u8]) -> Result<u64, HttpFault> {
    if text.is_empty() {
        return Err(HttpFault::ContentLength);
    }
    text.iter().try_fold(0_u64, |length, &byte| {
        let digit = byte.wrapping_sub(b'0');
        let is_digit = digit <= 9;
        is_digit
            .then(|| length.saturating_mul(10).saturating_add(u64::from(digit)))
            .ok_or(HttpFault::ContentLength)
    })
}

/// Whether a header's name, a token, is this one, which is given in lower case. A token has no
/// other byte that bit makes a letter or a hyphen.
fn is<const N: usize>(name: &[u8], known: &[u8; N]) -> bool {
    let Ok(name) = <&[u8; N]>::try_from(name) else { return false };
    name.iter().zip(known).fold(0, |differs, (byte, known)| differs | (byte | 0x20) ^ known) == 0
}
