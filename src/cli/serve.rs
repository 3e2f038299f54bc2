//! `boxoffice serve`: from flags to a running server.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::exit::ExitCode;
use super::{Failed, end, print_line, start_log};
use crate::admission::keys::Keys;
use crate::control;
use crate::runtime::{cpu, limits};
use crate::server::config::{
    BINARY_DEFAULT, CONNECTIONS_DEFAULT, IDLE_TIMEOUT_DEFAULT, SEGMENT_BYTES_LEAST,
    SEND_TIMEOUT_DEFAULT, SHARDS_MAX, ServerConfig,
};
use crate::server::datadir::DataDirError;
use crate::server::error::ServerError;
use crate::server::start::Started;
use crate::wal::{BLOCK_BYTES, SEGMENT_BYTES_DEFAULT, WalError};

/// Open files that are not connections: logs, listeners, rings, and some to spare.
const OTHER_FILES: u64 = 256;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the log lies; made where it does not exist.
    #[arg(long, value_name = "DIR", default_value = "boxoffice-data")]
    data_dir: PathBuf,
    /// How many shards [default: as the data directory says; for a new one, one per CPU].
    #[arg(long, value_name = "N", value_parser = parse_shards)]
    shards: Option<NonZeroU16>,
    /// The CPUs to run on, such as `0,2-3`, the first shard on the first
    /// [default: all, the one with the disk's interrupts first].
    #[arg(long, value_name = "LIST", value_parser = parse_cpus)]
    cpus: Option<Cpus>,
    /// Where the binary protocol is spoken. Each shard's own port is one of the next ones;
    /// port 0 takes free ports.
    #[arg(long, value_name = "ADDR", default_value_t = BINARY_DEFAULT)]
    binary: SocketAddr,
    /// The file with the API keys. Without one, only loopback is listened on and let in.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// The size of a log segment, a multiple of 4096.
    #[arg(
        long,
        value_name = "N",
        default_value_t = SEGMENT_BYTES_DEFAULT,
        value_parser = parse_segment_bytes
    )]
    segment_bytes: u64,
    /// The most connections at once.
    #[arg(long, value_name = "N", default_value_t = CONNECTIONS_DEFAULT)]
    connections: NonZeroUsize,
    /// Close a connection that sends no whole request for so many seconds.
    #[arg(
        long,
        value_name = "S",
        default_value_t = IDLE_TIMEOUT_DEFAULT.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    idle_timeout: u64,
    /// Close a connection that does not take its answers for so many seconds.
    #[arg(
        long,
        value_name = "S",
        default_value_t = SEND_TIMEOUT_DEFAULT.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    send_timeout: u64,
    /// Tell of requests whose answer took more than so many milliseconds.
    #[arg(long, value_name = "MS")]
    slow_request: Option<u64>,
    /// How much to tell on stderr: error, warn, info or debug.
    #[arg(long, value_name = "LEVEL", default_value_t = tracing::Level::INFO)]
    log: tracing::Level,
}

#[derive(Clone, Debug)]
struct Cpus(Vec<usize>);

fn parse_cpus(text: &str) -> Result<Cpus, String> {
    cpu::parse_list(text).map(Cpus).ok_or_else(|| "not a list of CPUs such as 0,2-3".to_owned())
}

fn parse_shards(text: &str) -> Result<NonZeroU16, String> {
    let shards = text.parse().ok().filter(|shards: &NonZeroU16| shards.get() <= SHARDS_MAX);
    shards.ok_or_else(|| format!("not a number from 1 to {SHARDS_MAX}"))
}

fn parse_segment_bytes(text: &str) -> Result<u64, String> {
    let bytes: u64 = text.parse().map_err(|_| "not a number of bytes".to_owned())?;
    if bytes < SEGMENT_BYTES_LEAST || !bytes.is_multiple_of(BLOCK_BYTES as u64) {
        return Err(format!("at least {SEGMENT_BYTES_LEAST}, and a multiple of {BLOCK_BYTES}"));
    }
    Ok(bytes)
}

