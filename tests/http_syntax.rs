//! HTTP/1.1 against its cases, against arbitrary bytes, and against bytes that come in pieces.
//!
//! The cases are in `tests/data/http`. A property that fails prints its smallest case and keeps
//! the seed in `tests/http_syntax.proptest-regressions`.

#[path = "support/http_cases.rs"]
mod http_cases;

use boxoffice::protocol::http::{
    BODY_BYTES_MAX, CHUNKED_BYTES_MAX, Decoded, Decoder, HEAD_BYTES_MAX, HEADERS_MAX, HttpFault,
    TARGET_BYTES_MAX, Version,
};
use http_cases::{Connection, Transcript, cases, transcript};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// What is wrong with a reader of the cases: each case that it does not read as its line says.
fn judge(read: impl Fn(&[u8]) -> Transcript) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in cases("refused.http") {
        let read = read(&case.bytes);
        if read.fault.map(HttpFault::code) != Some(&case.code) || !read.requests.is_empty() {
            wrong.push(format!("{} {}: {read:?}", case.code, case.name));
        }
    }
    for case in cases("accepted.http") {
        let read = read(&case.bytes);
        let line = format!("{} {}", case.code, case.name);
        let is_whole = read.consumed == case.bytes.len() && read.fault.is_none();
        if read.requests != [line.as_str()] || !is_whole {
            wrong.push(format!("{line}: {read:?}"));
        }
    }
    wrong
}

#[test]
fn every_case_is_read_as_its_line_says() {
    let at_once = |bytes: &[u8]| transcript(bytes, &[bytes.len()]);
    assert_eq!(judge(at_once), [""; 0]);
    let byte_by_byte = |bytes: &[u8]| transcript(bytes, &[]);
    assert_eq!(judge(byte_by_byte), [""; 0]);
}

/// Readers with a fault of their own, each of which the cases must catch.
#[test]
fn lenient_readers_are_caught() {
    let replaced = |bytes: &[u8], from: &str, to: &str| {
        let latin = |bytes: &[u8]| bytes.iter().map(|&byte| char::from(byte)).collect::<String>();
        let text = latin(bytes).replace(from, to);
        let bytes: Vec<u8> = text.chars().map(|letter| letter as u8).collect();
        transcript(&bytes, &[bytes.len()])
    };
    for (what, from, to) in [
        ("takes a bare LF for the end of a line", "1.1\n", "1.1\r\n"),
        ("takes a bare CR for a space", "b\rC", "b C"),
        ("unfolds lines", "b\r\n c", "b c"),
        ("drops the space before a colon", " :", ":"),
        ("takes the last of two lengths", "Content-Length: 1\r\nContent-Length: 2", {
            "Content-Length: 2"
        }),
        ("lets chunked win over a length", "Content-Length: 5\r\n", ""),
        ("skips the sign of a chunk's size", "+1\r\n", "1\r\n"),
        ("skips NUL", "\0", ""),
    ] {
        let caught = judge(|bytes| replaced(bytes, from, to));
        assert!(!caught.is_empty(), "nobody notices a reader that {what}");
    }
}

#[test]
fn every_split_of_a_case_reads_the_same() {
    for file in ["refused.http", "accepted.http"] {
        for case in cases(file) {
            let whole = transcript(&case.bytes, &[case.bytes.len()]);
            for split in 1..case.bytes.len() {
                let read = transcript(&case.bytes, &[split, case.bytes.len()]);
                assert_eq!(read, whole, "{} {} split at {split}", case.code, case.name);
            }
        }
    }
}

#[test]
fn requests_of_one_connection_follow_each_other() {
    let cases = cases("accepted.http");
    let bytes: Vec<u8> = cases.iter().flat_map(|case| case.bytes.clone()).collect();
    let lines: Vec<String> =
        cases.iter().map(|case| format!("{} {}", case.code, case.name)).collect();
    for lengths in [vec![bytes.len()], vec![], vec![7; bytes.len()]] {
        let read = transcript(&bytes, &lengths);
        assert_eq!((read.requests, read.fault), (lines.clone(), None));
        assert_eq!(read.consumed, bytes.len());
    }
}

/// The one request or fault that these bytes are; the head of the request has `head` in it.
fn fault_of(bytes: &[u8]) -> Option<HttpFault> {
    let whole = transcript(bytes, &[bytes.len()]);
    assert_eq!(transcript(bytes, &[bytes.len() / 2]), whole);
    assert_eq!(whole.requests.len(), usize::from(whole.fault.is_none()), "one or the other");
    whole.fault
}

