//! `boxoffice sale`: sales of a running server, by the binary protocol.

use std::fmt;
use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;

use super::exit::ExitCode;
use super::{Failed, print, print_line};
use crate::client::{Cause, Client, ClientError, Options, RequestIds};
use crate::model::sale::HOLD_TTL_DEFAULT;
use crate::model::{
    DurationMs, ItemCounts, ItemId, ItemTerms, Price, Quantity, SaleId, SaleStats, SaleTerms,
    TimeMs,
};
use crate::protocol::codes::WireCode;
use crate::server::config::BINARY_DEFAULT;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    server: Server,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Args)]
struct Server {
    /// Where the server speaks the binary protocol.
    #[arg(long, value_name = "ADDR", global = true, default_value_t = BINARY_DEFAULT.to_string())]
    addr: String,
    /// A file that holds an API key with the scope `admin`.
    #[arg(long, value_name = "FILE", global = true)]
    key_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Create a sale, or change its terms before it opens.
    Define {
        /// The sale's id.
        sale: u64,
        /// When it opens by itself, in milliseconds since the Unix epoch.
        #[arg(long, value_name = "MS")]
        opens_at: Option<u64>,
        /// When it closes by itself, in milliseconds since the Unix epoch.
        #[arg(long, value_name = "MS")]
        closes_at: Option<u64>,
        /// How many seconds a hold lives.
        #[arg(long, value_name = "S", default_value_t = HOLD_TTL_DEFAULT.0 / 1000)]
        hold_ttl: u32,
        /// The most units of one account, over all items.
        #[arg(long, value_name = "N")]
        account_limit: Option<u32>,
    },
    /// Create an item of a sale, or change its terms before the sale opens.
    Item {
        /// The sale's id.
        sale: u64,
        /// The item's id.
        item: u32,
        /// Units for sale.
        #[arg(long, value_name = "N")]
        capacity: u32,
        /// The price of one unit, in the minor unit of the currency.
        #[arg(long, value_name = "N")]
        price: u64,
        /// The most units of this item for one account.
        #[arg(long, value_name = "N")]
        account_limit: Option<u32>,
    },
    /// Add units to an item, or take available ones away (a negative number).
    Restock {
        /// The sale's id.
        sale: u64,
        /// The item's id.
        item: u32,
        /// How many units more.
        #[arg(allow_negative_numbers = true)]
        by: i64,
    },
    /// Open a sale that is scheduled or paused.
    Open {
        /// The sale's id.
        sale: u64,
    },
    /// Refuse new holds for a while.
    Pause {
        /// The sale's id.
        sale: u64,
    },
    /// Refuse new holds for good.
    Close {
        /// The sale's id.
        sale: u64,
    },
    /// Show a sale and its items.
    Show {
        /// The sale's id.
        sale: u64,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    let mut client = connect(&args.server)?;
    let done = match args.what {
        What::Define { sale, opens_at, closes_at, hold_ttl, account_limit } => {
            let terms = SaleTerms {
                opens_at: opens_at.map(TimeMs),
                closes_at: closes_at.map(TimeMs),
                hold_ttl: DurationMs(hold_ttl.saturating_mul(1000)),
                account_limit: account_limit.map(Quantity),
            };
            client.define_sale(SaleId(sale), terms).map(|()| format!("sale {sale} is defined"))
        }
        What::Item { sale, item, capacity, price, account_limit } => {
            let terms = ItemTerms {
                capacity: Quantity(capacity),
                price: Price(price),
                account_limit: account_limit.map(Quantity),
            };
            let defined = client.define_item(SaleId(sale), ItemId(item), terms);
            defined.map(|()| format!("item {item} of sale {sale} has {capacity} units"))
        }
        What::Restock { sale, item, by } => {
            let request = RequestIds::new().next_id();
            let restocked = client.restock(SaleId(sale), request, ItemId(item), by);
            restocked.map(|()| format!("item {item} of sale {sale} has {by:+} units"))
        }
        What::Open { sale } => {
            client.open_sale(SaleId(sale)).map(|()| format!("sale {sale} is open"))
        }
        What::Pause { sale } => {
            client.pause_sale(SaleId(sale)).map(|()| format!("sale {sale} is paused"))
        }
        What::Close { sale } => {
            client.close_sale(SaleId(sale)).map(|()| format!("sale {sale} is closed"))
        }
        What::Show { sale, json } => return show(&mut client, SaleId(sale), json),
    };
    print_line(&done.map_err(|error| refused(&error))?)
}

fn connect(server: &Server) -> Result<Client, Failed> {
    let key = match &server.key_file {
        None => String::new(),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                let path = path.display();
                let message = format!("{path}: cannot read the key: {error}");
                Failed::new(ExitCode::Configuration, message)
            })?;
            text.trim().to_owned()
        }
    };
    let options = Options { key, name: "boxoffice sale".to_owned(), ..Options::default() };
    let addr = &server.addr;
    Client::connect(addr.as_str(), options).map_err(|error| {
        let message = match &error {
            ClientError::Definite(Cause::HelloRefused(_)) => {
                format!("{addr}: {error}; name a file with a key of this server by --key-file")
            }
            _ => format!("no server answers at {addr}: {error}"),
        };
        Failed::new(ExitCode::Failure, message)
    })
}

