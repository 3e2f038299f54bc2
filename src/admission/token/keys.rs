//! The keys that sign buyers' tokens: one a file, several at once while they rotate.
//!
//! A file holds either an Ed25519 public key in PEM (SPKI, RFC 8410), as `boxoffice token key` and
//! `openssl pkey -pubout` write it, or one line with the secret of HS256:
//!
//! ```text
//! # A comment is a line of its own.
//! hs256 base64 3q2-7wMB…   base64 or base64url, padded or not
//! hs256 text   whatever the identity system shares, up to the end of the line
//! ```
//!
//! A secret has at least [`SECRET_BYTES_MIN`] bytes (RFC 7518, section 3.2). The name of a key,
//! which a token's `kid` selects, is that of its file without the ending: `shop-2` for
//! `shop-2.secret` as well as for `shop-2.pub.pem`. A key knows its algorithm, and a token that
//! claims another one does not reach it: a public key is never a secret.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ed25519_dalek::pkcs8::DecodePublicKey;
use ed25519_dalek::{Signature, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::BadToken;
use super::claims::{Header, Parts};

/// The most keys at once. It bounds the work for a token without a `kid`, too.
pub const TOKEN_KEYS_MAX: usize = 8;

/// The shortest secret of HS256, in bytes: as many as its digest has.
pub const SECRET_BYTES_MIN: usize = 32;

/// The longest name of a key, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// How a token can be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// HMAC with SHA-256 and a shared secret.
    Hs256,
    /// Ed25519.
    EdDsa,
}

impl TokenAlgorithm {
    /// The value of `alg`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm with this very name; case counts.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Hs256, Self::EdDsa].into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// The keys that may sign tokens; at least one.
pub struct TokenKeys(Vec<TokenKey>);

struct TokenKey {
    name: String,
    verifier: Verifier,
}

enum Verifier {
    /// The state that has taken in the secret already.
    Hs256(Hmac<Sha256>),
    EdDsa(VerifyingKey),
}

/// What is wrong with a token key's file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {problem}")]
pub struct TokenKeysError {
    /// The file, as the caller named it.
    pub file: String,
    /// What is wrong with it.
    pub problem: TokenKeysProblem,
}

/// What is wrong with a token key's file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenKeysProblem {
    /// It is neither a PEM nor the line of a secret.
    #[error(
        "no token key in this file: it needs an Ed25519 public key in PEM, or one line `hs256 \
         base64 SECRET` or `hs256 text SECRET` (`boxoffice token key` makes both kinds)"
    )]
    NoKey,
    /// The PEM holds a private key.
    #[error(
        "this is a private key, which only the signer should have: name the file with its public \
         key (`openssl pkey -in FILE -pubout` prints it)"
    )]
    PrivateKey,
    /// The PEM holds something else.
    #[error("this PEM holds no Ed25519 public key, the only kind that tokens are checked with")]
    OtherPem,
    /// The public key is one under which forgeries are easy.
    #[error("this public key is a weak one, which no proper signer has: make a new pair")]
    WeakKey,
    /// The secret is no base64.
    #[error("the secret of `hs256 base64` is not base64")]
    NotBase64,
    /// The secret is too short.
    #[error(
        "the secret has {0} bytes, and HS256 needs at least {SECRET_BYTES_MIN}: make a longer one"
    )]
    ShortSecret(usize),
    /// The file's name names no key.
    #[error(
        "the file's name without its ending is the key's name, and needs 1 to {NAME_BYTES_MAX} \
         bytes of UTF-8"
    )]
    Name,
    /// Another file has a key of this name.
    #[error("a key named `{0}` is there already: the file's name without its ending is the name")]
    DuplicateName(String),
    /// There are too many keys.
    #[error("more than {TOKEN_KEYS_MAX} token keys: take away those that sign no more")]
    TooMany,
}

