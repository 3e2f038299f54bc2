//! A raw, blocking HTTP/1.1 peer, and short words for what it asks.
//!
//! It sends the very bytes that it is told, and reads whole responses by their
//! `Content-Length`. It retries nothing and follows nothing. Reads have a limit that only ends
//! what hangs.
#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// How long a peer waits for bytes before the test gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// One response.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header that may come at most once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} comes twice: {self:?}");
        value
    }

    /// The body, which must be JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The name of a refusal or a fault.
    #[track_caller]
    pub fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "the body agrees with its status line");
        problem["code"].as_str().expect("a problem has its code").to_owned()
    }

    /// Whether the server said that it closes the connection.
    pub fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

/// One connection.
pub struct HttpPeer {
    pub stream: TcpStream,
    input: Vec<u8>,
}

impl HttpPeer {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a socket has the option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has the option");
        Self { stream, input: Vec::new() }
    }

    /// Connects to a Unix socket.
    pub fn connect_unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has the option");
        // What is used of a stream is the same for every kind of socket.
        Self { stream: TcpStream::from(OwnedFd::from(stream)), input: Vec::new() }
    }

    /// Sends any bytes.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server takes requests");
    }

    /// Says that nothing more will be sent.
    pub fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection is open");
    }

    /// Reads more; `false` at the end of the stream.
    fn fill(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(count) => {
                    self.input.extend_from_slice(&bytes[..count]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A reset may not take the place of an end: it could have eaten an answer.
                Err(error) => panic!("no answer within {PATIENCE:?}: {error}"),
            }
        }
    }

    /// The next response to a request that was not HEAD; `None` at the end of the stream.
    pub fn read(&mut self) -> Option<Response> {
        self.read_response(false)
    }

    /// The next response, which must come.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.read().expect("the server answers")
    }

    /// The next response, of which only the head comes.
    pub fn head(&mut self) -> Response {
        self.read_response(true).expect("the server answers")
    }

    fn read_response(&mut self, is_head: bool) -> Option<Response> {
        let head_len = loop {
            if let Some(at) = self.input.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill() {
                assert!(self.input.is_empty(), "cut off: {}", self.input.escape_ascii());
                return None;
            }
        };
        let head: Vec<u8> = self.input.drain(..head_len).collect();
        let head = String::from_utf8(head).expect("a response's head is text");
        let mut lines = head.split("\r\n");
        let status = lines.next().expect("a status line");
        let status = status.strip_prefix("HTTP/1.1 ").expect("it speaks HTTP/1.1");
        let status = status[..3].parse().expect("a status");
        let headers: Vec<_> = lines
            .filter(|line| !line.is_empty())
            .map(|line| line.split_once(": ").expect("a header"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut response = Response { status, headers, body: Vec::new() };
        let has_body = !is_head && ![100, 204, 304].contains(&status);
        let length = response.header("content-length").map(|text| text.parse().expect("a length"));
        if has_body {
            let length: usize = length.expect("a response with a body has its length");
            while self.input.len() < length {
                assert!(self.fill(), "cut off inside of a body: {response:?}");
            }
            response.body = self.input.drain(..length).collect();
        }
        Some(response)
    }

    /// Whether the server ends the connection, be it by a reset, without another word.
    pub fn ends(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(count) => count == 0 && self.input.is_empty(),
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    /// That the server has ended the stream in order, with nothing more to say.
    #[track_caller]
    pub fn assert_end(&mut self) {
        assert!(self.input.is_empty() && !self.fill(), "more came: {}", self.input.escape_ascii());
    }

    /// Sends one request and reads its response.
    #[track_caller]
    pub fn ask(&mut self, request: &str) -> Response {
        self.write(request);
        self.response()
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) -> Response {
        self.ask(&get(path))
    }

    #[track_caller]
    pub fn put(&mut self, path: &str, body: &Value) -> Response {
        self.ask(&put(path, body))
    }

    #[track_caller]
    pub fn post(&mut self, path: &str, key: &str, body: &Value) -> Response {
        self.ask(&post(path, key, body))
    }
}

/// The bytes of a GET.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: boxoffice\r\n\r\n")
}

/// The bytes of a POST with this request id.
pub fn post(path: &str, key: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nHost: boxoffice\r\nContent-Type: application/json\r\n\
         Idempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The bytes of a PUT.
pub fn put(path: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "PUT {path} HTTP/1.1\r\nHost: boxoffice\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
