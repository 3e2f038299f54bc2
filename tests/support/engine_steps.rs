//! Random steps for an engine: two sales, a few accounts and request ids, and what they may ask.

use boxoffice::model::{
    AccountId, Command, DurationMs, Intent, ItemId, ItemTerms, Line, Lines, OrderNumber,
    PaymentRef, Price, Quantity, RequestId, SaleId, SaleTerms, TimeMs, Wanted, WantedLine,
};
use proptest::prelude::*;

/// When a test starts.
pub const START: TimeMs = TimeMs(1_800_000_000_000);
/// The accounts that ask: 1 to this.
pub const ACCOUNTS: u128 = 4;
/// The request ids that they use: below this.
pub const REQUESTS: u128 = 24;

/// One step of a test.
#[derive(Clone, Debug)]
pub enum Step {
    Command(Box<Command>),
    /// Sends the command of an earlier step again.
    Again(prop::sample::Index),
    Pass(u64),
    /// Expires up to this many holds.
    Expire(usize),
}

/// A step that sends a command.
pub fn send(command: Command) -> Step {
    Step::Command(Box::new(command))
}

pub fn sale_terms(account_limit: Option<u32>) -> SaleTerms {
    SaleTerms {
        hold_ttl: DurationMs(4_000),
        account_limit: account_limit.map(Quantity),
        ..SaleTerms::default()
    }
}

pub fn item_terms(capacity: u32, account_limit: Option<u32>) -> ItemTerms {
    let account_limit = account_limit.map(Quantity);
    ItemTerms { capacity: Quantity(capacity), price: Price(500), account_limit }
}

/// Two sales with items and limits; sale 1 is open, sale 2 opens and closes by its window.
pub fn prologue() -> Vec<Command> {
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
        3 => sale().prop_map(|sale| Command::ArchiveSale { sale }),
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

/// The same hold extended twice by one buyer, which two commands drawn apart hardly ever are.
fn extended_twice() -> impl Strategy<Value = Vec<Step>> {
    (intent(), order()).prop_map(|(intent, order)| {
        let next = RequestId((intent.request.0 + 1) % REQUESTS);
        let intents = [intent, Intent { request: next, ..intent }];
        intents.map(|intent| send(Command::Extend { intent, order })).into()
    })
}

/// The prologue, and what happens then.
pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let passes = prop_oneof![0..3_u64, Just(1_000), 0..5_000_u64, Just(4_000)];
    let steps = prop_oneof![
        16 => command().prop_map(|command| vec![send(command)]),
        2 => extended_twice(),
        3 => any::<prop::sample::Index>().prop_map(|earlier| vec![Step::Again(earlier)]),
        3 => passes.prop_map(|passes| vec![Step::Pass(passes)]),
        1 => (0..4_usize).prop_map(|holds| vec![Step::Expire(holds)]),
    ];
    prop::collection::vec(steps, 1..160).prop_map(|steps| {
        prologue().into_iter().map(send).chain(steps.into_iter().flatten()).collect()
    })
}

/// A command with extreme numbers, and how much time passes before it.
pub fn extreme() -> impl Strategy<Value = (Command, u64)> {
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
