//! Answers of success.

use super::json::{put_field, put_number};
use super::problem::encode_refusal;
use super::reply::{Reply, Site};
use super::response::respond;
use crate::model::sale::ITEMS_MAX;
use crate::model::{
    Answer, ItemCounts, Line, OrderNumber, Outcome, Refusal, SaleStats, TimeMs, UuidText,
};
pub use crate::protocol::binary::OrderHead;
use crate::protocol::codes::WireCode;

/// What a client is told that waits before it sends a body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The most bytes of an item and its counters, with the comma.
const ITEM_BYTES_MAX: usize = 176;

/// The most bytes of an answer that is neither of availability nor a document. The longest is a
/// refusal whose field and detail are all escapes.
pub const SHORT_ANSWER_BYTES_MAX: usize = 3072;

/// The most bytes of an answer to a query for availability.
pub const AVAILABILITY_BYTES_MAX: usize = SHORT_ANSWER_BYTES_MAX + ITEMS_MAX * ITEM_BYTES_MAX;

/// Appends an answer.
///
/// # Panics
///
/// Where it is a list, which no route asks for.
pub fn encode_answer(out: &mut Vec<u8>, site: &Site, reply: &Reply, answer: &Answer) {
    let replayed = answer.replayed;
    match &answer.outcome {
        Outcome::Held { order, expires_at } | Outcome::Extended { order, expires_at } => {
            encode_change(out, site, reply, replayed, *order, "held", Some(*expires_at));
        }
        Outcome::Confirmed { order } => {
            encode_change(out, site, reply, replayed, *order, "confirmed", None);
        }
        Outcome::Released { order } => {
            encode_change(out, site, reply, replayed, *order, "released", None);
        }
        Outcome::Cancelled { order } => {
            encode_change(out, site, reply, replayed, *order, "cancelled", None);
        }
        Outcome::Fenced => encode_state(out, site, reply, replayed, "fenced"),
        Outcome::Done => encode_state(out, site, reply, replayed, "done"),
        Outcome::Order(view) => {
            let head = view.into();
            encode_order(out, site, reply, replayed, &head, view.lines.iter().copied());
        }
        Outcome::Availability(items) => {
            encode_availability(out, site, reply, items.iter().copied());
        }
        Outcome::Stats(stats) => {
            let put_headers = |out: &mut Vec<u8>| put_type(out, replayed);
            respond(out, site, reply, 200, put_headers, |out| put_stats(out, reply, stats));
        }
        Outcome::Sales(_) | Outcome::Orders(_) => unreachable!("no route asks for a list"),
    }
}

/// What became of an order by one request.
#[inline]
fn encode_change(
    out: &mut Vec<u8>,
    site: &Site,
    reply: &Reply,
    replayed: bool,
    order: OrderNumber,
    state: &str,
    expires_at: Option<TimeMs>,
) {
    let status = if reply.creates { 201 } else { 200 };
    let put_headers = |out: &mut Vec<u8>| {
        put_type(out, replayed);
        if reply.creates {
            put_field(out, "Location: /v1/sales/", reply.sale.0);
            put_field(out, "/orders/", order.0);
            out.extend_from_slice(b"\r\n");
        }
    };
    respond(out, site, reply, status, put_headers, |out| {
        put_field(out, "{\"sale\":", reply.sale.0);
        put_field(out, ",\"order\":", order.0);
        put_word(out, ",\"state\":\"", state);
        if let Some(time) = expires_at {
            put_field(out, ",\"expires_at_ms\":", time.0);
        }
        out.push(b'}');
    });
}

/// The outcome of a request that has no order.
fn encode_state(out: &mut Vec<u8>, site: &Site, reply: &Reply, replayed: bool, state: &str) {
    let put_headers = |out: &mut Vec<u8>| put_type(out, replayed);
    respond(out, site, reply, 200, put_headers, |out| {
        put_field(out, "{\"sale\":", reply.sale.0);
        put_word(out, ",\"state\":\"", state);
        out.push(b'}');
    });
}

