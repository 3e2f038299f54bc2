//! Hostile and broken peers over real sockets: each is told what is wrong or sent away, and
//! nobody else notices.
//!
//! Malformed frames, floods, peers that do not read, do not write or vanish, too many
//! connections. Behind each the server must serve others, and the sale must be as it was.

#[path = "support/protocol_golden.rs"]
#[allow(dead_code, reason = "the frames are used, not the values that they stand for")]
mod golden;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use boxoffice::model::{Command, Outcome, Query, Refusal, SaleId, SaleTerms};
use boxoffice::protocol::binary::{REQUEST_BYTES_MAX, Request, Response, encode_request};
use boxoffice::protocol::codes::WireCode;
use peer::{Peer, buy, hold, hold_ttl, intent};
use server::Server;

/// Where each bad frame of the golden files says that it is about.
const GOLDEN_SALE: SaleId = SaleId(0x1112_1314_1516_1718);

const SALE: SaleId = SaleId(7);

/// Ends only what hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// The resident memory of a process, in bytes.
fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("the kernel says it");
    kib.parse::<u64>().expect("a number") * 1024
}

fn availability(sale: SaleId) -> Request<'static> {
    Request::Query(Query::Availability { sale })
}

/// A sale whose listing is as large as an answer can be.
fn open_large_sale(server: &Server, sale: SaleId) {
    let items: Vec<_> = (1..=1_024).map(|item| (item, 1_000)).collect();
    Peer::connect(server.address()).open_sale(sale, SaleTerms::default(), &items);
}

