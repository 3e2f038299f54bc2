//! Sales and orders as tables for people. JSON is the server's own form of them.

use std::fmt;

use serde::Serialize;

use crate::control::admin::view::{OrderShown, SaleShown};

/// Columns are this wide, and ids may be wider.
const COLUMN: usize = 11;

/// A sale with its items.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Sale(pub SaleShown);

/// All sales.
#[derive(Debug, Serialize)]
pub(super) struct Sales {
    pub sales: Vec<SaleShown>,
}

/// Orders of an account.
#[derive(Debug, Serialize)]
pub(super) struct Orders {
    pub orders: Vec<OrderShown>,
}

fn limit(limit: Option<u32>) -> String {
    limit.map_or("none".to_owned(), |limit| limit.to_string())
}

fn row<T: fmt::Display>(f: &mut fmt::Formatter<'_>, cells: &[T]) -> fmt::Result {
    cells.iter().try_for_each(|cell| write!(f, "{cell:>COLUMN$}"))
}

impl fmt::Display for Sale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(sale) = self;
        writeln!(f, "sale {}: {}", sale.sale, sale.state)?;
        for (what, time) in [("opens", sale.opens_at_ms), ("closes", sale.closes_at_ms)] {
            if let Some(time) = time {
                writeln!(f, "  {what} at {time} ms since the Unix epoch")?;
            }
        }
        writeln!(f, "  holds live {} s", f64::from(sale.hold_ttl_ms) / 1000.0)?;
        writeln!(f, "  limit per account: {}", limit(sale.account_limit))?;
        let orders = &sale.orders;
        writeln!(
            f,
            "  orders: {} made, {} held, {} confirmed, {} released, {} expired, {} cancelled; \
             {} accounts",
            orders.made,
            orders.held,
            orders.confirmed,
            orders.released,
            orders.expired,
            orders.cancelled,
            sale.accounts
        )?;
        row(f, &["item", "price", "limit", "capacity", "available", "held", "sold"])?;
        for item in sale.items.iter().flatten() {
            let terms = [item.item.to_string(), item.price.to_string(), limit(item.account_limit)];
            writeln!(f)?;
            row(f, &terms)?;
            let units = item.units;
            row(f, &[units.capacity, units.available, units.held, units.sold])?;
        }
        Ok(())
    }
}

impl fmt::Display for Sales {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = ["sale", "state", "capacity", "available", "held", "sold", "orders"];
        row(f, &columns)?;
        for sale in &self.sales {
            writeln!(f)?;
            row(f, &[sale.sale.to_string(), sale.state.clone()])?;
            let units = sale.units;
            row(f, &[units.capacity, units.available, units.held, units.sold, sale.orders.made])?;
        }
        Ok(())
    }
}

impl fmt::Display for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        row(f, &["order", "state"])?;
        write!(f, "  units")?;
        for order in &self.orders {
            writeln!(f)?;
            row(f, &[order.order.to_string(), order.state.clone()])?;
            let lines = order.lines.iter();
            let units: Vec<String> =
                lines.map(|line| format!("{} of item {}", line.quantity, line.item)).collect();
            write!(f, "  {}", units.join(", "))?;
        }
        Ok(())
    }
}
