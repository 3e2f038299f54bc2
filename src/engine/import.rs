//! An engine from the parts of a snapshot.
//!
//! Rows go into the tables as they come, and no row is looked up: the indexes of a sale are built
//! at once when its rows are there. What the rows mean is verified on the way: the units of all
//! orders are those of the items' counters and of the accounts' tallies. What a reader of
//! snapshots has verified already (counts, places, distinct lines) is relied upon.

use super::Engine;
use super::accounts::{ACCOUNTS_MAX, TALLIES_MAX, TallyKey};
use super::hash::HashSeed;
use super::index::Entry;
use super::orders::{Hold, NewOrder, ORDERS_MAX, Orders, StockLine, StockLines};
use super::requests::{Effect, OPERATOR, REQUESTS_MAX, account_of};
use super::sale::Sale;
use super::wheel::DEADLINE_MAX;
use crate::model::snapshot::{
    self, AccountsPart, LastTotals, OrdersPart, Part, RequestsPart, SalePart, TalliesPart, TallyOf,
};
use crate::model::{
    AccountId, ItemId, OrderNumber, OrderState, SaleId, SaleState, SaleStats, TimeMs,
};

/// Index entries that memory is set aside for on a sale's word; for more it grows.
const ENTRIES_ASIDE_MAX: u32 = 1 << 24;

/// An engine in the making.
pub struct Importer {
    engine: Engine,
    sale: Option<Loading>,
}

/// The parts are not those of an engine's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sale {sale}: {what}")]
pub struct ImportError {
    /// The sale.
    pub sale: SaleId,
    /// What is wrong.
    pub what: &'static str,
}

/// A sale whose rows are coming.
struct Loading {
    row: usize,
    accounts: Vec<Entry>,
    requests: Vec<Entry>,
    /// By item: units in live holds, units in confirmed orders, and units of tallies.
    items: Vec<[u64; 3]>,
    /// Units of accounts.
    account_units: u64,
}

impl Importer {
    /// Begins with no sale; the index tables hash under this secret.
    #[must_use]
    pub fn new(seed: HashSeed) -> Self {
        Self { engine: Engine::new(seed), sale: None }
    }

    /// Takes the next part.
    ///
    /// # Panics
    ///
    /// Where parts come out of turn, which a reader of snapshots never does.
    pub fn part(&mut self, part: &Part) -> Result<(), ImportError> {
        if let Part::Sale(part) = part {
            self.end_sale()?;
            return self.begin_sale(part);
        }
        let loading = self.sale.as_mut().expect("rows come behind their sale");
        assert!(self.engine.sales[loading.row].id == part.sale(), "rows come behind their sale");
        let checked = match part {
            Part::Sale(_) => unreachable!("it was taken above"),
            Part::Accounts(part) => {
                loading.accounts(&mut self.engine, part);
                Ok(())
            }
            Part::Tallies(part) => loading.tallies(&mut self.engine, part),
            Part::Orders(part) => loading.orders(&mut self.engine, part),
            Part::Requests(part) => loading.requests(&mut self.engine, part),
        };
        checked.map_err(|what| ImportError { sale: part.sale(), what })
    }

    /// The engine, behind the last part.
    pub fn finish(mut self) -> Result<Engine, ImportError> {
        self.end_sale()?;
        Ok(self.engine)
    }

    fn begin_sale(&mut self, part: &SalePart) -> Result<(), ImportError> {
        let error = |what| ImportError { sale: part.sale, what };
        let engine = &mut self.engine;
        if engine.find_sale(part.sale).is_some() {
            return Err(error("it is there twice"));
        }
        let fits = part.accounts <= ACCOUNTS_MAX
            && part.tallies <= TALLIES_MAX
            && part.orders <= ORDERS_MAX
            && part.requests <= REQUESTS_MAX;
        if !fits {
            return Err(error("it has more rows than a sale may have"));
        }
        let mut sale = Sale::new(part.sale, part.terms);
        sale.logged_state = part.state;
        if !part.items.iter().all(|row| sale.items.load(row)) {
            return Err(error("the counters of an item do not add up to its capacity"));
        }
        sale.last_stats = part.last.map(|last| Box::new(last_stats(&sale, &last)));
        self.sale = (!sale.is_archived()).then(|| Loading {
            row: engine.sales.len(),
            accounts: Vec::with_capacity(part.accounts.min(ENTRIES_ASIDE_MAX) as usize),
            requests: Vec::with_capacity(part.orders.min(ENTRIES_ASIDE_MAX) as usize),
            items: vec![[0; 3]; part.items.len()],
            account_units: 0,
        });
        if sale.is_archived() {
            // As archiving leaves them.
            sale.accounts = super::accounts::Accounts::gone();
            sale.requests = super::requests::Requests::gone();
        }
        engine.add_sale(sale);
        Ok(())
    }

    /// Makes the rows of the last sale findable, once they are seen to add up.
    fn end_sale(&mut self) -> Result<(), ImportError> {
        let Some(loading) = self.sale.take() else { return Ok(()) };
        let sale = &mut self.engine.sales[loading.row];
        let error = |what| ImportError { sale: sale.id, what };
        let mut units = 0;
        for (item, [held, sold, counted]) in sale.items.as_slice().iter().zip(loading.items) {
            let counts = item.counts();
            if [held, sold] != [counts.held, counts.sold].map(|units| u64::from(units.0)) {
                return Err(error("the orders do not have the units that an item counts"));
            }
            let limited = if item.account_limit.is_some() { held + sold } else { 0 };
            if counted != limited {
                return Err(error("the accounts do not have the units that an item counts"));
            }
            units += held + sold;
        }
        if loading.account_units != if sale.terms.account_limit.is_some() { units } else { 0 } {
            return Err(error("the accounts do not have the units of the orders"));
        }
        sale.accounts.set_index(loading.accounts);
        sale.requests.set_index(loading.requests);
        Ok(())
    }
}

