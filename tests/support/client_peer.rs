//! The other end of the wire, as a script: it speaks the protocol's bytes, sells nothing, and
//! fails wherever it is told to.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use boxoffice::model::{Answer, Command, OrderNumber, Outcome, Refusal, RequestId, Scopes};
use boxoffice::model::{Query, Route, SaleId, ShardIndex};
use boxoffice::protocol::binary::{
    DecodeError, Request, Welcome, encode_answer, encode_error, encode_refusal, encode_welcome,
    request_frame,
};
use proptest::prelude::*;

/// What happens on one connection. It closes when the script returns.
pub type Script = Box<dyn FnOnce(&mut Talk) + Send>;

/// A listener whose connections follow one script each, one after the other.
pub struct Peer {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    thread: JoinHandle<()>,
}

/// One connection, seen from the server's side.
pub struct Talk {
    stream: TcpStream,
    inbound: Vec<u8>,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub correlation: u64,
    pub sale: SaleId,
    /// The request id; zero where it has none.
    pub request: RequestId,
}

impl Peer {
    pub fn start(scripts: Vec<Script>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a port"), scripts)
    }

    pub fn on(listener: TcpListener, scripts: Vec<Script>) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let of_thread = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            for script in scripts {
                let (stream, _) = listener.accept().expect("a client");
                let seen = Arc::clone(&of_thread);
                script(&mut Talk { stream, inbound: Vec::new(), seen });
            }
        });
        Self { address, seen, thread }
    }

    /// Every frame that came, `HELLO`s left out, once all scripts have run.
    pub fn finish(self) -> Vec<Vec<u8>> {
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
        std::mem::take(&mut self.seen.lock().expect("the peer is done"))
    }
}

/// A listener whose first connections misbehave as given, and all others serve.
pub struct Endless {
    peer: Peer,
    stop: Arc<AtomicBool>,
}

impl Endless {
    pub fn on<T: Send + 'static>(
        listener: TcpListener,
        first: Vec<T>,
        misbehave: fn(&mut Talk, &T),
    ) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (of_thread, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut first = first.into_iter();
            loop {
                let (stream, _) = listener.accept().expect("a client");
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let seen = Arc::clone(&of_thread);
                let mut talk = Talk { stream, inbound: Vec::new(), seen };
                if let Some(script) = first.next() {
                    misbehave(&mut talk, &script);
                } else {
                    talk.greet();
                    talk.serve();
                }
            }
        });
        Self { peer: Peer { address, seen, thread }, stop }
    }

    pub const fn address(&self) -> SocketAddr {
        self.peer.address
    }

    /// As [`Peer::finish`].
    pub fn finish(self) -> Vec<Vec<u8>> {
        self.stop.store(true, Ordering::Release);
        // Wakes the listener; where its thread has panicked, finishing tells.
        let _ = TcpStream::connect(self.peer.address);
        self.peer.finish()
    }
}

/// What a server grants that has one shard behind `port`.
pub fn welcome(port: u16) -> Welcome {
    Welcome {
        version: 1,
        scopes: Scopes::ALL,
        shard: ShardIndex(0),
        frame_bytes_max: 8_192,
        in_flight_max: 64,
        boot: 1,
        ports: vec![port],
    }
}

/// The answer that goes with a request id and no other.
pub fn answer_to(request: RequestId) -> Answer {
    let order = OrderNumber(request.0 as u32);
    Answer { outcome: Outcome::Confirmed { order }, replayed: false }
}

impl Talk {
    /// Takes `HELLO` and grants what the one-shard server grants.
    pub fn greet(&mut self) {
        let port = self.stream.local_addr().expect("connected").port();
        self.greet_with(&welcome(port));
    }

    pub fn greet_with(&mut self, welcome: &Welcome) {
        let correlation = self.hello();
        self.send(|out| encode_welcome(out, correlation, welcome));
    }

    /// Takes `HELLO` and leaves it unanswered.
    pub fn hello(&mut self) -> u64 {
        let (bytes, correlation) = self.next_frame().expect("a client says HELLO");
        let frame = request_frame(&bytes).expect("valid").expect("whole");
        let Ok(Request::Hello(hello)) = Request::decode(&frame) else {
            panic!("the first request is HELLO");
        };
        assert_eq!(hello.key, b"bo_test");
        correlation
    }

