//! The request id of HTTP, as a header or a path has it: a text, or that text in quotes.
//!
//! The draft that makes `Idempotency-Key` a standard writes it as a string of structured fields
//! (RFC 9651, 3.3.3), `"8e03978e-40d5-43dd-bc93-6894a57f9324"`; most clients send it bare. Both
//! are the same id, wherever it stands: a client that quotes a key when it buys and not when it
//! asks what became of it must not be told of another intent.

use arrayvec::ArrayVec;

use crate::model::text_id::TEXT_ID_BYTES_MAX;
use crate::model::{RequestId, request_id_from_text};

/// What a request id has to be, for people.
pub(super) const RULE: &str = "a request id is a text of 1 to 64 bytes, bare or in quotes";

/// The id that a text stands for, bare or quoted. `None` where it is empty, too long (the quotes
/// do not count, backslashes do) or no UTF-8, or where a quote begins what is no quoted string.
#[must_use]
pub fn request_id(text: &[u8]) -> Option<RequestId> {
    if text.first() == Some(&b'"') {
        return request_id_from_text(&unquoted(text)?);
    }
    let is_text = text.is_ascii() || str::from_utf8(text).is_ok();
    if is_text { request_id_from_text(text) } else { None }
}

/// What stands between quotes: visible ASCII and spaces, a backslash before a quote or itself.
fn unquoted(text: &[u8]) -> Option<ArrayVec<u8, TEXT_ID_BYTES_MAX>> {
    let inner = text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.len() > TEXT_ID_BYTES_MAX {
        return None;
    }
    let mut bytes = inner.iter().copied();
    let mut unquoted = ArrayVec::new();
    while let Some(byte) = bytes.next() {
        unquoted.push(match byte {
            b'\\' => bytes.next().filter(|escaped| b"\"\\".contains(escaped))?,
            b'"' => return None,
            b' '..=b'~' => byte,
            _ => return None,
        });
    }
    Some(unquoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_make_no_other_id() {
        let uuid = "8e03978e-40d5-43dd-bc93-6894a57f9324";
        for (bare, quoted) in [
            (uuid, format!("\"{uuid}\"")),
            ("order 7", r#""order 7""#.to_owned()),
            (r#"a"b\c"#, r#""a\"b\\c""#.to_owned()),
            (&"x".repeat(64), format!("\"{}\"", "x".repeat(64))),
        ] {
            let id = request_id_from_text(bare.as_bytes());
            assert!(id.is_some(), "{bare}");
            assert_eq!(request_id(bare.as_bytes()), id, "{bare}");
            assert_eq!(request_id(quoted.as_bytes()), id, "{quoted}");
        }
        assert_ne!(request_id(b"'a'"), request_id(b"a"), "other marks are a part of the text");
    }

    #[test]
    fn what_a_quote_begins_is_a_quoted_string() {
        for text in [
            r#"""#,
            r#""""#,
            r#""a"#,
            r#""a"b"#,
            r#""a"b""#,
            r#""a\""#,
            r#""a\b""#,
            r#""a";p=1"#,
            "\"a\tb\"",
            "\"\u{e9}\"",
        ] {
            assert_eq!(request_id(text.as_bytes()), None, "{text}");
        }
        assert_eq!(request_id(format!("\"{}\"", "x".repeat(65)).as_bytes()), None);
        assert_eq!(request_id(b"\xff"), None);
    }
}
