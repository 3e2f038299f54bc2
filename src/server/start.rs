//! Starting a server: listeners, data directory, recovery, and one thread for each shard.
//!
//! [`open`] is short and decides whether this process may serve at all; [`start`] may take as long
//! as the log is, so the control plane runs it on a thread of its own.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::asks::ASKS_MAX;
use super::calibrate::calibrate;
use super::commit::Beyond;
use super::config::{AdminAddress, SHARDS_MAX, ServerConfig};
use super::connection::Seats;
use super::datadir::{DataDir, DataDirError, Found, NewLog, inspect};
use super::documents::Documents;
use super::error::ServerError;
use super::mail::{MAILBOX_MESSAGES, Mail};
use super::metrics::ShardMetrics;
use super::repartition::{repartition, retire_replaced};
use super::restore::{Restored, Snapshot, random, restore};
use super::service::{IN_FLIGHT_MAX, Service, ServiceConfig};
use super::shard::{Listener, LoopState, Order, Peer, Reporter, Shard};
use super::space::{LogSpace, is_disk_full, secured_segments};
use super::turn::{CLOCK_STEP_MS, TIME_STANDS_STILL};
use crate::model::{Scopes, ShardIndex};
use crate::protocol::binary::{FRAME_BYTES_MAX, VERSION, Welcome};
use crate::protocol::http::Cors;
use crate::runtime::file::{SyncMethod, open_direct};
use crate::runtime::mailbox::mailbox;
use crate::runtime::net::{self, Listeners};
use crate::runtime::{
    Clock, Inbox, Outbox, Ring, RingConfig, SystemClock, Wakeup, cpu, huge, interrupt,
};
use crate::wal::{
    Identity, LogId, LogWriter, Recovered, Segment, SegmentIndex, prepare_segment, segment_path,
    segment_room,
};

/// A shard's ring. Two thousand receive buffers of a page are enough for as many connections to
/// have something to say in one turn.
pub const RING: RingConfig = RingConfig {
    submissions: 1024,
    completions: 8192,
    receive_buffers: 2048,
    receive_buffer_bytes: 4096,
};

/// How often a port that is taken is tried again, and how long after.
const PORT_NAPS: u32 = 400;
const PORT_NAP: Duration = Duration::from_millis(5);

/// Orders from the control plane that wait at most: what it asks, and a few of other kinds.
const ORDERS_MAX: usize = 64;

const _: () = assert!(ORDERS_MAX >= 2 * ASKS_MAX);

/// A server whose shards serve.
#[derive(Debug)]
pub struct Started {
    /// Where every shard listens.
    pub address: SocketAddr,
    /// Where every shard speaks HTTP.
    pub http: SocketAddr,
    /// Where each shard listens alone.
    pub shard_addresses: Vec<SocketAddr>,
    /// The shards.
    pub shards: Vec<StartedShard>,
    /// The data directory, locked as long as this lives.
    pub data_dir: DataDir,
}

/// A shard that serves, as the control plane sees it.
#[derive(Debug)]
pub struct StartedShard {
    /// Which one.
    pub index: ShardIndex,
    /// What to tell it by.
    pub orders: Outbox<Order>,
    /// Its thread.
    pub thread: JoinHandle<()>,
    /// What its log is like.
    pub log: StartedLog,
    /// Its numbers.
    pub metrics: Arc<ShardMetrics>,
}

/// The log of a shard that serves.
#[derive(Clone, Debug)]
pub struct StartedLog {
    /// Its directory.
    pub directory: PathBuf,
    /// Whose it is.
    pub identity: Identity,
    /// How writes become durable.
    pub sync: SyncMethod,
    /// The segment that was being written at the start.
    pub current: SegmentIndex,
    /// How many prepared segments there were behind it.
    pub ahead: usize,
    /// The snapshot that the shard's state began with.
    pub snapshot: Option<Snapshot>,
}

