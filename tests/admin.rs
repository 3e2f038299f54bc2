//! Administration over its own listener, by a real server: what it does, what it survives, and
//! who may ask.

#[path = "support/http_peer.rs"]
mod http_peer;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use boxoffice::admission::keys::Keys;
use boxoffice::cli::exit::ExitCode;
use boxoffice::control::admin::BODY_BYTES_MAX;
use boxoffice::model::sale::ITEMS_MAX;
use boxoffice::model::{SaleId, ShardIndex};
use boxoffice::wal::{SegmentIndex, segment_path, shard_dir};
use http_peer::{HttpPeer, Response, get, put};
use peer::{Peer, buy, intent};
use serde_json::{Value, json};
use server::{Serve, Server, Starting, assert_refused, temporary_dir};

const SALE: SaleId = SaleId(7);

/// The sale, open, with two items.
fn wanted() -> Value {
    json!({
        "account_limit": 4,
        "hold_ttl_ms": 60_000,
        "items": [
            {"item": 1, "capacity": 100, "price": 4500},
            {"item": 2, "capacity": 10, "price": 900, "account_limit": 1},
        ],
        "state": "open",
    })
}

fn socket(server: &Server) -> PathBuf {
    server.data_dir().join("admin.sock")
}

fn office(server: &Server) -> HttpPeer {
    HttpPeer::connect_unix(&socket(server))
}

/// A POST without a body.
fn post(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
}

#[track_caller]
fn granted(response: &Response, status: u16) -> Value {
    assert_eq!(response.status, status, "{}", response.body.escape_ascii());
    assert_eq!(response.header("content-type"), Some("application/json"));
    response.json()
}

/// What a change did, by the names of its steps.
fn done(changed: &Value) -> Vec<&str> {
    let steps = changed["done"].as_array().expect("a change says what it did");
    steps.iter().map(|step| step["step"].as_str().expect("a step has its name")).collect()
}

#[track_caller]
fn refused(response: &Response, status: u16, code: &str) -> Value {
    assert_eq!((response.status, response.code().as_str()), (status, code), "{response:?}");
    response.json()
}

#[test]
fn a_sale_lives_from_its_definition_to_its_archive_and_through_crashes() {
    let mut server = Server::start_with(|serve| serve.with_shards(2));
    let mut admin = office(&server);
    let made = granted(&admin.put("/v1/sales/7", &wanted()), 201);
    assert_eq!(done(&made), ["define_sale", "define_item", "define_item", "open"]);
    assert_eq!(made["sale"]["state"], "open");

    let mut buyer = Peer::connect(server.address());
    buyer.gets(buy(intent(SALE, 5, 1), &[(1, 3), (2, 1)]));
    buyer.gets(buy(intent(SALE, 6, 1), &[(1, 1)]));
    let shown = granted(&admin.get("/v1/sales/7"), 200);
    assert_eq!(shown["units"], json!({"capacity": 110, "available": 105, "held": 0, "sold": 5}));
    assert_eq!((&shown["orders"]["confirmed"], &shown["accounts"]), (&json!(2), &json!(2)));
    let second = json!({
        "item": 2, "price": 900, "account_limit": 1,
        "capacity": 10, "available": 9, "held": 0, "sold": 1,
    });
    assert_eq!(shown["items"][1], second);

    server.kill();
    assert!(socket(&server).exists(), "a crash leaves the socket's file");
    server.restart();
    let mut admin = office(&server);
    assert_eq!(granted(&admin.get("/v1/sales/7"), 200), shown);
    let same = granted(&admin.put("/v1/sales/7", &wanted()), 200);
    assert_eq!((done(&same), &same["sale"]), (vec![], &shown), "all was so already");

    let orders =
        granted(&admin.get("/v1/sales/7/orders?account=00000000-0000-0000-0000-000000000005"), 200);
    let order = json!({
        "sale": 7, "order": 1, "account": "00000000-0000-0000-0000-000000000005",
        "state": "confirmed", "lines": [{"item": 1, "quantity": 3}, {"item": 2, "quantity": 1}],
    });
    assert_eq!(orders, json!({"orders": [order]}));
    assert_eq!(granted(&admin.get("/v1/sales/7/orders/1"), 200), order);

    for (turn, state) in [("pause", "paused"), ("open", "open"), ("close", "closed")] {
        let changed = granted(&admin.ask(&post(&format!("/v1/sales/7/{turn}"))), 200);
        assert_eq!((done(&changed), &changed["sale"]["state"]), (vec![turn], &json!(state)));
        let again = granted(&admin.ask(&post(&format!("/v1/sales/7/{turn}"))), 200);
        assert_eq!((done(&again), &again["sale"]["state"]), (vec![], &json!(state)));
    }
    let archived = granted(&admin.ask(&post("/v1/sales/7/archive")), 200);
    assert_eq!(archived["sale"]["units"]["sold"], 5, "its totals stay");
    refused(&admin.get("/v1/sales/7/orders/1"), 403, "CLOSED");
    let mut over = wanted();
    over["state"] = json!("archived");
    assert_eq!(done(&granted(&admin.put("/v1/sales/7", &over), 200)), [""; 0], "it is so");
    over["items"][0]["price"] = json!(1);
    refused(&admin.put("/v1/sales/7", &over), 403, "CLOSED");

    server.kill();
    server.restart();
    let mut admin = office(&server);
    assert_eq!(granted(&admin.get("/v1/sales/7"), 200), archived["sale"]);
    let totals = granted(&admin.get("/v1/stats"), 200);
    assert_eq!((&totals["shards"], &totals["sales"]["archived"]), (&json!(2), &json!(1)));
    assert_eq!(totals["units"]["sold"], 5);
}