#[test]
fn a_head_is_bounded() {
    let head = |target: usize, padding: usize| {
        let (target, padding) = ("x".repeat(target - 1), "y".repeat(padding));
        format!("GET /{target} HTTP/1.1\r\nHost: x\r\nX-A: {padding}\r\n\r\n").into_bytes()
    };
    let base = head(1, 0).len();
    assert_eq!(fault_of(&head(1, HEAD_BYTES_MAX - base)), None);
    assert_eq!(fault_of(&head(1, HEAD_BYTES_MAX - base + 1)), Some(HttpFault::HeadTooLarge));
    assert_eq!(fault_of(&head(TARGET_BYTES_MAX, 0)), None);
    assert_eq!(fault_of(&head(TARGET_BYTES_MAX + 1, 0)), Some(HttpFault::TargetTooLong));
    assert_eq!(fault_of(&head(HEAD_BYTES_MAX, 0)), Some(HttpFault::TargetTooLong));

    let headers = |count: usize| {
        let lines = "X-A: b\r\n".repeat(count - 1);
        format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n").into_bytes()
    };
    assert_eq!(fault_of(&headers(HEADERS_MAX)), None);
    assert_eq!(fault_of(&headers(HEADERS_MAX + 1)), Some(HttpFault::HeadTooLarge));
}

#[test]
fn a_body_is_bounded() {
    const HEAD: &str = "POST / HTTP/1.1\r\nHost: x\r\n";
    let sized = |length: usize| {
        format!("{HEAD}Content-Length: {length}\r\n\r\n{}", "x".repeat(length)).into_bytes()
    };
    assert_eq!(fault_of(&sized(BODY_BYTES_MAX)), None);
    assert_eq!(fault_of(&sized(BODY_BYTES_MAX + 1)), Some(HttpFault::BodyTooLarge));

    let coded = |coded: &str| {
        format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{coded}0\r\n\r\n").into_bytes()
    };
    let chunks = |size: usize, count: usize| {
        coded(&format!("{size:x}\r\n{}\r\n", "x".repeat(size)).repeat(count))
    };
    assert_eq!(fault_of(&chunks(1024, 16)), None);
    assert_eq!(fault_of(&chunks(1025, 16)), Some(HttpFault::BodyTooLarge));
    // One byte a chunk: the coding is larger than what it says.
    assert_eq!(fault_of(&chunks(1, CHUNKED_BYTES_MAX / 6 - 1)), None);
    assert_eq!(fault_of(&chunks(1, CHUNKED_BYTES_MAX / 6 + 1)), Some(HttpFault::BodyTooLarge));
    let extension = coded(&format!("1;{}\r\nx\r\n", "y".repeat(CHUNKED_BYTES_MAX)));
    assert_eq!(fault_of(&extension), Some(HttpFault::BodyTooLarge));
}

#[test]
fn a_client_that_waits_is_told_to_go_on_once() {
    const HEAD: &[u8] =
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let mut connection = Connection::default();
    for _ in 0..2 {
        connection.continues = 0;
        connection.take(&HEAD[..HEAD.len() - 1]);
        assert_eq!(connection.continues, 0, "the head is not whole");
        connection.take(&HEAD[HEAD.len() - 1..]);
        assert_eq!(connection.continues, 1);
        connection.take(b"");
        connection.take(b"a");
        assert_eq!(connection.continues, 1, "once");
        connection.take(b"b");
    }
    assert_eq!(connection.transcript.requests, ["Post / - keep ab"; 2]);
    // One that does not wait is told nothing.
    connection.continues = 0;
    connection.take(&[HEAD, b"a"].concat());
    connection.take(b"b");
    assert_eq!((connection.continues, connection.transcript.requests.len()), (0, 3));
}

#[test]
fn headers_are_read_by_name() {
    let bytes =
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1, 2\r\nAuthorization: bearer  k.1\r\n\
        x-forwarded-for:3 \r\nX-Forwarded-For-Not: 4\r\nOrigin: http://a\r\n\r\n";
    let mut decoder = Decoder::default();
    let Ok(Decoded::Complete { request, .. }) = decoder.decode(bytes) else { panic!("a request") };
    let forwarded: Vec<&[u8]> = request.values("X-Forwarded-For").collect();
    assert_eq!(forwarded, [b"1, 2".as_slice(), b"3"]);
    assert_eq!(request.values("x-forwarded-for").next_back(), Some(b"3".as_slice()));
    assert_eq!(request.values("host").collect::<Vec<_>>(), [b"x"]);
    assert_eq!(request.values("absent").count(), 0);
    assert_eq!(request.bearer(), Some(b"k.1".as_slice()));
    assert_eq!(request.origin, Some(b"http://a".as_slice()));
    for other in ["Basic abc", "Bearer", "Bearer ", "Bearerabc", ""] {
        let bytes = format!("GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {other}\r\n\r\n");
        let mut decoder = Decoder::default();
        let Ok(Decoded::Complete { request, .. }) = decoder.decode(bytes.as_bytes()) else {
            panic!("a request")
        };
        assert_eq!(request.bearer(), None, "{other}");
    }
}

/// Pieces of requests, right and wrong, so that their mixtures come far into the decoder.
const PIECES: [&str; 34] = [
    "GET ",
    "POST ",
    "OPTIONS ",
    "/",
    "/v1/sales/1/orders",
    "*",
    "http://x/",
    "?a=%20",
    "%",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    " HTTP/2.0\r\n",
    "Host: x\r\n",
    "Host: ",
    "Content-Length: 3\r\n",
    "Content-Length: ",
    "Transfer-Encoding: chunked\r\n",
    "Expect: 100-continue\r\n",
    "Connection: close\r\n",
    "Idempotency-Key: k\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\n",
    "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    "3\r\nabc\r\n",
    "0\r\n",
    "0\r\n\r\n",
    "1;x\r\ny\r\n",
    "abc",
    "\r\n",
    "\r\n\r\n",
    "\r",
    "\n",
    "\0",
    " ",
    ":",
];