/// What one shard's thread is given.
struct Assignment {
    index: ShardIndex,
    cpu: usize,
    identity: Identity,
    directory: PathBuf,
    segment_bytes: u64,
    /// Further segments that the disk has room for; the control plane tells more.
    free_segments: u64,
    listeners: Vec<Listener>,
    service: ServiceConfig,
    peers: Vec<Peer>,
    orders: Inbox<Order>,
    report: Reporter,
    wakeup: Wakeup,
}

/// A data directory that is this process's own, the CPUs to serve it on, and the sockets.
#[derive(Debug)]
pub struct Opened {
    /// The directory, locked as long as this lives.
    pub data_dir: DataDir,
    cpus: Vec<usize>,
    cors: Cors,
    /// Nothing is accepted on them yet.
    listening: Listening,
}

/// Listens, opens and locks the data directory, making it where there is none, and keeps this
/// thread and those that it starts to the CPUs to run on.
pub fn open(config: &ServerConfig) -> Result<Opened, ServerError> {
    check_reach(config)?;
    let cors = Cors::new(&config.cors_origins)?;
    let default_shards = default_shards(config)?;
    // Before anything is made: a busy port leaves no data directory behind.
    let mut listening = listen(config, expected_shards(config, default_shards)?)?;
    if let AdminAddress::Tcp(address) = config.admin {
        let refused = |source| ServerError::Listen { address, flag: "--admin", source };
        net::try_bind(address).map_err(refused)?;
    }
    let data_dir = open_data_dir(config, default_shards)?;
    if listening.own.len() != usize::from(data_dir.shards().get()) {
        // A creation that was cut short is begun anew with another number of shards.
        drop(listening);
        listening = listen(config, data_dir.shards())?;
    }
    let cpus = choose_cpus(config, data_dir.shards())?;
    Ok(Opened { data_dir, cpus, cors, listening })
}

/// Recovers every log, and serves.
///
/// `reporter` makes what a shard tells the control plane by. `fatal` ends the process: it is
/// called on the thread of a shard that cannot go on.
pub fn start(
    config: &ServerConfig,
    opened: Opened,
    reporter: impl FnMut() -> Result<Reporter, ServerError>,
    fatal: fn(&ServerError) -> !,
) -> Result<Started, ServerError> {
    let Opened { data_dir, cpus, cors, listening } = opened;
    let shards = data_dir.shards();
    let (address, http) = (listening.binary.address, listening.http.address);
    let shard_addresses = listening.own.iter().map(|own| own.address).collect();
    let (assignments, orders) = assign(config, &data_dir, (&cpus, &cors), listening, reporter)?;
    // On the CPUs of this thread, which `open` kept to the server's.
    huge::start_warming().map_err(ServerError::system("start a thread"))?;
    let (ready_sender, ready) = mpsc::channel();
    let mut threads = Vec::new();
    let mut gates = Vec::new();
    for assignment in assignments {
        let (gate, opened) = mpsc::channel();
        let ready = ready_sender.clone();
        let thread = thread::Builder::new()
            .name(format!("shard-{}", assignment.index))
            .spawn(move || run_shard(assignment, &ready, &opened, fatal))
            .map_err(ServerError::system("start a thread"))?;
        threads.push(thread);
        gates.push(gate);
    }
    let mut prepared: Vec<_> = (0..shards.get()).map(|_| None).collect();
    for (index, shard) in ready.iter().take(usize::from(shards.get())) {
        prepared[usize::from(index.0)] = Some(shard?);
    }
    // Nobody serves before everybody can: a request may be for any shard.
    for gate in gates {
        gate.send(()).expect("a shard waits for its gate");
    }
    let parts = prepared.into_iter().zip(orders).zip(threads).enumerate();
    let shards = parts.map(|(number, ((prepared, orders), thread))| {
        let (log, metrics) = prepared.expect("each shard reported");
        StartedShard { index: ShardIndex(number as u16), orders, thread, log, metrics }
    });
    Ok(Started { address, http, shard_addresses, shards: shards.collect(), data_dir })
}