#[test]
fn a_restock_is_made_once_for_each_request_id() {
    let mut server = Server::start();
    let mut admin = office(&server);
    granted(&admin.put("/v1/sales/7", &wanted()), 201);
    let path = "/v1/sales/7/items/1/restock";
    let restock = |server: &Server, key: &str, by: i64| {
        let changed = granted(&office(server).post(path, key, &json!({"by": by})), 200);
        let capacity = changed["sale"]["items"][0]["capacity"].clone();
        (done(&changed).len(), capacity)
    };
    assert_eq!(restock(&server, "delivery-1", 50), (1, json!(150)));
    assert_eq!(restock(&server, "delivery-1", 50), (0, json!(150)));
    assert_eq!(restock(&server, "\"delivery-1\"", 50), (0, json!(150)), "in quotes it is the same");
    assert_eq!(restock(&server, "delivery-2", -30), (1, json!(120)));
    server.kill();
    server.restart();
    assert_eq!(restock(&server, "delivery-2", -30), (0, json!(120)), "a crash forgets no id");
    let mut admin = office(&server);
    let other = admin.post(path, "delivery-2", &json!({"by": 1}));
    refused(&other, 422, "KEY_CONFLICT");

    // A sale that is open and has another capacity is brought there by a restock. An item that
    // stands there twice would be brought there twice.
    let mut more = wanted();
    more["items"][0]["capacity"] = json!(200);
    let mut twice = more.clone();
    twice["items"][1] = twice["items"][0].clone();
    let repeated = refused(&admin.put("/v1/sales/7", &twice), 400, "BAD_REQUEST");
    assert_eq!(repeated["field"], "items[1].item");
    let changed = granted(&admin.put("/v1/sales/7", &more), 200);
    assert_eq!(changed["done"], json!([{"step": "restock", "item": 1, "by": 80}]));
    assert_eq!(changed["sale"]["items"][0]["capacity"], 200);
}

#[test]
fn a_refused_step_is_told_with_what_was_done_before_it() {
    let server = Server::start();
    let mut admin = office(&server);
    let mut greedy = wanted();
    greedy["items"][1]["capacity"] = json!(4_000_000_000_u32);
    let problem = refused(&admin.put("/v1/sales/7", &greedy), 400, "BAD_REQUEST");
    assert_eq!(problem["field"], "capacity");
    let detail = problem["detail"].as_str().expect("what a capacity may be");
    assert!(detail.contains("1000000000"), "{detail}");
    assert_eq!(problem["step"], json!({"step": "define_item", "item": 2}));
    let before = json!([{"step": "define_sale"}, {"step": "define_item", "item": 1}]);
    assert_eq!(problem["done"], before);
    let shown = granted(&admin.get("/v1/sales/7"), 200);
    assert_eq!((&shown["state"], &shown["units"]["capacity"]), (&json!("scheduled"), &json!(100)));

    let rest = granted(&admin.put("/v1/sales/7", &wanted()), 200);
    assert_eq!(done(&rest), ["define_item", "open"], "the same call, put right, goes on");
    let mut back = wanted();
    back["state"] = json!("scheduled");
    assert_eq!(refused(&admin.put("/v1/sales/7", &back), 400, "BAD_REQUEST")["field"], "state");
}