/// Whether the server has closed the connection, waiting for it as long as it takes.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket has the option");
    let mut bytes = [0; 16 * 1024];
    loop {
        match std::io::Read::read(stream, &mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn every_malformed_frame_is_told_by_name_and_changes_nothing() {
    let server = Server::start();
    let mut admin = Peer::connect(server.address());
    admin.open_sale(GOLDEN_SALE, hold_ttl(600_000), &[(7, 100)]);
    admin.gets(hold(intent(GOLDEN_SALE, 1, 1), &[(7, 3)]));
    let before = (admin.stats(GOLDEN_SALE), admin.availability(GOLDEN_SALE));
    let rows: Vec<_> =
        golden::rows("malformed.hex").into_iter().filter(|row| row.notes[0] == "request").collect();
    assert!(rows.len() > 20, "the file has its rows");
    for row in rows {
        let mut peer = Peer::connect(server.address());
        // What stands before the bad frame is answered; what stands behind it is not read.
        let mut bytes = peer.encode(&[availability(GOLDEN_SALE)]);
        bytes.extend_from_slice(&row.bytes);
        // A frame that claims more than there is waits for the rest.
        bytes.resize(bytes.len() + REQUEST_BYTES_MAX, 0);
        let behind = buy(intent(GOLDEN_SALE, 2, 1), &[(7, 1)]);
        bytes.extend(peer.encode(&[behind]));
        peer.write(&bytes).expect("it is open");
        let first = peer.read_answer();
        assert!(matches!(first, Some((2, Ok(_)))), "{}: {first:?}", row.name);
        match peer.read() {
            Some((_, Response::Error(error))) => {
                assert_eq!(error.code.name(), row.notes[1], "{}", row.name);
                assert_eq!(error.offset.to_string(), row.notes[2], "{}", row.name);
            }
            other => panic!("{}: {other:?}", row.name),
        }
        assert_eq!(peer.read(), None, "{}: the connection closes", row.name);
    }
    assert_eq!((admin.stats(GOLDEN_SALE), admin.availability(GOLDEN_SALE)), before);
}

#[test]
fn requests_without_meaning_are_refused_and_the_connection_stays() {
    let server = Server::start();
    let mut peer = Peer::connect(server.address());
    peer.open_sale(GOLDEN_SALE, hold_ttl(600_000), &[(7, 100)]);
    let before = peer.stats(GOLDEN_SALE);
    let rows = golden::rows("refused.hex");
    assert!(rows.len() > 10, "the file has its rows");
    for row in rows {
        peer.write(&row.bytes).expect("it is open");
        match peer.read_answer() {
            Some((_, Err(Refusal::BadRequest { field }))) => {
                assert_eq!(field.name(), row.notes[0], "{}", row.name);
            }
            other => panic!("{}: {other:?}", row.name),
        }
    }
    assert_eq!(peer.stats(GOLDEN_SALE), before);
}

#[test]
fn a_request_cut_at_any_byte_is_taken_once_it_is_whole() {
    let server = Server::start();
    let mut peer = Peer::connect(server.address());
    peer.open_sale(SALE, SaleTerms::default(), &[(1, 1_000)]);
    for request in 1..=3 {
        for byte in peer.encode(&[buy(intent(SALE, 1, request), &[(1, 1)])]) {
            peer.write(&[byte]).expect("it is open");
            thread::yield_now();
        }
        assert!(matches!(peer.read_answer(), Some((_, Ok(_)))));
    }
    assert_eq!(peer.stats(SALE).sold, 3);
}

#[test]
fn a_peer_that_asks_without_reading_is_slowed_and_loses_nothing() {
    const REQUESTS: usize = 50_000;
    let server = Server::start_with(|serve| serve.with("--send-timeout", "60"));
    open_large_sale(&server, SALE);
    let mut peer = Peer::connect(server.address());
    let before = resident_bytes(server.pid());
    let requests: Vec<_> = (0..REQUESTS)
        .map(|index| match index % 50 {
            0 => availability(SALE),
            _ => buy(intent(SALE, 1, index as u128), &[(1 + index as u32 % 1_024, 1)]),
        })
        .collect();
    let bytes = peer.encode(&requests);
    let mut writer = peer.writer();
    let writing = thread::spawn(move || writer.write_all(&bytes).expect("the server takes it"));
    // The server goes on until the buffers are full, and then waits. Others are served meanwhile.
    let mut other = Peer::connect(server.address());
    let mut sold = None;
    while sold != Some(other.stats(SALE).sold) {
        sold = Some(other.stats(SALE).sold);
        thread::sleep(Duration::from_millis(100));
    }
    let grown = resident_bytes(server.pid()).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for one peer");
    let answers = peer.answers(REQUESTS);
    writing.join().expect("all was written");
    let is_right = |(correlation, got): (&u64, &peer::Got)| match got {
        Ok(answer) if (correlation - 2) % 50 == 0 => {
            matches!(answer.outcome, Outcome::Availability(_))
        }
        Ok(answer) => matches!(answer.outcome, Outcome::Confirmed { .. }) && !answer.replayed,
        Err(_) => false,
    };
    assert!(answers.iter().all(is_right), "each answer is the one to its request");
    assert_eq!(other.stats(SALE).sold as usize, REQUESTS - REQUESTS / 50);
}

#[test]
fn many_peers_that_do_not_read_take_bounded_memory() {
    let server = Server::start_with(|serve| serve.with("--send-timeout", "60"));
    open_large_sale(&server, SALE);
    let before = resident_bytes(server.pid());
    // Listings behind purchases wait for the disk, and then for their peers.
    let peers: Vec<_> = (1..=40)
        .map(|account| {
            let mut peer = Peer::connect(server.address());
            let requests: Vec<_> = (0..1_000)
                .map(|index| match index % 10 {
                    0 => buy(intent(SALE, account, index), &[(1 + index as u32, 1)]),
                    _ => availability(SALE),
                })
                .collect();
            let bytes = peer.encode(&requests);
            let mut writer = peer.writer();
            writer.set_nonblocking(true).expect("a socket has the option");
            // What the server does not take is not waited for.
            let _taken = writer.write(&bytes);
            peer
        })
        .collect();
    let mut other = Peer::connect(server.address());
    for _ in 0..20 {
        other.stats(SALE);
        thread::sleep(Duration::from_millis(20));
    }
    let grown = resident_bytes(server.pid()).saturating_sub(before);
    assert!(grown < 128 << 20, "{grown} bytes for {} peers", peers.len());
}

#[test]
fn a_peer_that_never_reads_is_sent_away() {
    let server = Server::start_with(|serve| serve.with("--send-timeout", "1"));
    open_large_sale(&server, SALE);
    let mut peer = Peer::connect(server.address());
    let bytes = peer.encode(&vec![availability(SALE); 1_000]);
    let deadline = Instant::now() + PATIENCE;
    // Its buffers fill up, and then the server closes: a write fails.
    while peer.write(&bytes).is_ok() {
        assert!(Instant::now() < deadline, "it is still there");
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(Peer::connect(server.address()).stats(SALE).items, 1_024);
}

#[test]
fn idle_and_trickling_peers_are_sent_away_and_others_stay() {
    let server = Server::start_with(|serve| serve.with("--idle-timeout", "1"));
    let mut active = Peer::connect(server.address());
    active.open_sale(SALE, SaleTerms::default(), &[(1, 10)]);
    let silent = Peer::silent(server.address());
    let greeted = Peer::connect(server.address());
    let mut trickling = Peer::connect(server.address());
    let frame = trickling.encode(&vec![availability(SALE); 100]);
    let mut doomed = [silent, greeted, trickling].map(|peer| peer.writer());
    for stream in &doomed {
        stream.set_nonblocking(true).expect("a socket has the option");
    }
    let mut open = vec![true; 3];
    let deadline = Instant::now() + PATIENCE;
    // A byte at a time and never a whole request; one that asks now and then stays.
    for byte in &frame[..frame.len().min(31)] {
        if open[2] {
            open[2] = doomed[2].write_all(&[*byte]).is_ok();
        }
        active.stats(SALE);
        thread::sleep(Duration::from_millis(60));
    }
    while open.contains(&true) {
        assert!(Instant::now() < deadline, "still there: {open:?}");
        for (stream, open) in doomed.iter_mut().zip(&mut open) {
            let read = std::io::Read::read(stream, &mut [0; 1]);
            let waits = read.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
            *open = *open && waits;
        }
        active.stats(SALE);
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(active.stats(SALE).items, 1, "the active one was never sent away");
}

#[test]
fn connections_over_the_bound_are_closed_and_the_others_go_on() {
    const CONNECTIONS: usize = 10;
    let bound = CONNECTIONS.to_string();
    let server = Server::start_with(|serve| serve.with_shards(2).with("--connections", &bound));
    // The bound is the server's: one shard may have all of it, and then no other has any.
    let busy = server.shard_address(0);
    let mut peers: Vec<_> = (0..CONNECTIONS).map(|_| Peer::connect(busy)).collect();
    for shard in [0, 1].repeat(25) {
        let address = server.shard_address(shard);
        let mut stream = TcpStream::connect(address).expect("the server listens");
        assert!(is_closed(&mut stream));
    }
    peers[0].open_sale(SALE, SaleTerms::default(), &[(1, 10)]);
    for peer in &mut peers {
        assert_eq!(peer.stats(SALE).items, 1);
    }
    // A place that is given up is taken again.
    drop(peers.pop());
    let mut taken = None;
    while taken.is_none() {
        let mut peer = Peer::silent(server.shard_address(1));
        let mut hello = Vec::new();
        let request = boxoffice::protocol::binary::Hello { key: b"", name: "" };
        encode_request(&mut hello, 1, &Request::Hello(request));
        taken = peer.write(&hello).ok().and_then(|()| peer.read());
    }
    assert!(matches!(taken, Some((1, Response::Welcome(_)))), "{taken:?}");
}

/// Peers that flood and vanish, with a reset, at any moment of their requests.
#[test]
fn peers_that_vanish_leave_nothing_behind() {
    let server = Server::start();
    let mut admin = Peer::connect(server.address());
    admin.open_sale(SALE, SaleTerms::default(), &[(1, 1_000_000)]);
    let floods: Vec<_> = (1..=4_u128)
        .map(|account| {
            let address = server.address();
            thread::spawn(move || {
                for round in 0..25_u128 {
                    let mut peer = Peer::connect(address);
                    let requests: Vec<_> = (0..3_000)
                        .map(|index| buy(intent(SALE, account, round * 10_000 + index), &[(1, 1)]))
                        .collect();
                    let bytes = peer.encode(&requests);
                    let part = bytes.len() * (1 + round as usize) / 25;
                    peer.write(&bytes[..part]).expect("it is open");
                    if round % 3 == 0 {
                        let first = peer.read_answer();
                        assert!(first.is_some_and(|(_, got)| got.is_ok()));
                    }
                    // Bytes that nobody has read make the end a reset.
                    drop(peer);
                }
            })
        })
        .collect();
    for flood in floods {
        flood.join().expect("the server is still there");
    }
    let mut stats = admin.stats(SALE);
    assert_eq!(u64::from(stats.orders), stats.sold);
    while stats != admin.stats(SALE) {
        stats = admin.stats(SALE);
    }
    let order = admin.gets(buy(intent(SALE, 99, 1), &[(1, 1)]));
    assert!(matches!(order, Outcome::Confirmed { .. }));
    assert_eq!(admin.ask(Command::OpenSale { sale: SALE }).map(|done| done.replayed), Ok(true));
}
