//! HTTP over real sockets: every operation, what it refuses, and the rules of a connection.
//!
//! Sales are made over the binary protocol, which both sides of each test also judge by: what
//! HTTP sold, the binary side sees.

#[path = "support/http_peer.rs"]
mod http_peer;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::num::NonZeroU16;

use boxoffice::cli::exit::ExitCode;
use boxoffice::model::{SaleId, SaleTerms, ShardIndex};
use http_peer::{HttpPeer, Response, get, post};
use peer::{Peer, buy, hold_ttl, intent, wall_ms};
use serde_json::{Value, json};
use server::{Server, assert_refused};

const SALE: SaleId = SaleId(7);

/// A server with one open sale of two items.
fn start() -> (Server, HttpPeer, Peer) {
    let server = Server::start();
    let mut admin = Peer::connect(server.address());
    admin.open_sale(SALE, hold_ttl(600_000), &[(1, 100), (2, 100)]);
    let http = HttpPeer::connect(server.http_address());
    (server, http, admin)
}

fn order(action: &str, account: &str, lines: &[(u32, u32)]) -> Value {
    let line = |&(item, quantity): &(u32, u32)| json!({"item": item, "quantity": quantity});
    let lines: Vec<_> = lines.iter().map(line).collect();
    json!({"action": action, "account": account, "lines": lines})
}

#[track_caller]
fn is(response: &Response, status: u16, body: &Value) {
    assert_eq!((response.status, &response.json()), (status, body), "{response:?}");
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert!(response.header("date").is_some_and(|date| date.ends_with(" GMT")), "{response:?}");
}

/// The status and the name of a refusal.
#[track_caller]
fn refused(response: &Response) -> (u16, String) {
    (response.status, response.code())
}

#[test]
fn an_order_lives_through_all_its_operations() {
    let (_server, mut http, mut admin) = start();
    let mut asked = order("hold", "ann", &[(1, 3), (2, 1)]);
    asked["ttl_ms"] = json!(300_000);
    let held = http.post("/v1/sales/7/orders", "one", &asked);
    let expires_at = held.json()["expires_at_ms"].as_u64().expect("a hold expires");
    assert!((1..=300_000 + 60_000).contains(&(expires_at.saturating_sub(wall_ms() - 60_000))));
    let body = json!({"sale": 7, "order": 1, "state": "held", "expires_at_ms": expires_at});
    is(&held, 201, &body);
    assert_eq!(held.header("idempotency-replayed"), None);

    let view = http.get("/v1/sales/7/orders/1");
    let mut expected = body.clone();
    expected["account"] = view.json()["account"].clone();
    expected["lines"] = json!([{"item": 1, "quantity": 3}, {"item": 2, "quantity": 1}]);
    is(&view, 200, &expected);
    let account = expected["account"].as_str().expect("a text");
    assert_eq!((account.len(), account.matches('-').count()), (36, 4), "a UUID: {account}");

    let extended = http.post("/v1/sales/7/orders/1/extend", "two", &json!({"account": "ann"}));
    assert_eq!((extended.status, &extended.json()["state"]), (200, &json!("held")));
    let confirm = json!({
        "account": "ann", "payment_ref": "pay-1", "lines": [{"item": 1, "quantity": 2}]
    });
    let confirmed = http.post("/v1/sales/7/orders/1/confirm", "three", &confirm);
    is(&confirmed, 200, &json!({"sale": 7, "order": 1, "state": "confirmed"}));
    let counts = http.get("/v1/sales/7/availability").json();
    assert_eq!(counts["sale"], 7);
    assert_eq!(
        counts["items"][0],
        json!({"item": 1, "price": 1_000, "capacity": 100, "available": 98, "held": 0, "sold": 2})
    );
    // An account by its UUID is the same account as by its name.
    let some = json!({"account": account, "lines": [{"item": 1, "quantity": 1}]});
    assert_eq!(http.post("/v1/sales/7/orders/1/cancel", "four", &some).status, 200);
    let rest = http.post("/v1/sales/7/orders/1/cancel", "five", &json!({"account": "ann"}));
    is(&rest, 200, &json!({"sale": 7, "order": 1, "state": "cancelled"}));

    let bought = http.post("/v1/sales/7/orders", "six", &order("buy", "ben", &[(2, 5)]));
    is(&bought, 201, &json!({"sale": 7, "order": 2, "state": "confirmed"}));
    http.post("/v1/sales/7/orders", "seven", &order("hold", "ben", &[(2, 5)]));
    let released = http.post("/v1/sales/7/orders/3/release", "eight", &json!({"account": "ben"}));
    is(&released, 200, &json!({"sale": 7, "order": 3, "state": "released"}));

    let stats = http.get("/v1/sales/7/stats").json();
    assert_eq!(
        (&stats["sold"], &stats["orders"], &stats["held"]),
        (&json!(5), &json!(3), &json!(0))
    );
    let seen = admin.stats(SALE);
    assert_eq!((seen.sold, seen.orders, seen.orders_cancelled), (5, 3, 1));
}

