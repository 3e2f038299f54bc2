//! Buyers' tokens at their edge: the vectors of the RFCs, every way in which a token can be wrong,
//! rotation, and tokens of any content.
//!
//! The tokens are put together here, byte by byte, so that nothing of the code under test decides
//! what a right one is.

#[path = "support/jwt.rs"]
mod jwt;

use std::sync::Arc;

use boxoffice::admission::token::{
    BadToken, CLOCK_LEEWAY_MS, MintedClaims, NewTokenKey, TOKEN_BYTES_MAX, TOKEN_KEYS_MAX,
    TokenAlgorithm, TokenChecker, TokenKeysProblem, TokenRules, TokenSigner, is_token_shaped,
};
use boxoffice::model::{AccountId, TimeMs, account_from_text};
use jwt::{
    ED25519_PRIVATE, ED25519_PUBLIC, NOW, OTHER_SECRET, SECRET, at, claims, eddsa, hs256,
    private_pem, problem, public_pem, rules, secret_file,
};
use proptest::prelude::*;
use serde_json::{Value, json};

// RFC 7515, appendix A.1: the key and the token. It has no subject, and ends at 1300819380.
const RFC7515_KEY: &str =
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
const RFC7515_TOKEN: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
    dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

// RFC 8037, appendix A.4: what is signed is a sentence, and no JSON.
const RFC8037_TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
    hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

