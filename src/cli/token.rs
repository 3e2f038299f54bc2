//! `boxoffice token`: buyers' tokens and the keys that sign them.
//!
//! The server only checks tokens; the operator's identity system signs them. These commands are
//! for trying that out, for finding out why a token is refused, and for making keys.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use super::exit::ExitCode;
use super::key::{parse_name, random_bytes};
use super::{Failed, print, print_line};
use crate::admission::token::{
    BadToken, MintedClaims, NewTokenKey, TOKEN_BYTES_MAX, TokenAlgorithm, TokenKeys, TokenRules,
    TokenSigner, key_name,
};
use crate::model::{TimeMs, UuidText, account_from_text};
use crate::runtime::{Clock, SystemClock};

/// The default of `--ttl`, in seconds.
const TTL_DEFAULT: u64 = 3600;

/// The longest `--ttl`: a hundred years.
const TTL_MAX: u64 = 100 * 365 * 24 * 3600;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make a key: NAME.pem and NAME.pub.pem, or NAME.secret.
    Key(KeyArgs),
    /// Print a token.
    Mint(MintArgs),
    /// Say what a token claims, and whether it holds.
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
struct KeyArgs {
    /// The key's name, which tokens carry as `kid`.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// How it signs.
    #[arg(long, value_name = "ALG", default_value = "eddsa")]
    alg: Algorithm,
    /// Where to put it.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Algorithm {
    /// Ed25519: only the signer has what signs.
    Eddsa,
    /// A secret that signer and server share.
    Hs256,
}

#[derive(Debug, clap::Args)]
struct MintArgs {
    /// The file with the signing key: an Ed25519 private key in PEM, or a secret of HS256.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The account: a UUID, or another text of up to 64 bytes.
    #[arg(long, value_name = "TEXT", value_parser = parse_account)]
    account: String,
    /// For how many seconds it holds.
    #[arg(
        long,
        value_name = "S",
        default_value_t = TTL_DEFAULT,
        value_parser = clap::value_parser!(u64).range(1..=TTL_MAX)
    )]
    ttl: u64,
    /// The issuer that it names.
    #[arg(long, value_name = "TEXT")]
    issuer: Option<String>,
    /// The audience that it names.
    #[arg(long, value_name = "TEXT")]
    audience: Option<String>,
    /// The key's name [default: that of its file, without the ending].
    #[arg(long, value_name = "NAME")]
    kid: Option<String>,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// A file with a key, as `serve --token-key` takes it. Several are possible.
    #[arg(long, value_name = "FILE", required = true)]
    key: Vec<PathBuf>,
    /// What the issuer must be.
    #[arg(long, value_name = "TEXT")]
    issuer: Option<String>,
    /// What the audience must be or contain.
    #[arg(long, value_name = "TEXT")]
    audience: Option<String>,
    /// The token.
    #[arg(value_name = "TOKEN")]
    token: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn parse_account(text: &str) -> Result<String, String> {
    let allowed = "an account is a UUID other than nil, or another text of 1 to 64 bytes";
    account_from_text(text.as_bytes()).map(|_| text.to_owned()).ok_or_else(|| allowed.to_owned())
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    match &args.what {
        What::Key(args) => make_key(args),
        What::Mint(args) => mint(args),
        What::Check(args) => check(args),
    }
}

/// The keys in these files; `None` where no file is named.
pub fn load_token_keys(paths: &[PathBuf]) -> Result<Option<TokenKeys>, Failed> {
    let contents: Vec<Vec<u8>> =
        paths.iter().map(|path| read_key(path)).collect::<Result<_, _>>()?;
    let files = paths.iter().zip(&contents).map(|(path, content)| (&**path, &**content));
    TokenKeys::parse(files).map_err(|error| Failed::new(ExitCode::Configuration, error))
}

fn read_key(path: &Path) -> Result<Vec<u8>, Failed> {
    fs::read(path).map_err(|error| {
        let path = path.display();
        Failed::new(
            ExitCode::Configuration,
            format_args!(
                "{path}: cannot read the token key: {error}; `boxoffice token key` makes one"
            ),
        )
    })
}

/// Where a new key lies.
#[derive(Debug, serde::Serialize)]
struct NewFiles {
    key: String,
    algorithm: &'static str,
    /// What signs.
    signing: PathBuf,
    /// What `serve --token-key` takes.
    checking: PathBuf,
}

