//! What a real server tells about itself: `/metrics`, `top`, and its log.
//!
//! The numbers are held to what the clients of the test know that they did. The dashboard and the
//! alert rules are held to the names that are exported.

#[path = "support/exposition.rs"]
mod exposition;
#[path = "support/http_peer.rs"]
mod http_peer;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use boxoffice::control::metrics::{FAMILIES, Kind};
use boxoffice::model::{OrderNumber, Query, Refusal, SaleId, SaleTerms};
use boxoffice::protocol::binary::Request;
use exposition::{Exposition, names_in};
use http_peer::HttpPeer;
use peer::{Peer, buy, hold, hold_ttl, intent, release};
use serde_json::{Value, json};
use server::{Serve, Server, temporary_dir};

const SALE: SaleId = SaleId(7);

/// How long something may take that must come; no test measures it.
const PATIENCE: Duration = Duration::from_mins(1);

fn scrape(server: &Server) -> Exposition {
    let mut office = HttpPeer::connect_unix(Path::new(server.admin_address()));
    let response = office.get("/metrics");
    assert_eq!(response.status, 200);
    let content_type = response.header("content-type").expect("a scrape has a type");
    assert!(content_type.starts_with("text/plain; version=0.0.4"), "{content_type}");
    let text = String::from_utf8(response.body).expect("it is UTF-8");
    Exposition::read(&text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"))
}

/// Scrapes until the numbers are as they must become.
#[track_caller]
fn scrape_until(server: &Server, what: &str, is_so: impl Fn(&Exposition) -> bool) -> Exposition {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let scraped = scrape(server);
        if is_so(&scraped) {
            return scraped;
        }
        assert!(Instant::now() < deadline, "it never came that {what}: {scraped:#?}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn assert_is(scraped: &Exposition, name: &str, labels: &[(&str, &str)], expected: f64) {
    let value = scraped.sum(name, labels);
    assert!((value - expected).abs() < 1e-6, "{name}{labels:?} is {value}, not {expected}");
}

#[test]
fn every_family_is_there_and_ready_is_told() {
    let mut server = Server::start_with(|serve| serve.with_shards(2));
    let mut peer = Peer::connect(server.address());
    peer.open_sale(SALE, SaleTerms::default(), &[(1, 10)]);
    let scraped = scrape(&server);
    let exported: Vec<_> = scraped.families.iter().map(|family| family.name.as_str()).collect();
    let known: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(exported, known);
    for (family, known) in scraped.families.iter().zip(&FAMILIES) {
        assert_eq!(family.kind, known.kind.name(), "{}", known.name);
        assert!(!family.samples.is_empty(), "{} has no sample", known.name);
    }
    assert_is(&scraped, "boxoffice_shards", &[], 2.0);
    assert_is(&scraped, "boxoffice_ready", &[], 1.0);
    let mut office = HttpPeer::connect_unix(Path::new(server.admin_address()));
    assert_eq!(office.get("/readyz").status, 200);
    assert_eq!(office.get("/livez").status, 200);
    // Nobody scrapes a server to death: the next one is as good.
    assert_is(&scrape(&server), "boxoffice_scrapes_total", &[], 2.0);
    assert!(server.terminate().success());
}

#[test]
fn counters_agree_with_what_clients_did() {
    let server = Server::start();
    let mut peer = Peer::connect(server.address());
    peer.open_sale(SALE, hold_ttl(600_000), &[(1, 30), (2, 5)]);
    let bought: Vec<_> = (1..=20).map(|account| buy(intent(SALE, account, 1), &[(1, 1)])).collect();
    assert!(peer.ask_all(&bought).iter().all(Result::is_ok));
    assert!(peer.ask(bought[0].clone()).expect("it was bought").replayed);
    peer.gets(hold(intent(SALE, 1, 2), &[(2, 5)]));
    peer.gets(hold(intent(SALE, 2, 2), &[(1, 3)]));
    peer.gets(release(intent(SALE, 2, 3), OrderNumber(22)));
    for account in 3..=6 {
        assert_eq!(peer.ask(buy(intent(SALE, account, 9), &[(2, 1)])), Err(Refusal::NoneNow));
    }
    assert_eq!(peer.ask(Query::Stats { sale: SaleId(99) }), Err(Refusal::NotFound));
    let mut web = HttpPeer::connect(server.http_address());
    let body = json!({"account": "ann", "action": "buy", "lines": [{"item": 1, "quantity": 2}]});
    assert_eq!(web.post("/v1/sales/7/orders", "r-1", &body).status, 201);
    assert_eq!(web.post("/v1/sales/7/orders", "r-2", &json!({"lines": []})).status, 400);
    assert_eq!(web.get("/v1/sales/7/availability").status, 200);
    // Neither ends the connection, so neither is a fault.
    assert_eq!(web.get("/wp-login.php").status, 404);
    assert_eq!(web.get("/v1/sales/7/orders").status, 405);
    let stats = peer.stats(SALE);

    let scraped = scrape(&server);
    let requests = |labels: &[(&str, &str)], expected: u32| {
        assert_is(&scraped, "boxoffice_requests_total", labels, f64::from(expected));
    };
    requests(&[("operation", "buy"), ("protocol", "binary"), ("result", "ok")], 20);
    requests(&[("operation", "buy"), ("protocol", "http"), ("result", "ok")], 1);
    requests(&[("operation", "buy"), ("result", "replayed")], 1);
    requests(&[("operation", "buy"), ("result", "NONE_NOW")], 4);
    requests(&[("operation", "hold"), ("result", "ok")], 2);
    requests(&[("operation", "release"), ("result", "ok")], 1);
    requests(&[("operation", "stats"), ("result", "NOT_FOUND")], 1);
    requests(&[("protocol", "http"), ("result", "BAD_REQUEST")], 2);
    requests(&[("protocol", "http"), ("result", "NOT_FOUND")], 1);
    assert_is(&scraped, "boxoffice_faults_total", &[], 0.0);
    requests(&[("operation", "availability"), ("protocol", "http")], 1);
    // 4 to define and open, 20 and 1 again, 2 held, 1 released, 4 refused, 2 reads, 5 over HTTP.
    let all = 4 + 21 + 2 + 1 + 4 + 2 + 5;
    requests(&[], all);
    assert_is(&scraped, "boxoffice_answer_duration_seconds_count", &[], f64::from(all));

    let records = 4 + 20 + 2 + 1 + 1;
    assert_is(&scraped, "boxoffice_log_durable_lsn", &[], f64::from(records));
    assert_is(&scraped, "boxoffice_log_appended_lsn", &[], f64::from(records));
    assert_is(&scraped, "boxoffice_log_batch_records_sum", &[], f64::from(records));
    let writes = scraped.sum("boxoffice_log_write_duration_seconds_count", &[]);
    assert_is(&scraped, "boxoffice_log_batch_bytes_count", &[], writes);
    assert!(scraped.sum("boxoffice_log_batch_bytes_sum", &[]) >= writes * 4096.0);
    assert!(scraped.sum("boxoffice_log_write_duration_seconds_sum", &[]) > 0.0);

    let units = |state| scraped.sum("boxoffice_sale_units", &[("sale", "7"), ("state", state)]);
    for (state, told) in
        [("available", stats.available), ("held", stats.held), ("sold", stats.sold)]
    {
        assert_eq!(units(state).to_string(), told.to_string(), "{state}");
    }
    assert_is(&scraped, "boxoffice_item_units", &[("item", "2"), ("state", "held")], 5.0);
    assert_is(&scraped, "boxoffice_item_units", &[("item", "1"), ("state", "sold")], 22.0);
    assert_is(&scraped, "boxoffice_sale_state", &[("sale", "7"), ("state", "open")], 1.0);
    assert_is(&scraped, "boxoffice_holds", &[], 1.0);
    assert_is(&scraped, "boxoffice_connections", &[], 2.0);
    assert_is(&scraped, "boxoffice_admissions_total", &[("result", "admitted")], 1.0);
}

#[test]
fn what_ends_or_goes_elsewhere_is_counted() {
    let server = Server::start_with(|serve| serve.with_shards(2));
    let mut peer = Peer::connect(server.shard_address(0));
    for sale in (1..=8).map(SaleId) {
        peer.open_sale(sale, hold_ttl(1_000), &[(1, 10)]);
        peer.gets(hold(intent(sale, 5, 1), &[(1, 1)]));
    }
    let mut stranger = Peer::silent(server.shard_address(1));
    stranger.send(&Request::Query(Query::Stats { sale: SALE }));
    while stranger.read().is_some() {}
    drop(stranger);
    let mut web = HttpPeer::connect(server.http_address());
    web.write("NONSENSE\r\n\r\n");
    assert_eq!(web.response().status, 400);
    drop(web);
    drop(peer);
    let scraped = scrape_until(&server, "the holds expired and the connections ended", |now| {
        now.sum("boxoffice_holds_expired_total", &[]) >= 8.0
            // The stock is read before the counters are: some may have expired in between.
            && now.sum("boxoffice_holds", &[]) < 1.0
            && now.sum("boxoffice_connections_closed_total", &[]) >= 3.0
    });
    assert_is(&scraped, "boxoffice_holds", &[], 0.0);
    assert_is(&scraped, "boxoffice_connections", &[], 0.0);
    assert_is(&scraped, "boxoffice_connections_accepted_total", &[], 3.0);
    assert_is(&scraped, "boxoffice_connections_closed_total", &[("reason", "peer")], 1.0);
    assert_is(&scraped, "boxoffice_connections_closed_total", &[("reason", "fault")], 2.0);
    assert_is(&scraped, "boxoffice_faults_total", &[("protocol", "binary")], 1.0);
    assert_is(&scraped, "boxoffice_faults_total", &[("protocol", "http")], 1.0);
    // All that was asked of the first shard's port and was for a sale of the second one.
    let elsewhere = scraped.sum("boxoffice_requests_total", &[("shard", "1")]);
    assert!(elsewhere > 0.0, "eight sales are on two shards: {scraped:#?}");
    assert_is(&scraped, "boxoffice_hops_total", &[("shard", "0")], elsewhere);
    assert_is(&scraped, "boxoffice_hops_in_flight", &[], 0.0);
}

/// Exported for whoever wants them; too special for the dashboard.
const NOT_ON_THE_DASHBOARD: [&str; 2] =
    ["boxoffice_process_virtual_memory_bytes", "boxoffice_scrapes_total"];

/// What is wrong with the names in a dashboard and alert rules.
fn name_problems(texts: &[&str]) -> Vec<String> {
    let mut series = BTreeSet::new();
    for family in &FAMILIES {
        match family.kind {
            Kind::Histogram => {
                series.extend(
                    ["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", family.name)),
                );
            }
            Kind::Counter | Kind::Gauge => {
                series.insert(family.name.to_owned());
            }
        }
    }
    let used: BTreeSet<String> = texts.iter().flat_map(|text| names_in(text)).collect();
    let unknown = used.difference(&series).map(|name| format!("{name} is not exported"));
    let is_used = |name: &str| used.iter().any(|used| used.starts_with(name));
    let unseen = FAMILIES
        .iter()
        .map(|family| family.name)
        .filter(|name| !is_used(name) && !NOT_ON_THE_DASHBOARD.contains(name));
    unknown.chain(unseen.map(|name| format!("{name} is shown nowhere"))).collect()
}

#[test]
fn dashboard_and_alerts_use_names_that_exist() {
    let file = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name);
        fs::read_to_string(path).expect("it is in the repository")
    };
    let (dashboard, alerts) = (file("grafana-dashboard.json"), file("prometheus-alerts.yml"));
    assert_eq!(name_problems(&[&dashboard, &alerts]), [""; 0]);
    let parsed: Value = serde_json::from_str(&dashboard).expect("a dashboard is JSON");
    let panels = parsed["panels"].as_array().expect("it has panels");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().expect("a panel asks something");
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            let expr = target["expr"].as_str().expect("a target is an expression");
            assert!(expr.contains("boxoffice_"), "{expr}");
        }
    }
    // A name with a typing error, and a family that nobody looks at, are found.
    let misspelt = dashboard.replace("boxoffice_log_starved", "boxoffice_log_starve");
    assert_eq!(name_problems(&[&misspelt, &alerts]), ["boxoffice_log_starve is not exported"]);
    let without = dashboard.replace("boxoffice_hops_total", "up");
    assert_eq!(name_problems(&[&without, &alerts]), ["boxoffice_hops_total is shown nowhere"]);
}

