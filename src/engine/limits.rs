//! The purchase rules, one function each, and the bounds of what the engine stores.

use super::accounts::{AccountIndex, TallyKey};
use super::orders::{StockLine, StockLines};
use super::sale::Sale;
use crate::canary::{Canary, planted};
use crate::model::sale::HOLD_TTL_MIN;
use crate::model::{DurationMs, Field, Refusal, SaleState, TimeMs, Wanted};

/// The most request ids that one account may fence in one sale, since each one is stored.
pub const FENCES_PER_ACCOUNT_MAX: u32 = 16;

/// The most sales of one shard, archived ones included: their ids are remembered for ever.
pub const SALES_MAX: usize = 10_000;

/// New holds and purchases need an open sale.
pub(super) fn window(sale: &Sale, now: TimeMs) -> Result<(), Refusal> {
    match sale.state(now) {
        SaleState::Open => Ok(()),
        SaleState::Scheduled => Err(Refusal::NotOpen { opens_at: sale.terms.opens_at }),
        SaleState::Paused => Err(Refusal::Paused),
        SaleState::Closed | SaleState::Archived => Err(Refusal::Closed),
    }
}

/// Each line names an item of the sale, at the price that the buyer saw where they say one. The
/// lines go to `lines`, in place, since they are large to move.
#[inline]
pub(super) fn items_and_prices(
    sale: &Sale,
    wanted: &Wanted,
    lines: &mut StockLines,
) -> Result<(), Refusal> {
    for wanted in wanted.as_slice() {
        let item = sale.items.find(wanted.line.item);
        let item = item.ok_or(Refusal::BadRequest { field: Field::Item })?;
        if wanted.price.is_some_and(|price| price != sale.items.at(item).price) {
            return Err(Refusal::PriceMismatch);
        }
        lines.push(StockLine { item, quantity: wanted.line.quantity.0 });
    }
    Ok(())
}

/// A hold lives as long as the sale says, or shorter where the buyer asks so.
pub(super) fn hold_ttl(sale: &Sale, asked: Option<DurationMs>) -> Result<DurationMs, Refusal> {
    match asked {
        None => Ok(sale.terms.hold_ttl),
        Some(ttl) if (HOLD_TTL_MIN..=sale.terms.hold_ttl).contains(&ttl) => Ok(ttl),
        Some(_) => Err(Refusal::BadRequest { field: Field::Ttl }),
    }
}

/// What an account holds and owns over all items stays within the sale's limit.
pub(super) fn account_limit(
    sale: &Sale,
    account: Option<AccountIndex>,
    lines: &StockLines,
) -> Result<(), Refusal> {
    let Some(limit) = sale.terms.account_limit else { return Ok(()) };
    let has = account.map_or(0, |account| sale.accounts.units(account));
    let wanted: u64 = lines.iter().map(|line| u64::from(line.quantity)).sum();
    within(u64::from(has) + wanted, limit.0)
}

/// What an account holds and owns of each item stays within the item's own limit.
pub(super) fn item_limits(
    sale: &Sale,
    account: Option<AccountIndex>,
    lines: &StockLines,
) -> Result<(), Refusal> {
    for line in lines {
        let Some(limit) = sale.items.at(line.item).account_limit else { continue };
        let key = TallyKey::item(line.item);
        let has = account.map_or(0, |account| sale.accounts.tally(account, key));
        within(u64::from(has) + u64::from(line.quantity), limit.0)?;
    }
    Ok(())
}

/// Every line is available, or none is taken.
///
/// A line that asks for more than is available is `SOLD_OUT` where its item has nothing available
/// and nothing held. It is `NONE_NOW` where a smaller quantity or a later time may still succeed:
/// some units are available, though not enough, or some are in holds. Of several such lines, one
/// that is sold out decides, since no retry can help.
pub(super) fn stock(sale: &Sale, lines: &StockLines) -> Result<(), Refusal> {
    let mut verdict = Ok(());
    for line in lines {
        let item = sale.items.at(line.item);
        if line.quantity > item.available() && !planted(Canary::SkipStockCheck) {
            if item.available() == 0 && item.held() == 0 {
                return Err(Refusal::SoldOut);
            }
            verdict = Err(Refusal::NoneNow);
        }
    }
    verdict
}

/// An account fences only so many request ids.
pub(super) fn fences(sale: &Sale, account: Option<AccountIndex>) -> Result<(), Refusal> {
    let has = account.map_or(0, |account| sale.accounts.tally(account, TallyKey::FENCES));
    within(u64::from(has) + 1, FENCES_PER_ACCOUNT_MAX)
}

fn within(units: u64, limit: u32) -> Result<(), Refusal> {
    if units <= u64::from(limit) { Ok(()) } else { Err(Refusal::AccountLimit) }
}
