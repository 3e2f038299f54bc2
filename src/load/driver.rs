//! One thread's share of the load: its ring, its connections, its schedule.
//!
//! A turn asks the script for what is due, sends it coalesced (one send in flight for each
//! connection), enters the kernel once, and gives the answers to the script. In between the
//! thread sleeps in the ring; it never spins.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;

use super::connection::{Connection, Phase};
use super::table::{Pending, Table};
use super::traffic::Traffic;
use super::{Answered, Ask, Broken, ConnectionIndex, Nanos, Pace, Script};
use crate::protocol::binary::{
    Frame, Hello, Response, Welcome, encode_command, encode_hello, encode_query,
};
use crate::runtime::{
    Clock, Event, Received, Ring, RingConfig, RingError, SystemClock, Token, Wait, clock, net,
};

/// The correlation id of the greeting; the table never gives it.
const GREETING: u64 = u64::MAX;

/// How long a closed loop waits before it asks a script again that had nothing to ask.
const ASK_AGAIN: Duration = Duration::from_millis(1);

/// Connections that are being made at the same time, at most: a listener's backlog is bounded.
const CONNECTING_MAX: usize = 128;

/// Answers of one receive: a deep pipeline of small answers fits.
const RECEIVE_BUFFER_BYTES: usize = 4096;

/// How long a driver that is dropped waits for its ring to let go of the sockets.
const CLOSE_TURNS_MAX: u32 = 50;

/// Where to connect, and how often.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// The server's binary listener.
    pub address: SocketAddr,
    /// How many connections, at least 1.
    pub connections: usize,
    /// The most requests in flight on each, at least 1.
    pub pipeline: usize,
    /// The API key; empty is none.
    pub key: Vec<u8>,
    /// The name under which the server logs the connections.
    pub name: &'static str,
}

/// When to ask.
#[derive(Clone, Debug)]
pub enum Load {
    /// Never: only answers are awaited.
    Idle,
    /// Always: each connection has as many requests in flight as its pipeline takes.
    Closed,
    /// At fixed times, whatever the answers do.
    Open(Pace),
}

/// Why a driver cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// There is no ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The ring failed.
    #[error("io_uring failed: {0}")]
    Enter(std::io::Error),
    /// There is no socket to be had.
    #[error("no socket: {0}")]
    Socket(std::io::Error),
    /// Not all connections could be made in time.
    #[error("{live} of {wanted} connections to {address}{}",
        .cause.as_ref().map_or_else(String::new, |cause| format!(": {cause}")))]
    NotConnected {
        /// Where to.
        address: SocketAddr,
        /// How many live.
        live: usize,
        /// How many were to live.
        wanted: usize,
        /// Why the last one failed.
        cause: Option<Broken>,
    },
}

/// One thread's connections. It stays on the thread that made it.
#[derive(Debug)]
pub struct Driver {
    ring: Ring,
    clock: SystemClock,
    config: DriverConfig,
    load: Load,
    connections: Vec<Connection>,
    table: Table,
    live: usize,
    connecting: usize,
    /// Connections that have something to send and no send in flight.
    ready: Vec<ConnectionIndex>,
    events: Vec<Event>,
    traffic: Traffic,
    welcome: Option<Welcome>,
    last_broken: Option<Broken>,
}

