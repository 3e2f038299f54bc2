//! What a seed decides before its run: the size of everything, and which faults there are.
//!
//! Each kind of fault is switched on or off by itself, and its rate drawn: runs in which
//! everything fails at once never get far, and those with a single kind get far into it.

use std::time::Duration;

use crate::random::Random;

/// The size of a run, and its faults. Rates are per mille of the opportunities; zero is never.
#[derive(Clone, Debug)]
pub struct Plan {
    pub shards: u16,
    pub segment_bytes: u64,
    pub sales: usize,
    pub buyers: usize,
    pub pipeline: usize,
    /// How many connections speak HTTP, of a thousand.
    pub http: u64,
    /// Messages that fit a mailbox between two shards.
    pub mailbox: usize,
    /// Requests that are made while faults happen, retries not counted.
    pub requests: u64,
    /// The slowest a buyer thinks, in microseconds.
    pub think_us: u64,
    /// The slowest an ordinary write is, in microseconds.
    pub write_us: u64,
    /// How often something happens that no request brings about.
    pub fault_every: Duration,
    pub crash: u64,
    pub stop: u64,
    pub clock_jump: u64,
    pub cut: u64,
    pub slow_reader: u64,
    pub slow_network: u64,
    pub duplicate: u64,
    pub stall: u64,
    pub write_error: u64,
    pub short_write: u64,
    pub no_space: u64,
    pub read_error: u64,
    pub crash_in_recovery: u64,
    pub flip: u64,
    pub misdirect: u64,
    pub stale: u64,
    pub snapshot: u64,
    pub spoiled_snapshot: u64,
    pub repartition: u64,
}

impl Plan {
    pub fn draw(random: &mut Random) -> Self {
        let quiet = random.chance(50);
        let (buyers, requests) = (random.between(2, 8), random.between(150, 700));
        let think_us = *random.pick(&[50, 1_000, 20_000, 200_000]);
        // So that each run has a few dozen occasions for faults, however long it takes.
        let about_us = requests * (think_us / 2 + 300) / buyers;
        let fault_every = (about_us / random.between(10, 60)).max(10_000);
        let fault_every = Duration::from_micros(fault_every);
        let mut rate = |most: u64| {
            let is_on = !quiet && random.chance(500);
            let drawn = random.between(1, most);
            if is_on { drawn } else { 0 }
        };
        Self {
            crash: rate(250),
            stop: rate(60),
            clock_jump: rate(200),
            cut: rate(600),
            slow_reader: rate(300),
            slow_network: rate(100),
            duplicate: rate(200),
            stall: rate(20),
            write_error: rate(4),
            short_write: rate(4),
            no_space: rate(200),
            read_error: rate(400),
            crash_in_recovery: rate(300),
            flip: rate(150),
            misdirect: rate(8),
            stale: rate(400),
            snapshot: rate(500),
            spoiled_snapshot: rate(300),
            repartition: rate(300),
            shards: random.between(1, 3) as u16,
            segment_bytes: *random.pick(&[32, 48, 64, 128]) << 10,
            sales: random.between(1, 4) as usize,
            buyers: buyers as usize,
            pipeline: random.between(1, 6) as usize,
            http: *random.pick(&[0, 300, 600, 1_000]),
            mailbox: *random.pick(&[1, 1, 2, 3, 4, 64]),
            requests,
            think_us,
            write_us: *random.pick(&[300, 300, 3_000, 20_000]),
            fault_every,
        }
    }
}
