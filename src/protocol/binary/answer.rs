//! Answers as a server appends them: from outcomes, or from the engine's tables item by item, so
//! that it never builds a list only to encode it.

use super::frame::{DecodeError, FRAME_BYTES_MAX, HEADER_BYTES, append};
use super::opcode::Opcode;
use super::payload::{put_opt_u32, put_opt_u64, put_terms};
use super::request::{LINE_BYTES, put_line};
use super::response::{REPLAYED, Welcome, scope_bits};
use crate::model::lines::LINES_MAX;
use crate::model::outcome::{ORDERS_PAGE_MAX, SALES_PAGE_MAX};
use crate::model::sale::ITEMS_MAX;
use crate::model::{
    AccountId, Answer, ItemCounts, Line, OrderNumber, OrderPage, OrderState, OrderView, Outcome,
    Refusal, SalePage, SaleStats, TimeMs,
};
use crate::protocol::codes::WireCode;

pub(super) const ITEM_COUNTS_BYTES: usize = 33;

/// A sale in a page: its id and its totals.
pub(super) const SUMMARY_BYTES: usize = 8 + 92;

/// An order in a page, without its lines.
pub(super) const ORDER_BYTES_MIN: usize = 31;

const _: () =
    assert!(HEADER_BYTES + 11 + SALES_PAGE_MAX as usize * SUMMARY_BYTES <= FRAME_BYTES_MAX);
const _: () = assert!(
    HEADER_BYTES + 7 + ORDERS_PAGE_MAX as usize * (ORDER_BYTES_MIN + LINES_MAX * LINE_BYTES)
        <= FRAME_BYTES_MAX
);
const _: () = assert!(HEADER_BYTES + 2 + ITEMS_MAX * ITEM_COUNTS_BYTES <= FRAME_BYTES_MAX);

/// What an order's answer has before its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderHead {
    /// The order.
    pub order: OrderNumber,
    /// Whose it is.
    pub account: AccountId,
    /// Its state.
    pub state: OrderState,
    /// When a hold ends by itself; absent in every other state.
    pub expires_at: Option<TimeMs>,
}

impl From<&OrderView> for OrderHead {
    fn from(view: &OrderView) -> Self {
        let &OrderView { order, account, state, expires_at, .. } = view;
        Self { order, account, state, expires_at }
    }
}

/// Appends an answer.
///
/// # Panics
///
/// Where a list is longer than the model allows.
#[inline]
pub fn encode_answer(out: &mut Vec<u8>, correlation: u64, answer: &Answer) {
    let flags = replayed_flag(answer.replayed);
    match &answer.outcome {
        Outcome::Done => append(out, correlation, Opcode::Done, flags, |_| ()),
        Outcome::Held { order, expires_at } => {
            encode_timed(out, correlation, Opcode::Held, flags, *order, *expires_at);
        }
        Outcome::Confirmed { order } => {
            encode_plain(out, correlation, Opcode::Confirmed, flags, *order);
        }
        Outcome::Released { order } => {
            encode_plain(out, correlation, Opcode::Released, flags, *order);
        }
        Outcome::Extended { order, expires_at } => {
            encode_timed(out, correlation, Opcode::Extended, flags, *order, *expires_at);
        }
        Outcome::Cancelled { order } => {
            encode_plain(out, correlation, Opcode::Cancelled, flags, *order);
        }
        Outcome::Fenced => append(out, correlation, Opcode::Fenced, flags, |_| ()),
        Outcome::Order(view) => {
            append(out, correlation, Opcode::OrderIs, flags, |out| put_view(out, view));
        }
        Outcome::Availability(items) => {
            append_availability(out, correlation, flags, items.iter().copied());
        }
        Outcome::Stats(stats) => append(out, correlation, Opcode::StatsAre, flags, |out| {
            put_stats(out, stats);
        }),
        Outcome::Sales(page) => append(out, correlation, Opcode::SalesAre, flags, |out| {
            put_sales(out, page);
        }),
        Outcome::Orders(page) => append(out, correlation, Opcode::AccountOrdersAre, flags, |out| {
            put_orders(out, page);
        }),
    }
}

#[inline]
fn encode_plain(
    out: &mut Vec<u8>,
    correlation: u64,
    opcode: Opcode,
    flags: u16,
    order: OrderNumber,
) {
    append(out, correlation, opcode, flags, |out| {
        out.extend_from_slice(&order.0.to_le_bytes());
    });
}

#[inline]
fn encode_timed(
    out: &mut Vec<u8>,
    correlation: u64,
    opcode: Opcode,
    flags: u16,
    order: OrderNumber,
    expires_at: TimeMs,
) {
    append(out, correlation, opcode, flags, |out| {
        out.extend_from_slice(&order.0.to_le_bytes());
        out.extend_from_slice(&expires_at.0.to_le_bytes());
    });
}

/// Appends the answer to a query for an order, or for a request that made one.
///
/// # Panics
///
/// Where there are more than 255 lines.
pub fn encode_order(
    out: &mut Vec<u8>,
    correlation: u64,
    replayed: bool,
    head: &OrderHead,
    lines: impl ExactSizeIterator<Item = Line>,
) {
    append(out, correlation, Opcode::OrderIs, replayed_flag(replayed), |out| {
        put_order(out, head, lines);
    });
}