impl Driver {
    /// A driver without load whose connections are not made yet. Drivers that share a clock
    /// agree on every [`Nanos`].
    pub fn new(config: DriverConfig, clock: SystemClock) -> Result<Self, DriverError> {
        assert!(config.connections > 0 && config.pipeline > 0, "a driver drives something");
        let operations = (config.connections * 2).next_power_of_two().clamp(64, 4096);
        let ring = Ring::new(&RingConfig {
            submissions: operations as u32,
            completions: operations as u32 * 4,
            receive_buffers: operations as u16,
            receive_buffer_bytes: RECEIVE_BUFFER_BYTES,
        })?;
        clock::wake_on_time().map_err(DriverError::Enter)?;
        Ok(Self {
            ring,
            clock,
            load: Load::Idle,
            connections: (0..config.connections).map(|_| Connection::new()).collect(),
            table: Table::new(config.connections, config.pipeline),
            live: 0,
            connecting: 0,
            ready: Vec::with_capacity(config.connections),
            events: Vec::with_capacity(operations * 4),
            traffic: Traffic::default(),
            welcome: None,
            last_broken: None,
            config,
        })
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Nanos {
        Nanos(self.clock.monotonic().as_nanos() as u64)
    }

    /// Makes all connections, without load.
    pub fn connect(
        &mut self,
        script: &mut impl Script,
        within: Duration,
    ) -> Result<(), DriverError> {
        self.load = Load::Idle;
        self.last_broken = None;
        let until = self.now().after(within);
        while self.live < self.connections.len() {
            self.turn(script, until)?;
            let hopeless = matches!(self.last_broken, Some(Broken::Unwelcome(_)));
            if hopeless || self.now() >= until {
                return Err(DriverError::NotConnected {
                    address: self.config.address,
                    live: self.live,
                    wanted: self.connections.len(),
                    cause: self.last_broken.take(),
                });
            }
        }
        Ok(())
    }

    /// Runs a load until a time, and leaves in flight what is in flight then. Gives the load
    /// back as it stands: an open one knows what it missed.
    pub fn run(
        &mut self,
        script: &mut impl Script,
        load: Load,
        until: Nanos,
    ) -> Result<Load, DriverError> {
        self.load = load;
        loop {
            // The turn after the end sends what was meant to leave just before it.
            let last = self.now() >= until;
            self.turn(script, until)?;
            if last {
                break;
            }
        }
        Ok(std::mem::replace(&mut self.load, Load::Idle))
    }

    /// Waits for the answers in flight, until a time at most, without load.
    pub fn drain(&mut self, script: &mut impl Script, until: Nanos) -> Result<(), DriverError> {
        self.load = Load::Idle;
        while self.table.in_flight() > 0 && self.now() < until {
            self.turn(script, until)?;
        }
        Ok(())
    }

    /// The load from now on.
    pub fn set_load(&mut self, load: Load) {
        self.load = load;
    }

    /// One turn: asks for what is meant to leave before `until`, sends it, sleeps until something
    /// happens or is due or `until` has come, and hears the answers.
    pub fn turn(&mut self, script: &mut impl Script, until: Nanos) -> Result<(), DriverError> {
        let now = self.now();
        let mut wake = until;
        if self.live + self.connecting < self.connections.len() {
            wake = wake.min(self.connect_due(now)?);
        }
        wake = wake.min(self.ask(script, now, until));
        self.send_ready();
        self.ring.enter(wait(now, wake)).map_err(DriverError::Enter)?;
        let mut events = std::mem::take(&mut self.events);
        self.ring.take_events(&mut events);
        let now = self.now();
        for event in events.drain(..) {
            self.handle(event, script, now);
        }
        self.events = events;
        Ok(())
    }

    /// How many connections live.
    #[must_use]
    pub const fn live(&self) -> usize {
        self.live
    }

    /// How many requests have no answer yet.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.table.in_flight()
    }

