//! `boxoffice-bench ceiling`: what the machine itself allows, to hold a server's figures against.
//!
//! An echo on the same ring runtime, with nothing of a server in it: no protocol, no decisions,
//! no tables. What arrives is appended to a zero-filled file in group commits (one write in
//! flight, one batch filling, `O_DIRECT | O_DSYNC`), and echoed once it is durable; or at once,
//! with `--no-log`. As fast as echoes come back, or at a fixed rate (`--rate`) with latencies from
//! the intended send times: what a server's own percentiles are to be held against. Or for a
//! generator from outside (`--serve`), whose own limit it then shows.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::num::{NonZeroU32, NonZeroUsize};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use boxoffice::load::{Lane, Nanos, Pace};
use boxoffice::runtime::file::{SyncMethod, open_direct};
use boxoffice::runtime::{AlignedBuffer, Event, Ring, RingConfig, Token, Wait, cpu, net};
use hdrhistogram::Histogram;

use crate::Failure;

/// What a purchase takes on the wire, about.
const MESSAGE_BYTES: usize = 96;

/// The most of one group commit.
const BATCH_BYTES: usize = 1 << 20;

/// The log goes round in a file of this size.
const LOG_BYTES: u64 = 256 << 20;

const PAGE_BYTES: usize = 4096;

const RING: RingConfig = RingConfig {
    submissions: 1024,
    completions: 8192,
    receive_buffers: 2048,
    receive_buffer_bytes: 4096,
};

const LISTENER: Token = Token(u32::MAX);
const LOG: Token = Token(u32::MAX - 1);

/// How long a thread sleeps at most before it looks whether time is up.
const LOOK: Wait = Wait::AtMost(Duration::from_millis(20));

/// The command line.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Connections.
    #[arg(long, value_name = "C", default_value = "64")]
    connections: NonZeroUsize,
    /// Messages in flight on each connection, of 96 bytes.
    #[arg(long, value_name = "P", default_value = "16")]
    pipeline: NonZeroUsize,
    /// Open loop: messages a second, whatever the echoes do.
    #[arg(long, value_name = "R", conflicts_with = "pipeline")]
    rate: Option<NonZeroU32>,
    /// Only echo, at this address, for a generator from outside.
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["connections", "pipeline", "rate"])]
    serve: Option<SocketAddr>,
    /// Seconds to measure.
    #[arg(long, value_name = "S", default_value = "5")]
    duration: u64,
    /// The CPU of the echo and the CPU of its client.
    #[arg(long, value_name = "LIST", num_args = 1, value_delimiter = ',', default_value = "1,0")]
    cpus: Vec<usize>,
    /// The directory of the log, on the disk to be tried.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Echo at once, without a log.
    #[arg(long)]
    no_log: bool,
}

/// One connection of either side.
struct Line {
    socket: OwnedFd,
    /// Waits for the batch that fills, and for the one in flight.
    filling: Vec<u8>,
    flying: Vec<u8>,
    ready: Vec<u8>,
    is_sending: bool,
}

impl Line {
    fn new(socket: OwnedFd) -> Self {
        let (filling, flying, ready) = (Vec::new(), Vec::new(), Vec::new());
        Self { socket, filling, flying, ready, is_sending: false }
    }

    fn send(&mut self, ring: &mut Ring, token: Token) {
        if !self.is_sending && !self.ready.is_empty() {
            self.is_sending = true;
            ring.send(self.socket.as_fd(), token, std::mem::take(&mut self.ready));
        }
    }
}

/// Runs and reports.
pub fn run(options: &Options) -> Result<(), Failure> {
    let [echo_cpu, client_cpu] = options.cpus[..] else {
        return Err(Failure::usage("--cpus takes two CPUs, such as 1,0"));
    };
    let path = options.dir.join(format!("boxoffice-ceiling-{}.tmp", std::process::id()));
    let log = if options.no_log { None } else { Some(Log::create(&path)?) };
    let address = options.serve.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
    let listeners = net::listen(address, 1).map_err(Failure::from_error)?;
    let stop = Arc::new(AtomicBool::new(false));
    let echo = thread::spawn({
        let stop = Arc::clone(&stop);
        move || Echo::new(echo_cpu, listeners.sockets, log)?.run(&stop)
    });
    let counted = match options.serve {
        None => Client::new(options, client_cpu, listeners.address).and_then(Client::run).map(Some),
        Some(address) => {
            println!("echoes at {address} for {} s", options.duration);
            thread::sleep(Duration::from_secs(options.duration));
            Ok(None)
        }
    };
    stop.store(true, Ordering::Relaxed);
    let echoed = echo.join().expect("the echo ends");
    if !options.no_log {
        // A file that stays behind is named as what it is.
        let _ = fs::remove_file(&path);
    }
    echoed.map_err(Failure::from_error)?;
    let Some(counted) = counted.map_err(Failure::from_error)? else { return Ok(()) };
    let kind = if options.no_log { "echo" } else { "durable echo" };
    let connections = options.connections;
    let rate = counted.messages as f64 / options.duration as f64;
    if options.rate.is_none() {
        println!("{kind}, {connections} × {}: {rate:.0}/s", options.pipeline);
        return Ok(());
    }
    let at = |quantile| counted.latencies.value_at_quantile(quantile) as f64 / 1e3;
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(at);
    println!("{kind}, {connections} connections, {rate:.0}/s, latencies in µs:");
    println!("p50 {p50:.1}, p99 {p99:.1}, p99.9 {p999:.1}");
    Ok(())
}