/// The last character of the signature's first half, exchanged.
fn with_wrong_signature(token: &str) -> String {
    let at = token.rfind('.').expect("a token has dots") + 10;
    let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

/// Tokens that must hold, under the rules of [`both`].
fn both() -> TokenRules {
    rules(&[("shop.secret", &secret_file(SECRET)), ("id.pub.pem", &public_pem(&ED25519_PUBLIC))])
}

fn alice() -> AccountId {
    account_from_text(b"alice").expect("a text")
}

#[test]
fn the_vectors_of_the_rfcs_have_right_signatures() {
    let rules = rules(&[
        ("hs.secret", &format!("hs256 base64 {RFC7515_KEY}\n")),
        ("ed.pem", &public_pem(&ED25519_PUBLIC)),
    ]);
    // The signature is judged first: another reason says that it was right.
    for (token, when, reason) in [
        (RFC7515_TOKEN, TimeMs(1_300_819_379_000), BadToken::BadSubject),
        (RFC7515_TOKEN, TimeMs(1_300_819_380_000 + CLOCK_LEEWAY_MS), BadToken::Expired),
        (RFC8037_TOKEN, NOW, BadToken::Malformed),
    ] {
        assert_eq!(rules.verify(token.as_bytes(), when), Err(reason));
        let wrong = with_wrong_signature(token);
        assert_eq!(rules.verify(wrong.as_bytes(), when), Err(BadToken::BadSignature));
    }
}

#[test]
fn a_right_token_names_its_account() {
    let rules = both();
    let uuid = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
    for (subject, account) in
        [("alice", alice()), (uuid, AccountId(0xf81d_4fae_7dec_11d0_a765_00a0_c91e_6bf6))]
    {
        let claims = claims(&json!({"sub": subject, "aud": ["a", 7, "b"], "x": {"y": [1]}}));
        // An audience that is no text is malformed, whatever else is right.
        let malformed = hs256(&json!({"alg": "HS256"}), &claims, SECRET);
        assert_eq!(at(&rules, &malformed), Err(BadToken::Malformed));
        let claims = jwt::claims(&json!({"sub": subject, "x": {"y": [1]}, "name": "A\u{e9}"}));
        for header in [json!({}), json!({"kid": "shop"}), json!({"typ": "at+jwt", "cty": "x"})] {
            let token = hs256(&jwt::with(&header, "alg", "HS256"), &claims, SECRET);
            assert_eq!(at(&rules, &token), Ok(account), "{header}");
        }
        for header in [json!({}), json!({"kid": "id"})] {
            let token = eddsa(&jwt::with(&header, "alg", "EdDSA"), &claims, &ED25519_PRIVATE);
            assert_eq!(at(&rules, &token), Ok(account), "{header}");
        }
    }
}

#[test]
fn no_algorithm_stands_in_for_another() {
    let rules = both();
    let claims = claims(&json!({}));
    for alg in ["none", "None", "NONE", "", "hs256", "HS384", "RS256", "ES256", "EdDSA ", "Ed25519"]
    {
        let token = hs256(&json!({"alg": alg, "kid": "shop"}), &claims, SECRET);
        assert_eq!(at(&rules, &token), Err(BadToken::UnsupportedAlgorithm), "{alg}");
        let unsigned = &token[..=token.rfind('.').expect("it has dots")];
        assert_eq!(at(&rules, unsigned), Err(BadToken::UnsupportedAlgorithm), "{alg}");
    }
    // A public key is known to everybody: it must never be taken for a secret.
    let pem = public_pem(&ED25519_PUBLIC);
    for secret in [&ED25519_PUBLIC[..], pem.as_bytes(), pem.trim().as_bytes()] {
        let named = hs256(&json!({"alg": "HS256", "kid": "id"}), &claims, secret);
        assert_eq!(at(&rules, &named), Err(BadToken::UnknownKey));
        let unnamed = hs256(&json!({"alg": "HS256"}), &claims, secret);
        assert_eq!(at(&rules, &unnamed), Err(BadToken::BadSignature));
    }
    let crossed = eddsa(&json!({"alg": "EdDSA", "kid": "shop"}), &claims, &ED25519_PRIVATE);
    assert_eq!(at(&rules, &crossed), Err(BadToken::UnknownKey));
    // An empty signature, and one of the other algorithm's length.
    let token = hs256(&json!({"alg": "HS256"}), &claims, SECRET);
    let unsigned = &token[..=token.rfind('.').expect("it has dots")];
    assert_eq!(at(&rules, unsigned), Err(BadToken::BadSignature));
    let mislabelled = eddsa(&json!({"alg": "HS256"}), &claims, &ED25519_PRIVATE);
    assert_eq!(at(&rules, &mislabelled), Err(BadToken::BadSignature));
    let mislabelled = hs256(&json!({"alg": "EdDSA"}), &claims, SECRET);
    assert_eq!(at(&rules, &mislabelled), Err(BadToken::BadSignature));
}

#[test]
fn the_fields_values_in_their_order_are_no_claims() {
    let token = jwt::raw(r#"{"alg":"HS256"}"#, r#"["a",9e9,null,null,"id","shop"]"#, SECRET);
    assert_eq!(at(&both(), &token), Err(BadToken::Malformed));
}

#[test]
fn each_fault_has_its_reason() {
    let seconds = NOW.0 / 1000;
    let leeway = CLOCK_LEEWAY_MS / 1000;
    let good = both();
    let alg = json!({"alg": "HS256"});
    let with_claim = |name: &str, value: Value| {
        hs256(&alg, &jwt::with(&claims(&json!({})), name, value), SECRET)
    };
    for (token, reason) in [
        (hs256(&alg, &claims(&json!({})), OTHER_SECRET), BadToken::BadSignature),
        (
            hs256(&json!({"alg": "HS256", "kid": "old"}), &claims(&json!({})), SECRET),
            BadToken::UnknownKey,
        ),
        (
            hs256(&json!({"alg": "HS256", "crit": ["b64"]}), &claims(&json!({})), SECRET),
            BadToken::UnsupportedExtension,
        ),
        (
            hs256(&json!({"alg": "HS256", "crit": null}), &claims(&json!({})), SECRET),
            BadToken::UnsupportedExtension,
        ),
        (hs256(&json!({"typ": "JWT"}), &claims(&json!({})), SECRET), BadToken::Malformed),
        (hs256(&json!({"alg": 1}), &claims(&json!({})), SECRET), BadToken::Malformed),
        (hs256(&json!(["HS256"]), &claims(&json!({})), SECRET), BadToken::Malformed),
        (with_claim("exp", json!(seconds - leeway)), BadToken::Expired),
        (with_claim("exp", json!(-1)), BadToken::Expired),
        (with_claim("exp", json!(null)), BadToken::NoExpiry),
        (with_claim("exp", json!("soon")), BadToken::Malformed),
        (with_claim("nbf", json!(seconds + leeway + 1)), BadToken::NotYetValid),
        (with_claim("iat", json!(seconds + leeway + 1)), BadToken::IssuedInFuture),
        (with_claim("iat", json!(1e300)), BadToken::IssuedInFuture),
        (with_claim("sub", json!(null)), BadToken::BadSubject),
        (with_claim("sub", json!("")), BadToken::BadSubject),
        (with_claim("sub", json!("x".repeat(65))), BadToken::BadSubject),
        (with_claim("sub", json!("00000000-0000-0000-0000-000000000000")), BadToken::BadSubject),
        (with_claim("sub", json!(7)), BadToken::Malformed),
        (jwt::raw(r#"{"alg":"HS256","alg":"HS256"}"#, "{}", SECRET), BadToken::Malformed),
        (
            jwt::raw(r#"{"alg":"HS256"}"#, r#"{"sub":"a","sub":"b","exp":9e9}"#, SECRET),
            BadToken::Malformed,
        ),
        (
            jwt::raw(r#"{"alg":"HS256"}"#, r#"{"sub":"a","exp":9e9} {}"#, SECRET),
            BadToken::Malformed,
        ),
        (jwt::raw(r#"{"alg":"HS256"}"#, r#"{"sub":"a","exp":9e999}"#, SECRET), BadToken::Malformed),
        (jwt::raw(r#"{"alg":"HS256"}"#, &"[".repeat(1000), SECRET), BadToken::Malformed),
        (String::new(), BadToken::Malformed),
        ("..".to_owned(), BadToken::Malformed),
        ("a.b".to_owned(), BadToken::Malformed),
    ] {
        assert_eq!(at(&good, &token), Err(reason), "{token}");
    }
    // The same claims on the right side of each line.
    for token in [
        with_claim("exp", json!(seconds - leeway + 1)),
        with_claim("exp", json!(1e300)),
        with_claim("nbf", json!(seconds + leeway)),
        with_claim("nbf", json!(null)),
        with_claim("iat", json!(seconds + leeway)),
        with_claim("iat", json!(-5.5)),
        with_claim("sub", json!("alice")),
    ] {
        assert_eq!(at(&good, &token), Ok(alice()), "{token}");
    }
}

#[test]
fn issuer_and_audience_count_where_they_are_configured() {
    let issuer = Some("https://id.example".to_owned());
    let mine = TokenRules { issuer, audience: Some("tickets".to_owned()), ..both() };
    let right = json!({"iss": "https://id.example", "aud": "tickets"});
    for (change, expected) in [
        (json!({}), Ok(alice())),
        (json!({"aud": ["other", "tickets"]}), Ok(alice())),
        (json!({"aud": ["t\u{69}ckets"]}), Ok(alice())),
        (json!({"iss": null}), Err(BadToken::WrongIssuer)),
        (json!({"iss": "https://id.example/"}), Err(BadToken::WrongIssuer)),
        (json!({"iss": ["https://id.example"]}), Err(BadToken::Malformed)),
        (json!({"aud": null}), Err(BadToken::WrongAudience)),
        (json!({"aud": "ticket"}), Err(BadToken::WrongAudience)),
        (json!({"aud": []}), Err(BadToken::WrongAudience)),
        (json!({"aud": ["other"]}), Err(BadToken::WrongAudience)),
        (json!({"aud": {"tickets": true}}), Err(BadToken::Malformed)),
    ] {
        let mut all = claims(&right);
        for (name, value) in change.as_object().expect("an object") {
            all = jwt::with(&all, name, value.clone());
        }
        let token = hs256(&json!({"alg": "HS256"}), &all, SECRET);
        assert_eq!(at(&mine, &token), expected, "{change}");
    }
}

#[test]
fn no_part_of_a_token_can_be_changed() {
    let rules = both();
    let claims = claims(&json!({}));
    for token in [
        hs256(&json!({"alg": "HS256", "kid": "shop"}), &claims, SECRET),
        eddsa(&json!({"alg": "EdDSA", "kid": "id"}), &claims, &ED25519_PRIVATE),
    ] {
        assert_eq!(at(&rules, &token), Ok(alice()));
        for end in 0..token.len() {
            assert!(at(&rules, &token[..end]).is_err(), "cut to {end}");
            // The next character of the alphabet: in the last place of a part it may differ only
            // in bits that stand for nothing.
            let mut changed = token.clone().into_bytes();
            changed[end] = if changed[end] == b'z' { b'0' } else { changed[end] + 1 };
            assert!(rules.verify(&changed, NOW).is_err(), "changed at {end}");
        }
        for other in
            [format!("{token}="), format!("{token}A"), format!(" {token}"), token.clone() + "."]
        {
            assert_eq!(at(&rules, &other).ok(), None, "{other}");
        }
    }
}

#[test]
fn the_length_is_bounded() {
    let rules = both();
    let of_padding = |bytes: usize| {
        hs256(&json!({"alg": "HS256"}), &claims(&json!({"p": "x".repeat(bytes)})), SECRET)
    };
    let padding = (0..TOKEN_BYTES_MAX).rev();
    let longest = padding.map(of_padding).find(|token| token.len() <= TOKEN_BYTES_MAX);
    let longest = longest.expect("some token fits");
    assert!(longest.len() > TOKEN_BYTES_MAX - 4);
    let mut checker = TokenChecker::new(Arc::new(rules.clone()));
    assert_eq!(checker.check(longest.as_bytes(), NOW), Ok(alice()));
    let longer = of_padding(TOKEN_BYTES_MAX);
    assert_eq!(at(&rules, &longer), Err(BadToken::TooLong));
    assert_eq!(checker.check(longer.as_bytes(), NOW), Err(BadToken::TooLong));
}

#[test]
fn a_checked_token_is_known_until_it_expires() {
    let expiry = NOW.0 / 1000 + 60;
    let token = hs256(&json!({"alg": "HS256"}), &claims(&json!({"exp": expiry})), SECRET);
    let mut checker = TokenChecker::new(Arc::new(both()));
    let last = TimeMs(expiry * 1000 + CLOCK_LEEWAY_MS - 1);
    for when in [NOW, NOW, last] {
        assert_eq!(checker.check(token.as_bytes(), when), Ok(alice()));
    }
    for when in [last.0 + 1, last.0 + 1_000_000] {
        assert_eq!(checker.check(token.as_bytes(), TimeMs(when)), Err(BadToken::Expired));
    }
    // The cache keeps whole tokens apart: a signature lends itself to no other claims.
    let stolen = hs256(&json!({"alg": "HS256"}), &claims(&json!({"sub": "bob"})), OTHER_SECRET);
    let signature = &token[token.rfind('.').expect("it has dots")..];
    let stolen = format!("{}{signature}", &stolen[..stolen.rfind('.').expect("it has dots")]);
    assert_eq!(checker.check(stolen.as_bytes(), NOW), Err(BadToken::BadSignature));
}

#[test]
fn more_buyers_than_the_cache_holds_are_still_told_apart() {
    let mut checker = TokenChecker::new(Arc::new(both()));
    let token = |buyer: u32| {
        let claims = claims(&json!({"sub": format!("buyer {buyer}")}));
        hs256(&json!({"alg": "HS256"}), &claims, SECRET)
    };
    for round in 0..2 {
        for buyer in 0..6000 {
            let account = account_from_text(format!("buyer {buyer}").as_bytes());
            let found = checker.check(token(buyer).as_bytes(), NOW);
            assert_eq!(found.ok(), account, "buyer {buyer}, round {round}");
        }
    }
}

#[test]
fn keys_rotate() {
    let old = ("2026-1.secret", secret_file(SECRET));
    let new = ("2026-2.secret", secret_file(OTHER_SECRET));
    let claims = claims(&json!({}));
    let by_old = hs256(&json!({"alg": "HS256", "kid": "2026-1"}), &claims, SECRET);
    let by_new = hs256(&json!({"alg": "HS256", "kid": "2026-2"}), &claims, OTHER_SECRET);
    let unnamed = hs256(&json!({"alg": "HS256"}), &claims, OTHER_SECRET);
    let (known, unknown) = (Ok(alice()), Err(BadToken::UnknownKey));
    let wrong = Err(BadToken::BadSignature);
    for (keys, verdicts) in [
        (vec![&old], [known, unknown, wrong]),
        (vec![&old, &new], [known, known, known]),
        (vec![&new], [unknown, known, known]),
    ] {
        let files: Vec<(&str, &str)> = keys.iter().map(|(name, text)| (*name, &**text)).collect();
        // Other rules take a new checker, as a shard does at a reload.
        let mut checker = TokenChecker::new(Arc::new(rules(&files)));
        for _ in 0..2 {
            let found = [&by_old, &by_new, &unnamed];
            let found = found.map(|token| checker.check(token.as_bytes(), NOW));
            assert_eq!(found, verdicts, "{files:?}");
        }
    }
}

#[test]
fn a_key_file_that_is_wrong_is_told_why() {
    let secret = |line: &str| problem(&[("shop.secret", line)]);
    for line in ["", "# nothing", "hs256", "hs256 base64", "hs512 text abc", "a b c", "\u{1}"] {
        assert_eq!(secret(line), TokenKeysProblem::NoKey, "{line}");
    }
    let two_lines = format!("{0}{0}", secret_file(SECRET));
    assert_eq!(secret(&two_lines), TokenKeysProblem::NoKey);
    assert_eq!(secret("hs256 base64 a*b"), TokenKeysProblem::NotBase64);
    assert_eq!(secret("hs256 base64 AAAA"), TokenKeysProblem::ShortSecret(3));
    assert_eq!(secret("hs256 text hunter2"), TokenKeysProblem::ShortSecret(7));
    assert_eq!(secret(&private_pem(&ED25519_PRIVATE)), TokenKeysProblem::PrivateKey);
    let other_pem = public_pem(&ED25519_PUBLIC).replace("MCow", "MCox");
    assert_eq!(secret(&other_pem), TokenKeysProblem::OtherPem);
    // The neutral element: it "verifies" what nobody signed.
    let mut weak = [0; 32];
    weak[0] = 1;
    assert_eq!(secret(&public_pem(&weak)), TokenKeysProblem::WeakKey);
    let good = secret_file(SECRET);
    assert_eq!(problem(&[(".pub.pem", &good)]).to_string(), TokenKeysProblem::Name.to_string());
    let twice = [("a/shop.secret", &*good), ("b/shop.pem", &*good)];
    assert_eq!(problem(&twice), TokenKeysProblem::DuplicateName("shop".to_owned()));
    let names: Vec<String> = (0..=TOKEN_KEYS_MAX).map(|key| format!("k{key}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (&**name, &*good)).collect();
    assert_eq!(problem(&many), TokenKeysProblem::TooMany);
    assert!(
        at(&rules(&many[1..]), &hs256(&json!({"alg": "HS256"}), &claims(&json!({})), SECRET))
            .is_ok()
    );
}

#[test]
fn a_secret_is_the_same_in_each_of_its_forms() {
    let token = hs256(&json!({"alg": "HS256"}), &claims(&json!({})), &[0xfb; 34]);
    let base64 = "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+w==";
    let url_safe = base64.replace('+', "-").replace('/', "_");
    for form in [base64, base64.trim_end_matches('='), &url_safe, url_safe.trim_end_matches('=')] {
        let file = format!("# A comment.\r\n\r\n  hs256\tbase64   {form}\r\n");
        assert_eq!(at(&rules(&[("s", &file)]), &token), Ok(alice()), "{form}");
    }
    let text = "it has spaces, and # is a part of it";
    let token = hs256(&json!({"alg": "HS256"}), &claims(&json!({})), text.as_bytes());
    assert_eq!(at(&rules(&[("s", &format!("hs256 text {text}\n"))]), &token), Ok(alice()));
}

#[test]
fn a_printed_key_shows_no_secret() {
    let shown = format!("{:?}", both());
    let secret = secret_file(SECRET);
    assert!(shown.contains("shop") && shown.contains("Hs256"), "{shown}");
    assert!(!shown.contains(secret.split(' ').next_back().expect("a word").trim()), "{shown}");
}

#[test]
fn what_is_minted_holds_under_the_key_that_is_made_with_it() {
    let claims = MintedClaims {
        sub: "alice",
        iat: NOW.0 / 1000,
        exp: NOW.0 / 1000 + 60,
        iss: Some("me"),
        aud: Some("you"),
    };
    for algorithm in [TokenAlgorithm::Hs256, TokenAlgorithm::EdDsa] {
        let made = NewTokenKey::generate(algorithm, [7; 32]);
        let signer = TokenSigner::parse(made.signing.as_bytes()).expect("sound");
        assert_eq!(signer.algorithm(), algorithm);
        let checking = made.public.as_ref().unwrap_or(&made.signing);
        let (issuer, audience) = (Some("me".to_owned()), Some("you".to_owned()));
        let rules = TokenRules { issuer, audience, ..rules(&[("made.key", checking)]) };
        for (name, expected) in [
            (Some("made"), Ok(alice())),
            (None, Ok(alice())),
            (Some("k"), Err(BadToken::UnknownKey)),
        ] {
            let token = signer.mint(name, &claims);
            assert!(is_token_shaped(token.as_bytes()));
            assert_eq!(at(&rules, &token), expected, "{algorithm:?} {name:?}");
        }
    }
    let pem = private_pem(&ED25519_PRIVATE);
    let token = TokenSigner::parse(pem.as_bytes()).expect("sound").mint(Some("id"), &claims);
    assert_eq!(at(&both(), &token), Ok(alice()), "the private key of RFC 8037");
    assert!(TokenSigner::parse(public_pem(&ED25519_PUBLIC).as_bytes()).is_err());
    assert!(
        !is_token_shaped(b"bo_0123") && !is_token_shaped(b"a.b") && !is_token_shaped(b"a.b.c.d")
    );
}

proptest! {
    /// Times are judged as a naive reading of the claims judges them.
    #[test]
    fn times_are_judged_as_they_read(
        now in 0_u64..1_000_000, exp in -10_i64..1_000, nbf: Option<u16>, iat: Option<u16>,
    ) {
        let claims = json!({
            "sub": "alice", "exp": exp,
            "nbf": nbf.map(|seconds| seconds % 1000), "iat": iat.map(|seconds| seconds % 1000),
        });
        let token = hs256(&json!({"alg": "HS256"}), &claims, SECRET);
        let earliest = i128::from(now) - i128::from(CLOCK_LEEWAY_MS);
        let latest = i128::from(now) + i128::from(CLOCK_LEEWAY_MS);
        let has_come = |start: Option<u16>| {
            start.is_none_or(|seconds| i128::from(seconds % 1000) * 1000 <= latest)
        };
        let holds = earliest < i128::from(exp).max(0) * 1000 && has_come(nbf) && has_come(iat);
        let verdict = both().verify(token.as_bytes(), TimeMs(now));
        prop_assert_eq!(verdict.is_ok(), holds, "{:?}", verdict);
        if let Ok(verified) = verdict {
            prop_assert!(verified.holds_until > TimeMs(now));
        }
    }

    /// Bytes that nobody signed never hold, and never panic.
    #[test]
    fn what_nobody_signed_never_holds(
        token: Vec<u8>, parts in r"[\w&&[:ascii:]-]{0,40}(\.[\w&&[:ascii:]-]{0,90}){2}",
    ) {
        prop_assert!(both().verify(&token, NOW).is_err());
        prop_assert!(both().verify(parts.as_bytes(), NOW).is_err());
    }

    /// Nor does anything that a key did sign lead to a panic.
    #[test]
    fn anything_may_be_signed(header in ".{0,60}", claims in ".{0,200}", times: (f64, f64)) {
        let good = r#"{"alg":"HS256"}"#;
        let timed = format!(r#"{{"sub":"alice","exp":{:?},"nbf":{:?}}}"#, times.0, times.1);
        for (header, claims) in [(&*header, &*claims), (good, &claims), (good, &timed)] {
            let token = jwt::raw(header, claims, SECRET);
            let verdict = both().verify(token.as_bytes(), NOW);
            prop_assert!(verdict.is_err() || claims == timed, "{:?}", verdict);
        }
    }
}
