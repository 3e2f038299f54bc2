//! The orders of a sale, in their numbers' order.
//!
//! A row has 40 bytes. It holds the request that made the order as well, so that an order bought
//! at once costs no other row for its idempotency. Prices are not stored: an item's terms cannot
//! change once its sale has orders.
//!
//! ```text
//! request id 16 | digest 8 | account 4 | quantity 4 | when 6 | tag 2
//! tag: item (10 bits) | state (3) | extended (1) | several lines (1) | bought (1)
//! ```
//!
//! - `quantity` is the quantity of the one line; with several lines, where they start in `lines`.
//! - `when` is the deadline that a hold was made with, since a repeated answer says it again; of
//!   an extended order, its row in `extensions`; zero of a bought order.
//! - While an order is held, `when` is the number of its timer, and the timer keeps `when`.

use super::accounts::AccountIndex;
use super::arena::Arena;
use super::stock::ItemRow;
use super::wheel::{Due, Wheel};
use crate::model::lines::LINES_MAX;
use crate::model::sale::ITEMS_MAX;
use crate::model::{BodyDigest, OrderNumber, OrderState, Refusal, RequestId, TimeMs};
use arrayvec::ArrayVec;

/// Orders that a sale has at most: their rows fit 31 bits.
pub(super) const ORDERS_MAX: u32 = (1 << 31) - 1;

/// Rows of lines that a sale has at most, less those of one more order.
const LINE_ROWS_MAX: u32 = u32::MAX - LINES_MAX as u32 - 1;

/// A line whose item is named by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StockLine {
    pub(super) item: ItemRow,
    pub(super) quantity: u32,
}

/// The lines of an order, as a value.
pub(super) type StockLines = ArrayVec<StockLine, LINES_MAX>;

const ITEM_MASK: u16 = (1 << 10) - 1;
const STATE_SHIFT: u32 = 10;
const STATE_MASK: u16 = 7 << STATE_SHIFT;
const EXTENDED: u16 = 1 << 13;
const SEVERAL_LINES: u16 = 1 << 14;
const BOUGHT: u16 = 1 << 15;
const _: () = assert!(ITEMS_MAX <= ITEM_MASK as usize + 1);

#[derive(Clone, Copy)]
pub(super) struct OrderRow {
    request: [u32; 4],
    digest: [u32; 2],
    account: AccountIndex,
    quantity: u32,
    when: [u16; 3],
    tag: u16,
}

const _: () = assert!(size_of::<OrderRow>() == 40);

impl OrderRow {
    pub(super) fn request(&self) -> RequestId {
        let words = self.request.map(u128::from);
        RequestId(words[0] | words[1] << 32 | words[2] << 64 | words[3] << 96)
    }

    pub(super) fn digest(&self) -> BodyDigest {
        BodyDigest(u64::from(self.digest[0]) | u64::from(self.digest[1]) << 32)
    }

    pub(super) const fn account(&self) -> AccountIndex {
        self.account
    }

    pub(super) const fn is_bought(&self) -> bool {
        self.tag & BOUGHT != 0
    }

    pub(super) const fn is_extended(&self) -> bool {
        self.tag & EXTENDED != 0
    }

    pub(super) const fn state(&self) -> OrderState {
        match (self.tag & STATE_MASK) >> STATE_SHIFT {
            0 => OrderState::Held,
            1 => OrderState::Confirmed,
            2 => OrderState::Released,
            3 => OrderState::Expired,
            _ => OrderState::Cancelled,
        }
    }

    fn set_state(&mut self, state: OrderState) {
        self.tag = (self.tag & !STATE_MASK) | (state_place(state) as u16) << STATE_SHIFT;
    }

    fn when(&self) -> u64 {
        let [low, middle, high] = self.when.map(u64::from);
        low | middle << 16 | high << 32
    }

    fn set_when(&mut self, when: u64) {
        self.when = [when as u16, (when >> 16) as u16, (when >> 32) as u16];
    }
}

/// The place of a state in the tag and among the totals.
const fn state_place(state: OrderState) -> usize {
    match state {
        OrderState::Held => 0,
        OrderState::Confirmed => 1,
        OrderState::Released => 2,
        OrderState::Expired => 3,
        OrderState::Cancelled => 4,
    }
}

/// One of several lines. The first row of a run is its header: the quantity counts the lines.
struct LineRow {
    quantity: u32,
    item: ItemRow,
}

/// An extended hold: the deadlines before and after.
struct Extension {
    order: OrderNumber,
    made_with: TimeMs,
    extended_to: TimeMs,
}

/// What a new order is made of.
pub(super) struct NewOrder<'a> {
    pub(super) account: AccountIndex,
    pub(super) request: RequestId,
    pub(super) digest: BodyDigest,
    pub(super) lines: &'a StockLines,
}

