//! The golden frames: the files of `tests/data/protocol`, and the values that they stand for.

use std::num::NonZeroU16;
use std::path::Path;

use boxoffice::model::{
    AccountId, Answer, Command, DurationMs, Field, Intent, ItemCounts, ItemId, ItemTerms, Line,
    Lines, OrderNumber, OrderPage, OrderState, OrderView, Outcome, PaymentRef, Price, Quantity,
    Query, Refusal, RequestId, SaleId, SalePage, SaleState, SaleStats, SaleSummary, SaleTerms,
    Scopes, ShardIndex, TimeMs, Wanted, WantedLine,
};
use boxoffice::protocol::binary::{DecodeError, ErrorCode, Hello, Request, Response, Welcome};
use boxoffice::protocol::codes::WireCode;

/// A line of a golden file.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    /// What stands between the name and the bytes.
    pub notes: Vec<String>,
    pub bytes: Vec<u8>,
}

pub fn rows(file: &str) -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/protocol").join(file);
    let text = std::fs::read_to_string(&path).expect("the golden file is there");
    let rows = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut words = line.split_whitespace().map(str::to_owned);
        let name = words.next().expect("a line starts with a name");
        let mut notes: Vec<String> = words.collect();
        let bytes = unhex(&notes.pop().expect("a line ends in hex"));
        Row { name, notes, bytes }
    });
    rows.collect()
}

pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().as_chunks::<2>().0;
    let byte = |pair: &[u8; 2]| {
        let pair = std::str::from_utf8(pair).expect("hex is ASCII");
        u8::from_str_radix(pair, 16).expect("hex digits")
    };
    digits.iter().map(byte).collect()
}

const SALE: SaleId = SaleId(0x1112_1314_1516_1718);
const ACCOUNT: AccountId = AccountId(0xa0a1_a2a3_a4a5_a6a7_a8a9_aaab_acad_aeaf);
const REQUEST: RequestId = RequestId(0xb0b1_b2b3_b4b5_b6b7_b8b9_babb_bcbd_bebf);
const INTENT: Intent = Intent { sale: SALE, account: ACCOUNT, request: REQUEST };
const ORDER: OrderNumber = OrderNumber(99);
const EXPIRES_AT: TimeMs = TimeMs(1_700_000_600_000);

const fn line(item: u32, quantity: u32) -> Line {
    Line { item: ItemId(item), quantity: Quantity(quantity) }
}

fn wanted(lines: &[(u32, u32, Option<u64>)]) -> Wanted {
    let lines = lines.iter().map(|&(item, quantity, price)| WantedLine {
        line: line(item, quantity),
        price: price.map(Price),
    });
    Wanted::new(lines).expect("sound lines")
}

fn payment(bytes: &[u8]) -> PaymentRef {
    PaymentRef::new(bytes).expect("short enough")
}

fn limit(limit: u16) -> NonZeroU16 {
    NonZeroU16::new(limit).expect("not zero")
}

/// The values of `requests.hex`, line by line.
pub fn requests() -> Vec<(&'static str, Request<'static>)> {
    let hellos = [
        ("hello", Hello { key: b"bo_example", name: "golden" }),
        ("hello_empty", Hello { key: b"", name: "" }),
    ];
    let queries = [
        ("order", Query::Order { sale: SALE, order: ORDER }),
        ("request", Query::Request { intent: INTENT }),
        ("availability", Query::Availability { sale: SALE }),
        ("stats", Query::Stats { sale: SALE }),
        ("sales_first", Query::Sales { shard: ShardIndex(3), after: None, limit: limit(50) }),
        (
            "sales_next",
            Query::Sales { shard: ShardIndex(3), after: Some(SALE), limit: limit(65_535) },
        ),
        (
            "account_orders",
            Query::AccountOrders { sale: SALE, account: ACCOUNT, after: ORDER, limit: limit(20) },
        ),
    ];
    let hellos = hellos.map(|(name, hello)| (name, Request::Hello(hello)));
    let queries = queries.map(|(name, query)| (name, Request::Query(query)));
    let commands = administration().into_iter().chain(purchases());
    let commands = commands.map(|(name, command)| (name, Request::Command(command)));
    hellos.into_iter().chain(commands).chain(queries).collect()
}