    /// What went over the wire so far.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        Traffic { enters: self.ring.enters(), ..self.traffic }
    }

    /// What the server said to the last greeting.
    #[must_use]
    pub const fn welcome(&self) -> Option<&Welcome> {
        self.welcome.as_ref()
    }

    /// Starts to connect what has paused for long enough. Returns when the next pause ends.
    fn connect_due(&mut self, now: Nanos) -> Result<Nanos, DriverError> {
        let mut next = Nanos::MAX;
        for (index, connection) in self.connections.iter_mut().enumerate() {
            let Phase::Away { until } = connection.phase else { continue };
            if until > now {
                next = next.min(until);
            } else if self.connecting < CONNECTING_MAX {
                let address = self.config.address;
                let socket = net::socket(address).map_err(DriverError::Socket)?;
                self.ring.connect(socket.as_fd(), Token(index as u32), address);
                connection.connecting(socket);
                self.connecting += 1;
            }
        }
        Ok(next)
    }

    /// Asks the script for what is due and meant to leave before `until`. Returns when to ask
    /// again, unless an answer comes first.
    fn ask(&mut self, script: &mut impl Script, now: Nanos, until: Nanos) -> Nanos {
        while let Some(connection) = self.table.next_free() {
            let intended = match &mut self.load {
                Load::Idle => return Nanos::MAX,
                Load::Closed if now >= until => return Nanos::MAX,
                Load::Closed => now,
                Load::Open(pace) if pace.next() >= until => return Nanos::MAX,
                Load::Open(pace) => match pace.take(now) {
                    Some(intended) => intended,
                    None => return pace.next(),
                },
            };
            let Some(planned) = script.next(intended, now) else {
                if matches!(self.load, Load::Closed) {
                    return now.after(ASK_AGAIN);
                }
                continue;
            };
            let correlation = self.table.take(Pending { tag: planned.tag, intended, sent: now });
            let out = self.connections[connection.0 as usize].outbound(connection, &mut self.ready);
            match planned.ask {
                Ask::Command(command) => encode_command(out, correlation, command),
                Ask::Query(query) => encode_query(out, correlation, query),
            }
            self.traffic.requests += 1;
        }
        Nanos::MAX
    }

    fn send_ready(&mut self) {
        for index in self.ready.drain(..) {
            let connection = &mut self.connections[index.0 as usize];
            if let Some(buffer) = connection.start_sending() {
                self.traffic.bytes_out += buffer.len() as u64;
                let socket = connection.socket.as_ref().expect("it is connected");
                self.ring.send(socket.as_fd(), Token(index.0), buffer);
            }
        }
    }

    fn handle(&mut self, event: Event, script: &mut impl Script, now: Nanos) {
        match event {
            Event::Connected { token, result } => {
                let index = ConnectionIndex(token.0);
                self.connections[token.0 as usize].operation_ended();
                match result {
                    Ok(()) => self.greet(index),
                    Err(error) => self.break_off(index, Broken::Unreachable(error), script),
                }
                self.let_go(index, now);
            }
            Event::Received { token, bytes, more } => {
                let index = ConnectionIndex(token.0);
                if !more {
                    self.connections[token.0 as usize].operation_ended();
                }
                if let Err(cause) = self.handle_received(index, bytes, script, now) {
                    self.break_off(index, cause, script);
                } else if !more && self.connections[token.0 as usize].is_connected() {
                    self.receive(index);
                }
                self.let_go(index, now);
            }
            Event::Sent { token, buffer, result } => {
                let index = ConnectionIndex(token.0);
                self.connections[token.0 as usize].sent(buffer, index, &mut self.ready);
                if let Err(error) = result {
                    self.break_off(index, Broken::Failed(error), script);
                }
                self.let_go(index, now);
            }
            Event::Accepted { .. } | Event::Written { .. } | Event::Woken => {
                unreachable!("a driver accepts nothing, writes no file and is not woken")
            }
        }
    }

    /// Says hello on a new connection.
    fn greet(&mut self, index: ConnectionIndex) {
        let connection = &mut self.connections[index.0 as usize];
        if connection.phase != Phase::Connecting {
            return;
        }
        connection.phase = Phase::Greeting;
        self.traffic.connects += 1;
        let hello = Hello { key: &self.config.key, name: self.config.name };
        encode_hello(connection.outbound(index, &mut self.ready), GREETING, &hello);
        self.receive(index);
    }

    fn receive(&mut self, index: ConnectionIndex) {
        let connection = &mut self.connections[index.0 as usize];
        connection.operation_started();
        let socket = connection.socket.as_ref().expect("it is connected");
        self.ring.receive(socket.as_fd(), Token(index.0));
    }

    fn handle_received(
        &mut self,
        index: ConnectionIndex,
        bytes: std::io::Result<Option<Received>>,
        script: &mut impl Script,
        now: Nanos,
    ) -> Result<(), Broken> {
        let received = match bytes {
            Ok(Some(received)) => received,
            Ok(None) => return Err(Broken::Closed),
            // All buffers were full: they are empty again by now.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => return Ok(()),
            Err(error) => return Err(Broken::Failed(error)),
        };
        let bytes = self.ring.received(&received);
        self.traffic.bytes_in += bytes.len() as u64;
        let connection = &mut self.connections[index.0 as usize];
        let mut result = Ok(());
        if connection.is_connected() {
            let mut answers = Answers {
                phase: &mut connection.phase,
                table: &mut self.table,
                welcome: &mut self.welcome,
                index,
                now,
            };
            let greeting = *answers.phase == Phase::Greeting;
            result = connection.inbound.feed(bytes, |frame| answers.take(frame, script));
            if greeting && connection.phase == Phase::Live {
                connection.greeted();
                self.live += 1;
                self.connecting -= 1;
            }
        }
        self.ring.recycle(received);
        result
    }

    /// Ends a connection, and tells the script what that breaks.
    fn break_off(&mut self, index: ConnectionIndex, cause: Broken, script: &mut impl Script) {
        let connection = &mut self.connections[index.0 as usize];
        match connection.phase {
            Phase::Away { .. } | Phase::Closing => return,
            Phase::Connecting | Phase::Greeting => self.connecting -= 1,
            Phase::Live => self.live -= 1,
        }
        connection.close();
        script.broken(&cause);
        self.table.close(index, |pending| script.lost(pending.tag));
        self.last_broken = Some(cause);
    }

    /// Puts a broken connection to rest once the ring has let go of it.
    fn let_go(&mut self, index: ConnectionIndex, now: Nanos) {
        let connection = &mut self.connections[index.0 as usize];
        if connection.phase == Phase::Closing && connection.is_unused() {
            connection.rest(now);
        }
    }
}