fn show(client: &mut Client, sale: SaleId, json: bool) -> Result<(), Failed> {
    let stats = client.stats(sale).map_err(|error| refused(&error))?;
    let items = client.availability(sale).map_err(|error| refused(&error))?;
    print(&Shown::new(sale, &stats, &items), json)
}

fn refused(error: &ClientError) -> Failed {
    Failed::new(ExitCode::Failure, error)
}

/// A sale as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    sale: u64,
    state: &'static str,
    opens_at: Option<u64>,
    closes_at: Option<u64>,
    hold_ttl_ms: u32,
    account_limit: Option<u32>,
    accounts: u32,
    orders: ShownOrders,
    items: Vec<ShownItem>,
}

#[derive(Debug, Serialize)]
struct ShownOrders {
    made: u32,
    held: u32,
    confirmed: u32,
    released: u32,
    expired: u32,
    cancelled: u32,
}

#[derive(Debug, Serialize)]
struct ShownItem {
    item: u32,
    price: u64,
    account_limit: Option<u32>,
    capacity: u32,
    available: u32,
    held: u32,
    sold: u32,
}

impl Shown {
    fn new(sale: SaleId, stats: &SaleStats, items: &[ItemCounts]) -> Self {
        let items = items.iter().map(|counts| ShownItem {
            item: counts.item.0,
            price: counts.price.0,
            account_limit: counts.account_limit.map(|limit| limit.0),
            capacity: counts.capacity.0,
            available: counts.available.0,
            held: counts.held.0,
            sold: counts.sold.0,
        });
        Self {
            sale: sale.0,
            state: stats.state.name(),
            opens_at: stats.terms.opens_at.map(|time| time.0),
            closes_at: stats.terms.closes_at.map(|time| time.0),
            hold_ttl_ms: stats.terms.hold_ttl.0,
            account_limit: stats.terms.account_limit.map(|limit| limit.0),
            accounts: stats.accounts,
            orders: ShownOrders {
                made: stats.orders,
                held: stats.orders_held,
                confirmed: stats.orders_confirmed,
                released: stats.orders_released,
                expired: stats.orders_expired,
                cancelled: stats.orders_cancelled,
            },
            items: items.collect(),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = |limit: Option<u32>| limit.map_or("none".to_owned(), |limit| limit.to_string());
        writeln!(f, "sale {}: {}", self.sale, self.state)?;
        for (what, time) in [("opens", self.opens_at), ("closes", self.closes_at)] {
            if let Some(time) = time {
                writeln!(f, "  {what} at {time} ms since the Unix epoch")?;
            }
        }
        writeln!(f, "  holds live {} s", f64::from(self.hold_ttl_ms) / 1000.0)?;
        writeln!(f, "  limit per account: {}", limit(self.account_limit))?;
        let orders = &self.orders;
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
            self.accounts
        )?;
        let columns = ["item", "price", "limit", "capacity", "available", "held", "sold"];
        columns.iter().try_for_each(|column| write!(f, "{column:>11}"))?;
        for item in &self.items {
            write!(f, "\n{:>11}{:>11}{:>11}", item.item, item.price, limit(item.account_limit))?;
            for count in [item.capacity, item.available, item.held, item.sold] {
                write!(f, "{count:>11}")?;
            }
        }
        Ok(())
    }
}