#[test]
fn the_reader_of_this_test_is_strict() {
    let good = "# HELP t_s How long.\n# TYPE t_s histogram\nt_s_bucket{le=\"1\"} 1\n\
                t_s_bucket{le=\"+Inf\"} 2\nt_s_sum 3\nt_s_count 2\n\
                # HELP n_total Times.\n# TYPE n_total counter\nn_total{a=\"b\",c=\"d\"} 1\n";
    Exposition::read(good).expect("it is sound");
    for (was, is) in [
        ("t_s_bucket{le=\"+Inf\"} 2\n", ""),
        ("t_s_bucket{le=\"1\"} 1", "t_s_bucket{le=\"1\"} 3"),
        ("t_s_count 2", "t_s_count 3"),
        ("t_s_sum 3\n", ""),
        ("# TYPE n_total counter\n", ""),
        ("# HELP n_total Times.\n", ""),
        ("n_total", "n"),
        ("counter", "gauge"),
        ("c=\"d\"", "a=\"d\""),
        ("c=\"d\"} 1\n", "c=\"d\"} 1\nn_total{a=\"b\",c=\"d\"} 2\n"),
        ("c=\"d\"} 1", "c=\"d\"} one"),
        ("c=\"d\"} 1", "c=\"d\" 1"),
        ("c=\"d\"} 1", "c=\"d\"} -1"),
        ("c=\"d\"} 1\n", "c=\"d\"} 1"),
        ("n_total{", "t_s_sum{"),
    ] {
        let bad = good.replace(was, is);
        assert_ne!(bad, good, "{was} is there");
        assert!(Exposition::read(&bad).is_err(), "{was:?} became {is:?} and nobody saw");
    }
}

