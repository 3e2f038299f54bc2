//! `kill -9` at random moments: what was acknowledged is there, once, and nothing else is.
//!
//! Buyers hold, buy, confirm, release and cancel over several connections, pipelined and through
//! two shards, until the server is killed; then it starts again on what the disk has, and every
//! answer that a buyer ever got is held against it. The seed is printed and can be set; the
//! moments of the kills are the machine's own.
//!
//! `BOXOFFICE_CRASH_ROUNDS=50 BOXOFFICE_CRASH_SEED=1 cargo test --test crash` is the long form.

#[path = "support/ledger.rs"]
mod ledger;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use boxoffice::audit::audit;
use boxoffice::model::{Command, OrderNumber, Outcome, SaleId, SaleTerms};
use boxoffice::protocol::binary::Request;
use boxoffice::wal::{BLOCK_BYTES, SEGMENT_HEADER_BYTES};
use ledger::{Entry, Ledger};
use peer::{Got, Peer, intent, payment, wanted};
use server::{Serve, Server, temporary_dir};

/// The smallest segment: a few hundred frames, so that many kills meet the step to the next.
const SEGMENT_BYTES: &str = "1052672";

/// Two sales, which have different homes among two shards.
const SALES: [SaleId; 2] = [SaleId(1), SaleId(3)];

/// Of item 1 there is plenty; item 2 sells out.
const STOCK: [(u32, u32); 2] = [(1, 100_000_000), (2, 500)];

const BUYERS: u128 = 4;

/// Requests of one buyer in one round, at most.
const REQUESTS_MAX: usize = 5_000;

/// `SplitMix64` (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// The seed of this run, told so that it can be run again.
fn seed() -> u64 {
    let clock = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        u64::from(since.expect("the clock is set").subsec_nanos())
    };
    let seed = setting("BOXOFFICE_CRASH_SEED").unwrap_or_else(clock);
    println!("replay: BOXOFFICE_CRASH_SEED={seed} cargo test --test crash");
    seed
}

/// One buyer of one round: what it sends depends on its seed and on the answers it gets.
struct Buyer {
    account: u128,
    round: u128,
    random: Random,
    entries: Vec<Entry>,
    /// Orders of this round that are held, and that are confirmed, and have no end asked for.
    held: Vec<(SaleId, OrderNumber)>,
    confirmed: Vec<(SaleId, OrderNumber)>,
}

impl Buyer {
    fn next_command(&mut self) -> Command {
        let request = self.round << 32 | self.entries.len() as u128;
        let sale = SALES[self.random.below(2) as usize];
        let who = |sale| intent(sale, self.account, request);
        let lines = match self.random.below(4) {
            0 => wanted(&[(2, 1)]),
            1 => wanted(&[(1, 1), (2, 2)]),
            _ => wanted(&[(1, 1 + self.random.below(4) as u32)]),
        };
        match self.random.below(6) {
            0 | 1 => Command::Hold { intent: who(sale), lines, ttl: None },
            2 if !self.held.is_empty() => {
                let (sale, order) = self.held.swap_remove(0);
                let payment = payment("card");
                Command::Confirm { intent: who(sale), order, payment, lines: None }
            }
            3 if !self.held.is_empty() => {
                let (sale, order) = self.held.swap_remove(0);
                Command::Release { intent: who(sale), order }
            }
            4 if !self.confirmed.is_empty() => {
                let (sale, order) = self.confirmed.swap_remove(0);
                Command::Cancel { intent: who(sale), order, lines: None }
            }
            _ => Command::Buy { intent: who(sale), lines, payment: payment("cash") },
        }
    }

    fn note(&mut self, index: usize, got: Got) {
        let entry = &mut self.entries[index];
        if let (Command::Hold { intent, .. } | Command::Buy { intent, .. }, Ok(answer)) =
            (&entry.command, &got)
        {
            match answer.outcome {
                Outcome::Held { order, .. } => self.held.push((intent.sale, order)),
                Outcome::Confirmed { order } => self.confirmed.push((intent.sale, order)),
                _ => {}
            }
        }
        entry.answered(got);
    }

    /// Buys until the server is gone or there is enough; what is known then.
    fn run(mut self, mut peer: Peer) -> Vec<Entry> {
        while self.entries.len() < REQUESTS_MAX {
            let start = self.entries.len();
            for _ in 0..=self.random.below(64) {
                let command = self.next_command();
                self.entries.push(Entry::new(command));
            }
            let requests: Vec<_> = self.entries[start..]
                .iter()
                .map(|entry| Request::Command(entry.command.clone()))
                .collect();
            let bytes = peer.encode(&requests);
            // Answers may wait even where the server is gone before all was written.
            let written = peer.write(&bytes);
            // Hello was the first correlation id.
            for _ in start..self.entries.len() {
                let Some((correlation, got)) = peer.read_answer() else { return self.entries };
                self.note(correlation as usize - 2, got);
            }
            written.expect("every request was answered");
        }
        self.entries
    }
}

/// The names of the segments of all shards.
fn segments(data_dir: &Path) -> Vec<PathBuf> {
    let shards = fs::read_dir(data_dir).expect("it can be listed");
    let shards = shards.filter_map(|entry| fs::read_dir(entry.ok()?.path()).ok());
    let mut files: Vec<_> = shards.flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files
}

/// Buyers at work, and then the kill: at a random moment, or as soon as a segment is prepared or
/// taken into use.
fn crash_round(server: &mut Server, random: &mut Random, round: u64) -> Vec<Entry> {
    let buyers: Vec<_> = (1..=BUYERS)
        .map(|account| {
            let peer = Peer::connect(server.address());
            let random = Random(random.below(u64::MAX));
            let (held, confirmed) = (vec![], vec![]);
            let round = u128::from(round);
            let buyer = Buyer { account, round, random, entries: vec![], held, confirmed };
            thread::spawn(move || buyer.run(peer))
        })
        .collect();
    let patience = 5 + random.below(100);
    let before = segments(server.data_dir());
    for _ in 0..patience {
        thread::sleep(Duration::from_millis(1));
        if round % 2 == 1 && segments(server.data_dir()) != before {
            break;
        }
    }
    server.kill();
    buyers.into_iter().flat_map(|buyer| buyer.join().expect("a buyer's own checks hold")).collect()
}

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
    let mut random = Random(seed());
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
        ledger.entries.extend(crash_round(&mut server, &mut random, round));
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
    let mut random = Random(seed());
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
