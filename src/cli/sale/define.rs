//! `boxoffice sale define` and `sale item`: terms of which only a part is named.
//!
//! The server takes terms whole. So what a sale or an item has already is read first, and what the
//! command line does not name is sent as it was: a repeated command resets nothing.

use super::number::{OrNone, price, whole, whole_or_none};
use super::tell;
use crate::cli::Failed;
use crate::cli::admin::Admin;
use crate::cli::exit::ExitCode;
use crate::control::admin::view::{Changed, Definition, ItemBody, ItemShown, SaleShown};
use crate::model::sale::HOLD_TTL_DEFAULT;

/// What is to be other in the terms of a sale.
#[derive(Debug, Default, clap::Args)]
pub(super) struct SaleChange {
    /// When it opens by itself, in milliseconds since the Unix epoch, or `none`.
    #[arg(long, value_name = "MS", value_parser = whole_or_none::<u64>)]
    opens_at: Option<OrNone<u64>>,
    /// When it closes by itself, in milliseconds since the Unix epoch, or `none`.
    #[arg(long, value_name = "MS", value_parser = whole_or_none::<u64>)]
    closes_at: Option<OrNone<u64>>,
    /// How many seconds a hold lives [default for a new sale: 600].
    #[arg(long, value_name = "S", value_parser = whole::<u32>)]
    hold_ttl: Option<u32>,
    /// The most units of one account, over all items, or `none`.
    #[arg(long, value_name = "N", value_parser = whole_or_none::<u32>)]
    account_limit: Option<OrNone<u32>>,
}

const _: () = assert!(HOLD_TTL_DEFAULT.0 == 600_000, "as the help says");

/// What is to be other in the terms of an item.
#[derive(Debug, Default, clap::Args)]
pub(super) struct ItemChange {
    /// Units for sale.
    #[arg(long, value_name = "N", value_parser = whole::<u32>)]
    capacity: Option<u32>,
    /// The price of one unit, in the minor unit of the currency.
    #[arg(long, value_name = "N", value_parser = price)]
    price: Option<u64>,
    /// The most units of this item for one account, or `none`.
    #[arg(long, value_name = "N", value_parser = whole_or_none::<u32>)]
    account_limit: Option<OrNone<u32>>,
}

/// Creates a sale, or changes its terms.
pub(super) fn sale(
    office: &Admin,
    sale: u64,
    change: &SaleChange,
    json: bool,
) -> Result<(), Failed> {
    let path = format!("/v1/sales/{sale}");
    let before: Option<SaleShown> = office.find(&path)?;
    let changed: Changed = office.put(&path, &change.of(before.as_ref()))?;
    let what = match (before, changed.done.is_empty()) {
        (_, true) => "was so already",
        (Some(_), false) => "is changed",
        (None, false) => "is defined",
    };
    tell(&changed, &format!("sale {sale} {what}"), json)
}

/// Creates an item of a sale, or changes its terms.
pub(super) fn item(
    office: &Admin,
    (sale, item): (u64, u32),
    change: &ItemChange,
    json: bool,
) -> Result<(), Failed> {
    let shown: SaleShown = office.get(&format!("/v1/sales/{sale}"))?;
    let before = shown.items.into_iter().flatten().find(|before| before.item == item);
    let wanted = change.of(before.as_ref()).ok_or_else(|| {
        let message = format!(
            "item {item} of sale {sale} is new: give it both --capacity and --price; see --help"
        );
        Failed::new(ExitCode::Usage, message)
    })?;
    let changed = office.put(&format!("/v1/sales/{sale}/items/{item}"), &wanted)?;
    let had = before.map(|before| before.units.capacity);
    let had = had.filter(|had| *had != u64::from(wanted.capacity));
    let had = had.map_or(String::new(), |had| format!(", and had {had} before"));
    let capacity = wanted.capacity;
    tell(&changed, &format!("item {item} of sale {sale} has {capacity} units{had}"), json)
}

impl SaleChange {
    /// The terms of a sale that has those of `before`.
    fn of(&self, before: Option<&SaleShown>) -> Definition {
        let hold_ttl_ms = self.hold_ttl.map(|seconds| seconds.saturating_mul(1000));
        Definition {
            opens_at_ms: changed(self.opens_at, before.and_then(|sale| sale.opens_at_ms)),
            closes_at_ms: changed(self.closes_at, before.and_then(|sale| sale.closes_at_ms)),
            hold_ttl_ms: hold_ttl_ms.or(before.map(|sale| sale.hold_ttl_ms)),
            account_limit: changed(self.account_limit, before.and_then(|sale| sale.account_limit)),
            ..Definition::default()
        }
    }
}

impl ItemChange {
    /// The terms of an item that has those of `before`; `None` where a new one lacks some.
    fn of(&self, before: Option<&ItemShown>) -> Option<ItemBody> {
        let capacity = before.and_then(|item| u32::try_from(item.units.capacity).ok());
        Some(ItemBody {
            capacity: self.capacity.or(capacity)?,
            price: self.price.or(before.map(|item| item.price))?,
            account_limit: changed(self.account_limit, before.and_then(|item| item.account_limit)),
        })
    }
}

fn changed<N>(named: Option<OrNone<N>>, before: Option<N>) -> Option<N> {
    named.map_or(before, |OrNone(named)| named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::admin::view::UnitsShown;

    #[test]
    fn only_what_is_named_changes() {
        let units = UnitsShown { capacity: 12, ..UnitsShown::default() };
        let before = ItemShown { item: 1, price: 4500, account_limit: Some(3), units };
        let same = ItemChange::default().of(Some(&before));
        assert_eq!(same, Some(ItemBody { capacity: 12, price: 4500, account_limit: Some(3) }));
        let change = ItemChange { account_limit: Some(OrNone(None)), ..ItemChange::default() };
        let without = change.of(Some(&before)).expect("nothing is missing");
        assert_eq!((without.account_limit, without.price), (None, 4500));
        assert_eq!(change.of(None), None, "a new item takes its capacity and its price");
    }

    #[test]
    fn a_new_sale_has_what_the_server_gives_it() {
        assert_eq!(SaleChange::default().of(None), Definition::default());
    }
}
