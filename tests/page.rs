//! The sale page in a real browser against a real server.
//!
//! Each test makes its sales, lets a buyer act (`tests/page/cases.mjs`, run by node in headless
//! Chromium), and then judges what the server has. The browser also watches for exceptions and for
//! violations of the page's own policy; both watchers have their canaries at the end. They run when
//! asked for (`cargo test --test page -- --ignored`), and always in `.ci/run`; where the tools are
//! missing they say what to install.

#[path = "support/http_peer.rs"]
mod http_peer;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Output};
use std::sync::{Mutex, PoisonError};

use boxoffice::admission::token::{MintedClaims, TokenSigner};
use boxoffice::model::{Command, SaleId, SaleStats, SaleTerms, TimeMs};
use http_peer::{HttpPeer, get};
use peer::{Peer, buy, define_item, hold, hold_ttl, intent, wall_ms};
use server::{Server, temporary_dir};
use sha2::{Digest, Sha256};

const SALE: SaleId = SaleId(7);

/// One browser at a time: each takes a core and half a gigabyte.
static BROWSER: Mutex<()> = Mutex::new(());

/// Chromium, or the line that says how to get it.
fn chromium() -> PathBuf {
    let from_path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let known = std::env::split_paths(&from_path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|program| program.is_file());
    known.expect("no Chromium: apt-get install chromium nodejs npm")
}

/// The folder with the packages that drive it.
fn tools() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/page");
    assert!(
        tools.join("node_modules/playwright-core").is_dir(),
        "no playwright-core: mkdir -p target/page && cp tests/page/package*.json target/page && \
         npm ci --prefix target/page"
    );
    tools
}

/// Runs a case of `cases.mjs` with the page of `sale`.
fn run(case: &str, server: &Server, sale: SaleId, token: &str) -> Output {
    let scratch = temporary_dir();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/run.mjs");
    let mut program = Program::new("node");
    program.arg(script).arg(case);
    program.args([format!("http://{}", server.http_address()), sale.0.to_string()]);
    program.env("CHROMIUM", chromium()).env("PAGE_TOOLS", tools());
    program.env("PAGE_SCRATCH", scratch.path()).env("TOKEN", token);
    let _turn = BROWSER.lock().unwrap_or_else(PoisonError::into_inner);
    program.output().expect("no node: apt-get install nodejs npm")
}

/// Runs a case that must hold, and show no fault.
#[track_caller]
fn holds(case: &str, server: &Server, sale: SaleId) {
    let output = run(case, server, sale, "");
    let [said, complained] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{case}: {}\n{said}{complained}", output.status);
}

/// Runs a case on an open sale of two items with 100 units each; what the server has then.
#[track_caller]
fn stats_after(case: &str, ttl_ms: u32) -> SaleStats {
    let server = Server::start();
    let mut admin = Peer::connect(server.address());
    admin.open_sale(SALE, hold_ttl(ttl_ms), &[(1, 100), (2, 100)]);
    holds(case, &server, SALE);
    admin.stats(SALE)
}

#[test]
#[ignore = "needs Chromium, node and npm"]
fn the_page_is_the_same_for_every_sale_and_fit_for_a_cache() {
    let server = Server::start();
    let mut http = HttpPeer::connect(server.http_address());
    let page = http.ask(&get("/sales/7"));
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("cache-control").is_some_and(|value| value.starts_with("public, max-age")));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(http.ask(&get("/sales/18446744073709551615")).body, page.body);
    let tag = page.header("etag").expect("a tag");
    let known = get("/sales/8").replace("Host:", &format!("If-None-Match: {tag}\r\nHost:"));
    assert_eq!(http.ask(&known).status, 304);

    let html = String::from_utf8(page.body).expect("text");
    let assets: Vec<&str> =
        html.split('"').filter(|part| part.starts_with("/sales/assets/")).collect();
    assert_eq!(assets.len(), 3, "{assets:?}");
    for path in assets {
        let asset = http.ask(&get(path));
        assert_eq!(asset.status, 200, "{path}");
        let caching = asset.header("cache-control");
        assert_eq!(caching, Some("public, max-age=31536000, immutable"), "{path}");
        let digest = asset.header("etag").expect("a tag").trim_matches('"').to_owned();
        assert!(path.contains(&digest), "{path} is not named by {digest}");
    }
}