    /// The next request; `None` where the client has closed.
    pub fn next(&mut self) -> Option<Asked> {
        let (bytes, correlation) = self.next_frame()?;
        let frame = request_frame(&bytes).expect("valid").expect("whole");
        let (sale, request) = match Request::decode(&frame).expect("clients send sound requests") {
            Request::Command(Command::Buy { intent, .. } | Command::Fence { intent })
            | Request::Query(Query::Request { intent }) => (intent.sale, intent.request),
            Request::Command(command) => (command.sale(), RequestId(0)),
            Request::Query(query) => match query.route() {
                Route::Sale(sale) => (sale, RequestId(0)),
                Route::Shard(_) => panic!("these clients ask about sales"),
            },
            Request::Hello(_) => panic!("HELLO comes once"),
        };
        self.seen.lock().expect("nobody panicked").push(bytes);
        Some(Asked { correlation, sale, request })
    }

    /// A request that must come.
    pub fn expect(&mut self) -> Asked {
        self.next().expect("a request")
    }

    pub fn answer(&mut self, asked: &Asked) {
        self.answer_with(asked, &answer_to(asked.request));
    }

    pub fn answer_all(&mut self, asked: &[Asked]) {
        for asked in asked {
            self.answer(asked);
        }
    }

    pub fn answer_with(&mut self, asked: &Asked, answer: &Answer) {
        self.send(|out| encode_answer(out, asked.correlation, answer));
    }

    pub fn refuse(&mut self, correlation: u64, refusal: Refusal) {
        self.send(|out| encode_refusal(out, correlation, refusal));
    }

    pub fn error(&mut self, correlation: u64, error: DecodeError) {
        self.send(|out| encode_error(out, correlation, error));
    }

    /// Answers everything until the client goes.
    pub fn serve(&mut self) {
        while let Some(asked) = self.next() {
            self.answer(&asked);
        }
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        // A client that is gone already is one of the things that happen.
        let _ = self.stream.write_all(bytes);
    }

    /// Whether the client has sent anything that was not read yet.
    pub fn has_more(&mut self) -> bool {
        if !self.inbound.is_empty() {
            return true;
        }
        self.stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a live socket");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(None).expect("a live socket");
        match peeked {
            Ok(bytes) => bytes > 0,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }

    fn send(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        encode(&mut out);
        self.raw(&out);
    }

    fn next_frame(&mut self) -> Option<(Vec<u8>, u64)> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(frame) = request_frame(&self.inbound).expect("clients send valid frames") {
                let (len, correlation) = (frame.len, frame.correlation);
                return Some((self.inbound.drain(..len).collect(), correlation));
            }
            match self.stream.read(&mut chunk) {
                Ok(bytes @ 1..) => self.inbound.extend_from_slice(&chunk[..bytes]),
                Ok(0) | Err(_) => return None,
            }
        }
    }
}

/// What the peer does with one request.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Answer,
    AnswerTwice,
    DropUnanswered,
    AnswerThenDrop,
    CutAnswer,
    Garbage,
    Keep,
}

/// Any fault; a good answer is the likeliest.
pub fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        12 => Just(Fault::Answer),
        1 => Just(Fault::AnswerTwice),
        2 => Just(Fault::DropUnanswered),
        2 => Just(Fault::AnswerThenDrop),
        1 => Just(Fault::CutAnswer),
        1 => Just(Fault::Garbage),
        2 => Just(Fault::Keep),
    ]
}

/// Follows the faults until one ends the connection, or the client does.
pub fn misbehave(talk: &mut Talk, faults: &Vec<Fault>) {
    talk.greet();
    let mut kept = Vec::new();
    for fault in faults {
        let Some(asked) = talk.next() else { return };
        let mut bytes = Vec::new();
        encode_answer(&mut bytes, asked.correlation, &answer_to(asked.request));
        match fault {
            Fault::Answer => talk.raw(&bytes),
            Fault::AnswerTwice => talk.raw(&[&bytes[..], &bytes].concat()),
            Fault::DropUnanswered => return,
            Fault::AnswerThenDrop => return talk.raw(&bytes),
            Fault::CutAnswer => return talk.raw(&bytes[..bytes.len() / 2]),
            Fault::Garbage => talk.raw(&[0xff; 40]),
            Fault::Keep => kept.push(asked),
        }
    }
    talk.answer_all(&kept);
    talk.serve();
}
