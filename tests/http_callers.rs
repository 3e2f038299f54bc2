//! Who may ask over HTTP: API keys, buyers' tokens, and proxies that name the client.

#[path = "support/http_peer.rs"]
mod http_peer;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use boxoffice::admission::token::{MintedClaims, TokenSigner};
use boxoffice::cli::exit::ExitCode;
use boxoffice::model::{Command, ItemId, ItemTerms, Price, Quantity, Refusal, SaleId, SaleTerms};
use http_peer::{HttpPeer, Response, get, post};
use peer::{Peer, buy as purchase_of, define_item, intent, wall_ms};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use server::{Server, assert_refused, temporary_dir};
use sha2::{Digest, Sha256};

const SALE: SaleId = SaleId(7);

const SECRET: &str = "hs256 text a secret of the identity system, 32 bytes or more\n";

fn purchase(account: Option<&str>) -> Value {
    let mut asked = json!({"action": "buy", "lines": [{"item": 1, "quantity": 1}]});
    if let Some(account) = account {
        asked["account"] = json!(account);
    }
    asked
}

fn buy(account: Option<&str>, key: &str) -> String {
    post("/v1/sales/7/orders", key, &purchase(account))
}

/// The request with this credential.
fn with(credential: &str, request: &str) -> String {
    request.replacen("Host:", &format!("Authorization: Bearer {credential}\r\nHost:"), 1)
}

/// The line of a key file.
fn key_line(name: &str, scopes: &str, key: &str) -> String {
    let mut line = format!("{name} {scopes} ");
    for byte in Sha256::digest(key) {
        write!(line, "{byte:02x}").expect("a string takes all that is written");
    }
    line + "\n"
}

fn token(account: &str, secret: &str, expires_in: i64) -> String {
    let now = wall_ms() / 1_000;
    let claims = MintedClaims {
        sub: account,
        iat: now - 3_600,
        exp: now.saturating_add_signed(expires_in),
        iss: None,
        aud: None,
    };
    TokenSigner::parse(secret.as_bytes()).expect("a secret").mint(None, &claims)
}

#[track_caller]
fn refused(response: &Response, status: u16, code: &str) {
    assert_eq!((response.status, &*response.code()), (status, code), "{response:?}");
}

/// That nobody was recognised: the challenge names an error where a credential came that is wrong,
/// and none where none came.
#[track_caller]
fn unknown(response: &Response, is_bad: bool) {
    refused(response, 401, "BAD_TOKEN");
    let challenge = response.header("www-authenticate").expect("it says how");
    let (scheme, error) = challenge.split_at("Bearer realm=\"boxoffice\"".len());
    assert_eq!(scheme, "Bearer realm=\"boxoffice\"");
    let expected = if is_bad { ", error=\"invalid_token\", error_description=\"" } else { "" };
    assert!(error.starts_with(expected) && error.is_empty() != is_bad, "{challenge}");
    assert!(response.json()["detail"].is_string(), "people are told in any case");
}

#[test]
fn with_keys_each_request_names_its_own() {
    let home = temporary_dir();
    let keys = home.path().join("keys");
    let text = key_line("shop", "buy", "k1") + &key_line("office", "admin", "k2");
    fs::write(&keys, text).expect("the file can be written");
    let server = Server::start_with(|serve| serve.with("--keys", &keys.to_string_lossy()));
    let mut admin = Peer::silent(server.address());
    admin.hello(b"k2").expect("the key is known");
    admin.open_sale(SALE, SaleTerms::default(), &[(1, 100)]);
    let mut http = HttpPeer::connect(server.http_address());
    let stats = get("/v1/sales/7/stats");
    for _ in 0..2 {
        unknown(&http.ask(&stats), false);
        unknown(&http.ask(&with("k3", &stats)), true);
        for key in ["k1", "k2", "k2"] {
            assert_eq!(http.ask(&with(key, &stats)).status, 200, "{key}");
        }
        let basic = stats.replace("Host:", "Authorization: Basic azE=\r\nHost:");
        unknown(&http.ask(&basic), false);
    }
    assert_eq!(http.ask(&with("k1", &buy(Some("ann"), "a"))).status, 201);
    refused(&http.ask(&buy(Some("ann"), "b")), 401, "BAD_TOKEN");
    refused(&http.ask(&with("k2", &buy(Some("ann"), "b"))), 403, "FORBIDDEN");
    // A key says nothing about the account: the back end has to.
    refused(&http.ask(&with("k1", &buy(None, "b"))), 400, "BAD_REQUEST");
    assert_eq!(admin.stats(SALE).sold, 1);
}

