//! Documents that every shard serves over HTTP as they are: a path, its bytes, and how long a
//! browser may keep them.
//!
//! The table is made at the start and never changes. Nothing here reads files or writes HTTP.

use std::borrow::Cow;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::page;
use crate::protocol::http::OPENAPI;

/// The most bytes of one document: it goes out whole, through a connection's bounded output.
pub const DOCUMENT_BYTES_MAX: usize = 1 << 20;

/// One document.
#[derive(Clone, Debug)]
pub struct Document {
    path: Cow<'static, str>,
    content_type: &'static str,
    cache_control: &'static str,
    body: Cow<'static, [u8]>,
    etag: String,
}

impl Document {
    /// A document at `path`, which ends in `/*` where any one number stands in that place.
    #[must_use]
    pub fn new(
        path: impl Into<Cow<'static, str>>,
        content_type: &'static str,
        cache_control: &'static str,
        body: impl Into<Cow<'static, [u8]>>,
    ) -> Self {
        let (path, body) = (path.into(), body.into());
        assert!(body.len() <= DOCUMENT_BYTES_MAX, "{path} is too large to be served");
        let etag = format!("\"{}\"", digest(&body));
        Self { path, content_type, cache_control, body, etag }
    }

    /// A document whose path is `folder`, a digest of its bytes, and `extension`. Other bytes have
    /// another path, so it may be kept for ever.
    #[must_use]
    pub fn named_by_digest(
        folder: &str,
        extension: &str,
        content_type: &'static str,
        body: impl Into<Cow<'static, [u8]>>,
    ) -> Self {
        let body = body.into();
        let path = format!("{folder}/{}.{extension}", digest(&body));
        Self::new(path, content_type, "public, max-age=31536000, immutable", body)
    }

    /// Where it is, as given to [`Document::new`].
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The media type.
    #[must_use]
    pub const fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// How long it may be kept, as `Cache-Control` says it.
    #[must_use]
    pub const fn cache_control(&self) -> &'static str {
        self.cache_control
    }

    /// The bytes.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The strong entity tag, in its quotes: it changes with the bytes.
    #[must_use]
    pub fn etag(&self) -> &str {
        &self.etag
    }

    fn is_at(&self, path: &str) -> bool {
        let Some(folder) = self.path.strip_suffix('*') else { return self.path == path };
        path.strip_prefix(folder).is_some_and(|number| {
            number.len() <= 20 && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
        })
    }
}

/// 128 bits of the SHA-256 of these bytes, in hexadecimal.
fn digest(body: &[u8]) -> String {
    let mut text = String::new();
    for byte in &Sha256::digest(body)[..16] {
        write!(text, "{byte:02x}").expect("a string takes all that is written");
    }
    text
}

/// The documents of a server.
#[derive(Clone, Debug, Default)]
pub struct Documents(Vec<Document>);

impl Documents {
    /// A table of these.
    #[must_use]
    pub fn new(documents: impl IntoIterator<Item = Document>) -> Self {
        Self(documents.into_iter().collect())
    }

    /// Those that the program brings along.
    #[must_use]
    pub fn shipped() -> Self {
        // Asked for anew each time, since it changes with the program; its tag spares the bytes.
        let openapi = Document::new("/openapi.json", "application/json", "no-cache", OPENAPI);
        Self::new(page::documents().into_iter().chain([openapi]))
    }

    /// The document at a path.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Document> {
        self.0.iter().find(|document| document.is_at(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_found_by_its_path_alone() {
        let page = Document::new("/sales/*", "text/html", "no-cache", b"<!doctype html>");
        let plain = Document::new("/openapi.json", "application/json", "no-cache", b"{}");
        let documents = Documents::new([page, plain]);
        let found = |path| documents.find(path).map(Document::content_type);
        assert_eq!(found("/openapi.json"), Some("application/json"));
        assert_eq!(found("/sales/18446744073709551615"), Some("text/html"));
        for other in ["/", "/openapi.jso", "/openapi.json/", "/sales/", "/sales/1/", "/sales/x"] {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn a_document_named_by_its_digest_moves_with_its_bytes() {
        let named = |body| Document::named_by_digest("/a", "css", "text/css", body);
        let (one, other) = (named(b"1"), named(b"2"));
        assert_eq!(one.path(), named(b"1").path());
        assert_ne!(one.path(), other.path());
        assert_eq!(one.path(), format!("/a/{}.css", one.etag().trim_matches('"')));
        assert!(one.cache_control().ends_with("immutable"));
    }

    #[test]
    fn an_entity_tag_changes_with_the_bytes() {
        let document = |body| Document::new("/a", "text/plain", "no-cache", body);
        let (one, other) = (document(b"1"), document(b"2"));
        assert_eq!(one.etag(), document(b"1").etag());
        assert_ne!(one.etag(), other.etag());
        assert!(one.etag().starts_with('"') && one.etag().ends_with('"'));
    }
}
