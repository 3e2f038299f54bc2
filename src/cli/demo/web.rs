//! Buyers who come over HTTP beside the rush: one after the other, on a connection kept alive.
//!
//! Each buys one unit under an idempotency key of their own, and asks again under the same key
//! until there is an answer, whatever happens to the server meanwhile. In the end every order that
//! was ever acknowledged is asked for again, and bought again under its key.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::{failure, ledger};
use crate::cli::Failed;
use crate::model::{ItemId, SaleId};

/// How long a web buyer waits before the next one comes.
const PAUSE: Duration = Duration::from_millis(1);

/// How long one answer may take, over all reconnections.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

/// How soon a lost connection is tried again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(5);

/// The longest answer that is read.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What became of the web's buyers.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct WebReport {
    /// Units bought, one by each buyer who got one.
    pub bought: u64,
    /// Buyers who were refused.
    pub refused: u64,
    /// Requests that were sent again because their connection broke.
    pub sent_again: u64,
    /// Answers that no buyer may get.
    pub unexpected: u64,
    /// Acknowledged orders that the server does not stand by.
    pub lost: u64,
    /// What was bought.
    #[serde(skip)]
    pub sold: HashMap<ItemId, u64>,
}

/// The buyers, on a thread of their own.
pub(super) struct WebBuyers {
    server: Arc<Mutex<SocketAddr>>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Shop, Failed>>,
}

impl WebBuyers {
    /// Lets them come, at most `buyers` of them.
    pub(super) fn start(
        server: SocketAddr,
        sale: SaleId,
        seed: u64,
        buyers: u32,
    ) -> Result<Self, Failed> {
        let server = Arc::new(Mutex::new(server));
        let is_over = Arc::new(AtomicBool::new(false));
        let mut shop = Shop::new(Arc::clone(&server), sale, seed);
        let over = Arc::clone(&is_over);
        let thread = thread::Builder::new().name("web".to_owned()).spawn(move || {
            for buyer in 0..buyers {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                shop.visit(buyer)?;
                thread::sleep(PAUSE);
            }
            Ok(shop)
        });
        let thread = thread.map_err(|error| failure(format_args!("no thread: {error}")))?;
        Ok(Self { server, is_over, thread })
    }

    /// The server was started again, on another port.
    pub(super) fn follow(&self, server: SocketAddr) {
        *self.server.lock().expect("nobody panics with it") = server;
    }

    /// Lets nobody in any more, and asks for everything that was acknowledged.
    pub(super) fn finish(self) -> Result<WebReport, Failed> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut shop = self.thread.join().expect("a panic ends the process")?;
        shop.check()?;
        Ok(shop.report)
    }
}

/// Where the buyers are served: their connection, and what they were told.
struct Shop {
    server: Arc<Mutex<SocketAddr>>,
    sale: SaleId,
    seed: u64,
    connection: Option<BufReader<TcpStream>>,
    orders: Vec<(u32, u64)>,
    report: WebReport,
}

/// An answer: its status, whether it is a repeated one, and its body.
struct Answer {
    status: u16,
    is_replayed: bool,
    body: Value,
}

impl Shop {
    fn new(server: Arc<Mutex<SocketAddr>>, sale: SaleId, seed: u64) -> Self {
        let report = WebReport::default();
        Self { server, sale, seed, connection: None, orders: Vec::new(), report }
    }

    fn visit(&mut self, buyer: u32) -> Result<(), Failed> {
        let answer = self.ask(&self.purchase(buyer))?;
        match (answer.status, answer.body["order"].as_u64()) {
            (201, Some(order)) => {
                self.orders.push((buyer, order));
                self.report.bought += 1;
                *self.report.sold.entry(item(buyer)).or_default() += 1;
            }
            (409, _) => self.report.refused += 1,
            _ => self.report.unexpected += 1,
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), Failed> {
        for (buyer, order) in std::mem::take(&mut self.orders) {
            let again = self.ask(&self.purchase(buyer))?;
            let is_same = again.status == 201 && again.body["order"].as_u64() == Some(order);
            let path = format!("/v1/sales/{}/orders/{order}", self.sale.0);
            let found = self.ask(&format!("GET {path} HTTP/1.1\r\nHost: demo\r\n\r\n"))?;
            let is_there = found.status == 200
                && found.body["state"] == "confirmed"
                && found.body["lines"][0]["item"] == item(buyer).0;
            if !(is_same && again.is_replayed && is_there) {
                self.report.lost += 1;
            }
        }
        Ok(())
    }

    fn purchase(&self, buyer: u32) -> String {
        let body = json!({
            "account": format!("web-{buyer}"),
            "action": "buy",
            "lines": [{"item": item(buyer).0, "quantity": 1}],
            "payment_ref": "pay-web",
        });
        let body = body.to_string();
        format!(
            "POST /v1/sales/{}/orders HTTP/1.1\r\nHost: demo\r\nIdempotency-Key: web-{}-{buyer}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.sale.0,
            self.seed,
            body.len()
        )
    }

    /// Asks until there is an answer.
    fn ask(&mut self, request: &str) -> Result<Answer, Failed> {
        let start = Instant::now();
        loop {
            match self.ask_once(request) {
                Ok(answer) => return Ok(answer),
                Err(error) if start.elapsed() > ANSWER_TIME_MAX => {
                    return Err(failure(format_args!("a web buyer gets no answer: {error}")));
                }
                Err(_) => {
                    self.connection = None;
                    self.report.sent_again += 1;
                    thread::sleep(RECONNECT_PAUSE);
                }
            }
        }
    }

    fn ask_once(&mut self, request: &str) -> io::Result<Answer> {
        if self.connection.is_none() {
            let server = *self.server.lock().expect("nobody panics with it");
            let stream = TcpStream::connect(server)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
            self.connection = Some(BufReader::new(stream));
        }
        let connection = self.connection.as_mut().expect("it was just made");
        connection.get_mut().write_all(request.as_bytes())?;
        read_answer(connection)
    }
}

/// What a web buyer wants: they come for each item in turn.
fn item(buyer: u32) -> ItemId {
    ItemId(1 + buyer % ledger::ITEMS)
}

fn read_answer(connection: &mut impl BufRead) -> io::Result<Answer> {
    let broken = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(broken)?;
    let (mut length, mut is_replayed) = (0, false);
    loop {
        line.clear();
        connection.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        match &*name.to_ascii_lowercase() {
            "content-length" => length = value.trim().parse().map_err(|_| broken())?,
            "idempotency-replayed" => is_replayed = value.trim() == "true",
            _ => {}
        }
    }
    if line != "\r\n" || length > BODY_BYTES_MAX {
        return Err(broken());
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    Ok(Answer { status, is_replayed, body: serde_json::from_slice(&body)? })
}