#[test]
fn a_buyer_acts_for_the_account_of_the_token() {
    let home = temporary_dir();
    let [keys, secret] = ["keys", "shop.secret"].map(|name| home.path().join(name));
    fs::write(&keys, key_line("office", "buy,admin", "k")).expect("the file can be written");
    fs::write(&secret, SECRET).expect("the file can be written");
    let server = Server::start_with(|serve| {
        let serve = serve.with("--keys", &keys.to_string_lossy()).with_shards(2);
        serve.with("--token-key", &secret.to_string_lossy()).with_switch("--buyers-confirm")
    });
    let mut admin = Peer::silent(server.address());
    admin.hello(b"k").expect("the key is known");
    admin.open_sale(SALE, SaleTerms::default(), &[(1, 100)]);
    let (ann, ben) = (token("ann", SECRET, 600), token("ben", SECRET, 600));
    // Whichever shard accepts it: the answer of another one knows its viewer too.
    for round in 0..6_u32 {
        let mut http = HttpPeer::connect(server.http_address());
        let bought = http.ask(&with(&ann, &buy(None, &round.to_string())));
        assert_eq!((bought.status, &bought.json()["order"]), (201, &json!(round + 1)));
        let order = get(&format!("/v1/sales/7/orders/{}", round + 1));
        let seen = http.ask(&with(&ann, &order));
        assert_eq!(seen.status, 200);
        refused(&http.ask(&with(&ben, &order)), 403, "FORBIDDEN");
        // The office sees all, and knows the account by the same name.
        assert_eq!(http.ask(&with("k", &order)).json(), seen.json());
        let again = http.ask(&with("k", &buy(Some("ann"), &round.to_string())));
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        let name = format!("foreign-{round}");
        refused(&http.ask(&with(&ben, &buy(Some("ann"), &name))), 403, "FORBIDDEN");
    }
    let mut http = HttpPeer::connect(server.http_address());
    let other = "hs256 text another secret that nobody shares with the server\n";
    for (token, why) in [
        (token("ann", SECRET, -60), "expired"),
        (token("ann", other, 600), "signature"),
        (format!("{ann}x"), "signature"),
        ("a.b.c".to_owned(), "malformed"),
    ] {
        let response = http.ask(&with(&token, &buy(None, "bad")));
        refused(&response, 401, "BAD_TOKEN");
        let detail = response.json()["detail"].as_str().expect("a reason").to_owned();
        assert!(detail.contains(why), "{detail:?} does not say {why}");
    }
    assert_eq!(admin.stats(SALE).sold, 6);
}

/// A sale whose item 1 costs money and whose item 2 is free, for Ann with her token and the shop
/// with its key, on two shards.
fn paid_and_free(home: &Path, buyers_confirm: &str) -> (Server, String) {
    let [keys, secret] = ["keys", "shop.secret"].map(|name| home.join(name));
    fs::write(&keys, key_line("shop", "buy,admin", "k")).expect("the file can be written");
    fs::write(&secret, SECRET).expect("the file can be written");
    let serve = server::Serve::on(&home.join("data")).with_shards(2);
    let serve = serve.with("--keys", &keys.to_string_lossy());
    let serve = serve.with("--token-key", &secret.to_string_lossy());
    let server =
        Server::start_on(&home.join("data"), serve.with("--buyers-confirm", buyers_confirm));
    (server, token("ann", SECRET, 600))
}

fn order(action: &str, item: u32) -> Value {
    json!({"action": action, "lines": [{"item": item, "quantity": 1}]})
}

