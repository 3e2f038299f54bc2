//! What an answer looks like on the wire of its request: binary frames, or HTTP responses.
//!
//! It travels with a request to the shard that decides it, which encodes the answer; the shard
//! with the connection only has to send it.

use super::mail::Ask;
use super::metrics::Protocol;
use crate::engine::OrderRef;
use crate::model::{Answer, ItemCounts, Query, Refusal};
use crate::protocol::binary::{self, FRAME_BYTES_MAX, OrderHead};
use crate::protocol::http::{self, AVAILABILITY_BYTES_MAX, Reply, Site};

/// How an answer is encoded.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// As a binary frame.
    Binary {
        /// The request's correlation id.
        correlation: u64,
    },
    /// As an HTTP response.
    Http(Reply),
}

impl Form {
    /// What the request spoke.
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::Binary { .. } => Protocol::Binary,
            Self::Http(_) => Protocol::Http,
        }
    }

    /// Whether a buyer asked, for an account of their own.
    #[must_use]
    pub const fn is_buyers(self) -> bool {
        match self {
            Self::Binary { .. } => false,
            Self::Http(reply) => reply.viewer.is_some(),
        }
    }

    /// The size of the answer where it may be large, in bytes; else zero.
    #[must_use]
    pub const fn reserved(self, ask: Ask<'_>) -> u32 {
        match (self, ask) {
            (
                Self::Binary { .. },
                Ask::Query(
                    Query::Availability { .. } | Query::Sales { .. } | Query::AccountOrders { .. },
                ),
            ) => FRAME_BYTES_MAX as u32,
            (Self::Http(_), Ask::Query(Query::Availability { .. })) => {
                AVAILABILITY_BYTES_MAX as u32
            }
            _ => 0,
        }
    }

    pub(super) fn encode_answer(self, out: &mut Vec<u8>, site: &Site, answer: &Answer) {
        match self {
            Self::Binary { correlation } => binary::encode_answer(out, correlation, answer),
            Self::Http(reply) => http::encode_answer(out, site, &reply, answer),
        }
    }

    pub(super) fn encode_refusal(self, out: &mut Vec<u8>, site: &Site, refusal: Refusal) {
        match self {
            Self::Binary { correlation } => binary::encode_refusal(out, correlation, refusal),
            Self::Http(reply) => http::encode_refusal(out, site, &reply, refusal, None),
        }
    }

    /// `FORBIDDEN`, with the reason where the form has room for one.
    pub(super) fn encode_forbidden(self, out: &mut Vec<u8>, site: &Site, reason: &'static str) {
        match self {
            Self::Binary { .. } => self.encode_refusal(out, site, Refusal::Forbidden),
            Self::Http(reply) => {
                http::encode_refusal(out, site, &reply, Refusal::Forbidden, Some(reason));
            }
        }
    }

    pub(super) fn encode_availability(
        self,
        out: &mut Vec<u8>,
        site: &Site,
        items: impl ExactSizeIterator<Item = ItemCounts>,
    ) {
        match self {
            Self::Binary { correlation } => binary::encode_availability(out, correlation, items),
            Self::Http(reply) => http::encode_availability(out, site, &reply, items),
        }
    }

    pub(super) fn encode_order(self, out: &mut Vec<u8>, site: &Site, order: &OrderRef<'_>) {
        let head = OrderHead {
            order: order.order(),
            account: order.account(),
            state: order.state(),
            expires_at: order.expires_at(),
        };
        let lines = order.lines();
        match self {
            Self::Binary { correlation } => {
                binary::encode_order(out, correlation, false, &head, lines);
            }
            Self::Http(reply) => http::encode_order(out, site, &reply, false, &head, lines),
        }
    }
}
