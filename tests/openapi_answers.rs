//! The `OpenAPI` document against a running server: each answer that it promises is made to occur,
//! and each that occurs is as it says, in status, headers and body.

#[path = "support/http_peer.rs"]
mod http_peer;
#[path = "support/openapi.rs"]
mod openapi;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::thread;
use std::time::Duration;

use boxoffice::admission::token::{MintedClaims, TokenSigner};
use boxoffice::model::{Command, Quantity, SaleId, SaleTerms, TimeMs};
use boxoffice::protocol::http::OPENAPI;
use http_peer::{HttpPeer, Response};
use openapi::{Description, Operation, object};
use peer::{Peer, hold_ttl, wall_ms};
use serde_json::{Value, json};
use server::{Server, temporary_dir};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A back end's key, and one that buys nothing.
const SHOP: &str = "k1";
const OFFICE: &str = "k2";
const SECRET: &str = "hs256 text a secret of the identity system, 32 bytes or more\n";

/// A sale that sells, and one for each thing that a sale may refuse.
const OPEN: u64 = 7;
const SCHEDULED: u64 = 8;
const PAUSED: u64 = 9;
const CLOSED: u64 = 10;
const LIMITED: u64 = 11;
const BRIEF: u64 = 12;
const NOWHERE: u64 = 13;

struct Stage {
    _home: TempDir,
    server: Server,
    description: Description,
    /// The operation and the code, or the status of a success, of every answer so far.
    seen: BTreeSet<(String, String)>,
    keys: u32,
}

impl Stage {
    fn set() -> Self {
        let home = temporary_dir();
        let [keys, secret] = ["keys", "shop.secret"].map(|name| home.path().join(name));
        let text = key_line("shop", "buy", SHOP) + &key_line("office", "admin", OFFICE);
        fs::write(&keys, text).expect("the file can be written");
        fs::write(&secret, SECRET).expect("the file can be written");
        let server = Server::start_with(|serve| {
            let serve = serve.with("--keys", &keys.to_string_lossy());
            serve.with("--token-key", &secret.to_string_lossy()).with("--request-timeout", "1")
        });
        let mut admin = Peer::silent(server.address());
        admin.hello(OFFICE.as_bytes()).expect("the key is known");
        let limit = SaleTerms { account_limit: Some(Quantity(1)), ..SaleTerms::default() };
        for (sale, terms) in [
            (OPEN, SaleTerms::default()),
            (PAUSED, SaleTerms::default()),
            (CLOSED, SaleTerms::default()),
            (LIMITED, limit),
            (BRIEF, hold_ttl(1_000)),
        ] {
            admin.open_sale(SaleId(sale), terms, &[(1, 100), (2, 1)]);
        }
        let later = Some(TimeMs(wall_ms() + 3_600_000));
        let terms = SaleTerms { opens_at: later, ..SaleTerms::default() };
        admin.gets(Command::DefineSale { sale: SaleId(SCHEDULED), terms });
        admin.gets(Command::PauseSale { sale: SaleId(PAUSED) });
        admin.gets(Command::CloseSale { sale: SaleId(CLOSED) });
        let description = Description::shipped();
        Self { _home: home, server, description, seen: BTreeSet::new(), keys: 0 }
    }

    fn operation(&self, id: &str) -> Operation<'_> {
        let mut operations = self.description.operations().into_iter();
        operations.find(|operation| operation.id() == id).expect("it is described")
    }

    fn request(&mut self, id: &str, at: (u64, u64), more: &str) -> Request {
        self.keys += 1;
        let operation = self.operation(id);
        let path = operation.path.replace("{sale}", &at.0.to_string());
        let path = path.replace("{order}", &at.1.to_string()).replace("{request_id}", more);
        Request {
            operation: id.to_owned(),
            method: operation.method,
            path,
            credential: Some(SHOP.to_owned()),
            key: Some(format!("intent-{}", self.keys)),
            body: None,
        }
    }

    /// Sends a request; its answer must be as described.
    #[track_caller]
    fn ask(&mut self, request: &Request) -> Response {
        self.ask_bytes(&request.operation, &request.bytes())
    }

    #[track_caller]
    fn ask_bytes(&mut self, id: &str, bytes: &str) -> Response {
        let mut http = HttpPeer::connect(self.server.http_address());
        http.write(bytes);
        let response = http.response();
        self.judge(id, &response);
        response
    }

    /// Holds an answer to the document, and notes it.
    #[track_caller]
    fn judge(&mut self, id: &str, response: &Response) {
        let operation = self.operation(id);
        if let Some(why) = misfit(&self.description, operation, response) {
            panic!("{id}: {why}: {response:?}");
        }
        let is_problem = response.status >= 400;
        let name = if is_problem { response.code() } else { response.status.to_string() };
        self.seen.insert((id.to_owned(), name));
    }

    /// An order of the open sale, in its number.
    #[track_caller]
    fn order(&mut self, sale: u64, account: &str, action: &str) -> u64 {
        let request = self.request("createOrder", (sale, 0), "");
        let response = self.ask(&request.with(order(account, action, 1, 1)));
        assert_eq!(response.status, 201, "{response:?}");
        response.json()["order"].as_u64().expect("a number")
    }
}

