//! Making tokens and their keys: for trying things out, and for operators whose own system does
//! not sign. The server never signs.
//!
//! A signing key's file is an Ed25519 private key in PEM (PKCS#8, RFC 8410), as `openssl genpkey
//! -algorithm ed25519` writes it, or the very file with the HS256 secret that the server reads.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::spki::EncodePublicKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, Mac};
use serde::Serialize;
use sha2::Sha256;

use super::keys::{TokenAlgorithm, TokenKeysProblem, keyed, parse_secret};

/// What can sign tokens.
pub struct TokenSigner(Key);

enum Key {
    Hs256(Hmac<Sha256>),
    EdDsa(Box<SigningKey>),
}

/// What is wrong with a signing key's file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyProblem {
    /// The PEM is no private key of Ed25519.
    #[error(
        "this PEM holds no Ed25519 private key in PKCS#8, which signing needs (`boxoffice token \
         key` makes one)"
    )]
    OtherPem,
    /// It is no secret either.
    #[error(transparent)]
    Secret(TokenKeysProblem),
}

/// What a minted token claims.
#[derive(Clone, Debug, Serialize)]
pub struct MintedClaims<'a> {
    /// The account.
    pub sub: &'a str,
    /// When it was made, in seconds since the epoch.
    pub iat: u64,
    /// When it ends, in seconds since the epoch.
    pub exp: u64,
    /// The issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<&'a str>,
    /// The audience.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aud: Option<&'a str>,
}

#[derive(Serialize)]
struct MintedHeader<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

impl TokenSigner {
    /// The key in this file's content.
    pub fn parse(content: &[u8]) -> Result<Self, SigningKeyProblem> {
        let none = SigningKeyProblem::Secret(TokenKeysProblem::NoKey);
        let text = std::str::from_utf8(content).map_err(|_| none)?;
        if text.contains("-----BEGIN ") {
            let key = SigningKey::from_pkcs8_pem(text.trim());
            let key = key.map_err(|_| SigningKeyProblem::OtherPem)?;
            return Ok(Self(Key::EdDsa(Box::new(key))));
        }
        let secret = parse_secret(text).map_err(SigningKeyProblem::Secret)?;
        Ok(Self(Key::Hs256(keyed(&secret))))
    }

    /// The algorithm of its tokens.
    #[must_use]
    pub const fn algorithm(&self) -> TokenAlgorithm {
        match self.0 {
            Key::Hs256(_) => TokenAlgorithm::Hs256,
            Key::EdDsa(_) => TokenAlgorithm::EdDsa,
        }
    }

    /// A token that claims this, under the key's name where one is given.
    #[must_use]
    pub fn mint(&self, key_name: Option<&str>, claims: &MintedClaims<'_>) -> String {
        let header = MintedHeader { alg: self.algorithm().name(), typ: "JWT", kid: key_name };
        let mut token = format!("{}.{}", encode_json(&header), encode_json(claims));
        let signature = match &self.0 {
            Key::Hs256(keyed) => {
                keyed.clone().chain_update(&token).finalize().into_bytes().to_vec()
            }
            Key::EdDsa(key) => key.sign(token.as_bytes()).to_bytes().to_vec(),
        };
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }
}

fn encode_json(value: &impl Serialize) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).expect("claims are plain data"))
}

/// A new key, as the contents of its files.
pub struct NewTokenKey {
    /// What signs: for the signer alone.
    pub signing: String,
    /// What checks, where that is another file: for `serve --token-key`.
    pub public: Option<String>,
}

impl NewTokenKey {
    /// A key made of 32 bytes of the operating system's randomness.
    #[must_use]
    pub fn generate(algorithm: TokenAlgorithm, random: [u8; 32]) -> Self {
        match algorithm {
            TokenAlgorithm::Hs256 => {
                let secret = BASE64_URL_SAFE_NO_PAD.encode(random);
                Self { signing: format!("hs256 base64 {secret}\n"), public: None }
            }
            TokenAlgorithm::EdDsa => {
                let key = SigningKey::from_bytes(&random);
                let signing = key.to_pkcs8_pem(LineEnding::LF).expect("a key has its PEM");
                let public = key.verifying_key().to_public_key_pem(LineEnding::LF);
                let public = public.expect("a key has its PEM");
                Self { signing: signing.to_string(), public: Some(public) }
            }
        }
    }
}