/// What each shard's thread is given, and by what it takes orders.
fn assign(
    config: &ServerConfig,
    data_dir: &DataDir,
    (cpus, cors): (&[usize], &Cors),
    listening: Listening,
    mut reporter: impl FnMut() -> Result<Reporter, ServerError>,
) -> Result<(Vec<Assignment>, Vec<Outbox<Order>>), ServerError> {
    let shards = data_dir.shards();
    let token_rules = config.token_rules();
    let documents = Arc::new(Documents::shipped());
    let welcome = welcome(&listening.own)?;
    let space = LogSpace::of(data_dir.path(), shards, config.segment_bytes);
    let free_segments = space.map_or(0, |space| space.segments());
    let (peers, wakeups) = connect_shards(shards)?;
    let seats = Seats::new(config.connections_max);
    let mut assignments = Vec::new();
    let mut orders = Vec::new();
    let parts = listening.by_shard().zip(peers).zip(wakeups).enumerate();
    for (number, ((listeners, peers), wakeup)) in parts {
        let index = ShardIndex(number as u16);
        let log = LogId(data_dir.log_id(index));
        let (outbox, inbox) = mailbox(ORDERS_MAX, wakeup.clone());
        orders.push(outbox);
        assignments.push(Assignment {
            index,
            cpu: cpus[number % cpus.len()],
            identity: Identity { log, shard: index, shards },
            directory: data_dir.shard_directory(index),
            free_segments,
            segment_bytes: config.segment_bytes,
            listeners,
            service: ServiceConfig {
                index,
                shards,
                mailbox_messages: MAILBOX_MESSAGES,
                seats: seats.clone(),
                idle_timeout: config.idle_timeout,
                request_timeout: config.request_timeout,
                send_timeout: config.send_timeout,
                welcome: Welcome { shard: index, ..welcome.clone() },
                keys: config.keys.clone(),
                slow_request: config.slow_request,
                token_rules: token_rules.clone(),
                buyers_confirm: config.buyers_confirm,
                trusted_proxies: config.trusted_proxies.clone(),
                proxy_protocol: config.proxy_protocol,
                cors: cors.clone(),
                documents: Arc::clone(&documents),
            },
            peers,
            orders: inbox,
            report: reporter()?,
            wakeup,
        });
    }
    Ok((assignments, orders))
}

/// Whoever can reach a listener needs a credential: over HTTP a key or a buyer's token.
fn check_reach(config: &ServerConfig) -> Result<(), ServerError> {
    let has_keys = config.keys.is_some();
    let has_either = has_keys || config.token_keys.is_some();
    let admin = match config.admin {
        AdminAddress::Tcp(address) => Some((address, has_keys)),
        AdminAddress::Unix(_) => None,
    };
    let listeners = [(config.binary, has_keys), (config.http, has_either)];
    for (address, is_guarded) in listeners.into_iter().chain(admin) {
        if !is_guarded && !address.ip().is_loopback() {
            return Err(ServerError::NeedsKeys { address });
        }
    }
    Ok(())
}

/// The shards of a new data directory, unless they are asked for.
fn default_shards(config: &ServerConfig) -> Result<NonZeroU16, ServerError> {
    let allowed = cpu::allowed().map_err(ServerError::system("ask for the CPUs"))?;
    let cpus = config.cpus.as_ref().map_or(allowed.len(), Vec::len);
    let default = cpus.min(usize::from(SHARDS_MAX)) as u16;
    Ok(NonZeroU16::new(default).unwrap_or(NonZeroU16::MIN))
}

/// The shards that the data directory has or will have.
fn expected_shards(config: &ServerConfig, default: NonZeroU16) -> Result<NonZeroU16, ServerError> {
    match inspect(&config.data_dir)? {
        Found::Nothing => Ok(config.shards.unwrap_or(default)),
        Found::DataDir { shards } => Ok(config.shards.unwrap_or(shards)),
        Found::InUse { owner } => {
            Err(DataDirError::InUse { path: config.data_dir.clone(), owner }.into())
        }
    }
}

