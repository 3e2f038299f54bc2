//! `boxoffice-bench crowd`: connections that are in the way, to measure others beside them.
//!
//! It opens as many HTTP connections as asked for and holds them. Silent ones say nothing; those
//! that drip send a request one byte at a time and never end it, and connect again as soon as the
//! server sends them away. It measures nothing but itself: run `boxoffice-bench run` beside it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::thread;
use std::time::{Duration, Instant};

use boxoffice::runtime::{cpu, limits};

use crate::Failure;

/// What a dripping connection begins and never ends.
const HEAD: &[u8] = b"GET /v1/sales/1/availability HTTP/1.1\r\nHost: boxoffice\r\nX-Drip: ";

/// The crowd speaks in so many parts of a round, one after the other: all at once they would be in
/// the way of whoever measures on the same CPU.
const PARTS: usize = 200;

/// The command line.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where the server speaks HTTP.
    #[arg(long, value_name = "ADDR")]
    addr: SocketAddr,
    /// How many connections.
    #[arg(long, value_name = "C", default_value = "5000")]
    connections: NonZeroUsize,
    /// Send a byte on each connection every so many milliseconds; without it, none.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    drip: Option<u64>,
    /// Seconds to stay.
    #[arg(long, value_name = "S", default_value = "30")]
    duration: u64,
    /// The CPUs to run on.
    #[arg(long, value_name = "LIST", value_parser = parse_cpus)]
    cpus: Option<Cpus>,
}

#[derive(Clone, Debug)]
struct Cpus(Vec<usize>);

fn parse_cpus(text: &str) -> Result<Cpus, String> {
    cpu::parse_list(text).map(Cpus).ok_or_else(|| "not a list of CPUs such as 0,2-3".to_owned())
}

/// One of the crowd.
struct Member {
    stream: TcpStream,
    /// Bytes sent of its request.
    sent: usize,
}

/// Runs the command.
pub fn run(options: &Options) -> Result<(), Failure> {
    if let Some(Cpus(cpus)) = &options.cpus {
        cpu::restrict_current_thread(cpus).map_err(Failure::from_error)?;
    }
    let files = limits::raise_open_files();
    if let Some(limit) = files.filter(|limit| *limit < options.connections.get() as u64 + 16) {
        return Err(Failure::new(format!(
            "the limit of {limit} open files leaves no room for that: raise it (`ulimit -n`)"
        )));
    }
    let start = Instant::now();
    let connect = || connect(options.addr);
    let count = options.connections.get();
    let mut crowd: Vec<Member> = (0..count).map(|_| connect()).collect::<Result<_, _>>()?;
    println!("{count} connections after {} ms", start.elapsed().as_millis());
    let until = Instant::now() + Duration::from_secs(options.duration);
    let round = Duration::from_millis(options.drip.unwrap_or(1_000));
    let part = count.div_ceil(PARTS);
    let mut sent_away = 0u64;
    while Instant::now() < until {
        for members in crowd.chunks_mut(part) {
            let next = Instant::now() + round / PARTS as u32;
            for member in members {
                if !member.is_there(options.drip.is_some()) {
                    sent_away += 1;
                    *member = connect()?;
                }
            }
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
    println!("{sent_away} were sent away, and came again");
    Ok(())
}

fn connect(address: SocketAddr) -> Result<Member, Failure> {
    let stream = TcpStream::connect(address)
        .map_err(|error| Failure::new(format!("cannot connect to {address}: {error}")))?;
    stream.set_nonblocking(true).map_err(Failure::from_error)?;
    Ok(Member { stream, sent: 0 })
}

impl Member {
    /// Drips where it should; whether the server still holds the connection.
    fn is_there(&mut self, drips: bool) -> bool {
        let mut answer = [0; 1024];
        // Whatever the server says to one that asked nothing whole is a goodbye.
        match self.stream.read(&mut answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => return false,
        }
        if !drips {
            return true;
        }
        let byte = HEAD.get(self.sent).copied().unwrap_or(b'x');
        self.sent += 1;
        !matches!(self.stream.write(&[byte]), Err(error) if error.kind() != ErrorKind::WouldBlock)
    }
}
