//! The target of a request, and the percent-encoding of its parts.

use arrayvec::ArrayVec;
use memchr::memchr;

use super::fault::HttpFault;
use super::head::TARGET_BYTES_MAX;
use super::request::Method;

/// A target's path and query, both as they came.
pub(super) struct Target<'a> {
    pub path: &'a str,
    pub query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Takes a path (origin form), a whole URI (absolute form, its scheme and authority are left
    /// out: this server has one site), or the `*` of `OPTIONS`. The form of `CONNECT`, a bare
    /// authority, is refused.
    pub fn parse(target: &'a [u8], method: Method) -> Result<Self, HttpFault> {
        if target.len() > TARGET_BYTES_MAX {
            return Err(HttpFault::TargetTooLong);
        }
        let Some(target) = str::from_utf8(target).ok().filter(|_| is_escaped_uri(target)) else {
            return Err(HttpFault::Target);
        };
        if target == "*" {
            let is_options = method == Method::Options;
            return if is_options { Ok(Self::split(target)) } else { Err(HttpFault::Target) };
        }
        if target.starts_with('/') {
            return Ok(Self::split(target));
        }
        let rest = after_scheme(target).ok_or(HttpFault::Target)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        if !is_authority(&rest.as_bytes()[..end]) {
            return Err(HttpFault::Target);
        }
        let Self { path, query } = Self::split(&rest[end..]);
        Ok(Self { path: if path.is_empty() { "/" } else { path }, query })
    }

    fn split(target: &'a str) -> Self {
        match memchr(b'?', target.as_bytes()) {
            Some(at) => Self { path: &target[..at], query: Some(&target[at + 1..]) },
            None => Self { path: target, query: None },
        }
    }
}

fn after_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// Whether these bytes are a host and perhaps a port, without a user.
pub(super) fn is_authority(bytes: &[u8]) -> bool {
    // Without a way out on the way: they are few, and mostly right.
    let is_all = |all, &byte: &u8| all & AUTHORITY_BYTES[usize::from(byte)];
    !bytes.is_empty() && bytes.iter().fold(true, is_all)
}

/// The bytes of a host and a port (RFC 3986, 3.2).
const AUTHORITY_BYTES: [bool; 256] = letters_digits_and(b"-._~:[]%!$&'()*+;=");

/// The bytes that a URI has, without `#`, which never travels (RFC 3986, 2 and 3.5).
const URI_BYTES: [bool; 256] = letters_digits_and(b"-._~:/?@!$&'()*+,;=%[]");

const fn letters_digits_and(marks: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut mark = 0;
    while mark < marks.len() {
        table[marks[mark] as usize] = true;
        mark += 1;
    }
    table
}

/// Whether these are bytes of a URI, and each `%` stands before two hexadecimal digits.
fn is_escaped_uri(bytes: &[u8]) -> bool {
    let (mut has_escape, mut is_uri) = (false, true);
    for &byte in bytes {
        has_escape |= byte == b'%';
        is_uri &= URI_BYTES[usize::from(byte)];
    }
    if !has_escape {
        return is_uri;
    }
    is_uri && bytes.split(|&byte| byte == b'%').skip(1).all(|rest| escaped(rest).is_some())
}

/// The byte that two hexadecimal digits at the start of `rest` stand for.
fn escaped(rest: &[u8]) -> Option<u8> {
    let [high, low] = *rest.first_chunk::<2>()?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some((digit(high)? << 4 | digit(low)?) as u8)
}

/// A part of a target without its percent-encoding, in a buffer of its own.
pub(super) type Unescaped = ArrayVec<u8, TARGET_BYTES_MAX>;

/// Undoes the percent-encoding of a path's segment, or with `is_form` of a query's name or
/// value, where `+` stands for a space. `None` where that is no UTF-8.
pub(super) fn unescape<'b>(
    part: &'b str,
    is_form: bool,
    buffer: &'b mut Unescaped,
) -> Option<&'b str> {
    let is_plain = |byte: u8| byte != b'%' && !(is_form && byte == b'+');
    if part.bytes().all(is_plain) {
        return Some(part);
    }
    buffer.clear();
    let mut rest = part.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        buffer.push(match byte {
            b'%' => {
                let byte = escaped(rest)?;
                rest = &rest[2..];
                byte
            }
            b'+' if is_form => b' ',
            byte => byte,
        });
    }
    str::from_utf8(buffer).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(target: &str) -> Result<(&str, Option<&str>), HttpFault> {
        Target::parse(target.as_bytes(), Method::Get).map(|target| (target.path, target.query))
    }

    #[test]
    fn targets_are_paths_or_whole_uris() {
        assert_eq!(parse("/a/b?c=d?e"), Ok(("/a/b", Some("c=d?e"))));
        assert_eq!(parse("HTTP://host:80/a?b"), Ok(("/a", Some("b"))));
        assert_eq!(parse("https://[::1]"), Ok(("/", None)));
        assert_eq!(parse("http://host?b"), Ok(("/", Some("b"))));
        assert!(Target::parse(b"*", Method::Options).is_ok());
        let wrong = [
            "",
            "*",
            "a",
            "host:80",
            "http://",
            "http:///a",
            "http://u@host/",
            "ftp://h/",
            "/a#b",
            "/\u{e9}",
            "/a b",
            "/%",
            "/%4",
            "/%4x",
            "/%%41",
            "/a\\b",
            "/?%zz",
        ];
        for target in wrong {
            assert_eq!(parse(target), Err(HttpFault::Target), "{target}");
        }
        let long = format!("/{}", "x".repeat(TARGET_BYTES_MAX));
        assert_eq!(parse(&long), Err(HttpFault::TargetTooLong));
        assert!(parse(&long[..TARGET_BYTES_MAX]).is_ok());
    }

    #[test]
    fn percent_encoding_is_undone_once() {
        let mut buffer = Unescaped::new();
        assert_eq!(unescape("a+b", false, &mut buffer), Some("a+b"));
        assert_eq!(unescape("a+%2b%252F", true, &mut buffer), Some("a +%2F"));
        assert_eq!(unescape("%C3%a9%2F", false, &mut buffer), Some("\u{e9}/"));
        assert_eq!(unescape("%ff", false, &mut buffer), None);
    }
}
