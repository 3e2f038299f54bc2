//! Administration: HTTP/1.1 with JSON, on a Unix socket or a TCP address of its own.
//!
//! ```text
//! GET  /livez                               200 as soon as the process is up, before recovery
//! GET  /readyz                              200 while every shard serves, else 503
//! GET  /metrics                             Prometheus' text format
//! GET  /v1/stats                            totals over all sales
//! GET  /v1/sales?after=&limit=              sales in the order of their ids
//! GET  /v1/sales/{sale}                     a sale and its items
//! PUT  /v1/sales/{sale}                     a sale as it is wanted, its items and its state
//! POST /v1/sales/{sale}/open                also pause, close, archive
//! PUT  /v1/sales/{sale}/items/{item}        an item as it is wanted, before the sale opens
//! POST /v1/sales/{sale}/items/{item}/restock   {"by": n}; Idempotency-Key makes it repeatable
//! GET  /v1/sales/{sale}/orders?account=&after=&limit=   orders of an account
//! GET  /v1/sales/{sale}/orders/{n}          an order
//! ```
//!
//! Every change answers with what was done and with the sale behind it ([`view::Changed`]).
//!
//! **Who may.** Whoever may write to the socket's file (mode 0660). On a TCP address, where there
//! are keys, callers with a key of the scope `admin`; only the two probes need none.
//!
//! **Bounds.** [`CONNECTIONS_MAX`] connections, one request of each at a time with a body of at
//! most [`BODY_BYTES_MAX`], a time limit for each request to arrive and for each answer to be
//! taken. Nobody waits for another one's connection. A thread of its own accepts, since nothing of
//! the executor's can be made of a listening socket that exists already.

mod connection;
mod office;
mod query;
mod reply;
mod route;
pub mod view;

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use glommio::net::TcpStream;
use glommio::timer::sleep;

pub use self::connection::BODY_BYTES_MAX;
use self::connection::Connection;
use self::office::Office;
use super::bell::Ringer;
use super::desk::Desk;
use super::metrics::Scraper;
use crate::admission::keys::Keys;
use crate::runtime::unix::{self, Credentials, SocketFile};
use crate::server::ServerError;
use crate::server::config::{AdminAddress, ServerConfig};

/// How long nothing more is said of connections that are turned away.
const WARN_AGAIN: Duration = Duration::from_mins(1);

/// The most connections at once; a further one is closed.
pub const CONNECTIONS_MAX: usize = 256;

/// Accepted connections that the executor has not seen yet.
const ACCEPTED_MAX: usize = 64;

/// How long accepting pauses after an error such as "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a stopping server waits for its last answers to be taken.
const FINISH_TIME_MAX: Duration = Duration::from_secs(1);

/// How often it looks whether they are.
const FINISH_TICK: Duration = Duration::from_millis(5);

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// A process on this machine.
    Process(Credentials),
    /// An address.
    Address(SocketAddr),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(Credentials { pid, uid, gid }) => {
                write!(f, "pid {pid} uid {uid} gid {gid}")
            }
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// A connection that was accepted, on its way to the executor.
type Accepted = (glommio_socket2::Socket, Peer);

/// The description of administration: `OpenAPI` 3.1.
pub const OPENAPI: &str = include_str!("openapi.json");

/// The listening end of administration.
pub struct Door {
    address: AdminAddress,
    accepted: Receiver<Accepted>,
    office: Rc<Office>,
    load: Rc<Load>,
    /// When it was last said that there are too many connections.
    warned_at: Cell<Option<Instant>>,
    /// The socket's file, for as long as this lives.
    _file: Option<SocketFile>,
}

/// What is under way at the door.
#[derive(Debug, Default)]
struct Load {
    connections: Cell<usize>,
    /// Requests that are being answered.
    requests: Cell<usize>,
}