fn open_data_dir(config: &ServerConfig, default: NonZeroU16) -> Result<DataDir, ServerError> {
    let make_log = |log: &NewLog<'_>| {
        let identity = Identity { log: LogId(log.log_id), shard: log.shard, shards: log.shards };
        let first = Segment { index: SegmentIndex::FIRST, bytes: config.segment_bytes };
        prepare_segment(log.directory, identity, first).map_err(io::Error::other)
    };
    let shards = config.shards.unwrap_or(default);
    let mut data_dir = DataDir::open_or_create(&config.data_dir, shards, make_log)?;
    retire_replaced(&mut data_dir, &config.retention)?;
    if let Some(asked) = config.shards.filter(|asked| *asked != data_dir.shards()) {
        repartition(&mut data_dir, asked, config.segment_bytes, &config.retention)?;
    }
    Ok(data_dir)
}

/// The CPUs of the shards in order, and the process kept to them.
fn choose_cpus(config: &ServerConfig, shards: NonZeroU16) -> Result<Vec<usize>, ServerError> {
    let allowed = cpu::allowed().map_err(ServerError::system("ask for the CPUs"))?;
    let disk = interrupt::disk_cpus(&config.data_dir);
    let cpus = config.cpus.clone().unwrap_or_else(|| {
        // The first shard goes where the disk's interrupts go.
        let (mut cpus, rest): (Vec<_>, Vec<_>) = allowed.iter().partition(|cpu| disk.contains(cpu));
        cpus.extend(rest);
        cpus
    });
    if let Some(cpu) = cpus.iter().copied().find(|cpu| !allowed.contains(cpu)) {
        return Err(ServerError::NoSuchCpu { cpu, allowed });
    }
    cpu::restrict_current_thread(&cpus).map_err(ServerError::system("set the CPU affinity"))?;
    let used = &cpus[..cpus.len().min(usize::from(shards.get()))];
    tracing::info!(cpus = ?used, disk_interrupts = ?disk, "shards are placed");
    if !disk.is_empty() && !used.iter().any(|cpu| disk.contains(cpu)) {
        tracing::warn!(
            "no shard runs on a CPU that takes the disk's interrupts ({disk:?}); log writes \
             will be slower while that CPU is busy"
        );
    }
    Ok(cpus)
}

/// The sockets of all shards.
#[derive(Debug)]
struct Listening {
    /// Those that share the port of `--binary`.
    binary: Listeners,
    /// Each shard's own.
    own: Vec<Listeners>,
    /// Those that share the port of `--http`.
    http: Listeners,
}

impl Listening {
    fn by_shard(self) -> impl Iterator<Item = Vec<Listener>> {
        let parts = self.binary.sockets.into_iter().zip(self.own).zip(self.http.sockets);
        parts.map(|((shared, own), http)| {
            let binary = std::iter::once(shared).chain(own.sockets);
            let binary = binary.map(|socket| Listener { socket, is_http: false });
            binary.chain([Listener { socket: http, is_http: true }]).collect()
        })
    }
}

fn listen(config: &ServerConfig, shards: NonZeroU16) -> Result<Listening, ServerError> {
    check_ports(config, shards.get())?;
    let listen = |address, flag, count| {
        listen_patiently(address, count).map_err(|source| ServerError::Listen {
            address,
            flag,
            source,
        })
    };
    let address = config.binary;
    let binary = listen(address, "--binary", usize::from(shards.get()))?;
    let own = (1..=shards.get()).map(|offset| {
        if address.port() == 0 {
            return listen(address, "--binary", 1);
        }
        listen(SocketAddr::new(address.ip(), address.port() + offset), "--binary", 1)
    });
    let own = own.collect::<Result<_, _>>()?;
    let http = listen(config.http, "--http", usize::from(shards.get()))?;
    Ok(Listening { binary, own, http })
}

