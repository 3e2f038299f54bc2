//! What a frame costs: nanoseconds to decode a one-line `BUY` (checksum included), to encode its
//! answer and a refusal, and how much of that is the checksum. Then the same purchase in HTTP.
//!
//! ```text
//! cargo bench --bench protocol
//! cargo bench --bench protocol -- decode     (only what has `decode` in its name)
//! ```
//!
//! Prints the best of several rounds: on a busy machine the least disturbed one.
//!
//! Below 128 bytes `crc32fast` works from tables, 16 bytes a turn, and not with carry-less
//! multiplication, so the checksum of a short frame costs in proportion to its length. What
//! decoding costs beyond it is mostly the moving of a [`Command`], which has room for 16 lines.

use std::hint::black_box;
use std::time::Instant;

use boxoffice::model::{
    AccountId, Answer, Command, Intent, ItemId, Line, OrderNumber, Outcome, PaymentRef, Price,
    Quantity, Refusal, RequestId, SaleId, TimeMs, Wanted, WantedLine,
};
use boxoffice::protocol::binary::{
    Request, encode_answer, encode_command, encode_refusal, request_frame,
};
use boxoffice::protocol::http;

const ROUNDS: u32 = 20;
const CALLS: u32 = 200_000;

/// Prints the nanoseconds of one call, best of [`ROUNDS`].
fn measure(what: &str, mut call: impl FnMut()) {
    let is_wanted = |filter: String| filter.starts_with("--") || what.contains(&filter);
    if !std::env::args().skip(1).all(is_wanted) {
        return;
    }
    let round = |call: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..CALLS).for_each(|_| call());
        start.elapsed()
    };
    let best = (0..ROUNDS).map(|_| round(&mut call)).min().expect("there are rounds");
    println!("{what:<44} {:>7.1} ns", best.as_secs_f64() * 1e9 / f64::from(CALLS));
}

fn one_line_buy() -> Command {
    let line = Line { item: ItemId(7), quantity: Quantity(2) };
    let wanted = WantedLine { line, price: Some(Price(4_950)) };
    Command::Buy {
        intent: Intent { sale: SaleId(1), account: AccountId(2), request: RequestId(3) },
        lines: Wanted::new([wanted]).expect("one line"),
        payment: PaymentRef::new(b"pay-0001").expect("short enough"),
    }
}

fn main() {
    measure_frames();
    measure_http();
    let block = [0xa5_u8; 8192];
    for len in [24, 32, 64, 80, 96, 127, 128, 256, 1024, 8192] {
        measure(&format!("crc32 of {len} bytes"), || {
            black_box(crc32fast::hash(black_box(&block[..len])));
        });
    }
}

fn measure_frames() {
    let buy = one_line_buy();
    let mut bytes = Vec::new();
    encode_command(&mut bytes, 9, &buy);
    let what = format!("decode a one-line BUY ({} bytes)", bytes.len());
    measure(&what, || {
        let frame = request_frame(black_box(&bytes)).expect("valid").expect("whole");
        assert!(black_box(&Request::decode(&frame)).is_ok());
    });
    measure("  of that: the frame and its checksum", || {
        black_box(request_frame(black_box(&bytes)).expect("valid").expect("whole"));
    });

    let mut out = Vec::with_capacity(4096);
    let answer = Answer { outcome: Outcome::Confirmed { order: OrderNumber(99) }, replayed: false };
    measure("encode its answer (28 bytes)", || {
        out.clear();
        encode_answer(&mut out, black_box(9), black_box(&answer));
        black_box(&out);
    });
    measure("encode a refusal (26 bytes)", || {
        out.clear();
        encode_refusal(&mut out, black_box(9), black_box(Refusal::SoldOut));
        black_box(&out);
    });
    measure("encode a one-line BUY", || {
        out.clear();
        encode_command(&mut out, black_box(9), black_box(&buy));
        black_box(&out);
    });
}

/// As a web back end sends it.
const HTTP_BUY: &str = "POST /v1/sales/1/orders HTTP/1.1\r\n\
    Host: tickets.example.org:7480\r\n\
    Authorization: Bearer bo_0123456789abcdef0123456789abcdef\r\n\
    Content-Type: application/json\r\n\
    Idempotency-Key: 8e03978e-40d5-43e8-bc93-6894a57f9324\r\n\
    Content-Length: 137\r\n\r\n\
    {\"account\":\"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\",\"action\":\"buy\",\
    \"lines\":[{\"item\":7,\"quantity\":2,\"price\":4950}],\"payment_ref\":\"pay-0001\"}";

fn measure_http() {
    let what = format!("HTTP: decode, route, mean it ({} bytes)", HTTP_BUY.len());
    let mut decoder = http::Decoder::default();
    let site = http::Site {
        date: http::DateText::new(TimeMs(784_111_777_000)),
        cors: http::Cors::default(),
    };
    let decode = |decoder: &mut http::Decoder, is_meant: bool| {
        let Ok(http::Decoded::Complete { request, .. }) =
            decoder.decode(black_box(HTTP_BUY.as_bytes()))
        else {
            panic!("a request")
        };
        let mut reply = http::Reply::to(&request, &site.cors);
        if is_meant {
            let route = http::route(&request).expect("a place");
            let ask = http::to_ask(route, &request, http::Caller::Open, &mut reply);
            assert!(black_box(&ask).is_ok());
        }
        black_box(reply)
    };
    measure(&what, || {
        decode(&mut decoder, true);
    });
    measure("  of that: the syntax", || {
        decode(&mut decoder, false);
    });

    let mut out = Vec::with_capacity(4096);
    let reply = decode(&mut decoder, true);
    let answer = Answer { outcome: Outcome::Confirmed { order: OrderNumber(99) }, replayed: false };
    http::encode_answer(&mut out, &site, &reply, &answer);
    measure(&format!("HTTP: encode its answer ({} bytes)", out.len()), || {
        out.clear();
        http::encode_answer(&mut out, &site, black_box(&reply), black_box(&answer));
        black_box(&out);
    });
    out.clear();
    http::encode_refusal(&mut out, &site, &reply, Refusal::SoldOut, None);
    measure(&format!("HTTP: encode a refusal ({} bytes)", out.len()), || {
        out.clear();
        http::encode_refusal(&mut out, &site, &reply, black_box(Refusal::SoldOut), None);
        black_box(&out);
    });
}