/// The hold that an order began as.
#[derive(Clone, Copy)]
pub(super) struct Hold {
    /// The deadline that it was made with.
    pub(super) made_with: TimeMs,
    /// The deadline that it was extended to.
    pub(super) extended_to: Option<TimeMs>,
}

/// See the module.
pub(super) struct Orders {
    rows: Arena<OrderRow>,
    lines: Arena<LineRow>,
    extensions: Arena<Extension>,
    /// How many orders are in each state.
    totals: [u32; 5],
}

impl Orders {
    pub(super) const fn new() -> Self {
        Self { rows: Arena::new(), lines: Arena::new(), extensions: Arena::new(), totals: [0; 5] }
    }

    /// Frees a chunk of forgotten orders; whether there was one.
    pub(super) fn free_chunk(&mut self) -> bool {
        self.rows.free_chunk() || self.lines.free_chunk() || self.extensions.free_chunk()
    }

    /// How many orders were made; also the last order number.
    pub(super) const fn len(&self) -> u32 {
        self.rows.len()
    }

    /// One more order can be stored.
    pub(super) fn check_room(&self) -> Result<(), Refusal> {
        let has_room = self.rows.len() < ORDERS_MAX && self.lines.len() < LINE_ROWS_MAX;
        if has_room { Ok(()) } else { Err(Refusal::Overloaded) }
    }

    /// The number of the next order.
    pub(super) const fn next_number(&self) -> OrderNumber {
        OrderNumber(self.rows.len() + 1)
    }

    /// How many orders are in this state.
    pub(super) const fn total(&self, state: OrderState) -> u32 {
        self.totals[state_place(state)]
    }

    /// The order of this number.
    #[inline]
    pub(super) fn find(&self, order: OrderNumber) -> Option<&OrderRow> {
        let row = order.0.checked_sub(1)?;
        (row < self.rows.len()).then(|| self.rows.at(row))
    }

    /// The order in this row, which must exist.
    #[inline]
    pub(super) fn at(&self, row: u32) -> &OrderRow {
        self.rows.at(row)
    }

    /// The order that a record names.
    #[inline]
    pub(super) fn row_of(&self, order: OrderNumber) -> u32 {
        let row = order.0.checked_sub(1).filter(|&row| row < self.rows.len());
        row.expect("a logged order exists")
    }

    /// Adds a held order and starts its timer.
    #[inline]
    pub(super) fn add_held(
        &mut self,
        new: &NewOrder<'_>,
        deadline: TimeMs,
        sale: u32,
        wheel: &mut Wheel,
    ) {
        let row = self.add(new, 0);
        let timer = wheel.start(deadline.0, deadline.0, Due { sale, order: row });
        self.rows.at_mut(row).set_when(timer.into());
    }

    /// Adds a confirmed order.
    #[inline]
    pub(super) fn add_bought(&mut self, new: &NewOrder<'_>) {
        let row = self.add(new, BOUGHT);
        self.rows.at_mut(row).set_state(OrderState::Confirmed);
        self.totals[state_place(OrderState::Held)] -= 1;
        self.totals[state_place(OrderState::Confirmed)] += 1;
    }

    /// Adds an order in any state, as a snapshot has it; without a hold it was bought at once.
    #[inline]
    pub(super) fn load(
        &mut self,
        new: &NewOrder<'_>,
        state: OrderState,
        hold: Option<Hold>,
        sale: u32,
        wheel: &mut Wheel,
    ) {
        let Some(Hold { made_with, extended_to }) = hold else {
            let row = self.add(new, BOUGHT);
            self.change_state(row, state);
            return;
        };
        let row = self.add(new, if extended_to.is_some() { EXTENDED } else { 0 });
        let when = extended_to.map_or(made_with.0, |extended_to| {
            let order = OrderNumber(row + 1);
            self.extensions.push(Extension { order, made_with, extended_to }).into()
        });
        let when = if state == OrderState::Held {
            let deadline = extended_to.unwrap_or(made_with);
            wheel.start(deadline.0, when, Due { sale, order: row }).into()
        } else {
            when
        };
        self.rows.at_mut(row).set_when(when);
        self.change_state(row, state);
    }

    #[inline]
    fn add(&mut self, new: &NewOrder<'_>, flags: u16) -> u32 {
        assert!(self.rows.len() < ORDERS_MAX, "a sale has at most {ORDERS_MAX} orders");
        let (quantity, tag) = match *new.lines.as_slice() {
            [line] => (line.quantity, flags | line.item),
            _ => (self.add_lines(new.lines), flags | SEVERAL_LINES),
        };
        let id = new.request.0;
        let digest = new.digest.0;
        self.totals[state_place(OrderState::Held)] += 1;
        self.rows.push(OrderRow {
            request: [id as u32, (id >> 32) as u32, (id >> 64) as u32, (id >> 96) as u32],
            digest: [digest as u32, (digest >> 32) as u32],
            account: new.account,
            quantity,
            when: [0; 3],
            tag,
        })
    }

