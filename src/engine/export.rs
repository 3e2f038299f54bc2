//! The whole state as the parts of a snapshot: rows that know no index.
//!
//! Sales come in the order in which the log defined them, and so do the rows of a sale. Engines in
//! the same state therefore say the same parts, whatever their seeds, and whether they applied
//! every record or were imported on the way.

use std::iter;

use super::Engine;
use super::accounts::TallyKey;
use super::orders::{OrderRow, Orders};
use super::requests::Effect;
use super::sale::Sale;
use super::wheel::Wheel;
use crate::model::lines::LINES_MAX;
use crate::model::snapshot::{
    self, AccountRow, AccountsPart, ItemRow, LINES_PER_PART_MAX, LastTotals, ORDERS_PER_PART_MAX,
    OrdersPart, Part, ROWS_PER_PART_MAX, RequestRow, RequestsPart, SalePart, TalliesPart, TallyOf,
    TallyRow,
};
use crate::model::{Line, OrderState, Quantity, SaleState};

impl Engine {
    /// Everything that the engine knows, in parts of bounded size. [`super::Importer`] takes them
    /// in this order.
    pub fn export(&self) -> impl Iterator<Item = Part> {
        self.sales.iter().flat_map(|sale| {
            iter::once(Part::Sale(sale_part(sale)))
                .chain(accounts(sale).map(Part::Accounts))
                .chain(tallies(sale).map(Part::Tallies))
                .chain(orders(sale, &self.wheel).map(Part::Orders))
                .chain(requests(sale).map(Part::Requests))
        })
    }
}

fn sale_part(sale: &Sale) -> SalePart {
    let item = |item: &super::stock::Item| {
        let counts = item.counts();
        ItemRow {
            item: item.id,
            terms: item.terms(),
            available: counts.available,
            held: counts.held,
            sold: counts.sold,
        }
    };
    let last = sale.last_stats.as_ref().map(|last| LastTotals {
        accounts: last.accounts,
        orders: last.orders,
        confirmed: last.orders_confirmed,
        released: last.orders_released,
        expired: last.orders_expired,
        cancelled: last.orders_cancelled,
    });
    debug_assert!(last.is_some() == (sale.logged_state == SaleState::Archived));
    SalePart {
        sale: sale.id,
        terms: sale.terms,
        state: sale.logged_state,
        items: sale.items.as_slice().iter().map(item).collect(),
        accounts: sale.accounts.len(),
        tallies: all_tallies(sale).count() as u32,
        orders: sale.orders.len(),
        requests: sale.requests.len(),
        last,
    }
}

fn accounts(sale: &Sale) -> impl Iterator<Item = AccountsPart> {
    let rows = (0..sale.accounts.len()).map(|account| AccountRow {
        account: sale.accounts.id(account),
        units: Quantity(sale.accounts.units(account)),
    });
    chunks(rows).map(|rows| AccountsPart { sale: sale.id, rows })
}

fn tallies(sale: &Sale) -> impl Iterator<Item = TalliesPart> {
    chunks(all_tallies(sale)).map(|rows| TalliesPart { sale: sale.id, rows })
}

/// The tallies of all accounts, in an order that does not tell how they came about.
fn all_tallies(sale: &Sale) -> impl Iterator<Item = TallyRow> {
    (0..sale.accounts.len()).flat_map(|account| {
        let row = |(key, count)| TallyRow { account, of: tally_of(sale, key), count };
        let mut rows: Vec<_> = sale.accounts.tallies(account).map(row).collect();
        rows.sort_unstable_by_key(|row| row.of);
        rows
    })
}

fn tally_of(sale: &Sale, key: TallyKey) -> TallyOf {
    key.as_item().map_or(TallyOf::Fences, |item| TallyOf::Item(sale.items.at(item).id))
}

fn orders<'a>(sale: &'a Sale, wheel: &'a Wheel) -> impl Iterator<Item = OrdersPart> {
    let mut next = 0;
    iter::from_fn(move || {
        let mut part = OrdersPart {
            sale: sale.id,
            rows: Vec::new(),
            lines: Vec::new(),
            deadlines: Vec::new(),
            extensions: Vec::new(),
        };
        while next < sale.orders.len()
            && part.rows.len() < ORDERS_PER_PART_MAX
            && part.lines.len() + LINES_MAX <= LINES_PER_PART_MAX
        {
            push_order(sale, sale.orders.at(next), wheel, &mut part);
            next += 1;
        }
        (!part.rows.is_empty()).then_some(part)
    })
}

fn push_order(sale: &Sale, order: &OrderRow, wheel: &Wheel, part: &mut OrdersPart) {
    let lines = sale.orders.lines(order);
    part.rows.push(snapshot::OrderRow {
        request: order.request(),
        digest: order.digest(),
        account: order.account(),
        state: order.state(),
        is_bought: order.is_bought(),
        is_extended: order.is_extended(),
        lines: lines.len() as u8,
    });
    part.lines.extend(
        lines.map(|line| Line {
            item: sale.items.at(line.item).id,
            quantity: Quantity(line.quantity),
        }),
    );
    if !order.is_bought() {
        part.deadlines.push(sale.orders.first_deadline(order, wheel));
    }
    if let Some(extension) = Orders::extension_row(order, wheel) {
        part.extensions.push(sale.orders.extension(extension).1);
    }
    debug_assert!(order.state() != OrderState::Held || !order.is_bought());
}

fn requests(sale: &Sale) -> impl Iterator<Item = RequestsPart> {
    let rows = (0..sale.requests.len()).map(|row| {
        let (request, digest, effect) = sale.requests.at(row);
        let effect = match effect {
            Effect::Confirmed(order) => snapshot::Effect::Confirmed(order),
            Effect::Released(order) => snapshot::Effect::Released(order),
            Effect::Cancelled(order) => snapshot::Effect::Cancelled(order),
            Effect::Extended(row) => snapshot::Effect::Extended(sale.orders.extension(row).0),
            Effect::Restocked => snapshot::Effect::Restocked,
            Effect::Fenced(account) => snapshot::Effect::Fenced(account),
        };
        RequestRow { request, digest, effect }
    });
    chunks(rows).map(|rows| RequestsPart { sale: sale.id, rows })
}

/// The rows, as many at a time as one part has.
fn chunks<T>(mut rows: impl Iterator<Item = T>) -> impl Iterator<Item = Vec<T>> {
    iter::from_fn(move || {
        let chunk: Vec<T> = rows.by_ref().take(ROWS_PER_PART_MAX).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}
