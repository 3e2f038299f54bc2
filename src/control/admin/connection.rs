//! One connection of administration: a request, its answer, the next request.
//!
//! A request has [`REQUEST_TIME_MAX`] to arrive, however slowly it drips, and its answer
//! [`ANSWER_TIME_MAX`] to be taken. While it is being answered nothing is cut short: a change
//! goes on to its end though its caller may have left.

use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream;
use glommio::timer::timeout;

use super::office::Office;
use super::reply::{Problem, Reply};
use super::{Load, Peer};
use crate::protocol::http::{CONTINUE, Decoded, Decoder, HttpFault, Method, REQUEST_BYTES_MAX};

/// How long a whole request may take to arrive; also how long a connection may say nothing.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);

/// How long an answer may take to be taken.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// How long the rest of a broken request is read, so that its sender sees the answer.
const LINGER_TIME_MAX: Duration = Duration::from_secs(1);

/// Bytes that are read at once.
const READ_BYTES: usize = 4096;

/// A connection and what it counts in.
pub(super) struct Connection {
    stream: TcpStream,
    peer: Peer,
    office: Rc<Office>,
    load: Rc<Load>,
}

/// How a connection goes on.
enum Next {
    /// With this request, whose bytes these many are.
    Answered { consumed: usize, keep_alive: bool },
    /// Not at all.
    Fault(HttpFault),
    /// The peer said all that it had to say.
    End,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, peer: Peer, office: Rc<Office>, load: Rc<Load>) -> Self {
        load.connections.set(load.connections.get() + 1);
        Self { stream, peer, office, load }
    }

    /// Serves until either side has enough.
    pub(super) async fn serve(mut self) {
        let (mut decoder, mut input, mut output) = (Decoder::default(), Vec::new(), Vec::new());
        loop {
            let next = self.read(&mut decoder, &mut input).await;
            output.clear();
            // The request borrows from the input, so it is decoded where it is answered.
        }
    }
}