impl Drop for Driver {
    /// Ends the connections and waits until the ring holds none of them, so that it can free
    /// its memory.
    fn drop(&mut self) {
        self.connections.iter_mut().for_each(Connection::close);
        for _ in 0..CLOSE_TURNS_MAX {
            if self.connections.iter().all(Connection::is_unused) {
                return;
            }
            if self.ring.enter(Wait::AtMost(Duration::from_millis(10))).is_err() {
                return;
            }
            self.ring.take_events(&mut self.events);
            for event in self.events.drain(..) {
                match event {
                    Event::Received { token, bytes, more } => {
                        if let Ok(Some(received)) = bytes {
                            self.ring.recycle(received);
                        }
                        if !more {
                            self.connections[token.0 as usize].operation_ended();
                        }
                    }
                    Event::Connected { token, .. } | Event::Sent { token, .. } => {
                        self.connections[token.0 as usize].operation_ended();
                    }
                    Event::Accepted { .. } | Event::Written { .. } | Event::Woken => {}
                }
            }
        }
    }
}

/// What the frames of one connection are matched against.
struct Answers<'a> {
    phase: &'a mut Phase,
    table: &'a mut Table,
    welcome: &'a mut Option<Welcome>,
    index: ConnectionIndex,
    now: Nanos,
}

impl Answers<'_> {
    fn take(&mut self, frame: &Frame<'_>, script: &mut impl Script) -> Result<(), Broken> {
        let now = self.now;
        match Response::decode(frame)? {
            Response::Answer(answer) => {
                match (self.table.settle(self.index, frame.correlation), &answer) {
                    (Some(Pending { tag, intended, sent }), answer) => {
                        script.answered(&Answered { tag, intended, sent, now, answer });
                        Ok(())
                    }
                    (None, Err(refusal)) if frame.correlation == GREETING => {
                        Err(Broken::Unwelcome(*refusal))
                    }
                    (None, _) => Err(Broken::Unasked),
                }
            }
            Response::Welcome(welcome) if *self.phase == Phase::Greeting => {
                *self.phase = Phase::Live;
                self.table.open(self.index);
                *self.welcome = Some(welcome);
                Ok(())
            }
            Response::Welcome(_) => Err(Broken::Unasked),
            Response::Error(error) => Err(Broken::Rejected(error)),
        }
    }
}

