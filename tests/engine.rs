//! The engine, step by step, against a naive model of the same rules.
//!
//! A failing case prints its smallest sequence of steps, and its seed is kept beside this file.
//! `PROPTEST_CASES=10000 cargo test --release --test engine` looks further.

#[path = "support/naive.rs"]
mod naive;

use std::collections::BTreeSet;
use std::mem::{Discriminant, discriminant};

use boxoffice::engine::{Decision, Engine, FENCES_PER_ACCOUNT_MAX, HashSeed, outcome};
use boxoffice::model::record::Record;
use boxoffice::model::{
    AccountId, Command, DurationMs, Intent, ItemCounts, ItemId, ItemTerms, Line, Lines,
    OrderNumber, OrderView, PaymentRef, Price, Quantity, Refusal, RefusalCode, RequestId, SaleId,
    SaleStats, SaleTerms, TimeMs, Wanted, WantedLine,
};
use naive::{Flaw, Naive, Verdict};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

const START: TimeMs = TimeMs(1_800_000_000_000);
const ACCOUNTS: u128 = 4;
const REQUESTS: u128 = 24;

/// One step of a test.
#[derive(Clone, Debug)]
enum Step {
    Command(Box<Command>),
    /// Sends the command of an earlier step again.
    Again(prop::sample::Index),
    Pass(u64),
    /// Expires up to this many holds.
    Expire(usize),
}

fn send(command: Command) -> Step {
    Step::Command(Box::new(command))
}

/// The engine under test, with the log that its server would have written.
struct Shard {
    engine: Engine,
    log: Vec<Record>,
    now: TimeMs,
    refused: BTreeSet<RefusalCode>,
}

impl Shard {
    fn new() -> Self {
        Self {
            engine: Engine::new(HashSeed([1, 2])),
            log: Vec::new(),
            now: START,
            refused: BTreeSet::new(),
        }
    }

    fn commit(&mut self, record: Record) {
        self.engine.apply(&record);
        self.log.push(record);
    }

    fn execute(&mut self, command: &Command) -> Verdict {
        match self.engine.decide(command, self.now) {
            Ok(Decision::Commit(record)) => {
                let outcome = outcome(&record);
                self.commit(record);
                Verdict::Executed(outcome)
            }
            Ok(Decision::Replayed(outcome)) => Verdict::Repeated(outcome),
            Err(refusal) => {
                self.refused.insert(refusal.code());
                Verdict::Refused(refusal)
            }
        }
    }

    /// The next overdue hold, however many calls that takes.
    fn poll(&mut self) -> Option<Record> {
        while self.engine.next_expiry().is_some_and(|next| next <= self.now) {
            if let Some(record) = self.engine.poll_expired(self.now) {
                return Some(record);
            }
        }
        assert_eq!(self.engine.poll_expired(self.now), None);
        None
    }
}

/// All that can be read of a sale.
#[derive(Debug, PartialEq)]
struct Seen {
    availability: Vec<ItemCounts>,
    stats: SaleStats,
    orders: Vec<OrderView>,
    requests: Vec<Result<boxoffice::model::Outcome, Refusal>>,
}

fn intents(sale: SaleId) -> impl Iterator<Item = Intent> {
    (0..=ACCOUNTS).flat_map(move |account| {
        (0..REQUESTS).map(move |request| Intent {
            sale,
            account: AccountId(account),
            request: RequestId(request),
        })
    })
}

fn see_engine(engine: &Engine, sale: SaleId, now: TimeMs) -> Seen {
    let stats = engine.stats(sale, now).expect("a defined sale");
    let view = |number| engine.order(sale, OrderNumber(number), now).expect("an order").into();
    let request = |intent| engine.request(intent).map(|answer| answer.outcome);
    Seen {
        availability: engine.availability(sale).expect("a defined sale").collect(),
        stats,
        orders: (1..=stats.orders).map(view).collect(),
        requests: intents(sale).map(request).collect(),
    }
}

fn see_naive(naive: &Naive, sale: SaleId, now: TimeMs) -> Seen {
    Seen {
        availability: naive.availability(sale, now).expect("a defined sale"),
        stats: naive.stats(sale, now).expect("a defined sale"),
        orders: naive.orders(sale, now),
        requests: intents(sale).map(|intent| naive.request(intent)).collect(),
    }
}