#[test]
fn what_costs_money_is_settled_by_the_shop() {
    let home = temporary_dir();
    let (server, ann) = paid_and_free(home.path(), "false");
    let mut admin = Peer::silent(server.address());
    admin.hello(b"k").expect("the key is known");
    admin.gets(Command::DefineSale { sale: SALE, terms: SaleTerms::default() });
    admin.gets(define_item(SALE, 1, 100));
    let free = ItemTerms { capacity: Quantity(100), price: Price(0), account_limit: None };
    admin.gets(Command::DefineItem { sale: SALE, item: ItemId(2), terms: free });
    admin.gets(Command::OpenSale { sale: SALE });
    let orders = "/v1/sales/7/orders";
    let mut number = 0;
    // Whichever shard accepts it, and whichever has the sale.
    for round in 0..6 {
        let mut http = HttpPeer::connect(server.http_address());
        let mut ask = |who: &str, path: &str, key: &str, mut body: Value| {
            if who == "k" {
                body["account"] = json!("ann");
            }
            http.ask(&with(who, &post(path, &format!("{key}-{round}"), &body)))
        };
        let response = ask(&ann, orders, "buy", order("buy", 1));
        refused(&response, 403, "FORBIDDEN");
        let detail = response.json()["detail"].as_str().expect("a reason").to_owned();
        assert!(detail.contains("API key"), "{detail}");
        assert_eq!(ask(&ann, orders, "free", order("buy", 2)).status, 201);
        assert_eq!(ask(&ann, orders, "hold", order("hold", 1)).status, 201);
        number += 2;
        let at = |action: &str| format!("{orders}/{number}/{action}");
        refused(&ask(&ann, &at("confirm"), "pay", json!({})), 403, "FORBIDDEN");
        assert_eq!(ask(&ann, &at("extend"), "more", json!({})).status, 200);
        assert_eq!(ask("k", &at("confirm"), "pay", json!({})).status, 200);
        // It is done: the buyer is told so, and changes nothing by asking.
        let again = ask(&ann, &at("confirm"), "pay", json!({}));
        assert_eq!((again.status, again.header("idempotency-replayed")), (200, Some("true")));
        refused(&ask(&ann, &at("cancel"), "back", json!({})), 403, "FORBIDDEN");
        let first = format!("{orders}/{}/cancel", number - 1);
        assert_eq!(ask(&ann, &first, "free back", json!({})).status, 200);
    }
    let stats = admin.stats(SALE);
    assert_eq!((stats.sold, stats.held), (6, 0));
    drop(server);
    // The same directory, and other settings.
    let (server, ann) = paid_and_free(home.path(), "true");
    let mut http = HttpPeer::connect(server.http_address());
    let buy = post(orders, "now", &order("buy", 1));
    assert_eq!(http.ask(&with(&ann, &buy)).status, 201);
}

/// Without API keys the binary protocol is loopback's; a buyer over HTTP needs a token all the
/// same.
#[test]
fn token_keys_alone_close_the_door_to_who_has_none() {
    let home = temporary_dir();
    let secret = home.path().join("shop.secret");
    fs::write(&secret, SECRET).expect("the file can be written");
    let server = Server::start_with(|serve| {
        let serve = serve.with("--token-key", &secret.to_string_lossy());
        let serve = serve.with_switch("--buyers-confirm");
        // Whoever reaches it needs a token, so anybody may.
        serve.with("--http", "0.0.0.0:0")
    });
    let mut admin = Peer::connect(server.address());
    admin.open_sale(SALE, SaleTerms::default(), &[(1, 100)]);
    let at = (std::net::Ipv4Addr::LOCALHOST, server.http_address().port()).into();
    let mut http = HttpPeer::connect(at);
    refused(&http.ask(&buy(Some("ann"), "a")), 401, "BAD_TOKEN");
    refused(&http.ask(&with("k", &buy(Some("ann"), "a"))), 401, "BAD_TOKEN");
    assert_eq!(http.ask(&with(&token("ann", SECRET, 60), &buy(None, "a"))).status, 201);
    let serve = server::Serve::on(&home.path().join("data"));
    let serve = serve.with("--token-key", &secret.to_string_lossy());
    let refused = serve.with("--binary", "0.0.0.0:0").refused();
    assert_refused(&refused, ExitCode::Configuration, &["0.0.0.0:0", "--keys"]);
}

