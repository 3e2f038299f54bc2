//! Arbitrary bytes as a record of the log: what is read can be written, and is read as the same
//! again; it says its own length, and nothing panics.

#![no_main]

use boxoffice::wal::codec::{RECORD_BYTES_MAX, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The length is put right, so that the fuzzer comes past it.
    let mut fitting = bytes.to_vec();
    if let [_, low, high, body @ ..] = &mut fitting[..] {
        [*low, *high] = (body.len() as u16).to_le_bytes();
    }
    for bytes in [bytes, &fitting] {
        let Ok((record, length)) = decode(bytes) else { continue };
        assert!((1..=bytes.len().min(RECORD_BYTES_MAX)).contains(&length));
        let mut again = [0; RECORD_BYTES_MAX];
        let written = encode(&record, &mut again);
        assert_eq!(decode(&again[..written]), Ok((record, written)));
        for cut in 0..length {
            assert!(decode(&bytes[..cut]).is_err(), "a record that is cut is none");
        }
    }
});
