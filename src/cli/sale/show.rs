//! Sales and orders as tables for people. JSON is the server's own form of them.

use std::fmt;

use serde::Serialize;

use crate::control::admin::view::{OrderShown, SaleShown};

/// Columns are this wide, and wider where what is in them is.
const COLUMN: usize = 11;

/// What lies between the longest cell of a wide column and the column before, at least.
const GAP: usize = 2;

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

/// Rows of cells, the names of the columns first, each column as wide as it needs to be.
struct Table(Vec<Vec<String>>);

impl Table {
    fn new(columns: &[&str]) -> Self {
        Self(vec![columns.iter().map(ToString::to_string).collect()])
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.0.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.len() + GAP).max().unwrap_or(0).max(COLUMN)
    }

    /// Its lines, without the end of each.
    fn lines(&self) -> impl Iterator<Item = String> {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(|column| self.width(column)).collect();
        self.0.iter().map(move |row| {
            let cells = row.iter().zip(&widths);
            let cells: Vec<_> = cells.map(|(cell, width)| format!("{cell:>width$}")).collect();
            cells.concat()
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().collect::<Vec<_>>().join("\n"))
    }
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
        let mut table =
            Table::new(&["item", "price", "limit", "capacity", "available", "held", "sold"]);
        for item in sale.items.iter().flatten() {
            let units = item.units;
            let units = [units.capacity, units.available, units.held, units.sold];
            let terms = [item.item.to_string(), item.price.to_string(), limit(item.account_limit)];
            table.0.push(terms.into_iter().chain(units.map(|count| count.to_string())).collect());
        }
        table.fmt(f)
    }
}

impl fmt::Display for Sales {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = ["sale", "state", "capacity", "available", "held", "sold", "orders"];
        let mut table = Table::new(&columns);
        for sale in &self.sales {
            let units = sale.units;
            let counts =
                [units.capacity, units.available, units.held, units.sold, sale.orders.made];
            let named = [sale.sale.to_string(), sale.state.clone()];
            table.0.push(named.into_iter().chain(counts.map(|count| count.to_string())).collect());
        }
        table.fmt(f)
    }
}

impl fmt::Display for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["order", "state"]);
        let orders = self.orders.iter();
        table.0.extend(orders.map(|order| vec![order.order.to_string(), order.state.clone()]));
        let units = self.orders.iter().map(|order| {
            let lines = order.lines.iter();
            let units = lines.map(|line| format!("{} of item {}", line.quantity, line.item));
            units.collect::<Vec<_>>().join(", ")
        });
        let units = std::iter::once("units".to_owned()).chain(units);
        let lines = table.lines().zip(units).map(|(line, units)| format!("{line}  {units}"));
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_widen_as_their_numbers_do() {
        let mut table = Table::new(&["sale", "state", "capacity"]);
        table.0.push(["7", "open", "1024000000001024"].map(str::to_owned).into());
        table.0.push(["18446744073709551615", "open", "5"].map(str::to_owned).into());
        let lines: Vec<String> = table.lines().collect();
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{lines:?}");
        for line in lines {
            assert_eq!(line.split_whitespace().count(), 3, "{line}");
        }
    }
}