/// Refuses settings that want the same port; the shards' own are those behind that of `--binary`.
fn check_ports(config: &ServerConfig, shards: u16) -> Result<(), ServerError> {
    let binary = config.binary;
    if binary.port() != 0 && binary.port().checked_add(shards).is_none() {
        return Err(ServerError::NoOwnPorts { address: binary, shards });
    }
    let admin = match config.admin {
        AdminAddress::Tcp(address) => Some(("--admin", address)),
        AdminAddress::Unix(_) => None,
    };
    let http = ("--http", config.http);
    let after_binary = [Some(http), admin].into_iter().flatten();
    let pairs = after_binary.map(|one| (one, ("--binary", binary), shards));
    let after_http = admin.map(|admin| (admin, http, 0));
    for ((flag, address), (other_flag, other), behind) in pairs.chain(after_http) {
        let meet = address.ip() == other.ip()
            || address.ip().is_unspecified()
            || other.ip().is_unspecified();
        let offset = address.port().checked_sub(other.port()).filter(|offset| *offset <= behind);
        if let Some(offset) = offset.filter(|_| meet && other.port() != 0) {
            let shard = offset.checked_sub(1).map(ShardIndex);
            return Err(ServerError::PortsCollide { flag, address, other_flag, other, shard });
        }
    }
    Ok(())
}

/// Listens once the port is free, or gives up after two seconds.
///
/// The kernel takes a ring down behind the end of its process, and its listeners with it: for some
/// ten milliseconds the ports of a server that was killed are still taken, and whoever starts it
/// again at once would be told to stop a process that is not there.
fn listen_patiently(address: SocketAddr, count: usize) -> io::Result<Listeners> {
    for _ in 0..PORT_NAPS {
        match net::listen(address, count) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => thread::sleep(PORT_NAP),
            listening => return listening,
        }
    }
    net::listen(address, count)
}

// The answer to Hello lists a port for each shard.
const _: () = assert!(SHARDS_MAX as usize * size_of::<u16>() <= FRAME_BYTES_MAX / 2);

fn welcome(own: &[Listeners]) -> Result<Welcome, ServerError> {
    Ok(Welcome {
        version: VERSION,
        scopes: Scopes::ALL,
        shard: ShardIndex(0),
        frame_bytes_max: FRAME_BYTES_MAX as u32,
        in_flight_max: IN_FLIGHT_MAX,
        boot: u64::from_le_bytes(random().map_err(ServerError::system("draw random bytes"))?),
        ports: own.iter().map(|own| own.address.port()).collect(),
    })
}

/// A mailbox from each shard to each other.
fn connect_shards(shards: NonZeroU16) -> Result<(Vec<Vec<Peer>>, Vec<Wakeup>), ServerError> {
    let count = usize::from(shards.get());
    let wakeups = (0..count)
        .map(|_| Wakeup::new())
        .collect::<io::Result<Vec<_>>>()
        .map_err(ServerError::system("make an eventfd"))?;
    let mut outboxes: Vec<Vec<(ShardIndex, Outbox<Mail>)>> = (0..count).map(|_| vec![]).collect();
    let mut inboxes: Vec<Vec<Inbox<Mail>>> = (0..count).map(|_| vec![]).collect();
    for (from, outboxes) in outboxes.iter_mut().enumerate() {
        for to in (0..count).filter(|to| *to != from) {
            let (outbox, inbox) = mailbox(MAILBOX_MESSAGES, wakeups[to].clone());
            outboxes.push((ShardIndex(to as u16), outbox));
            inboxes[to].push(inbox);
        }
    }
    // Both lists of a shard run over the other shards in ascending order.
    let peers = outboxes.into_iter().zip(inboxes).map(|(outboxes, inboxes)| {
        let pairs = outboxes.into_iter().zip(inboxes);
        pairs.map(|((shard, outbox), inbox)| Peer { shard, outbox, inbox }).collect()
    });
    Ok((peers.collect(), wakeups))
}

type Ready = (ShardIndex, Result<(StartedLog, Arc<ShardMetrics>), ServerError>);

