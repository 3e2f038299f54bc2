//! Answers of success.

use super::reply::{Reply, Site};
use crate::model::{Answer, ItemCounts, Line};

/// The most bytes of an answer to a query for availability.
pub const AVAILABILITY_BYTES_MAX: usize = 192 * 1024;

/// What a client is told that waits before it sends a body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

pub use crate::protocol::binary::OrderHead;

/// Appends an answer.
pub fn encode_answer(out: &mut Vec<u8>, site: &Site, reply: &Reply, answer: &Answer) {
    let _ = (out, site, reply, answer);
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
    let _ = (out, site, reply, replayed, head, lines.len());
}

/// Appends the answer to a query for availability: items in the order of their ids.
pub fn encode_availability(
    out: &mut Vec<u8>,
    site: &Site,
    reply: &Reply,
    items: impl ExactSizeIterator<Item = ItemCounts>,
) {
    let _ = (out, site, reply, items.len());
}
