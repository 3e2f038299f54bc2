//! What a reader sees page by page: the sales of a shard, the orders of an account.
//!
//! A page is bounded in what it returns and in what it looks at, so that a listing never holds a
//! shard up; a page that ends early says where to go on. Nothing is stored for listings but the
//! order of the sales: an order has no link to the next one of its account, which would cost
//! memory for each order, so those are searched for.

use std::num::NonZeroU16;

use super::Engine;
use crate::model::outcome::{ORDERS_PAGE_MAX, SALES_PAGE_MAX};
use crate::model::{
    AccountId, Field, OrderNumber, OrderPage, OrderView, Refusal, SaleId, SalePage, SaleSummary,
    TimeMs,
};

/// Orders of a sale that one page looks at, at most.
pub const ORDERS_SCANNED_MAX: u32 = 4096;

/// Items whose counters one page of sales adds up, at most, unless the first sale has more.
const ITEMS_SUMMED_MAX: usize = 4096;

impl Engine {
    /// Some sales of this shard at `now`: those behind `after`, in the order of their ids.
    #[must_use]
    pub fn sales_page(&self, after: Option<SaleId>, limit: NonZeroU16, now: TimeMs) -> SalePage {
        let start = after.map_or(0, |after| self.by_id.partition_point(|&(id, _)| id <= after));
        let most = usize::from(limit.get().min(SALES_PAGE_MAX));
        let rest = &self.by_id[start..];
        let (mut sales, mut summed) = (Vec::new(), 0);
        for &(id, row) in rest.iter().take(most) {
            let sale = &self.sales[row as usize];
            summed += sale.items.as_slice().len();
            if summed > ITEMS_SUMMED_MAX && !sales.is_empty() {
                break;
            }
            sales.push(SaleSummary { sale: id, stats: sale.stats(sale.state(now)) });
        }
        let next = sales.last().filter(|_| sales.len() < rest.len()).map(|last| last.sale);
        SalePage { sales, next }
    }

    /// Some orders of an account as they stand at `now`: those behind `after`, in the order of
    /// their numbers. An account that is unknown has none.
    pub fn account_orders(
        &self,
        (sale, account): (SaleId, AccountId),
        after: OrderNumber,
        limit: NonZeroU16,
        now: TimeMs,
    ) -> Result<OrderPage, Refusal> {
        let sale = self.sale(sale)?;
        if account == AccountId::OPERATOR {
            return Err(Refusal::BadRequest { field: Field::Account });
        }
        let mut orders: Vec<OrderView> = Vec::new();
        let Some(account) = sale.accounts.find(self.hash.account(account), account) else {
            return Ok(OrderPage { orders, next: None });
        };
        let most = usize::from(limit.get().min(ORDERS_PAGE_MAX));
        let last = sale.orders.len();
        // A row's number is that of the order before it, so the search starts at row `after`.
        let mut row = after.0.min(last);
        let end = row.saturating_add(ORDERS_SCANNED_MAX).min(last);
        while row < end && orders.len() < most {
            let order = sale.orders.at(row);
            row += 1;
            if order.account() == account {
                orders.push(self.order_ref(sale, OrderNumber(row), order, now).into());
            }
        }
        Ok(OrderPage { orders, next: (row < last).then_some(OrderNumber(row)) })
    }
}
