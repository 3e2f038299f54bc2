//! Answers of administration as bytes: a status, JSON or text, and whether the connection goes on.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::view::Step;
use crate::model::{Field, Refusal, RefusalCode, TimeMs};
use crate::protocol::codes::{WireCode, http_status, rule, title};
use crate::protocol::http::{
    DateText, HttpFault, HttpRefusal, Method, Methods, Request, Version, status_line,
};
use crate::runtime::{Clock, SystemClock};

/// How soon to ask again what could not be done now, in seconds.
const RETRY_AFTER_S: u32 = 1;

/// What an answer's form depends on, beside what it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    version: Version,
    /// Whether it goes without its body.
    is_head: bool,
    /// Whether the caller said who it is: then a refusal to let it in is about that.
    has_credential: bool,
    /// Whether the connection goes on.
    pub(super) keep_alive: bool,
}

impl Form {
    /// The form of the answer to what is no request.
    pub(super) const LAST: Self =
        Self { version: Version::Http11, is_head: false, has_credential: false, keep_alive: false };

    /// The form that this request wants.
    pub(super) fn of(request: &Request<'_>) -> Self {
        Self {
            version: request.version,
            is_head: request.method == Method::Head,
            has_credential: request.bearer().is_some(),
            keep_alive: request.keep_alive,
        }
    }
}

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
    /// It is not understood, a part of it is wrong, or it is refused.
    Http(HttpRefusal),
    /// The place takes other methods, these.
    Method(&'static str),
    /// A step of it is refused; those before it are done.
    Step { refusal: Refusal, step: Step, done: Vec<Step> },
}

impl Problem {
    /// This part of the request is wrong, because of that.
    pub(super) fn field(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Http(HttpRefusal::Field { field: name.into().into(), detail: why.into().into() })
    }
}

impl From<HttpRefusal> for Problem {
    fn from(refusal: HttpRefusal) -> Self {
        Self::Http(refusal)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Http(refusal.into())
    }
}

impl From<HttpFault> for Problem {
    fn from(fault: HttpFault) -> Self {
        Self::Http(fault.into())
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

    /// Appends the answer.
    pub(super) fn encode(&self, out: &mut Vec<u8>, form: Form) {
        let Self { status, content_type, body, .. } = self;
        out.extend_from_slice(status_line(*status).as_bytes());
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(DateText::new(TimeMs(SystemClock::new().wall_ms())).as_bytes());
        let mut headers = format!(
            "\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n",
            body.len()
        );
        if let Some(allow) = self.allow {
            let _ = write!(headers, "Allow: {allow}\r\n");
        }
        if *status == 503 {
            let _ = write!(headers, "Retry-After: {RETRY_AFTER_S}\r\n");
        }
        if *status == 401 {
            headers += "WWW-Authenticate: Bearer realm=\"boxoffice\"";
            headers += if form.has_credential { ", error=\"invalid_token\"\r\n" } else { "\r\n" };
        }
        headers += match (form.keep_alive, form.version) {
            (true, Version::Http11) => "",
            (true, Version::Http10) => "Connection: keep-alive\r\n",
            (false, _) => "Connection: close\r\n",
        };
        out.extend_from_slice(headers.as_bytes());
        out.extend_from_slice(b"\r\n");
        if !form.is_head {
            out.extend_from_slice(body);
        }
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        let (mut allow, mut all_done) = (None, Vec::new());
        let (status, facts) = match problem {
            Problem::Http(HttpRefusal::Fault(fault)) => fault_facts(fault),
            Problem::Http(HttpRefusal::Refusal(refusal)) => refusal_facts(refusal),
            Problem::Http(HttpRefusal::Field { field, detail }) => {
                let (status, mut facts) = code_facts(RefusalCode::BadRequest);
                facts.insert("field".to_owned(), field.into());
                facts.insert("detail".to_owned(), detail.into());
                (status, facts)
            }
            Problem::Method(methods) => {
                allow = Some(methods);
                fault_facts(HttpFault::MethodNotAllowed(Methods::Any))
            }
            Problem::Step { refusal, step, done } => {
                let (status, mut facts) = refusal_facts(refusal);
                facts.insert("step".to_owned(), json!(step));
                facts.insert("done".to_owned(), json!(done));
                all_done = done;
                (status, facts)
            }
        };
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
    facts("refusal", code.name(), title(code), http_status(code))
}

fn refusal_facts(refusal: Refusal) -> (u16, Facts) {
    let (status, mut facts) = code_facts(refusal.code());
    let fact = match refusal {
        Refusal::NotOpen { opens_at: Some(time) } => Some(("opens_at_ms", time.0.into())),
        Refusal::WrongState { state } => Some(("state", state.name().into())),
        Refusal::BadRequest { field } => Some(("field", json_name(field).into())),
        _ => None,
    };
    if let Some((name, value)) = fact {
        facts.insert(name.to_owned(), value);
    }
    if let Refusal::BadRequest { field } = refusal {
        facts.insert("detail".to_owned(), rule(field).into());
    }
    (status, facts)
}

/// A field of the model by its name in the JSON of administration.
fn json_name(field: Field) -> &'static str {
    match field {
        Field::Ttl => "hold_ttl_ms",
        Field::Limit => "account_limit",
        Field::Quantity => "by",
        other => other.name(),
    }
}
