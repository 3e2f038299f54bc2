//! A decoded request: parts borrowed from the bytes that it came in, not yet understood.

/// A request's method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`: as `GET`, and the answer has no body.
    Head,
    /// `POST`
    Post,
    /// `PUT`: administration's alone.
    Put,
    /// `OPTIONS`
    Options,
    /// A method that HTTP knows and nothing here takes: 405.
    Foreign,
    /// A method that nobody knows: 501.
    Unknown,
}

/// The version of the protocol that a request is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: closes behind each answer unless asked not to.
    Http10,
    /// HTTP/1.1
    Http11,
}

/// One whole request.
///
/// Values of headers have no white space around them; each is a header that came at most once.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The version.
    pub version: Version,
    /// The path of the target, not decoded: it begins with `/`, or is the `*` of `OPTIONS *`.
    /// The authority of an absolute target is left out.
    pub path: &'a str,
    /// What stands behind the first `?` of the target, not decoded.
    pub query: Option<&'a str>,
    /// Whether the connection may go on behind the answer.
    pub keep_alive: bool,
    /// Whether the request says how long its body is, be it nothing.
    pub has_length: bool,
    /// The body without its transfer coding, at most
    /// [`BODY_BYTES_MAX`](super::BODY_BYTES_MAX) bytes.
    pub body: &'a [u8],
    /// `Authorization`
    pub authorization: Option<&'a [u8]>,
    /// `Idempotency-Key`
    pub idempotency_key: Option<&'a [u8]>,
    /// `Content-Type`
    pub content_type: Option<&'a [u8]>,
    /// `Content-Encoding`
    pub content_encoding: Option<&'a [u8]>,
    /// `Origin`
    pub origin: Option<&'a [u8]>,
    /// `Access-Control-Request-Method`
    pub requested_method: Option<&'a [u8]>,
    /// All lines of headers, each with its line end, for [`Self::values`].
    pub(super) header_lines: &'a [u8],
}

impl<'a> Request<'a> {
    /// The values of every header of this name, in their order, without white space around them.
    ///
    /// It reads all headers again, so it is for those that few requests need: `X-Forwarded-For`,
    /// `If-None-Match`, `Accept`.
    #[must_use]
    pub fn values(&self, name: &'static str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        self.header_lines.split(|&byte| byte == b'\n').filter_map(move |line| {
            let colon = name.len();
            let is_named = line.get(colon) == Some(&b':')
                && line[..colon].eq_ignore_ascii_case(name.as_bytes());
            is_named.then(|| line[colon + 1..].trim_ascii())
        })
    }

    /// The API key or token of `Authorization: Bearer …`; `None` where there is none, or where
    /// the scheme is another one.
    #[must_use]
    pub fn bearer(&self) -> Option<&'a [u8]> {
        let (scheme, token) = self.authorization?.split_at_checked(BEARER.len())?;
        let token = token.trim_ascii_start();
        (scheme.eq_ignore_ascii_case(BEARER) && !token.is_empty()).then_some(token)
    }
}

const BEARER: &[u8] = b"Bearer ";
