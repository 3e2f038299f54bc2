//! Arbitrary bytes as an HTTP connection. The first byte says into which pieces the others are
//! cut; what is read must not depend on that, must lie within its bounds, and whatever it means
//! must have an answer.

#![no_main]

use boxoffice::model::{AccountId, Scopes, TimeMs};
use boxoffice::protocol::http::{
    Caller, Cors, DateText, Decoded, Decoder, HEADERS_MAX, HttpFault, REQUEST_BYTES_MAX, Reply,
    Request, Route, SHORT_ANSWER_BYTES_MAX, Site, encode_fault, encode_http_refusal, route, to_ask,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&seed, bytes)) = bytes.split_first() else { return };
    let cut = read(bytes, usize::from(seed) + 1);
    assert_eq!(cut, read(bytes, bytes.len().max(1)));
});

/// The texts of all requests of a connection to which `piece` bytes come at a time.
fn read(bytes: &[u8], piece: usize) -> (Vec<String>, Option<HttpFault>) {
    let (mut decoder, mut waiting, mut read) = (Decoder::default(), Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        waiting.extend_from_slice(piece);
        loop {
            match decoder.decode(&waiting) {
                Ok(Decoded::Complete { consumed, request }) => {
                    assert!((1..=waiting.len().min(REQUEST_BYTES_MAX)).contains(&consumed));
                    answer(&request);
                    read.push(format!("{request:?}"));
                    waiting.drain(..consumed);
                }
                Ok(Decoded::Incomplete { .. }) => {
                    assert!(waiting.len() < REQUEST_BYTES_MAX);
                    break;
                }
                Err(fault) => {
                    let mut out = Vec::new();
                    encode_fault(&mut out, &site(), &Reply::LAST, fault);
                    assert!(fault.closes() && out.ends_with(b"}"));
                    return (read, Some(fault));
                }
            }
        }
    }
    (read, None)
}

fn answer(request: &Request<'_>) {
    assert!(request.values("x-forwarded-for").count() <= HEADERS_MAX);
    let mut reply = Reply::to(request, &site().cors);
    let Ok(route) = route(request) else { return };
    if matches!(route, Route::Document | Route::Options(_)) {
        return;
    }
    let buyer = AccountId(0x2bd8_06c9_7f0e_00af_1a1f_c332_8fa7_63a9);
    for caller in [Caller::Open, Caller::Key(Scopes::ALL), Caller::Buyer(buyer)] {
        let Err(refusal) = to_ask(route, request, caller, &mut reply) else { continue };
        let mut out = Vec::new();
        encode_http_refusal(&mut out, &site(), &reply, &refusal);
        assert!(out.len() <= SHORT_ANSWER_BYTES_MAX && out.starts_with(b"HTTP/1.1 4"));
    }
}

fn site() -> Site {
    Site { date: DateText::new(TimeMs(784_111_777_000)), cors: Cors::default() }
}
