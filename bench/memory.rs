//! Memory per order and the cost of one command in the engine alone.
//!
//! `cargo bench --bench memory` prints a line per kind of work: the median, over slices of the
//! run, of the nanoseconds for deciding and applying one command, and the resident memory that
//! each order added. `cargo bench --bench memory -- buy 2000000` runs one kind at another size.
//!
//! Each kind runs in a process of its own, so that no memory is counted that an earlier one left.

use std::process::{Command as Process, ExitCode};
use std::time::Instant;

use boxoffice::engine::{Decision, Engine, HashSeed, outcome};
use boxoffice::model::record::Record;
use boxoffice::model::{
    AccountId, Command, Intent, ItemId, ItemTerms, Line, OrderNumber, PaymentRef, Price, Quantity,
    Refusal, RequestId, SaleId, SaleTerms, TimeMs, Wanted, WantedLine,
};

const SALE: SaleId = SaleId(1);
const NOW: TimeMs = TimeMs(1_800_000_000_000);
const ORDERS: u64 = 10_000_000;
const SLICES: u64 = 20;
/// What DESIGN allows one confirmed one-line order, with all indexes.
const BYTES_PER_ORDER_MAX: f64 = 128.0;

/// The kinds of work, and the accounts that each is spread over (zero: a new one per order).
const KINDS: [(&str, u64); 5] = [
    ("buy", 0),
    ("buy-100k-accounts", 100_000),
    ("hold-confirm", 0),
    ("hold-confirm-100k-accounts", 100_000),
    ("sold-out", 0),
];

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

fn run(kind: &str, orders: u64) -> ExitCode {
    let Some(&(_, accounts)) = KINDS.iter().find(|(name, _)| *name == kind) else {
        eprintln!("unknown kind {kind}; known: {KINDS:?}");
        return ExitCode::FAILURE;
    };
    let mut load = Load::new(accounts, if kind == "sold-out" { 0 } else { orders });
    let before = resident_bytes();
    let mut slices: Vec<f64> = (0..SLICES).map(|_| load.slice(kind, orders / SLICES)).collect();
    let bytes = (resident_bytes().saturating_sub(before)) as f64 / orders as f64;
    slices.sort_by(f64::total_cmp);
    let (median, worst) = (slices[slices.len() / 2], slices[slices.len() - 1]);
    println!("{kind:28} {median:6.0} ns (worst slice {worst:4.0})  {bytes:6.1} bytes per order");
    if bytes > BYTES_PER_ORDER_MAX { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

struct Load {
    engine: Engine,
    accounts: u64,
    made: u64,
    command: Command,
    confirm: Command,
}

impl Load {
    /// An engine with one open sale of so many units.
    fn new(accounts: u64, stock: u64) -> Self {
        let mut engine = Engine::new(HashSeed([0x5eed, 0x10ad]));
        let terms = SaleTerms { account_limit: Some(Quantity(1_000)), ..SaleTerms::default() };
        let capacity = Quantity(u32::try_from(stock).expect("stock fits"));
        let limit = Some(Quantity(1_000));
        let item = ItemTerms { capacity, price: Price(500), account_limit: limit };
        commit(&mut engine, &Command::DefineSale { sale: SALE, terms });
        commit(&mut engine, &Command::DefineItem { sale: SALE, item: ItemId(1), terms: item });
        commit(&mut engine, &Command::OpenSale { sale: SALE });
        let intent = Intent { sale: SALE, account: AccountId(1), request: RequestId(1) };
        let line = Line { item: ItemId(1), quantity: Quantity(1) };
        let lines = Wanted::new([WantedLine { line, price: None }]).expect("one line");
        let payment = PaymentRef::new(b"payment-12345678").expect("a short reference");
        let order = OrderNumber(1);
        let confirm = Command::Confirm { intent, order, payment: payment.clone(), lines: None };
        let command = Command::Buy { intent, lines, payment };
        Self { engine, accounts, made: 0, command, confirm }
    }

    /// Sends `count` orders and returns the nanoseconds for each command.
    fn slice(&mut self, kind: &str, count: u64) -> f64 {
        if let (true, Command::Buy { intent, lines, .. }) =
            (kind.starts_with("hold"), &self.command)
        {
            self.command = Command::Hold { intent: *intent, lines: lines.clone(), ttl: None };
        }
        let start = Instant::now();
        for _ in 0..count {
            self.made += 1;
            match kind {
                "sold-out" => self.refuse(),
                "buy" | "buy-100k-accounts" => {
                    self.order();
                }
                _ => self.order_and_confirm(),
            }
        }
        let commands = if kind.starts_with("hold") { 2 * count } else { count };
        start.elapsed().as_nanos() as f64 / commands as f64
    }

    fn next_intent(&self) -> Intent {
        let account = if self.accounts == 0 { self.made } else { mix(self.made) % self.accounts };
        Intent {
            sale: SALE,
            account: AccountId(u128::from(mix(account)) << 1 | 1),
            request: RequestId(u128::from(mix(self.made ^ 0x00ff_00ff)) << 64 | 7),
        }
    }

    fn order(&mut self) -> OrderNumber {
        let next = self.next_intent();
        if let Command::Buy { intent, .. } | Command::Hold { intent, .. } = &mut self.command {
            *intent = next;
        }
        match commit(&mut self.engine, &self.command) {
            Record::Bought(bought) => bought.order,
            Record::Held(held) => held.order,
            other => panic!("{other:?}"),
        }
    }

    fn order_and_confirm(&mut self) {
        let made = self.order();
        let next = self.next_intent();
        if let Command::Confirm { intent, order, .. } = &mut self.confirm {
            *intent = Intent { request: RequestId(next.request.0 ^ 1), ..next };
            *order = made;
        }
        commit(&mut self.engine, &self.confirm);
    }

    fn refuse(&mut self) {
        let next = self.next_intent();
        if let Command::Buy { intent, .. } = &mut self.command {
            *intent = next;
        }
        assert_eq!(self.engine.decide(&self.command, NOW), Err(Refusal::SoldOut));
    }
}

fn commit(engine: &mut Engine, command: &Command) -> Record {
    match engine.decide(command, NOW) {
        Ok(Decision::Commit(record)) => {
            engine.apply(&record);
            std::hint::black_box(outcome(&record));
            record
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

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has /proc");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("the second number of statm") * 4_096
}