/// The log of the echo.
struct Log {
    file: File,
    spare: Option<AlignedBuffer>,
    filling: AlignedBuffer,
    used: usize,
    offset: u64,
}

impl Log {
    fn create(path: &PathBuf) -> Result<Self, Failure> {
        let create = || -> io::Result<File> {
            let zeros = vec![0; BATCH_BYTES];
            let mut file = File::create(path)?;
            for _ in 0..LOG_BYTES / BATCH_BYTES as u64 {
                io::Write::write_all(&mut file, &zeros)?;
            }
            file.sync_all()?;
            open_direct(path, SyncMethod::DataSync)
        };
        let file = create().map_err(|error| {
            Failure::new(format!("{}: cannot make the log: {error}", path.display()))
        })?;
        let (filling, spare) = (AlignedBuffer::new(BATCH_BYTES), AlignedBuffer::new(BATCH_BYTES));
        Ok(Self { file, spare: Some(spare), filling, used: 0, offset: 0 })
    }

    fn append(&mut self, bytes: &[u8]) {
        let end = self.used + bytes.len();
        if end > self.filling.len() {
            // The disk stands still, and an open loop goes on.
            let mut larger = AlignedBuffer::new(2 * self.filling.len());
            larger[..self.used].copy_from_slice(&self.filling[..self.used]);
            self.filling = larger;
        }
        self.filling[self.used..end].copy_from_slice(bytes);
        self.used = end;
    }
}

struct Echo {
    ring: Ring,
    listeners: Vec<OwnedFd>,
    lines: Vec<Line>,
    log: Option<Log>,
}

impl Echo {
    fn new(cpu: usize, listeners: Vec<OwnedFd>, log: Option<Log>) -> io::Result<Self> {
        cpu::pin_current_thread(cpu)?;
        let mut ring = Ring::new(&RING).map_err(io::Error::other)?;
        ring.accept(listeners[0].as_fd(), LISTENER);
        Ok(Self { ring, listeners, lines: Vec::new(), log })
    }

    fn run(mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut events = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            self.ring.enter(LOOK)?;
            self.ring.take_events(&mut events);
            for event in events.drain(..) {
                self.handle(event)?;
            }
            self.write();
            for (index, line) in self.lines.iter_mut().enumerate() {
                line.send(&mut self.ring, Token(index as u32));
            }
        }
        drop(self.listeners);
        Ok(())
    }

    fn handle(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Accepted { socket, .. } => {
                let token = Token(self.lines.len() as u32);
                let line = Line::new(socket?);
                self.ring.receive(line.socket.as_fd(), token);
                self.lines.push(line);
            }
            Event::Received { token, bytes: Ok(Some(received)), more } => {
                let line = &mut self.lines[token.0 as usize];
                let bytes = self.ring.received(&received);
                match &mut self.log {
                    None => line.ready.extend_from_slice(bytes),
                    Some(log) => {
                        log.append(bytes);
                        line.filling.extend_from_slice(bytes);
                    }
                }
                self.ring.recycle(received);
                if !more {
                    self.ring.receive(line.socket.as_fd(), token);
                }
            }
            Event::Sent { token, .. } => self.lines[token.0 as usize].is_sending = false,
            Event::Written { buffer, result, .. } => {
                result?;
                self.log.as_mut().expect("only a log writes").spare = Some(buffer);
                for line in &mut self.lines {
                    line.ready.append(&mut line.flying);
                }
            }
            // The client's end of the line, or no receive buffer: the run is over, or counts less.
            _ => {}
        }
        Ok(())
    }

    fn write(&mut self) {
        let Some(log) = &mut self.log else { return };
        let Some(spare) = log.spare.take_if(|_| log.used > 0) else { return };
        let len = log.used.next_multiple_of(PAGE_BYTES);
        if log.offset + len as u64 > LOG_BYTES {
            log.offset = 0;
        }
        let full = std::mem::replace(&mut log.filling, spare);
        let file = log.file.as_fd();
        self.ring.write(file, LOG, (full, len), log.offset, SyncMethod::DataSync);
        log.offset += len as u64;
        log.used = 0;
        for line in &mut self.lines {
            std::mem::swap(&mut line.filling, &mut line.flying);
        }
    }
}