#[test]
#[ignore = "needs Chromium, node and npm"]
fn a_hold_becomes_a_ticket() {
    let stats = stats_after("hold_and_confirm", 600_000);
    assert_eq!((stats.orders, stats.orders_confirmed, stats.sold), (1, 1, 3));
}

#[test]
#[ignore = "needs Chromium, node and npm"]
fn a_hold_is_given_back() {
    let stats = stats_after("give_back", 600_000);
    assert_eq!((stats.orders_released, stats.held, stats.sold), (2, 0, 0));
}

#[test]
#[ignore = "needs Chromium, node and npm"]
fn a_hold_runs_out() {
    let stats = stats_after("hold_runs_out", 2_000);
    assert_eq!((stats.orders, stats.orders_expired, stats.held), (1, 1, 0));
}

#[test]
#[ignore = "needs Chromium, node and npm"]
fn a_lost_answer_makes_one_order() {
    let stats = stats_after("lost_answer", 600_000);
    assert_eq!((stats.orders, stats.held), (1, 2));
}

/// The canary of the test above: without the stored id the same case makes two orders.
#[test]
#[ignore = "needs Chromium, node and npm"]
fn a_lost_answer_and_a_lost_memory_make_two() {
    let stats = stats_after("lost_answer_and_memory", 600_000);
    assert_eq!((stats.orders, stats.held), (2, 4));
}

#[test]
#[ignore = "needs Chromium, node and npm"]
fn a_reload_goes_on_with_the_same_hold() {
    let stats = stats_after("reload_before_the_answer", 600_000);
    assert_eq!((stats.orders, stats.held), (1, 2));
    let stats = stats_after("reload_in_a_hold", 600_000);
    assert_eq!((stats.orders, stats.orders_confirmed, stats.sold), (1, 1, 2));
}

#[test]
#[ignore = "needs Chromium, node and npm"]
fn who_stops_asking_learns_the_truth() {
    let stats = stats_after("stop_asking", 600_000);
    assert_eq!((stats.orders, stats.held), (1, 2));
    let stats = stats_after("stop_in_time", 600_000);
    assert_eq!((stats.orders, stats.held), (0, 0));
}

#[test]
#[ignore = "needs Chromium, node and npm"]
fn what_passes_is_waited_for() {
    for case in ["offline", "busy", "price_has_changed"] {
        let stats = stats_after(case, 600_000);
        assert_eq!((stats.orders, stats.held), (1, 1), "{case}");
    }
}

#[test]
#[ignore = "needs Chromium, node and npm"]
fn the_keyboard_is_enough() {
    assert_eq!(stats_after("keyboard_only", 600_000).sold, 3);
}

#[test]
#[ignore = "needs Chromium, node and npm"]
fn a_hidden_page_is_quiet() {
    stats_after("hidden_is_quiet", 600_000);
}

#[test]
#[ignore = "needs Chromium, node and npm"]
fn what_is_sold_out_is_called_so() {
    let server = Server::start();
    let mut admin = Peer::connect(server.address());
    admin.open_sale(SALE, SaleTerms::default(), &[(1, 5)]);
    admin.gets(buy(intent(SALE, 1, 1), &[(1, 5)]));
    holds("sold_out", &server, SALE);
    holds("refused_after_a_lost_attempt", &server, SALE);
    assert_eq!(admin.stats(SALE).orders, 1);
}

