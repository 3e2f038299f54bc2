//! The cases of `tests/data/http`, and connections that decode their bytes in pieces.

use std::path::Path;

use boxoffice::protocol::http::{Decoded, Decoder, HttpFault, REQUEST_BYTES_MAX, Request};

/// A case of a file.
pub struct Case {
    /// The first word of its line.
    pub code: String,
    /// The rest of its line.
    pub name: String,
    pub bytes: Vec<u8>,
}

pub fn cases(file: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/http").join(file);
    let text = std::fs::read_to_string(&path).expect("the cases are there");
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(title) = line.strip_prefix("== ") {
            let (code, name) = title.split_once(' ').expect("a code and a name");
            cases.push(Case { code: code.into(), name: name.into(), bytes: Vec::new() });
        } else if !line.is_empty() {
            cases.last_mut().expect("a title comes first").bytes.extend(unescape(line));
        }
    }
    cases
}

fn unescape(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'\\' {
            match rest.next().expect("an escape goes on") {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'0' => 0,
                b'\\' => b'\\',
                b'x' => {
                    let digits = [rest.next(), rest.next()].map(|digit| digit.expect("a digit"));
                    let digits = str::from_utf8(&digits).expect("ASCII");
                    u8::from_str_radix(digits, 16).expect("hexadecimal digits")
                }
                other => panic!("\\{} is no escape", char::from(other)),
            }
        } else {
            byte
        });
    }
    bytes
}

/// What a connection has read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    /// Each request, in the form of `accepted.http`.
    pub requests: Vec<String>,
    /// The bytes of all of them.
    pub consumed: usize,
    /// What ended the connection.
    pub fault: Option<HttpFault>,
}

/// A connection to which bytes come in pieces.
#[derive(Default)]
pub struct Connection {
    decoder: Decoder,
    waiting: Vec<u8>,
    pub transcript: Transcript,
    pub continues: usize,
}

impl Connection {
    /// Takes a piece, unless the connection is over.
    ///
    /// # Panics
    ///
    /// Where the decoder consumes more than it was given, or waits for more than a request may
    /// have.
    pub fn take(&mut self, piece: &[u8]) {
        self.waiting.extend_from_slice(piece);
        while self.transcript.fault.is_none() {
            match self.decoder.decode(&self.waiting) {
                Ok(Decoded::Complete { consumed, request }) => {
                    assert!((1..=self.waiting.len()).contains(&consumed), "{consumed} consumed");
                    self.transcript.requests.push(describe(&request));
                    self.transcript.consumed += consumed;
                    self.waiting.drain(..consumed);
                }
                Ok(Decoded::Incomplete { wants_continue }) => {
                    assert!(self.waiting.len() < REQUEST_BYTES_MAX, "it waits for ever");
                    self.continues += usize::from(wants_continue);
                    return;
                }
                Err(fault) => self.transcript.fault = Some(fault),
            }
        }
    }
}

/// What is read of `bytes` that come in pieces of these lengths, and then one by one.
pub fn transcript(bytes: &[u8], lengths: &[usize]) -> Transcript {
    let mut connection = Connection::default();
    let mut rest = bytes;
    let mut lengths = lengths.iter().copied();
    while !rest.is_empty() {
        let length = lengths.next().unwrap_or(1).clamp(1, rest.len());
        let (piece, behind) = rest.split_at(length);
        connection.take(piece);
        rest = behind;
    }
    connection.transcript
}

fn describe(request: &Request<'_>) -> String {
    let connection = if request.keep_alive { "keep" } else { "close" };
    let body = request.body.escape_ascii().to_string();
    let body = if body.is_empty() { "-" } else { &body };
    let query = request.query.unwrap_or("-");
    format!("{:?} {} {query} {connection} {body}", request.method, request.path)
}
