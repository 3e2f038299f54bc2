//! Arbitrary bytes where callers are told apart: tokens, signed and unsigned, the files of keys,
//! and the header of the PROXY protocol. The first byte says which of them it is.
//!
//! A token that nobody signed never holds; what is signed is refused or names an account; and
//! nothing panics.

#![no_main]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use boxoffice::admission::keys::Keys;
use boxoffice::admission::token::{TokenChecker, TokenKeys, TokenRules, TokenSigner};
use boxoffice::model::TimeMs;
use boxoffice::protocol::proxy;
use hmac::{Hmac, KeyInit, Mac};
use libfuzzer_sys::fuzz_target;
use sha2::Sha256;

const NOW: TimeMs = TimeMs(1_800_000_000_000);
const SECRET: &[u8] = b"32 bytes at least, says RFC 7518";

static RULES: LazyLock<TokenRules> = LazyLock::new(|| {
    let file = format!("hs256 base64 {}\n", BASE64_URL_SAFE_NO_PAD.encode(SECRET));
    let keys = TokenKeys::parse([(Path::new("shop.secret"), file.as_bytes())]);
    let keys = Arc::new(keys.expect("a key file").expect("there is one"));
    TokenRules { keys, issuer: None, audience: Some("shop".into()) }
});

fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, bytes)) = bytes.split_first() else { return };
    match kind % 5 {
        0 => assert!(RULES.verify(bytes, NOW).is_err(), "nobody signed it"),
        1 => signed(bytes),
        2 => {
            let _ = TokenKeys::parse([(Path::new("shop.secret"), bytes)]);
            let _ = TokenSigner::parse(bytes);
        }
        3 => {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            if let Ok(keys) = Keys::parse(text, "keys") {
                assert_eq!(keys.verify(bytes), None, "a file is no key");
            }
        }
        _ => {
            let _ = proxy::decode(bytes);
        }
    }
});

/// Header and claims, with a line's end between them, under a right signature: the checker, which
/// remembers, says what the rules say.
fn signed(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let [header, claims] = [parts.next(), parts.next()].map(Option::unwrap_or_default);
    let [header, claims] = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
    let content = format!("{header}.{claims}");
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).expect("a key of any length");
    mac.update(content.as_bytes());
    let signature = BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    let token = format!("{content}.{signature}");
    let verdict = RULES.verify(token.as_bytes(), NOW);
    let mut checker = TokenChecker::new(Arc::new(RULES.clone()));
    for _ in 0..2 {
        let checked = checker.check(token.as_bytes(), NOW);
        match (&verdict, &checked) {
            (Ok(verified), Ok(account)) => assert_eq!(verified.account, *account),
            (Err(error), Err(other)) => assert_eq!(error, other),
            _ => panic!("{verdict:?} is not {checked:?}"),
        }
    }
}
