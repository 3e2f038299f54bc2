//! The two fronts of a shard: what a request is on the wire, and what an answer there means.
//!
//! A request that is asked again may come over the other front, and must be the same request to
//! the server. HTTP is spoken as its documentation says, by code of the tests' own.

use boxoffice::model::{
    Answer, Command, DurationMs, Field, Intent, ItemCounts, ItemId, Line, OrderNumber, OrderState,
    OrderView, Outcome, PaymentRef, Price, Quantity, Query, Refusal, RefusalCode, SaleId,
    SaleState, SaleStats, SaleTerms, TimeMs, UuidText, account_from_text,
};
use boxoffice::protocol::binary::{encode_command, encode_query};
use boxoffice::protocol::codes::WireCode;
use boxoffice::server::Wire;
use serde_json::{Map, Value, json};

use crate::judge::Ask;

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    Binary,
    Http,
}

impl Front {
    pub fn wire(self) -> Wire {
        match self {
            Self::Binary => Wire::Binary,
            Self::Http => Wire::Http { peer: "127.0.0.1:1".parse().expect("an address") },
        }
    }

    /// The request on the wire; `None` where this front has no such request.
    pub fn encode(self, attempt: u64, ask: &Ask) -> Option<Vec<u8>> {
        match (self, ask) {
            (Self::Binary, Ask::Command(command)) => {
                let mut bytes = Vec::new();
                encode_command(&mut bytes, attempt, command);
                Some(bytes)
            }
            (Self::Binary, Ask::Query(query)) => {
                let mut bytes = Vec::new();
                encode_query(&mut bytes, attempt, query);
                Some(bytes)
            }
            (Self::Http, Ask::Command(command)) => http_command(attempt, command),
            (Self::Http, Ask::Query(query)) => Some(http_query(query)),
        }
    }

    /// An outcome as far as this front tells it: over HTTP an extended hold is a hold.
    pub fn tells(self, outcome: &Outcome) -> Outcome {
        match (self, outcome) {
            (Self::Http, Outcome::Extended { order, expires_at }) => {
                Outcome::Held { order: *order, expires_at: *expires_at }
            }
            _ => outcome.clone(),
        }
    }
}

fn http_command(attempt: u64, command: &Command) -> Option<Vec<u8>> {
    let mut body = Map::new();
    let (intent, action) = match command {
        Command::Hold { intent, lines, ttl } => {
            body.insert("action".into(), "hold".into());
            body.insert("lines".into(), http_lines(lines.lines().as_slice()));
            body.extend(ttl.map(|ttl| ("ttl_ms".into(), ttl.0.into())));
            (intent, String::new())
        }
        Command::Buy { intent, lines, payment } => {
            body.insert("action".into(), "buy".into());
            body.insert("lines".into(), http_lines(lines.lines().as_slice()));
            body.insert("payment_ref".into(), http_payment(payment)?);
            (intent, String::new())
        }
        Command::Confirm { intent, order, payment, lines } => {
            body.insert("payment_ref".into(), http_payment(payment)?);
            let lines = lines.as_ref().map(|lines| http_lines(lines.as_slice()));
            body.extend(lines.map(|lines| ("lines".into(), lines)));
            (intent, format!("/{order}/confirm"))
        }
        Command::Cancel { intent, order, lines } => {
            let lines = lines.as_ref().map(|lines| http_lines(lines.as_slice()));
            body.extend(lines.map(|lines| ("lines".into(), lines)));
            (intent, format!("/{order}/cancel"))
        }
        Command::Release { intent, order } => (intent, format!("/{order}/release")),
        Command::Extend { intent, order } => (intent, format!("/{order}/extend")),
        Command::Fence { intent } => return Some(http_lookup(*intent, true)),
        _ => return None,
    };
    body.insert("account".into(), UuidText::from(intent.account).as_str().into());
    let (sale, key) = (intent.sale, UuidText::new(intent.request.0));
    let body = Value::Object(body).to_string();
    let head = format!(
        "POST /v1/sales/{sale}/orders{action} HTTP/1.1\r\nHost: tickets\r\n\
         Idempotency-Key: {key}\r\nContent-Type: application/json\r\n"
    );
    let (length, chunks) = (body.len(), attempt.is_multiple_of(4));
    let text = if chunks {
        format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n")
    } else {
        format!("{head}Content-Length: {length}\r\n\r\n{body}")
    };
    Some(text.into_bytes())
}