/// What a wrong credential leaves in the log is where it came from.
#[test]
fn a_trusted_proxy_names_the_client() {
    let home = temporary_dir();
    let keys = home.path().join("keys");
    fs::write(&keys, key_line("shop", "buy", "k1")).expect("the file can be written");
    let serve =
        |serve: server::Serve| serve.with("--keys", &keys.to_string_lossy()).with("--log", "debug");
    let stats = with("k3", &get("/v1/sales/7/stats"));
    let via =
        |addresses: &str| stats.replace("Host:", &format!("X-Forwarded-For: {addresses}\r\nHost:"));
    let trusting = Server::start_with(|s| serve(s).with("--trusted-proxy", "127.0.0.0/8"));
    let mut http = HttpPeer::connect(trusting.http_address());
    refused(&http.ask(&via("203.0.113.9, 192.0.2.77, 127.0.0.5")), 401, "BAD_TOKEN");
    assert_log(&trusting, "192.0.2.77");
    assert!(!trusting.log().contains("203.0.113.9"), "what the client says of itself counts not");
    let wary = Server::start_with(serve);
    let mut http = HttpPeer::connect(wary.http_address());
    refused(&http.ask(&via("192.0.2.77")), 401, "BAD_TOKEN");
    assert_log(&wary, "127.0.0.1");
    assert!(!wary.log().contains("192.0.2.77"), "anybody can say so");
}

/// Without keys loopback is let in, but not everybody who comes through a proxy on loopback.
#[test]
fn a_proxy_on_loopback_opens_no_door_without_keys() {
    let server = Server::start_with(|serve| serve.with("--trusted-proxy", "127.0.0.0/8"));
    let mut http = HttpPeer::connect(server.http_address());
    let stats = get("/v1/sales/7/stats");
    refused(&http.ask(&stats), 404, "NOT_FOUND");
    let far = stats.replace("Host:", "X-Forwarded-For: 192.0.2.77\r\nHost:");
    refused(&http.ask(&far), 401, "BAD_TOKEN");
}

#[test]
fn a_trusted_proxy_begins_with_its_header() {
    let home = temporary_dir();
    let keys = home.path().join("keys");
    fs::write(&keys, key_line("shop", "buy", "k1")).expect("the file can be written");
    let mut serve = server::Serve::on(&home.path().join("data"));
    for (flag, value) in [
        ("--keys", &*keys.to_string_lossy()),
        ("--log", "debug"),
        ("--trusted-proxy", "127.0.0.1/32"),
        ("--request-timeout", "1"),
    ] {
        serve = serve.with(flag, value);
    }
    let server = Server::start_on(&home.path().join("data"), serve.with_switch("--proxy-protocol"));
    let connect = || HttpPeer::connect(server.http_address());
    let stats = with("k3", &get("/v1/sales/7/stats"));
    let mut first = connect();
    for byte in b"PROXY TCP4 192.0.2.33 198.51.100.1 56324 443\r\n" {
        first.write([*byte]);
    }
    refused(&first.ask(&stats), 401, "BAD_TOKEN");
    assert_log(&server, "192.0.2.33");
    refused(&first.ask(&stats.replace("k3", "k1")), 404, "NOT_FOUND");
    // Version 2, with the request in the same bytes.
    let mut second = connect();
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    bytes.extend([198, 51, 100, 44, 198, 51, 100, 1, 0, 80, 1, 187]);
    bytes.extend_from_slice(stats.as_bytes());
    second.write(bytes);
    refused(&second.response(), 401, "BAD_TOKEN");
    assert_log(&server, "198.51.100.44");
    // One that speaks for nobody is closed, and so is one that never says for whom.
    let mut plain = connect();
    plain.write(&stats);
    assert!(plain.ends(), "it has no header");
    let mut slow = connect();
    slow.write("PROXY TCP4 192.0.2.33");
    let response = slow.read();
    assert!(response.is_none_or(|response| response.status == 408));
}

