//! Lanes: the ways to the server, each with at most one connection, and which one a sale takes.
//!
//! Lane 0 leads to the address that the client was given, and serves every sale. Behind it comes
//! one lane per shard, to the port that the server tells. A shard's lane that fails is left
//! alone for a while and lane 0 takes its requests, so a port that nobody can reach costs one
//! try now and then.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use super::Options;
use super::connection::Connection;
use super::error::Cause;
use crate::model::{Route, ShardIndex};
use crate::protocol::binary::Welcome;

/// The lane to the given address.
pub const FIRST: usize = 0;

/// How long a shard's lane is left alone after it failed to connect.
const SHARD_LANE_REST: Duration = Duration::from_secs(30);

/// One way to the server.
#[derive(Default)]
struct Lane {
    addresses: Vec<SocketAddr>,
    connection: Option<Connection>,
    /// No try to connect before this.
    retry_at: Option<Instant>,
    /// The wait after the next failure.
    backoff: Duration,
}

pub struct Lanes {
    options: Options,
    all: Vec<Lane>,
    /// The host of lane 0, for the ports of the shards.
    host: Option<IpAddr>,
    /// The shard behind lane 0.
    first_shard: ShardIndex,
    /// The newest word of the server.
    welcome: Option<Welcome>,
}

/// What opening a lane came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// There is a connection.
    Yes,
    /// There is one, and the server is another: the lanes were drawn anew and those of the
    /// shards have lost their connections.
    Remapped,
    /// Not now: the lane rests after a failure.
    Resting,
}

impl Lanes {
    /// No connection yet.
    pub fn new(addresses: Vec<SocketAddr>, mut options: Options) -> Self {
        // Connecting must not take longer than the requests that wait for it.
        options.connect_timeout = options.connect_timeout.min(options.request_timeout);
        let first = Lane { addresses, backoff: options.backoff_min, ..Lane::default() };
        let first_shard = ShardIndex(0);
        Self { options, all: vec![first], host: None, first_shard, welcome: None }
    }

    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// What the server granted last.
    pub const fn welcome(&self) -> Option<&Welcome> {
        self.welcome.as_ref()
    }

    pub fn count(&self) -> usize {
        self.all.len()
    }

    pub fn connection(&mut self, lane: usize) -> Option<&mut Connection> {
        self.all[lane].connection.as_mut()
    }

    /// The lane that a request takes at `now`.
    pub fn route(&self, route: Route, now: Instant) -> usize {
        let Some(shards) = NonZeroU16::new((self.all.len() - 1) as u16) else { return FIRST };
        let shard = route.shard(shards);
        let lane = usize::from(shard.0) + 1;
        // A shard that the request names may not be on the map; the server knows.
        let rests = self.all.get(lane).is_none_or(|lane| lane.rests(now));
        if shard == self.first_shard || rests { FIRST } else { lane }
    }

    /// Sees to it that a lane has a connection. The error is that of lane 0: a shard's lane that
    /// fails only rests.
    pub fn open(&mut self, lane: usize, now: Instant) -> Result<Opened, Cause> {
        if self.all[lane].connection.is_some() {
            return Ok(Opened::Yes);
        }
        if self.all[lane].rests(now) {
            return Ok(Opened::Resting);
        }
        match Connection::open(&self.all[lane].addresses, &self.options) {
            Ok(connection) => Ok(self.take(lane, connection)),
            Err(cause) if lane == FIRST => {
                self.rest(FIRST);
                Err(cause)
            }
            Err(_) => {
                self.all[lane].retry_at = Some(Instant::now() + SHARD_LANE_REST);
                Ok(Opened::Resting)
            }
        }
    }

    /// When lane 0 may be tried again.
    pub fn retry_at(&self) -> Option<Instant> {
        self.all[FIRST].retry_at
    }

    /// Drops a broken connection. One that broke before it answered anything counts as a failed
    /// try, so that a server that only says `HELLO` is not stormed.
    pub fn close(&mut self, lane: usize) {
        let Some(connection) = self.all[lane].connection.take() else { return };
        if connection.has_answered {
            self.all[lane].backoff = self.options.backoff_min;
            self.all[lane].retry_at = None;
        } else {
            self.rest(lane);
        }
    }

    /// Puts the next try off, with a wait that doubles and is shortened at random.
    fn rest(&mut self, lane: usize) {
        let lane = &mut self.all[lane];
        let half = lane.backoff / 2;
        let part = (RandomState::new().hash_one(0_u8) >> 40) as f64 / f64::from(1_u32 << 24);
        lane.retry_at = Some(Instant::now() + half + half.mul_f64(part));
        lane.backoff = (lane.backoff * 2).min(self.options.backoff_max);
    }

    /// Takes a new connection, and the map of the server where that is another one than before.
    fn take(&mut self, lane: usize, connection: Connection) -> Opened {
        if lane == FIRST {
            self.host = connection.peer();
            self.first_shard = connection.welcome.shard;
        }
        let boot = connection.welcome.boot;
        let is_new = self.welcome.as_ref().is_none_or(|known| known.boot != boot);
        if is_new {
            self.draw(&connection.welcome);
        }
        // Where the new map has no such lane, the connection goes with the old one.
        if let Some(lane) = self.all.get_mut(lane) {
            lane.connection = Some(connection);
        }
        if is_new { Opened::Remapped } else { Opened::Yes }
    }

    /// Draws the lanes of the shards.
    fn draw(&mut self, welcome: &Welcome) {
        self.all.truncate(1);
        let ports: &[u16] = if self.options.shard_aware { &welcome.ports } else { &[] };
        self.all.extend(ports.iter().map(|port| Lane {
            addresses: self.host.map(|host| SocketAddr::new(host, *port)).into_iter().collect(),
            backoff: self.options.backoff_min,
            ..Lane::default()
        }));
        self.welcome = Some(welcome.clone());
    }
}

impl Lane {
    fn rests(&self, now: Instant) -> bool {
        self.connection.is_none() && self.retry_at.is_some_and(|at| now < at)
    }
}
