//! `boxoffice-bench ceiling`: what the machine itself allows, to hold a server's figures against.
//!
//! An echo on the same ring runtime, with nothing of a server in it: no protocol, no decisions,
//! no tables. What arrives is appended to a zero-filled file in group commits (one write in
//! flight, one batch filling, `O_DIRECT | O_DSYNC`), and echoed once it is durable; or at once,
//! with `--no-log`.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use boxoffice::runtime::file::{SyncMethod, open_direct};
use boxoffice::runtime::{AlignedBuffer, Event, Ring, RingConfig, Token, Wait, cpu, net};

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
    let listeners =
        net::listen("127.0.0.1:0".parse().expect("an address"), 1).map_err(Failure::from_error)?;
    let stop = Arc::new(AtomicBool::new(false));
    let echo = thread::spawn({
        let stop = Arc::clone(&stop);
        move || Echo::new(echo_cpu, listeners.sockets, log)?.run(&stop)
    });
    let counted = client(options, client_cpu, listeners.address);
    stop.store(true, Ordering::Relaxed);
    let echoed = echo.join().expect("the echo ends");
    if !options.no_log {
        // A file that stays behind is named as what it is.
        let _ = fs::remove_file(&path);
    }
    echoed.map_err(Failure::from_error)?;
    let rate = counted.map_err(Failure::from_error)?;
    let kind = if options.no_log { "echo" } else { "durable echo" };
    println!("{kind}, {} × {}: {rate:.0}/s", options.connections, options.pipeline);
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
                        log.filling[log.used..log.used + bytes.len()].copy_from_slice(bytes);
                        log.used += bytes.len();
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

/// Keeps every connection's messages in flight, and returns how many came back in a second.
fn client(options: &Options, cpu: usize, address: SocketAddr) -> io::Result<f64> {
    cpu::pin_current_thread(cpu)?;
    let mut ring = Ring::new(&RING).map_err(io::Error::other)?;
    let mut lines = Vec::new();
    for index in 0..options.connections.get() {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut line = Line::new(stream.into());
        line.ready = vec![7; MESSAGE_BYTES * options.pipeline.get()];
        ring.receive(line.socket.as_fd(), Token(index as u32));
        lines.push(line);
    }
    let start = Instant::now();
    let warm = start + Duration::from_secs(1);
    let end = warm + Duration::from_secs(options.duration);
    let mut events = Vec::new();
    let mut bytes_back = 0;
    loop {
        for (index, line) in lines.iter_mut().enumerate() {
            line.send(&mut ring, Token(index as u32));
        }
        ring.enter(LOOK)?;
        ring.take_events(&mut events);
        let now = Instant::now();
        for event in events.drain(..) {
            match event {
                Event::Received { token, bytes: Ok(Some(received)), more } => {
                    let line = &mut lines[token.0 as usize];
                    let bytes = ring.received(&received);
                    if now >= warm {
                        bytes_back += bytes.len();
                    }
                    line.ready.extend_from_slice(bytes);
                    ring.recycle(received);
                    if !more {
                        ring.receive(line.socket.as_fd(), token);
                    }
                }
                Event::Received { token, bytes: Err(_), .. } => {
                    ring.receive(lines[token.0 as usize].socket.as_fd(), token);
                }
                Event::Sent { token, .. } => lines[token.0 as usize].is_sending = false,
                _ => {}
            }
        }
        if now >= end {
            return Ok(bytes_back as f64 / MESSAGE_BYTES as f64 / options.duration as f64);
        }
    }
}
