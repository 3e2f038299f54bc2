//! HTTP peers that are slow, silent, greedy or many: each gets its answer or is sent away, and
//! nobody else notices.

#[path = "support/http_peer.rs"]
mod http_peer;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use boxoffice::model::{SaleId, SaleTerms};
use http_peer::{HttpPeer, Response, get, post};
use peer::Peer;
use serde_json::{Value, json};
use server::{Serve, Server};

const SALE: SaleId = SaleId(7);

/// Ends only what hangs.
const PATIENCE: Duration = Duration::from_mins(1);

fn start(change: impl FnOnce(Serve) -> Serve, items: u32) -> (Server, Peer) {
    let server = Server::start_with(change);
    let mut admin = Peer::connect(server.address());
    let items: Vec<_> = (1..=items).map(|item| (item, 100_000)).collect();
    admin.open_sale(SALE, SaleTerms::default(), &items);
    (server, admin)
}

fn purchase(account: &str) -> Value {
    json!({"action": "buy", "account": account, "lines": [{"item": 1, "quantity": 1}]})
}

fn buy(account: &str, key: &str) -> String {
    post("/v1/sales/7/orders", key, &purchase(account))
}

/// The resident memory of a process, in bytes.
fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("the kernel says it");
    kib.parse::<u64>().expect("a number") * 1024
}

/// One that drips a head, one that drips a body, one that stopped inside of a body and one behind
/// a whole request: a byte now and then buys no time. One that asks whole requests stays.
#[test]
fn a_request_that_does_not_become_whole_is_told_so() {
    let (server, _admin) = start(|serve| serve.with("--request-timeout", "1"), 1);
    let connect = || HttpPeer::connect(server.http_address());
    let whole = buy("ann", "key");
    let body_at = whole.find("\r\n\r\n").expect("a head") + 4;
    let mut steady = connect();
    let [mut head, mut body, mut stopped, mut behind] = [(); 4].map(|()| connect());
    head.write(&whole[..4]);
    body.write(&whole[..body_at]);
    stopped.write(&whole[..body_at + 5]);
    behind.write(get("/v1/sales/7/stats") + "GET");
    assert_eq!(behind.response().status, 200);
    let mut silent = connect();
    for bytes in whole.as_bytes()[4..].chunks(1).take(40) {
        // They may have been sent away by now.
        let _ = head.stream.write_all(bytes);
        let _ = body.stream.write_all(b" ");
        assert_eq!(steady.get("/v1/sales/7/stats").status, 200);
        thread::sleep(Duration::from_millis(60));
    }
    for peer in [&mut head, &mut body, &mut stopped, &mut behind] {
        let response = peer.response();
        assert!(response.status == 408 && response.closes(), "{response:?}");
        assert_eq!(response.json()["type"], "urn:boxoffice:fault:TIMEOUT");
        peer.assert_end();
    }
    // Who has not begun a request is merely idle.
    assert_eq!(silent.get("/v1/sales/7/stats").json()["sold"], 0);
}

#[test]
fn an_idle_connection_is_closed_in_silence() {
    let (server, _admin) = start(|serve| serve.with("--idle-timeout", "1"), 1);
    let mut fresh = HttpPeer::connect(server.http_address());
    let mut used = HttpPeer::connect(server.http_address());
    assert_eq!(used.get("/v1/sales/7/stats").status, 200);
    fresh.assert_end();
    used.assert_end();
}

#[test]
fn a_peer_that_never_reads_is_sent_away() {
    let (server, mut admin) = start(|serve| serve.with("--send-timeout", "1"), 1_024);
    let mut peer = HttpPeer::connect(server.http_address());
    let bytes = get("/v1/sales/7/availability").repeat(1_000);
    let deadline = Instant::now() + PATIENCE;
    peer.stream.set_write_timeout(Some(PATIENCE)).expect("a socket has the option");
    // Its buffers fill up, and then the server closes: a write fails.
    while peer.stream.write_all(bytes.as_bytes()).is_ok() {
        assert!(Instant::now() < deadline, "it is still there");
    }
    assert_eq!(admin.stats(SALE).items, 1_024);
}

