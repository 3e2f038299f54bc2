//! What HTTP answers say, and that what they say comes back.
//!
//! A property that fails prints its smallest case and keeps the seed in
//! `tests/http_answers.proptest-regressions`.

use boxoffice::model::sale::ITEMS_MAX;
use boxoffice::model::{
    AccountId, Answer, DurationMs, ItemCounts, ItemId, Line, OrderNumber, OrderState, OrderView,
    Outcome, Price, Quantity, RequestId, SaleId, SaleState, SaleStats, SaleTerms, TimeMs,
    request_id_from_text,
};
use boxoffice::protocol::codes::WireCode;
use boxoffice::protocol::http::{
    AVAILABILITY_BYTES_MAX, Cors, DateText, Decoded, Decoder, Document, HttpRefusal, Methods,
    ORIGIN_BYTES_MAX, Reply, SHORT_ANSWER_BYTES_MAX, Site, encode_answer, encode_document,
    encode_http_refusal, encode_options,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

fn site(origins: &[&str]) -> Site {
    let cors = Cors::new(origins).expect("origins");
    Site { date: DateText::new(TimeMs(784_111_777_000)), cors }
}

const fn line(item: u32, quantity: u32) -> Line {
    Line { item: ItemId(item), quantity: Quantity(quantity) }
}

/// The reply to the request whose head this is, but for its empty line.
fn reply_to(head: &str, cors: &Cors) -> Reply {
    let bytes = format!("{head}\r\n\r\n");
    let mut decoder = Decoder::default();
    let Ok(Decoded::Complete { request, .. }) = decoder.decode(bytes.as_bytes()) else {
        panic!("no request: {head}")
    };
    Reply::to(&request, cors)
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
fn an_order_is_shown_to_its_account() {
    let order = short(Outcome::Order(OrderView {
        order: OrderNumber(1),
        account: AccountId(5),
        state: OrderState::Held,
        expires_at: None,
        lines: vec![line(1, 1)],
    }));
    for (viewer, status) in [(None, 200), (Some(5), 200), (Some(6), 403)] {
        let reply = Reply { viewer: viewer.map(AccountId), ..REPLY };
        let (head, body) = encoded(&site(&[]), &reply, &order);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{viewer:?}: {head}");
        assert_eq!(body.get("lines").is_some(), status == 200);
    }
}

#[test]
fn the_head_of_an_answer_fits_its_request() {
    let done = short(Outcome::Fenced);
    let connection = |request: &str| {
        let reply = reply_to(request, &Cors::default());
        let (head, _) = encoded(&site(&[]), &reply, &done);
        let line = head.lines().find_map(|line| line.strip_prefix("Connection: "));
        line.map(str::to_owned)
    };
    assert_eq!(connection("GET / HTTP/1.1\r\nHost: x"), None);
    let close = Some("close".to_owned());
    assert_eq!(connection("GET / HTTP/1.1\r\nHost: x\r\nConnection: close"), close);
    assert_eq!(connection("GET / HTTP/1.0"), close);
    let kept = connection("GET / HTTP/1.0\r\nConnection: keep-alive");
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
        reply_to(&format!("OPTIONS * HTTP/1.1\r\nHost: x\r\nOrigin: {origin}"), &site.cors)
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
        assert!(head.contains("\r\nContent-Security-Policy: default-src 'none'; "), "{head}");
    }
    for tags in [["\"v1\""].as_slice(), &["\"v0\", W/\"v1\""], &["*"], &["\"a\"", "\"v1\""]] {
        let text = sent(tags);
        assert!(text.starts_with("HTTP/1.1 304 Not Modified\r\n"), "{text}");
        assert!(text.contains("\r\nETag: \"v1\"\r\n") && text.ends_with("\r\n\r\n"), "{text}");
        assert!(
            !text.contains("\r\nContent-Type") && !text.contains("\r\nContent-Length"),
            "{text}"
        );
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
}
