//! The engine, step by step, against a naive model of the same rules.
//!
//! A failing case prints its smallest sequence of steps, and its seed is kept beside this file.
//! `PROPTEST_CASES=10000 cargo test --release --test engine` looks further.

#[path = "support/naive.rs"]
mod naive;
#[path = "support/engine_steps.rs"]
mod steps;

use std::collections::BTreeSet;
use std::mem::{Discriminant, discriminant};
use std::num::NonZeroU16;

use boxoffice::engine::{
    Decision, Engine, FENCES_PER_ACCOUNT_MAX, HashSeed, ORDERS_SCANNED_MAX, outcome,
};
use boxoffice::model::outcome::ORDERS_PAGE_MAX;
use boxoffice::model::record::Record;
use boxoffice::model::{
    AccountId, Command, Field, Intent, ItemCounts, ItemId, Line, OrderNumber, OrderView,
    PaymentRef, Quantity, Refusal, RefusalCode, RequestId, SaleId, SaleState, SaleStats,
    SaleSummary, TimeMs, Wanted, WantedLine,
};
use naive::{Flaw, Naive, Verdict};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use steps::{
    ACCOUNTS, REQUESTS, START, Step, extreme, item_terms, prologue, sale_terms, send, steps,
};

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
    /// None of an archived sale.
    orders: Option<Vec<OrderView>>,
    /// The orders again, listed for each account.
    listed: Vec<Vec<OrderView>>,
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
    let is_archived = stats.state == SaleState::Archived;
    if is_archived {
        let order = engine.order(sale, OrderNumber(1), now).err();
        assert_eq!(order, Some(Refusal::Closed), "nothing is known of its orders");
    }
    let request = |intent| engine.request(intent).map(|answer| answer.outcome);
    Seen {
        availability: engine.availability(sale).expect("a defined sale").collect(),
        stats,
        orders: (!is_archived).then(|| (1..=stats.orders).map(view).collect()),
        listed: (1..=ACCOUNTS).map(|account| list(engine, sale, AccountId(account), now)).collect(),
        requests: intents(sale).map(request).collect(),
    }
}

/// An account's orders, page by page; none of an archived sale.
fn list(engine: &Engine, sale: SaleId, account: AccountId, now: TimeMs) -> Vec<OrderView> {
    let (mut listed, mut after) = (Vec::new(), OrderNumber(0));
    let limit = NonZeroU16::new(2).expect("not zero");
    loop {
        let page = match engine.account_orders((sale, account), after, limit, now) {
            Ok(page) => page,
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Closed);
                return Vec::new();
            }
        };
        assert!(page.orders.len() <= 2, "a page has at most its limit");
        listed.extend(page.orders);
        match page.next {
            Some(next) => assert!(std::mem::replace(&mut after, next) < next, "it goes on"),
            None => return listed,
        }
    }
}

/// The sales with their totals, in pages of so many.
fn list_sales(engine: &Engine, limit: u16, now: TimeMs) -> Vec<SaleSummary> {
    let (mut listed, mut after) = (Vec::new(), None);
    let limit = NonZeroU16::new(limit).expect("not zero");
    loop {
        let page = engine.sales_page(after, limit, now);
        assert!(page.sales.len() <= usize::from(limit.get()), "a page has at most its limit");
        listed.extend(page.sales);
        match page.next {
            Some(next) => assert!(after.replace(next) < Some(next), "it goes on"),
            None => return listed,
        }
    }
}

fn see_naive(naive: &Naive, sale: SaleId, now: TimeMs) -> Seen {
    Seen {
        availability: naive.availability(sale, now).expect("a defined sale"),
        stats: naive.stats(sale, now).expect("a defined sale"),
        orders: naive.orders(sale, now),
        listed: (1..=ACCOUNTS)
            .map(|account| {
                let orders = naive.orders(sale, now).unwrap_or_default().into_iter();
                orders.filter(|order| order.account == AccountId(account)).collect()
            })
            .collect(),
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
    for limit in [1, 2, u16::MAX] {
        let stats = |&sale| SaleSummary { sale, stats: naive.stats(sale, shard.now).unwrap() };
        let expected = naive.sales().iter().map(stats).collect();
        same(&list_sales(&shard.engine, limit, shard.now), &expected, "the list of sales")?;
    }
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
            replica.reclaim();
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

/// One page looks at a bounded number of orders, whoever they belong to, and says where to go on.
#[test]
fn a_page_of_orders_is_bounded_work() {
    let steps = [
        Command::DefineSale { sale: SaleId(1), terms: sale_terms(None) },
        Command::DefineItem { sale: SaleId(1), item: ItemId(1), terms: item_terms(9_999, None) },
        Command::OpenSale { sale: SaleId(1) },
    ];
    let mut shard = Shard::new();
    for command in &steps {
        shard.execute(command);
    }
    let line = Line { item: ItemId(1), quantity: Quantity(1) };
    let lines = Wanted::new([WantedLine { line, price: None }]).expect("one line");
    let orders = ORDERS_SCANNED_MAX + 10;
    for order in 1..=orders {
        // The last ten are account 2's, the others account 1's.
        let account = AccountId(if order <= ORDERS_SCANNED_MAX { 1 } else { 2 });
        let intent = Intent { sale: SaleId(1), account, request: RequestId(order.into()) };
        let (lines, payment) = (lines.clone(), PaymentRef::default());
        shard.execute(&Command::Buy { intent, lines, payment });
    }
    let page = |account, after| {
        let of = (SaleId(1), AccountId(account));
        let page = shard.engine.account_orders(of, OrderNumber(after), NonZeroU16::MAX, shard.now);
        let page = page.expect("a sale");
        let numbers: Vec<u32> = page.orders.iter().map(|order| order.order.0).collect();
        (numbers, page.next)
    };
    assert_eq!(page(2, 0), (vec![], Some(OrderNumber(ORDERS_SCANNED_MAX))));
    let last_ten: Vec<u32> = (orders - 9..=orders).collect();
    assert_eq!(page(2, ORDERS_SCANNED_MAX), (last_ten, None));
    let most = u32::from(ORDERS_PAGE_MAX);
    assert_eq!(page(1, 0), ((1..=most).collect(), Some(OrderNumber(most))));
    assert_eq!(page(1, u32::MAX), (vec![], None));
    assert_eq!(page(3, 0), (vec![], None));
    let operator = (SaleId(1), AccountId::OPERATOR);
    let refused = shard.engine.account_orders(operator, OrderNumber(0), NonZeroU16::MIN, shard.now);
    assert_eq!(refused, Err(Refusal::BadRequest { field: Field::Account }));
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
    assert_eq!(records.len(), 13, "kinds of records");
    let expected = [
        RefusalCode::SoldOut,
        RefusalCode::NoneNow,
        RefusalCode::AccountLimit,
        RefusalCode::NotOpen,
        RefusalCode::Paused,
        RefusalCode::Closed,
        RefusalCode::NotClosed,
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
        Flaw::ExtendForEver,
        Flaw::RepeatSaysNewDeadline,
        Flaw::AnyBodyIsTheSame,
        Flaw::FenceForgets,
        Flaw::StockBeforeLimits,
        Flaw::EarlyStock,
        Flaw::CancelKeepsStock,
        Flaw::OpenWhenItCloses,
        Flaw::ArchiveWithHolds,
        Flaw::ArchiveRemembers,
        Flaw::ArchiveFreesId,
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
