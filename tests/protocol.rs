//! The binary protocol against its golden frames and against arbitrary bytes.
//!
//! The frames in `tests/data/protocol` were made from the documented layout by another program,
//! so they hold the code to its documentation and not to itself. A property that fails prints
//! its smallest case and keeps the seed in `tests/protocol.proptest-regressions`.

#[path = "support/protocol_golden.rs"]
mod golden;
#[path = "support/protocol_strategy.rs"]
mod strategy;

use boxoffice::model::Refusal;
use boxoffice::protocol::binary::{
    DecodeError, ErrorCode, FRAME_BYTES_MAX, Frame, HEADER_BYTES, HOLD_ONE_LINE_BYTES, Opcode,
    Request, RequestError, Response, encode_answer, encode_availability, encode_error,
    encode_order, encode_refusal, encode_request, encode_welcome, frame, request_frame,
};
use boxoffice::protocol::codes::WireCode;
use proptest::prelude::*;

/// The correlation id of every golden frame.
const CORRELATION: u64 = 0x0102_0304_0506_0708;

fn encoded_request(request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode_request(&mut out, CORRELATION, request);
    out
}

fn encoded_response(response: &Response) -> Vec<u8> {
    let mut out = Vec::new();
    match response {
        Response::Welcome(welcome) => encode_welcome(&mut out, CORRELATION, welcome),
        Response::Answer(Ok(answer)) => encode_answer(&mut out, CORRELATION, answer),
        Response::Answer(Err(refusal)) => encode_refusal(&mut out, CORRELATION, *refusal),
        Response::Error(error) => encode_error(&mut out, CORRELATION, *error),
    }
    out
}

/// The one frame that `bytes` are.
fn whole(bytes: &[u8]) -> Frame<'_> {
    let frame = frame(bytes).expect("a valid frame").expect("a whole frame");
    assert_eq!((frame.len, frame.correlation), (bytes.len(), CORRELATION));
    frame
}

fn read_request(bytes: &[u8]) -> Result<Option<Request<'_>>, RequestError> {
    request_frame(bytes)?.map(|frame| Request::decode(&frame)).transpose()
}

fn read_response(bytes: &[u8]) -> Result<Option<Response>, DecodeError> {
    frame(bytes)?.map(|frame| Response::decode(&frame)).transpose()
}

/// Puts a right checksum on a frame that was tampered with.
fn reseal(bytes: &mut [u8]) {
    let crc = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
}

/// A frame around any payload, with a right checksum.
fn sealed(opcode: u8, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes.extend_from_slice(payload);
    let len = bytes.len() as u32;
    bytes[4..8].copy_from_slice(&len.to_le_bytes());
    bytes[8..16].copy_from_slice(&CORRELATION.to_le_bytes());
    bytes[16] = 1;
    bytes[17] = opcode;
    bytes[18..20].copy_from_slice(&flags.to_le_bytes());
    reseal(&mut bytes);
    bytes
}

#[test]
fn every_golden_request_is_read_and_written() {
    let rows = golden::rows("requests.hex");
    let values = golden::requests();
    assert_eq!(rows.len(), values.len());
    for (row, (name, value)) in rows.iter().zip(&values) {
        assert_eq!(row.name, *name, "the file and the values go in the same order");
        assert_eq!(Request::decode(&whole(&row.bytes)).as_ref(), Ok(value), "{name}");
        assert_eq!(golden::hex(&encoded_request(value)), golden::hex(&row.bytes), "{name}");
    }
}

#[test]
fn every_golden_answer_is_read_and_written() {
    let rows = golden::rows("answers.hex");
    let values = golden::answers();
    assert_eq!(rows.len(), values.len());
    for (row, (name, value)) in rows.iter().zip(&values) {
        assert_eq!(row.name, *name, "the file and the values go in the same order");
        assert_eq!(Response::decode(&whole(&row.bytes)).as_ref(), Ok(value), "{name}");
        assert_eq!(golden::hex(&encoded_response(value)), golden::hex(&row.bytes), "{name}");
    }
}

