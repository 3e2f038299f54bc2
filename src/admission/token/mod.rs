//! Buyers' tokens: signed by the operator's identity system, checked here, never stored.
//!
//! A token is a JWT in compact form (RFC 7519, RFC 7515), signed with HS256 or, by Ed25519, with
//! `EdDSA` (RFC 8037); `none` and every other algorithm are refused. What counts in it:
//!
//! | part | field | meaning |
//! |---|---|---|
//! | header | `alg` | must be the algorithm of the key itself, so no key is taken for another kind |
//! | header | `kid` | the name of the key; without it every key of that algorithm is tried |
//! | header | `crit` | refused: no extension is known here |
//! | claims | `sub` | the account, required: a UUID or a text ([`crate::model::text_id`]) |
//! | claims | `exp` | required: from then on it does not hold |
//! | claims | `nbf`, `iat` | where they are there, they must not lie in the future |
//! | claims | `iss`, `aud` | must be the configured ones, where those are configured |
//!
//! Clocks may differ by [`CLOCK_LEEWAY_MS`]. A token is at most [`TOKEN_BYTES_MAX`] long, so the
//! work for one is bounded, whatever it holds.
//!
//! [`TokenRules`] is immutable, to be shared by every shard; a [`TokenChecker`] is one shard's,
//! with a cache. Other rules take a new checker, so no verdict outlives the rules that it was
//! made by. There is no list of revoked tokens on purpose: tokens live for minutes, and taking a
//! key away ends all that it signed.

mod cache;
mod claims;
mod keys;
mod mint;

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use self::cache::TokenCache;
use self::claims::{Claims, Header, Parts};
pub use self::keys::{
    SECRET_BYTES_MIN, TOKEN_KEYS_MAX, TokenAlgorithm, TokenKeys, TokenKeysError, TokenKeysProblem,
    key_name,
};
pub use self::mint::{MintedClaims, NewTokenKey, SigningKeyProblem, TokenSigner};
use crate::model::{AccountId, TimeMs, account_from_text};

/// The longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 2048;

/// How far the clock of whoever signs may be from ours.
pub const CLOCK_LEEWAY_MS: u64 = 30_000;

/// Whether a bearer's credential is meant as a token: it has three parts. A generated API key
/// ([`super::keys::generate`]) has one.
#[must_use]
pub fn is_token_shaped(credential: &[u8]) -> bool {
    credential.split(|byte| *byte == b'.').count() == 3
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BadToken {
    /// It is longer than [`TOKEN_BYTES_MAX`].
    TooLong,
    /// It is no JWT, or a field has the wrong type.
    Malformed,
    /// `alg` is neither `HS256` nor `EdDSA`.
    UnsupportedAlgorithm,
    /// `crit` asks for an extension.
    UnsupportedExtension,
    /// No key has this `kid` and this algorithm.
    UnknownKey,
    /// No key made this signature.
    BadSignature,
    /// There is no `exp`.
    NoExpiry,
    /// `exp` has come.
    Expired,
    /// `nbf` has not come.
    NotYetValid,
    /// `iat` has not come.
    IssuedInFuture,
    /// `iss` is another.
    WrongIssuer,
    /// `aud` does not name this service.
    WrongAudience,
    /// There is no `sub`, or it is no account.
    BadSubject,
}

impl BadToken {
    /// The reason in plain words, fit for a quoted string of an HTTP header.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "the token is too long",
            Self::Malformed => "the token is malformed",
            Self::UnsupportedAlgorithm => "the token's algorithm is not supported",
            Self::UnsupportedExtension => "the token needs an extension that is not supported",
            Self::UnknownKey => "the token's key is unknown",
            Self::BadSignature => "the token's signature is wrong",
            Self::NoExpiry => "the token has no expiry",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::IssuedInFuture => "the token was issued in the future",
            Self::WrongIssuer => "the token is of another issuer",
            Self::WrongAudience => "the token is for another audience",
            Self::BadSubject => "the token's subject is no account",
        }
    }
}

impl fmt::Display for BadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

/// Which tokens hold. Immutable: a reload makes new ones.
#[derive(Clone, Debug)]
pub struct TokenRules {
    /// The keys that may have signed.
    pub keys: Arc<TokenKeys>,
    /// What `iss` must be; anything where not given.
    pub issuer: Option<String>,
    /// What `aud` must be or contain; anything where not given.
    pub audience: Option<String>,
}

/// What a token that holds says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Whose it is.
    pub account: AccountId,
    /// From then on it does not hold any more, the leeway included.
    pub holds_until: TimeMs,
}

impl TokenRules {
    /// Checks a token at this time, from its signature on.
    pub fn verify(&self, token: &[u8], now: TimeMs) -> Result<Verified, BadToken> {
        let mut buffer = [0; TOKEN_BYTES_MAX];
        let parts = Parts::split(token)?;
        let header = Header::parse(parts.header, &mut buffer)?;
        self.keys.verify(&header, &parts)?;
        self.verify_claims(&Claims::parse(parts.claims, &mut buffer)?, now)
    }

    fn verify_claims(&self, claims: &Claims<'_>, now: TimeMs) -> Result<Verified, BadToken> {
        let latest_start = now.0.saturating_add(CLOCK_LEEWAY_MS);
        let holds_until = claims.expires_at_ms().ok_or(BadToken::NoExpiry)?;
        let holds_until = TimeMs(holds_until.saturating_add(CLOCK_LEEWAY_MS));
        if now >= holds_until {
            return Err(BadToken::Expired);
        }
        if claims.not_before_ms().is_some_and(|start| start > latest_start) {
            return Err(BadToken::NotYetValid);
        }
        if claims.issued_at_ms().is_some_and(|issued| issued > latest_start) {
            return Err(BadToken::IssuedInFuture);
        }
        if self.issuer.as_deref().is_some_and(|issuer| claims.issuer() != Some(issuer)) {
            return Err(BadToken::WrongIssuer);
        }
        if self.audience.as_deref().is_some_and(|audience| !claims.is_for(audience)) {
            return Err(BadToken::WrongAudience);
        }
        let subject = claims.subject().ok_or(BadToken::BadSubject)?;
        let account = account_from_text(subject.as_bytes()).ok_or(BadToken::BadSubject)?;
        Ok(Verified { account, holds_until })
    }
}

/// The checks of one shard: each token is verified once, as long as the cache has room for it.
#[derive(Debug)]
pub struct TokenChecker {
    rules: Arc<TokenRules>,
    cache: TokenCache,
}

impl TokenChecker {
    /// A checker with an empty cache.
    #[must_use]
    pub fn new(rules: Arc<TokenRules>) -> Self {
        Self { rules, cache: TokenCache::new() }
    }

    /// Whose token this is. Without an allocation where it was checked before.
    pub fn check(&mut self, token: &[u8], now: TimeMs) -> Result<AccountId, BadToken> {
        // Longer ones never hold, and are not worth a digest.
        if token.len() > TOKEN_BYTES_MAX {
            return Err(BadToken::TooLong);
        }
        let digest = Sha256::digest(token).into();
        if let Some(verified) = self.cache.find(&digest) {
            if now >= verified.holds_until {
                return Err(BadToken::Expired);
            }
            return Ok(verified.account);
        }
        let verified = self.rules.verify(token, now)?;
        self.cache.insert(&digest, verified, now);
        Ok(verified.account)
    }
}