/// Waits for a word in the server's log, whose lines come through a pipe of their own.
#[track_caller]
fn assert_log(server: &Server, word: &str) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !server.log().contains(word) {
        assert!(Instant::now() < deadline, "{word} is not in {}", server.log());
        thread::sleep(Duration::from_millis(5));
    }
}

/// Replaces a file of keys and has the server read it, until it has `said` so once more.
fn reload(server: &Server, path: &Path, text: &str, said: &str) {
    let times = || server.log().matches(said).count();
    let before = times();
    fs::write(path, text).expect("the file can be written");
    let pid = Pid::from_raw(server.pid().cast_signed()).expect("a process");
    kill_process(pid, Signal::HUP).expect("it runs");
    while times() == before {
        thread::sleep(Duration::from_millis(5));
    }
}

const TAKEN: &str = "the keys were read again";

#[test]
fn keys_are_read_again_without_a_restart() {
    let home = temporary_dir();
    let [keys, secret] = ["keys", "shop.secret"].map(|name| home.path().join(name));
    let first = key_line("shop", "buy", "k1") + &key_line("office", "buy,admin", "k2");
    fs::write(&keys, first).expect("the file can be written");
    fs::write(&secret, SECRET).expect("the file can be written");
    let server = Server::start_with(|serve| {
        let serve = serve.with("--keys", &keys.to_string_lossy()).with_shards(2);
        serve.with("--token-key", &secret.to_string_lossy())
    });
    let [mut shop, mut office] = [b"k1", b"k2"].map(|key| {
        let mut peer = Peer::silent(server.address());
        peer.hello(key).expect("the key is known");
        peer
    });
    office.open_sale(SALE, SaleTerms::default(), &[(1, 100)]);
    let mut http = HttpPeer::connect(server.http_address());
    let stats = get("/v1/sales/7/stats");
    assert_eq!(http.ask(&with("k1", &stats)).status, 200);
    shop.gets(purchase_of(intent(SALE, 1, 1), &[(1, 1)]));

    // The shop has another key, and the office may do less: nobody else is disturbed.
    let second = key_line("office", "buy", "k2") + &key_line("shop", "buy", "k3");
    reload(&server, &keys, &second, TAKEN);
    refused(&http.ask(&with("k1", &stats)), 401, "BAD_TOKEN");
    assert_eq!(http.ask(&with("k3", &stats)).status, 200);
    assert!(shop.read().is_none(), "whose key was taken away is let out");
    let denied = office.ask(define_item(SALE, 1, 200));
    assert_eq!(denied.map(|answer| answer.outcome), Err(Refusal::Forbidden));
    office.gets(purchase_of(intent(SALE, 2, 1), &[(1, 1)]));
    assert!(Peer::silent(server.address()).hello(b"k1").is_err());

    // Buyers' tokens are signed by another secret.
    let other = "hs256 text another secret of it, of 32 bytes or more\n";
    let order = get("/v1/sales/7/orders/1");
    let [old, new] = [SECRET, other].map(|secret| with(&token("ann", secret, 600), &order));
    refused(&http.ask(&old), 403, "FORBIDDEN");
    refused(&http.ask(&new), 401, "BAD_TOKEN");
    reload(&server, &secret, other, TAKEN);
    refused(&http.ask(&old), 401, "BAD_TOKEN");
    refused(&http.ask(&new), 403, "FORBIDDEN");

    // A mistake changes nothing, and is told with its place.
    let place = format!("the keys stay as they were: {}:2:", keys.display());
    reload(&server, &keys, &(key_line("shop", "buy", "k4") + "nonsense\n"), &place);
    assert_eq!(http.ask(&with("k3", &stats)).status, 200);
    refused(&http.ask(&with("k4", &stats)), 401, "BAD_TOKEN");
    let mut admin = HttpPeer::connect_unix(&server.data_dir().join("admin.sock"));
    let metrics = String::from_utf8(admin.get("/metrics").body).expect("text");
    for line in ["{result=\"done\"} 2", "{result=\"failed\"} 1"] {
        assert!(metrics.contains(&format!("boxoffice_key_reloads_total{line}")), "{metrics}");
    }
}