#[test]
fn the_golden_frames_cover_every_opcode_refusal_and_error() {
    let frames = [golden::rows("requests.hex"), golden::rows("answers.hex")].concat();
    for &opcode in Opcode::ALL {
        assert!(
            frames.iter().any(|row| u16::from(row.bytes[17]) == opcode.wire()),
            "no golden frame of {opcode:?}"
        );
    }
    let code_in = |opcode: Opcode, code: u16| {
        frames.iter().any(|row| {
            u16::from(row.bytes[17]) == opcode.wire() && row.bytes[24..26] == code.to_le_bytes()
        })
    };
    for &code in boxoffice::model::RefusalCode::ALL {
        assert!(code_in(Opcode::Refused, code.wire()), "no golden refusal {code:?}");
    }
    for &code in ErrorCode::ALL {
        assert!(code_in(Opcode::Error, code.wire()), "no golden error {code:?}");
    }
    let malformed = golden::rows("malformed.hex");
    for &code in ErrorCode::ALL {
        let is_decoding = !matches!(code, ErrorCode::HelloExpected | ErrorCode::HelloRepeated);
        assert_eq!(malformed.iter().any(|row| row.notes[1] == code.name()), is_decoding);
    }
}

#[test]
fn well_formed_requests_without_meaning_are_refused_by_field() {
    for row in golden::rows("refused.hex") {
        let Err(RequestError::Refused(Refusal::BadRequest { field })) = read_request(&row.bytes)
        else {
            panic!("{}: {:?}", row.name, read_request(&row.bytes));
        };
        assert_eq!(field.name(), row.notes[0], "{}", row.name);
    }
}

#[test]
fn malformed_frames_are_errors_with_their_offset() {
    for row in golden::rows("malformed.hex") {
        let error = match &*row.notes[0] {
            "request" => match read_request(&row.bytes) {
                Err(RequestError::Malformed(error)) => error,
                other => panic!("{}: {other:?}", row.name),
            },
            "answer" => read_response(&row.bytes).expect_err(&row.name),
            reader => panic!("{}: nobody is called {reader}", row.name),
        };
        let told = (error.code.name().to_owned(), error.offset.to_string());
        assert_eq!(told, (row.notes[1].clone(), row.notes[2].clone()), "{}", row.name);
    }
}

#[test]
fn a_hold_of_one_line_has_its_announced_size() {
    let rows = golden::rows("requests.hex");
    let hold = rows.iter().find(|row| row.name == "hold_one_line").expect("it is there");
    assert_eq!(hold.bytes.len(), HOLD_ONE_LINE_BYTES);
}

#[test]
fn answers_streamed_from_tables_are_the_same_bytes() {
    use boxoffice::model::Outcome;
    for (name, response) in golden::answers() {
        let Response::Answer(Ok(answer)) = &response else { continue };
        let mut out = Vec::new();
        match &answer.outcome {
            Outcome::Availability(items) => {
                encode_availability(&mut out, CORRELATION, items.iter().copied());
            }
            Outcome::Order(view) => {
                let (head, lines) = (view.into(), view.lines.iter().copied());
                encode_order(&mut out, CORRELATION, answer.replayed, &head, lines);
            }
            _ => continue,
        }
        assert_eq!(out, encoded_response(&response), "{name}");
    }
}

/// How many single-bit flips of a frame are accepted, with enough bytes behind it for any length.
fn accepted_flips(bytes: &[u8], after_flip: impl Fn(&mut [u8])) -> usize {
    let mut accepted = 0;
    let mut padded = bytes.to_vec();
    padded.resize(FRAME_BYTES_MAX, 0);
    for bit in 0..bytes.len() * 8 {
        padded[bit / 8] ^= 1 << (bit % 8);
        after_flip(&mut padded[..bytes.len()]);
        accepted += usize::from(frame(&padded) != frame(bytes) && frame(&padded).is_ok());
        padded[..bytes.len()].copy_from_slice(bytes);
    }
    accepted
}