/// Buys as fast as one connection can until told otherwise; returns how many tickets.
fn rush(server: &Server, stop: &Arc<AtomicBool>) -> thread::JoinHandle<u32> {
    let (address, stop) = (server.address(), Arc::clone(stop));
    thread::spawn(move || {
        let mut peer = Peer::connect(address);
        let mut bought = 0;
        while !stop.load(Ordering::Relaxed) {
            let next = bought + 1..=bought + 500;
            let wave: Vec<_> =
                next.map(|id| buy(intent(SALE, u128::from(id), 1), &[(1, 1)])).collect();
            assert!(peer.ask_all(&wave).iter().all(Result::is_ok));
            bought += 500;
        }
        bought
    })
}

fn top(server: &Server, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_boxoffice"));
    command.args(["top", "--admin", server.admin_address()]).args(flags);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn top_shows_what_happens() {
    let server = Server::start();
    Peer::connect(server.address()).open_sale(SALE, SaleTerms::default(), &[(1, 900_000_000)]);
    let stop = Arc::new(AtomicBool::new(false));
    let buyers = rush(&server, &stop);
    let output = top(&server, &["--once", "--json"]).output().expect("the program can be run");
    assert!(output.status.success(), "{output:?}");
    let facts: Value = serde_json::from_slice(&output.stdout).expect("one object");
    let number = |name: &str| facts[name].as_f64().unwrap_or_else(|| panic!("{name}: {facts}"));
    assert!(number("requests") > 0.0 && number("ok") > 0.0, "{facts}");
    assert!((number("requests") - number("ok")).abs() < 1e-6, "nothing was refused: {facts}");
    assert_eq!(facts["operations"][0]["name"], "buy");
    assert!(facts["answer"]["p50_ms"].as_f64() <= facts["answer"]["p999_ms"].as_f64());
    assert!(facts["answer"]["p50_ms"].as_f64() > Some(0.0), "{facts}");
    assert!(number("batch_records") >= 1.0 && number("log_writes") > 0.0);
    assert_eq!((&facts["ready"], &facts["sales"][0]["sale"]), (&json!(true), &json!(7)));
    assert!(facts["sales"][0]["sold"].as_u64() > Some(0), "{facts}");

    let output = top(&server, &["--once"]).output().expect("the program can be run");
    let screen = String::from_utf8(output.stdout).expect("it is text");
    assert!(screen.contains("serving") && screen.contains("SALE"), "{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 100), "{screen}");

    // Without a terminal and without flags: a line a second, until it is told to end.
    let mut child = top(&server, &[]).spawn().expect("the program can be run");
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let lines: Vec<_> = lines.take(2).map(|line| line.expect("it is text")).collect();
    child.kill().expect("it runs on");
    child.wait().expect("it ends");
    assert!(lines.iter().all(|line| line.starts_with("requests ")), "{lines:?}");
    stop.store(true, Ordering::Relaxed);
    assert!(buyers.join().expect("every purchase succeeds") > 0);
}

#[test]
fn top_without_a_server_says_so() {
    let home = temporary_dir();
    let socket = home.path().join("admin.sock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_boxoffice"));
    command.args(["top", "--once", "--admin", socket.to_str().expect("UTF-8")]);
    let output = command.output().expect("the program can be run");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.lines().count() == 1 && said.contains("admin.sock"), "{said}");
}