/// What came back while it was measured.
struct Counted {
    messages: usize,
    /// From the intended send time, in nanoseconds; of an open loop alone.
    latencies: Histogram<u64>,
}

/// Sends and counts.
struct Client {
    ring: Ring,
    lines: Vec<Line>,
    start: Instant,
    warm: Instant,
    end: Instant,
    open_loop: Option<OpenLoop>,
    bytes_back: usize,
    latencies: Histogram<u64>,
}

/// When messages leave, and when those in flight were meant to.
struct OpenLoop {
    pace: Pace,
    next_line: usize,
    /// The intended times of each line's messages, which come back in their order.
    intended: Vec<VecDeque<Nanos>>,
    /// Bytes of each line's next message that came back.
    partial: Vec<usize>,
}

impl Client {
    fn new(options: &Options, cpu: usize, address: SocketAddr) -> io::Result<Self> {
        cpu::pin_current_thread(cpu)?;
        let mut ring = Ring::new(&RING).map_err(io::Error::other)?;
        let count = options.connections.get();
        let mut lines = Vec::with_capacity(count);
        let in_flight = if options.rate.is_some() { 0 } else { options.pipeline.get() };
        for index in 0..count {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            let mut line = Line::new(stream.into());
            line.ready = vec![7; MESSAGE_BYTES * in_flight];
            ring.receive(line.socket.as_fd(), Token(index as u32));
            lines.push(line);
        }
        let start = Instant::now();
        let warm = start + Duration::from_secs(1);
        let end = warm + Duration::from_secs(options.duration);
        let open_loop = options.rate.map(|rate| OpenLoop {
            pace: Pace::new(rate, Nanos(0), Lane::ONLY),
            next_line: 0,
            intended: vec![VecDeque::new(); count],
            partial: vec![0; count],
        });
        let latencies = Histogram::new(3).expect("three digits are a precision");
        Ok(Self { ring, lines, start, warm, end, open_loop, bytes_back: 0, latencies })
    }

    fn run(mut self) -> io::Result<Counted> {
        let mut events = Vec::new();
        loop {
            let wait = self.send_due();
            for (index, line) in self.lines.iter_mut().enumerate() {
                line.send(&mut self.ring, Token(index as u32));
            }
            self.ring.enter(wait)?;
            self.ring.take_events(&mut events);
            let now = Instant::now();
            for event in events.drain(..) {
                self.handle(event, now);
            }
            if now >= self.end {
                let messages = self.bytes_back / MESSAGE_BYTES;
                return Ok(Counted { messages, latencies: self.latencies });
            }
        }
    }

    /// Readies what is meant to have left by now, and says how long there is nothing to send.
    fn send_due(&mut self) -> Wait {
        let Some(open_loop) = &mut self.open_loop else { return LOOK };
        let now = Nanos(self.start.elapsed().as_nanos() as u64);
        while let Some(intended) = open_loop.pace.take(now) {
            let line = open_loop.next_line;
            open_loop.next_line = (line + 1) % self.lines.len();
            open_loop.intended[line].push_back(intended);
            self.lines[line].ready.extend_from_slice(&[7; MESSAGE_BYTES]);
        }
        match open_loop.pace.next().since(Nanos(self.start.elapsed().as_nanos() as u64)) {
            0 => Wait::No,
            early => Wait::AtMost(Duration::from_nanos(early)),
        }
    }

    fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Received { token, bytes: Ok(Some(received)), more } => {
                let index = token.0 as usize;
                let received_bytes = self.ring.received(&received);
                let bytes = received_bytes.len();
                if now >= self.warm {
                    self.bytes_back += bytes;
                }
                match &mut self.open_loop {
                    None => self.lines[index].ready.extend_from_slice(received_bytes),
                    Some(open_loop) => {
                        let back = open_loop.partial[index] + bytes;
                        open_loop.partial[index] = back % MESSAGE_BYTES;
                        let came = Nanos(now.duration_since(self.start).as_nanos() as u64);
                        for intended in open_loop.intended[index].drain(..back / MESSAGE_BYTES) {
                            if now >= self.warm {
                                let nanos = came.since(intended).max(1);
                                self.latencies.record(nanos).expect("it grows to hold any value");
                            }
                        }
                    }
                }
                self.ring.recycle(received);
                if !more {
                    self.ring.receive(self.lines[index].socket.as_fd(), token);
                }
            }
            Event::Received { token, bytes: Err(_), .. } => {
                let socket = self.lines[token.0 as usize].socket.as_fd();
                self.ring.receive(socket, token);
            }
            Event::Sent { token, .. } => self.lines[token.0 as usize].is_sending = false,
            _ => {}
        }
    }
}
