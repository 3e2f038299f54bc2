//! One socket that has said `HELLO`: bytes out, responses in, and when it counts as broken.
//!
//! Reads and writes give up after [`SLICE`], so that their caller can turn to the other
//! direction or look at its deadlines. A connection knows no requests: it counts them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::Options;
use super::error::Cause;
use crate::protocol::binary::{
    FRAME_BYTES_MAX, Hello, Response, VERSION, Welcome, encode_hello, frame,
};

/// The longest that a read or a write blocks.
pub const SLICE: Duration = Duration::from_millis(10);

/// Output that is written even though nobody flushed.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// The correlation id of `HELLO`; those of requests start at 1.
const HELLO_CORRELATION: u64 = 0;

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Everything is with the operating system.
    All,
    /// The peer takes no more for now.
    Blocked,
}

pub struct Connection {
    wire: Wire,
    /// What the server granted.
    pub welcome: Welcome,
    /// Whether an answer came since `HELLO`.
    pub has_answered: bool,
    /// Requests queued here and not answered.
    in_flight: u32,
    silence_timeout: Duration,
}

impl Connection {
    /// Connects to the first address that answers, and says `HELLO`.
    pub fn open(addresses: &[SocketAddr], options: &Options) -> Result<Self, Cause> {
        let mut cause = Cause::NoAddress;
        for address in addresses {
            match Self::open_one(*address, options) {
                Ok(connection) => return Ok(connection),
                Err(failed) => cause = failed,
            }
        }
        Err(cause)
    }

    fn open_one(address: SocketAddr, options: &Options) -> Result<Self, Cause> {
        let deadline = Instant::now() + options.connect_timeout;
        let mut wire = Wire::connect(address, options.connect_timeout)?;
        let hello = Hello { key: options.key.as_bytes(), name: &options.name };
        encode_hello(&mut wire.out, HELLO_CORRELATION, &hello);
        while Instant::now() < deadline {
            if wire.write()? == Written::All {
                wire.read()?;
            }
            let Some((_, response)) = wire.next_response()? else { continue };
            return Ok(Self {
                wire,
                welcome: welcome(response)?,
                has_answered: false,
                in_flight: 0,
                silence_timeout: options.silence_timeout,
            });
        }
        Err(Cause::Silent(options.connect_timeout))
    }

    /// The host at the other end.
    pub fn peer(&self) -> Option<IpAddr> {
        self.wire.stream.peer_addr().ok().map(|address| address.ip())
    }

    /// Whether the server takes one more request.
    pub const fn has_room(&self) -> bool {
        self.in_flight < self.welcome.in_flight_max
    }

    /// Whether so much is queued that waiting for a flush would only delay it.
    pub const fn is_full(&self) -> bool {
        self.wire.out.len() - self.wire.written >= OUT_BYTES_MAX
    }

    /// Queues one request.
    pub fn queue(&mut self, frame: &[u8]) {
        if self.in_flight == 0 {
            self.wire.heard_at = Instant::now();
        }
        self.in_flight += 1;
        self.wire.out.extend_from_slice(frame);
    }

    /// Counts one request as answered.
    pub const fn count_answer(&mut self) {
        self.in_flight -= 1;
        self.has_answered = true;
    }

    /// Writes as much as the socket takes.
    pub fn write(&mut self) -> Result<Written, Cause> {
        self.wire.write()
    }

    /// Reads what has arrived, and waits for it up to [`SLICE`]. Whether anything came.
    pub fn read(&mut self) -> Result<bool, Cause> {
        if self.wire.read()? > 0 {
            return Ok(true);
        }
        let is_silent = self.wire.heard_at.elapsed() >= self.silence_timeout;
        if self.in_flight > 0 && is_silent {
            return Err(Cause::Silent(self.silence_timeout));
        }
        Ok(false)
    }

    /// The next response among the bytes read, with its correlation id.
    pub fn next_response(&mut self) -> Result<Option<(u64, Response)>, Cause> {
        self.wire.next_response()
    }
}

/// What the answer to `HELLO` grants.
fn welcome(response: Response) -> Result<Welcome, Cause> {
    match response {
        Response::Welcome(welcome) if welcome.version == VERSION => Ok(welcome),
        Response::Welcome(welcome) => Err(Cause::OtherVersion(welcome.version)),
        Response::Answer(Err(refusal)) => Err(Cause::HelloRefused(refusal)),
        Response::Answer(Ok(_)) => Err(Cause::Unsolicited(HELLO_CORRELATION)),
        Response::Error(error) => Err(Cause::Misunderstood(error)),
    }
}

/// A socket and its buffers.
struct Wire {
    stream: TcpStream,
    /// Bytes to send, from `written` on.
    out: Vec<u8>,
    written: usize,
    /// Bytes received, from `taken` on.
    inbound: Vec<u8>,
    taken: usize,
    /// What one read fills.
    chunk: Box<[u8]>,
    /// When the peer last gave a sign, or had nothing to give one for.
    heard_at: Instant,
}

impl Wire {
    fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SLICE))?;
        stream.set_write_timeout(Some(SLICE))?;
        Ok(Self {
            stream,
            out: Vec::new(),
            written: 0,
            inbound: Vec::new(),
            taken: 0,
            chunk: vec![0; FRAME_BYTES_MAX].into_boxed_slice(),
            heard_at: Instant::now(),
        })
    }

    fn write(&mut self) -> Result<Written, Cause> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return Err(Cause::Closed),
                Ok(bytes) => self.written += bytes,
                Err(error) if is_timeout(&error) => return Ok(Written::Blocked),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(Written::All)
    }

    /// Reads once; zero bytes are those that did not come in time.
    fn read(&mut self) -> Result<usize, Cause> {
        match self.stream.read(&mut self.chunk) {
            Ok(0) => Err(Cause::Closed),
            Ok(bytes) => {
                self.inbound.drain(..self.taken);
                self.taken = 0;
                self.inbound.extend_from_slice(&self.chunk[..bytes]);
                self.heard_at = Instant::now();
                Ok(bytes)
            }
            Err(error) if is_timeout(&error) || error.kind() == ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn next_response(&mut self) -> Result<Option<(u64, Response)>, Cause> {
        let Some(frame) = frame(&self.inbound[self.taken..])? else { return Ok(None) };
        let response = Response::decode(&frame)?;
        self.taken += frame.len;
        Ok(Some((frame.correlation, response)))
    }
}

/// A time-out of a socket has two names, by platform.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