impl TokenKeys {
    /// The keys of these files, each its path, as errors name it, and its content. `None` where
    /// there is no file.
    pub fn parse<'a>(
        files: impl IntoIterator<Item = (&'a Path, &'a [u8])>,
    ) -> Result<Option<Self>, TokenKeysError> {
        let mut keys: Vec<TokenKey> = Vec::new();
        for (path, content) in files {
            let at = |problem| TokenKeysError { file: path.display().to_string(), problem };
            let key = TokenKey::parse(path, content).map_err(at)?;
            if keys.iter().any(|known| known.name == key.name) {
                return Err(at(TokenKeysProblem::DuplicateName(key.name)));
            }
            if keys.len() == TOKEN_KEYS_MAX {
                return Err(at(TokenKeysProblem::TooMany));
            }
            keys.push(key);
        }
        Ok((!keys.is_empty()).then_some(Self(keys)))
    }

    /// Whether one of the keys that the header allows made the signature.
    pub(super) fn verify(&self, header: &Header<'_>, parts: &Parts<'_>) -> Result<(), BadToken> {
        let is_candidate = |key: &&TokenKey| {
            key.verifier.algorithm() == header.algorithm
                && header.key().is_none_or(|name| key.name == name)
        };
        let mut candidates = self.0.iter().filter(is_candidate).peekable();
        if candidates.peek().is_none() {
            return Err(BadToken::UnknownKey);
        }
        let is_signed = candidates.any(|key| key.verifier.verify(parts));
        if is_signed { Ok(()) } else { Err(BadToken::BadSignature) }
    }
}

/// Names and algorithms, never secrets.
impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|key| (&key.name, key.verifier.algorithm()));
        f.debug_map().entries(names).finish()
    }
}

impl TokenKey {
    fn parse(path: &Path, content: &[u8]) -> Result<Self, TokenKeysProblem> {
        let name = key_name(path).ok_or(TokenKeysProblem::Name)?;
        let text = std::str::from_utf8(content).map_err(|_| TokenKeysProblem::NoKey)?;
        let verifier = if text.contains("-----BEGIN ") {
            if text.contains(" PRIVATE KEY-----") || text.contains("-----BEGIN PRIVATE") {
                return Err(TokenKeysProblem::PrivateKey);
            }
            let key = VerifyingKey::from_public_key_pem(text.trim());
            Verifier::EdDsa(key.map_err(|_| TokenKeysProblem::OtherPem)?)
        } else {
            Verifier::Hs256(keyed(&parse_secret(text)?))
        };
        match &verifier {
            Verifier::EdDsa(key) if key.is_weak() => Err(TokenKeysProblem::WeakKey),
            _ => Ok(Self { name: name.to_owned(), verifier }),
        }
    }
}

impl Verifier {
    const fn algorithm(&self) -> TokenAlgorithm {
        match self {
            Self::Hs256(_) => TokenAlgorithm::Hs256,
            Self::EdDsa(_) => TokenAlgorithm::EdDsa,
        }
    }

    fn verify(&self, parts: &Parts<'_>) -> bool {
        match self {
            // In constant time, as the crate promises.
            Self::Hs256(keyed) => {
                keyed.clone().chain_update(parts.signed).verify_slice(parts.signature()).is_ok()
            }
            // Strict: one message has no second signature that also holds.
            Self::EdDsa(key) => Signature::from_slice(parts.signature())
                .is_ok_and(|signature| key.verify_strict(parts.signed, &signature).is_ok()),
        }
    }
}

/// The name of the key in this file: the file's own without `.pem`, `.secret` or any other
/// ending, and without a `.pub` before that. `None` where that is no name.
#[must_use]
pub fn key_name(path: &Path) -> Option<&str> {
    let stem = path.file_stem()?.to_str()?;
    let name = stem.strip_suffix(".pub").unwrap_or(stem);
    (1..=NAME_BYTES_MAX).contains(&name.len()).then_some(name)
}

/// HMAC with this secret, ready for a message.
pub(super) fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes a key of any length")
}

/// The secret in the one line of this file that is neither empty nor a comment.
pub(super) fn parse_secret(text: &str) -> Result<Vec<u8>, TokenKeysProblem> {
    /// Either alphabet, once `-` and `_` are put for `+` and `/`, and padding or none.
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::URL_SAFE,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let lines = text.lines().map(str::trim);
    let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Err(TokenKeysProblem::NoKey);
    };
    let word = |text: &'_ str| {
        let (first, rest) = text.split_once([' ', '\t'])?;
        Some((first.to_owned(), rest.trim_start().to_owned()))
    };
    let (kind, rest) = word(line).ok_or(TokenKeysProblem::NoKey)?;
    let (form, secret) = word(&rest).ok_or(TokenKeysProblem::NoKey)?;
    let secret = match (kind.as_str(), form.as_str()) {
        ("hs256", "base64") => LENIENT
            .decode(secret.replace('+', "-").replace('/', "_"))
            .map_err(|_| TokenKeysProblem::NotBase64)?,
        ("hs256", "text") => secret.into_bytes(),
        _ => return Err(TokenKeysProblem::NoKey),
    };
    if secret.len() < SECRET_BYTES_MIN {
        return Err(TokenKeysProblem::ShortSecret(secret.len()));
    }
    Ok(secret)
}