#[test]
fn a_request_id_answers_once_and_again() {
    let (_server, mut http, mut admin) = start();
    let asked = order("buy", "ann", &[(1, 1)]);
    let first = http.post("/v1/sales/7/orders", "key", &asked);
    let again = http.post("/v1/sales/7/orders", "key", &asked);
    assert_eq!((again.status, again.json()), (201, first.json()));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(admin.stats(SALE).sold, 1);
    let other = http.post("/v1/sales/7/orders", "key", &order("buy", "ann", &[(1, 2)]));
    assert_eq!(refused(&other), (422, "KEY_CONFLICT".to_owned()));

    // In quotes, as a structured field has it, the key is the same one.
    let quoted = http.post("/v1/sales/7/orders", "\"key\"", &asked);
    assert_eq!(
        (quoted.json(), quoted.header("idempotency-replayed")),
        (first.json(), Some("true"))
    );
    for id in ["key", "%22key%22"] {
        let found = http.get(&format!("/v1/sales/7/requests/{id}?account=ann"));
        assert_eq!((found.status, found.json()), (200, first.json()), "{id}");
    }
    let broken = http.post("/v1/sales/7/orders", "\"key", &asked);
    assert_eq!(refused(&broken), (400, "BAD_REQUEST".to_owned()));
    let unknown = http.get("/v1/sales/7/requests/never?account=ann");
    assert_eq!(refused(&unknown), (404, "NOT_FOUND".to_owned()));
    let fenced = http.get("/v1/sales/7/requests/never?account=ann&fence=true");
    assert_eq!(fenced.status, 200, "{fenced:?}");
    let late = http.post("/v1/sales/7/orders", "never", &order("buy", "ann", &[(1, 1)]));
    assert_eq!(refused(&late), (422, "KEY_CONFLICT".to_owned()));
}