#[test]
fn every_single_bit_flip_is_an_error() {
    for row in [golden::rows("requests.hex"), golden::rows("answers.hex")].concat() {
        assert_eq!(accepted_flips(&row.bytes, |_| ()), 0, "{}", row.name);
    }
}

/// The canary of the test above: where every flip gets a fresh checksum, many must pass.
#[test]
fn without_the_checksum_flips_would_pass() {
    let row = &golden::rows("requests.hex")[0];
    assert!(accepted_flips(&row.bytes, reseal) > 64);
}

#[test]
fn every_truncation_asks_for_more() {
    for row in [golden::rows("requests.hex"), golden::rows("answers.hex")].concat() {
        for len in 0..row.bytes.len() {
            assert_eq!(frame(&row.bytes[..len]), Ok(None), "{} cut at {len}", row.name);
        }
    }
}

/// The CRC cannot help where the sender itself cuts a payload short or goes on too long.
#[test]
fn every_cut_inside_an_intact_frame_is_malformed() {
    for row in golden::rows("requests.hex") {
        let payload = &row.bytes[HEADER_BYTES..];
        for len in 0..payload.len() {
            let cut = sealed(row.bytes[17], 0, &payload[..len]);
            let Err(RequestError::Malformed(error)) = read_request(&cut) else {
                panic!("{} with {len} bytes of payload was taken", row.name);
            };
            assert_eq!(error.code, ErrorCode::Truncated, "{}", row.name);
        }
        let grown = sealed(row.bytes[17], 0, &[payload, &[0]].concat());
        let Err(RequestError::Malformed(error)) = read_request(&grown) else {
            panic!("{} with a byte more was taken", row.name);
        };
        assert_eq!(error.code, ErrorCode::TrailingBytes, "{}", row.name);
    }
}

proptest! {
    #[test]
    fn any_request_survives_the_wire(request in strategy::request()) {
        let request = request.borrow();
        let bytes = encoded_request(&request);
        prop_assert_eq!(read_request(&bytes), Ok(Some(request)));
    }

    #[test]
    fn any_response_survives_the_wire(response in strategy::response()) {
        let bytes = encoded_response(&response);
        prop_assert_eq!(read_response(&bytes), Ok(Some(response)));
    }

    #[test]
    fn pipelined_frames_come_apart_again(
        requests in prop::collection::vec(strategy::request(), 0..8),
    ) {
        let mut stream = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            encode_request(&mut stream, index as u64, &request.borrow());
        }
        let mut rest = &stream[..];
        for (index, request) in requests.iter().enumerate() {
            let frame = request_frame(rest).expect("valid").expect("whole");
            prop_assert_eq!(frame.correlation, index as u64);
            prop_assert_eq!(Request::decode(&frame), Ok(request.borrow()));
            rest = &rest[frame.len..];
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = read_request(&bytes);
        let _ = read_response(&bytes);
    }

    /// Behind a right checksum the decoders see anything at all. What they take must be the one
    /// encoding of its value.
    #[test]
    fn arbitrary_payloads_are_canonical_or_refused(
        opcode in prop::sample::select(Opcode::ALL),
        flags in 0_u16..3,
        payload in strategy::payload(),
    ) {
        let bytes = sealed(opcode.wire() as u8, flags, &payload);
        if let Ok(Some(request)) = read_request(&bytes) {
            prop_assert_eq!(encoded_request(&request), bytes.clone());
        }
        if let Ok(Some(response)) = read_response(&bytes) {
            prop_assert_eq!(encoded_response(&response), bytes);
        }
    }

    /// The same from the other side: sound frames with a few bytes changed.
    #[test]
    fn tampered_requests_are_canonical_or_refused(
        request in strategy::request(),
        at in any::<prop::sample::Index>(),
        with in 0_u8..4,
    ) {
        let mut bytes = encoded_request(&request.borrow());
        if bytes.len() > HEADER_BYTES {
            let at = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES);
            bytes[at] = with;
            reseal(&mut bytes);
        }
        if let Ok(Some(request)) = read_request(&bytes) {
            prop_assert_eq!(encoded_request(&request), bytes);
        }
    }
}