#[test]
fn top_gives_the_terminal_back() {
    let server = Server::start();
    let terminal = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR).expect("a terminal");
    rustix::pty::grantpt(&terminal).and_then(|()| rustix::pty::unlockpt(&terminal)).expect("ours");
    let name = rustix::pty::ptsname(&terminal, Vec::new()).expect("it has a name");
    let name = name.to_str().expect("UTF-8").to_owned();
    let open = || fs::File::options().read(true).write(true).open(&name).expect("its other end");
    let keyboard = open();
    let size = rustix::termios::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&keyboard, size).expect("it has a size");
    let before = rustix::termios::tcgetattr(&keyboard).expect("it has modes").local_modes;
    let mut command = top(&server, &[]);
    command.stdin(open()).stdout(open());
    let mut child = command.spawn().expect("the program can be run");
    let mut terminal = fs::File::from(terminal);
    let mut shown = String::new();
    let mut has_quit = false;
    // It ends by its own doing, and restores the terminal before that.
    while !shown.contains("\x1b[?1049l") {
        let mut bytes = [0; 4096];
        let count = terminal.read(&mut bytes).expect("it writes");
        shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
        if shown.contains("serving") && !has_quit {
            terminal.write_all(b"q").expect("a key can be pressed");
            has_quit = true;
        }
    }
    assert!(child.wait().expect("it ends").success());
    assert!(has_quit, "it ended before a key was pressed: {shown:?}");
    let after = rustix::termios::tcgetattr(&keyboard).expect("it has modes").local_modes;
    assert_eq!(before, after, "the terminal is as it was");
    assert!(shown.starts_with("\x1b[?1049h"), "{shown:?}");
}

