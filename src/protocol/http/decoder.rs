//! Where a request ends and what it is made of, found as the bytes come.

use super::chunked::{CHUNKED_BYTES_MAX, Chunked, coded_bytes_max};
use super::fault::HttpFault;
use super::head::{self, Framing, HEAD_BYTES_MAX};
use super::request::Request;

/// The longest body, in bytes, without its transfer coding.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

/// The most bytes of one request: an empty line before it, its head, its body. What a connection
/// has to keep at most.
pub const REQUEST_BYTES_MAX: usize = request_bytes_max(BODY_BYTES_MAX);

const _: () = assert!(BODY_BYTES_MAX <= CHUNKED_BYTES_MAX);

/// The most bytes of one request, where bodies may have so many.
#[must_use]
pub const fn request_bytes_max(body_bytes_max: usize) -> usize {
    2 + HEAD_BYTES_MAX + coded_bytes_max(body_bytes_max)
}

/// How far a connection's current request is decoded. One per connection.
#[derive(Debug)]
pub struct Decoder {
    /// The longest body that is taken.
    body_bytes_max: u32,
    phase: Phase,
    /// Whether the client waits to be told to go on, and was not told yet.
    owes_continue: bool,
    /// What a chunked body says. Empty, and without memory, for every other request.
    body: Vec<u8>,
}

/// What is being looked for. Offsets are from the start of the request's bytes.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The end of the head, from here on.
    Head { scanned: u32 },
    /// The end of a body of known length, behind a head that ends here.
    Body { head: u32, length: u32 },
    /// The end of a chunked body, behind a head that ends here.
    Chunks { head: u32, chunked: Chunked },
}

impl Default for Phase {
    fn default() -> Self {
        Self::Head { scanned: 0 }
    }
}

/// What the bytes so far are.
#[derive(Debug)]
pub enum Decoded<'a> {
    /// The beginning of a request, or nothing yet. Call again with these bytes and more behind
    /// them.
    Incomplete {
        /// The client waits for [`CONTINUE`](super::CONTINUE) before it sends the body. Said
        /// once for each request.
        wants_continue: bool,
    },
    /// A whole request. Drop `consumed` bytes before the next call.
    Complete {
        /// The bytes of the request.
        consumed: usize,
        /// The request.
        request: Request<'a>,
    },
}

impl Default for Decoder {
    /// One that takes bodies of up to [`BODY_BYTES_MAX`].
    fn default() -> Self {
        Self::with_bodies_up_to(BODY_BYTES_MAX as u32)
    }
}

impl Decoder {
    /// One that takes bodies of up to so many bytes.
    #[must_use]
    pub const fn with_bodies_up_to(body_bytes_max: u32) -> Self {
        let phase = Phase::Head { scanned: 0 };
        Self { body_bytes_max, phase, owes_continue: false, body: Vec::new() }
    }

    /// Decodes the request at the start of `input`.
    ///
    /// `input` begins where it began at the last call that was not complete, and never is
    /// shorter: the decoder goes on where it stopped, so that each byte is looked at a bounded
    /// number of times however slowly they come. After a fault the connection is over.
    pub fn decode<'a>(&'a mut self, input: &'a [u8]) -> Result<Decoded<'a>, HttpFault> {
        let start = head::skipped(input);
        // Most requests come whole and right, with a body of known length: one look is enough.
        // All others take the long way, also those that are wrong: what is wrong with them depends
        // on where the head ends, which may be yet to come.
        if let Phase::Head { scanned: 0 } = self.phase
            && let Ok(head) = head::parse(&input[start..])
            && let Framing::Length(length) = head.framing
            && length <= u64::from(self.body_bytes_max)
            && let Some(body) = input[start + head.len..].get(..length as usize)
        {
            let consumed = start + head.len + body.len();
            return Ok(Decoded::Complete { consumed, request: Request { body, ..head.request } });
        }
        self.decode_on(input, start)
    }

    /// Goes on with the request that begins at `start` and is at any stage.
    #[inline(never)]
    fn decode_on<'a>(
        &'a mut self,
        input: &'a [u8],
        start: usize,
    ) -> Result<Decoded<'a>, HttpFault> {
        let mut parsed = None;
        if let Phase::Head { scanned } = &mut self.phase {
            self.body = Vec::new();
            let Some(end) = head::find_end(input, start, scanned)? else {
                return Ok(Decoded::Incomplete { wants_continue: false });
            };
            let head = head::parse(&input[start..end])?;
            self.phase = phase_behind(end as u32, head.framing, self.body_bytes_max)?;
            self.owes_continue = head.expects_continue;
            parsed = Some(head.request);
        }
        let Some((head_end, consumed)) = self.find_body_end(input)? else {
            let head_end = self.head_end();
            let wants_continue = self.owes_continue && input.len() == head_end;
            self.owes_continue &= !wants_continue;
            return Ok(Decoded::Incomplete { wants_continue });
        };
        // A body that came later than its head: the head is read a second and last time.
        let mut request = match parsed {
            Some(request) => request,
            None => head::parse(&input[start..head_end])?.request,
        };
        let is_chunked = matches!(self.phase, Phase::Chunks { .. });
        self.phase = Phase::default();
        request.body = if is_chunked { &self.body } else { &input[head_end..consumed] };
        Ok(Decoded::Complete { consumed, request })
    }

    /// Gives the memory of the last request's body back, for a connection that goes idle.
    pub fn shrink(&mut self) {
        if matches!(self.phase, Phase::Head { .. }) {
            self.body = Vec::new();
        }
    }

    /// The ends of head and body, once the body is whole.
    fn find_body_end(&mut self, input: &[u8]) -> Result<Option<(usize, usize)>, HttpFault> {
        match &mut self.phase {
            Phase::Head { .. } => Ok(None),
            Phase::Body { head, length } => {
                let (head, end) = (*head as usize, (*head + *length) as usize);
                Ok((input.len() >= end).then_some((head, end)))
            }
            Phase::Chunks { head, chunked } => {
                let head = *head as usize;
                let max = self.body_bytes_max as usize;
                let length = chunked.read(&input[head..], &mut self.body, max)?;
                Ok(length.map(|length| (head, head + length)))
            }
        }
    }

    fn head_end(&self) -> usize {
        match self.phase {
            Phase::Head { .. } => 0,
            Phase::Body { head, .. } | Phase::Chunks { head, .. } => head as usize,
        }
    }
}

fn phase_behind(head: u32, framing: Framing, length_max: u32) -> Result<Phase, HttpFault> {
    match framing {
        Framing::Chunked => Ok(Phase::Chunks { head, chunked: Chunked::START }),
        Framing::Length(length) if length <= u64::from(length_max) => {
            Ok(Phase::Body { head, length: length as u32 })
        }
        Framing::Length(_) => Err(HttpFault::BodyTooLarge),
    }
}