#[test]
fn sales_are_listed_in_order_over_all_shards() {
    let server = Server::start_with(|serve| serve.with_shards(2));
    let mut admin = office(&server);
    assert_eq!(granted(&admin.get("/v1/sales"), 200), json!({"sales": []}));
    let ids: Vec<u64> = (1..=20).map(|id| id * id * 1_000_003).collect();
    for id in ids.iter().rev() {
        granted(&admin.put(&format!("/v1/sales/{id}"), &json!({})), 201);
    }
    for limit in [1, 3, 20, 512] {
        let (mut listed, mut after) = (Vec::new(), String::new());
        loop {
            let page = granted(&admin.get(&format!("/v1/sales?limit={limit}{after}")), 200);
            let sales = page["sales"].as_array().expect("a list");
            assert!(sales.len() <= limit);
            listed.extend(sales.iter().map(|sale| sale["sale"].as_u64().expect("an id")));
            let Some(next) = page.get("next") else { break };
            after = format!("&after={next}");
        }
        assert_eq!(listed, ids, "in pages of {limit}");
    }
}

#[test]
fn requests_that_are_wrong_say_so_and_harm_nobody() {
    let server = Server::start();
    let mut admin = office(&server);
    granted(&admin.put("/v1/sales/7", &wanted()), 201);
    let before = granted(&admin.get("/v1/sales/7"), 200);

    for (request, status, code) in [
        (get("/v1/sales/8"), 404, "NOT_FOUND"),
        (get("/v1/sales/7/orders/1"), 404, "NOT_FOUND"),
        (get("/v1/sale"), 404, "NO_SUCH_PATH"),
        (get("/v1/sales/seven"), 404, "NO_SUCH_PATH"),
        (get("/v1/sales/7/open"), 405, "METHOD_NOT_ALLOWED"),
        (post("/v1/sales/7"), 405, "METHOD_NOT_ALLOWED"),
        (post("/v1/sales/8/open"), 404, "NOT_FOUND"),
        (post("/v1/sales/7/archive"), 409, "NOT_CLOSED"),
        (get("/v1/sales?limit=0"), 400, "BAD_REQUEST"),
        (get("/v1/sales?limit=513"), 400, "BAD_REQUEST"),
        (get("/v1/sales?before=1"), 400, "BAD_REQUEST"),
        (get("/v1/sales/7/orders"), 400, "BAD_REQUEST"),
        (get("/v1/sales/7/orders?account="), 400, "BAD_REQUEST"),
        (put("/v1/sales/7", &json!({"acount_limit": 1})), 400, "BAD_REQUEST"),
        (put("/v1/sales/7", &json!({"state": "gone"})), 400, "BAD_REQUEST"),
        (put("/v1/sales/7", &json!([])), 400, "BAD_REQUEST"),
        (put("/v1/sales/7", &json!({"items": [[1, 9, 9]]})), 400, "BAD_REQUEST"),
        // As a browser sends it for a page of any site, without asking first.
        (post("/v1/sales/7/close").replace("Host:", "Origin: null\r\nHost:"), 400, "BAD_REQUEST"),
        (put("/v1/sales/7/items/1", &json!({"capacity": 1})), 400, "BAD_REQUEST"),
        (put("/v1/sales/7", &json!({"opens_at_ms": 1})), 400, "BAD_REQUEST"),
        ("PUT /v1/sales/7 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 411, "LENGTH_REQUIRED"),
        (
            "PUT /v1/sales/7 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
            415,
            "MEDIA_TYPE",
        ),
        ("BREW /v1/sales HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 501, "METHOD_UNKNOWN"),
    ] {
        // All on one connection: it goes on behind each of them.
        refused(&admin.ask(&request), status, code);
    }
    let wrong_method = admin.ask(&get("/v1/sales/7/items/1"));
    assert_eq!(wrong_method.header("allow"), Some("PUT"));

    for (bytes, status) in [
        ("GET /livez\r\n\r\n".to_owned(), 400),
        ("GET /livez HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET /livez HTTP/3.0\r\nHost: x\r\n\r\n".to_owned(), 505),
        ("\u{1}\u{2}\u{3}\u{4}".to_owned(), 400),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000)), 414),
        (
            format!("PUT /v1/sales/7 HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 1 << 30),
            413,
        ),
        (
            "POST /v1/sales/7/open HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\
             Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                .to_owned(),
            400,
        ),
    ] {
        let mut broken = office(&server);
        let response = broken.ask(&bytes);
        assert_eq!(response.status, status, "{bytes:.60?}");
        assert!(response.closes(), "{response:?}");
        broken.assert_end();
    }
    assert_eq!(granted(&admin.get("/v1/sales/7"), 200), before, "nothing of it changed the sale");
}