fn wait(now: Nanos, wake: Nanos) -> Wait {
    match wake {
        Nanos::MAX => Wait::Forever,
        wake if wake <= now => Wait::No,
        wake => Wait::AtMost(Duration::from_nanos(wake.since(now))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::num::NonZeroU32;
    use std::thread;

    use super::*;
    use crate::load::{Lane, Planned, Tag};
    use crate::model::{Answer, Outcome, Query, Refusal, SaleId, ShardIndex};
    use crate::protocol::binary::{encode_answer, encode_refusal, encode_welcome, request_frame};

    /// How a peer treats the connections that it accepts, one after the other.
    #[derive(Clone, Copy, Debug)]
    enum Manner {
        /// Answers everything, the newest of a batch first.
        Honest,
        /// Closes after this many answers.
        Closes {
            after: usize,
        },
        RefusesTheKey,
        SendsGarbage,
        /// Answers each request twice.
        Stutters,
    }

    /// A server as far as a driver can tell, one thread for each connection.
    fn peer(manners: Vec<Manner>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || {
            for manner in manners {
                let Ok((stream, _)) = listener.accept() else { return };
                thread::spawn(move || serve(stream, manner));
            }
        });
        address
    }

    fn serve(mut stream: TcpStream, manner: Manner) -> Option<()> {
        let (mut bytes, mut answers) = (Vec::new(), 0);
        loop {
            let mut batch = Vec::new();
            while let Some(frame) = request_frame(&bytes).expect("a driver's frames are sound") {
                let (correlation, len) = (frame.correlation, frame.len);
                bytes.drain(..len);
                if correlation == GREETING {
                    stream.write_all(&greeting(manner)).ok()?;
                } else {
                    batch.push(correlation);
                }
            }
            let mut out = Vec::new();
            for correlation in batch.into_iter().rev() {
                let answer = Answer { outcome: Outcome::Done, replayed: false };
                encode_answer(&mut out, correlation, &answer);
                match manner {
                    Manner::SendsGarbage => *out.last_mut().expect("an answer") ^= 1,
                    Manner::Stutters => encode_answer(&mut out, correlation, &answer),
                    Manner::Closes { after } if answers == after => return None,
                    _ => {}
                }
                answers += 1;
            }
            stream.write_all(&out).ok()?;
            let mut chunk = [0; 512];
            let len = stream.read(&mut chunk).ok().filter(|len| *len > 0)?;
            bytes.extend_from_slice(&chunk[..len]);
        }
    }

    fn greeting(manner: Manner) -> Vec<u8> {
        let mut out = Vec::new();
        if let Manner::RefusesTheKey = manner {
            encode_refusal(&mut out, GREETING, Refusal::BadToken);
            return out;
        }
        let welcome = Welcome {
            version: 1,
            scopes: crate::model::Scopes::ALL,
            shard: ShardIndex(0),
            frame_bytes_max: 65_536,
            in_flight_max: 64,
            boot: 1,
            ports: vec![1],
        };
        encode_welcome(&mut out, GREETING, &welcome);
        out
    }

    /// Asks up to `wanted` times, and books what became of each request.
    struct Book {
        query: Query,
        wanted: u64,
        asked: u64,
        intended: Vec<Nanos>,
        answered: HashMap<u64, u32>,
        lost: HashMap<u64, u32>,
        broken: Vec<&'static str>,
    }

    impl Book {
        fn new(wanted: u64) -> Self {
            Self {
                query: Query::Stats { sale: SaleId(1) },
                wanted,
                asked: 0,
                intended: Vec::new(),
                answered: HashMap::new(),
                lost: HashMap::new(),
                broken: Vec::new(),
            }
        }

        fn assert_each_settled_once(&self) {
            for tag in 0..self.asked {
                let times = [&self.answered, &self.lost].map(|map| map.get(&tag).unwrap_or(&0));
                assert_eq!(times[0] + times[1], 1, "request {tag} was settled {times:?} times");
            }
        }
    }

    impl Script for Book {
        fn next(&mut self, intended: Nanos, now: Nanos) -> Option<Planned<'_>> {
            assert!(intended <= now);
            if self.asked == self.wanted {
                return None;
            }
            self.intended.push(intended);
            self.asked += 1;
            Some(Planned { tag: Tag(self.asked - 1), ask: Ask::Query(&self.query) })
        }

        fn answered(&mut self, answered: &Answered<'_>) {
            assert!(answered.answer.is_ok());
            assert_eq!(answered.intended, self.intended[answered.tag.0 as usize]);
            *self.answered.entry(answered.tag.0).or_default() += 1;
        }

        fn lost(&mut self, tag: Tag) {
            *self.lost.entry(tag.0).or_default() += 1;
        }

        fn broken(&mut self, cause: &Broken) {
            self.broken.push(cause.code());
        }
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    fn driver(address: SocketAddr, connections: usize, pipeline: usize) -> Driver {
        let config = DriverConfig { address, connections, pipeline, key: vec![7], name: "test" };
        Driver::new(config, SystemClock::new()).expect("a ring")
    }

    /// Drives a closed loop until everything that the book wants was asked and settled.
    fn drive(driver: &mut Driver, book: &mut Book) {
        let until = driver.now().after(PATIENCE);
        driver.set_load(Load::Closed);
        while driver.now() < until && (book.asked < book.wanted || driver.in_flight() > 0) {
            driver.turn(book, until).expect("a turn");
        }
        assert_eq!(book.asked, book.wanted, "the peer is gone: {:?}", book.broken);
        book.assert_each_settled_once();
    }

    #[test]
    fn a_closed_loop_keeps_every_pipeline_full() {
        let mut driver = driver(peer(vec![Manner::Honest; 3]), 3, 4);
        let mut book = Book::new(10_000);
        driver.connect(&mut book, PATIENCE).expect("all connect");
        assert_eq!((driver.live(), book.asked), (3, 0), "no load while connecting");
        driver.set_load(Load::Closed);
        driver.turn(&mut book, driver.now().after(PATIENCE)).expect("a turn");
        assert_eq!(book.asked, 12);
        drive(&mut driver, &mut book);
        assert!(book.broken.is_empty(), "{:?}", book.broken);
        assert_eq!((driver.traffic().requests, driver.traffic().connects), (10_000, 3));
    }

    #[test]
    fn an_open_loop_sends_what_is_due_and_no_more() {
        let mut driver = driver(peer(vec![Manner::Honest; 2]), 2, 64);
        let mut book = Book::new(u64::MAX);
        driver.connect(&mut book, PATIENCE).expect("all connect");
        let start = driver.now();
        let pace = Pace::new(NonZeroU32::new(5_000).expect("a rate"), start, Lane::ONLY);
        let until = Nanos(start.0 + 200_000_000);
        let Load::Open(rest) = driver.run(&mut book, Load::Open(pace), until).expect("it runs")
        else {
            panic!("the load comes back as it stands")
        };
        driver.drain(&mut book, driver.now().after(PATIENCE)).expect("it drains");
        assert_eq!(book.asked + rest.missed(until), 1_000);
        for (n, intended) in book.intended.iter().enumerate() {
            assert_eq!(intended.0, start.0 + n as u64 * 200_000);
        }
        book.assert_each_settled_once();
        assert!(book.lost.is_empty());
    }

    #[test]
    fn it_connects_again_and_tells_what_was_lost() {
        let closes = Manner::Closes { after: 100 };
        let mut manners = vec![closes; 10];
        manners.extend([Manner::Honest; 2]);
        let mut driver = driver(peer(manners), 2, 8);
        let mut book = Book::new(5_000);
        drive(&mut driver, &mut book);
        assert_eq!(book.broken.len(), 10);
        assert!(!book.lost.is_empty());
        assert_eq!((driver.live(), driver.traffic().connects), (2, 12));
    }

    #[test]
    fn a_lying_server_is_cut_off() {
        for (manner, code) in
            [(Manner::SendsGarbage, "MALFORMED_ANSWER"), (Manner::Stutters, "UNASKED_ANSWER")]
        {
            let mut driver = driver(peer(vec![manner, Manner::Honest]), 1, 2);
            let mut book = Book::new(100);
            drive(&mut driver, &mut book);
            assert_eq!(book.broken, [code]);
        }
    }

    #[test]
    fn a_refused_key_and_a_missing_server_are_told_apart() {
        let mut unwelcome = driver(peer(vec![Manner::RefusesTheKey]), 1, 1);
        let error = unwelcome.connect(&mut Book::new(0), PATIENCE).expect_err("the key is refused");
        assert!(error.to_string().contains("refused the key"), "{error}");

        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("it is bound");
        drop(free);
        let mut alone = driver(address, 2, 1);
        let error = alone
            .connect(&mut Book::new(0), Duration::from_millis(50))
            .expect_err("nobody listens");
        assert!(error.to_string().contains("no connection"), "{error}");
    }
}
