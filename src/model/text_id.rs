//! Ids that come as text: how an account or a request id of HTTP and of tokens becomes 128 bits.
//!
//! A UUID in its usual form (8-4-4-4-12 hex digits, either case) stands for its own 128 bits, the
//! first digit the highest. Any other text of 1 to [`TEXT_ID_BYTES_MAX`] bytes stands for the
//! first 16 bytes of its SHA-256, the first byte the highest, so that `printf %s TEXT | sha256sum`
//! shows the id. Texts are taken as they are: nothing is trimmed, and case counts.
//!
//! Both directions keep to one rule: the id of [`UuidText`] of an id is that id.

use std::fmt;

use sha2::block_api::compress256;
use sha2::{Digest, Sha256};

use super::id::{AccountId, RequestId};

/// The longest text of an id, in bytes.
pub const TEXT_ID_BYTES_MAX: usize = 64;

const UUID_BYTES: usize = 36;

/// Where a UUID has its hyphens.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// The account that this text stands for. `None` where the text is empty or too long, or is the
/// nil UUID, which is [`AccountId::OPERATOR`] and no buyer.
#[must_use]
pub fn account_from_text(text: &[u8]) -> Option<AccountId> {
    id_from_text(text).map(AccountId).filter(|account| *account != AccountId::OPERATOR)
}

/// The request id that this text stands for; `None` where it is empty or too long.
#[must_use]
pub fn request_id_from_text(text: &[u8]) -> Option<RequestId> {
    id_from_text(text).map(RequestId)
}

fn id_from_text(text: &[u8]) -> Option<u128> {
    if !(1..=TEXT_ID_BYTES_MAX).contains(&text.len()) {
        return None;
    }
    Some(parse_uuid(text).unwrap_or_else(|| digest(text)))
}

/// The first half of a text's SHA-256.
fn digest(text: &[u8]) -> u128 {
    if let Some(block) = only_block(text) {
        // The general way has a block to fill and words to put back into bytes.
        let mut state = START;
        compress256(&mut state, &[block]);
        return state[..4].iter().fold(0, |id, &word| id << 32 | u128::from(word));
    }
    let digest = Sha256::digest(text);
    let (first, _) = digest.as_slice().split_first_chunk().expect("a digest has 32 bytes");
    u128::from_be_bytes(*first)
}

/// The one block that a short text makes: itself, a one bit, zeros, and its length in bits.
fn only_block(text: &[u8]) -> Option<[u8; 64]> {
    let mut block = [0; 64];
    let (place, length) = block.split_at_mut(56);
    *place.get_mut(text.len())? = 0x80;
    place[..text.len()].copy_from_slice(text);
    length.copy_from_slice(&(8 * text.len() as u64).to_be_bytes());
    Some(block)
}

/// The state that SHA-256 begins with (FIPS 180-4, 5.3.3).
const START: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

fn parse_uuid(text: &[u8]) -> Option<u128> {
    let text: &[u8; UUID_BYTES] = text.try_into().ok()?;
    if HYPHENS.iter().any(|&at| text[at] != b'-') {
        return None;
    }
    // Every digit is taken before any is judged, so that the loops have no branch.
    let (mut id, mut judged) = (0, 0);
    for [from, to] in [[0, 8], [9, 13], [14, 18], [19, 23], [24, UUID_BYTES]] {
        let mut group = 0_u64;
        for &byte in &text[from..to] {
            let digit = HEX_DIGITS[usize::from(byte)];
            judged |= digit;
            group = group << 4 | u64::from(digit & 15);
        }
        id = id << (4 * (to - from)) | u128::from(group);
    }
    (judged <= 15).then_some(id)
}

/// The values of hexadecimal digits, and of every other byte a number past them.
const HEX_DIGITS: [u8; 256] = {
    let mut digits = [0x80; 256];
    let mut value = 0;
    while value < 16 {
        let digit = b"0123456789abcdef"[value as usize];
        digits[digit as usize] = value;
        digits[digit.to_ascii_uppercase() as usize] = value;
        value += 1;
    }
    digits
};

