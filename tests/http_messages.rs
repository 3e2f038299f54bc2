//! What HTTP requests mean, and what their answers say.
//!
//! A property that fails prints its smallest case and keeps the seed in
//! `tests/http_messages.proptest-regressions`.

use boxoffice::model::sale::ITEMS_MAX;
use boxoffice::model::{
    AccountId, Answer, Command, DurationMs, Intent, ItemCounts, ItemId, Line, Lines, OrderNumber,
    OrderState, OrderView, Outcome, PaymentRef, Price, Quantity, Query, Refusal, RequestId, SaleId,
    SaleState, SaleStats, SaleTerms, Scopes, TimeMs, Wanted, WantedLine, account_from_text,
    request_id_from_text,
};
use boxoffice::protocol::codes::WireCode;
use boxoffice::protocol::http::{
    AVAILABILITY_BYTES_MAX, Ask, Caller, Cors, DateText, Decoded, Decoder, Document, HttpFault,
    HttpRefusal, Methods, ORIGIN_BYTES_MAX, Reply, SHORT_ANSWER_BYTES_MAX, Site, encode_answer,
    encode_document, encode_http_refusal, encode_options, route, to_ask,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

const KEY: Caller = Caller::Key(Scopes { buy: true, admin: false });

fn site(origins: &[&str]) -> Site {
    let cors = Cors::new(origins).expect("origins");
    Site { date: DateText::new(TimeMs(784_111_777_000)), cors }
}

/// What a request means, and the reply to it.
fn asked(bytes: &str, caller: Caller) -> (Result<Ask, HttpRefusal>, Reply) {
    let mut decoder = Decoder::default();
    let Ok(Decoded::Complete { request, consumed }) = decoder.decode(bytes.as_bytes()) else {
        panic!("no request: {bytes}")
    };
    assert_eq!(consumed, bytes.len());
    let mut reply = Reply::to(&request, &Cors::default());
    let ask = route(&request).and_then(|route| to_ask(route, &request, caller, &mut reply));
    (ask, reply)
}

fn get(target: &str, caller: Caller) -> Result<Ask, HttpRefusal> {
    asked(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"), caller).0
}

fn post_with(headers: &str, target: &str, body: &str, caller: Caller) -> Result<Ask, HttpRefusal> {
    let length = body.len();
    let bytes = format!(
        "POST /v1/sales/7/orders{target} HTTP/1.1\r\nHost: x\r\n{headers}\
         Content-Length: {length}\r\n\r\n{body}"
    );
    asked(&bytes, caller).0
}

fn post(target: &str, body: &Value, caller: Caller) -> Result<Ask, HttpRefusal> {
    let headers = "Content-Type: application/json\r\nIdempotency-Key: r-1\r\n";
    post_with(headers, target, &body.to_string(), caller)
}

fn intent(account: &str) -> Intent {
    let account = account_from_text(account.as_bytes()).expect("an account");
    let request = request_id_from_text(b"r-1").expect("an id");
    Intent { sale: SaleId(7), account, request }
}

const fn line(item: u32, quantity: u32) -> Line {
    Line { item: ItemId(item), quantity: Quantity(quantity) }
}

fn alice() -> Caller {
    Caller::Buyer(intent("alice").account)
}

#[test]
fn every_command_is_understood() {
    let (intent, order) = (intent("alice"), OrderNumber(12));
    let plain = |lines: &[Line]| Lines::new(lines.iter().copied()).expect("lines");
    let wanted = [
        WantedLine { line: line(1, 2), price: Some(Price(4500)) },
        WantedLine { line: line(2, 1), price: None },
    ];
    let lines = Wanted::new(wanted).expect("lines");
    let payment = PaymentRef::new(b"pay-\xc3\xa9").expect("short");
    let body_lines = json!([{"item": 1, "quantity": 2, "price": 4500}, {"quantity": 1, "item": 2}]);
    for (target, body, command) in [
        (
            "",
            json!({"account": "alice", "action": "hold", "lines": body_lines, "ttl_ms": 60_000}),
            Command::Hold { intent, lines: lines.clone(), ttl: Some(DurationMs(60_000)) },
        ),
        (
            "",
            json!({"account": "alice", "action": "buy", "lines": body_lines, "payment_ref": "pay-é"}),
            Command::Buy { intent, lines, payment: payment.clone() },
        ),
        (
            "/12/confirm",
            json!({"account": "alice", "payment_ref": "pay-é", "lines": [{"item": 1, "quantity": 2}]}),
            Command::Confirm { intent, order, payment, lines: Some(plain(&[line(1, 2)])) },
        ),
        (
            "/12/confirm",
            json!({"account": "alice"}),
            Command::Confirm { intent, order, payment: PaymentRef::default(), lines: None },
        ),
        ("/12/release", json!({"account": "alice"}), Command::Release { intent, order }),
        ("/12/extend", json!({"account": "alice"}), Command::Extend { intent, order }),
        ("/12/cancel", json!({"account": "alice"}), Command::Cancel { intent, order, lines: None }),
        (
            "/12/cancel",
            json!({"account": "alice", "lines": [{"item": 3, "quantity": 1}]}),
            Command::Cancel { intent, order, lines: Some(plain(&[line(3, 1)])) },
        ),
    ] {
        assert_eq!(post(target, &body, KEY), Ok(Ask::Command(command.clone())), "{body}");
        let mut own = body.clone();
        own.as_object_mut().expect("an object").remove("account");
        assert_eq!(post(target, &own, alice()), Ok(Ask::Command(command)), "{own}");
    }
}

#[test]
fn every_query_is_understood() {
    let (sale, order, intent) = (SaleId(7), OrderNumber(12), intent("alice"));
    for (target, ask) in [
        ("/v1/sales/7/orders/12", Ask::Query(Query::Order { sale, order })),
        ("/v1/sales/7/availability", Ask::Query(Query::Availability { sale })),
        ("/v1/sales/7/stats?", Ask::Query(Query::Stats { sale })),
        ("/v1/sales/7/requests/r-1?account=%61lice", Ask::Query(Query::Request { intent })),
        (
            "/v1/sales/7/requests/r%2D1?fence=true&account=alice",
            Ask::Command(Command::Fence { intent }),
        ),
    ] {
        assert_eq!(get(target, Caller::Open), Ok(ask), "{target}");
    }
    let own = get("/v1/sales/7/requests/r-1?fence=false", alice());
    assert_eq!(own, Ok(Ask::Query(Query::Request { intent })));
}

/// The name of the field that is refused.
fn field_of(refused: Result<Ask, HttpRefusal>) -> String {
    match refused {
        Err(HttpRefusal::Field { field, detail }) => {
            let has_place = detail.contains(" at line ");
            assert!(!detail.is_empty() && (field == "body" || !has_place), "{detail}");
            field.into_owned()
        }
        other => panic!("no field is refused: {other:?}"),
    }
}

#[test]
fn a_wrong_field_is_named() {
    let lines = json!([{"item": 1, "quantity": 1}]);
    let hold = |change: Value| {
        let mut body = json!({"account": "a", "action": "hold", "lines": lines});
        body.as_object_mut().expect("an object").extend(change.as_object().expect("one").clone());
        body
    };
    let many: Vec<Value> = (0..17).map(|item| json!({"item": item, "quantity": 1})).collect();
    for (field, body) in [
        ("account", hold(json!({"account": ""}))),
        ("account", hold(json!({"account": "x".repeat(65)}))),
        ("account", hold(json!({"account": "00000000-0000-0000-0000-000000000000"}))),
        ("account", hold(json!({"account": null}))),
        ("account", hold(json!({"account": 5}))),
        ("account", json!({"action": "hold", "lines": lines})),
        ("action", hold(json!({"action": "steal"}))),
        ("action", json!({"account": "a", "lines": lines})),
        ("lines", json!({"account": "a", "action": "buy"})),
        ("lines", hold(json!({"lines": []}))),
        ("lines", hold(json!({"lines": many}))),
        ("lines", hold(json!({"lines": 1}))),
        ("lines[1].quantity", hold(json!({"lines": [{"item": 1, "quantity": 1}, {"item": 2}]}))),
        ("lines[0].quantity", hold(json!({"lines": [{"item": 1, "quantity": 0}]}))),
        ("lines[0].quantity", hold(json!({"lines": [{"item": 1, "quantity": -1}]}))),
        ("lines[0].quantity", hold(json!({"lines": [{"item": 1, "quantity": 4_294_967_296_u64}]}))),
        ("lines[0].item", hold(json!({"lines": [{"item": "1", "quantity": 1}]}))),
        ("lines[0].price", hold(json!({"lines": [{"item": 1, "quantity": 1, "price": 0.5}]}))),
        ("lines[0].seat", hold(json!({"lines": [{"item": 1, "quantity": 1, "seat": 4}]}))),
        (
            "lines[2].item",
            hold(json!({"lines": [{"item": 1, "quantity": 1}, {"item": 2, "quantity": 1},
                {"item": 1, "quantity": 1}]})),
        ),
        ("ttl_ms", hold(json!({"ttl_ms": "1"}))),
        ("ttl_ms", hold(json!({"action": "buy", "ttl_ms": 1000}))),
        ("payment_ref", hold(json!({"payment_ref": "p"}))),
        ("payment_ref", hold(json!({"action": "buy", "payment_ref": "p".repeat(65)}))),
        ("discount", hold(json!({"discount": 5}))),
        ("body", json!([])),
    ] {
        assert_eq!(field_of(post("", &body, KEY)), field, "{body}");
    }
    assert_eq!(field_of(post("/1/release", &json!({"lines": []}), KEY)), "lines");
    let headers = "Content-Type: application/json\r\nIdempotency-Key: r\r\n";
    let twice = r#"{"account": "a", "account": "b"}"#;
    assert_eq!(field_of(post_with(headers, "/1/extend", twice, KEY)), "account");
    let longer = format!("{}x", hold(json!({})));
    for broken in ["{", &longer, "nul", "{\"account\": \"\u{1}\"}", "", "{\"\""] {
        assert_eq!(field_of(post_with(headers, "", broken, KEY)), "body", "{broken}");
    }
}

#[test]
fn a_wrong_header_or_parameter_is_named() {
    let kind = "Content-Type: application/json\r\n";
    for key in ["", "Idempotency-Key:\r\n", "Idempotency-Key: \u{0}\r\n"] {
        if !key.contains('\0') {
            let refused = post_with(&format!("{kind}{key}"), "/1/release", "{}", KEY);
            assert_eq!(field_of(refused), "Idempotency-Key");
        }
    }
    let long = format!("{kind}Idempotency-Key: {}\r\n", "x".repeat(65));
    assert_eq!(field_of(post_with(&long, "/1/release", "{}", KEY)), "Idempotency-Key");
    for (target, field) in [
        ("requests/r", "account"),
        ("requests/r?account=", "account"),
        ("requests/r?account=%ff", "account"),
        ("requests/r?account=a&account=a", "account"),
        ("requests/r?account=a&fence=1", "fence"),
        ("requests/r?account=a&x=1", "x"),
        ("requests/?account=a", "request_id"),
        ("orders/4294967296", "order"),
        ("orders/1?verbose", "verbose"),
        ("stats?a=b", "a"),
        ("stats?=b", "query"),
    ] {
        assert_eq!(field_of(get(&format!("/v1/sales/7/{target}"), KEY)), field, "{target}");
    }
    let head = "HEAD /v1/sales/7/requests/r?account=a&fence=true HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(field_of(asked(head, KEY).0), "fence");
}

#[test]
fn a_body_is_json_and_says_its_length() {
    let key = "Idempotency-Key: r\r\n";
    let fault = |fault: HttpFault| Err(HttpRefusal::Fault(fault));
    for kind in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/json; charset=x\r\n",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
    ] {
        let refused = post_with(&format!("{key}{kind}"), "/1/release", "{}", alice());
        assert_eq!(refused, fault(HttpFault::MediaType), "{kind}");
    }
    for kind in [
        "Application/JSON",
        "application/json;charset=UTF-8",
        "application/json ; charset=\"utf-8\"",
    ] {
        let headers = format!("{key}Content-Type: {kind}\r\nContent-Encoding: identity\r\n");
        assert!(post_with(&headers, "/1/release", "{}", alice()).is_ok(), "{kind}");
    }
    let bare = |target: &str| {
        let line = format!("POST /v1/sales/7/orders{target} HTTP/1.1\r\nHost: x\r\n{key}\r\n");
        asked(&line, alice()).0
    };
    assert_eq!(bare(""), fault(HttpFault::LengthRequired));
    assert!(bare("/1/release").is_ok(), "a body of nothing but optional fields may be left out");
}

#[test]
fn a_buyer_acts_for_one_account_and_a_key_within_its_scopes() {
    let body = json!({"account": "bob"});
    let forbidden = Err(HttpRefusal::Refusal(Refusal::Forbidden));
    assert_eq!(post("/1/release", &body, alice()), forbidden);
    assert_eq!(get("/v1/sales/7/requests/r?account=bob", alice()), forbidden);
    assert_eq!(get("/v1/sales/7/requests/r?account=bob&fence=true", alice()), forbidden);
    assert_eq!(get("/v1/sales/7/stats", alice()), forbidden);
    assert!(get("/v1/sales/7/availability", alice()).is_ok());
    assert!(post("/1/release", &json!({"account": "alice"}), alice()).is_ok());

    let admin = Caller::Key(Scopes { buy: false, admin: true });
    assert_eq!(post("/1/release", &body, admin), forbidden);
    assert_eq!(get("/v1/sales/7/requests/r?account=bob&fence=true", admin), forbidden);
    assert!(get("/v1/sales/7/requests/r?account=bob", admin).is_ok());

    // What a buyer may see is judged again with the order at hand.
    let (_, reply) = asked("GET /v1/sales/7/orders/1 HTTP/1.1\r\nHost: x\r\n\r\n", alice());
    let order_of = |account| Answer {
        outcome: Outcome::Order(OrderView {
            order: OrderNumber(1),
            account,
            state: OrderState::Held,
            expires_at: None,
            lines: vec![line(1, 1)],
        }),
        replayed: false,
    };
    let status = |account| encoded(&site(&[]), &reply, &order_of(account)).0;
    assert!(status(intent("alice").account).starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(status(intent("bob").account).starts_with("HTTP/1.1 403 Forbidden\r\n"));
}

/// Takes an answer apart whose length is right.
fn parts(out: &[u8], is_head: bool) -> (String, Value) {
    let text = str::from_utf8(out).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut parsed = httparse::Response::new(&mut headers);
    assert_eq!(parsed.parse(out), Ok(httparse::Status::Complete(head.len() + 4)));
    let length = head.rsplit_once("Content-Length: ").expect("a length").1;
    let length: usize = length.parse().expect("a number at the end of the head");
    assert_eq!(body.len(), if is_head { 0 } else { length });
    let body = if is_head { Value::Null } else { serde_json::from_str(body).expect("JSON") };
    (head.to_owned(), body)
}

fn encoded(site: &Site, reply: &Reply, answer: &Answer) -> (String, Value) {
    let mut out = b"before".to_vec();
    encode_answer(&mut out, site, reply, answer);
    assert_eq!(&out[..6], b"before", "answers are appended");
    parts(&out[6..], reply.is_head)
}

const REPLY: Reply = Reply { sale: SaleId(7), keep_alive: true, ..Reply::LAST };

fn short(outcome: Outcome) -> Answer {
    Answer { outcome, replayed: false }
}

#[test]
fn an_answer_reads_as_documented() {
    let mut out = Vec::new();
    let held = Outcome::Held { order: OrderNumber(12), expires_at: TimeMs(1_700_000_600_000) };
    let answer = Answer { outcome: held, replayed: true };
    encode_answer(&mut out, &site(&[]), &Reply { creates: true, ..REPLY }, &answer);
    let text = "HTTP/1.1 201 Created\r\n\
        Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
        Content-Type: application/json\r\n\
        Cache-Control: no-store\r\n\
        Idempotency-Replayed: true\r\n\
        Location: /v1/sales/7/orders/12\r\n\
        Content-Length: 70\r\n\r\n\
        {\"sale\":7,\"order\":12,\"state\":\"held\",\"expires_at_ms\":1700000600000}";
    let body = text.split_once("\r\n\r\n").expect("a body").1;
    let text = text.replace("Length: 70", &format!("Length: {}", body.len()));
    assert_eq!(str::from_utf8(&out), Ok(text.as_str()));

    let order = OrderNumber(12);
    for (outcome, body) in [
        (Outcome::Confirmed { order }, json!({"sale": 7, "order": 12, "state": "confirmed"})),
        (Outcome::Released { order }, json!({"sale": 7, "order": 12, "state": "released"})),
        (Outcome::Cancelled { order }, json!({"sale": 7, "order": 12, "state": "cancelled"})),
        (
            Outcome::Extended { order, expires_at: TimeMs(5) },
            json!({"sale": 7, "order": 12, "state": "held", "expires_at_ms": 5}),
        ),
        (Outcome::Fenced, json!({"sale": 7, "state": "fenced"})),
        (Outcome::Done, json!({"sale": 7, "state": "done"})),
    ] {
        let (lines, got) = encoded(&site(&[]), &REPLY, &short(outcome));
        assert_eq!(got, body);
        assert!(lines.starts_with("HTTP/1.1 200 OK\r\n") && !lines.contains("Location"));
    }
}

#[test]
fn the_head_of_an_answer_fits_its_request() {
    let done = short(Outcome::Fenced);
    let connection = |request: &str| {
        let (_, reply) = asked(&format!("{request}\r\n"), KEY);
        let (head, _) = encoded(&site(&[]), &reply, &done);
        let line = head.lines().find_map(|line| line.strip_prefix("Connection: "));
        line.map(str::to_owned)
    };
    assert_eq!(connection("GET /v1/sales/7/stats HTTP/1.1\r\nHost: x\r\n"), None);
    let close = Some("close".to_owned());
    assert_eq!(
        connection("GET /v1/sales/7/stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"),
        close
    );
    assert_eq!(connection("GET /v1/sales/7/stats HTTP/1.0\r\n"), close);
    let kept = connection("GET /v1/sales/7/stats HTTP/1.0\r\nConnection: keep-alive\r\n");
    assert_eq!(kept, Some("keep-alive".to_owned()));

    let (get, _) = encoded(&site(&[]), &REPLY, &done);
    let (head, _) = encoded(&site(&[]), &Reply { is_head: true, ..REPLY }, &done);
    assert_eq!(head, get, "HEAD has the head of GET");
}

#[test]
fn origins_are_told_what_they_may_read() {
    let site = site(&["https://a.example", "https://b.example"]);
    let done = short(Outcome::Fenced);
    let reply = |origin: &str| {
        let bytes = format!("OPTIONS * HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\n\r\n");
        let mut decoder = Decoder::default();
        let Ok(Decoded::Complete { request, .. }) = decoder.decode(bytes.as_bytes()) else {
            panic!("a request")
        };
        Reply::to(&request, &site.cors)
    };
    let (head, _) = encoded(&site, &reply("https://b.example"), &done);
    assert!(head.contains("\r\nAccess-Control-Allow-Origin: https://b.example\r\n"), "{head}");
    assert!(head.contains("\r\nVary: Origin\r\n"), "{head}");
    let (head, _) = encoded(&site, &reply("https://c.example"), &done);
    assert!(!head.contains("Access-Control") && head.contains("\r\nVary: Origin\r\n"), "{head}");

    let options = |origin: &str| {
        let mut out = Vec::new();
        encode_options(&mut out, &site, &reply(origin), Methods::Write);
        String::from_utf8(out).expect("ASCII")
    };
    let allowed = options("https://a.example");
    for line in [
        "HTTP/1.1 204 No Content",
        "Allow: POST, OPTIONS",
        "Access-Control-Allow-Methods: POST, OPTIONS",
        "Access-Control-Allow-Headers: authorization, content-type, idempotency-key",
        "Access-Control-Max-Age: 7200",
    ] {
        assert!(allowed.lines().any(|got| got == line), "{line} is missing: {allowed}");
    }
    assert!(allowed.ends_with("\r\n\r\n") && !allowed.contains("Content-Length"), "{allowed}");
    assert!(!options("https://c.example").contains("Access-Control"));
}

#[test]
fn a_document_is_sent_once() {
    let document = Document {
        content_type: "text/html; charset=utf-8",
        cache_control: "public, max-age=60",
        etag: "\"v1\"",
        body: b"{}",
    };
    let sent = |tags: &[&'static str]| {
        let mut out = Vec::new();
        let tags = tags.iter().map(|tag| tag.as_bytes());
        encode_document(&mut out, &site(&[]), &REPLY, &document, tags);
        String::from_utf8(out).expect("UTF-8")
    };
    for tags in [[].as_slice(), &["\"v2\""], &["v1"], &["\"v1\"x"]] {
        let (head, _) = parts(sent(tags).as_bytes(), false);
        assert!(
            head.contains("\r\nETag: \"v1\"\r\nCache-Control: public, max-age=60\r\n"),
            "{head}"
        );
        assert!(head.contains("\r\nContent-Type: text/html; charset=utf-8\r\n"), "{head}");
    }
    for tags in [["\"v1\""].as_slice(), &["\"v0\", W/\"v1\""], &["*"], &["\"a\"", "\"v1\""]] {
        let text = sent(tags);
        assert!(text.starts_with("HTTP/1.1 304 Not Modified\r\n"), "{text}");
        assert!(text.contains("\r\nETag: \"v1\"\r\n") && text.ends_with("\r\n\r\n"), "{text}");
        assert!(!text.contains("Content-"), "{text}");
    }
}

/// The longest of each, so that what is reserved for answers is enough.
#[test]
fn the_longest_answers_fit_their_bounds() {
    let origin = format!("https://{}", "x".repeat(ORIGIN_BYTES_MAX - 8));
    let site = site(&[&origin]);
    let sharing = site.cors.sharing(Some(origin.as_bytes()));
    let reply = Reply { sale: SaleId(u64::MAX), sharing, keep_alive: false, ..REPLY };
    let most = Quantity(u32::MAX);
    let item = ItemCounts {
        item: ItemId(u32::MAX),
        price: Price(u64::MAX),
        account_limit: Some(most),
        capacity: most,
        available: most,
        held: most,
        sold: most,
    };
    let order = OrderView {
        order: OrderNumber(u32::MAX),
        account: AccountId(u128::MAX),
        state: OrderState::Confirmed,
        expires_at: Some(TimeMs(u64::MAX)),
        lines: vec![line(u32::MAX, u32::MAX); 16],
    };
    for (outcome, bound) in [
        (Outcome::Availability(vec![item; ITEMS_MAX]), AVAILABILITY_BYTES_MAX),
        (Outcome::Order(order), SHORT_ANSWER_BYTES_MAX),
        (Outcome::Stats(stats(u64::MAX)), SHORT_ANSWER_BYTES_MAX),
    ] {
        let mut out = Vec::new();
        encode_answer(&mut out, &site, &reply, &Answer { outcome, replayed: true });
        assert!(out.len() <= bound, "{} bytes, {bound} at most", out.len());
        parts(&out, false);
    }
    let refusal =
        HttpRefusal::Field { field: "\u{1}".repeat(64).into(), detail: "\u{1}".repeat(200).into() };
    let mut out = Vec::new();
    encode_http_refusal(&mut out, &site, &reply, &refusal);
    assert!(out.len() <= SHORT_ANSWER_BYTES_MAX, "{} bytes", out.len());
}

fn stats(count: u64) -> SaleStats {
    let small = count as u32;
    SaleStats {
        state: SaleState::Paused,
        terms: SaleTerms {
            opens_at: Some(TimeMs(count)),
            closes_at: Some(TimeMs(count)),
            hold_ttl: DurationMs(small),
            account_limit: Some(Quantity(small)),
        },
        items: small,
        orders: small,
        orders_held: small,
        orders_confirmed: small,
        orders_released: small,
        orders_expired: small,
        orders_cancelled: small,
        accounts: small,
        capacity: count,
        available: count,
        held: count,
        sold: count,
    }
}

#[test]
fn totals_are_named_as_in_the_model() {
    let (_, body) = encoded(&site(&[]), &REPLY, &short(Outcome::Stats(stats(3))));
    let names = [
        "items",
        "orders",
        "orders_held",
        "orders_confirmed",
        "orders_released",
        "orders_expired",
        "orders_cancelled",
        "accounts",
        "capacity",
        "available",
        "held",
        "sold",
        "opens_at_ms",
        "closes_at_ms",
        "hold_ttl_ms",
        "account_limit",
    ];
    for name in names {
        assert_eq!(body[name], 3, "{name}");
    }
    assert_eq!((&body["sale"], &body["state"]), (&json!(7), &json!("paused")));
    assert_eq!(body.as_object().expect("an object").len(), names.len() + 2);
    let bare = SaleStats { terms: SaleTerms::default(), ..stats(3) };
    let (_, body) = encoded(&site(&[]), &REPLY, &short(Outcome::Stats(bare)));
    assert!(body.get("opens_at_ms").is_none() && body.get("account_limit").is_none());
}

fn item() -> impl Strategy<Value = ItemCounts> {
    (any::<(u32, u64)>(), any::<Option<u32>>(), any::<[u32; 4]>()).prop_map(
        |((item, price), limit, [capacity, available, held, sold])| ItemCounts {
            item: ItemId(item),
            price: Price(price),
            account_limit: limit.map(Quantity),
            capacity: Quantity(capacity),
            available: Quantity(available),
            held: Quantity(held),
            sold: Quantity(sold),
        },
    )
}

proptest! {
    #[test]
    fn availability_comes_back(sale: u64, items in vec(item(), 0..40)) {
        let reply = Reply { sale: SaleId(sale), ..REPLY };
        let outcome = Outcome::Availability(items.clone());
        let (_, body) = encoded(&site(&[]), &reply, &short(outcome));
        let expected: Vec<Value> = items.iter().map(|item| {
            let mut expected = json!({
                "item": item.item.0, "price": item.price.0, "capacity": item.capacity.0,
                "available": item.available.0, "held": item.held.0, "sold": item.sold.0,
            });
            if let Some(limit) = item.account_limit {
                expected["account_limit"] = limit.0.into();
            }
            expected
        }).collect();
        prop_assert_eq!(body, json!({"sale": sale, "items": expected}));
    }

    #[test]
    fn an_order_comes_back(
        account: u128,
        order: u32,
        expires_at: Option<u64>,
        lines in vec(any::<(u32, u32)>(), 0..16),
        state in proptest::sample::select(OrderState::ALL),
    ) {
        let view = OrderView {
            order: OrderNumber(order),
            account: AccountId(account),
            state,
            expires_at: expires_at.map(TimeMs),
            lines: lines.iter().map(|&(item, quantity)| line(item, quantity)).collect(),
        };
        let (_, body) = encoded(&site(&[]), &REPLY, &short(Outcome::Order(view)));
        let text = body["account"].as_str().expect("a text");
        prop_assert_eq!(request_id_from_text(text.as_bytes()), Some(RequestId(account)));
        let lines: Vec<Value> = lines.iter()
            .map(|(item, quantity)| json!({"item": item, "quantity": quantity})).collect();
        let mut expected = json!({
            "sale": 7, "order": order, "account": text, "state": state.name(), "lines": lines,
        });
        if let Some(time) = expires_at {
            expected["expires_at_ms"] = time.into();
        }
        prop_assert_eq!(body, expected);
    }

    #[test]
    fn arbitrary_bodies_never_panic(body in "[\\[\\]{}:,\"a-z0-9 .\\\\-]{0,80}", target: u8) {
        let targets = ["", "/1/confirm", "/1/cancel", "/1/release", "/1/extend"];
        let target = targets[usize::from(target) % targets.len()];
        let headers = "Content-Type: application/json\r\nIdempotency-Key: r\r\n";
        if let Err(HttpRefusal::Field { field, .. }) = post_with(headers, target, &body, KEY) {
            prop_assert!(!field.is_empty());
        }
    }
}
