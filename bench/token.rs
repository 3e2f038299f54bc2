//! What a buyer's token costs: nanoseconds of one check, where the cache knows it and where not.
//!
//! ```text
//! cargo bench --bench token
//! cargo bench --bench token -- cached     (only what has `cached` in its name)
//! ```
//!
//! Prints the best of several rounds: on a busy machine the least disturbed one.
//!
//! A check that the cache answers is one SHA-256 of the token. It is measured over one token, and
//! over as many as half the cache holds, asked for in turn: those come from the processor's outer
//! caches, as they do for a crowd of buyers.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use boxoffice::admission::token::{
    MintedClaims, NewTokenKey, TokenAlgorithm, TokenChecker, TokenKeys, TokenRules, TokenSigner,
};
use boxoffice::model::{TimeMs, UuidText};

const ROUNDS: u32 = 10;
const NOW: TimeMs = TimeMs(1_800_000_000_000);
const BUYERS: u128 = 2048;

/// Prints the nanoseconds of one call, best of [`ROUNDS`].
fn measure(what: &str, calls: u32, mut call: impl FnMut()) {
    let is_wanted = |filter: String| filter.starts_with("--") || what.contains(&filter);
    if !std::env::args().skip(1).all(is_wanted) {
        return;
    }
    let round = |call: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..calls).for_each(|_| call());
        start.elapsed()
    };
    let best = (0..ROUNDS).map(|_| round(&mut call)).min().expect("there are rounds");
    println!("{what:<48} {:>8.1} ns", best.as_secs_f64() * 1e9 / f64::from(calls));
}

/// A token such as an identity system makes.
fn mint(signer: &TokenSigner, buyer: u128) -> String {
    let seconds = NOW.0 / 1000;
    let account = UuidText::new(buyer | 1 << 96);
    let claims = MintedClaims {
        sub: account.as_str(),
        iat: seconds,
        exp: seconds + 600,
        iss: Some("https://id.example"),
        aud: Some("https://tickets.example"),
    };
    signer.mint(Some("2026-1"), &claims)
}

fn main() {
    for algorithm in [TokenAlgorithm::Hs256, TokenAlgorithm::EdDsa] {
        let key = NewTokenKey::generate(algorithm, [7; 32]);
        let signer = TokenSigner::parse(key.signing.as_bytes()).expect("it was just made");
        let file = key.public.as_ref().unwrap_or(&key.signing);
        let keys = TokenKeys::parse([(Path::new("2026-1.key"), file.as_bytes())]);
        let rules = Arc::new(TokenRules {
            keys: Arc::new(keys.expect("it was just made").expect("there is a file")),
            issuer: Some("https://id.example".to_owned()),
            audience: Some("https://tickets.example".to_owned()),
        });
        let tokens: Vec<String> = (0..BUYERS).map(|buyer| mint(&signer, buyer)).collect();
        let token = tokens[0].as_bytes();
        let name = format!("{} of {} bytes", algorithm.name(), token.len());

        let calls = if algorithm == TokenAlgorithm::Hs256 { 50_000 } else { 2_000 };
        measure(&format!("{name}, verified"), calls, || {
            assert!(black_box(rules.verify(black_box(token), NOW)).is_ok());
        });
        let mut checker = TokenChecker::new(Arc::clone(&rules));
        measure(&format!("{name}, cached"), 200_000, || {
            assert!(black_box(checker.check(black_box(token), NOW)).is_ok());
        });
        let mut turn = tokens.iter().cycle();
        measure(&format!("{name}, cached, {BUYERS} buyers in turn"), 200_000, || {
            let token = turn.next().expect("it never ends").as_bytes();
            assert!(black_box(checker.check(black_box(token), NOW)).is_ok());
        });
    }
}