fn administration() -> Vec<(&'static str, Command)> {
    let terms = SaleTerms {
        opens_at: Some(TimeMs(1_700_000_000_000)),
        closes_at: Some(TimeMs(1_700_086_400_000)),
        hold_ttl: DurationMs(600_000),
        account_limit: Some(Quantity(8)),
    };
    let item = ItemTerms {
        capacity: Quantity(50_000),
        price: Price(4_950),
        account_limit: Some(Quantity(4)),
    };
    let unlimited = ItemTerms { capacity: Quantity(1), price: Price(0), account_limit: None };
    let restock = |by| Command::Restock { sale: SALE, request: REQUEST, item: ItemId(7), by };
    let defaults = SaleTerms::default();
    vec![
        ("define_sale", Command::DefineSale { sale: SALE, terms }),
        ("define_sale_defaults", Command::DefineSale { sale: SALE, terms: defaults }),
        ("define_item", Command::DefineItem { sale: SALE, item: ItemId(7), terms: item }),
        (
            "define_item_unlimited",
            Command::DefineItem { sale: SALE, item: ItemId(8), terms: unlimited },
        ),
        ("restock_more", restock(250)),
        ("restock_fewer", restock(-250)),
        ("open_sale", Command::OpenSale { sale: SALE }),
        ("pause_sale", Command::PauseSale { sale: SALE }),
        ("close_sale", Command::CloseSale { sale: SALE }),
        ("archive_sale", Command::ArchiveSale { sale: SALE }),
    ]
}

fn purchases() -> Vec<(&'static str, Command)> {
    let sixteen: Vec<_> = (1..=16).map(|n| (n, n, Some(1_000 * u64::from(n)))).collect();
    let sixty_four: Vec<u8> = (0..64).collect();
    let hold = |lines, ttl| Command::Hold { intent: INTENT, lines, ttl };
    let buy = |lines, payment| Command::Buy { intent: INTENT, lines, payment };
    let confirm =
        |payment, lines| Command::Confirm { intent: INTENT, order: ORDER, payment, lines };
    let cancel = |lines| Command::Cancel { intent: INTENT, order: ORDER, lines };
    let some = |lines: &[Line]| Some(Lines::new(lines.iter().copied()).expect("sound lines"));
    let priced = wanted(&[(7, 2, Some(4_950)), (9, 1, None)]);
    vec![
        ("hold_one_line", hold(wanted(&[(7, 2, None)]), None)),
        ("hold_ttl_priced", hold(priced, Some(DurationMs(90_000)))),
        ("buy_one_line", buy(wanted(&[(7, 2, Some(4_950))]), payment(b"pay-1"))),
        ("buy_sixteen_lines", buy(wanted(&sixteen), payment(&sixty_four))),
        ("confirm_all", confirm(payment(b""), None)),
        ("confirm_part", confirm(payment(b"pay-1"), some(&[line(7, 1), line(9, 3)]))),
        ("release", Command::Release { intent: INTENT, order: ORDER }),
        ("extend", Command::Extend { intent: INTENT, order: ORDER }),
        ("cancel_all", cancel(None)),
        ("cancel_part", cancel(some(&[line(7, 1)]))),
        ("fence", Command::Fence { intent: INTENT }),
    ]
}

/// The values of `answers.hex`, line by line.
pub fn answers() -> Vec<(String, Response)> {
    let welcome = Response::Welcome(Welcome {
        version: 1,
        scopes: Scopes::ALL,
        shard: ShardIndex(1),
        frame_bytes_max: 8_192,
        in_flight_max: 256,
        boot: 0x2122_2324_2526_2728,
        ports: vec![7_411, 7_412, 7_413],
    });
    let outcomes = outcomes().into_iter().map(|(name, outcome, replayed)| {
        (name.to_owned(), Response::Answer(Ok(Answer { outcome, replayed })))
    });
    let refusals = refusals()
        .into_iter()
        .map(|(name, refusal)| (format!("refused_{name}"), Response::Answer(Err(refusal))));
    let errors = ErrorCode::ALL.iter().map(|&code| {
        let name = format!("error_{}", code.name().to_lowercase());
        (name, Response::Error(DecodeError { code, offset: 17 }))
    });
    let welcome = std::iter::once(("welcome".to_owned(), welcome));
    welcome.chain(outcomes).chain(refusals).chain(errors).collect()
}

