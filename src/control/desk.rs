//! Where the control plane's tasks ask the shards: each ask gets one answer, once it is durable.
//!
//! Before every shard serves, and once the server stops, asks are refused here. Of each shard
//! only a few may be under way at once; further ones wait their turn in this executor, so that a
//! shard's order box never fills.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::num::NonZeroU16;
use std::rc::Rc;

use glommio::channels::local_channel::{LocalSender, new_bounded};
use glommio::sync::Semaphore;

use super::{Orders, give};
use crate::model::{Answer, Command, Query, Refusal, Route, ShardIndex};
use crate::protocol::binary::{Response, frame};
use crate::server::shard::Order;
use crate::server::{ASKS_MAX, AskId, Frames, SentAsk};

/// How far the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The logs are being recovered.
    Starting,
    /// Every shard serves.
    Serving,
    /// It was told to stop.
    Stopping,
}

/// See the module.
pub struct Desk {
    phase: Cell<Phase>,
    shards: RefCell<Vec<Shard>>,
    /// Who waits for which answer.
    waiting: RefCell<HashMap<AskId, Waiting>>,
    next: Cell<u64>,
}

struct Waiting {
    sender: LocalSender<Result<Answer, Refusal>>,
    /// Given back when the answer comes, even where nobody waits for it any more: the shard has
    /// the ask until then.
    permits: Rc<Semaphore>,
}

#[derive(Clone)]
struct Shard {
    orders: Orders,
    /// What may be asked of it now.
    permits: Rc<Semaphore>,
}

impl Desk {
    /// A desk of a server that is starting.
    pub fn new() -> Self {
        Self {
            phase: Cell::new(Phase::Starting),
            shards: RefCell::default(),
            waiting: RefCell::default(),
            next: Cell::new(0),
        }
    }

    /// Every shard serves; these are their order boxes, by index.
    pub fn open(&self, orders: impl Iterator<Item = Orders>) {
        let permits = || Rc::new(Semaphore::new(ASKS_MAX as u64));
        let shards = orders.map(|orders| Shard { orders, permits: permits() });
        self.shards.replace(shards.collect());
        self.phase.set(Phase::Serving);
    }

    /// The server stops: nothing more is asked. Whether that is new.
    pub fn stop(&self) -> bool {
        self.phase.replace(Phase::Stopping) != Phase::Stopping
    }

    /// How far the server is.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// The shards, in order; none before every one serves.
    pub fn shards(&self) -> impl Iterator<Item = ShardIndex> + use<> {
        (0..self.shards.borrow().len() as u16).map(ShardIndex)
    }

    /// Has a command decided on the shard of its sale. A success is durable.
    pub async fn command(&self, command: Command) -> Result<Answer, Refusal> {
        self.ask(Route::Sale(command.sale()), SentAsk::Command(command)).await
    }

    /// Reads on the query's shard.
    pub async fn query(&self, query: Query) -> Result<Answer, Refusal> {
        self.ask(query.route(), SentAsk::Query(query)).await
    }

    async fn ask(&self, route: Route, ask: SentAsk) -> Result<Answer, Refusal> {
        // A server that is starting has decided nothing yet: asking again is safe.
        let shard = self.shard(route).ok_or(Refusal::Overloaded)?;
        shard.permits.acquire(1).await.expect("the desk never closes a semaphore");
        if self.phase.get() == Phase::Stopping {
            shard.permits.signal(1);
            return Err(Refusal::Draining);
        }
        let id = AskId(self.next.replace(self.next.get() + 1));
        let (sender, receiver) = new_bounded(1);
        self.waiting.borrow_mut().insert(id, Waiting { sender, permits: shard.permits });
        give(&shard.orders, Order::Ask(id, Box::new(ask)));
        receiver.recv().await.expect("the desk keeps the other end until the answer comes")
    }

    fn shard(&self, route: Route) -> Option<Shard> {
        let shards = self.shards.borrow();
        let index = route.shard(NonZeroU16::new(shards.len() as u16)?);
        shards.get(usize::from(index.0)).cloned()
    }

    /// A shard answered.
    ///
    /// # Panics
    ///
    /// Where the answer is no answer in the binary protocol: a shard encodes it.
    pub fn answered(&self, id: AskId, frames: &Frames) {
        let frame = frame(frames.as_bytes()).expect("a shard's frame is sound");
        let frame = frame.expect("a shard's frame is whole");
        let response = Response::decode(&frame).expect("a shard's answer is sound");
        let Response::Answer(answer) = response else { panic!("a shard answers: {response:?}") };
        let waiting = self.waiting.borrow_mut().remove(&id).expect("an ask has one answer");
        waiting.permits.signal(1);
        // Whoever asked may have gone.
        let _ = waiting.sender.try_send(answer);
    }
}