fn run_shard(
    assignment: Assignment,
    ready: &mpsc::Sender<Ready>,
    gate: &mpsc::Receiver<()>,
    fatal: fn(&ServerError) -> !,
) {
    let index = assignment.index;
    let (shard, log) = match prepare_shard(assignment) {
        Ok(prepared) => prepared,
        Err(error) => {
            // The starter may be gone already, because of another shard's error.
            let _ = ready.send((index, Err(error)));
            return;
        }
    };
    let metrics = Arc::clone(shard.service.metrics());
    if ready.send((index, Ok((log, metrics)))).is_err() || gate.recv().is_err() {
        return;
    }
    if let Err(error) = shard.run() {
        fatal(&error);
    }
}

/// Recovers the shard's log and sets up everything that its loop needs.
fn prepare_shard(assignment: Assignment) -> Result<(Shard<SystemClock>, StartedLog), ServerError> {
    // Before it is pinned, since the threads that read ahead for it run where it may.
    let Restored { engine, recovered, snapshot } =
        restore(&assignment.directory, assignment.identity)?;
    cpu::pin_current_thread(assignment.cpu).map_err(ServerError::system("pin a thread"))?;
    let clock = SystemClock::new();
    let ahead_ms = recovered.last_time.0.saturating_sub(clock.wall_ms());
    if ahead_ms > CLOCK_STEP_MS {
        let shard = assignment.index.0;
        tracing::warn!(shard, "the log is {ahead_ms} ms ahead of the clock; {TIME_STANDS_STILL}");
    }
    let mut ring = Ring::new(&RING)?;
    let sync = choose_sync(&mut ring, &clock, &assignment)?;
    let segments = open_segments(&assignment.directory, &recovered, sync)?;
    let log = StartedLog {
        directory: assignment.directory,
        identity: assignment.identity,
        sync,
        current: recovered.segment.index,
        ahead: recovered.prepared.len(),
        snapshot,
    };
    let next = SegmentIndex(log.current.0 + 1 + log.ahead as u64);
    let secured = secured_segments(&log.directory, next, assignment.segment_bytes);
    let room = segment_room(Segment { index: next, bytes: assignment.segment_bytes });
    let beyond = Beyond { secured: secured * room, free: assignment.free_segments * room };
    let mut service = Service::new(assignment.service, engine, LogWriter::new(&recovered));
    service.handle_space(beyond);
    let shard = Shard {
        index: assignment.index,
        ring,
        service,
        clock,
        wakeup: assignment.wakeup,
        listeners: assignment.listeners,
        log_dir: log.directory.clone(),
        segments,
        sync,
        peers: assignment.peers,
        orders: assignment.orders,
        report: assignment.report,
        state: LoopState::default(),
    };
    Ok((shard, log))
}

/// How writes become durable: what is faster here.
fn choose_sync(
    ring: &mut Ring,
    clock: &SystemClock,
    assignment: &Assignment,
) -> Result<SyncMethod, ServerError> {
    let shard = assignment.index.0;
    match calibrate(ring, clock, &assignment.directory) {
        Ok(calibration) => {
            tracing::info!(
                shard,
                data_sync_us = calibration.data_sync.as_micros(),
                flush_us = calibration.flush.as_micros(),
                "log writes use {:?}",
                calibration.method
            );
            Ok(calibration.method)
        }
        // Who holds something must be able to confirm it, however full the disk is.
        Err(error) if is_disk_full(&error) => {
            let method = SyncMethod::DataSync;
            tracing::warn!(shard, %error, "no room to measure the disk; log writes use {method:?}");
            Ok(method)
        }
        Err(error) => Err(error),
    }
}

fn open_segments(
    directory: &Path,
    recovered: &Recovered,
    sync: SyncMethod,
) -> Result<VecDeque<(SegmentIndex, File)>, ServerError> {
    let indexes = std::iter::once(&recovered.segment).chain(&recovered.prepared);
    let open = indexes.map(|segment| {
        let path = segment_path(directory, segment.index);
        let file = open_direct(&path, sync);
        let file = file.map_err(|source| ServerError::DirectIo { path, source })?;
        Ok((segment.index, file))
    });
    open.collect()
}
