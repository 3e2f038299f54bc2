//! The network: one [`Link`] for each connection, which loses it, delays, splits and merges.
//!
//! Bytes of a link arrive in order, in pieces of any size, at any time. A link that is cut
//! delivers any first part of what was on its way, in each direction, and then the end.

use std::collections::VecDeque;
use std::time::Duration;

use crate::faults::Fault;
use crate::front::Front;
use crate::node::Arrival;
use crate::random::Random;
use crate::world::{Event, World};

/// A connection between a buyer and a shard.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, not a state")]
pub struct Link {
    /// Who made it, until they give it up.
    pub buyer: Option<usize>,
    node: usize,
    /// Its slot, until the server has closed it.
    slot: Option<u32>,
    up: VecDeque<u8>,
    down: VecDeque<u8>,
    /// The buyer sends nothing more.
    up_ends: bool,
    /// The server sends nothing more.
    down_ends: bool,
    /// The server was told that nothing more comes.
    up_ended: bool,
    sending: Option<Vec<u8>>,
    is_up_due: bool,
    is_down_due: bool,
    is_cut: bool,
    /// The buyer takes its answers as slowly as this.
    slowness: Duration,
}

/// How many connections of a thousand reach a server that was told to stop.
const LATE_CONNECTIONS: u64 = 20;

/// How many of these bytes come first.
fn piece(len: usize, random: &mut Random) -> usize {
    if random.chance(700) { len } else { random.index(len) + 1 }
}

impl World {
    /// A buyer connects to a shard; the number of the link, where the shard takes it. A server that
    /// stops listens no more, but for what it accepted at the last moment.
    pub fn connect(&mut self, buyer: usize, node: usize, front: Front) -> Option<u64> {
        if self.judge.is_stopping() && !self.random.chance(LATE_CONNECTIONS) {
            return None;
        }
        let slot = self.nodes.get_mut(node)?.open(front.wire())?;
        let slowness = if self.happens(self.plan.slow_reader / 10) {
            self.random.micros(100_000, 15_000_000)
        } else {
            self.random.micros(5, 50)
        };
        self.next_link += 1;
        let link = Link {
            buyer: Some(buyer),
            node,
            slot: Some(slot),
            up: VecDeque::new(),
            down: VecDeque::new(),
            up_ends: false,
            down_ends: false,
            up_ended: false,
            sending: None,
            is_up_due: false,
            is_down_due: false,
            is_cut: false,
            slowness,
        };
        self.links.insert(self.next_link, link);
        self.slots[node].insert(slot, self.next_link);
        self.wake(node);
        Some(self.next_link)
    }

    /// The buyer sends.
    pub fn send_up(&mut self, link: u64, bytes: &[u8]) {
        if let Some(found) = self.links.get_mut(&link) {
            found.up.extend(bytes);
            self.schedule_up(link);
        }
    }

    /// The buyer gives the connection up.
    pub fn hang_up(&mut self, link: u64) {
        if let Some(found) = self.links.get_mut(&link) {
            found.buyer = None;
            found.up_ends = true;
            found.down.clear();
            self.schedule_up(link);
        }
    }

    /// The connection is lost: what is on its way arrives in part.
    pub fn cut(&mut self, link: u64) {
        let Some(found) = self.links.get_mut(&link) else { return };
        if found.is_cut {
            return;
        }
        (found.is_cut, found.up_ends, found.down_ends) = (true, true, true);
        found.down.extend(found.sending.iter().flatten());
        let (up, down) = (found.up.len() as u64, found.down.len() as u64);
        found.up.truncate(self.random.between(0, up) as usize);
        let arrives = self.random.between(0, down);
        found.down.truncate(arrives as usize);
        if arrives < down && found.buyer.is_some() {
            self.judge.tally.faults.count(Fault::LostAnswers);
        }
        self.schedule_up(link);
        self.schedule_down(link);
    }

    fn delay(&mut self) -> Duration {
        if self.happens(self.plan.slow_network) {
            self.random.micros(1_000, 500_000)
        } else {
            self.random.micros(20, 150)
        }
    }

    fn schedule_up(&mut self, link: u64) {
        let delay = self.delay();
        if let Some(found) = self.links.get_mut(&link)
            && !found.is_up_due
        {
            found.is_up_due = true;
            self.schedule(delay, Event::Up(link));
        }
    }

