//! What HTTP requests mean, for whom, and which part of them is wrong.
//!
//! A property that fails prints its smallest case and keeps the seed in
//! `tests/http_requests.proptest-regressions`.

use boxoffice::model::{
    Command, DurationMs, Intent, ItemId, Line, Lines, OrderNumber, PaymentRef, Price, Quantity,
    Query, Refusal, SaleId, Scopes, Wanted, WantedLine, account_from_text, request_id_from_text,
};
use boxoffice::protocol::http::{
    Ask, Caller, Cors, Decoded, Decoder, HttpFault, HttpRefusal, Reply, route, to_ask,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const KEY: Caller = Caller::Key(Scopes { buy: true, admin: false });

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
            json!({
                "account": "alice", "action": "buy", "lines": body_lines, "payment_ref": "pay-é",
            }),
            Command::Buy { intent, lines, payment: payment.clone() },
        ),
        (
            "/12/confirm",
            json!({
                "account": "alice", "payment_ref": "pay-é",
                "lines": [{"item": 1, "quantity": 2}],
            }),
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
        // The values of the fields, in their order, are no object.
        ("body", json!(["a", "buy", [{"item": 1, "quantity": 1}]])),
        ("lines[0]", hold(json!({"lines": [[1, 1]]}))),
        ("action", hold(json!({"action": {"buy": null}}))),
        ("action", hold(json!({"action": null}))),
    ] {
        assert_eq!(field_of(post("", &body, KEY)), field, "{body}");
    }
    let huge = hold(json!({"lines": [{"item": 1, "quantity": 4_294_967_296_u64}]}));
    let Err(HttpRefusal::Field { detail, .. }) = post("", &huge, KEY) else { panic!("{huge}") };
    assert!(detail.ends_with("expected a whole number from 0 to 4294967295"), "{detail}");
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
}

proptest! {
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