fn see_all(engine: &Engine, now: TimeMs) -> Vec<(SaleId, Seen)> {
    let mut sales: Vec<SaleId> = engine.sales().collect();
    sales.sort_unstable();
    sales.into_iter().map(|sale| (sale, see_engine(engine, sale, now))).collect()
}

fn same<T: PartialEq + std::fmt::Debug>(engine: &T, naive: &T, what: &str) -> Result<(), String> {
    if engine == naive {
        return Ok(());
    }
    Err(format!("{what}\n engine: {engine:?}\n  model: {naive:?}"))
}

/// Runs steps on both and compares after each; the shard at the end, or the first difference.
fn compare(steps: &[Step], flaw: Option<Flaw>) -> Result<Shard, String> {
    let (mut shard, mut naive) = (Shard::new(), Naive::new(flaw));
    let mut sent: Vec<Command> = Vec::new();
    for step in steps {
        match step {
            Step::Pass(ms) => shard.now.0 += ms,
            Step::Expire(count) => {
                for _ in 0..*count {
                    expire_one(&mut shard, &mut naive)?;
                }
            }
            Step::Command(command) => {
                let engine = shard.execute(command);
                same(&engine, &naive.execute(command, shard.now), &format!("{command:?}"))?;
                sent.push(command.as_ref().clone());
            }
            Step::Again(_) if sent.is_empty() => {}
            Step::Again(index) => {
                let command = index.get(&sent);
                let engine = shard.execute(command);
                same(&engine, &naive.execute(command, shard.now), &format!("{command:?}"))?;
            }
        }
        compare_views(&shard, &naive)?;
    }
    Ok(shard)
}

fn expire_one(shard: &mut Shard, naive: &mut Naive) -> Result<(), String> {
    let overdue = naive.overdue(shard.now);
    let Some(record) = shard.poll() else {
        return same(&Vec::new(), &overdue, "overdue holds");
    };
    let Record::Expired(expired) = &record else { return Err(format!("polled {record:?}")) };
    let (sale, order) = (expired.sale, expired.order);
    if !overdue.contains(&(sale, order)) {
        return Err(format!("order {order} of sale {sale} is not overdue"));
    }
    naive.expire(sale, order);
    shard.commit(record);
    Ok(())
}

fn compare_views(shard: &Shard, naive: &Naive) -> Result<(), String> {
    let mut sales: Vec<SaleId> = shard.engine.sales().collect();
    sales.sort_unstable();
    same(&sales, &naive.sales(), "sales")?;
    for sale in sales {
        let engine = see_engine(&shard.engine, sale, shard.now);
        same(&engine, &see_naive(naive, sale, shard.now), "views")?;
    }
    match (shard.engine.next_expiry(), naive.first_deadline()) {
        (None, None) => Ok(()),
        (Some(next), Some(first)) if next <= first => Ok(()),
        (next, first) => Err(format!("next expiry {next:?}, first deadline {first:?}")),
    }
}

// --- What is sent ------------------------------------------------------------------------------

fn sale_terms(account_limit: Option<u32>) -> SaleTerms {
    SaleTerms {
        hold_ttl: DurationMs(4_000),
        account_limit: account_limit.map(Quantity),
        ..SaleTerms::default()
    }
}

fn item_terms(capacity: u32, account_limit: Option<u32>) -> ItemTerms {
    let account_limit = account_limit.map(Quantity);
    ItemTerms { capacity: Quantity(capacity), price: Price(500), account_limit }
}

/// Two sales with items and limits; sale 1 is open, sale 2 opens and closes by its window.
fn prologue() -> Vec<Command> {
    let window = SaleTerms {
        opens_at: Some(TimeMs(START.0 + 2_000)),
        closes_at: Some(TimeMs(START.0 + 20_000)),
        ..sale_terms(None)
    };
    let (one, two) = (SaleId(1), SaleId(2));
    let item = |sale, item, terms| Command::DefineItem { sale, item: ItemId(item), terms };
    vec![
        Command::DefineSale { sale: one, terms: sale_terms(Some(9)) },
        item(one, 1, item_terms(8, None)),
        item(one, 7, item_terms(6, Some(3))),
        item(one, 4, item_terms(12, Some(5))),
        Command::OpenSale { sale: one },
        Command::DefineSale { sale: two, terms: window },
        item(two, 1, item_terms(5, Some(4))),
    ]
}

fn sale() -> impl Strategy<Value = SaleId> {
    prop_oneof![8 => Just(SaleId(1)), 3 => Just(SaleId(2)), 1 => Just(SaleId(3))]
}