/// Far more than may be in flight, and none is read before all is written: the server stops
/// reading, keeps little, and answers all in order once its peer reads.
#[test]
fn a_peer_that_asks_without_reading_is_slowed_and_loses_nothing() {
    const REQUESTS: usize = 5_000;
    let (server, mut admin) =
        start(|serve| serve.with("--send-timeout", "60").with_shards(2), 1_024);
    let mut peer = HttpPeer::connect(server.http_address());
    let before = resident_bytes(server.pid());
    let is_listing = |index: usize| index % 10 == 9;
    let request = |index: usize| match index {
        _ if is_listing(index) => get("/v1/sales/7/availability"),
        _ => buy("ann", &index.to_string()),
    };
    let bytes: String = (0..REQUESTS).map(request).collect();
    let mut writer = peer.stream.try_clone().expect("a descriptor is free");
    let writing = thread::spawn(move || writer.write_all(bytes.as_bytes()).expect("it is taken"));
    let mut sold = None;
    while sold != Some(admin.stats(SALE).sold) {
        sold = Some(admin.stats(SALE).sold);
        thread::sleep(Duration::from_millis(100));
    }
    assert!(sold < Some(REQUESTS as u64 * 9 / 10), "it waits for its peer: {sold:?}");
    let grown = resident_bytes(server.pid()).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for one peer");
    let mut orders = 0;
    for index in 0..REQUESTS {
        let response = peer.response();
        if is_listing(index) {
            let listing = response.json();
            assert_eq!(listing["items"].as_array().map(Vec::len), Some(1_024));
            assert_eq!(listing["items"][0]["sold"], orders, "it sees what stands before it");
        } else {
            orders += 1;
            assert_eq!((response.status, &response.json()["order"]), (201, &json!(orders)));
        }
    }
    writing.join().expect("all was written");
    assert_eq!(admin.stats(SALE).sold, orders);
}

#[test]
fn two_thousand_connections_at_once_are_all_answered() {
    const CONNECTIONS: usize = 2_000;
    let (server, mut admin) = start(|serve| serve.with_shards(2), 1);
    raise_open_files(CONNECTIONS as u64 + 200);
    let mut peers: Vec<_> =
        (0..CONNECTIONS).map(|_| HttpPeer::connect(server.http_address())).collect();
    for round in 1..=2 {
        for (index, peer) in peers.iter_mut().enumerate() {
            peer.write(buy(&format!("buyer-{index}"), &round.to_string()));
        }
        let mut orders: Vec<_> = peers
            .iter_mut()
            .map(|peer| peer.response())
            .map(|response| (response.status, response.json()["order"].as_u64()))
            .collect();
        orders.sort_unstable();
        let first = (round - 1) * CONNECTIONS as u64 + 1;
        let expected = (first..first + CONNECTIONS as u64).map(|order| (201, Some(order)));
        assert!(orders.into_iter().eq(expected), "each has an order of its own");
    }
    assert_eq!(admin.stats(SALE).sold, 2 * CONNECTIONS as u64);
}

/// As many files as the test needs, where the system lets it.
fn raise_open_files(needed: u64) {
    let limit = boxoffice::runtime::limits::raise_open_files().expect("the limit can be asked");
    assert!(limit >= needed, "the limit of {limit} open files is too low for {needed}");
}

/// Peers that send whatever they like, with more behind it, and read afterwards: the fault is
/// there for them, and no reset has eaten it.
#[test]
fn a_fault_reaches_a_peer_that_goes_on_sending() {
    let (server, _admin) = start(|serve| serve, 1);
    for _ in 0..20 {
        let mut peer = HttpPeer::connect(server.http_address());
        peer.write(get("/v1/sales/7/stats") + "no request at all\r\n\r\n");
        for _ in 0..10 {
            peer.write(vec![b'x'; 20_000]);
            thread::yield_now();
        }
        assert_eq!(peer.response().status, 200);
        assert_eq!(peer.response().status, 400);
        peer.assert_end();
    }
}

