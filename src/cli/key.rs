//! `boxoffice key`: a new API key, and the line that admits it.

use std::fs::File;
use std::io::Read;

use super::exit::ExitCode;
use super::{Failed, print};
use crate::admission::keys;
use crate::model::Scopes;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A name for the key, to tell it from others.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    name: String,
    /// What it allows: buy, admin, or both with a comma.
    #[arg(long, value_name = "SCOPES", default_value = "buy", value_parser = parse_scopes)]
    scopes: Scopes,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A key, shown once, and its line for the key file.
#[derive(Debug, serde::Serialize)]
struct NewKey {
    key: String,
    line: String,
}

impl std::fmt::Display for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "key, for the caller (shown only now):\n  {}", self.key)?;
        write!(f, "line, for the file that `serve --keys` names:\n  {}", self.line)
    }
}

pub(super) fn parse_name(text: &str) -> Result<String, String> {
    let allowed = "a name has 1 to 64 letters, digits, `-`, `_` or `.`";
    keys::is_key_name(text).then(|| text.to_owned()).ok_or_else(|| allowed.to_owned())
}

fn parse_scopes(text: &str) -> Result<Scopes, String> {
    keys::parse_scopes(text).map_err(|problem| problem.to_string())
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    let key = keys::generate(random_bytes()?);
    let line = keys::key_line(&args.name, args.scopes, &key);
    print(&NewKey { key, line }, args.json)
}

/// Bytes of the operating system's randomness, enough for a key.
pub(super) fn random_bytes() -> Result<[u8; 32], Failed> {
    let mut random = [0; 32];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut random)).map_err(
        |error| Failed::new(ExitCode::Failure, format_args!("cannot read /dev/urandom: {error}")),
    )?;
    Ok(random)
}