fn put_order(out: &mut Vec<u8>, head: &OrderHead, lines: impl ExactSizeIterator<Item = Line>) {
    out.extend_from_slice(&head.order.0.to_le_bytes());
    out.extend_from_slice(&head.account.0.to_le_bytes());
    out.push(head.state.wire() as u8);
    put_opt_u64(out, head.expires_at.map(|time| time.0));
    out.push(u8::try_from(lines.len()).expect("an order has at most 16 lines"));
    lines.for_each(|line| put_line(out, line));
}

fn put_view(out: &mut Vec<u8>, view: &OrderView) {
    put_order(out, &OrderHead::from(view), view.lines.iter().copied());
}

fn put_orders(out: &mut Vec<u8>, page: &OrderPage) {
    put_opt_u32(out, page.next.map(|order| order.0));
    put_count(out, page.orders.len());
    page.orders.iter().for_each(|view| put_view(out, view));
}

fn put_sales(out: &mut Vec<u8>, page: &SalePage) {
    put_opt_u64(out, page.next.map(|sale| sale.0));
    put_count(out, page.sales.len());
    for summary in &page.sales {
        out.extend_from_slice(&summary.sale.0.to_le_bytes());
        put_stats(out, &summary.stats);
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).expect("the bounds of the model fit a frame");
    out.extend_from_slice(&count.to_le_bytes());
}

/// Appends the answer to a query for availability: items in the order of their ids.
///
/// # Panics
///
/// Where the items do not fit a frame; [`ITEMS_MAX`] do.
pub fn encode_availability(
    out: &mut Vec<u8>,
    correlation: u64,
    items: impl ExactSizeIterator<Item = ItemCounts>,
) {
    append_availability(out, correlation, 0, items);
}

fn append_availability(
    out: &mut Vec<u8>,
    correlation: u64,
    flags: u16,
    items: impl ExactSizeIterator<Item = ItemCounts>,
) {
    append(out, correlation, Opcode::AvailabilityIs, flags, |out| {
        out.reserve(2 + items.len() * ITEM_COUNTS_BYTES);
        put_count(out, items.len());
        for item in items {
            out.extend_from_slice(&item.item.0.to_le_bytes());
            out.extend_from_slice(&item.price.0.to_le_bytes());
            put_opt_u32(out, item.account_limit.map(|limit| limit.0));
            for count in [item.capacity, item.available, item.held, item.sold] {
                out.extend_from_slice(&count.0.to_le_bytes());
            }
        }
    });
}

fn put_stats(out: &mut Vec<u8>, stats: &SaleStats) {
    out.push(stats.state.wire() as u8);
    put_terms(out, &stats.terms);
    for count in [
        stats.items,
        stats.orders,
        stats.orders_held,
        stats.orders_confirmed,
        stats.orders_released,
        stats.orders_expired,
        stats.orders_cancelled,
        stats.accounts,
    ] {
        out.extend_from_slice(&count.to_le_bytes());
    }
    for units in [stats.capacity, stats.available, stats.held, stats.sold] {
        out.extend_from_slice(&units.to_le_bytes());
    }
}

/// Appends a refusal.
#[inline]
pub fn encode_refusal(out: &mut Vec<u8>, correlation: u64, refusal: Refusal) {
    append(out, correlation, Opcode::Refused, 0, |out| {
        out.extend_from_slice(&refusal.code().wire().to_le_bytes());
        match refusal {
            Refusal::NotOpen { opens_at } => put_opt_u64(out, opens_at.map(|time| time.0)),
            Refusal::WrongState { state } => out.push(state.wire() as u8),
            Refusal::BadRequest { field } => out.push(field.wire() as u8),
            Refusal::SoldOut
            | Refusal::NoneNow
            | Refusal::AccountLimit
            | Refusal::Paused
            | Refusal::Closed
            | Refusal::NotClosed
            | Refusal::HoldExpired
            | Refusal::KeyConflict
            | Refusal::PriceMismatch
            | Refusal::NotFound
            | Refusal::BadToken
            | Refusal::Forbidden
            | Refusal::Overloaded
            | Refusal::Draining
            | Refusal::DiskFull => {}
        }
    });
}

/// Appends the error that ends a connection. The correlation id is that of the frame at fault,
/// zero where it has none.
pub fn encode_error(out: &mut Vec<u8>, correlation: u64, error: DecodeError) {
    append(out, correlation, Opcode::Error, 0, |out| {
        out.extend_from_slice(&error.code.wire().to_le_bytes());
        out.extend_from_slice(&error.offset.to_le_bytes());
    });
}

/// Appends the answer to `HELLO`.
///
/// # Panics
///
/// Where a field is out of the range that [`Welcome`] gives.
pub fn encode_welcome(out: &mut Vec<u8>, correlation: u64, welcome: &Welcome) {
    welcome.assert_sound();
    append(out, correlation, Opcode::Welcome, 0, |out| {
        out.extend_from_slice(&[welcome.version, scope_bits(welcome.scopes)]);
        out.extend_from_slice(&welcome.shard.0.to_le_bytes());
        out.extend_from_slice(&welcome.frame_bytes_max.to_le_bytes());
        out.extend_from_slice(&welcome.in_flight_max.to_le_bytes());
        out.extend_from_slice(&welcome.boot.to_le_bytes());
        out.extend_from_slice(&(welcome.ports.len() as u16).to_le_bytes());
        for port in &welcome.ports {
            out.extend_from_slice(&port.to_le_bytes());
        }
    });
}

#[inline]
const fn replayed_flag(replayed: bool) -> u16 {
    if replayed { REPLAYED } else { 0 }
}