pub(super) fn run(args: Args) -> Result<(), Failed> {
    start_log(args.log);
    let keys = args.keys.as_deref().map(load_keys).transpose()?;
    let config = ServerConfig {
        data_dir: args.data_dir,
        shards: args.shards,
        cpus: args.cpus.map(|cpus| cpus.0),
        binary: args.binary,
        keys: keys.map(Arc::new),
        segment_bytes: args.segment_bytes,
        connections_max: connections_max(args.connections.get())?,
        idle_timeout: Duration::from_secs(args.idle_timeout),
        send_timeout: Duration::from_secs(args.send_timeout),
        slow_request: args.slow_request.map(Duration::from_millis),
    };
    control::serve(&config, announce, |error| end(&failed(error))).map_err(|error| failed(&error))
}

fn load_keys(path: &Path) -> Result<Keys, Failed> {
    let bytes = std::fs::read(path).map_err(|error| {
        let path = path.display();
        Failed::new(
            ExitCode::Configuration,
            format_args!("{path}: cannot read the keys: {error}; `boxoffice key` makes one"),
        )
    })?;
    // What is not text is no line of a key file either.
    Keys::parse(&String::from_utf8_lossy(&bytes), &path.to_string_lossy())
        .map_err(|error| Failed::new(ExitCode::Configuration, error))
}

/// As many connections as the limit on open files allows; at least one.
fn connections_max(asked: usize) -> Result<usize, Failed> {
    let limit = limits::raise_open_files().unwrap_or(u64::MAX);
    let allowed = usize::try_from(limit.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
    if allowed == 0 {
        let least = 2 * OTHER_FILES;
        return Err(Failed::new(
            ExitCode::Environment,
            format_args!(
                "the limit of {limit} open files leaves no room for connections: raise it to \
                 {least} or more (`ulimit -n`, or LimitNOFILE= in the unit)"
            ),
        ));
    }
    if allowed < asked {
        tracing::warn!(
            "the limit of {limit} open files leaves room for {allowed} connections; for {asked} \
             raise it (`ulimit -n`, or LimitNOFILE= in the unit)"
        );
    }
    Ok(asked.min(allowed).max(1))
}

/// What scripts wait for: one line for each listener, and then that the server serves.
fn announce(started: &Started) {
    let shards = started.shard_addresses.iter().enumerate();
    let shards = shards.map(|(shard, address)| format!("listening shard {shard} {address}"));
    let all = format!("listening binary {}", started.address);
    let lines = std::iter::once(all).chain(shards).chain(["ready".to_owned()]);
    for line in lines {
        if let Err(failed) = print_line(&line) {
            tracing::warn!("{}", failed.message);
        }
    }
}

fn failed(error: &ServerError) -> Failed {
    let code = match error {
        ServerError::DataDir(error) => match error {
            DataDirError::InUse { .. } => ExitCode::DirectoryInUse,
            DataDirError::NewerFormat { .. } | DataDirError::NotOurs { .. } => {
                ExitCode::ForeignData
            }
            DataDirError::BadManifest { .. } => ExitCode::DamagedLog,
            DataDirError::Absent { .. }
            | DataDirError::OtherShards { .. }
            | DataDirError::Io { .. } => ExitCode::Configuration,
        },
        ServerError::Log(error) => match error {
            WalError::Damage { .. }
            | WalError::NotASegment { .. }
            | WalError::MissingSegment { .. } => ExitCode::DamagedLog,
            WalError::NewerFormat { .. }
            | WalError::ForeignLog { .. }
            | WalError::WrongShard { .. } => ExitCode::ForeignData,
            WalError::Io { .. } => ExitCode::Failure,
        },
        ServerError::NeedsKeys { .. } | ServerError::NoSuchCpu { .. } => ExitCode::Configuration,
        ServerError::RingSetup(_) | ServerError::Executor { .. } | ServerError::DirectIo { .. } => {
            ExitCode::Environment
        }
        ServerError::Listen { .. } => ExitCode::CannotListen,
        ServerError::LogWrite { .. } | ServerError::Prepare { .. } => ExitCode::DiskFailed,
        ServerError::Ring(_) | ServerError::System { .. } => ExitCode::Failure,
    };
    Failed::new(code, error)
}
