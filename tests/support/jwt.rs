//! Tokens put together by hand: header and claims as JSON, signed with bare keys.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use boxoffice::admission::token::{BadToken, TokenKeys, TokenKeysProblem, TokenRules};
use boxoffice::model::{AccountId, TimeMs};
use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// The time of the tests.
pub const NOW: TimeMs = TimeMs(1_800_000_000_000);

/// Secrets of HS256.
pub const SECRET: &[u8] = b"32 bytes at least, says RFC 7518";
pub const OTHER_SECRET: &[u8] = b"another one of a sufficient length";

// RFC 8037, appendix A.1: `d` and `x`.
pub const ED25519_PRIVATE: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];
pub const ED25519_PUBLIC: [u8; 32] = [
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
    0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
];

/// What stands before the 32 bytes of a key in DER (RFC 8410).
const PUBLIC_DER: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const PRIVATE_DER: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

pub fn public_pem(key: &[u8; 32]) -> String {
    let der = BASE64_STANDARD.encode([&PUBLIC_DER[..], key].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
}

pub fn private_pem(key: &[u8; 32]) -> String {
    let der = BASE64_STANDARD.encode([&PRIVATE_DER[..], key].concat());
    format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n")
}

/// The file with this secret.
pub fn secret_file(secret: &[u8]) -> String {
    format!("hs256 base64 {}\n", BASE64_URL_SAFE_NO_PAD.encode(secret))
}

fn parse(files: &[(&str, &str)]) -> Result<TokenRules, TokenKeysProblem> {
    let files = files.iter().map(|(path, text)| (Path::new(*path), text.as_bytes()));
    match TokenKeys::parse(files) {
        Ok(keys) => {
            let keys = Arc::new(keys.expect("there is a file"));
            Ok(TokenRules { keys, issuer: None, audience: None })
        }
        Err(error) => {
            assert!(error.to_string().starts_with(&error.file), "{error}");
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
            Err(error.problem)
        }
    }
}

/// The rules with the keys of these files, each a name and a content.
pub fn rules(files: &[(&str, &str)]) -> TokenRules {
    parse(files).expect("the files are sound")
}

/// What is wrong with these files.
pub fn problem(files: &[(&str, &str)]) -> TokenKeysProblem {
    parse(files).expect_err("the files are not sound")
}

/// The verdict on a token at [`NOW`].
pub fn at(rules: &TokenRules, token: &str) -> Result<AccountId, BadToken> {
    rules.verify(token.as_bytes(), NOW).map(|verified| verified.account)
}

/// An object with a field set.
pub fn with(object: &Value, field: &str, value: impl Into<Value>) -> Value {
    let mut object = object.clone();
    object[field] = value.into();
    object
}

/// Claims that hold at [`NOW`], of `alice`, with some put in or replaced.
pub fn claims(others: &Value) -> Value {
    let seconds = NOW.0 / 1000;
    let mut claims = json!({"sub": "alice", "exp": seconds + 600, "iat": seconds});
    for (name, value) in others.as_object().expect("claims are an object") {
        claims[name] = value.clone();
    }
    claims
}

fn signed(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let [header, claims] = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
    let message = format!("{header}.{claims}");
    let signature = BASE64_URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

/// A token of these very texts, signed with HMAC.
pub fn raw(header: &str, claims: &str, secret: &[u8]) -> String {
    signed(header, claims, |message| {
        let keyed = Hmac::<Sha256>::new_from_slice(secret).expect("any length");
        keyed.chain_update(message).finalize().into_bytes().to_vec()
    })
}

/// A token signed with HMAC, whatever its header says.
pub fn hs256(header: &Value, claims: &Value, secret: &[u8]) -> String {
    raw(&header.to_string(), &claims.to_string(), secret)
}

/// A token signed with Ed25519, whatever its header says.
pub fn eddsa(header: &Value, claims: &Value, private: &[u8; 32]) -> String {
    let key = SigningKey::from_bytes(private);
    let sign = |message: &[u8]| key.sign(message).to_bytes().to_vec();
    signed(&header.to_string(), &claims.to_string(), sign)
}