fn mixture() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        20 => select(PIECES.as_slice()).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 1..4),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

const NAMES: [&str; 6] = ["Host", "hOST", "Content-Type", "idempotency-key", "X-A", "x-a"];

/// Whether a well-kept reader of others sees the same head in these bytes; it takes more than this
/// one does. Says what it sees where they differ.
fn agree(bytes: &[u8]) -> Result<(), String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut theirs = httparse::Request::new(&mut headers);
    let status = theirs.parse(bytes);
    let mut decoder = Decoder::default();
    let ours = decoder.decode(bytes);
    let differ = |what: &str| Err(format!("{what}: {ours:?}, but {status:?} {theirs:?}"));
    let Ok(httparse::Status::Complete(head_bytes)) = status else {
        return match &ours {
            Ok(Decoded::Complete { .. }) => differ("taken here alone"),
            _ => Ok(()),
        };
    };
    match &ours {
        Ok(Decoded::Complete { consumed, request }) => {
            let target = theirs.path.unwrap_or_default();
            let is_target = target.ends_with(request.path)
                || request.query.is_some_and(|query| target.ends_with(query));
            let is_version = theirs.version == Some(u8::from(request.version == Version::Http11));
            let is_header = |name: &&'static str| {
                let is_named =
                    |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case(name);
                let values = theirs.headers.iter().filter(is_named).map(|header| header.value);
                request.values(name).eq(values.map(<[u8]>::trim_ascii))
            };
            let is_same = is_target && is_version && NAMES.iter().all(is_header);
            if is_same && *consumed >= head_bytes { Ok(()) } else { differ("read otherwise") }
        }
        // Stricter it may be, but only about the ends of lines and what stands before the head.
        Err(HttpFault::Syntax) if bytes[0].is_ascii_graphic() => differ("refused here alone"),
        Ok(Decoded::Incomplete { .. }) | Err(_) => Ok(()),
    }
}

/// Heads that are right but for few bytes, which are near the bounds of what may stand there.
fn head() -> impl Strategy<Value = Vec<u8>> {
    let edge = select(b"\0\x08\t\n\r\x1f \x7f\x80\xff\"(),/:@[]{}".as_slice());
    let text = vec(prop_oneof![40 => b'!'..=b'~', 1 => edge], 0..12);
    let mostly = |usual: &'static [&'static str]| {
        let usual = select(usual).prop_map(|text| text.as_bytes().to_vec());
        prop_oneof![9 => usual, 1 => text.clone()]
    };
    let line = (mostly(&["GET", "POST", "BREW"]), mostly(&["/", "/a?b"]), {
        mostly(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0"])
    });
    let space = || select(["", " ", "  ", "\t"].as_slice());
    let header = (mostly(&NAMES[2..]), space(), text.clone(), space());
    (line, vec(header, 0..3)).prop_map(|((method, target, version), headers)| {
        let mut head = [&method, b" ".as_slice(), &target, b" ", &version].concat();
        head.extend(b"\r\nHost: x\r\n");
        for (name, before, value, behind) in headers {
            let parts = [&name, b":".as_slice(), before.as_bytes(), &value, behind.as_bytes()];
            head.extend(parts.concat());
            head.extend(b"\r\n");
        }
        head.extend(b"\r\n");
        head
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8192))]

    #[test]
    fn another_reader_sees_the_same(bytes in prop_oneof![head(), mixture()]) {
        prop_assert_eq!(agree(&bytes), Ok(()));
    }

    #[test]
    fn pieces_read_like_the_whole(bytes in mixture(), lengths in vec(1_usize..40, 0..40)) {
        let whole = transcript(&bytes, &[bytes.len()]);
        prop_assert!(whole.consumed <= bytes.len());
        prop_assert_eq!(&transcript(&bytes, &lengths), &whole);
        prop_assert_eq!(&transcript(&bytes, &[]), &whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..512)) {
        let whole = transcript(&bytes, &[bytes.len()]);
        prop_assert_eq!(transcript(&bytes, &[]), whole);
    }

    #[test]
    fn a_chunked_body_says_what_was_put_in(
        chunks in vec(vec(any::<u8>(), 1..200), 0..20),
        lengths in vec(1_usize..300, 0..20),
    ) {
        let head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut bytes = head.to_vec();
        for chunk in &chunks {
            bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\nT: v\r\n\r\n");
        let body = chunks.concat();
        let body = if body.is_empty() { "-".into() } else { body.escape_ascii().to_string() };
        let read = transcript(&bytes, &lengths);
        prop_assert_eq!(read.requests, [format!("Post / - keep {body}")]);
    }
}