/// A parameter that means nothing here was meant to mean something. Probes are not written for this
/// server, and their settings may add some.
#[test]
fn unknown_parameters_are_refused_where_they_could_matter() {
    let server = Server::start();
    let mut admin = office(&server);
    granted(&admin.put("/v1/sales/7", &wanted()), 201);
    for (request, name, detail) in [
        (get("/v1/sales?lmit=5"), "lmit", "not one of after, limit"),
        (get("/v1/sales/7/orders?account=a&befor=1"), "befor", "not one of account, after, limit"),
        (get("/v1/sales/7?limit=9"), "limit", "there are no parameters here"),
        (get("/v1/stats?sale=7"), "sale", "there are no parameters here"),
        (get("/v1/sales/7/orders/1?account=a"), "account", "there are no parameters here"),
        (get("/openapi.json?v=1"), "v", "there are no parameters here"),
        (post("/v1/sales/7/close?dry_run=true"), "dry_run", "there are no parameters here"),
        (put("/v1/sales/7?state=closed", &wanted()), "state", "there are no parameters here"),
    ] {
        let problem = refused(&admin.ask(&request), 400, "BAD_REQUEST");
        assert_eq!((&problem["field"], &problem["detail"]), (&json!(name), &json!(detail)));
    }
    assert_eq!(granted(&admin.get("/v1/sales/7"), 200)["state"], "open", "nothing was done");
    for probe in ["/livez?verbose", "/readyz?at=%ff", "/metrics?target=x&target=x"] {
        assert_eq!(admin.get(probe).status, 200, "{probe}");
    }
}

