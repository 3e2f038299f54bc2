//! A customer of a running server's administration: one blocking request at a time.
//!
//! Each request has a connection of its own, over the Unix socket or TCP. Everything that can go
//! wrong becomes one line that says what to do, and its exit code; in particular whether a change
//! was certainly not made, or may have been.

use std::env;
use std::fmt::{self, Write as _};
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Failed;
use super::exit::ExitCode;
use super::settings::Settings;
use crate::server::config::AdminAddress;

/// How long the server may take for an answer. A change waits for the disk, and no longer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// The largest answer that is read: far above what a page of a list can be.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// The variables of the server's settings that say where it takes administration.
const ADMIN_VARIABLE: &str = "BOXOFFICE_ADMIN";
const DATA_DIR_VARIABLE: &str = "BOXOFFICE_DATA_DIR";

/// Headers of an answer that are looked at.
const HEADERS_MAX: usize = 32;

/// Where administration is spoken, on a command line.
#[derive(Debug, clap::Args)]
pub(super) struct AdminArgs {
    /// Where the server takes administration: a Unix socket or an address. As `BOXOFFICE_ADMIN`
    /// says unless given, or else `admin.sock` in the data directory.
    #[arg(long, value_name = "PATH|ADDR", global = true, value_parser = parse_address)]
    admin: Option<AdminAddress>,
    /// A file that holds an API key with the scope `admin`; a Unix socket needs none.
    #[arg(long, value_name = "FILE", global = true)]
    key_file: Option<PathBuf>,
}

fn parse_address(text: &str) -> Result<AdminAddress, String> {
    AdminAddress::parse(text).ok_or_else(|| {
        "it is neither an address such as 127.0.0.1:7490 nor a path with a `/`".to_owned()
    })
}

/// A server's administration, and the key to it.
#[derive(Debug)]
pub(super) struct Admin {
    address: AdminAddress,
    key: Option<String>,
}

/// A connection, of either kind.
trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

impl AdminArgs {
    /// The server that the command line names. Nothing is connected yet.
    pub(super) fn office(&self) -> Result<Admin, Failed> {
        let key = self.key_file.as_ref().map(|path| {
            let text = fs::read_to_string(path).map_err(|error| {
                let path = path.display();
                let message = format!("{path}: cannot read the key: {error}");
                Failed::new(ExitCode::Configuration, message)
            })?;
            Ok(text.trim().to_owned())
        });
        let address = self.admin.clone().map_or_else(address_of_environment, Ok)?;
        Ok(Admin { address, key: key.transpose()? })
    }
}

/// Where a server takes administration that was started with the same variables.
fn address_of_environment() -> Result<AdminAddress, Failed> {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(text) = variable(ADMIN_VARIABLE) {
        return parse_address(&text).map_err(|problem| {
            let message = format_args!("{ADMIN_VARIABLE}: `{text}` is no place: {problem}");
            Failed::new(ExitCode::Configuration, message)
        });
    }
    let mut settings = Settings::default();
    if let Some(path) = variable(DATA_DIR_VARIABLE) {
        settings.data_dir = path.into();
    }
    Ok(settings.admin_address())
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Admin {
    /// What is at `path`.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failed> {
        self.ask("GET", path, None, None::<&()>)
    }

    /// What is at `path`; `None` where nothing is.
    pub(super) fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Failed> {
        match self.exchange("GET", path, None, None::<&()>)? {
            (404, _) => Ok(None),
            answer => self.parsed("GET", None, answer).map(Some),
        }
    }

    /// Makes what is at `path` so.
    pub(super) fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failed> {
        self.ask("PUT", path, None, Some(body))
    }

    /// Has something done. What is not the same when it is done twice has a request id, of plain
    /// characters.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        request_id: Option<&str>,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failed> {
        self.ask("POST", path, request_id, body)
    }

    /// What is at `path`, where that is text.
    pub(super) fn text(&self, path: &str) -> Result<String, Failed> {
        let answer = granted(self.exchange("GET", path, None, None::<&()>)?)?;
        // Of what is no text, the reader will find that it is not what it asked for.
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        request_id: Option<&str>,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failed> {
        let answer = self.exchange(method, path, request_id, body)?;
        self.parsed(method, request_id, answer)
    }

    fn parsed<T: DeserializeOwned>(
        &self,
        method: &str,
        request_id: Option<&str>,
        answer: (u16, Vec<u8>),
    ) -> Result<T, Failed> {
        let parsed = serde_json::from_slice(&granted(answer)?);
        parsed.map_err(|error| self.unanswered(method, request_id, &error.into()))
    }

    /// One request, and its answer's status and body.
    fn exchange(
        &self,
        method: &str,
        path: &str,
        request_id: Option<&str>,
        body: Option<&impl Serialize>,
    ) -> Result<(u16, Vec<u8>), Failed> {
        let unanswered = |error| self.unanswered(method, request_id, &error);
        let body = body.map(|body| serde_json::to_vec(body).expect("a request is plain data"));
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: boxoffice\r\nConnection: close\r\n");
        if let Some(key) = &self.key {
            if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                let message = "the key file holds something other than one key";
                return Err(Failed::new(ExitCode::Configuration, message));
            }
            let _ = write!(request, "Authorization: Bearer {key}\r\n");
        }
        if body.is_some() {
            request += "Content-Type: application/json\r\n";
        }
        if let Some(id) = request_id {
            let _ = write!(request, "Idempotency-Key: {id}\r\n");
        }
        let body = body.unwrap_or_default();
        let _ = write!(request, "Content-Length: {}\r\n\r\n", body.len());
        let mut stream = self.connect().map_err(|error| self.absent(&error))?;
        exchange(&mut *stream, &[request.as_bytes(), &body]).map_err(unanswered)
    }

    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match &self.address {
            AdminAddress::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
                stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
                Ok(Box::new(stream))
            }
            AdminAddress::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, ANSWER_TIME_MAX)?;
                stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
                stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
                Ok(Box::new(stream))
            }
        }
    }

    fn absent(&self, error: &io::Error) -> Failed {
        let address = &self.address;
        if error.kind() == io::ErrorKind::PermissionDenied {
            let message = format!(
                "{address}: permission denied: administration is for the server's user and group"
            );
            return Failed::new(ExitCode::Refused, message);
        }
        let message = format!(
            "no server takes administration at {address}: {error}; start one (`boxoffice serve`), \
             or name another place with --admin"
        );
        Failed::new(ExitCode::NoServer, message)
    }

    fn unanswered(&self, method: &str, request_id: Option<&str>, error: &io::Error) -> Failed {
        let address = &self.address;
        let is_late = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        let mut message = if is_late {
            let seconds = ANSWER_TIME_MAX.as_secs();
            format!(
                "{address}: no answer within {seconds} s, though something listens there; look at \
                 that server's log and whether it is stopped or out of CPU, or name another place \
                 with --admin"
            )
        } else {
            format!("{address}: no answer could be read: {error}")
        };
        if method != "GET" {
            message += "; whether the change was made is not known: repeat the same command";
        }
        if let Some(id) = request_id {
            // Without its id, a repeated one would be another one.
            let _ = write!(message, " with --request-id {id}");
        }
        Failed::new(ExitCode::NoServer, message)
    }
}