#[test]
fn slow_requests_are_named_by_the_control_plane() {
    let server = Server::start_with(|serve| serve.with("--slow-request", "1"));
    Peer::connect(server.address()).open_sale(SALE, SaleTerms::default(), &[(1, 900_000_000)]);
    let stop = Arc::new(AtomicBool::new(false));
    let buyers = rush(&server, &stop);
    // A wave of purchases takes more than a millisecond as soon as one write does.
    let scraped = scrape_until(&server, "a request was slow", |now| {
        now.sum("boxoffice_slow_requests_total", &[]) > 0.0
    });
    stop.store(true, Ordering::Relaxed);
    buyers.join().expect("every purchase succeeds");
    let deadline = Instant::now() + PATIENCE;
    let line = loop {
        let log = server.log();
        if let Some(line) = log.lines().find(|line| line.contains("a slow request")) {
            break line.to_owned();
        }
        assert!(Instant::now() < deadline, "it was counted and not told: {scraped:#?}\n{log}");
        thread::sleep(Duration::from_millis(20));
    };
    // On a slow disk it may be what made the sale.
    for part in ["WARN", "operation=\"", "shard=0", "took_ms=", "log_write_ms=", "suppressed="] {
        assert!(line.contains(part), "{part} is missing: {line}");
    }
}

#[test]
fn the_log_has_the_form_that_was_asked_for_and_no_line_for_a_request() {
    let mut server = Server::start_with(|serve| serve.with("--log-format", "json"));
    let mut peer = Peer::connect(server.address());
    peer.open_sale(SALE, SaleTerms::default(), &[(1, 1_000)]);
    let lines = |server: &Server| -> Vec<Value> {
        let log = server.log();
        let lines = log.lines().filter(|line| !line.starts_with("listening") && *line != "ready");
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    };
    let before = lines(&server).len();
    for account in 1..=200 {
        peer.gets(buy(intent(SALE, account, 1), &[(1, 1)]));
    }
    drop(peer);
    assert!(server.terminate().success());
    let all = lines(&server);
    assert!(all.iter().all(|line| line["level"].is_string() && line["message"].is_string()));
    assert!(all.iter().any(|line| line["message"] == "recovered" && line["shard"] == 0), "{all:?}");
    assert!(all.len() - before < 20, "200 purchases are no news: {all:?}");
}

#[test]
fn a_journal_that_is_not_there_is_no_reason_not_to_start() {
    let home = temporary_dir();
    let serve = Serve::on(&home.path().join("data")).with("--log-format", "journald");
    let mut server = Server::start_on(&home.path().join("data"), serve);
    assert!(server.terminate().success());
    let log = server.log();
    if Path::new("/run/systemd/journal/socket").exists() {
        assert!(!log.contains("recovered"), "it went to the journal: {log}");
    } else {
        assert!(log.contains("the journal cannot be reached"), "{log}");
        assert!(log.contains("recovered"), "and is told here: {log}");
    }
}