/// As many items as a sale may have, written as widely as anybody would.
#[test]
fn a_sale_of_every_item_is_defined_at_once_and_more_is_too_large() {
    let server = Server::start();
    let mut admin = office(&server);
    let item = |item| {
        format!(
            r#"{{"item": {}, "capacity": 1000000, "price": 123456789, "account_limit": 10}}"#,
            4_000_000_000_u32 + item
        )
    };
    let items: Vec<_> = (0..ITEMS_MAX as u32).map(item).collect();
    let body = format!("{{\"items\": [\n  {}\n]}}", items.join(",\n  "));
    let head = "PUT /v1/sales/7 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let sized = |length: usize| format!("{head}Content-Length: {length}\r\n\r\n");
    assert!(body.len() > 64 * 1024, "{}", body.len());
    let defined = granted(&admin.ask(&(sized(body.len()) + &body)), 201);
    assert_eq!(defined["sale"]["items"].as_array().expect("items").len(), ITEMS_MAX);
    // The same in chunks: it is so already.
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    admin.write(format!("{chunked}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
    assert_eq!(done(&granted(&admin.response(), 200)), Vec::<&str>::new());
    for request in [sized(BODY_BYTES_MAX + 1), format!("{chunked}{:x}\r\n", BODY_BYTES_MAX + 1)] {
        let mut peer = office(&server);
        let response = peer.ask(&request);
        refused(&response, 413, "BODY_TOO_LARGE");
        assert!(response.closes());
        peer.assert_end();
    }
}

#[test]
fn the_forms_of_http_are_understood() {
    let server = Server::start();
    let mut admin = office(&server);
    let body = wanted().to_string();
    let head = "PUT /v1/sales/7 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    admin.write(format!("{head}Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"));
    assert_eq!(admin.response().status, 100);
    admin.write(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
    granted(&admin.response(), 201);

    admin.write([get("/livez"), get("/readyz"), get("/v1/sales/7")].concat());
    for expected in ["live\n", "ready\n"] {
        let probe = admin.response();
        assert_eq!((probe.status, probe.body.as_slice()), (200, expected.as_bytes()));
    }
    let shown = admin.response();
    admin.write("HEAD /v1/sales/7 HTTP/1.1\r\nHost: x\r\n\r\n");
    let head = admin.head();
    assert_eq!((head.status, head.header("content-length")), (200, shown.header("content-length")));
    let last = admin.ask("GET /livez HTTP/1.0\r\n\r\n");
    assert!(last.status == 200 && last.closes(), "{last:?}");
    admin.assert_end();
    let metrics = office(&server).get("/metrics");
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    assert!(String::from_utf8_lossy(&metrics.body).contains("\nboxoffice_build_info{"));
}

#[test]
fn those_who_say_nothing_hold_nobody_up() {
    let server = Server::start();
    let silent: Vec<HttpPeer> = (0..50).map(|_| office(&server)).collect();
    let half: Vec<HttpPeer> = (0..50)
        .map(|_| {
            let mut peer = office(&server);
            peer.write("PUT /v1/sales/7 HTTP/1.1\r\nHost: x\r\nContent-Type: applica");
            peer
        })
        .collect();
    let mut admin = office(&server);
    granted(&admin.put("/v1/sales/7", &wanted()), 201);
    assert_eq!(admin.get("/readyz").status, 200);
    // In the end they are told, or not, and the connection is closed.
    for mut peer in half {
        refused(&peer.response(), 408, "TIMEOUT");
        peer.assert_end();
    }
    for mut peer in silent {
        assert!(peer.ends(), "nothing was asked, so nothing is answered");
    }
}

#[test]
fn changes_are_logged_with_who_made_them() {
    let mut server = Server::start();
    let mut admin = office(&server);
    granted(&admin.put("/v1/sales/7", &wanted()), 201);
    granted(&admin.get("/v1/sales/7"), 200);
    refused(&admin.ask(&post("/v1/sales/8/open")), 404, "NOT_FOUND");
    assert!(server.terminate().success());

    let log = server.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(" administration ")).collect();
    let [made, not_made] = lines[..] else { panic!("a line for each change: {log}") };
    let own = fs::metadata("/proc/self").expect("this process is there");
    let who = format!("pid {} uid {} gid {}", std::process::id(), own.uid(), own.gid());
    assert!(made.contains(&who) && made.contains("/v1/sales/7"), "{made}");
    assert!(made.contains("define_sale") && made.contains("status=201"), "{made}");
    assert!(not_made.contains(&who) && not_made.contains("done=[]"), "{not_made}");
}

#[test]
fn the_socket_is_the_servers_and_its_groups_alone_and_leaves_with_it() {
    let mut server = Server::start();
    let path = socket(&server);
    assert_eq!(Path::new(server.admin_address()), path);
    let metadata = fs::metadata(&path).expect("the socket is there");
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o660);
    let log = fs::metadata(server.data_dir().join("shard-000")).expect("the log is there");
    assert_eq!(log.permissions().mode() & 0o077, 0, "it names accounts and payments");

    let second = Serve::on(server.data_dir()).refused();
    assert_refused(&second, ExitCode::DirectoryInUse, &[]);
    assert_eq!(office(&server).get("/livez").status, 200, "the first one serves on");

    assert!(server.terminate().success());
    assert!(!path.exists(), "a server that ends in order takes its socket along");
}

#[test]
fn only_a_dead_servers_socket_is_replaced() {
    let home = temporary_dir();
    let data_dir = home.path().join("data");
    let path = home.path().join("else.sock");
    let name = path.to_str().expect("the path is UTF-8");
    let serve = Serve::on(&data_dir).with("--admin", name);

    let alive = UnixListener::bind(&path).expect("it can be listened on");
    assert_refused(&serve.refused(), ExitCode::CannotListen, &[name]);
    UnixStream::connect(&path).expect("the live one still listens");
    drop(alive);
    assert!(path.exists(), "a dead socket");
    let mut server = Server::start_on(&data_dir, serve.clone());
    assert_eq!(HttpPeer::connect_unix(&path).get("/livez").status, 200);
    assert!(server.terminate().success());

    fs::write(&path, "precious").expect("it can be written");
    assert_refused(&serve.refused(), ExitCode::CannotListen, &[name]);
    assert_eq!(fs::read(&path).expect("it can be read"), b"precious");
    let too_long = home.path().join("x".repeat(108));
    let serve = serve.with("--admin", too_long.to_str().expect("the path is UTF-8"));
    assert_refused(&serve.refused(), ExitCode::CannotListen, &["--admin", "107"]);
}

#[test]
fn a_server_that_recovers_lives_and_is_not_ready() {
    let home = temporary_dir();
    let data_dir = home.path().join("data");
    let mut server = Server::start_on(&data_dir, Serve::on(&data_dir));
    granted(&office(&server).put("/v1/sales/7", &wanted()), 201);
    let shown = granted(&office(&server).get("/v1/sales/7"), 200);
    assert!(server.terminate().success());

    // A pipe in the place of a segment: whoever opens it waits for a writer, for ever.
    let segment = segment_path(&shard_dir(&data_dir, ShardIndex(0)), SegmentIndex::FIRST);
    let aside = home.path().join("aside");
    fs::rename(&segment, &aside).expect("it can be moved");
    let made = Command::new("mkfifo").arg(&segment).status().expect("the program can be run");
    assert!(made.success());
    let mut recovering = Starting::on(&Serve::on(&data_dir), "listening admin ");
    let mut admin = HttpPeer::connect_unix(&data_dir.join("admin.sock"));
    assert_eq!(admin.get("/livez").status, 200);
    let ready = admin.get("/readyz");
    assert_eq!((ready.status, ready.body.as_slice()), (503, &b"starting\n"[..]));
    assert_eq!(ready.header("retry-after"), Some("1"));
    refused(&admin.get("/v1/sales/7"), 503, "OVERLOADED");
    refused(&admin.put("/v1/sales/7", &wanted()), 503, "OVERLOADED");
    refused(&admin.get("/v1/stats"), 503, "OVERLOADED");
    assert_eq!(admin.get("/metrics").status, 200);
    assert!(recovering.terminate().success(), "it can be stopped before it serves");
    assert!(!data_dir.join("admin.sock").exists());

    fs::rename(&aside, &segment).expect("it can be moved back");
    let server = Server::start_on(&data_dir, Serve::on(&data_dir));
    assert_eq!(granted(&office(&server).get("/v1/sales/7"), 200), shown);
}

#[test]
fn tcp_takes_a_key_of_the_scope_admin() {
    let home = temporary_dir();
    let file = home.path().join("keys");
    let made = [("shop", false), ("office", true)].map(|(name, admin)| {
        let scopes = if admin { "admin" } else { "buy" };
        let made = Command::new(env!("CARGO_BIN_EXE_boxoffice"))
            .args(["key", name, "--scopes", scopes, "--json"])
            .output()
            .expect("the program can be run");
        let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
        ["key", "line"].map(|field| made[field].as_str().expect("a text").to_owned())
    });
    let lines = made.each_ref().map(|[_, line]| line.as_str()).join("\n");
    assert!(Keys::parse(&lines, "keys").is_ok());
    fs::write(&file, lines).expect("it can be written");
    let keys = file.to_str().expect("the path is UTF-8");
    let server =
        Server::start_with(|serve| serve.with("--admin", "127.0.0.1:0").with("--keys", keys));
    let address = server.admin_address().parse().expect("an address");
    let mut admin = HttpPeer::connect(address);
    let with_key = |key: &str, path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n")
    };
    assert_eq!(admin.get("/livez").status, 200, "probes need no key");
    assert_eq!(admin.get("/readyz").status, 200);
    for path in ["/v1/sales", "/v1/stats", "/metrics"] {
        let unknown = admin.get(path);
        refused(&unknown, 401, "BAD_TOKEN");
        assert_eq!(unknown.header("www-authenticate"), Some("Bearer realm=\"boxoffice\""));
        let wrong = admin.ask(&with_key("bo_wrong", path));
        refused(&wrong, 401, "BAD_TOKEN");
        let challenge = "Bearer realm=\"boxoffice\", error=\"invalid_token\"";
        assert_eq!(wrong.header("www-authenticate"), Some(challenge));
        refused(&admin.ask(&with_key(&made[0][0], path)), 403, "FORBIDDEN");
        assert_eq!(admin.ask(&with_key(&made[1][0], path)).status, 200);
    }
    refused(&admin.put("/v1/sales/7", &wanted()), 401, "BAD_TOKEN");
    let metrics =
        String::from_utf8(admin.ask(&with_key(&made[1][0], "/metrics")).body).expect("text");
    assert!(metrics.contains("\nboxoffice_administration_refused_total 10\n"), "{metrics}");

    let open = Server::start_with(|serve| serve.with("--admin", "127.0.0.1:0"));
    let address = open.admin_address().parse().expect("an address");
    assert_eq!(HttpPeer::connect(address).get("/v1/sales").status, 200, "no keys: loopback is in");
    let reachable = Serve::on(&home.path().join("data")).with("--admin", "0.0.0.0:0");
    assert_refused(&reachable.refused(), ExitCode::Configuration, &["--keys"]);
}
