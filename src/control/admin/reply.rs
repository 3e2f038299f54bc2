//! Answers of administration as bytes: a status, JSON or text, and whether the connection goes on.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::view::Step;
use crate::model::{Refusal, RefusalCode};
use crate::protocol::codes::{WireCode, http_status};
use crate::protocol::http::{HttpFault, Methods};

/// How soon to ask again what could not be done now, in seconds.
const RETRY_AFTER_S: u32 = 1;

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    content_type: &'static str,
    body: Vec<u8>,
    /// The methods of the place, where the request's is not among them.
    allow: Option<&'static str>,
    /// What a change did, to be logged; empty for what only reads.
    pub(super) done: Vec<Step>,
}

/// Why an administrative request is not granted.
#[derive(Debug)]
pub(super) enum Problem {
    /// It is not understood.
    Fault(HttpFault),
    /// The place takes other methods, these.
    Method(&'static str),
    /// A part of it is wrong: its name, and why.
    Field(String, String),
    /// It is refused.
    Refused(Refusal),
    /// A step of it is refused; those before it are done.
    Step { refusal: Refusal, step: Step, done: Vec<Step> },
}

impl Problem {
    /// This part of the request is wrong, because of that.
    pub(super) fn field(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Field(name.into(), why.into())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<HttpFault> for Problem {
    fn from(fault: HttpFault) -> Self {
        Self::Fault(fault)
    }
}

impl Reply {
    /// JSON.
    pub(super) fn json(status: u16, shown: &impl Serialize) -> Self {
        let body = serde_json::to_vec(shown).expect("what is shown is plain data");
        Self::new(status, "application/json", body)
    }

    /// Text of this type.
    pub(super) fn text(status: u16, content_type: &'static str, text: impl Into<String>) -> Self {
        Self::new(status, content_type, text.into().into_bytes())
    }

    /// The answer to a change that did this.
    pub(super) fn having_done(self, done: Vec<Step>) -> Self {
        Self { done, ..self }
    }

    fn new(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        Self { status, content_type, body, allow: None, done: Vec::new() }
    }

    /// Appends the answer; of an answer to `HEAD` all but the body.
    pub(super) fn encode(&self, out: &mut Vec<u8>, is_head: bool, keep_alive: bool) {
        let Self { status, content_type, body, .. } = self;
        let mut head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
             Cache-Control: no-store\r\n",
            reason(*status),
            body.len()
        );
        if let Some(allow) = self.allow {
            head += &format!("Allow: {allow}\r\n");
        }
        if *status == 503 {
            head += &format!("Retry-After: {RETRY_AFTER_S}\r\n");
        }
        if *status == 401 {
            head += "WWW-Authenticate: Bearer\r\n";
        }
        head += if keep_alive { "Connection: keep-alive\r\n\r\n" } else { "Connection: close\r\n\r\n" };
        out.extend_from_slice(head.as_bytes());
        if !is_head {
            out.extend_from_slice(body);
        }
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        let (status, mut facts) = match &problem {
            Problem::Fault(fault) => fault_facts(*fault),
            Problem::Method(_) => fault_facts(HttpFault::MethodNotAllowed(Methods::Any)),
            Problem::Field(..) => code_facts(RefusalCode::BadRequest),
            Problem::Refused(refusal) | Problem::Step { refusal, .. } => refusal_facts(*refusal),
        };
        let (mut allow, mut all_done) = (None, Vec::new());
        match problem {
            Problem::Fault(_) | Problem::Refused(_) => {}
            Problem::Method(methods) => allow = Some(methods),
            Problem::Field(field, detail) => {
                facts.insert("field".to_owned(), field.into());
                facts.insert("detail".to_owned(), detail.into());
            }
            Problem::Step { step, done, .. } => {
                facts.insert("step".to_owned(), json!(step));
                facts.insert("done".to_owned(), json!(done));
                all_done = done;
            }
        }
        let body = serde_json::to_vec(&facts).expect("a problem is plain data");
        let reply = Self::new(status, "application/problem+json", body);
        Self { allow, done: all_done, ..reply }
    }
}

type Facts = Map<String, Value>;

fn facts(kind: &str, code: &str, title: &str, status: u16) -> (u16, Facts) {
    let facts = json!({
        "type": format!("urn:boxoffice:{kind}:{code}"),
        "title": title,
        "status": status,
        "code": code,
    });
    let Value::Object(facts) = facts else { unreachable!("it is written as an object") };
    (status, facts)
}

fn fault_facts(fault: HttpFault) -> (u16, Facts) {
    facts("fault", fault.code(), fault.title(), fault.status())
}

fn code_facts(code: RefusalCode) -> (u16, Facts) {
    facts("refusal", code.name(), code.name(), http_status(code))
}

fn refusal_facts(refusal: Refusal) -> (u16, Facts) {
    let (status, mut facts) = code_facts(refusal.code());
    let fact = match refusal {
        Refusal::NotOpen { opens_at: Some(time) } => Some(("opens_at_ms", time.0.into())),
        Refusal::WrongState { state } => Some(("state", state.name().into())),
        Refusal::BadRequest { field } => Some(("field", field.name().into())),
        _ => None,
    };
    if let Some((name, value)) = fact {
        facts.insert(name.to_owned(), value);
    }
    (status, facts)
}

/// What a status is called in the status line.
const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        // The reason is for people; every program goes by the number.
        _ => "",
    }
}
