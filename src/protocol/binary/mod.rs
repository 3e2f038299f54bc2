//! The binary protocol, version 1.
//!
//! A connection is a stream of frames in both directions. The first request is `HELLO`; from
//! then on requests are pipelined, and each gets exactly one answer, which carries the
//! request's correlation id and may come in another order. A frame that is no frame or no
//! request is answered by one `ERROR`, and the connection closes behind it. A request that
//! cannot be true to its meaning (an empty basket, say) is `REFUSED`, and the connection goes
//! on.
//!
//! # Frame
//!
//! All integers are little-endian and unaligned.
//!
//! ```text
//!  0      4        8               16       17      18     20         24
//!  ┌──────┬────────┬───────────────┬────────┬───────┬──────┬──────────┬─────────────┐
//!  │crc32 │ length │ correlation   │version │opcode │flags │ reserved │ payload …   │
//!  │ u32  │ u32    │ u64           │ u8 = 1 │ u8    │ u16  │ u32 = 0  │             │
//!  └──────┴────────┴───────────────┴────────┴───────┴──────┴──────────┴─────────────┘
//!  crc32        CRC-32 (IEEE 802.3, as in zlib) of every byte behind it: [4, length)
//!  length       of the whole frame: 24 ..= 8,192 in requests, ..= 65,536 in answers
//!  correlation  chosen by the client; the answer carries the same
//!  flags        zero in requests; bit 0 of an answer: replayed
//! ```
//!
//! The CRC stands first so that it covers the length too. The places of `length`, `correlation`
//! and `version` are the same in every version to come.
//!
//! # Parts of payloads
//!
//! ```text
//! opt T     present u8 (0 or 1), T; T is all zero where it is absent
//! intent    sale u64, account u128, request u128                            40 bytes
//! wanted    count u8, count × { item u32, quantity u32, price opt u64 }     1 + 17 × count
//! lines     count u8, count × { item u32, quantity u32 }                    1 + 8 × count
//! lines?    0 u8: all of them | 1 u8, lines
//! bytes     length u8, that many bytes
//! terms     opens_at opt u64, closes_at opt u64, hold_ttl u32, account_limit opt u32
//! ```
//!
//! Times are milliseconds since the Unix epoch, `ttl`s are milliseconds, prices are in the
//! minor unit of the currency. Each value has one encoding: a second one is an error.
//!
//! # Requests
//!
//! ```text
//! 01 HELLO         key bytes (≤ 128), client name bytes (≤ 64, UTF-8, may be empty)
//! 10 DEFINE_SALE   sale u64, terms
//! 11 DEFINE_ITEM   sale u64, item u32, capacity u32, price u64, account_limit opt u32
//! 12 RESTOCK       sale u64, request u128, item u32, by i64
//! 13 OPEN_SALE     sale u64
//! 14 PAUSE_SALE    sale u64
//! 15 CLOSE_SALE    sale u64
//! 16 ARCHIVE_SALE  sale u64
//! 20 HOLD          intent, ttl opt u32, wanted
//! 21 BUY           intent, wanted, payment bytes (≤ 64)
//! 22 CONFIRM       intent, order u32, payment bytes (≤ 64), lines?
//! 23 RELEASE       intent, order u32
//! 24 EXTEND        intent, order u32
//! 25 CANCEL        intent, order u32, lines?
//! 26 FENCE         intent
//! 30 ORDER         sale u64, order u32
//! 31 REQUEST       intent
//! 32 AVAILABILITY  sale u64
//! 33 STATS         sale u64
//! 34 SALES         shard u16, after opt u64, limit u16 (≥ 1)
//! 35 ACCOUNT_ORDERS  sale u64, account u128, after order u32, limit u16 (≥ 1)
//! ```
//!
//! # Answers
//!
//! ```text
//! 81 WELCOME       version u8, scopes u8 (1 buy, 2 admin), shard u16, frame_bytes_max u32,
//!                  in_flight_max u32, boot u64, shards u16, shards × port u16
//! 90 DONE
//! a0 HELD          order u32, expires_at u64
//! a1 CONFIRMED     order u32
//! a2 RELEASED      order u32
//! a3 EXTENDED      order u32, expires_at u64
//! a4 CANCELLED     order u32
//! a5 FENCED
//! b0 ORDER_IS      order u32, account u128, state u8, expires_at opt u64, lines
//! b2 AVAILABILITY_IS  count u16, count × { item u32, price u64, account_limit opt u32,
//!                  capacity u32, available u32, held u32, sold u32 }
//! b3 STATS_ARE     stats: state u8, terms, items u32, orders u32, held u32, confirmed u32,
//!                  released u32, expired u32, cancelled u32, accounts u32,
//!                  capacity u64, available u64, held u64, sold u64
//! b4 SALES_ARE     next opt u64, count u16, count × { sale u64, stats }
//! b5 ACCOUNT_ORDERS_ARE  next opt u32, count u16, count × { the payload of ORDER_IS }
//! e0 REFUSED       code u16, then by code: NOT_OPEN opens_at opt u64 | WRONG_STATE state u8
//!                  | BAD_REQUEST field u8 | else nothing
//! f0 ERROR         code u16, offset u32: of the byte in the frame at which decoding stopped
//! ```
//!
//! The codes of refusals, fields and states are in [`codes`](crate::protocol::codes), those of
//! errors in [`ErrorCode`].
//!
//! # The shard of a sale
//!
//! `WELCOME` names the shard that answers and the port of each. Any shard takes any request;
//! the sale's own saves the server a hop. With 64-bit wrapping arithmetic on the sale's id `x`:
//!
//! ```text
//! x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
//! x = (x ^ (x >> 27)) * 0x94d049bb133111eb
//! shard = (x ^ (x >> 31)) mod shards
//! ```

mod answer;
mod frame;
mod opcode;
mod payload;
mod request;
mod response;

pub use answer::{
    OrderHead, encode_answer, encode_availability, encode_error, encode_order, encode_refusal,
    encode_welcome,
};
pub use frame::{
    DecodeError, ErrorCode, FRAME_BYTES_MAX, Frame, HEADER_BYTES, REQUEST_BYTES_MAX, VERSION,
    frame, request_frame,
};
pub use opcode::Opcode;
pub use request::{
    HOLD_ONE_LINE_BYTES, Hello, KEY_BYTES_MAX, NAME_BYTES_MAX, Request, RequestError,
    encode_command, encode_hello, encode_query, encode_request, intents,
};
pub use response::{Response, SHARDS_MAX, Welcome};
