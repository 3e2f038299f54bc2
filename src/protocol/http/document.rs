//! Static documents, and the answers to `OPTIONS`.

use super::fault::Methods;
use super::reply::{Reply, Site};
use super::response::{put_allow, respond, respond_empty};

/// What a browser may do with a document, and with the pages among them: load from this origin
/// alone, run no script that stands in the page or is made of text, be shown in no other page.
const GUARD: &str = "\
Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; \
img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'\r\n\
X-Content-Type-Options: nosniff\r\n\
Referrer-Policy: no-referrer\r\n";

/// A document that is the same for everyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    /// `Content-Type`
    pub content_type: &'a str,
    /// `Cache-Control`
    pub cache_control: &'a str,
    /// `ETag`, with its quotation marks.
    pub etag: &'a str,
    /// The document, below ten million bytes.
    pub body: &'a [u8],
}

/// Appends a document, or 304 where one of the `If-None-Match` values has its tag.
///
/// # Panics
///
/// Where the document is too long.
pub fn encode_document<'v>(
    out: &mut Vec<u8>,
    site: &Site,
    reply: &Reply,
    document: &Document<'_>,
    if_none_match: impl Iterator<Item = &'v [u8]>,
) {
    let put_tags = |out: &mut Vec<u8>| {
        put_header(out, "ETag: ", document.etag);
        put_header(out, "Cache-Control: ", document.cache_control);
        out.extend_from_slice(GUARD.as_bytes());
    };
    let tag = document.etag.as_bytes();
    if if_none_match.into_iter().any(|value| names_tag(value, tag)) {
        return respond_empty(out, site, reply, 304, put_tags);
    }
    let put_headers = |out: &mut Vec<u8>| {
        put_tags(out);
        put_header(out, "Content-Type: ", document.content_type);
    };
    respond(out, site, reply, 200, put_headers, |out| out.extend_from_slice(document.body));
}

/// Appends the answer to `OPTIONS` of a place that takes `methods`: 204, and to a preflight
/// request of an origin that may read answers what it may send.
pub fn encode_options(out: &mut Vec<u8>, site: &Site, reply: &Reply, methods: Methods) {
    respond_empty(out, site, reply, 204, |out| {
        put_allow(out, methods);
        if site.cors.allowed_origin(reply.sharing).is_some() {
            put_header(out, "Access-Control-Allow-Methods: ", methods.allow());
            out.extend_from_slice(
                b"Access-Control-Allow-Headers: authorization, content-type, idempotency-key\r\n\
                  Access-Control-Max-Age: 7200\r\n",
            );
        }
    });
}

fn put_header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Whether a list of tags has this one by the weak comparison (RFC 9110, 13.1.2), or is `*`.
fn names_tag(list: &[u8], tag: &[u8]) -> bool {
    let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").map_or(tag.to_vec(), <[u8]>::to_vec);
    let own = opaque(tag);
    list.split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .any(|known| known == b"*" || opaque(known) == own)
}