fn outcomes() -> Vec<(&'static str, Outcome, bool)> {
    let held = Outcome::Held { order: ORDER, expires_at: EXPIRES_AT };
    let view = |state, expires_at, lines: &[Line]| {
        let (order, account, lines) = (ORDER, ACCOUNT, lines.to_vec());
        OrderView { order, account, state, expires_at, lines }
    };
    let two = [line(7, 2), line(9, 1)];
    let held_view = view(OrderState::Held, Some(EXPIRES_AT), &two);
    let cancelled_view = view(OrderState::Cancelled, None, &two[..1]);
    let archived = SaleStats { state: SaleState::Archived, ..stats() };
    let sales = [(SaleId(1), archived), (SALE, stats())];
    let sales = sales.map(|(sale, stats)| SaleSummary { sale, stats }).to_vec();
    let no_orders = OrderPage { orders: vec![], next: Some(OrderNumber(4_096)) };
    let orders = vec![held_view.clone(), cancelled_view.clone()];
    vec![
        ("done", Outcome::Done, false),
        ("done_replayed", Outcome::Done, true),
        ("held", held.clone(), false),
        ("held_replayed", held, true),
        ("confirmed", Outcome::Confirmed { order: ORDER }, false),
        ("released", Outcome::Released { order: ORDER }, false),
        ("extended", Outcome::Extended { order: ORDER, expires_at: EXPIRES_AT }, false),
        ("cancelled", Outcome::Cancelled { order: ORDER }, false),
        ("fenced", Outcome::Fenced, false),
        ("order_held", Outcome::Order(held_view), false),
        ("order_cancelled", Outcome::Order(cancelled_view), false),
        ("availability_none", Outcome::Availability(Vec::new()), false),
        ("availability_two", Outcome::Availability(item_counts()), false),
        ("stats", Outcome::Stats(stats()), false),
        ("sales_none", Outcome::Sales(SalePage { sales: vec![], next: None }), false),
        ("sales_two", Outcome::Sales(SalePage { sales, next: Some(SALE) }), false),
        ("account_orders_none", Outcome::Orders(no_orders), false),
        ("account_orders_two", Outcome::Orders(OrderPage { orders, next: None }), false),
    ]
}

fn item_counts() -> Vec<ItemCounts> {
    let row =
        |item, price, limit: Option<u32>, [capacity, available, held, sold]: [u32; 4]| ItemCounts {
            item: ItemId(item),
            price: Price(price),
            account_limit: limit.map(Quantity),
            capacity: Quantity(capacity),
            available: Quantity(available),
            held: Quantity(held),
            sold: Quantity(sold),
        };
    vec![row(7, 4_950, Some(4), [100, 90, 6, 4]), row(8, 0, None, [1, 0, 0, 1])]
}

fn stats() -> SaleStats {
    SaleStats {
        state: SaleState::Open,
        terms: SaleTerms {
            opens_at: Some(TimeMs(1_700_000_000_000)),
            account_limit: Some(Quantity(8)),
            ..SaleTerms::default()
        },
        items: 2,
        orders: 12,
        orders_held: 3,
        orders_confirmed: 4,
        orders_released: 2,
        orders_expired: 2,
        orders_cancelled: 1,
        accounts: 9,
        capacity: 101,
        available: 90,
        held: 6,
        sold: 5,
    }
}

fn refusals() -> Vec<(&'static str, Refusal)> {
    vec![
        ("sold_out", Refusal::SoldOut),
        ("none_now", Refusal::NoneNow),
        ("account_limit", Refusal::AccountLimit),
        ("not_open", Refusal::NotOpen { opens_at: Some(TimeMs(1_700_000_000_000)) }),
        ("not_open_unknown", Refusal::NotOpen { opens_at: None }),
        ("paused", Refusal::Paused),
        ("closed", Refusal::Closed),
        ("not_closed", Refusal::NotClosed),
        ("hold_expired", Refusal::HoldExpired),
        ("wrong_state", Refusal::WrongState { state: OrderState::Released }),
        ("key_conflict", Refusal::KeyConflict),
        ("price_mismatch", Refusal::PriceMismatch),
        ("not_found", Refusal::NotFound),
        ("bad_request", Refusal::BadRequest { field: Field::Lines }),
        ("bad_token", Refusal::BadToken),
        ("forbidden", Refusal::Forbidden),
        ("overloaded", Refusal::Overloaded),
        ("draining", Refusal::Draining),
        ("disk_full", Refusal::DiskFull),
    ]
}
