//! What keeps a server from starting, or ends it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::datadir::DataDirError;
use crate::model::{Lsn, ShardIndex};
use crate::protocol::http::CorsError;
use crate::runtime::RingError;
use crate::wal::WalError;

/// Why the server does not start, or had to stop. Each says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A log cannot be used.
    #[error(transparent)]
    Log(#[from] WalError),
    /// A ring cannot be set up.
    #[error(transparent)]
    RingSetup(#[from] RingError),
    /// A web origin is none.
    #[error("--cors-origin: {0}")]
    Cors(#[from] CorsError),
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; stop the process that has it, or choose another \
         address with {flag}"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What names it on the command line.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Behind the shared port of the binary protocol there are not enough others.
    #[error(
        "--binary {address}: the shards' own ports come right behind that one, one for each of \
         {shards}, and there is no room up to 65535; choose a port of at most {}",
        u16::MAX - .shards
    )]
    NoOwnPorts {
        /// The shared address.
        address: SocketAddr,
        /// How many shards there are.
        shards: u16,
    },
    /// Two settings want the same port.
    #[error(
        "{flag} {address} collides with {other_flag} {other}{}; choose another port for one of \
         them",
        .shard.map_or(String::new(), |shard| {
            format!(": the ports behind that are the shards' own, and this one is shard {shard}'s")
        })
    )]
    PortsCollide {
        /// What names the one on the command line.
        flag: &'static str,
        /// Its address.
        address: SocketAddr,
        /// What names the other.
        other_flag: &'static str,
        /// Its address.
        other: SocketAddr,
        /// The shard whose own port it is.
        shard: Option<ShardIndex>,
    },
    /// The socket of administration cannot be made.
    #[error(
        "{path}: cannot listen there for administration: {source}; stop the process that has \
         it, or choose another path, at most 107 bytes long, with --admin"
    )]
    AdminSocket {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An address that others can reach needs keys.
    #[error(
        "{address} can be reached from other machines, and no key is configured: name a key \
         file with --keys (`boxoffice key` makes keys), or listen on a loopback address"
    )]
    NeedsKeys {
        /// The address.
        address: SocketAddr,
    },
    /// A CPU of the list is not there for this process.
    #[error("CPU {cpu} is not available to this process (available: {allowed:?})")]
    NoSuchCpu {
        /// The CPU.
        cpu: usize,
        /// Those that are.
        allowed: Vec<usize>,
    },
    /// A file on the data directory's disk cannot be opened for direct I/O.
    #[error(
        "{path}: cannot open it for direct I/O: {source}; the data directory must lie on a file \
         system with O_DIRECT, such as ext4 or xfs"
    )]
    DirectIo {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The cold plane's executor cannot be set up.
    #[error(
        "the control plane cannot start: {reason}; it needs io_uring and 512 KiB of locked \
         memory (`ulimit -l`, or LimitMEMLOCK= in the unit)"
    )]
    Executor {
        /// What glommio said.
        reason: String,
    },
    /// The ring failed while the server ran.
    #[error("the ring failed: {0}")]
    Ring(io::Error),
    /// A write to the log failed.
    #[error(
        "{path}: writing the log at offset {offset}, up to LSN {lsn}, failed: {source}. The server \
         stops here, because nobody knows what the disk has kept; what was answered is safe. \
         Check the disk (dmesg, smartctl), free space if it is full, and start again"
    )]
    LogWrite {
        /// The segment.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// The last record of the write.
        lsn: Lsn,
        /// What the system said.
        source: io::Error,
    },
    /// The name of a new segment may not be on the disk.
    #[error(
        "{path}: syncing the directory of a log failed: {source}. The server stops here, because \
         nobody knows what the disk has kept; what was answered is safe. Check the disk (dmesg, \
         smartctl), and start again"
    )]
    SyncDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log needs a segment that cannot be prepared.
    #[error(
        "{path}: shard {shard} has used up its log's room, and the next segment cannot be made: \
         {source}. What was answered is safe. Check the disk's space (df) and health (dmesg), and \
         start again"
    )]
    Prepare {
        /// The shard.
        shard: ShardIndex,
        /// The segment.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else of the operating system failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl ServerError {
    /// An error of the operating system, for `map_err`.
    pub(crate) fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}
