//! What a server is started with. Every field has its default here and nowhere else.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::admission::keys::Keys;
use crate::wal::{FRAME_BYTES_MAX, SEGMENT_BYTES_DEFAULT, SEGMENT_HEADER_BYTES};

/// The default of `--binary`.
pub const BINARY_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7400);

/// The most shards. Each pair of them has two mailboxes, and each one a port in the answer to
/// Hello.
pub const SHARDS_MAX: u16 = 256;

/// The default of `--connections`: over all shards.
pub const CONNECTIONS_DEFAULT: NonZeroUsize = NonZeroUsize::new(10_000).expect("it is not zero");

/// The default of `--idle-timeout`.
pub const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_mins(5);

/// The default of `--send-timeout`.
pub const SEND_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// The smallest segment that holds the largest frame.
pub const SEGMENT_BYTES_LEAST: u64 = (SEGMENT_HEADER_BYTES + FRAME_BYTES_MAX) as u64;

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
    /// The API keys.
    pub keys: Option<Arc<Keys>>,
    /// The size of a log segment; at least [`SEGMENT_BYTES_LEAST`].
    pub segment_bytes: u64,
    /// The most connections at once, over all shards.
    pub connections_max: usize,
    /// A connection that sends no whole request for so long is closed.
    pub idle_timeout: Duration,
    /// A connection that does not take its answers for so long is closed.
    pub send_timeout: Duration,
    /// An answer that takes longer is told of in the log; none is unless given.
    pub slow_request: Option<Duration>,
}