#[test]
#[ignore = "needs Chromium, node and npm"]
fn each_refusal_has_its_words() {
    let server = Server::start();
    let mut admin = Peer::connect(server.address());
    let [scheduled, paused, closed, held, limited] = [10, 11, 12, 13, 14].map(SaleId);
    let opens_at = Some(TimeMs(wall_ms() + 3_600_000));
    let terms = SaleTerms { opens_at, ..SaleTerms::default() };
    admin.gets(Command::DefineSale { sale: scheduled, terms });
    admin.gets(define_item(scheduled, 1, 5));
    let terms = SaleTerms::default();
    for sale in [paused, closed, held] {
        admin.open_sale(sale, terms, &[(1, 5)]);
    }
    admin.gets(Command::PauseSale { sale: paused });
    admin.gets(Command::CloseSale { sale: closed });
    admin.gets(hold(intent(held, 1, 1), &[(1, 4)]));
    let limit = SaleTerms { account_limit: Some(boxoffice::model::Quantity(2)), ..terms };
    admin.open_sale(limited, limit, &[(1, 5)]);
    holds("words_of_refusals", &server, scheduled);
}

#[test]
#[ignore = "needs Chromium, node and npm"]
fn a_sale_opens_by_the_servers_clock() {
    assert_eq!(stats_after("opens_meanwhile", 600_000).held, 1);
}

/// Runs a case on an open sale of one item with five units, on a server where Ann has a token and
/// the shop the key `k`; how many are sold then.
#[track_caller]
fn sold_with_a_token(case: &str, buyers_confirm: &str) -> u64 {
    const SECRET: &str = "hs256 text a secret of the identity system, 32 bytes or more\n";
    let home = temporary_dir();
    let [keys, secret] = ["keys", "shop.secret"].map(|name| home.path().join(name));
    let mut line = "shop buy,admin ".to_owned();
    for byte in Sha256::digest("k") {
        write!(line, "{byte:02x}").expect("a string takes all that is written");
    }
    fs::write(&keys, line + "\n").expect("the file can be written");
    fs::write(&secret, SECRET).expect("the file can be written");
    let server = Server::start_with(|serve| {
        let serve = serve.with("--keys", &keys.to_string_lossy());
        serve
            .with("--token-key", &secret.to_string_lossy())
            .with("--buyers-confirm", buyers_confirm)
    });
    let mut admin = Peer::silent(server.address());
    admin.hello(b"k").expect("the key is known");
    admin.open_sale(SALE, SaleTerms::default(), &[(1, 5)]);
    let now = wall_ms() / 1_000;
    let claims = MintedClaims { sub: "ann", iat: now, exp: now + 3_600, iss: None, aud: None };
    let signer = TokenSigner::parse(SECRET.as_bytes()).expect("a secret");
    let output = run(case, &server, SALE, &signer.mint(None, &claims));
    assert!(output.status.success(), "{output:?}");
    admin.stats(SALE).sold
}

#[test]
#[ignore = "needs Chromium, node and npm"]
fn a_token_in_the_link_says_who_buys() {
    assert_eq!(sold_with_a_token("token_in_the_link", "true"), 1);
}

#[test]
#[ignore = "needs Chromium, node and npm"]
fn what_costs_money_waits_for_the_shop() {
    assert_eq!(sold_with_a_token("paid_in_the_shop", "false"), 2);
}

/// The canaries of what every other test here relies on: planted faults of the page are seen.
#[test]
#[ignore = "needs Chromium, node and npm"]
fn a_fault_of_the_page_is_seen() {
    let server = Server::start();
    Peer::connect(server.address()).open_sale(SALE, SaleTerms::default(), &[(1, 5)]);
    let output = run("planted_faults", &server, SALE, "");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    for fault in ["exception: Error: planted", "console: planted", "policy: img-src"] {
        assert!(said.contains(fault), "{fault} was not seen in:\n{said}");
    }
    assert!(said.contains("policy: require-trusted-types-for"), "no script was refused:\n{said}");
}
