//! Buyers at work on a server that ends under them.
//!
//! What each one sends depends on its seed and on the answers that it gets; every request is
//! written down before it goes out. A buyer asks for one end of an order at most.
#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use boxoffice::model::{Command, OrderNumber, Outcome, SaleId};
use boxoffice::protocol::binary::Request;

use crate::ledger::Entry;
use crate::peer::{Got, Peer, intent, payment, wanted};
use crate::server::Server;

/// Two sales, which have different homes among two shards.
pub const SALES: [SaleId; 2] = [SaleId(1), SaleId(3)];

/// Of item 1 there is plenty; item 2 sells out.
pub const STOCK: [(u32, u32); 2] = [(1, 100_000_000), (2, 500)];

const BUYERS: u128 = 4;

/// Requests of one buyer in one round, at most.
const REQUESTS_MAX: usize = 5_000;

/// A number of the environment.
pub fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// The seed of this run of a test program, told so that it can be run again.
pub fn seed(program: &str) -> u64 {
    let clock = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        u64::from(since.expect("the clock is set").subsec_nanos())
    };
    let name = format!("BOXOFFICE_{}_SEED", program.to_uppercase());
    let seed = setting(&name).unwrap_or_else(clock);
    println!("replay: {name}={seed} cargo test --test {program}");
    seed
}

/// `SplitMix64` (Steele, Lea and Flood, 2014).
pub struct Random(pub u64);

impl Random {
    /// A number below this one.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
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
    /// Whether answers are worth anything.
    is_believing: Arc<AtomicBool>,
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
                // Asked behind the answer, which is thus older than the lies if it counts.
                if self.is_believing.load(Ordering::SeqCst) {
                    self.note(correlation as usize - 2, got);
                }
            }
            written.expect("every request was answered");
        }
        self.entries
    }
}

/// The buyers of one round.
pub struct Round {
    buyers: Vec<JoinHandle<Vec<Entry>>>,
    is_believing: Arc<AtomicBool>,
}

impl Round {
    /// Sends buyers to a server. Each round has request ids of its own.
    pub fn start(server: &Server, random: &mut Random, round: u64) -> Self {
        let is_believing = Arc::new(AtomicBool::new(true));
        let start = |account| {
            let peer = Peer::connect(server.address());
            let random = Random(random.below(u64::MAX));
            let (held, confirmed) = (vec![], vec![]);
            let round = u128::from(round);
            let is_believing = Arc::clone(&is_believing);
            let entries = vec![];
            let buyer = Buyer { account, round, random, entries, held, confirmed, is_believing };
            thread::spawn(move || buyer.run(peer))
        };
        let buyers = (1..=BUYERS).map(start).collect();
        Self { buyers, is_believing }
    }

    /// From here on the buyers take no answer for one, since the disk below is about to lie. They
    /// buy on.
    pub fn stop_believing(&self) {
        self.is_believing.store(false, Ordering::SeqCst);
    }

    /// What the buyers know, once the server has gone or they have enough.
    pub fn end(self) -> Vec<Entry> {
        let ended = self.buyers.into_iter().map(JoinHandle::join);
        ended.flat_map(|entries| entries.expect("a buyer's own checks hold")).collect()
    }
}

/// Waits for the moment of the cut: a random one, or where `at_segment` as soon as a segment
/// is prepared or taken into use.
pub fn await_moment(server: &Server, random: &mut Random, at_segment: bool) {
    let patience = 5 + random.below(100);
    let before = segments(server.data_dir());
    for _ in 0..patience {
        thread::sleep(Duration::from_millis(1));
        if at_segment && segments(server.data_dir()) != before {
            break;
        }
    }
}

/// The names of the segments of all shards.
pub fn segments(data_dir: &Path) -> Vec<PathBuf> {
    let shards = fs::read_dir(data_dir).into_iter().flatten();
    let shards = shards.filter_map(|entry| fs::read_dir(entry.ok()?.path()).ok());
    let mut files: Vec<_> = shards.flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files
}
