//! What a server is started with. Every field has its default here and nowhere else.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::credentials::Credentials;
use crate::admission::keys::Keys;
use crate::admission::peer::TrustedProxies;
use crate::admission::token::{TokenKeys, TokenRules};
use crate::wal::{FRAME_BYTES_MAX, SEGMENT_BYTES_DEFAULT, SEGMENT_HEADER_BYTES};

/// The default of `--binary`.
pub const BINARY_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7400);

/// The default of `--http`.
pub const HTTP_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7480);

/// The default of `--admin`, in the data directory.
pub const ADMIN_SOCKET_DEFAULT: &str = "admin.sock";

/// The most shards. Each pair of them has two mailboxes, and each one a port in the answer to
/// Hello.
pub const SHARDS_MAX: u16 = 256;

/// The default of `--connections`: over all shards.
pub const CONNECTIONS_DEFAULT: NonZeroUsize = NonZeroUsize::new(10_000).expect("it is not zero");

/// The default of `--idle-timeout`.
pub const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_mins(5);

/// The default of `--request-timeout`.
pub const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// The default of `--send-timeout`.
pub const SEND_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// The default of `--segments-ahead`: with the default size, 256 MiB of zeros that are written
/// while nobody is in a hurry. Writing them in the midst of a rush takes 8 % of a shard's CPU.
pub const SEGMENTS_AHEAD_DEFAULT: NonZeroU16 = NonZeroU16::new(4).expect("it is not zero");

/// The most of `--segments-ahead`. Each is an open file.
pub const SEGMENTS_AHEAD_MAX: u16 = 64;

/// The smallest segment that holds the largest frame.
pub const SEGMENT_BYTES_LEAST: u64 = (SEGMENT_HEADER_BYTES + FRAME_BYTES_MAX) as u64;

/// How much of a shard's log is complete before its next snapshot, in bytes: some two million
/// records, which a start reads in about a second.
pub const SNAPSHOT_EVERY_DEFAULT: u64 = 256 << 20;

/// The default of `--log`.
pub const LOG_LEVEL_DEFAULT: tracing::Level = tracing::Level::INFO;

const _: () = assert!(SEGMENT_BYTES_DEFAULT >= SEGMENT_BYTES_LEAST);

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The data directory.
    pub data_dir: PathBuf,
    /// How many shards; as the data directory says, or one per CPU, unless given.
    pub shards: Option<NonZeroU16>,
    /// The CPUs to run on, the first shard on the first; all that are allowed unless given.
    pub cpus: Option<Vec<usize>>,
    /// Where the binary protocol is spoken. Each shard's own port is the next one; port 0 takes
    /// free ports.
    pub binary: SocketAddr,
    /// Where HTTP is spoken, by every shard on the same port; port 0 takes a free one.
    pub http: SocketAddr,
    /// Where the control plane takes administration.
    pub admin: AdminAddress,
    /// The API keys.
    pub keys: Option<Arc<Keys>>,
    /// The web origins whose pages may read answers over HTTP; `*` is all.
    pub cors_origins: Vec<String>,
    /// The keys that sign buyers' tokens; without any, no token holds.
    pub token_keys: Option<Arc<TokenKeys>>,
    /// What the issuer of a token must be; anything unless given.
    pub token_issuer: Option<String>,
    /// What the audience of a token must be or contain; anything unless given.
    pub token_audience: Option<String>,
    /// Whether a buyer's token is enough to confirm, buy and cancel what costs money; otherwise
    /// that takes an API key.
    pub buyers_confirm: bool,
    /// The proxies whose word on a client's address counts; none by default.
    pub trusted_proxies: TrustedProxies,
    /// Whether each HTTP connection of a trusted proxy starts with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// The size of a log segment; at least [`SEGMENT_BYTES_LEAST`].
    pub segment_bytes: u64,
    /// How many segments of each log are prepared before they are needed, at most.
    pub segments_ahead: NonZeroU16,
    /// How much of a shard's log is sealed before its next snapshot, in bytes; zero makes none.
    pub snapshot_every: u64,
    /// What becomes of log segments that no start needs any more.
    pub retention: Retention,
    /// The most connections at once, over all shards.
    pub connections_max: usize,
    /// A connection that sends no whole request for so long is closed.
    pub idle_timeout: Duration,
    /// An HTTP request that was begun and is not whole after so long is refused.
    pub request_timeout: Duration,
    /// A connection that does not take its answers for so long is closed.
    pub send_timeout: Duration,
    /// A request that takes longer is logged.
    pub slow_request: Option<Duration>,
    /// How much is logged.
    pub log_level: tracing::Level,
    /// In which form.
    pub log_format: LogFormat,
}

/// Where the control plane takes administration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP listener of its own.
    Tcp(SocketAddr),
}

impl AdminAddress {
    /// The address in a text: `HOST:PORT` where that is one, and else a path. A path has a `/`,
    /// so that a mistyped address makes no file.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Self::Tcp(address));
        }
        text.contains('/').then(|| Self::Unix(text.into()))
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

/// What becomes of log segments that two snapshots cover.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// They stay: payment references are in the log alone.
    #[default]
    Keep,
    /// They are deleted.
    Delete,
    /// They are moved into this directory.
    Archive(PathBuf),
}

/// In which form the log goes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// To the journal where that is where stderr leads, and as text otherwise.
    #[default]
    Auto,
    /// Lines for people, on stderr.
    Text,
    /// One JSON object a line, on stderr.
    Json,
    /// The native protocol of systemd's journal.
    Journald,
}

impl LogFormat {
    /// Every form.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Text, Self::Json, Self::Journald];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
            Self::Journald => "journald",
        }
    }
}

impl ServerConfig {
    /// Who is let in.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        Credentials { keys: self.keys.clone(), token_rules: self.token_rules() }
    }

    /// Which tokens hold; `None` where none does.
    #[must_use]
    pub fn token_rules(&self) -> Option<Arc<TokenRules>> {
        let keys = Arc::clone(self.token_keys.as_ref()?);
        let (issuer, audience) = (self.token_issuer.clone(), self.token_audience.clone());
        Some(Arc::new(TokenRules { keys, issuer, audience }))
    }
}