    fn schedule_down(&mut self, link: u64) {
        let delay = self.delay();
        if let Some(found) = self.links.get_mut(&link)
            && !found.is_down_due
        {
            found.is_down_due = true;
            self.schedule(delay, Event::Down(link));
        }
    }

    /// Bytes reach the server.
    pub fn up(&mut self, link: u64) {
        let Some(found) = self.links.get_mut(&link) else { return };
        found.is_up_due = false;
        let node = found.node;
        let Some(slot) = found.slot else { return self.forget_if_over(link) };
        if found.up_ended || !self.nodes[node].is_read(slot) {
            return;
        }
        if found.up.is_empty() {
            if found.up_ends {
                found.up_ended = true;
                self.nodes[node].arrivals.push_back(Arrival::Ended(slot));
                self.wake(node);
            }
            return;
        }
        let bytes = found.up.drain(..piece(found.up.len(), &mut self.random)).collect();
        self.nodes[node].arrivals.push_back(Arrival::Received(slot, bytes));
        self.wake(node);
        self.schedule_up(link);
    }

    /// Bytes reach the buyer.
    pub fn down(&mut self, link: u64) {
        let Some(found) = self.links.get_mut(&link) else { return };
        found.is_down_due = false;
        let Some(buyer) = found.buyer else { return self.forget_if_over(link) };
        if found.down.is_empty() {
            if found.down_ends && found.sending.is_none() {
                found.buyer = None;
                found.up_ends = true;
                self.schedule_up(link);
                self.link_lost(buyer);
                self.forget_if_over(link);
            }
            return;
        }
        let len = piece(found.down.len(), &mut self.random);
        let bytes: Vec<u8> = found.down.drain(..len).collect();
        self.schedule_down(link);
        self.buyer_received(buyer, &bytes);
    }

    /// The server sends.
    pub fn server_sends(&mut self, node: usize, slot: u32, buffer: Vec<u8>) {
        let link = self.slots[node][&slot];
        let found = self.links.get_mut(&link).expect("an open connection has a link");
        found.sending = Some(buffer);
        let slowness = if self.are_faults_on { found.slowness } else { Duration::from_micros(20) };
        self.schedule(slowness, Event::Sent(link));
    }

    /// The server's send ends.
    pub fn sent(&mut self, link: u64) {
        let Some(found) = self.links.get_mut(&link) else { return };
        let Some(buffer) = found.sending.take() else { return };
        let slot = found.slot.expect("the slot is kept while a send is in flight");
        let is_taken = !found.is_cut && found.buyer.is_some();
        if is_taken {
            found.down.extend(&buffer);
        }
        let node = found.node;
        self.nodes[node].arrivals.push_back(Arrival::Sent(slot, buffer, is_taken));
        self.wake(node);
        self.schedule_down(link);
    }

    /// The server reads a connection again.
    pub fn resumed(&mut self, node: usize, slot: u32) {
        let link = self.slots[node][&slot];
        self.schedule_up(link);
    }

    /// The server sends nothing more on a connection.
    pub fn finished(&mut self, node: usize, slot: u32) {
        let link = self.slots[node][&slot];
        self.links.get_mut(&link).expect("an open connection has a link").down_ends = true;
        self.schedule_down(link);
    }

    /// The server closed a connection.
    pub fn closed(&mut self, node: usize, slot: u32) {
        let link = self.slots[node].remove(&slot).expect("an open connection has a link");
        let found = self.links.get_mut(&link).expect("its link is there");
        (found.slot, found.down_ends) = (None, true);
        found.up.clear();
        self.schedule_down(link);
    }

    /// The server is gone: every connection ends, and answers on their way arrive in part.
    pub fn cut_all(&mut self) {
        let links: Vec<u64> = self.links.keys().copied().collect();
        for link in links {
            let found = self.links.get_mut(&link).expect("it is listed");
            found.slot = None;
            self.cut(link);
            self.links.get_mut(&link).expect("it is listed").sending = None;
            // A buyer who waited for the end of that send is told now.
            self.schedule_down(link);
        }
        self.slots.iter_mut().for_each(std::collections::BTreeMap::clear);
    }

    fn forget_if_over(&mut self, link: u64) {
        if self.links.get(&link).is_some_and(|found| found.buyer.is_none() && found.slot.is_none())
        {
            self.links.remove(&link);
        }
    }
}