impl fmt::Display for NewFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "key {} ({})", self.key, self.algorithm)?;
        writeln!(f, "signs tokens, for nobody else to read:\n  {}", self.signing.display())?;
        write!(f, "checks them, for `serve --token-key`:\n  {}", self.checking.display())
    }
}

fn make_key(args: &KeyArgs) -> Result<(), Failed> {
    let algorithm = match args.alg {
        Algorithm::Eddsa => TokenAlgorithm::EdDsa,
        Algorithm::Hs256 => TokenAlgorithm::Hs256,
    };
    let new = NewTokenKey::generate(algorithm, random_bytes()?);
    let file = |ending: &str| args.dir.join(format!("{}.{ending}", args.name));
    let (signing, checking) = match &new.public {
        None => (file("secret"), file("secret")),
        Some(public) => {
            let checking = file("pub.pem");
            write_new(&checking, public, 0o644)?;
            (file("pem"), checking)
        }
    };
    write_new(&signing, &new.signing, 0o600)?;
    let (key, algorithm) = (args.name.clone(), algorithm.name());
    print(&NewFiles { key, algorithm, signing, checking }, args.json)
}

/// Writes a file that is not there yet: a key that is overwritten is lost.
fn write_new(path: &Path, content: &str, mode: u32) -> Result<(), Failed> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(content.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| {
        let path = path.display();
        Failed::new(
            ExitCode::Failure,
            format_args!("{path}: cannot write the key: {error}; choose another name or --dir"),
        )
    })
}

fn mint(args: &MintArgs) -> Result<(), Failed> {
    let signer = TokenSigner::parse(&read_key(&args.key)?).map_err(|problem| {
        let path = args.key.display();
        Failed::new(ExitCode::Configuration, format_args!("{path}: {problem}"))
    })?;
    let iat = now().0 / 1000;
    let token = signer.mint(
        args.kid.as_deref().or_else(|| key_name(&args.key)),
        &MintedClaims {
            sub: &args.account,
            iat,
            exp: iat.saturating_add(args.ttl),
            iss: args.issuer.as_deref(),
            aud: args.audience.as_deref(),
        },
    );
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Failed::new(
            ExitCode::Usage,
            format_args!(
                "the token would have {} bytes, and {TOKEN_BYTES_MAX} are the most: shorten \
                 --issuer, --audience or --kid",
                token.len()
            ),
        ));
    }
    print_line(&token)
}

/// What a token says, and what is to be thought of it.
#[derive(Debug, serde::Serialize)]
struct Judged {
    header: Option<Value>,
    claims: Option<Value>,
    holds: bool,
    reason: Option<&'static str>,
    account: Option<String>,
    holds_until_ms: Option<u64>,
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, part) in [("header", &self.header), ("claims", &self.claims)] {
            match part {
                Some(part) => writeln!(f, "{name}   {part}")?,
                None => writeln!(f, "{name}   (unreadable)")?,
            }
        }
        match (&self.account, self.reason) {
            (Some(account), _) => write!(f, "holds    yes, for account {account}"),
            (None, reason) => write!(f, "holds    no: {}", reason.unwrap_or_default()),
        }
    }
}

fn check(args: &CheckArgs) -> Result<(), Failed> {
    let keys = Arc::new(load_token_keys(&args.key)?.expect("one is required"));
    let (issuer, audience) = (args.issuer.clone(), args.audience.clone());
    let verdict = TokenRules { keys, issuer, audience }.verify(args.token.as_bytes(), now());
    let verified = verdict.ok();
    let mut parts = args.token.split('.');
    let judged = Judged {
        header: parts.next().and_then(read_part),
        claims: parts.next().and_then(read_part),
        holds: verified.is_some(),
        reason: verdict.err().map(BadToken::reason),
        account: verified.map(|verified| UuidText::from(verified.account).to_string()),
        holds_until_ms: verified.map(|verified| verified.holds_until.0),
    };
    print(&judged, args.json)?;
    match verdict {
        Ok(_) => Ok(()),
        Err(bad) => Err(Failed::new(
            ExitCode::Failure,
            format_args!("{bad}: it would be refused as BAD_TOKEN; ask its issuer for another"),
        )),
    }
}

/// A part of a token, whoever signed it.
fn read_part(part: &str) -> Option<Value> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn now() -> TimeMs {
    TimeMs(SystemClock::new().wall_ms())
}
