//! Memory per order and the cost of one command in the engine alone.
//!
//! `cargo bench --bench memory` prints a line per kind of work: the median, over slices of the
//! run, of the CPU nanoseconds for deciding and applying one command, and the resident memory
//! that each order added. `cargo bench --bench memory -- buy 2000000` runs one kind at another
//! size. `archive` sells one sale out, archives it, frees its memory and sells the next one.
//!
//! Each kind runs in a process of its own, so that no memory is counted that an earlier one left.

use std::process::{Command as Process, ExitCode};
use std::time::{Duration, Instant};

use boxoffice::engine::{Decision, Engine, HashSeed, outcome};
use boxoffice::model::{
    AccountId, Command, Intent, ItemId, ItemTerms, Line, OrderNumber, Outcome, PaymentRef, Price,
    Quantity, Refusal, RequestId, SaleId, SaleTerms, TimeMs, Wanted, WantedLine,
};

const SALE: SaleId = SaleId(1);
const NEXT_SALE: SaleId = SaleId(2);
const NOW: TimeMs = TimeMs(1_800_000_000_000);
const ORDERS: u64 = 10_000_000;
const SLICES: u64 = 20;
/// What DESIGN allows one confirmed one-line order, with all indexes.
const BYTES_PER_ORDER_MAX: f64 = 128.0;

/// Requests that are prepared together, as a server does with those of one turn.
const BATCH: u64 = 16;

/// The kinds of work.
const KINDS: [(&str, Kind); 8] = [
    ("buy", Kind { holds: false, accounts: 0, batch: BATCH }),
    ("buy-one-by-one", Kind { holds: false, accounts: 0, batch: 1 }),
    ("buy-100k-accounts", Kind { holds: false, accounts: 100_000, batch: BATCH }),
    ("hold-confirm", Kind { holds: true, accounts: 0, batch: BATCH }),
    ("hold-confirm-one-by-one", Kind { holds: true, accounts: 0, batch: 1 }),
    ("hold-confirm-100k-accounts", Kind { holds: true, accounts: 100_000, batch: BATCH }),
    (SOLD_OUT, Kind { holds: false, accounts: 0, batch: BATCH }),
    (ARCHIVE, Kind { holds: false, accounts: 0, batch: BATCH }),
];
const SOLD_OUT: &str = "sold-out";
const ARCHIVE: &str = "archive";

/// What an archived order may leave behind: its share of the allocator's own leftovers.
const BYTES_LEFT_PER_ORDER_MAX: f64 = 4.0;