/// Appends the answer to a query for an order, or `FORBIDDEN` where the viewer may not see it.
pub fn encode_order(
    out: &mut Vec<u8>,
    site: &Site,
    reply: &Reply,
    replayed: bool,
    head: &OrderHead,
    lines: impl ExactSizeIterator<Item = Line>,
) {
    if reply.viewer.is_some_and(|viewer| viewer != head.account) {
        return encode_refusal(out, site, reply, Refusal::Forbidden, None);
    }
    let put_headers = |out: &mut Vec<u8>| put_type(out, replayed);
    respond(out, site, reply, 200, put_headers, |out| {
        put_field(out, "{\"sale\":", reply.sale.0);
        put_field(out, ",\"order\":", head.order.0);
        put_word(out, ",\"account\":\"", UuidText::from(head.account).as_str());
        put_word(out, ",\"state\":\"", head.state.name());
        if let Some(time) = head.expires_at {
            put_field(out, ",\"expires_at_ms\":", time.0);
        }
        out.extend_from_slice(b",\"lines\":[");
        put_list(out, lines, |out, line| {
            put_field(out, "{\"item\":", line.item.0);
            put_field(out, ",\"quantity\":", line.quantity.0);
            out.push(b'}');
        });
        out.extend_from_slice(b"]}");
    });
}

/// Appends the answer to a query for availability: items in the order of their ids.
pub fn encode_availability(
    out: &mut Vec<u8>,
    site: &Site,
    reply: &Reply,
    items: impl ExactSizeIterator<Item = ItemCounts>,
) {
    let put_headers = |out: &mut Vec<u8>| put_type(out, false);
    respond(out, site, reply, 200, put_headers, |out| {
        put_field(out, "{\"sale\":", reply.sale.0);
        out.extend_from_slice(b",\"items\":[");
        put_list(out, items, |out, item| {
            put_field(out, "{\"item\":", item.item.0);
            put_field(out, ",\"price\":", item.price.0);
            if let Some(limit) = item.account_limit {
                put_field(out, ",\"account_limit\":", limit.0);
            }
            put_field(out, ",\"capacity\":", item.capacity.0);
            put_field(out, ",\"available\":", item.available.0);
            put_field(out, ",\"held\":", item.held.0);
            put_field(out, ",\"sold\":", item.sold.0);
            out.push(b'}');
        });
        out.extend_from_slice(b"]}");
    });
}

fn put_stats(out: &mut Vec<u8>, reply: &Reply, stats: &SaleStats) {
    put_field(out, "{\"sale\":", reply.sale.0);
    put_word(out, ",\"state\":\"", stats.state.name());
    let times = [("opens_at_ms", stats.terms.opens_at), ("closes_at_ms", stats.terms.closes_at)];
    for (name, time) in times {
        if let Some(time) = time {
            put_count(out, name, time.0);
        }
    }
    put_count(out, "hold_ttl_ms", stats.terms.hold_ttl.0.into());
    if let Some(limit) = stats.terms.account_limit {
        put_count(out, "account_limit", limit.0.into());
    }
    for (name, count) in [
        ("items", stats.items.into()),
        ("orders", stats.orders.into()),
        ("orders_held", stats.orders_held.into()),
        ("orders_confirmed", stats.orders_confirmed.into()),
        ("orders_released", stats.orders_released.into()),
        ("orders_expired", stats.orders_expired.into()),
        ("orders_cancelled", stats.orders_cancelled.into()),
        ("accounts", stats.accounts.into()),
        ("capacity", stats.capacity),
        ("available", stats.available),
        ("held", stats.held),
        ("sold", stats.sold),
    ] {
        put_count(out, name, count);
    }
    out.push(b'}');
}

#[inline]
fn put_type(out: &mut Vec<u8>, replayed: bool) {
    out.extend_from_slice(b"Content-Type: application/json\r\nCache-Control: no-store\r\n");
    if replayed {
        out.extend_from_slice(b"Idempotency-Replayed: true\r\n");
    }
}

/// Appends `before`, a word that needs no escapes, and its closing quotation mark.
#[inline]
fn put_word(out: &mut Vec<u8>, before: &str, word: &str) {
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

fn put_count(out: &mut Vec<u8>, name: &str, count: u64) {
    put_word(out, ",\"", name);
    out.push(b':');
    put_number(out, count);
}

fn put_list<T>(
    out: &mut Vec<u8>,
    elements: impl Iterator<Item = T>,
    put_element: impl Fn(&mut Vec<u8>, T),
) {
    for (index, element) in elements.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        put_element(out, element);
    }
}