fn item() -> impl Strategy<Value = ItemId> {
    prop_oneof![5 => Just(1), 5 => Just(7), 5 => Just(4), 1 => Just(2)].prop_map(ItemId)
}

fn intent() -> impl Strategy<Value = Intent> {
    let account = prop_oneof![1 => Just(0), 40 => 1..=ACCOUNTS];
    (sale(), account, 0..REQUESTS).prop_map(|(sale, account, request)| Intent {
        sale,
        account: AccountId(account),
        request: RequestId(request),
    })
}

fn line() -> impl Strategy<Value = Line> {
    (item(), 1..5_u32).prop_map(|(item, units)| Line { item, quantity: Quantity(units) })
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let price = prop_oneof![6 => Just(None), 2 => Just(Some(500)), 1 => Just(Some(501))];
    prop::collection::vec((line(), price), 1..4).prop_filter_map("repeated items", |lines| {
        let lines = lines.into_iter();
        Wanted::new(lines.map(|(line, price)| WantedLine { line, price: price.map(Price) })).ok()
    })
}

fn chosen() -> impl Strategy<Value = Option<Lines>> {
    let lines = prop::collection::vec(line(), 1..3)
        .prop_filter_map("repeated items", |lines| Lines::new(lines).ok());
    prop::option::of(lines)
}

fn payment() -> impl Strategy<Value = PaymentRef> {
    prop_oneof![Just(""), Just("paid")]
        .prop_map(|text| PaymentRef::new(text.as_bytes()).expect("a short reference"))
}

fn order() -> impl Strategy<Value = OrderNumber> {
    (0..14_u32).prop_map(OrderNumber)
}

fn ttl() -> impl Strategy<Value = Option<DurationMs>> {
    prop::option::of(prop_oneof![Just(999), 1_000..4_000_u32, Just(4_000), Just(4_001)])
        .prop_map(|ttl| ttl.map(DurationMs))
}

fn time() -> impl Strategy<Value = Option<TimeMs>> {
    prop::option::of((0..60_u64).prop_map(|half| TimeMs(START.0 + half * 500)))
}

fn limit() -> impl Strategy<Value = Option<Quantity>> {
    prop::option::of((0..9_u32).prop_map(Quantity))
}

fn terms() -> impl Strategy<Value = SaleTerms> {
    let hold_ttl = prop_oneof![1 => Just(999), 5 => Just(4_000), 1 => Just(604_800_001)];
    (time(), time(), hold_ttl, limit()).prop_map(|(opens_at, closes_at, ttl, account_limit)| {
        SaleTerms { opens_at, closes_at, hold_ttl: DurationMs(ttl), account_limit }
    })
}