/// The totals of a sale that was archived with these.
fn last_stats(sale: &Sale, last: &LastTotals) -> SaleStats {
    SaleStats {
        orders: last.orders,
        orders_held: 0,
        orders_confirmed: last.confirmed,
        orders_released: last.released,
        orders_expired: last.expired,
        orders_cancelled: last.cancelled,
        accounts: last.accounts,
        ..sale.stats(SaleState::Archived)
    }
}

type Checked = Result<(), &'static str>;

impl Loading {
    fn accounts(&mut self, engine: &mut Engine, part: &AccountsPart) {
        let Engine { hash, sales, .. } = engine;
        let accounts = &mut sales[self.row].accounts;
        for row in &part.rows {
            let account = accounts.load(row.account, row.units.0);
            self.accounts.push(Entry::new(hash.account(row.account), account));
            self.account_units += u64::from(row.units.0);
        }
    }

    fn tallies(&mut self, engine: &mut Engine, part: &TalliesPart) -> Checked {
        let sale = &mut engine.sales[self.row];
        for row in &part.rows {
            let key = match row.of {
                TallyOf::Fences => TallyKey::FENCES,
                TallyOf::Item(id) => {
                    let item = sale.items.find(id).ok_or("a tally is of an unknown item")?;
                    self.items[usize::from(item)][2] += u64::from(row.count);
                    TallyKey::item(item)
                }
            };
            sale.accounts.add_tally(row.account, key, row.count);
        }
        Ok(())
    }

    fn orders(&mut self, engine: &mut Engine, part: &OrdersPart) -> Checked {
        let Engine { hash, sales, wheel, .. } = engine;
        let sale = &mut sales[self.row];
        let mut lines = part.lines.iter();
        let (mut deadlines, mut extensions) = (part.deadlines.iter(), part.extensions.iter());
        // Orders come in runs of one item, mostly.
        let mut last_item = (ItemId(0), sale.items.find(ItemId(0)));
        for row in &part.rows {
            let mut places = StockLines::new();
            for line in lines.by_ref().take(usize::from(row.lines)) {
                if line.item != last_item.0 {
                    last_item = (line.item, sale.items.find(line.item));
                }
                let item = last_item.1.ok_or("an order is of an unknown item")?;
                match row.state {
                    OrderState::Held => {
                        self.items[usize::from(item)][0] += u64::from(line.quantity.0);
                    }
                    OrderState::Confirmed => {
                        self.items[usize::from(item)][1] += u64::from(line.quantity.0);
                    }
                    OrderState::Released | OrderState::Expired | OrderState::Cancelled => {}
                }
                places.push(StockLine { item, quantity: line.quantity.0 });
            }
            let hold = hold(row, &mut deadlines, &mut extensions)?;
            let entry = sale.orders.len();
            let snapshot::OrderRow { account, request, digest, .. } = *row;
            let new = NewOrder { account, request, digest, lines: &places };
            sale.orders.load(&new, row.state, hold, self.row as u32, wheel);
            let hash = hash.request(sale.accounts.id(account), request);
            self.requests.push(Entry::new(hash, entry));
        }
        Ok(())
    }

    fn requests(&mut self, engine: &mut Engine, part: &RequestsPart) -> Checked {
        let Engine { hash, sales, wheel, .. } = engine;
        let sale = &mut sales[self.row];
        for row in &part.rows {
            let effect = match row.effect {
                snapshot::Effect::Confirmed(order) => Effect::Confirmed(order),
                snapshot::Effect::Released(order) => Effect::Released(order),
                snapshot::Effect::Cancelled(order) => Effect::Cancelled(order),
                snapshot::Effect::Extended(OrderNumber(order)) => {
                    let extension = Orders::extension_row(sale.orders.at(order - 1), wheel);
                    Effect::Extended(extension.ok_or("an order was not extended")?)
                }
                snapshot::Effect::Restocked => Effect::Restocked,
                snapshot::Effect::Fenced(account) => Effect::Fenced(account),
            };
            let account = match account_of(effect, &sale.orders) {
                OPERATOR => AccountId::OPERATOR,
                account => sale.accounts.id(account),
            };
            let entry = sale.requests.load(row.request, row.digest, effect);
            self.requests.push(Entry::new(hash.request(account, row.request), entry));
        }
        Ok(())
    }
}

/// The hold that an order began as, from the lists behind the rows.
#[inline]
fn hold<'a>(
    row: &snapshot::OrderRow,
    deadlines: &mut impl Iterator<Item = &'a TimeMs>,
    extensions: &mut impl Iterator<Item = &'a TimeMs>,
) -> Result<Option<Hold>, &'static str> {
    if row.is_bought {
        return Ok(None);
    }
    let made_with = *deadlines.next().ok_or("a hold has no deadline")?;
    let extended_to = if row.is_extended {
        Some(*extensions.next().ok_or("a hold has no deadline")?)
    } else {
        None
    };
    if made_with.0.max(extended_to.map_or(0, |time| time.0)) > DEADLINE_MAX {
        return Err("a deadline is out of range");
    }
    Ok(Some(Hold { made_with, extended_to }))
}
