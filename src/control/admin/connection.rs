//! One connection of administration: a request, its answer, the next request.
//!
//! A request has [`REQUEST_TIME_MAX`] to arrive, however slowly it drips, and its answer
//! [`ANSWER_TIME_MAX`] to be taken. Between the two nothing is cut short: a change goes on to its
//! end though its caller may have left.

use std::io;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream;

use super::office::Office;
use super::reply::{Form, Problem, Reply};
use super::{Load, Peer};
use crate::model::sale::ITEMS_MAX;
use crate::protocol::http::{CONTINUE, Decoded, Decoder, HttpFault, Request, request_bytes_max};

/// How long a whole request may take to arrive; also how long a connection may say nothing.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);

/// How long an answer may take to be taken.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// How long the rest of a broken request is read, so that its sender sees the answer.
const LINGER_TIME_MAX: Duration = Duration::from_secs(1);

/// The longest body, in bytes, without its transfer coding: that of a sale with as many items as
/// one may have.
pub const BODY_BYTES_MAX: usize = 128 * 1024;

/// An item of a definition whose numbers are the longest, with room for the spaces that people
/// put between them.
const ITEM_BYTES: usize = 120;

const _: () = assert!(ITEMS_MAX * ITEM_BYTES + 1024 <= BODY_BYTES_MAX);

/// Bytes that are read at once.
const READ_BYTES: usize = 4096;

/// A connection and what it counts in.
pub(super) struct Connection {
    stream: TcpStream,
    peer: Peer,
    office: Rc<Office>,
    load: Rc<Load>,
}

/// What the bytes so far lead to.
enum Step {
    /// Nothing yet.
    Read { wants_continue: bool },
    /// An answer to a request of so many bytes.
    Answer { consumed: usize, form: Form, reply: Reply },
    /// An end, since nobody knows where the next request begins.
    Fault(HttpFault),
}

impl Connection {
    pub(super) fn new(stream: TcpStream, peer: Peer, office: Rc<Office>, load: Rc<Load>) -> Self {
        load.connections.set(load.connections.get() + 1);
        Self { stream, peer, office, load }
    }

    /// Serves until either side has enough.
    pub(super) async fn serve(mut self) {
        // Whoever went away needs no answer, and nobody else is concerned.
        if let Err(error) = self.exchange().await {
            tracing::debug!(peer = %self.peer, %error, "a connection of administration ended");
        }
    }

    async fn exchange(&mut self) -> io::Result<()> {
        let mut decoder = Decoder::with_bodies_up_to(BODY_BYTES_MAX as u32);
        let (mut input, mut is_new) = (Vec::new(), true);
        let mut deadline = Instant::now() + REQUEST_TIME_MAX;
        loop {
            // Requests that came together are answered one after the other.
            let step = if is_new && input.is_empty() {
                Step::Read { wants_continue: false }
            } else {
                self.step(&mut decoder, &input).await
            };
            match step {
                Step::Answer { consumed, form, reply } => {
                    self.send(&reply, form).await?;
                    self.load.requests.set(self.load.requests.get() - 1);
                    if !form.keep_alive {
                        return self.close().await;
                    }
                    input.drain(..consumed);
                    is_new = true;
                    deadline = Instant::now() + REQUEST_TIME_MAX;
                }
                Step::Read { wants_continue } => {
                    if wants_continue {
                        self.write(CONTINUE).await?;
                    }
                    match self.read(&mut input, deadline).await {
                        Ok(0) => return Ok(()),
                        Ok(_) => is_new = false,
                        Err(error) if error.kind() == io::ErrorKind::TimedOut && !is_new => {
                            return self.fail(HttpFault::Timeout).await;
                        }
                        Err(error) => return Err(error),
                    }
                }
                Step::Fault(fault) => return self.fail(fault).await,
            }
        }
    }

    async fn step(&self, decoder: &mut Decoder, input: &[u8]) -> Step {
        match decoder.decode(input) {
            Ok(Decoded::Incomplete { wants_continue }) => Step::Read { wants_continue },
            Ok(Decoded::Complete { consumed, request }) => self.answer(consumed, &request).await,
            Err(fault) => Step::Fault(fault),
        }
    }

    async fn answer(&self, consumed: usize, request: &Request<'_>) -> Step {
        self.load.requests.set(self.load.requests.get() + 1);
        let reply = self.office.answer(request, self.peer).await;
        let mut form = Form::of(request);
        form.keep_alive &= !self.office.is_stopping();
        Step::Answer { consumed, form, reply }
    }

    /// Reads what there is, at least a byte unless the peer said all that it had to say.
    async fn read(&mut self, input: &mut Vec<u8>, deadline: Instant) -> io::Result<usize> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut bytes = [0; READ_BYTES];
        let count = self.stream.read(&mut bytes).await?;
        input.extend_from_slice(&bytes[..count]);
        let input_bytes_max = request_bytes_max(BODY_BYTES_MAX) + 2 * READ_BYTES;
        debug_assert!(input.len() < input_bytes_max, "the decoder bounds it");
        Ok(count)
    }

    async fn fail(&mut self, fault: HttpFault) -> io::Result<()> {
        self.send(&Reply::from(Problem::from(fault)), Form::LAST).await?;
        self.close().await
    }

    async fn send(&mut self, reply: &Reply, form: Form) -> io::Result<()> {
        let mut output = Vec::new();
        reply.encode(&mut output, form);
        self.write(&output).await
    }

    async fn write(&mut self, mut output: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + ANSWER_TIME_MAX;
        while !output.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_write_timeout(Some(left))?;
            let count = self.stream.write(output).await?;
            output = &output[count..];
        }
        Ok(())
    }

    /// Ends the connection so that the last answer arrives: a socket that is closed with bytes
    /// unread may take its answer back.
    async fn close(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write).await?;
        let deadline = Instant::now() + LINGER_TIME_MAX;
        let mut dropped = Vec::new();
        while self.read(&mut dropped, deadline).await? > 0 {
            dropped.clear();
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.load.connections.set(self.load.connections.get() - 1);
    }
}