fn administration() -> impl Strategy<Value = Command> {
    let capacity = prop_oneof![8 => 0..9_u32, 1 => Just(1_000_000_001)];
    let item_terms = (capacity, limit()).prop_map(|(capacity, account_limit)| ItemTerms {
        capacity: Quantity(capacity),
        price: Price(500),
        account_limit,
    });
    prop_oneof![
        4 => (sale(), terms()).prop_map(|(sale, terms)| Command::DefineSale { sale, terms }),
        4 => (sale(), item(), item_terms)
            .prop_map(|(sale, item, terms)| Command::DefineItem { sale, item, terms }),
        12 => (sale(), 0..REQUESTS, item(), -9..9_i64).prop_map(|(sale, request, item, by)| {
            Command::Restock { sale, request: RequestId(request), item, by }
        }),
        9 => sale().prop_map(|sale| Command::OpenSale { sale }),
        3 => sale().prop_map(|sale| Command::PauseSale { sale }),
        1 => sale().prop_map(|sale| Command::CloseSale { sale }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        10 => (intent(), wanted(), ttl())
            .prop_map(|(intent, lines, ttl)| Command::Hold { intent, lines, ttl }),
        8 => (intent(), wanted(), payment())
            .prop_map(|(intent, lines, payment)| Command::Buy { intent, lines, payment }),
        8 => (intent(), order(), payment(), chosen()).prop_map(
            |(intent, order, payment, lines)| Command::Confirm { intent, order, payment, lines }
        ),
        5 => (intent(), order()).prop_map(|(intent, order)| Command::Release { intent, order }),
        5 => (intent(), order()).prop_map(|(intent, order)| Command::Extend { intent, order }),
        5 => (intent(), order(), chosen())
            .prop_map(|(intent, order, lines)| Command::Cancel { intent, order, lines }),
        2 => intent().prop_map(|intent| Command::Fence { intent }),
        5 => administration(),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        16 => command().prop_map(send),
        3 => any::<prop::sample::Index>().prop_map(Step::Again),
        3 => prop_oneof![0..3_u64, Just(1_000), 0..5_000_u64, Just(4_000)].prop_map(Step::Pass),
        1 => (0..4_usize).prop_map(Step::Expire),
    ];
    prop::collection::vec(step, 1..160)
        .prop_map(|steps| prologue().into_iter().map(send).chain(steps).collect())
}

// --- The tests ---------------------------------------------------------------------------------

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: cases.unwrap_or(120), max_shrink_iters: 20_000, ..Default::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_engine_agrees_with_the_model_step_by_step(steps in steps()) {
        if let Err(difference) = compare(&steps, None) {
            panic!("{difference}");
        }
    }

    /// The log alone gives the same state, whatever the hash seed, and in whatever order the
    /// holds expire that are left.
    #[test]
    fn a_replay_gives_the_same_state(steps in steps()) {
        let mut shard = compare(&steps, None).unwrap_or_else(|difference| panic!("{difference}"));
        let mut replica = Engine::new(HashSeed([3, 4]));
        for record in &shard.log {
            replica.apply(record);
        }
        prop_assert_eq!(see_all(&shard.engine, shard.now), see_all(&replica, shard.now));

        shard.now.0 += 10_000;
        let mut expired = Vec::new();
        while let Some(record) = shard.poll() {
            expired.push(record.clone());
            shard.commit(record);
        }
        for record in expired.iter().rev() {
            replica.apply(record);
        }
        prop_assert_eq!(see_all(&shard.engine, shard.now), see_all(&replica, shard.now));
        prop_assert_eq!(shard.engine.next_expiry(), None);
        prop_assert_eq!(replica.next_expiry(), None);
    }

    /// Extreme values in any field, at any time: a refusal or a record that can be applied.
    #[test]
    fn extreme_commands_never_panic(commands in prop::collection::vec(extreme(), 1..80)) {
        let mut shard = Shard::new();
        for command in prologue() {
            shard.execute(&command);
        }
        for (command, passes) in commands {
            shard.now = TimeMs(shard.now.0.saturating_add(passes));
            shard.execute(&command);
            for _ in 0..4 {
                if let Some(record) = shard.engine.poll_expired(shard.now) {
                    shard.commit(record);
                }
            }
        }
        let seen = see_all(&shard.engine, shard.now);
        for counts in seen.iter().flat_map(|(_, seen)| &seen.availability) {
            let sum = counts.available.0 + counts.held.0 + counts.sold.0;
            prop_assert_eq!(sum, counts.capacity.0);
        }
    }
}

/// A command with extreme numbers, and how much time passes before it.
fn extreme() -> impl Strategy<Value = (Command, u64)> {
    let edge = prop_oneof![
        Just(0),
        Just(1),
        Just(2),
        Just(7),
        Just(u128::MAX),
        Just(u128::from(u32::MAX)),
        Just(1_000_000_000),
        any::<u128>()
    ];
    let passes = prop_oneof![9 => 0..5_000_u64, 1 => any::<u64>(), 1 => Just(u64::MAX)];
    (command(), prop::collection::vec(edge, 8), passes)
        .prop_map(|(command, edges, passes)| (with_edges(command, &edges), passes))
}

