//! Which part may follow which, and what its rows may name.
//!
//! Both the writer and the reader ask here, so that whoever takes parts from a reader may rely on
//! it: rows are as many as their sale said, accounts and orders that are named are there, lists
//! fit the rows. What units mean is not judged here.

use super::SnapshotTotals;
use crate::model::lines::LINES_MAX;
use crate::model::sale::ITEMS_MAX;
use crate::model::snapshot::{
    AccountsPart, Effect, LINES_PER_PART_MAX, ORDERS_PER_PART_MAX, OrderRow, OrdersPart, Part,
    ROWS_PER_PART_MAX, RequestsPart, SalePart, TalliesPart, TallyOf,
};
use crate::model::{AccountId, ItemId, Line, OrderState, SaleId, SaleState};

/// The state of a sequence of parts.
#[derive(Debug)]
pub(super) struct PartOrder {
    sale: SaleId,
    items: Vec<ItemId>,
    /// Rows of the sale that are still to come: accounts, tallies, orders, requests.
    missing: [u32; 4],
    accounts: u32,
    orders: u32,
    totals: SnapshotTotals,
}

type Checked = Result<(), &'static str>;

impl PartOrder {
    pub(super) fn new() -> Self {
        Self {
            sale: SaleId(0),
            items: Vec::new(),
            missing: [0; 4],
            accounts: 0,
            orders: 0,
            totals: SnapshotTotals::default(),
        }
    }

    /// Whether `part` may come next.
    pub(super) fn check(&mut self, part: &Part) -> Checked {
        match part {
            Part::Sale(part) => return self.check_sale(part),
            _ if self.totals.sales == 0 || part.sale() != self.sale => {
                return Err("the rows belong to another sale");
            }
            Part::Accounts(part) => self.check_accounts(part)?,
            Part::Tallies(part) => self.check_tallies(part)?,
            Part::Orders(part) => self.check_orders(part)?,
            Part::Requests(part) => self.check_requests(part)?,
        }
        Ok(())
    }

    /// Whether the last part may be the last one.
    pub(super) fn finish(&self) -> Result<SnapshotTotals, &'static str> {
        if self.missing == [0; 4] { Ok(self.totals) } else { Err("rows of a sale are missing") }
    }

    fn check_sale(&mut self, part: &SalePart) -> Checked {
        self.finish()?;
        if part.items.len() > ITEMS_MAX || !part.items.is_sorted_by(|a, b| a.item < b.item) {
            return Err("the items are not those of a sale");
        }
        let rows = [part.accounts, part.tallies, part.orders, part.requests];
        let is_archived = part.state == SaleState::Archived;
        if is_archived != part.last.is_some() || is_archived && rows != [0; 4] {
            return Err("an archived sale has its totals and no rows");
        }
        self.sale = part.sale;
        self.items.clear();
        self.items.extend(part.items.iter().map(|row| row.item));
        self.missing = rows;
        (self.accounts, self.orders) = (part.accounts, part.orders);
        self.totals.sales += 1;
        self.totals.accounts += u64::from(part.accounts);
        self.totals.orders += u64::from(part.orders);
        self.totals.requests += u64::from(part.requests);
        Ok(())
    }

    /// Counts rows of one kind: `kind` is their place in `missing`.
    fn take(&mut self, kind: usize, rows: usize, rows_max: usize) -> Checked {
        if rows == 0 || rows > rows_max || self.missing[..kind].iter().any(|&rows| rows > 0) {
            return Err("the rows are too many, too few or out of turn");
        }
        let left = self.missing[kind].checked_sub(rows as u32);
        self.missing[kind] = left.ok_or("the sale has fewer rows")?;
        Ok(())
    }

    fn check_accounts(&mut self, part: &AccountsPart) -> Checked {
        self.take(0, part.rows.len(), ROWS_PER_PART_MAX)?;
        if part.rows.iter().any(|row| row.account == AccountId::OPERATOR) {
            return Err("an account is the operator's");
        }
        Ok(())
    }

    fn check_tallies(&mut self, part: &TalliesPart) -> Checked {
        self.take(1, part.rows.len(), ROWS_PER_PART_MAX)?;
        let is_known = |of| match of {
            TallyOf::Fences => true,
            TallyOf::Item(item) => self.has_item(item),
        };
        let fits = part.rows.iter().all(|row| row.account < self.accounts && is_known(row.of));
        let is_sorted = part.rows.is_sorted_by(|a, b| (a.account, a.of) < (b.account, b.of));
        if fits && is_sorted && part.rows.iter().all(|row| row.count > 0) {
            Ok(())
        } else {
            Err("a tally is not of the sale, or out of turn")
        }
    }

    fn check_orders(&mut self, part: &OrdersPart) -> Checked {
        self.take(2, part.rows.len(), ORDERS_PER_PART_MAX)?;
        let mut lines = part.lines.as_slice();
        let (mut deadlines, mut extensions) = (0, 0);
        for row in &part.rows {
            if row.account >= self.accounts || !is_order(row) {
                return Err("an order is not one of the sale");
            }
            let own = lines.split_off(..usize::from(row.lines)).ok_or("a line is missing")?;
            self.check_lines(own)?;
            deadlines += usize::from(!row.is_bought);
            extensions += usize::from(row.is_extended);
        }
        if !lines.is_empty()
            || part.lines.len() > LINES_PER_PART_MAX
            || deadlines != part.deadlines.len()
            || extensions != part.extensions.len()
        {
            return Err("the lists of orders do not fit the orders");
        }
        Ok(())
    }

    fn check_lines(&self, lines: &[Line]) -> Checked {
        let is_line = |(index, line): (usize, &Line)| {
            let is_repeated = lines[..index].iter().any(|earlier| earlier.item == line.item);
            line.quantity.0 > 0 && !is_repeated && self.has_item(line.item)
        };
        let is_some = (1..=LINES_MAX).contains(&lines.len());
        if is_some && lines.iter().enumerate().all(is_line) {
            Ok(())
        } else {
            Err("the lines are not those of an order")
        }
    }

    fn check_requests(&mut self, part: &RequestsPart) -> Checked {
        self.take(3, part.rows.len(), ROWS_PER_PART_MAX)?;
        let is_known = |effect| match effect {
            Effect::Confirmed(order)
            | Effect::Released(order)
            | Effect::Cancelled(order)
            | Effect::Extended(order) => (1..=self.orders).contains(&order.0),
            Effect::Restocked => true,
            Effect::Fenced(account) => account < self.accounts,
        };
        if part.rows.iter().all(|row| is_known(row.effect)) {
            Ok(())
        } else {
            Err("a request names an order or an account that is not there")
        }
    }

    fn has_item(&self, item: ItemId) -> bool {
        // Ids are mostly dense, so the place is mostly the distance from the first.
        let first = self.items.first().map_or(0, |first| first.0);
        let place = item.0.wrapping_sub(first) as usize;
        self.items.get(place) == Some(&item) || self.items.binary_search(&item).is_ok()
    }
}

/// Whether an order's state fits how it was made.
const fn is_order(row: &OrderRow) -> bool {
    match row.state {
        OrderState::Held | OrderState::Released | OrderState::Expired => !row.is_bought,
        OrderState::Confirmed | OrderState::Cancelled => !(row.is_bought && row.is_extended),
    }
}
