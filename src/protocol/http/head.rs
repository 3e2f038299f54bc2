//! The head of a request: its line and its headers, and what they say about the body.

use std::mem::MaybeUninit;

use memchr::memchr;

use super::fault::HttpFault;
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

/// Takes a whole head apart.
pub(super) fn parse(head: &[u8]) -> Result<Head<'_>, HttpFault> {
    let mut places = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, &mut places) {
        Ok(httparse::Status::Complete(len)) if len == head.len() => {}
        Ok(_) => return Err(HttpFault::Syntax),
        Err(error) => return Err(fault_of(error, head)),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(HttpFault::Syntax);
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let mut fields = Fields::default();
    for header in &*parsed.headers {
        fields.take(header.name, header.value.trim_ascii())?;
    }
    let method = method_of(method);
    let target = Target::parse(target, method)?;
    let framing = fields.framing(version)?;
    let expects_continue = fields.expects_continue(version)?;
    fields.check_host(version)?;
    let line_end = memchr(b'\n', head).map_or(head.len(), |at| at + 1);
    Ok(Head {
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
            header_lines: &head[line_end..],
        },
        framing,
        expects_continue,
    })
}

fn method_of(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "OPTIONS" => Method::Options,
        "PUT" => Method::Put,
        "DELETE" | "PATCH" | "CONNECT" | "TRACE" | "QUERY" => Method::Foreign,
        _ => Method::Unknown,
    }
}

#[cold]
fn fault_of(error: httparse::Error, head: &[u8]) -> HttpFault {
    match error {
        httparse::Error::TooManyHeaders => HttpFault::HeadTooLarge,
        httparse::Error::Version if is_other_version(head) => HttpFault::Version,
        _ => HttpFault::Syntax,
    }
}

/// Whether the request line ends in a well-formed version that is not ours.
fn is_other_version(head: &[u8]) -> bool {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    match line.last_chunk::<9>() {
        // One that is ours stands behind something else that the parser took for a version.
        Some(b" HTTP/1.0" | b" HTTP/1.1") => false,
        Some([b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]) => {
            major.is_ascii_digit() && minor.is_ascii_digit()
        }
        _ => false,
    }
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
    fn take(&mut self, name: &str, value: &'a [u8]) -> Result<(), HttpFault> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let (place, fault) = match name.len() {
            4 if is("host") => (&mut self.host, HttpFault::Host),
            6 if is("expect") => (&mut self.expect, HttpFault::RepeatedHeader),
            6 if is("origin") => (&mut self.origin, HttpFault::RepeatedHeader),
            10 if is("connection") => {
                self.take_connection(value);
                return Ok(());
            }
            12 if is("content-type") => (&mut self.content_type, HttpFault::RepeatedHeader),
            13 if is("authorization") => (&mut self.authorization, HttpFault::RepeatedHeader),
            14 if is("content-length") => (&mut self.content_length, HttpFault::ContentLength),
            15 if is("idempotency-key") => (&mut self.idempotency_key, HttpFault::RepeatedHeader),
            16 if is("content-encoding") => (&mut self.content_encoding, HttpFault::RepeatedHeader),
            17 if is("transfer-encoding") => {
                (&mut self.transfer_encoding, HttpFault::TransferEncoding)
            }
            29 if is("access-control-request-method") => {
                (&mut self.requested_method, HttpFault::RepeatedHeader)
            }
            _ => return Ok(()),
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