#[derive(Clone, Copy)]
struct Kind {
    /// Hold and confirm, instead of buying at once.
    holds: bool,
    /// The accounts that the orders are spread over; zero is a new one for each.
    accounts: u64,
    /// Requests prepared together; one is never prepared.
    batch: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let orders = arguments.get(1).and_then(|orders| orders.parse().ok()).unwrap_or(ORDERS);
    if let Some(kind) = arguments.first() {
        return run(kind, orders);
    }
    let program = std::env::current_exe().expect("a program has a path");
    println!("{ORDERS} orders a kind");
    for (kind, _) in KINDS {
        let status = Process::new(&program).args([kind, &orders.to_string()]).status();
        if !status.expect("the program runs").success() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run(name: &str, orders: u64) -> ExitCode {
    let Some(&(_, kind)) = KINDS.iter().find(|(known, _)| *known == name) else {
        eprintln!("unknown kind {name}; known: {:?}", KINDS.map(|(known, _)| known));
        return ExitCode::FAILURE;
    };
    if name == ARCHIVE {
        return run_archive(kind, orders);
    }
    let mut load = Load::new(kind, if name == SOLD_OUT { 0 } else { orders });
    let before = resident_bytes();
    let mut slices: Vec<f64> =
        (0..SLICES).map(|_| load.slice(name == SOLD_OUT, orders / SLICES)).collect();
    let bytes = (resident_bytes().saturating_sub(before)) as f64 / orders as f64;
    slices.sort_by(f64::total_cmp);
    let (best, median, worst) = (slices[0], slices[slices.len() / 2], slices[slices.len() - 1]);
    println!("{name:28} {median:5.0} ns ({best:.0} to {worst:.0})  {bytes:6.1} bytes per order");
    if bytes > BYTES_PER_ORDER_MAX { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What is left of a sale that was archived, and how long the longest step took.
fn run_archive(kind: Kind, orders: u64) -> ExitCode {
    let mut load = Load::new(kind, orders);
    let before = resident_bytes();
    load.slice(false, orders);
    let sold = resident_bytes().saturating_sub(before);
    commit(&mut load.engine, &Command::CloseSale { sale: SALE });
    let start = Instant::now();
    commit(&mut load.engine, &Command::ArchiveSale { sale: SALE });
    let archived = start.elapsed();
    let (mut steps, mut longest) = (0, Duration::ZERO);
    while load.engine.has_garbage() {
        let start = Instant::now();
        load.engine.reclaim();
        longest = longest.max(start.elapsed());
        steps += 1;
    }
    let left = resident_bytes().saturating_sub(before) as f64 / orders as f64;
    load.open_sale(NEXT_SALE, orders);
    load.slice(false, orders);
    let again = resident_bytes().saturating_sub(before);
    let per_order = |bytes: u64| bytes as f64 / orders as f64;
    println!(
        "{ARCHIVE:28} {left:6.1} bytes per order left of {:.1}; {:.1} with the next sale; \
         archived in {archived:?}, freed in {steps} steps of at most {longest:?}",
        per_order(sold),
        per_order(again),
    );
    let is_small = left <= BYTES_LEFT_PER_ORDER_MAX && per_order(again) <= BYTES_PER_ORDER_MAX;
    if is_small { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Load {
    engine: Engine,
    sale: SaleId,
    kind: Kind,
    made: u64,
    orders: Vec<Command>,
    confirms: Vec<Command>,
}

impl Load {
    /// An engine with one open sale of so many units.
    fn new(kind: Kind, stock: u64) -> Self {
        let engine = Engine::new(HashSeed([0x5eed, 0x10ad]));
        let intent = Intent { sale: SALE, account: AccountId(1), request: RequestId(1) };
        let line = Line { item: ItemId(1), quantity: Quantity(1) };
        let lines = Wanted::new([WantedLine { line, price: None }]).expect("one line");
        let payment = PaymentRef::new(b"payment-12345678").expect("a short reference");
        let order = OrderNumber(1);
        let confirm = Command::Confirm { intent, order, payment: payment.clone(), lines: None };
        let order = if kind.holds {
            Command::Hold { intent, lines, ttl: None }
        } else {
            Command::Buy { intent, lines, payment }
        };
        let batch = kind.batch as usize;
        let (orders, confirms) = (vec![order; batch], vec![confirm; batch]);
        let mut load = Self { engine, sale: SALE, kind, made: 0, orders, confirms };
        load.open_sale(SALE, stock);
        load
    }

    /// Opens a sale of so many units, which takes the orders from now on.
    fn open_sale(&mut self, sale: SaleId, stock: u64) {
        let terms = SaleTerms { account_limit: Some(Quantity(1_000)), ..SaleTerms::default() };
        let capacity = Quantity(u32::try_from(stock).expect("stock fits"));
        let limit = Some(Quantity(1_000));
        let item = ItemTerms { capacity, price: Price(500), account_limit: limit };
        commit(&mut self.engine, &Command::DefineSale { sale, terms });
        commit(&mut self.engine, &Command::DefineItem { sale, item: ItemId(1), terms: item });
        commit(&mut self.engine, &Command::OpenSale { sale });
        self.sale = sale;
    }

    /// Sends `count` orders and returns the nanoseconds for each command.
    fn slice(&mut self, sold_out: bool, count: u64) -> f64 {
        let start = cpu_ns();
        for _ in 0..count / self.kind.batch {
            self.fill();
            if self.kind.batch > 1 {
                self.engine.prepare(self.orders.iter().map(intent));
            }
            if sold_out {
                let refused = |order| self.engine.decide(order, NOW) == Err(Refusal::SoldOut);
                assert!(self.orders.iter().all(refused));
                continue;
            }
            for (order, confirm) in self.orders.iter().zip(&mut self.confirms) {
                let Some(number) = commit(&mut self.engine, order) else { continue };
                if let Command::Confirm { order, .. } = confirm {
                    *order = number;
                }
            }
            if self.kind.holds {
                if self.kind.batch > 1 {
                    self.engine.prepare(self.confirms.iter().map(intent));
                }
                for confirm in &self.confirms {
                    commit(&mut self.engine, confirm);
                }
            }
        }
        let commands = if self.kind.holds { 2 * count } else { count };
        (cpu_ns() - start) as f64 / commands as f64
    }

    /// Puts fresh ids into the batch.
    fn fill(&mut self) {
        let sale = self.sale;
        for (order, confirm) in self.orders.iter_mut().zip(&mut self.confirms) {
            self.made += 1;
            let spread = self.kind.accounts;
            let account = if spread == 0 { self.made } else { mix(self.made) % spread };
            let account = AccountId(u128::from(mix(account)) << 1 | 1);
            let request = u128::from(mix(self.made ^ 0x00ff_00ff)) << 64;
            if let Command::Buy { intent, .. } | Command::Hold { intent, .. } = order {
                *intent = Intent { sale, account, request: RequestId(request | 6) };
            }
            if let Command::Confirm { intent, .. } = confirm {
                *intent = Intent { sale, account, request: RequestId(request | 7) };
            }
        }
    }
}

/// The intent of a command of this load.
fn intent(command: &Command) -> Intent {
    match command {
        Command::Hold { intent, .. }
        | Command::Buy { intent, .. }
        | Command::Confirm { intent, .. } => *intent,
        other => unreachable!("{other:?} is not sent"),
    }
}

/// Executes a command and returns the order that it held, if it held one.
fn commit(engine: &mut Engine, command: &Command) -> Option<OrderNumber> {
    // By reference: a record is large to move.
    match &engine.decide(command, NOW) {
        Ok(Decision::Commit(record)) => {
            engine.apply(record);
            match outcome(record) {
                Outcome::Held { order, .. } => Some(order),
                _ => None,
            }
        }
        other => panic!("{command:?}: {other:?}"),
    }
}

/// The finalizer of `SplitMix64`: distinct, evenly spread ids.
const fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The time that this thread had a CPU, so that other programs on the machine count less.
fn cpu_ns() -> u64 {
    let schedstat =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux has /proc");
    let ns = schedstat.split(' ').next().and_then(|ns| ns.parse().ok());
    ns.expect("the first number of schedstat")
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has /proc");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("the second number of statm") * 4_096
}
