//! `kill -9` at random moments: what was acknowledged is there, once, and nothing else is.
//!
//! Buyers hold, buy, confirm, release and cancel over several connections, pipelined and through
//! two shards, until the server is killed; then it starts again on what the disk has, and every
//! answer that a buyer ever got is held against it. The seed is printed and can be set; the
//! moments of the kills are the machine's own.
//!
//! `BOXOFFICE_CRASH_ROUNDS=50 BOXOFFICE_CRASH_SEED=1 cargo test --test crash` is the long form.

#[path = "support/buyers.rs"]
mod buyers;
#[path = "support/ledger.rs"]
mod ledger;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::num::NonZeroU16;
use std::path::Path;
use std::thread;
use std::time::Duration;

use boxoffice::audit::audit;
use boxoffice::model::{Command, SaleTerms};
use boxoffice::wal::{BLOCK_BYTES, SEGMENT_HEADER_BYTES};
use buyers::{Random, Round, SALES, STOCK, await_moment, seed, segments, setting};
use ledger::{Entry, Ledger};
use peer::{Peer, intent, payment, wanted};
use server::{Serve, Server, temporary_dir};

/// The smallest segment: a few hundred frames, so that many kills meet the step to the next.
const SEGMENT_BYTES: &str = "1052672";

/// Cuts the last frame off a shard's log, as a server would that lies about its disk.
fn cut_last_frame(data_dir: &Path, shard: u16) {
    let shard = data_dir.join(format!("shard-{shard:03}"));
    let files = segments(data_dir).into_iter().filter(|path| path.starts_with(&shard));
    for path in files.collect::<Vec<_>>().into_iter().rev() {
        let mut bytes = fs::read(&path).expect("it can be read");
        let starts = (SEGMENT_HEADER_BYTES..bytes.len()).step_by(BLOCK_BYTES);
        let last = starts.rev().find(|&start| bytes[start..].starts_with(b"BXFR"));
        if let Some(start) = last {
            bytes[start..].fill(0);
            fs::write(&path, bytes).expect("it can be written");
            return;
        }
    }
    panic!("the log has no frame");
}

#[test]
fn what_was_acknowledged_survives_kills_and_happens_once() {
    let rounds = setting("BOXOFFICE_CRASH_ROUNDS").unwrap_or(8);
    let mut random = Random(seed("crash"));
    // Each complete segment becomes a snapshot, so that kills meet the making of many.
    let mut server = Server::start_with(|serve| {
        let serve = serve.with_shards(2).with("--segment-bytes", SEGMENT_BYTES);
        serve.with("--snapshot-every", "1")
    });
    let mut peer = Peer::connect(server.address());
    for sale in SALES {
        peer.open_sale(sale, SaleTerms::default(), &STOCK);
    }
    let shards = NonZeroU16::new(2).expect("two");
    let homes = SALES.map(|sale| sale.shard(shards).0);
    assert_ne!(homes[0], homes[1], "each shard has a sale");
    let mut ledger = Ledger::default();
    for round in 1..=rounds {
        let start = ledger.entries.len();
        let buyers = Round::start(&server, &mut random, round);
        await_moment(&server, &mut random, round % 2 == 1);
        server.kill();
        ledger.entries.extend(buyers.end());
        server.restart();
        let mut peer = Peer::connect(server.address());
        let fresh = &ledger.entries[start..];
        let answered = fresh.iter().filter(|entry| entry.got.is_some()).count();
        println!("round {round}: {} requests, {answered} answered", fresh.len());
        let checked = ledger
            .check(&mut peer, start, &SALES)
            .and_then(|()| ledger.resend(&mut peer, start))
            .and_then(|()| ledger.check(&mut peer, start, &SALES));
        assert_eq!(checked, Ok(()), "round {round}");
    }
    server.kill();
    server.restart();
    let mut peer = Peer::connect(server.address());
    let checked = ledger.resend(&mut peer, 0).and_then(|()| ledger.check(&mut peer, 0, &SALES));
    assert_eq!(checked, Ok(()), "all rounds together");

    server.kill();
    let report = audit(server.data_dir()).expect("the logs can be read");
    assert!(report.is_clean(), "{report:?}");
    assert_lost_purchase_is_missed(server, ledger, homes[0]);
}

/// The checker's canary: one acknowledged purchase is taken out of the log.
fn assert_lost_purchase_is_missed(mut server: Server, mut ledger: Ledger, shard: u16) {
    server.restart();
    let mut peer = Peer::connect(server.address());
    let last = Command::Buy {
        intent: intent(SALES[0], 99, 99),
        lines: wanted(&[(1, 1)]),
        payment: payment("canary"),
    };
    let start = ledger.entries.len();
    let mut entry = Entry::new(last.clone());
    entry.answered(peer.ask(last));
    ledger.entries.push(entry);
    assert_eq!(ledger.check(&mut peer, start, &SALES), Ok(()), "it was bought");
    server.kill();
    cut_last_frame(server.data_dir(), shard);
    server.restart();
    let mut peer = Peer::connect(server.address());
    let complaint = ledger.check(&mut peer, start, &SALES).expect_err("the purchase is lost");
    assert!(complaint.contains("NotFound"), "{complaint}");
    let again = ledger.resend(&mut peer, start).expect_err("it was never made, says the server");
    assert!(again.contains("replayed: false"), "{again}");
}

#[test]
fn a_first_start_that_is_killed_leaves_a_directory_to_start_on() {
    let mut random = Random(seed("crash"));
    for round in 0..6 {
        let home = temporary_dir();
        let data_dir = home.path().join("data");
        let serve = Serve::on(&data_dir).with_shards(2).with("--segment-bytes", SEGMENT_BYTES);
        // Killed once or twice: the second start finds what the first one left.
        for _ in 0..=round % 2 {
            let mut child = serve.command().spawn().expect("the program can be run");
            thread::sleep(Duration::from_millis(random.below(80)));
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
        }
        let mut server = Server::start_on(&data_dir, serve);
        let mut peer = Peer::connect(server.address());
        peer.open_sale(SALES[0], SaleTerms::default(), &STOCK);
        let stats = peer.stats(SALES[0]);
        server.kill();
        server.restart();
        assert_eq!(Peer::connect(server.address()).stats(SALES[0]), stats);
    }
}
