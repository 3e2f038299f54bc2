//! HTTP/1.1 with JSON: bytes to the model and back.
//!
//! The way of a request: [`Decoder::decode`] finds its end and its parts, [`route`] its place in
//! the table below, [`to_ask`] its meaning for a [`Caller`], and an `encode_*` function appends
//! the answer. No I/O and no clock: the current second comes in as a [`DateText`].
//!
//! ```text
//! POST /v1/sales/{sale}/orders                      hold or buy           201
//! POST /v1/sales/{sale}/orders/{n}/confirm          hold to tickets       200
//! POST /v1/sales/{sale}/orders/{n}/release          give a hold back      200
//! POST /v1/sales/{sale}/orders/{n}/cancel           tickets to stock      200
//! POST /v1/sales/{sale}/orders/{n}/extend           a longer hold, once   200
//! GET  /v1/sales/{sale}/orders/{n}                  the order as it is    200
//! GET  /v1/sales/{sale}/requests/{request_id}       what became of it     200
//!        ?account=…  (not with a buyer's token)  &fence=true  (never with HEAD)
//! GET  /v1/sales/{sale}/availability                counters of all items 200
//! GET  /v1/sales/{sale}/stats                       totals of the sale    200
//! GET  /openapi.json                                the description of all this
//! anything else outside /v1/                        a static document
//! ```
//!
//! `HEAD` goes where `GET` goes, `OPTIONS` everywhere. Accounts and request ids are texts, see
//! [`text_id`](crate::model::text_id); the request id of a `POST` is its `Idempotency-Key`, bare or
//! in quotes ([`request_id`]).
//!
//! # What is refused, and how
//!
//! A request that is understood and cannot be granted is a [`Refusal`](crate::model::Refusal).
//! A request that is not understood is an [`HttpFault`]. Both are `application/problem+json`. A
//! fault in the syntax of a request closes the connection, since nobody knows where the next
//! request would begin. Where two readers of the same bytes might disagree (a proxy in front and
//! this decoder), the bytes are refused: both kinds of length, a repeated length, any transfer
//! coding but exactly `chunked`, a bare CR or LF, a folded line, a space before a colon, a
//! missing or second `Host`.
//!
//! # Bounds
//!
//! [`HEAD_BYTES_MAX`], [`HEADERS_MAX`], [`TARGET_BYTES_MAX`], [`BODY_BYTES_MAX`] and
//! [`CHUNKED_BYTES_MAX`]: a request that is not complete within [`REQUEST_BYTES_MAX`] bytes is a
//! fault, so that is the most input that a connection ever has to keep.
//!
//! What is not here: HTTP/2 and TLS (a proxy's work), cookies, content codings, ranges,
//! multipart bodies, trailers (read and dropped).

mod answer;
mod ask;
mod body;
mod chunked;
mod cors;
mod date;
mod decoder;
mod document;
mod fault;
mod head;
mod json;
mod lines;
mod order_body;
mod problem;
mod reply;
mod request;
mod request_id;
mod response;
mod route;
mod target;

/// The interface as an `OpenAPI` 3.1 document, in JSON: `tests/openapi.rs` holds it to the code.
pub const OPENAPI: &[u8] = include_bytes!("openapi.json");

pub use answer::{
    AVAILABILITY_BYTES_MAX, CONTINUE, OrderHead, SHORT_ANSWER_BYTES_MAX, encode_answer,
    encode_availability, encode_order,
};
pub use ask::{Ask, Caller, json_body, to_ask};
pub use body::Object;
pub use chunked::CHUNKED_BYTES_MAX;
pub use cors::{Cors, CorsError, ORIGIN_BYTES_MAX, ORIGINS_MAX, Sharing};
pub use date::DateText;
pub use decoder::{BODY_BYTES_MAX, Decoded, Decoder, REQUEST_BYTES_MAX, request_bytes_max};
pub use document::{Document, encode_document, encode_options};
pub use fault::{HttpFault, Methods};
pub use head::{HEAD_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX};
pub use problem::{
    HttpRefusal, encode_fault, encode_http_refusal, encode_refusal, encode_unknown_caller,
};
pub use reply::{Reply, Site};
pub use request::{Method, Request, Version};
pub use request_id::request_id;
pub use response::{announce_close, status_line};
pub use route::{Route, route};