impl Door {
    /// Listens where the configuration says. `ringer` wakes the control plane, which then lets
    /// in who came.
    pub(super) fn open(
        config: &ServerConfig,
        desk: &Rc<Desk>,
        scraper: &Rc<Scraper>,
        ringer: Ringer,
    ) -> Result<Self, ServerError> {
        let (sender, accepted) = sync_channel(ACCEPTED_MAX);
        let (address, keys, file) = match &config.admin {
            AdminAddress::Unix(path) => {
                let (listener, file) = unix::listen(path)
                    .map_err(|source| ServerError::AdminSocket { path: path.clone(), source })?;
                spawn(move || accept_all(&listener, accept_process, &sender, &ringer))?;
                (config.admin.clone(), None, Some(file))
            }
            AdminAddress::Tcp(address) => {
                let listen = || {
                    let listener = TcpListener::bind(address)?;
                    Ok((listener.local_addr()?, listener))
                };
                let (address, listener) = listen().map_err(|source| ServerError::Listen {
                    address: *address,
                    flag: "--admin",
                    source,
                })?;
                spawn(move || accept_all(&listener, accept_address, &sender, &ringer))?;
                (AdminAddress::Tcp(address), config.keys.clone(), None)
            }
        };
        let office = Rc::new(Office::new(Rc::clone(desk), Rc::clone(scraper), keys));
        Ok(Self {
            address,
            accepted,
            office,
            load: Rc::default(),
            warned_at: Cell::default(),
            _file: file,
        })
    }

    /// Other keys count from the next request on.
    pub(super) fn take_keys(&self, keys: Option<Arc<Keys>>) {
        self.office.take_keys(keys);
    }

    /// Where it listens, with the port that port 0 became.
    pub(super) const fn address(&self) -> &AdminAddress {
        &self.address
    }

    /// Serves who came since the last time, each on a task of its own.
    pub(super) fn let_in(&self) {
        while let Ok((socket, peer)) = self.accepted.try_recv() {
            if self.load.connections.get() == CONNECTIONS_MAX {
                self.warn_of_crowd(peer);
                continue;
            }
            let stream = TcpStream::from(socket);
            let office = Rc::clone(&self.office);
            let connection = Connection::new(stream, peer, office, Rc::clone(&self.load));
            glommio::spawn_local(connection.serve()).detach();
        }
    }

    /// Says that somebody was turned away, though not of each one: they may be many.
    fn warn_of_crowd(&self, peer: Peer) {
        let now = Instant::now();
        if self.warned_at.get().is_none_or(|at| now.duration_since(at) >= WARN_AGAIN) {
            self.warned_at.set(Some(now));
            tracing::warn!(%peer, "too many connections for administration: some are closed");
        }
    }

    /// Waits, not for ever, until what is being answered is answered.
    pub(super) async fn finish(&self) {
        for _ in 0..FINISH_TIME_MAX.as_millis() / FINISH_TICK.as_millis() {
            if self.load.requests.get() == 0 {
                return;
            }
            sleep(FINISH_TICK).await;
        }
    }
}

fn spawn(run: impl FnOnce() + Send + 'static) -> Result<(), ServerError> {
    let spawned = thread::Builder::new().name("admin-accept".to_owned()).spawn(run);
    spawned.map(drop).map_err(ServerError::system("start a thread"))
}

/// Accepts until the control plane is gone. The thread sleeps in the kernel, and ends with the
/// process.
fn accept_all<L>(
    listener: &L,
    accept: fn(&L) -> io::Result<Accepted>,
    accepted: &SyncSender<Accepted>,
    ringer: &Ringer,
) {
    loop {
        match accept(listener) {
            // A full channel holds accepting up; those who come wait in the backlog.
            Ok(connection) => match accepted.send(connection) {
                Ok(()) => ringer.ring(),
                Err(_) => return,
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for administration");
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn accept_process(listener: &UnixListener) -> io::Result<Accepted> {
    let (socket, _) = listener.accept()?;
    let peer = Peer::Process(unix::credentials(&socket)?);
    socket.set_nonblocking(true)?;
    Ok((socket.into(), peer))
}

fn accept_address(listener: &TcpListener) -> io::Result<Accepted> {
    let (socket, address) = listener.accept()?;
    socket.set_nonblocking(true)?;
    socket.set_nodelay(true)?;
    Ok((socket.into(), Peer::Address(address)))
}