fn http_lines(lines: &[Line]) -> Value {
    let line = |line: &Line| json!({"item": line.item.0, "quantity": line.quantity.0});
    lines.iter().map(line).collect()
}

/// Over HTTP a payment reference is a text.
fn http_payment(payment: &PaymentRef) -> Option<Value> {
    std::str::from_utf8(payment.as_bytes()).ok().map(Value::from)
}

fn http_query(query: &Query) -> Vec<u8> {
    let (sale, rest) = match query {
        Query::Order { sale, order } => (sale, format!("orders/{order}")),
        Query::Availability { sale } => (sale, "availability".into()),
        Query::Stats { sale } => (sale, "stats".into()),
        Query::Request { intent } => return http_lookup(*intent, false),
        Query::AccountOrders { .. } | Query::Sales { .. } => {
            unreachable!("nobody here asks for pages")
        }
    };
    get(*sale, &rest)
}

fn http_lookup(intent: Intent, fence: bool) -> Vec<u8> {
    let (request, account) = (UuidText::new(intent.request.0), UuidText::from(intent.account));
    get(intent.sale, &format!("requests/{request}?account={account}&fence={fence}"))
}

fn get(sale: SaleId, rest: &str) -> Vec<u8> {
    format!("GET /v1/sales/{sale}/{rest} HTTP/1.1\r\nHost: tickets\r\n\r\n").into_bytes()
}

/// An HTTP response.
#[derive(Debug)]
pub struct HttpResponse {
    pub status: u16,
    is_replayed: bool,
    body: Value,
}

/// The response at the front of these bytes, and how long it is.
pub fn take_response(bytes: &[u8]) -> Option<(usize, HttpResponse)> {
    let head_len = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..head_len]).expect("the head is text");
    let value = |name: &str| {
        let fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    };
    let length: usize = value("content-length").expect("a length").parse().expect("a number");
    let len = head_len + length;
    let body = bytes.get(head_len..len)?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let response = HttpResponse {
        status: status.expect("a status line").parse().expect("a status"),
        is_replayed: value("idempotency-replayed") == Some("true"),
        body: serde_json::from_slice(body).expect("a JSON body"),
    };
    Some((len, response))
}

impl HttpResponse {
    /// What the response to this request says.
    pub fn answer(&self, ask: &Ask) -> Result<Answer, Refusal> {
        match self.status {
            200 | 201 => Ok(Answer { outcome: self.outcome(ask), replayed: self.is_replayed }),
            _ => Err(self.refusal(ask)),
        }
    }

    fn outcome(&self, ask: &Ask) -> Outcome {
        match ask {
            Ask::Query(Query::Availability { .. }) => {
                let items = self.body["items"].as_array().expect("a list of items");
                Outcome::Availability(items.iter().map(item).collect())
            }
            Ask::Query(Query::Stats { .. }) => Outcome::Stats(stats(&self.body)),
            Ask::Query(Query::Order { .. }) => Outcome::Order(order(&self.body)),
            _ => self.change(),
        }
    }

    fn change(&self) -> Outcome {
        let order = || OrderNumber(small(&self.body, "order"));
        match word(&self.body, "state") {
            "held" => {
                let expires_at = TimeMs(number(&self.body, "expires_at_ms"));
                Outcome::Held { order: order(), expires_at }
            }
            "confirmed" => Outcome::Confirmed { order: order() },
            "released" => Outcome::Released { order: order() },
            "cancelled" => Outcome::Cancelled { order: order() },
            "fenced" => Outcome::Fenced,
            "done" => Outcome::Done,
            other => panic!("an answer of state {other:?}: {self:?}"),
        }
    }

