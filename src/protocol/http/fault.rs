//! What is wrong with a request that is not understood, and the status that says so.

use super::request::Method;
use crate::protocol::codes::members;

/// The methods that a place takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Methods {
    /// `GET` and `HEAD`
    Read,
    /// `POST`
    Write,
    /// All of them: the place is the server itself, `*`.
    Any,
}

impl Methods {
    /// The value of the header `Allow`.
    #[must_use]
    pub const fn allow(self) -> &'static str {
        match self {
            Self::Read => "GET, HEAD, OPTIONS",
            Self::Write => "POST, OPTIONS",
            Self::Any => "GET, HEAD, POST, OPTIONS",
        }
    }

    /// Whether `method` is among them; `OPTIONS` always is.
    #[must_use]
    pub const fn contains(self, method: Method) -> bool {
        match method {
            Method::Get | Method::Head => matches!(self, Self::Read | Self::Any),
            Method::Post => matches!(self, Self::Write | Self::Any),
            Method::Options => true,
            Method::Put | Method::Foreign | Method::Unknown => false,
        }
    }
}

/// Declares [`HttpFault`] from rows of `Variant status "CODE" "title": closes`.
macro_rules! faults {
    ($(
        $(#[$doc:meta])*
        $variant:ident $(($inner:ty))? $status:literal $code:literal $title:literal $after:ident
    )*) => {
        /// A request that is not understood. It certainly changed nothing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum HttpFault {
            $($(#[$doc])* $variant $(($inner))?,)*
        }

        impl HttpFault {
            /// Status, code and title of every fault.
            pub const ROWS: &'static [(u16, &'static str, &'static str)] =
                &[$(($status, $code, $title)),*];

            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant { .. } => $status),* }
            }

            /// The name behind `urn:boxoffice:fault:`.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant { .. } => $code),* }
            }

            /// One sentence for people, without its full stop.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant { .. } => $title),* }
            }

            /// The members that every problem of this kind begins with, as JSON; the object
            /// stays open.
            #[must_use]
            pub(super) const fn problem(self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => members!("fault", $code, $title, $status)),*
                }
            }

            /// Whether nobody knows where the next request begins, so that the connection has to
            /// close behind the answer.
            #[must_use]
            pub const fn closes(self) -> bool {
                match self { $(Self::$variant { .. } => faults!(@ $after)),* }
            }
        }
    };
    (@ close) => { true };
    (@ go_on) => { false };
}

faults! {
    /// The request line or a header is not as the grammar has it.
    Syntax 400 "SYNTAX" "The request line or a header is malformed" close
    /// A line ends without CR, or without LF.
    LineEnd 400 "LINE_END" "A line ends in something other than CR and LF" close
    /// The target is neither a path nor an absolute URI nor the `*` of `OPTIONS`.
    Target 400 "TARGET" "The target of the request is malformed" close
    /// `Host` is missing, repeated or malformed.
    Host 400 "HOST" "A request has exactly one Host" close
    /// `Content-Length` is repeated or no number.
    ContentLength 400 "CONTENT_LENGTH" "Content-Length is one decimal number" close
    /// `Content-Length` stands beside `Transfer-Encoding`.
    BothLengths 400 "BOTH_LENGTHS"
        "Content-Length and Transfer-Encoding exclude each other" close
    /// `Transfer-Encoding` is not exactly `chunked`, is repeated, or is in HTTP/1.0.
    TransferEncoding 400 "TRANSFER_ENCODING" "The one transfer coding is chunked" close
    /// A chunk's size, end or trailer is malformed.
    Chunk 400 "CHUNK" "The chunked body is malformed" close
    /// A header that has one value came more than once.
    RepeatedHeader 400 "REPEATED_HEADER" "A header came twice that has one value" close
    /// There is nothing at this path.
    NoSuchPath 404 "NO_SUCH_PATH" "There is nothing at this path" go_on
    /// The place does not take this method.
    MethodNotAllowed(Methods) 405 "METHOD_NOT_ALLOWED" "This path takes other methods" go_on
    /// The request was begun and not finished in time.
    Timeout 408 "TIMEOUT" "The request was not complete in time" close
    /// A `POST` that has a body to say so did not.
    LengthRequired 411 "LENGTH_REQUIRED" "The request needs a Content-Length" go_on
    /// The body is too large.
    BodyTooLarge 413 "BODY_TOO_LARGE" "The body is too large" close
    /// The target is too long.
    TargetTooLong 414 "TARGET_TOO_LONG" "The target of the request is longer than 1 KiB" close
    /// The body is not `application/json`, or has a content coding.
    MediaType 415 "MEDIA_TYPE" "The body has to be application/json, without a coding" go_on
    /// `Expect` asks for something other than `100-continue`.
    Expectation 417 "EXPECTATION" "The one expectation is 100-continue" close
    /// The request line and the headers are too long or too many.
    HeadTooLarge 431 "HEAD_TOO_LARGE" "The headers are larger than 8 KiB, or more than 64" close
    /// The method is unknown.
    MethodUnknown 501 "METHOD_UNKNOWN" "The method is unknown" go_on
    /// The version is not HTTP/1.0 or HTTP/1.1.
    Version 505 "VERSION" "The versions are HTTP/1.1 and HTTP/1.0" close
}

impl std::fmt::Display for HttpFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.title())
    }
}

impl std::error::Error for HttpFault {}