/// Sends a request, and reads the answer's status and body.
fn exchange(stream: &mut dyn Stream, request: &[&[u8]]) -> io::Result<(u16, Vec<u8>)> {
    let sent = stream.write_all(&request.concat());
    let mut answer = Vec::new();
    // A server that refuses early may close before it has read all: its answer says why.
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    parse(&answer).map_err(|error| sent.and(read).err().unwrap_or(error))
}

fn parse(answer: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    let broken = |what| io::Error::new(io::ErrorKind::UnexpectedEof, what);
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(answer);
    let Ok(httparse::Status::Complete(head_bytes)) = parsed else {
        return Err(broken("the answer breaks off, or is not HTTP"));
    };
    let length = head.headers.iter().find_map(|header| {
        let is_length = header.name.eq_ignore_ascii_case("content-length");
        is_length.then(|| str::from_utf8(header.value).ok()?.parse::<usize>().ok())?
    });
    let body = &answer[head_bytes..];
    match (head.code, length) {
        (Some(status), Some(length)) if length == body.len() => Ok((status, body.to_vec())),
        _ => Err(broken("the answer breaks off")),
    }
}

/// The body of an answer that grants what was asked.
fn granted((status, body): (u16, Vec<u8>)) -> Result<Vec<u8>, Failed> {
    if (200..300).contains(&status) { Ok(body) } else { Err(refused(status, &body)) }
}

/// What a problem says, in one line.
fn refused(status: u16, answer: &[u8]) -> Failed {
    let problem: Value = serde_json::from_slice(answer).unwrap_or_default();
    let text = |name: &str| problem[name].as_str();
    let code = text("code").unwrap_or("no reason");
    let mut message = match text("title") {
        Some(title) => format!("refused: {title} ({code})"),
        None => format!("refused with the HTTP status {status}"),
    };
    for name in ["field", "detail", "state"] {
        if let Some(text) = text(name) {
            let _ = write!(message, "; {name}: {text}");
        }
    }
    match code {
        "BAD_TOKEN" => message += "; name a file with a key of this server by --key-file",
        "FORBIDDEN" => message += "; administration takes a key with the scope `admin`",
        "DISK_FULL" => message += "; free some space there, and repeat it",
        "OVERLOADED" => message += "; the server may still be starting: try again in a moment",
        _ => {}
    }
    Failed::new(ExitCode::Refused, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_none() {
        let whole = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nX: y\r\n\r\n{}";
        assert_eq!(parse(whole).expect("it is whole"), (404, b"{}".to_vec()));
        for len in 0..whole.len() {
            assert!(parse(&whole[..len]).is_err(), "{len}");
        }
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n{}").is_err(), "no length");
        assert!(parse(b"SSH-2.0\r\n\r\n").is_err());
    }

    #[test]
    fn a_time_out_is_told_as_one() {
        let address = parse_address("./admin.sock").expect("a path");
        let admin = Admin { address, key: None };
        let late = io::Error::from_raw_os_error(11);
        let told = admin.unanswered("GET", None, &late);
        assert_eq!(told.code, ExitCode::NoServer);
        assert!(told.message.contains("no answer within 30 s"), "{}", told.message);
        assert!(told.message.contains("log") && !told.message.contains("os error"));
        let told = admin.unanswered("PUT", None, &late);
        assert!(told.message.ends_with("repeat the same command"), "{}", told.message);
    }

    #[test]
    fn a_problem_is_told_with_its_facts() {
        let problem = br#"{"code":"BAD_REQUEST","title":"A part is wrong","field":"by"}"#;
        let told = refused(400, problem);
        assert_eq!(told.code, ExitCode::Refused);
        assert_eq!(told.message, "refused: A part is wrong (BAD_REQUEST); field: by");
        assert!(refused(502, b"<html>").message.contains("502"), "a proxy's own words");
    }
}