/// A flood behind a fault is not listened to for ever.
#[test]
fn a_peer_that_never_stops_sending_is_cut_off() {
    let (server, mut admin) = start(|serve| serve, 1);
    let mut peer = HttpPeer::connect(server.http_address());
    peer.write("no request at all\r\n\r\n");
    let noise = vec![b'x'; 20_000];
    let deadline = Instant::now() + PATIENCE;
    while peer.stream.write_all(&noise).is_ok() {
        assert!(Instant::now() < deadline, "it is still there");
    }
    assert_eq!(admin.stats(SALE).sold, 0);
}

/// Units that an answer of a server that stops granted, and whether it is the last one.
fn judge(response: &Response) -> (u64, bool) {
    if response.status == 201 {
        return (1, response.closes());
    }
    assert_eq!((response.status, response.code()), (503, "DRAINING".to_owned()));
    assert!(response.header("retry-after").is_some() && response.closes(), "{response:?}");
    (0, true)
}

/// Buys one after the other until it is told that the server stops, or finds the connection ended
/// where it said nothing for too long. How many it got.
fn buy_on(mut peer: HttpPeer, account: &str) -> u64 {
    let mut sold = 0;
    for key in 0.. {
        if peer.stream.write_all(buy(account, &key.to_string()).as_bytes()).is_err() {
            break;
        }
        let Some(response) = peer.read() else { break };
        let (granted, is_last) = judge(&response);
        sold += granted;
        if is_last {
            peer.assert_end();
            break;
        }
    }
    sold
}

/// Whoever asks many things at once, asks one after the other, has begun to ask or says nothing:
/// each is told what became of its requests and that the connection ends, and no end is a reset.
#[test]
fn a_server_that_stops_answers_what_was_asked_and_says_that_it_closes() {
    let (mut server, _admin) = start(|serve| serve.with_shards(2), 1);
    let connect = || HttpPeer::connect(server.http_address());
    let mut asking: Vec<_> = (0..4).map(|_| connect()).collect();
    let [mut begun, mut idle] = [(); 2].map(|()| connect());
    assert_eq!(idle.get("/v1/sales/7/stats").status, 200);
    begun.write(&buy("ann", "begun")[..100]);
    for (at, peer) in asking.iter_mut().enumerate() {
        let buys = (0..500).map(|key| buy("ann", &format!("{at}-{key}")));
        peer.write(buys.collect::<String>());
    }
    let steady = ["ben", "cat", "dan"].map(|account| {
        let peer = connect();
        thread::spawn(move || buy_on(peer, account))
    });
    assert_eq!(asking[0].response().status, 201);
    server.ask_to_stop();
    let mut sold = 0;
    for (at, mut peer) in asking.into_iter().enumerate() {
        let (mut answered, mut is_last) = (usize::from(at == 0), false);
        sold += answered as u64;
        while let Some(response) = peer.read() {
            assert!(!is_last, "nothing comes behind the last answer: {response:?}");
            let granted;
            (granted, is_last) = judge(&response);
            sold += granted;
            answered += 1;
        }
        assert!(is_last || answered == 500, "{answered} answers, and no word of an end");
    }
    sold += steady.map(|thread| thread.join().expect("it was told")).iter().sum::<u64>();
    assert_eq!(judge(&begun.response()), (0, true));
    begun.assert_end();
    idle.assert_end();
    assert!(server.wait().success());
    server.restart();
    let mut http = HttpPeer::connect(server.http_address());
    assert_eq!(http.get("/v1/sales/7/stats").json()["sold"], sold);
}
