//! Arbitrary requests, responses and payloads.

use std::num::NonZeroU16;

use boxoffice::model::lines::{LINES_MAX, PAYMENT_REF_BYTES_MAX};
use boxoffice::model::{
    AccountId, Answer, Command, DurationMs, Field, Intent, ItemCounts, ItemId, ItemTerms, Line,
    Lines, OrderNumber, OrderPage, OrderState, OrderView, Outcome, PaymentRef, Price, Quantity,
    Query, Refusal, RequestId, SaleId, SalePage, SaleState, SaleStats, SaleSummary, SaleTerms,
    Scopes, ShardIndex, TimeMs, Wanted, WantedLine,
};
use boxoffice::protocol::binary::{
    DecodeError, ErrorCode, Hello, KEY_BYTES_MAX, Request, Response, Welcome,
};
use boxoffice::protocol::codes::WireCode;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// A request that owns what a [`Hello`] borrows.
#[derive(Clone, Debug)]
pub enum OwnedRequest {
    Hello(Vec<u8>, String),
    Command(Box<Command>),
    Query(Query),
}

impl OwnedRequest {
    pub fn borrow(&self) -> Request<'_> {
        match self {
            Self::Hello(key, name) => Request::Hello(Hello { key, name }),
            Self::Command(command) => Request::Command(Command::clone(command)),
            Self::Query(query) => Request::Query(*query),
        }
    }
}