fn with_edges(command: Command, edges: &[u128]) -> Command {
    let line = |at: usize| Line {
        item: ItemId(edges[at] as u32),
        quantity: Quantity((edges[at + 1] as u32).max(1)),
    };
    match command {
        Command::Hold { intent, .. } => {
            let wanted = [0, 2].map(|at| WantedLine { line: line(at), price: None });
            let lines = Wanted::new(wanted[..1].iter().copied()).expect("one line");
            let lines = Wanted::new(wanted).unwrap_or(lines);
            Command::Hold { intent, lines, ttl: Some(DurationMs(edges[4] as u32)) }
        }
        Command::Confirm { intent, payment, .. } => {
            let lines = Some(Lines::new([line(0)]).expect("one line"));
            Command::Confirm { intent, order: OrderNumber(edges[4] as u32), payment, lines }
        }
        Command::Cancel { intent, .. } => {
            let account = AccountId(edges[0]);
            let intent = Intent { account, request: RequestId(edges[1]), ..intent };
            Command::Cancel { intent, order: OrderNumber(edges[2] as u32), lines: None }
        }
        Command::Fence { intent } => {
            let request = RequestId(edges[1]);
            Command::Fence { intent: Intent { account: AccountId(edges[0]), request, ..intent } }
        }
        Command::Restock { sale, request, item, .. } => {
            Command::Restock { sale, request, item, by: edges[0] as i64 }
        }
        Command::DefineSale { .. } => {
            let time = |at: usize| Some(TimeMs(edges[at] as u64));
            let terms = SaleTerms {
                opens_at: time(0),
                closes_at: time(1),
                hold_ttl: DurationMs(edges[2] as u32),
                account_limit: Some(Quantity(edges[3] as u32)),
            };
            Command::DefineSale { sale: SaleId(edges[4] as u64), terms }
        }
        Command::DefineItem { sale, .. } => {
            let capacity = Quantity(edges[1] as u32);
            let price = Price(edges[2] as u64);
            let terms = ItemTerms { capacity, price, account_limit: None };
            Command::DefineItem { sale, item: ItemId(edges[0] as u32), terms }
        }
        other => other,
    }
}

/// One request id more than an account may fence is refused; fencing one again costs nothing.
#[test]
fn fences_are_bounded_per_account() {
    let fence = |account, request| {
        let (account, request) = (AccountId(account), RequestId(request));
        Command::Fence { intent: Intent { sale: SaleId(1), account, request } }
    };
    let most = u128::from(FENCES_PER_ACCOUNT_MAX);
    let fences = (0..most).map(|request| fence(1, request));
    let more = [fence(1, 0), fence(1, most), fence(2, most)];
    let steps: Vec<Step> = prologue().into_iter().chain(fences).chain(more).map(send).collect();
    let shard = compare(&steps, None).unwrap_or_else(|difference| panic!("{difference}"));
    let refused = shard.engine.decide(&fence(1, most), shard.now);
    assert_eq!(refused, Err(Refusal::AccountLimit));
}

/// The random steps are worth something: they lead to every kind of record and of refusal.
#[test]
fn the_steps_reach_every_answer() {
    let mut runner = TestRunner::deterministic();
    let mut records: Vec<Discriminant<Record>> = Vec::new();
    let mut refused = BTreeSet::new();
    for _ in 0..150 {
        let steps = steps().new_tree(&mut runner).expect("steps").current();
        let shard = compare(&steps, None).unwrap_or_else(|difference| panic!("{difference}"));
        refused.extend(shard.refused);
        for kind in shard.log.iter().map(discriminant) {
            if !records.contains(&kind) {
                records.push(kind);
            }
        }
    }
    assert_eq!(records.len(), 12, "kinds of records");
    let expected = [
        RefusalCode::SoldOut,
        RefusalCode::NoneNow,
        RefusalCode::AccountLimit,
        RefusalCode::NotOpen,
        RefusalCode::Paused,
        RefusalCode::Closed,
        RefusalCode::HoldExpired,
        RefusalCode::WrongState,
        RefusalCode::KeyConflict,
        RefusalCode::PriceMismatch,
        RefusalCode::NotFound,
        RefusalCode::BadRequest,
        RefusalCode::Forbidden,
    ];
    assert_eq!(refused, BTreeSet::from(expected));
}

/// The canary of the comparison: a model with one rule broken is told apart.
#[test]
fn the_comparison_notices_every_flaw() {
    let flaws = [
        Flaw::NoAccountLimit,
        Flaw::NoItemLimit,
        Flaw::ReleaseKeepsLimit,
        Flaw::PartialConfirmKeepsRest,
        Flaw::ConfirmAtDeadline,
        Flaw::RepeatSaysNewDeadline,
        Flaw::AnyBodyIsTheSame,
        Flaw::FenceForgets,
        Flaw::StockBeforeLimits,
        Flaw::EarlyStock,
        Flaw::CancelKeepsStock,
        Flaw::OpenWhenItCloses,
    ];
    for flaw in flaws {
        let mut runner = TestRunner::deterministic();
        let noticed = (0..2_000).find(|_| {
            let steps = steps().new_tree(&mut runner).expect("steps").current();
            compare(&steps, Some(flaw)).is_err()
        });
        assert!(noticed.is_some(), "{flaw:?} went unnoticed");
    }
}
