//! `boxoffice token`, and the settings of `serve` that say who calls, as a script sees them.

#[path = "support/server.rs"]
mod server;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use boxoffice::cli::exit::ExitCode;
use serde_json::Value;
use server::{Refused, Serve, Server, assert_refused, contents, temporary_dir};

/// Runs `boxoffice token` to its end.
fn token(words: &[&str]) -> Refused {
    let mut command = Command::new(env!("CARGO_BIN_EXE_boxoffice"));
    command.arg("token").args(words).env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Refused::from_run(command)
}

/// Runs it, which must succeed, and returns what it printed.
#[track_caller]
fn told(words: &[&str]) -> String {
    let done = token(words);
    assert_eq!(done.code, Some(0), "{words:?}: {done:?}");
    done.stdout.trim().to_owned()
}

#[track_caller]
fn told_json(words: &[&str]) -> Value {
    let text = told(&[words, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("the path is UTF-8")
}

#[track_caller]
fn file(made: &Value, field: &str) -> String {
    made[field].as_str().expect("a path").to_owned()
}

#[test]
fn a_token_goes_from_its_key_to_its_verdict() {
    let home = temporary_dir();
    let dir = utf8(home.path());
    for alg in ["eddsa", "hs256"] {
        let made = told_json(&["key", alg, "--alg", alg, "--dir", dir]);
        let (signing, checking) = (file(&made, "signing"), file(&made, "checking"));
        let metadata = fs::metadata(&signing).expect("it is there");
        assert_eq!(metadata.permissions().mode() & 0o077, 0, "nobody else may read what signs");
        let account = "F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6";
        let minted = told(&["mint", "--key", &signing, "--account", account, "--issuer", "me"]);
        let judged = told_json(&["check", "--key", &checking, "--issuer", "me", &minted]);
        assert_eq!(judged["account"], "f81d4fae-7dec-11d0-a765-00a0c91e6bf6");
        assert_eq!((&judged["holds"], &judged["reason"]), (&true.into(), &Value::Null));
        assert_eq!(
            (&judged["header"]["kid"], &judged["claims"]["iss"]),
            (&alg.into(), &"me".into())
        );
        let lifetime = |claims: &Value| claims["exp"].as_u64().zip(claims["iat"].as_u64());
        let (exp, iat) = lifetime(&judged["claims"]).expect("times are numbers");
        assert_eq!(exp - iat, 3600);
        let text = told(&["check", "--key", &checking, &minted]);
        assert!(text.contains("holds    yes") && text.contains("f81d4fae"), "{text}");

        // The other audience's verdict is a failure that says why; the facts are printed too.
        let refused = token(&["check", "--key", &checking, "--audience", "you", &minted]);
        assert_refused(&refused, ExitCode::Failure, &["audience", "BAD_TOKEN"]);
        assert!(refused.stdout.contains("holds    no: "), "{refused:?}");
        // A key is never overwritten.
        let before = contents(home.path());
        let again = token(&["key", alg, "--alg", alg, "--dir", dir]);
        assert_refused(&again, ExitCode::Failure, &[alg, "choose another name"]);
        assert!(contents(home.path()) == before, "what is there stays");
    }
    let key = |name: &str| home.path().join(name);
    let (eddsa, hs256) = (key("eddsa.pub.pem"), key("hs256.secret"));
    let named =
        told(&["mint", "--key", utf8(&hs256), "--account", "a", "--kid", "k", "--ttl", "1"]);
    let both = ["check", "--key", utf8(&eddsa), "--key", utf8(&hs256)];
    let unknown = token(&[&both[..], &[&named]].concat());
    assert_refused(&unknown, ExitCode::Failure, &["key is unknown"]);
    let nonsense = token(&[&both[..], &["nonsense"]].concat());
    assert_refused(&nonsense, ExitCode::Failure, &["malformed"]);
}

#[test]
fn wrong_words_are_told() {
    let home = temporary_dir();
    let nowhere = home.path().join("nowhere.pem");
    let (nowhere, nil) = (utf8(&nowhere), "00000000-0000-0000-0000-000000000000");
    let missing = token(&["mint", "--key", nowhere, "--account", "alice"]);
    assert_refused(&missing, ExitCode::Configuration, &[nowhere, "boxoffice token key"]);
    for account in ["", nil, &"x".repeat(65)] {
        let refused = token(&["mint", "--key", nowhere, "--account", account]);
        assert_refused(&refused, ExitCode::Usage, &["--account"]);
    }
    let endless = token(&["mint", "--key", nowhere, "--account", "alice", "--ttl", "0"]);
    assert_refused(&endless, ExitCode::Usage, &["--ttl"]);
    assert_refused(&token(&["key", "my key"]), ExitCode::Usage, &["my key"]);
    told(&["key", "id", "--dir", utf8(home.path())]);
    let public = home.path().join("id.pub.pem");
    let refused = token(&["mint", "--key", utf8(&public), "--account", "alice"]);
    assert_refused(&refused, ExitCode::Configuration, &["id.pub.pem", "private key"]);
    let private = home.path().join("id.pem");
    let refused = token(&["check", "--key", utf8(&private), "a.b.c"]);
    assert_refused(&refused, ExitCode::Configuration, &["id.pem", "private key"]);
    let long = "x".repeat(4000);
    let refused =
        token(&["mint", "--key", utf8(&private), "--account", "alice", "--issuer", &long]);
    assert_refused(&refused, ExitCode::Usage, &["2048", "--issuer"]);
}

#[test]
fn a_server_starts_with_sound_settings_and_says_what_is_wrong_with_others() {
    let home = temporary_dir();
    let data_dir = home.path().join("data");
    let made = told_json(&["key", "id", "--dir", utf8(home.path())]);
    let (public, private) = (file(&made, "checking"), file(&made, "signing"));
    let sound = || Serve::on(&data_dir).with("--token-key", &public);
    for (serve, code, names) in [
        (
            Serve::on(&data_dir).with("--token-key", &private),
            ExitCode::Configuration,
            ["id.pem: this is a private key", "-pubout"],
        ),
        (
            Serve::on(&data_dir).with("--token-key", "nowhere.pem"),
            ExitCode::Configuration,
            ["nowhere.pem: cannot read", "boxoffice token key"],
        ),
        (
            Serve::on(&data_dir).with("--token-issuer", "me"),
            ExitCode::Configuration,
            ["--token-issuer", "--token-key"],
        ),
        (
            Serve::on(&data_dir).with("--token-audience", "us"),
            ExitCode::Configuration,
            ["--token-audience", "--token-key"],
        ),
        (
            sound().with("--trusted-proxy", "10.1.0.0/8"),
            ExitCode::Usage,
            ["--trusted-proxy", "10.0.0.0/8"],
        ),
    ] {
        assert_refused(&serve.refused(), code, &names);
    }
    for names in [["--proxy-protocol", "--trusted-proxy"], ["--buyers-confirm", "--token-key"]] {
        let mut alone = Serve::on(&data_dir).command();
        alone.arg(names[0]);
        assert_refused(&Refused::from_run(alone), ExitCode::Configuration, &names);
    }
    assert!(!data_dir.exists(), "a refused start makes no data directory");

    let serve = sound().with("--token-issuer", "me").with("--token-audience", "us");
    let serve = serve.with("--trusted-proxy", "10.0.0.0/8");
    let mut server = Server::start_on(&data_dir, serve);
    assert!(server.terminate().success(), "{}", server.log());
}