pub fn request() -> impl Strategy<Value = OwnedRequest> {
    let hello = (vec(any::<u8>(), 0..=KEY_BYTES_MAX), "[a-z0-9é]{0,32}")
        .prop_map(|(key, name)| OwnedRequest::Hello(key, name));
    prop_oneof![
        1 => hello,
        8 => command().prop_map(|command| OwnedRequest::Command(Box::new(command))),
        2 => query().prop_map(OwnedRequest::Query),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    prop_oneof![
        (any_sale(), any_order()).prop_map(|(sale, order)| Query::Order { sale, order }),
        intent().prop_map(|intent| Query::Request { intent }),
        any_sale().prop_map(|sale| Query::Availability { sale }),
        any_sale().prop_map(|sale| Query::Stats { sale }),
        (any::<u16>(), option::of(any_sale()), any::<NonZeroU16>()).prop_map(
            |(shard, after, limit)| Query::Sales { shard: ShardIndex(shard), after, limit }
        ),
        (intent(), any_order(), any::<NonZeroU16>()).prop_map(|(intent, after, limit)| {
            Query::AccountOrders { sale: intent.sale, account: intent.account, after, limit }
        }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![administration(), purchase()]
}

fn administration() -> impl Strategy<Value = Command> {
    let restock = (any_sale(), any::<u128>(), any::<u32>(), any::<i64>());
    prop_oneof![
        (any_sale(), terms()).prop_map(|(sale, terms)| Command::DefineSale { sale, terms }),
        (any_sale(), any::<u32>(), item_terms()).prop_map(|(sale, item, terms)| {
            Command::DefineItem { sale, item: ItemId(item), terms }
        }),
        restock.prop_map(|(sale, request, item, by)| Command::Restock {
            sale,
            request: RequestId(request),
            item: ItemId(item),
            by,
        }),
        any_sale().prop_map(|sale| Command::OpenSale { sale }),
        any_sale().prop_map(|sale| Command::PauseSale { sale }),
        any_sale().prop_map(|sale| Command::CloseSale { sale }),
        any_sale().prop_map(|sale| Command::ArchiveSale { sale }),
    ]
}

fn purchase() -> impl Strategy<Value = Command> {
    let follow_up = || (intent(), any_order());
    let some_lines = || option::of(lines());
    prop_oneof![
        (intent(), wanted(), option::of(any::<u32>().prop_map(DurationMs)))
            .prop_map(|(intent, lines, ttl)| Command::Hold { intent, lines, ttl }),
        (intent(), wanted(), payment()).prop_map(|(intent, lines, payment)| Command::Buy {
            intent,
            lines,
            payment
        }),
        (follow_up(), payment(), some_lines()).prop_map(|((intent, order), payment, lines)| {
            Command::Confirm { intent, order, payment, lines }
        }),
        follow_up().prop_map(|(intent, order)| Command::Release { intent, order }),
        follow_up().prop_map(|(intent, order)| Command::Extend { intent, order }),
        (follow_up(), some_lines()).prop_map(|((intent, order), lines)| Command::Cancel {
            intent,
            order,
            lines
        }),
        intent().prop_map(|intent| Command::Fence { intent }),
    ]
}

fn intent() -> impl Strategy<Value = Intent> {
    (any_sale(), 1..=u128::MAX, any::<u128>()).prop_map(|(sale, account, request)| Intent {
        sale,
        account: AccountId(account),
        request: RequestId(request),
    })
}

fn any_sale() -> impl Strategy<Value = SaleId> {
    any::<u64>().prop_map(SaleId)
}

fn any_order() -> impl Strategy<Value = OrderNumber> {
    any::<u32>().prop_map(OrderNumber)
}

fn any_time() -> impl Strategy<Value = TimeMs> {
    any::<u64>().prop_map(TimeMs)
}

fn any_quantity() -> impl Strategy<Value = Quantity> {
    any::<u32>().prop_map(Quantity)
}

fn terms() -> impl Strategy<Value = SaleTerms> {
    (option::of(any_time()), option::of(any_time()), any::<u32>(), option::of(any_quantity()))
        .prop_map(|(opens_at, closes_at, ttl, account_limit)| SaleTerms {
            opens_at,
            closes_at,
            hold_ttl: DurationMs(ttl),
            account_limit,
        })
}

fn item_terms() -> impl Strategy<Value = ItemTerms> {
    (any_quantity(), any::<u64>(), option::of(any_quantity())).prop_map(
        |(capacity, price, account_limit)| ItemTerms {
            capacity,
            price: Price(price),
            account_limit,
        },
    )
}

/// Lines of distinct items, and a price for each.
fn priced_lines() -> impl Strategy<Value = Vec<(Line, Option<Price>)>> {
    let items = prop::collection::hash_set(any::<u32>(), 1..=LINES_MAX);
    let amounts = vec((1..=u32::MAX, option::of(any::<u64>())), LINES_MAX);
    (items, amounts).prop_map(|(items, amounts)| {
        let line = |(item, (quantity, price)): (u32, (u32, Option<u64>))| {
            let line = Line { item: ItemId(item), quantity: Quantity(quantity) };
            (line, price.map(Price))
        };
        items.into_iter().zip(amounts).map(line).collect()
    })
}

fn lines() -> impl Strategy<Value = Lines> {
    priced_lines().prop_map(|lines| {
        Lines::new(lines.into_iter().map(|(line, _)| line)).expect("distinct lines")
    })
}

fn wanted() -> impl Strategy<Value = Wanted> {
    priced_lines().prop_map(|lines| {
        let wanted = lines.into_iter().map(|(line, price)| WantedLine { line, price });
        Wanted::new(wanted).expect("distinct lines")
    })
}

fn payment() -> impl Strategy<Value = PaymentRef> {
    vec(any::<u8>(), 0..=PAYMENT_REF_BYTES_MAX)
        .prop_map(|bytes| PaymentRef::new(&bytes).expect("short enough"))
}

pub fn response() -> impl Strategy<Value = Response> {
    let answer = (outcome(), any::<bool>())
        .prop_map(|(outcome, replayed)| Response::Answer(Ok(Answer { outcome, replayed })));
    let error = (select(ErrorCode::ALL), any::<u32>())
        .prop_map(|(code, offset)| Response::Error(DecodeError { code, offset }));
    prop_oneof![
        1 => welcome().prop_map(Response::Welcome),
        8 => answer,
        4 => refusal().prop_map(|refusal| Response::Answer(Err(refusal))),
        1 => error,
    ]
}

fn welcome() -> impl Strategy<Value = Welcome> {
    let ports = vec(any::<u16>(), 1..40);
    (any::<u8>(), any::<[bool; 2]>(), any::<u32>(), 1..=u32::MAX, any::<u64>(), ports).prop_map(
        |(version, [buy, admin], frame_bytes_max, in_flight_max, boot, ports)| Welcome {
            version,
            scopes: Scopes { buy, admin },
            shard: ShardIndex((boot % ports.len() as u64) as u16),
            frame_bytes_max,
            in_flight_max,
            boot,
            ports,
        },
    )
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let timed = || (any_order(), any_time());
    prop_oneof![
        Just(Outcome::Done),
        Just(Outcome::Fenced),
        timed().prop_map(|(order, expires_at)| Outcome::Held { order, expires_at }),
        timed().prop_map(|(order, expires_at)| Outcome::Extended { order, expires_at }),
        any_order().prop_map(|order| Outcome::Confirmed { order }),
        any_order().prop_map(|order| Outcome::Released { order }),
        any_order().prop_map(|order| Outcome::Cancelled { order }),
        order_view().prop_map(Outcome::Order),
        vec(item_counts(), 0..20).prop_map(Outcome::Availability),
        stats().prop_map(Outcome::Stats),
        sale_page().prop_map(Outcome::Sales),
        (vec(order_view(), 0..20), option::of(any_order()))
            .prop_map(|(orders, next)| Outcome::Orders(OrderPage { orders, next })),
    ]
}

fn order_view() -> impl Strategy<Value = OrderView> {
    let state = select(OrderState::ALL);
    (any_order(), any::<u128>(), state, option::of(any_time()), priced_lines()).prop_map(
        |(order, account, state, expires_at, lines)| OrderView {
            order,
            account: AccountId(account),
            state,
            expires_at,
            lines: lines.into_iter().map(|(line, _)| line).collect(),
        },
    )
}

fn item_counts() -> impl Strategy<Value = ItemCounts> {
    (any::<u32>(), any::<u64>(), option::of(any_quantity()), any::<[u32; 4]>()).prop_map(
        |(item, price, account_limit, [capacity, available, held, sold])| ItemCounts {
            item: ItemId(item),
            price: Price(price),
            account_limit,
            capacity: Quantity(capacity),
            available: Quantity(available),
            held: Quantity(held),
            sold: Quantity(sold),
        },
    )
}

fn stats() -> impl Strategy<Value = SaleStats> {
    (select(SaleState::ALL), terms(), any::<[u32; 8]>(), any::<[u64; 4]>()).prop_map(
        |(state, terms, counts, [capacity, available, held, sold])| SaleStats {
            state,
            terms,
            items: counts[0],
            orders: counts[1],
            orders_held: counts[2],
            orders_confirmed: counts[3],
            orders_released: counts[4],
            orders_expired: counts[5],
            orders_cancelled: counts[6],
            accounts: counts[7],
            capacity,
            available,
            held,
            sold,
        },
    )
}

fn sale_page() -> impl Strategy<Value = SalePage> {
    let summary = (any_sale(), stats()).prop_map(|(sale, stats)| SaleSummary { sale, stats });
    (vec(summary, 0..20), option::of(any_sale())).prop_map(|(sales, next)| SalePage { sales, next })
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        option::of(any_time()).prop_map(|opens_at| Refusal::NotOpen { opens_at }),
        select(OrderState::ALL).prop_map(|state| Refusal::WrongState { state }),
        select(Field::ALL).prop_map(|field| Refusal::BadRequest { field }),
        select(plain_refusals()),
    ]
}

fn plain_refusals() -> Vec<Refusal> {
    vec![
        Refusal::SoldOut,
        Refusal::NoneNow,
        Refusal::AccountLimit,
        Refusal::Paused,
        Refusal::Closed,
        Refusal::NotClosed,
        Refusal::HoldExpired,
        Refusal::KeyConflict,
        Refusal::PriceMismatch,
        Refusal::NotFound,
        Refusal::BadToken,
        Refusal::Forbidden,
        Refusal::Overloaded,
        Refusal::Draining,
        Refusal::DiskFull,
    ]
}

/// Payloads of small bytes, so that counts and tags are often in range, and of any bytes.
pub fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(0_u8..3, 0..120), vec(any::<u8>(), 0..120)]
}