    fn add_lines(&mut self, lines: &StockLines) -> u32 {
        let header = self.lines.push(LineRow { quantity: lines.len() as u32, item: 0 });
        for &StockLine { item, quantity } in lines {
            self.lines.push(LineRow { quantity, item });
        }
        header
    }

    /// The lines of an order.
    #[inline]
    pub(super) fn lines(&self, order: &OrderRow) -> impl ExactSizeIterator<Item = StockLine> + '_ {
        let is_single = order.tag & SEVERAL_LINES == 0;
        let (single, header) = (order.tag & ITEM_MASK, order.quantity);
        let count = if is_single { 1 } else { self.lines.at(header).quantity };
        (0..count).map(move |line| {
            if is_single {
                return StockLine { item: single, quantity: header };
            }
            let &LineRow { quantity, item } = self.lines.at(header + 1 + line);
            StockLine { item, quantity }
        })
    }

    /// Puts these lines, of items that the order has, in place of an order's lines.
    pub(super) fn set_lines(&mut self, row: u32, lines: &StockLines) {
        let order = self.rows.at_mut(row);
        if order.tag & SEVERAL_LINES == 0 {
            assert!(lines.len() == 1 && lines[0].item == order.tag & ITEM_MASK);
            order.quantity = lines[0].quantity;
            return;
        }
        let header = order.quantity;
        let had = self.lines.at(header).quantity;
        assert!(!lines.is_empty() && lines.len() as u32 <= had, "an order's lines only shrink");
        self.lines.at_mut(header).quantity = lines.len() as u32;
        for (&StockLine { item, quantity }, line) in lines.iter().zip(header + 1..) {
            *self.lines.at_mut(line) = LineRow { quantity, item };
        }
    }

    /// When the time of a held order is up.
    pub(super) fn deadline(order: &OrderRow, wheel: &Wheel) -> TimeMs {
        assert!(order.state() == OrderState::Held, "a held order has a timer");
        TimeMs(wheel.deadline(order.when() as u32))
    }

    /// The deadline that a hold was made with, whatever happened to it since.
    pub(super) fn first_deadline(&self, order: &OrderRow, wheel: &Wheel) -> TimeMs {
        let when = match order.state() {
            OrderState::Held => wheel.kept(order.when() as u32),
            _ => order.when(),
        };
        if order.is_extended() { self.extensions.at(when as u32).made_with } else { TimeMs(when) }
    }

    /// The row of an order's extension; `None` of one that was not extended.
    pub(super) fn extension_row(order: &OrderRow, wheel: &Wheel) -> Option<u32> {
        let when = match order.state() {
            OrderState::Held => wheel.kept(order.when() as u32),
            _ => order.when(),
        };
        order.is_extended().then_some(when as u32)
    }

    /// Extends a held order and returns the row of the extension.
    pub(super) fn extend(&mut self, row: u32, to: TimeMs, wheel: &mut Wheel) -> u32 {
        let order = self.rows.at_mut(row);
        assert!(order.state() == OrderState::Held && !order.is_extended(), "a hold extends once");
        let timer = order.when() as u32;
        let made_with = TimeMs(wheel.kept(timer));
        let number = OrderNumber(row + 1);
        let extension =
            self.extensions.push(Extension { order: number, made_with, extended_to: to });
        order.tag |= EXTENDED;
        wheel.restart(timer, to.0, extension.into());
        extension
    }

    /// An extension's order and new deadline.
    pub(super) fn extension(&self, extension: u32) -> (OrderNumber, TimeMs) {
        let &Extension { order, extended_to, .. } = self.extensions.at(extension);
        (order, extended_to)
    }

    /// Moves a held order to another state and stops its timer.
    pub(super) fn end_hold(&mut self, row: u32, state: OrderState, wheel: &mut Wheel) {
        let order = self.rows.at_mut(row);
        assert!(order.state() == OrderState::Held, "a hold ends once");
        order.set_when(wheel.stop(order.when() as u32));
        self.change_state(row, state);
    }

    /// Moves a confirmed order to cancelled.
    pub(super) fn cancel(&mut self, row: u32) {
        assert!(self.rows.at(row).state() == OrderState::Confirmed, "an order is cancelled once");
        self.change_state(row, OrderState::Cancelled);
    }

    fn change_state(&mut self, row: u32, state: OrderState) {
        let order = self.rows.at_mut(row);
        self.totals[state_place(order.state())] -= 1;
        self.totals[state_place(state)] += 1;
        order.set_state(state);
    }
}