    fn refusal(&self, ask: &Ask) -> Refusal {
        let name = word(&self.body, "code");
        let code = RefusalCode::from_name(name);
        match code.unwrap_or_else(|| panic!("the server understood no request: {self:?}")) {
            RefusalCode::SoldOut => Refusal::SoldOut,
            RefusalCode::NoneNow => Refusal::NoneNow,
            RefusalCode::AccountLimit => Refusal::AccountLimit,
            RefusalCode::NotOpen => {
                Refusal::NotOpen { opens_at: self.body["opens_at_ms"].as_u64().map(TimeMs) }
            }
            RefusalCode::Paused => Refusal::Paused,
            RefusalCode::Closed => Refusal::Closed,
            RefusalCode::NotClosed => Refusal::NotClosed,
            RefusalCode::HoldExpired => Refusal::HoldExpired,
            RefusalCode::WrongState => {
                let state = OrderState::from_name(word(&self.body, "state"));
                Refusal::WrongState { state: state.expect("a state") }
            }
            RefusalCode::KeyConflict => Refusal::KeyConflict,
            RefusalCode::PriceMismatch => Refusal::PriceMismatch,
            RefusalCode::NotFound => Refusal::NotFound,
            RefusalCode::BadRequest => Refusal::BadRequest { field: self.field(ask) },
            RefusalCode::BadToken => Refusal::BadToken,
            RefusalCode::Forbidden => Refusal::Forbidden,
            RefusalCode::Overloaded => Refusal::Overloaded,
            RefusalCode::Draining => Refusal::Draining,
            RefusalCode::DiskFull => Refusal::DiskFull,
        }
    }

    /// JSON says `lines` of all that is wrong with them.
    fn field(&self, ask: &Ask) -> Field {
        match (word(&self.body, "field"), ask) {
            ("ttl_ms", _) => Field::Ttl,
            ("lines", Ask::Command(Command::Hold { .. } | Command::Buy { .. })) => Field::Item,
            ("lines", _) => Field::Lines,
            (name, _) => Field::from_name(name).unwrap_or_else(|| panic!("no field: {self:?}")),
        }
    }
}

fn number(of: &Value, name: &str) -> u64 {
    of[name].as_u64().unwrap_or_else(|| panic!("no number {name}: {of}"))
}

fn small(of: &Value, name: &str) -> u32 {
    u32::try_from(number(of, name)).unwrap_or_else(|_| panic!("too large, {name}: {of}"))
}

fn word<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_else(|| panic!("no text {name}: {of}"))
}

fn limit(of: &Value) -> Option<Quantity> {
    of.get("account_limit").map(|_| Quantity(small(of, "account_limit")))
}

fn item(of: &Value) -> ItemCounts {
    let units = |name| Quantity(small(of, name));
    ItemCounts {
        item: ItemId(small(of, "item")),
        price: Price(number(of, "price")),
        account_limit: limit(of),
        capacity: units("capacity"),
        available: units("available"),
        held: units("held"),
        sold: units("sold"),
    }
}

fn order(of: &Value) -> OrderView {
    let account = account_from_text(word(of, "account").as_bytes()).expect("an account");
    let lines = of["lines"].as_array().expect("a list of lines").iter().map(|line| Line {
        item: ItemId(small(line, "item")),
        quantity: Quantity(small(line, "quantity")),
    });
    OrderView {
        order: OrderNumber(small(of, "order")),
        account,
        state: OrderState::from_name(word(of, "state")).expect("a state"),
        expires_at: of["expires_at_ms"].as_u64().map(TimeMs),
        lines: lines.collect(),
    }
}

fn stats(of: &Value) -> SaleStats {
    let count = |name| small(of, name);
    SaleStats {
        state: SaleState::from_name(word(of, "state")).expect("a state"),
        terms: SaleTerms {
            opens_at: of["opens_at_ms"].as_u64().map(TimeMs),
            closes_at: of["closes_at_ms"].as_u64().map(TimeMs),
            hold_ttl: DurationMs(count("hold_ttl_ms")),
            account_limit: limit(of),
        },
        items: count("items"),
        orders: count("orders"),
        orders_held: count("orders_held"),
        orders_confirmed: count("orders_confirmed"),
        orders_released: count("orders_released"),
        orders_expired: count("orders_expired"),
        orders_cancelled: count("orders_cancelled"),
        accounts: count("accounts"),
        capacity: number(of, "capacity"),
        available: number(of, "available"),
        held: number(of, "held"),
        sold: number(of, "sold"),
    }
}