/// An id in the form of a UUID, in lower case, without an allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UuidText([u8; UUID_BYTES]);

impl UuidText {
    /// The text of these 128 bits.
    #[must_use]
    pub fn new(id: u128) -> Self {
        let mut text = [b'-'; UUID_BYTES];
        let mut rest = id;
        for (at, byte) in text.iter_mut().enumerate().rev() {
            if !HYPHENS.contains(&at) {
                *byte = b"0123456789abcdef"[(rest & 15) as usize];
                rest >>= 4;
            }
        }
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hex digits and hyphens")
    }
}

impl From<AccountId> for UuidText {
    fn from(account: AccountId) -> Self {
        Self::new(account.0)
    }
}

impl fmt::Display for UuidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for UuidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // From `uuid` and from `printf %s abc | sha256sum`.
    const UUID: &str = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
    const OF_UUID: u128 = 0xf81d_4fae_7dec_11d0_a765_00a0_c91e_6bf6;
    const OF_ABC: u128 = 0xba78_16bf_8f01_cfea_4141_40de_5dae_2223;

    #[test]
    fn a_uuid_stands_for_itself_and_a_text_for_its_digest() {
        for uuid in [UUID.to_owned(), UUID.to_uppercase()] {
            assert_eq!(account_from_text(uuid.as_bytes()), Some(AccountId(OF_UUID)));
            assert_eq!(request_id_from_text(uuid.as_bytes()), Some(RequestId(OF_UUID)));
        }
        assert_eq!(account_from_text(b"abc"), Some(AccountId(OF_ABC)));
        assert_eq!(request_id_from_text(b"abc"), Some(RequestId(OF_ABC)));
    }

    #[test]
    fn texts_of_every_length_stand_for_their_digests() {
        let text: [u8; TEXT_ID_BYTES_MAX] = std::array::from_fn(|at| at as u8 ^ 0x5a);
        for length in 1..=TEXT_ID_BYTES_MAX {
            let digest = Sha256::digest(&text[..length]);
            let id = u128::from_be_bytes(*digest.as_slice().first_chunk().expect("32 bytes"));
            assert_eq!(request_id_from_text(&text[..length]), Some(RequestId(id)), "{length}");
        }
    }

    #[test]
    fn what_only_looks_like_a_uuid_is_a_text() {
        let simple = UUID.replace('-', "");
        let braced = format!("{{{UUID}}}");
        let moved = "f81d4fa-e7dec-11d0-a765-00a0c91e6bf6";
        let not_hex = UUID.replace('f', "g");
        let signed = UUID.replace("f8", "+8");
        for text in [simple.as_str(), &braced, moved, &not_hex, &signed, " abc", "ABC", "\u{e9}"] {
            let account = account_from_text(text.as_bytes()).expect("a text");
            assert!(![OF_UUID, OF_ABC].contains(&account.0), "{text}");
        }
    }

    #[test]
    fn the_length_is_bounded_and_no_buyer_is_the_operator() {
        assert_eq!((account_from_text(b""), request_id_from_text(b"")), (None, None));
        let longest = [b'x'; TEXT_ID_BYTES_MAX + 1];
        assert!(account_from_text(&longest[1..]).is_some());
        assert!(request_id_from_text(&longest[1..]).is_some());
        assert_eq!((account_from_text(&longest), request_id_from_text(&longest)), (None, None));
        let nil = UuidText::new(0);
        assert_eq!(account_from_text(nil.as_str().as_bytes()), None);
        assert_eq!(request_id_from_text(nil.as_str().as_bytes()), Some(RequestId(0)));
    }

    proptest! {
        #[test]
        fn the_text_of_an_id_stands_for_it(id: u128) {
            let text = UuidText::new(id);
            prop_assert_eq!(request_id_from_text(text.as_str().as_bytes()), Some(RequestId(id)));
            prop_assert_eq!(text.to_string().len(), UUID_BYTES);
        }
    }
}
