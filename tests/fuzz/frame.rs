//! Arbitrary bytes as frames of the binary protocol: what is read as a request is written as the
//! same bytes again, and nothing panics.

#![no_main]

use boxoffice::protocol::binary::{
    REQUEST_BYTES_MAX, Request, Response, encode_request, frame, intents, request_frame,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert!(intents(bytes).count() <= bytes.len());
    // The checksum is put right, so that the fuzzer comes past it.
    let mut sealed = bytes.to_vec();
    if let Some((crc, rest)) = sealed.split_first_chunk_mut::<4>() {
        *crc = checksum(rest).to_le_bytes();
    }
    if let Ok(Some(answer)) = frame(&sealed) {
        assert!((1..=sealed.len()).contains(&answer.len));
        let _ = Response::decode(&answer);
    }
    let Ok(Some(request)) = request_frame(&sealed) else { return };
    assert!((1..=sealed.len().min(REQUEST_BYTES_MAX)).contains(&request.len));
    if let Ok(decoded) = Request::decode(&request) {
        let mut out = Vec::new();
        encode_request(&mut out, request.correlation, &decoded);
        assert_eq!(out, &sealed[..request.len], "each value has one encoding");
    }
});

/// The checksum of the frame that begins four bytes before `rest`, as long as it says.
fn checksum(rest: &[u8]) -> u32 {
    let length = rest.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    crc32fast::hash(&rest[..length.saturating_sub(4).min(rest.len())])
}
