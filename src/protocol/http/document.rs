//! Static documents, and the answers to `OPTIONS`.

use super::fault::Methods;
use super::reply::{Reply, Site};

/// A document that is the same for everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    /// `Content-Type`
    pub content_type: &'a str,
    /// `Cache-Control`
    pub cache_control: &'a str,
    /// `ETag`, with its quotation marks.
    pub etag: &'a str,
    /// The document.
    pub body: &'a [u8],
}

/// Appends a document, or 304 where one of the `If-None-Match` values has its tag.
pub fn encode_document<'v>(
    out: &mut Vec<u8>,
    site: &Site,
    reply: &Reply,
    document: &Document<'_>,
    if_none_match: impl Iterator<Item = &'v [u8]>,
) {
    let _ = (out, site, reply, document, if_none_match.count());
}

/// Appends the answer to `OPTIONS` of a place that takes `methods`: 204, and to a preflight
/// request of an origin that may read answers what it may send.
pub fn encode_options(out: &mut Vec<u8>, site: &Site, reply: &Reply, methods: Methods) {
    let _ = (out, site, reply, methods);
}