/// A request for an operation.
#[derive(Clone)]
struct Request {
    operation: String,
    method: &'static str,
    path: String,
    credential: Option<String>,
    key: Option<String>,
    body: Option<String>,
}

impl Request {
    #[expect(clippy::needless_pass_by_value, reason = "bodies are made on the spot")]
    fn with(mut self, body: Value) -> Self {
        self.body = Some(body.to_string());
        self
    }

    fn by(mut self, credential: &str) -> Self {
        self.credential = Some(credential.to_owned());
        self
    }

    fn under(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    fn bytes(&self) -> String {
        let mut text = format!("{} {} HTTP/1.1\r\nHost: a\r\n", self.method, self.path);
        if let Some(credential) = &self.credential {
            write!(text, "Authorization: Bearer {credential}\r\n").expect("a string");
        }
        if let (Some(key), "POST") = (&self.key, self.method) {
            write!(text, "Idempotency-Key: {key}\r\n").expect("a string");
        }
        let body = self.body.as_deref().unwrap_or_default();
        if self.body.is_some() {
            let length = body.len();
            let lines = format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
            text += &lines;
        }
        text + "\r\n" + body
    }
}

fn key_line(name: &str, scopes: &str, key: &str) -> String {
    let mut line = format!("{name} {scopes} ");
    for byte in Sha256::digest(key) {
        write!(line, "{byte:02x}").expect("a string takes all that is written");
    }
    line + "\n"
}

fn token(account: &str) -> String {
    let now = wall_ms() / 1_000;
    let claims = MintedClaims { sub: account, iat: now, exp: now + 600, iss: None, aud: None };
    TokenSigner::parse(SECRET.as_bytes()).expect("a secret").mint(None, &claims)
}

fn order(account: &str, action: &str, item: u32, quantity: u32) -> Value {
    let lines = json!([{"item": item, "quantity": quantity}]);
    json!({"account": account, "action": action, "lines": lines})
}

fn ann() -> Value {
    json!({"account": "ann"})
}

/// What is wrong with an answer by the document.
fn misfit(
    description: &Description,
    operation: Operation<'_>,
    response: &Response,
) -> Option<String> {
    let Some(described) = description.response(operation, response.status) else {
        return Some(format!("{} is not described", response.status));
    };
    for (name, header) in described.get("headers").map(object).into_iter().flatten() {
        let header = description.resolve(header);
        let Some(text) = response.header(&name.to_ascii_lowercase()) else {
            if header["required"] == true {
                return Some(format!("{name} is missing"));
            }
            continue;
        };
        let schema = &header["schema"];
        let is_number = schema["type"] == "integer";
        let value = if is_number {
            text.parse::<u64>().map_or(json!(text), Value::from)
        } else {
            json!(text)
        };
        if let Some(why) = description.misfit(schema, &value) {
            return Some(format!("{name}: {why}"));
        }
    }
    let Some(content) = described.get("content") else {
        return (!response.body.is_empty()).then(|| "it has a body".to_owned());
    };
    let media_type = response.header("content-type").unwrap_or_default();
    match content.get(media_type) {
        Some(content) if media_type == "application/json" && operation.path == "/openapi.json" => {
            (response.json()["openapi"] != "3.1.0" || content.is_null())
                .then(|| "no document".into())
        }
        Some(content) => description.misfit(&content["schema"], &response.json()),
        None => Some(format!("{media_type} is not described")),
    }
}

/// Successes, and what is refused for the state of stock and orders.
fn live_and_be_refused(stage: &mut Stage) {
    let held = stage.order(OPEN, "ann", "hold");
    let sold = stage.order(OPEN, "ann", "buy");
    let ended = stage.order(BRIEF, "ann", "hold");
    stage.order(LIMITED, "ann", "buy");
    let orders = |stage: &mut Stage, sale, body| {
        let request = stage.request("createOrder", (sale, 0), "").with(body);
        stage.ask(&request);
    };
    orders(stage, OPEN, order("ann", "hold", 2, 1));
    orders(stage, OPEN, order("ann", "hold", 2, 1)); // NONE_NOW
    let last = stage.request("createOrder", (LIMITED, 0), "").with(order("ben", "buy", 2, 1));
    stage.ask(&last);
    orders(stage, LIMITED, order("eve", "buy", 2, 1)); // SOLD_OUT
    orders(stage, LIMITED, order("ann", "buy", 1, 1)); // ACCOUNT_LIMIT
    for sale in [SCHEDULED, PAUSED, CLOSED, NOWHERE] {
        orders(stage, sale, order("ann", "buy", 1, 1));
    }
    let mut priced = order("ann", "buy", 1, 1);
    priced["lines"][0]["price"] = json!(1);
    orders(stage, OPEN, priced);
    orders(stage, OPEN, order("ann", "steal", 1, 1));
    let again = stage.request("createOrder", (OPEN, 0), "").under("intent-1");
    let replayed = stage.ask(&again.clone().with(order("ann", "hold", 1, 1)));
    assert_eq!(replayed.header("idempotency-replayed"), Some("true"));
    stage.ask(&again.with(order("ann", "hold", 1, 2))); // KEY_CONFLICT

    // The hold of one second has ended by then; nothing is measured.
    thread::sleep(Duration::from_millis(1_200));
    for (id, own) in [
        ("extendOrder", held),
        ("confirmOrder", held),
        ("releaseOrder", stage.order(OPEN, "ann", "hold")),
        ("cancelOrder", sold),
    ] {
        let request = |stage: &mut Stage, at| stage.request(id, at, "").with(ann());
        let done = request(stage, (OPEN, own));
        assert_eq!(stage.ask(&done).status, 200);
        assert_eq!(stage.ask(&done).header("idempotency-replayed"), Some("true"));
        stage.ask(
            &done.clone().with(json!({"account": "ann", "lines": [{"item": 1, "quantity": 1}]})),
        );
        let other = request(stage, (OPEN, 3)).under("intent-1");
        stage.ask(&other); // KEY_CONFLICT
        let twice = request(stage, (OPEN, own));
        stage.ask(&twice); // WRONG_STATE
        let late = request(stage, (BRIEF, ended));
        stage.ask(&late); // HOLD_EXPIRED
        let foreign = request(stage, (OPEN, own)).with(json!({"account": "ben"}));
        stage.ask(&foreign); // FORBIDDEN
        let missing = request(stage, (OPEN, 999));
        stage.ask(&missing);
        let nobody = stage.request(id, (OPEN, own), "");
        stage.ask(&nobody); // BAD_REQUEST
    }
}

/// Reads, by back ends and by buyers.
fn read(stage: &mut Stage) {
    for sale in [OPEN, NOWHERE] {
        for id in ["readOrder", "readAvailability", "readStats"] {
            let request = stage.request(id, (sale, 1), "");
            stage.ask(&request);
        }
        let found = stage.request("lookUpRequest", (sale, 0), "intent-1?account=ann");
        stage.ask(&found);
    }
    for id in ["readOrder", "readStats"] {
        let foreign = stage.request(id, (OPEN, 1), "").by(&token("ben"));
        stage.ask(&foreign);
    }
    for id in ["readOrder", "readAvailability", "readStats"] {
        let mut wrong = stage.request(id, (OPEN, 1), "");
        wrong.path += "?colour=red";
        stage.ask(&wrong);
    }
    let nobody = stage.request("lookUpRequest", (OPEN, 0), "intent-1");
    stage.ask(&nobody);
    let foreign = stage.request("lookUpRequest", (OPEN, 0), "intent-1?account=ann");
    stage.ask(&foreign.by(&token("ben")));
    // As many as an account may have, and one more.
    for index in 0..17 {
        let more = format!("never-{index}?account=ann&fence=true");
        let fence = stage.request("lookUpRequest", (OPEN, 0), &more);
        stage.ask(&fence);
    }
}

/// What is refused whatever is asked: who asks, and how.
fn misspeak(stage: &mut Stage) {
    let ids: Vec<String> =
        stage.description.operations().iter().map(|operation| operation.id().to_owned()).collect();
    let mut begun = Vec::new();
    for id in &ids {
        let good = stage.request(id, (OPEN, 1), "intent-1?account=ann");
        let good = if good.method == "POST" { good.with(ann()) } else { good };
        if id != "readDescription" {
            stage.ask(&good.clone().by("k3"));
        }
        if good.method == "POST" {
            stage.ask(&good.clone().by(OFFICE).with(match id.as_str() {
                "createOrder" => order("ann", "buy", 1, 1),
                _ => ann(),
            }));
            let plain = good.bytes().replace("application/json", "text/plain");
            stage.ask_bytes(id, &plain);
        }
        let bytes = good.bytes();
        let headed = |line: &str| bytes.replacen("Host: a\r\n", &format!("Host: a\r\n{line}"), 1);
        let bare = |line: &str| {
            let head = bytes.replace("Content-Length", "X-Length");
            head.replacen("Host: a\r\n", &format!("Host: a\r\n{line}"), 1)
        };
        for wrong in [
            headed("no colon\r\n"),
            bytes.replacen("\r\n", "\n", 1),
            bytes.replacen(" /", " ", 1),
            bytes.replacen("Host: a\r\n", "", 1),
            bare("Content-Length: x\r\n"),
            bare("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
            bare("Transfer-Encoding: gzip\r\n"),
            bare("Transfer-Encoding: chunked\r\n").replacen("\r\n\r\n", "\r\n\r\nx\r\n", 1),
            headed("Origin: a\r\nOrigin: b\r\n"),
            bare("Content-Length: 1000000\r\n"),
            bytes.replacen(" HTTP", &format!("{}x HTTP", "?".repeat(2_000)), 1),
            headed("Expect: tea\r\n"),
            headed(&"X: y\r\n".repeat(65)),
            bytes.replacen("HTTP/1.1", "HTTP/1.2", 1),
        ] {
            let response = stage.ask_bytes(id, &wrong);
            assert!(response.status >= 400, "{wrong}: {response:?}");
        }
        let mut http = HttpPeer::connect(stage.server.http_address());
        http.write(&bytes[..20]);
        begun.push((id, http));
    }
    // They were begun and never finished.
    for (id, mut http) in begun {
        let response = http.response();
        stage.judge(id, &response);
    }
    let keyless = Request { key: None, ..stage.request("createOrder", (OPEN, 0), "") };
    stage.ask(&keyless.with(order("ann", "buy", 1, 1)));
    let unsaid = stage.request("createOrder", (OPEN, 0), "");
    stage.ask(&unsaid); // LENGTH_REQUIRED
}

/// Refusals that need more than requests: a server that stops, or that is full.
const NOT_MADE: [&str; 3] = ["DISK_FULL", "DRAINING", "OVERLOADED"];

#[test]
fn every_answer_is_described_and_every_described_answer_occurs() {
    let mut stage = Stage::set();
    live_and_be_refused(&mut stage);
    read(&mut stage);
    misspeak(&mut stage);
    let mut http = HttpPeer::connect(stage.server.http_address());
    let served = http.get("/openapi.json");
    stage.judge("readDescription", &served);
    assert_eq!(served.body, OPENAPI, "it is served as it is");
    let tag = served.header("etag").expect("it has one").to_owned();
    let known = format!("GET /openapi.json HTTP/1.1\r\nHost: a\r\nIf-None-Match: {tag}\r\n\r\n");
    stage.ask_bytes("readDescription", &known);

    let mut described = BTreeSet::new();
    for operation in stage.description.operations() {
        let problems = stage.description.problems(operation);
        let problems = problems.into_iter().map(|(_, code)| code);
        let statuses = object(&operation.body["responses"]).keys().cloned();
        let successes = statuses.filter(|status| status.starts_with(['2', '3']));
        let names = problems.filter(|code| !NOT_MADE.contains(&code.as_str())).chain(successes);
        described.extend(names.map(|name| (operation.id().to_owned(), name)));
    }
    let missing: Vec<_> = described.difference(&stage.seen).collect();
    assert!(missing.is_empty(), "described, and never seen: {missing:?}");
    let strange: Vec<_> = stage.seen.difference(&described).collect();
    assert!(strange.is_empty(), "seen, and not described: {strange:?}");
}

/// The canary: an answer is judged by a document that promises something else.
#[test]
fn an_answer_that_is_not_as_described_is_found() {
    let text = std::str::from_utf8(OPENAPI).expect("UTF-8");
    let mut stage = Stage::set();
    let request = stage.request("createOrder", (OPEN, 0), "").with(order("ann", "hold", 1, 1));
    let response = stage.ask(&request);
    assert_eq!(response.status, 201);
    for (from, to) in [
        ("\"const\": \"held\"", "\"const\": \"kept\""),
        ("\"expires_at_ms\"", "\"expires_ms\""),
        ("\"201\"", "\"202\""),
        ("\"application/json\"", "\"text/json\""),
        ("\"Location\": { \"$ref\"", "\"Place\": { \"$ref\""),
    ] {
        assert!(text.contains(from), "{from}");
        let wrong = Description::parse(&text.replace(from, to));
        let operations = wrong.operations();
        let operation = operations.iter().find(|operation| operation.id() == "createOrder");
        let found = misfit(&wrong, *operation.expect("it is there"), &response);
        assert!(found.is_some(), "{to} went unseen");
    }
}