#[test]
fn refusals_have_their_status_and_their_facts() {
    let (_server, mut http, mut admin) = start();
    let opens_at = wall_ms() + 3_600_000;
    let terms =
        SaleTerms { opens_at: Some(boxoffice::model::TimeMs(opens_at)), ..SaleTerms::default() };
    admin.gets(boxoffice::model::Command::DefineSale { sale: SaleId(8), terms });
    let ask = |http: &mut HttpPeer, sale: u64, asked: &Value| {
        http.post(&format!("/v1/sales/{sale}/orders"), "key", asked)
    };
    let early = ask(&mut http, 8, &order("buy", "ann", &[(1, 1)]));
    assert_eq!(refused(&early), (403, "NOT_OPEN".to_owned()));
    assert_eq!(early.json()["opens_at_ms"], opens_at);
    assert_eq!(early.json()["type"], "urn:boxoffice:refusal:NOT_OPEN");
    assert!(early.header("retry-after").is_some_and(|after| after.parse::<u64>().is_ok()));

    ask(&mut http, 7, &order("hold", "ann", &[(1, 100)]));
    let rows: &[(u64, Value, u16, &str)] = &[
        (9, order("buy", "ben", &[(1, 1)]), 404, "NOT_FOUND"),
        (7, order("buy", "ben", &[(1, 1)]), 409, "NONE_NOW"),
        (7, order("buy", "ben", &[(2, 0)]), 400, "BAD_REQUEST"),
        (7, order("buy", "ben", &[(3, 1)]), 400, "BAD_REQUEST"),
        (7, order("steal", "ben", &[(2, 1)]), 400, "BAD_REQUEST"),
        (7, json!({"action": "buy", "account": "ben", "lines": []}), 400, "BAD_REQUEST"),
        (7, json!({"action": "buy", "lines": [{"item": 2, "quantity": 1}]}), 400, "BAD_REQUEST"),
    ];
    for (sale, asked, status, code) in rows {
        let response = ask(&mut http, *sale, asked);
        assert_eq!(refused(&response), (*status, (*code).to_owned()), "{asked}");
    }
    let mut priced = order("buy", "ben", &[(2, 1)]);
    priced["lines"][0]["price"] = json!(999);
    assert_eq!(refused(&ask(&mut http, 7, &priced)), (422, "PRICE_MISMATCH".to_owned()));
    let body = order("buy", "ben", &[(2, 1)]).to_string();
    let keyless = http.ask(&format!(
        "POST /v1/sales/7/orders HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(refused(&keyless), (400, "BAD_REQUEST".to_owned()));
    let wrong = http.post("/v1/sales/7/orders/1/cancel", "x", &json!({"account": "ann"}));
    assert_eq!(refused(&wrong), (409, "WRONG_STATE".to_owned()));
    assert_eq!(wrong.json()["state"], "held");
    let foreign = http.post("/v1/sales/7/orders/1/release", "x", &json!({"account": "ben"}));
    assert_eq!(refused(&foreign), (403, "FORBIDDEN".to_owned()));
    assert_eq!(admin.stats(SALE).sold, 0);
}

#[test]
fn a_connection_serves_many_requests_and_ends_when_asked() {
    let (server, mut http, _) = start();
    for _ in 0..10 {
        assert!(!http.get("/v1/sales/7/stats").closes());
    }
    let last = "GET /v1/sales/7/stats HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let response = http.ask(&format!("{last}{}", get("/v1/sales/7/stats")));
    assert!(response.status == 200 && response.closes());
    http.assert_end();

    let connect = || HttpPeer::connect(server.http_address());
    let mut old = connect();
    let response = old.ask("GET /v1/sales/7/stats HTTP/1.0\r\n\r\n");
    assert!(response.status == 200 && response.header("connection") != Some("keep-alive"));
    old.assert_end();
    let mut old = connect();
    for _ in 0..2 {
        let keep = "GET /v1/sales/7/stats HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        assert_eq!(old.ask(keep).header("connection"), Some("keep-alive"));
    }
    // What was asked before the peer ended its side is answered, and nothing behind it.
    let mut ending = connect();
    ending.write(format!("{}{}GET /v1", get("/v1/sales/7/stats"), get("/v1/sales/7/availability")));
    ending.finish();
    assert!(ending.response().json()["terms"].is_null());
    assert!(ending.response().json()["items"].is_array());
    ending.assert_end();
}

/// A sale whose home is this shard.
fn sale_on(shard: usize, shards: u16) -> SaleId {
    let shards = NonZeroU16::new(shards).expect("a server has shards");
    let home = ShardIndex(shard as u16);
    let mut sales = (1..1_000).map(SaleId);
    sales.find(|sale| sale.shard(shards) == home).expect("each shard has sales")
}

/// Commits on two shards, refusals, reads and faults of one connection, in one write.
#[test]
fn answers_come_in_the_order_of_the_requests_across_shards() {
    const ROUNDS: usize = 40;
    let server = Server::start_with(|serve| serve.with_shards(2));
    let sales = [sale_on(0, 2), sale_on(1, 2)];
    let mut admin = Peer::connect(server.address());
    for sale in sales {
        admin.open_sale(sale, SaleTerms::default(), &[(1, 1_000)]);
    }
    // Whichever shard accepts them, one of the sales is away.
    for connection in 0..6 {
        let mut http = HttpPeer::connect(server.http_address());
        let mut requests = String::new();
        for round in 0..ROUNDS {
            for sale in sales {
                let key = format!("{connection}-{round}");
                let asked = order("buy", "ann", &[(1, 1)]);
                requests += &post(&format!("/v1/sales/{sale}/orders"), &key, &asked);
                requests += &get(&format!("/v1/sales/{sale}/stats"));
            }
            requests += &get("/v1/nowhere");
            requests += &get("/v1/sales/999/stats");
        }
        http.write(&requests);
        for round in 0..ROUNDS {
            let number = connection * ROUNDS + round + 1;
            for sale in sales {
                let bought = json!({"sale": sale.0, "order": number, "state": "confirmed"});
                is(&http.response(), 201, &bought);
                assert_eq!(http.response().json()["sold"], number, "it reads its own write");
            }
            assert_eq!(refused(&http.response()).0, 404);
            assert_eq!(refused(&http.response()), (404, "NOT_FOUND".to_owned()));
        }
    }
    for sale in sales {
        assert_eq!(admin.stats(sale).sold, 6 * ROUNDS as u64);
    }
}

#[test]
fn bodies_come_in_chunks_or_after_a_continue() {
    let (_server, mut http, mut admin) = start();
    let body = order("buy", "ann", &[(1, 2)]).to_string();
    let head = "POST /v1/sales/7/orders HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let (front, back) = body.split_at(10);
    let chunks = format!("a;x=y\r\n{front}\r\n{:x}\r\n{back}\r\n0\r\nT: u\r\n\r\n", back.len());
    let chunked = format!("{head}Idempotency-Key: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    // One byte at a time, and then two at once.
    for byte in chunked.bytes() {
        http.write([byte]);
    }
    assert_eq!(http.response().status, 201);
    http.write(chunked.repeat(2));
    for _ in 0..2 {
        assert_eq!(http.response().header("idempotency-replayed"), Some("true"));
    }
    let length = body.len();
    let expecting = format!(
        "{head}Idempotency-Key: b\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    );
    http.write(&expecting);
    assert_eq!(http.response().status, 100);
    http.write(&body);
    assert_eq!(http.response().status, 201);
    // Behind a request that waits for the disk, the interim response waits for its answer.
    http.write(post("/v1/sales/7/orders", "c", &order("buy", "ann", &[(2, 1)])) + &expecting);
    assert_eq!(http.response().status, 201);
    assert_eq!(http.response().status, 100);
    http.write(&body);
    assert_eq!(http.response().header("idempotency-replayed"), Some("true"));
    // Who does not wait for it needs none.
    http.write(expecting.replace("Key: b", "Key: d") + &body);
    assert_eq!(http.response().status, 201);
    assert_eq!(admin.stats(SALE).sold, 7);
}

#[test]
fn head_says_what_get_says_without_the_body() {
    let (_server, mut http, _) = start();
    for path in ["/v1/sales/7/stats", "/v1/sales/7/availability", "/v1/sales/9/stats", "/nowhere"] {
        let full = http.get(path);
        http.write(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let head = http.head();
        assert_eq!(head.status, full.status, "{path}");
        assert_eq!(head.header("content-length"), Some(&*full.body.len().to_string()), "{path}");
        assert_eq!(head.header("content-type"), full.header("content-type"), "{path}");
    }
    assert_eq!(http.get("/v1/sales/7/stats").status, 200, "nothing was left behind");
}

#[test]
fn pages_of_listed_origins_may_read_answers() {
    let origin = "https://shop.example";
    let server = Server::start_with(|serve| serve.with("--cors-origin", origin));
    let mut http = HttpPeer::connect(server.http_address());
    let ask = |http: &mut HttpPeer, method: &str, origin: &str| {
        http.ask(&format!(
            "{method} /v1/sales/7/orders/1 HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\n\
             Access-Control-Request-Method: GET\r\n\r\n"
        ))
    };
    let preflight = ask(&mut http, "OPTIONS", origin);
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some(origin));
    let answer = ask(&mut http, "GET", origin);
    assert_eq!(refused(&answer), (404, "NOT_FOUND".to_owned()));
    assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
    let stranger = ask(&mut http, "GET", "https://other.example");
    assert_eq!(stranger.header("access-control-allow-origin"), None);
    let document = "OPTIONS /openapi.json HTTP/1.1\r\nHost: a\r\nOrigin: https://shop.example\r\n\
                    Access-Control-Request-Method: GET\r\n\r\n";
    let preflight = http.ask(document);
    assert_eq!((preflight.status, preflight.body.len()), (204, 0));
    assert_eq!(preflight.header("access-control-allow-methods"), Some("GET, HEAD, OPTIONS"));
    let bad = server::Serve::on(server.data_dir()).with("--cors-origin", "shop");
    assert_refused(&bad.refused(), ExitCode::Usage, &["--cors-origin", "shop"]);
}

/// What two readers might understand differently is refused, and the connection ends in order:
/// whatever stands behind the bad request is never taken for one.
#[test]
fn ambiguous_requests_are_refused_and_end_the_connection() {
    let (server, _, mut admin) = start();
    let smuggled = post("/v1/sales/7/orders", "evil", &order("buy", "eve", &[(1, 1)]));
    let head = "POST /v1/sales/7/orders HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let rows = [
        format!("{head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{head}Content-Length: 0\r\nContent-Length: 4\r\n\r\n"),
        format!("{head}Content-Length: +0\r\n\r\n"),
        format!("{head}Transfer-Encoding: chunked, identity\r\n\r\n"),
        format!("{head}Transfer-Encoding: xchunked\r\n\r\n"),
        format!("{head}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n"),
        format!("{head}X: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
        format!("{head}X: a\nContent-Length: 0\r\n\r\n"),
        "GET /v1/sales/7/stats HTTP/1.1\r\n\r\n".to_owned(),
        "GET /v1/sales/7/stats HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
        "POST /v1/sales/7/orders HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            .to_owned(),
        "\u{1}\u{2}\u{3}\r\n\r\n".to_owned(),
    ];
    for row in rows {
        let mut http = HttpPeer::connect(server.http_address());
        http.write(get("/v1/sales/7/stats") + &row + &smuggled);
        assert_eq!(http.response().status, 200, "what stands before it is answered");
        let response = http.response();
        assert!(response.status == 400 && response.closes(), "{row:?}: {response:?}");
        assert!(response.json()["type"].as_str().is_some_and(|t| t.contains(":fault:")), "{row:?}");
        http.assert_end();
    }
    assert_eq!(admin.stats(SALE).sold, 0);
}

#[test]
fn what_is_too_large_or_unknown_is_told_by_its_status() {
    let (server, _, _) = start();
    let big = "x".repeat(100_000);
    let rows = [
        (414, format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", &big[..4_000])),
        (431, format!("GET / HTTP/1.1\r\nHost: a\r\nX: {big}\r\n\r\n")),
        (
            413,
            format!(
                "POST /v1/sales/7/orders HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n{big}"
            ),
        ),
        (505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned()),
        (
            417,
            "POST /v1/sales/7/orders HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 9\r\n\r\n"
                .to_owned(),
        ),
        (501, "BREW / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        (405, "DELETE /v1/sales/7/stats HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        (400, get("/v1/sales/x/stats")),
        (404, get("/favicon.ico")),
    ];
    for (status, request) in rows {
        let mut http = HttpPeer::connect(server.http_address());
        let response = http.ask(&request);
        assert_eq!(response.status, status, "{request:.60}: {response:?}");
        if response.closes() {
            http.assert_end();
        } else {
            assert_eq!(http.get("/v1/sales/7/stats").status, 200, "the connection goes on");
        }
    }
}

#[test]
fn without_keys_others_cannot_reach_it() {
    let home = server::temporary_dir();
    let serve = server::Serve::on(&home.path().join("data")).with("--http", "0.0.0.0:0");
    assert_refused(&serve.refused(), ExitCode::Configuration, &["0.0.0.0:0", "--keys"]);
    let server = Server::start();
    let taken = server.http_address().to_string();
    let serve = server::Serve::on(&home.path().join("data")).with("--http", &taken);
    assert_refused(&serve.refused(), ExitCode::CannotListen, &[&taken, "--http"]);
}

#[test]
fn a_purchase_over_http_survives_a_crash() {
    let (mut server, mut http, mut admin) = start();
    let asked = order("buy", "ann", &[(1, 2)]);
    let first = http.post("/v1/sales/7/orders", "key", &asked);
    assert_eq!(first.status, 201);
    admin.gets(buy(intent(SALE, 5, 1), &[(2, 3)]));
    server.kill();
    server.restart();
    let mut http = HttpPeer::connect(server.http_address());
    let again = http.post("/v1/sales/7/orders", "key", &asked);
    assert_eq!((again.status, again.json()), (201, first.json()));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(http.get("/v1/sales/7/stats").json()["sold"], 5);
}
