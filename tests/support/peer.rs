//! A raw, blocking peer of the binary protocol, and short words for what it asks.
//!
//! It sends what it is told, whole frames or broken bytes, as one write, and reads what comes
//! back until the connection ends. It retries nothing and hides nothing: the tests decide what an
//! end means. Reads have a limit that only ends what hangs.
#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use boxoffice::model::{
    AccountId, Answer, Command, DurationMs, Intent, ItemCounts, ItemId, ItemTerms, Line, Lines,
    OrderNumber, OrderView, Outcome, PaymentRef, Price, Quantity, Query, Refusal, RequestId,
    SaleId, SaleStats, SaleTerms, Wanted, WantedLine,
};
use boxoffice::protocol::binary::{Hello, Request, Response, Welcome, encode_request, frame};

/// How long a peer waits for bytes before the test gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a request got.
pub type Got = Result<Answer, Refusal>;

/// Answers by correlation id.
pub type Answers = HashMap<u64, Got>;

/// One connection.
pub struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
    /// How far `input` was read.
    taken: usize,
    correlation: u64,
}

impl Peer {
    /// A connection that has said nothing yet.
    pub fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a socket has the option");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has the option");
        Self { stream, input: Vec::new(), taken: 0, correlation: 0 }
    }

    /// A connection that was let in without a key.
    pub fn connect(address: SocketAddr) -> Self {
        let mut peer = Self::silent(address);
        peer.hello(b"").expect("loopback is let in without a key");
        peer
    }

    /// Says hello with this key.
    pub fn hello(&mut self, key: &[u8]) -> Result<Welcome, Refusal> {
        let sent = self.send(&Request::Hello(Hello { key, name: "test" }));
        match self.read() {
            Some((correlation, Response::Welcome(welcome))) if correlation == sent => Ok(welcome),
            Some((correlation, Response::Answer(Err(refusal)))) if correlation == sent => {
                Err(refusal)
            }
            other => panic!("no answer to hello: {other:?}"),
        }
    }

    /// Sends one request and returns its correlation id.
    pub fn send(&mut self, request: &Request<'_>) -> u64 {
        self.send_all(std::slice::from_ref(request));
        self.correlation
    }

    /// Sends requests in one write. Their correlation ids count up to the one returned.
    pub fn send_all(&mut self, requests: &[Request<'_>]) -> u64 {
        let bytes = self.encode(requests);
        self.write(&bytes).expect("the server takes requests");
        self.correlation
    }

    /// The frames of requests, with the next correlation ids.
    pub fn encode(&mut self, requests: &[Request<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for request in requests {
            self.correlation += 1;
            encode_request(&mut bytes, self.correlation, request);
        }
        bytes
    }

    /// Sends any bytes. An error means that the server has closed the connection.
    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The same connection, to write to it from another thread.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().expect("a descriptor is free")
    }

    /// Says that nothing more will be sent.
    pub fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection is open");
    }

    /// The next response; `None` where the server has closed the connection.
    pub fn read(&mut self) -> Option<(u64, Response)> {
        loop {
            let rest = &self.input[self.taken..];
            if let Some(frame) = frame(rest).expect("the server sends frames") {
                let response = Response::decode(&frame).expect("the server sends responses");
                self.taken += frame.len;
                return Some((frame.correlation, response));
            }
            if self.taken > 0 {
                self.input.drain(..self.taken);
                self.taken = 0;
            }
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => {
                    assert!(self.input.is_empty(), "the connection ended inside of a frame");
                    return None;
                }
                Ok(count) => self.input.extend_from_slice(&bytes[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return None,
                    ErrorKind::Interrupted => {}
                    _ => panic!("no answer within {PATIENCE:?}: {error}"),
                },
            }
        }
    }

    /// The next response, which must be an answer.
    pub fn read_answer(&mut self) -> Option<(u64, Got)> {
        self.read().map(|(correlation, response)| match response {
            Response::Answer(got) => (correlation, got),
            other => panic!("no answer to {correlation}: {other:?}"),
        })
    }

    /// So many answers, by correlation id, each of which comes once.
    pub fn answers(&mut self, count: usize) -> Answers {
        let mut answers = Answers::new();
        while answers.len() < count {
            let Some((correlation, got)) = self.read_answer() else {
                panic!("the connection ended after {} of {count} answers", answers.len())
            };
            assert!(answers.insert(correlation, got).is_none(), "{correlation} came twice");
        }
        answers
    }

    /// All answers until the server closes the connection.
    pub fn answers_to_the_end(&mut self) -> Answers {
        let mut answers = Answers::new();
        while let Some((correlation, got)) = self.read_answer() {
            assert!(answers.insert(correlation, got).is_none(), "{correlation} came twice");
        }
        answers
    }

    /// Sends these requests at once; their answers, in the order of the requests.
    pub fn ask_all(&mut self, requests: &[Request<'_>]) -> Vec<Got> {
        let last = self.send_all(requests);
        let mut answers = self.answers(requests.len());
        let first = last - requests.len() as u64 + 1;
        let in_order = (first..=last).map(|correlation| answers.remove(&correlation));
        in_order.map(|got| got.expect("each request has an answer")).collect()
    }

    /// Asks, and waits for the answer.
    pub fn ask(&mut self, request: impl Into<Asked>) -> Got {
        let Asked(request) = request.into();
        self.ask_all(&[request]).pop().expect("one answer")
    }

    /// Asks for what must succeed, for the first time.
    #[track_caller]
    pub fn gets(&mut self, request: impl Into<Asked>) -> Outcome {
        let answer = self.ask(request).expect("it succeeds");
        assert!(!answer.replayed, "it was asked once: {answer:?}");
        answer.outcome
    }

    /// Defines a sale of these items and capacities, and opens it.
    pub fn open_sale(&mut self, sale: SaleId, terms: SaleTerms, items: &[(u32, u32)]) {
        let mut requests = vec![Request::Command(Command::DefineSale { sale, terms })];
        requests.extend(items.iter().map(|&(item, capacity)| define_item(sale, item, capacity)));
        requests.push(Request::Command(Command::OpenSale { sale }));
        for got in self.ask_all(&requests) {
            assert_eq!(got, Ok(Answer { outcome: Outcome::Done, replayed: false }));
        }
    }

    /// The totals of a sale.
    pub fn stats(&mut self, sale: SaleId) -> SaleStats {
        match self.ask(Query::Stats { sale }) {
            Ok(Answer { outcome: Outcome::Stats(stats), replayed: false }) => stats,
            other => panic!("no totals: {other:?}"),
        }
    }

    /// The counters of a sale's items.
    pub fn availability(&mut self, sale: SaleId) -> Vec<ItemCounts> {
        match self.ask(Query::Availability { sale }) {
            Ok(Answer { outcome: Outcome::Availability(items), replayed: false }) => items,
            other => panic!("no counters: {other:?}"),
        }
    }

    /// An order.
    pub fn order(&mut self, sale: SaleId, order: OrderNumber) -> OrderView {
        match self.ask(Query::Order { sale, order }) {
            Ok(Answer { outcome: Outcome::Order(view), replayed: false }) => view,
            other => panic!("no order: {other:?}"),
        }
    }
}

