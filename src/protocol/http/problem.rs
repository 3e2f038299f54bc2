//! Refusals and faults as `application/problem+json` (RFC 9457).

use std::borrow::Cow;

use super::fault::HttpFault;
use super::reply::{Reply, Site};
use crate::model::Refusal;

/// Why a well-formed request asks the engine nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpRefusal {
    /// Its place or its framing is wrong: see [`HttpFault::closes`].
    Fault(HttpFault),
    /// `BAD_REQUEST`, with the name of the field as it stands in the request, and the reason.
    Field {
        /// For instance `lines[0].quantity`, `ttl_ms`, `Idempotency-Key`.
        field: Cow<'static, str>,
        /// One sentence for people, without its full stop.
        detail: Cow<'static, str>,
    },
    /// Any other refusal.
    Refusal(Refusal),
}

impl From<HttpFault> for HttpRefusal {
    fn from(fault: HttpFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Refusal> for HttpRefusal {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

/// Appends a refusal. `detail` is one sentence for people where there is more to say than the
/// code does: with `BAD_TOKEN`, what is wrong with the token.
pub fn encode_refusal(
    out: &mut Vec<u8>,
    site: &Site,
    reply: &Reply,
    refusal: Refusal,
    detail: Option<&str>,
) {
    let _ = (out, site, reply, refusal, detail);
}

/// Appends a fault. The connection closes behind it where [`HttpFault::closes`], whatever the
/// reply says.
pub fn encode_fault(out: &mut Vec<u8>, site: &Site, reply: &Reply, fault: HttpFault) {
    let _ = (out, site, reply, fault);
}

/// Appends whichever it is.
pub fn encode_http_refusal(out: &mut Vec<u8>, site: &Site, reply: &Reply, refusal: &HttpRefusal) {
    let _ = (out, site, reply, refusal);
}
