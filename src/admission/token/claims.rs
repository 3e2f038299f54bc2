//! The text of a token: its three parts, and the fields of the first two that count here.
//!
//! base64url without padding and in its one canonical form (RFC 7515, appendix C), JSON without
//! repeated fields. Fields that are not known here are skipped.

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::keys::TokenAlgorithm;
use super::{BadToken, TOKEN_BYTES_MAX};

/// Bytes of the longest signature: of Ed25519.
const SIGNATURE_BYTES_MAX: usize = 64;

/// The parts of a token: `header.claims.signature`.
pub(super) struct Parts<'a> {
    /// In base64url.
    pub(super) header: &'a [u8],
    /// In base64url.
    pub(super) claims: &'a [u8],
    /// What was signed: header and claims, with the dot between.
    pub(super) signed: &'a [u8],
    signature: [u8; SIGNATURE_BYTES_MAX],
    signature_bytes: usize,
}

impl<'a> Parts<'a> {
    pub(super) fn split(token: &'a [u8]) -> Result<Self, BadToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(BadToken::TooLong);
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let (Some(header), Some(claims), Some(encoded), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadToken::Malformed);
        };
        let signed = &token[..header.len() + 1 + claims.len()];
        let mut signature = [0; SIGNATURE_BYTES_MAX];
        let signature_bytes = decode(encoded, &mut signature)?.len();
        Ok(Self { header, claims, signed, signature, signature_bytes })
    }

    pub(super) fn signature(&self) -> &[u8] {
        &self.signature[..self.signature_bytes]
    }
}

fn decode<'a>(text: &[u8], out: &'a mut [u8]) -> Result<&'a [u8], BadToken> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode_slice(text, out).map_err(|_| BadToken::Malformed)?;
    Ok(&out[..bytes])
}

fn parse<'a, T: Deserialize<'a>>(text: &[u8], buffer: &'a mut [u8]) -> Result<T, BadToken> {
    let json = decode(text, buffer)?;
    // A derived reader also takes an array of the fields' values.
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(BadToken::Malformed);
    }
    serde_json::from_slice(json).map_err(|_| BadToken::Malformed)
}

/// A string of the JSON, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The header's fields that count.
#[derive(Deserialize)]
struct HeaderFields<'a> {
    #[serde(borrow)]
    alg: Text<'a>,
    #[serde(borrow)]
    kid: Option<Text<'a>>,
    #[serde(default)]
    crit: Presence,
}

/// Whether a field is there, whatever it holds.
#[derive(Default)]
struct Presence(bool);

impl<'de> Deserialize<'de> for Presence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

/// Which key is said to have signed.
pub(super) struct Header<'a> {
    pub(super) algorithm: TokenAlgorithm,
    key: Option<Text<'a>>,
}

impl<'a> Header<'a> {
    pub(super) fn parse(text: &[u8], buffer: &'a mut [u8]) -> Result<Self, BadToken> {
        let fields: HeaderFields<'a> = parse(text, buffer)?;
        if fields.crit.0 {
            return Err(BadToken::UnsupportedExtension);
        }
        let algorithm =
            TokenAlgorithm::from_name(&fields.alg.0).ok_or(BadToken::UnsupportedAlgorithm)?;
        Ok(Self { algorithm, key: fields.kid })
    }

    /// `kid`.
    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_ref().map(|name| &*name.0)
    }
}

/// The claims that count.
#[derive(Deserialize)]
pub(super) struct Claims<'a> {
    #[serde(borrow)]
    sub: Option<Text<'a>>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    #[serde(borrow)]
    iss: Option<Text<'a>>,
    #[serde(borrow)]
    aud: Option<Audience<'a>>,
}

/// One audience, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(#[serde(borrow)] Text<'a>),
    Several(#[serde(borrow)] Vec<Text<'a>>),
}

impl<'a> Claims<'a> {
    pub(super) fn parse(text: &[u8], buffer: &'a mut [u8]) -> Result<Self, BadToken> {
        parse(text, buffer)
    }

    /// `sub`.
    pub(super) fn subject(&self) -> Option<&str> {
        self.sub.as_ref().map(|subject| &*subject.0)
    }

    /// `exp`.
    pub(super) fn expires_at_ms(&self) -> Option<u64> {
        self.exp.map(milliseconds)
    }

    /// `nbf`.
    pub(super) fn not_before_ms(&self) -> Option<u64> {
        self.nbf.map(milliseconds)
    }

    /// `iat`.
    pub(super) fn issued_at_ms(&self) -> Option<u64> {
        self.iat.map(milliseconds)
    }

    /// `iss`.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.iss.as_ref().map(|issuer| &*issuer.0)
    }

    /// Whether `aud` is this, or has it among others.
    pub(super) fn is_for(&self, audience: &str) -> bool {
        match &self.aud {
            None => false,
            Some(Audience::One(one)) => one.0 == audience,
            Some(Audience::Several(several)) => several.iter().any(|one| one.0 == audience),
        }
    }
}

/// The milliseconds of a `NumericDate`: seconds, perhaps with a fraction. What is before the epoch
/// counts as the epoch and what is beyond all time as its end, which the cast does by itself.
fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}
