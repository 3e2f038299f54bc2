//! Refusals and faults as `application/problem+json` (RFC 9457).

use std::borrow::Cow;

use super::fault::HttpFault;
use super::json::{put_field, put_text};
use super::reply::{Reply, Site};
use super::response::{put_allow, put_retry_after, respond};
use crate::model::{Field, Refusal, RefusalCode, TimeMs};
use crate::protocol::codes::{WireCode, http_status, problem, rule};

/// When to ask again a server whose disk is full. Somebody has to make room first.
const DISK_FULL_RETRY_S: u64 = 5;

/// Why a well-formed request asks the engine nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpRefusal {
    /// Its place or its framing is wrong: see [`HttpFault::closes`].
    Fault(HttpFault),
    /// `BAD_REQUEST`, with the name of the field as it stands in the request, and the reason.
    Field {
        /// For instance `lines[0].quantity`, `ttl_ms`, `Idempotency-Key`.
        field: Cow<'static, str>,
        /// One sentence for people, without its full stop.
        detail: Cow<'static, str>,
    },
    /// Any other refusal.
    Refusal(Refusal),
}

impl HttpRefusal {
    pub(super) const fn field(field: &'static str, detail: &'static str) -> Self {
        Self::Field { field: Cow::Borrowed(field), detail: Cow::Borrowed(detail) }
    }
}