/// A request that can be asked.
pub struct Asked(Request<'static>);

impl From<Request<'static>> for Asked {
    fn from(request: Request<'static>) -> Self {
        Self(request)
    }
}

impl From<Command> for Asked {
    fn from(command: Command) -> Self {
        Self(Request::Command(command))
    }
}

impl From<Query> for Asked {
    fn from(query: Query) -> Self {
        Self(Request::Query(query))
    }
}

/// Terms with a time to live of holds.
pub fn hold_ttl(ms: u32) -> SaleTerms {
    SaleTerms { hold_ttl: DurationMs(ms), ..SaleTerms::default() }
}

/// An item that costs 1,000.
pub fn define_item(sale: SaleId, item: u32, capacity: u32) -> Request<'static> {
    let terms =
        ItemTerms { capacity: Quantity(capacity), price: Price(1_000), account_limit: None };
    Request::Command(Command::DefineItem { sale, item: ItemId(item), terms })
}

/// Who asks, under which request id.
pub fn intent(sale: SaleId, account: u128, request: u128) -> Intent {
    Intent { sale, account: AccountId(account), request: RequestId(request) }
}

/// Units of an item.
pub fn line(item: u32, quantity: u32) -> Line {
    Line { item: ItemId(item), quantity: Quantity(quantity) }
}

/// Lines of items and quantities.
pub fn lines(lines: &[(u32, u32)]) -> Lines {
    Lines::new(lines.iter().map(|&(item, quantity)| line(item, quantity))).expect("sound lines")
}

/// Lines at any price.
pub fn wanted(lines: &[(u32, u32)]) -> Wanted {
    let lines = lines.iter().map(|&(item, quantity)| line(item, quantity));
    Wanted::new(lines.map(|line| WantedLine { line, price: None })).expect("sound lines")
}

/// A payment's reference.
pub fn payment(text: &str) -> PaymentRef {
    PaymentRef::new(text.as_bytes()).expect("it is short enough")
}

/// A hold of these lines.
pub fn hold(intent: Intent, of: &[(u32, u32)]) -> Request<'static> {
    Request::Command(Command::Hold { intent, lines: wanted(of), ttl: None })
}

/// A purchase of these lines.
pub fn buy(intent: Intent, of: &[(u32, u32)]) -> Request<'static> {
    Request::Command(Command::Buy { intent, lines: wanted(of), payment: payment("paid") })
}

/// A confirmation of a whole hold.
pub fn confirm(intent: Intent, order: OrderNumber) -> Request<'static> {
    let payment = payment("paid");
    Request::Command(Command::Confirm { intent, order, payment, lines: None })
}

/// A release of a hold.
pub fn release(intent: Intent, order: OrderNumber) -> Request<'static> {
    Request::Command(Command::Release { intent, order })
}

/// The clock, as the server reads it.
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    u64::try_from(since.as_millis()).expect("it fits for ages")
}
