//! The stock of sales as families: bounded over all shards, the rest summed.

use super::text::Samples;
use super::{Numbers, ShardNumbers};
use crate::model::SaleId;
use crate::protocol::codes::WireCode;
use crate::server::metrics::{SALES_LISTED_MAX, SaleStock, StockTable, Units};

pub(super) fn sales(out: &mut Samples<'_>, numbers: &Numbers<'_>) {
    for sale in listed(numbers) {
        let id = sale.sale.to_string();
        for (state, units) in by_state(sale.units) {
            out.whole(&[("sale", &id), ("state", state)], units);
        }
    }
}

pub(super) fn states(out: &mut Samples<'_>, numbers: &Numbers<'_>) {
    for sale in listed(numbers) {
        out.whole(&[("sale", &sale.sale.to_string()), ("state", sale.state.name())], 1);
    }
}

pub(super) fn holds(out: &mut Samples<'_>, numbers: &Numbers<'_>) {
    for sale in listed(numbers) {
        out.whole(&[("sale", &sale.sale.to_string())], sale.holds);
    }
}

pub(super) fn items(out: &mut Samples<'_>, numbers: &Numbers<'_>) {
    for own in numbers.shards {
        let Some(stock) = own.stock else { continue };
        for item in stock.items.iter().filter(|item| is_listed(numbers, own, item.sale)) {
            let (sale, id) = (item.sale.to_string(), item.item.to_string());
            for (state, units) in by_state(item.units) {
                out.whole(&[("sale", &sale), ("item", &id), ("state", state)], units);
            }
        }
    }
}

pub(super) fn sales_omitted(out: &mut Samples<'_>, numbers: &Numbers<'_>) {
    let unlisted = tables(numbers).map(|stock| stock.sales.len() as u64).sum::<u64>()
        - listed(numbers).count() as u64;
    let omitted: u64 = tables(numbers).map(|stock| stock.sales_omitted).sum();
    out.whole(&[], unlisted + omitted);
}

pub(super) fn items_omitted(out: &mut Samples<'_>, numbers: &Numbers<'_>) {
    let omitted: u64 = tables(numbers).map(|stock| stock.items_omitted).sum();
    out.whole(&[], omitted + unlisted_items(numbers).0);
}

pub(super) fn units_omitted(out: &mut Samples<'_>, numbers: &Numbers<'_>) {
    let mut units = unlisted_items(numbers).1;
    tables(numbers).for_each(|stock| units.add(stock.units_omitted));
    for (state, units) in by_state(units) {
        out.whole(&[("state", state)], units);
    }
}

fn by_state(units: Units) -> [(&'static str, u64); 3] {
    [("available", units.available), ("held", units.held), ("sold", units.sold)]
}

fn tables<'a>(numbers: &Numbers<'a>) -> impl Iterator<Item = &'a StockTable> {
    numbers.shards.iter().filter_map(|own| own.stock)
}

/// How many sales of each shard are listed: an equal share of what may be in all.
fn share(numbers: &Numbers<'_>) -> usize {
    (SALES_LISTED_MAX / numbers.shards.len().max(1)).max(1)
}

fn listed<'a>(numbers: &Numbers<'a>) -> impl Iterator<Item = &'a SaleStock> {
    let share = share(numbers);
    tables(numbers).flat_map(move |stock| stock.sales.iter().take(share))
}

fn is_listed(numbers: &Numbers<'_>, own: &ShardNumbers<'_>, sale: SaleId) -> bool {
    let sales = own.stock.map_or(&[][..], |stock| &stock.sales);
    sales.iter().take(share(numbers)).any(|listed| listed.sale == sale)
}

/// The items that a shard listed and that do not fit the list of all shards.
fn unlisted_items(numbers: &Numbers<'_>) -> (u64, Units) {
    let (mut count, mut units) = (0, Units::default());
    for own in numbers.shards {
        let items = own.stock.map_or(&[][..], |stock| &stock.items);
        for item in items.iter().filter(|item| !is_listed(numbers, own, item.sale)) {
            count += 1;
            units.add(item.units);
        }
    }
    (count, units)
}