impl From<HttpFault> for HttpRefusal {
    fn from(fault: HttpFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Refusal> for HttpRefusal {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

/// Appends whichever it is.
pub fn encode_http_refusal(out: &mut Vec<u8>, site: &Site, reply: &Reply, refusal: &HttpRefusal) {
    match refusal {
        HttpRefusal::Fault(fault) => encode_fault(out, site, reply, *fault),
        HttpRefusal::Refusal(refusal) => encode_refusal(out, site, reply, *refusal, None),
        HttpRefusal::Field { field, detail } => {
            let code = RefusalCode::BadRequest;
            respond(out, site, reply, http_status(code), put_type, |out| {
                out.extend_from_slice(problem(code).as_bytes());
                put_named(out, "field", field);
                put_named(out, "detail", detail);
                out.push(b'}');
            });
        }
    }
}

/// Appends a refusal. `detail` is one sentence for people where there is more to say than the
/// code does: with `BAD_TOKEN`, what is wrong with the token that came. Where none came it is
/// [`encode_unknown_caller`]'s.
pub fn encode_refusal(
    out: &mut Vec<u8>,
    site: &Site,
    reply: &Reply,
    refusal: Refusal,
    detail: Option<&str>,
) {
    encode_challenging(out, site, reply, refusal, detail, detail);
}

/// Appends a `BAD_TOKEN` to whom presented no token that could be bad: the challenge names no
/// error then (RFC 6750, 3.1), and `detail` is for people alone.
pub fn encode_unknown_caller(out: &mut Vec<u8>, site: &Site, reply: &Reply, detail: &str) {
    encode_challenging(out, site, reply, Refusal::BadToken, Some(detail), None);
}

fn encode_challenging(
    out: &mut Vec<u8>,
    site: &Site,
    reply: &Reply,
    refusal: Refusal,
    detail: Option<&str>,
    error: Option<&str>,
) {
    let code = refusal.code();
    let put_headers = |out: &mut Vec<u8>| {
        put_type(out);
        match refusal {
            Refusal::NotOpen { opens_at: Some(opens_at) } => {
                put_retry_after(out, seconds_until(opens_at, site.date.now()));
            }
            Refusal::Overloaded | Refusal::Draining => put_retry_after(out, 1),
            Refusal::DiskFull => put_retry_after(out, DISK_FULL_RETRY_S),
            Refusal::BadToken => put_challenge(out, error),
            _ => {}
        }
    };
    respond(out, site, reply, http_status(code), put_headers, |out| {
        out.extend_from_slice(problem(code).as_bytes());
        match refusal {
            Refusal::NotOpen { opens_at: Some(opens_at) } => {
                put_field(out, ",\"opens_at_ms\":", opens_at.0);
            }
            Refusal::WrongState { state } => put_named(out, "state", state.name()),
            Refusal::BadRequest { field } => put_named(out, "field", json_name(field)),
            _ => {}
        }
        let detail = detail.or(match refusal {
            Refusal::BadRequest { field } => Some(rule(field)),
            _ => None,
        });
        if let Some(detail) = detail {
            put_named(out, "detail", detail);
        }
        out.push(b'}');
    });
}

/// Appends a fault. The connection closes behind it where [`HttpFault::closes`], whatever the
/// reply says.
pub fn encode_fault(out: &mut Vec<u8>, site: &Site, reply: &Reply, fault: HttpFault) {
    let reply = Reply { keep_alive: reply.keep_alive && !fault.closes(), ..*reply };
    let put_headers = |out: &mut Vec<u8>| {
        put_type(out);
        if let HttpFault::MethodNotAllowed(methods) = fault {
            put_allow(out, methods);
        }
    };
    respond(out, site, &reply, fault.status(), put_headers, |out| {
        out.extend_from_slice(fault.problem().as_bytes());
        out.push(b'}');
    });
}

fn put_type(out: &mut Vec<u8>) {
    out.extend_from_slice(b"Content-Type: application/problem+json\r\nCache-Control: no-store\r\n");
}

/// How to say who one is (RFC 6750, 3). What was wrong goes into a quoted string, so whatever
/// would end it becomes a space.
fn put_challenge(out: &mut Vec<u8>, error: Option<&str>) {
    out.extend_from_slice(b"WWW-Authenticate: Bearer realm=\"boxoffice\"");
    if let Some(error) = error {
        out.extend_from_slice(b", error=\"invalid_token\", error_description=\"");
        let is_quotable = |byte: &u8| matches!(byte, b' '..=b'~') && !b"\"\\".contains(byte);
        out.extend(error.bytes().map(|byte| if is_quotable(&byte) { byte } else { b' ' }));
        out.push(b'"');
    }
    out.extend_from_slice(b"\r\n");
}

fn put_named(out: &mut Vec<u8>, name: &str, text: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    put_text(out, text);
}

/// A field of the model by its name in JSON.
fn json_name(field: Field) -> &'static str {
    match field {
        Field::Ttl => "ttl_ms",
        Field::Payment => "payment_ref",
        Field::Item | Field::Lines | Field::Quantity => "lines",
        Field::Account | Field::Window | Field::Capacity | Field::Limit | Field::Items => {
            field.name()
        }
    }
}

/// Whole seconds, rounded up, so that nobody comes back too early.
const fn seconds_until(time: TimeMs, now: TimeMs) -> u64 {
    time.0.saturating_sub(now.0).div_ceil(1000)
}

#[cfg(test)]
mod tests {
    use super::super::{Cors, DateText, Methods};
    use super::*;
    use crate::model::OrderState;
    use crate::protocol::codes::title;

    fn site() -> Site {
        Site { date: DateText::new(TimeMs(10_500)), cors: Cors::default() }
    }

    /// Head and body of an answer whose framing is right.
    fn answer(encode: impl FnOnce(&mut Vec<u8>)) -> (String, serde_json::Value) {
        let mut out = Vec::new();
        encode(&mut out);
        let text = String::from_utf8(out).expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
        assert!(head.contains("\r\nContent-Type: application/problem+json\r\n"), "{head}");
        (head.to_owned(), serde_json::from_str(body).expect("JSON"))
    }

    fn refused(refusal: Refusal, detail: Option<&str>) -> (String, serde_json::Value) {
        let reply = Reply { keep_alive: true, ..Reply::LAST };
        answer(|out| encode_refusal(out, &site(), &reply, refusal, detail))
    }

    #[test]
    fn every_refusal_says_its_row_of_the_table() {
        let refusals = [
            Refusal::SoldOut,
            Refusal::NoneNow,
            Refusal::AccountLimit,
            Refusal::NotOpen { opens_at: None },
            Refusal::Paused,
            Refusal::Closed,
            Refusal::HoldExpired,
            Refusal::WrongState { state: OrderState::Released },
            Refusal::KeyConflict,
            Refusal::PriceMismatch,
            Refusal::NotFound,
            Refusal::NotClosed,
            Refusal::BadRequest { field: Field::Ttl },
            Refusal::BadToken,
            Refusal::Forbidden,
            Refusal::Overloaded,
            Refusal::Draining,
            Refusal::DiskFull,
        ];
        assert!(RefusalCode::ALL.iter().eq(refusals.map(Refusal::code).iter()));
        for refusal in refusals {
            let (head, body) = refused(refusal, None);
            let code = refusal.code();
            assert!(head.starts_with(&format!("HTTP/1.1 {} ", http_status(code))), "{head}");
            assert_eq!(body["status"], http_status(code));
            assert_eq!(body["code"], code.name());
            assert_eq!(body["title"], title(code));
            assert_eq!(body["type"], format!("urn:boxoffice:refusal:{}", code.name()));
            let retry_after = head.split_once("\r\nRetry-After: ").map(|(_, rest)| &rest[..3]);
            let expected = match refusal {
                Refusal::Overloaded | Refusal::Draining => Some("1\r\n"),
                Refusal::DiskFull => Some("5\r\n"),
                _ => None,
            };
            assert_eq!(retry_after, expected, "{head}");
            assert!(!head.contains("Connection"), "{head}");
        }
        assert_eq!(
            refused(Refusal::WrongState { state: OrderState::Held }, None).1["state"],
            "held"
        );
        assert_eq!(
            refused(Refusal::BadRequest { field: Field::Payment }, None).1["field"],
            "payment_ref"
        );
    }

    #[test]
    fn a_sale_that_opens_says_when() {
        for (opens_at, seconds) in [(10_501, 1), (11_500, 1), (11_501, 2), (9_000, 1)] {
            let (head, body) = refused(Refusal::NotOpen { opens_at: Some(TimeMs(opens_at)) }, None);
            assert!(head.contains(&format!("\r\nRetry-After: {seconds}\r\n")), "{head}");
            assert_eq!(body["opens_at_ms"], opens_at);
        }
    }

    #[test]
    fn a_bad_token_says_what_is_wrong_and_breaks_no_header() {
        let unknown = |out: &mut Vec<u8>| {
            encode_unknown_caller(out, &site(), &Reply::LAST, "there is none");
        };
        let (head, body) = answer(unknown);
        assert!(head.contains("\r\nWWW-Authenticate: Bearer realm=\"boxoffice\"\r\n"), "{head}");
        assert_eq!(
            (&body["code"], &body["detail"]),
            (&"BAD_TOKEN".into(), &"there is none".into())
        );
        let (head, body) = refused(Refusal::BadToken, Some("it \"ends\"\r\nX: y"));
        let error = "error=\"invalid_token\", error_description=\"it  ends   X: y\"\r\n";
        assert!(head.contains(error), "{head}");
        assert_eq!(body["detail"], "it \"ends\"\r\nX: y");
    }

    #[test]
    fn faults_close_where_the_next_request_is_lost() {
        let reply = Reply { keep_alive: true, ..Reply::LAST };
        let fault = |fault| answer(|out| encode_fault(out, &site(), &reply, fault));
        let (head, body) = fault(HttpFault::BothLengths);
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        assert_eq!(body["type"], "urn:boxoffice:fault:BOTH_LENGTHS");
        let (head, body) = fault(HttpFault::MethodNotAllowed(Methods::Write));
        assert!(head.contains("\r\nAllow: POST, OPTIONS\r\n"), "{head}");
        assert!(!head.contains("Connection"), "{head}");
        assert_eq!(body["status"], 405);
    }

    #[test]
    fn a_wrong_field_is_named_whatever_it_is_called() {
        let refusal = HttpRefusal::Field { field: "a\"\n".into(), detail: "b\\".into() };
        let (_, body) = answer(|out| encode_http_refusal(out, &site(), &Reply::LAST, &refusal));
        assert_eq!((&body["field"], &body["detail"]), (&"a\"\n".into(), &"b\\".into()));
        assert_eq!(body["code"], "BAD_REQUEST");
    }
}
