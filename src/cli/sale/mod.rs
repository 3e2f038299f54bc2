//! `boxoffice sale`: sales of a running server, by its administration.

mod define;
mod number;
mod show;

use std::fmt::Write;

use clap::Subcommand;
use serde::Serialize;

use self::define::{ItemChange, SaleChange};
use self::number::whole;
use self::show::{Orders, Sale, Sales};
use super::admin::{Admin, AdminArgs};
use super::{Failed, print, print_line};
use crate::client::RequestIds;
use crate::control::admin::view::{
    AccountOrdersShown, Changed, RestockBody, SaleShown, SalesShown,
};
use crate::model::UuidText;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    server: AdminArgs,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Create a sale, or change its terms before it opens. What is not named stays as it is.
    Define {
        /// The sale's id.
        #[arg(value_parser = whole::<u64>)]
        sale: u64,
        #[command(flatten)]
        change: SaleChange,
    },
    /// Create an item of a sale, or change its terms before the sale opens. What is not named
    /// stays as it is; a new item takes --capacity and --price.
    Item {
        /// The sale's id.
        #[arg(value_parser = whole::<u64>)]
        sale: u64,
        /// The item's id.
        #[arg(value_parser = whole::<u32>)]
        item: u32,
        #[command(flatten)]
        change: ItemChange,
    },
    /// Add units to an item, or take available ones away (a negative number).
    Restock {
        /// The sale's id.
        #[arg(value_parser = whole::<u64>)]
        sale: u64,
        /// The item's id.
        #[arg(value_parser = whole::<u32>)]
        item: u32,
        /// How many units more.
        #[arg(allow_negative_numbers = true, value_parser = whole::<i64>)]
        by: i64,
        /// An id of this very restock: repeated under the same id, it is made once.
        #[arg(long, value_name = "TEXT", value_parser = parse_request_id)]
        request_id: Option<String>,
    },
    /// Open a sale that is scheduled or paused.
    Open {
        /// The sale's id.
        #[arg(value_parser = whole::<u64>)]
        sale: u64,
    },
    /// Refuse new holds for a while.
    Pause {
        /// The sale's id.
        #[arg(value_parser = whole::<u64>)]
        sale: u64,
    },
    /// Refuse new holds for good.
    Close {
        /// The sale's id.
        #[arg(value_parser = whole::<u64>)]
        sale: u64,
    },
    /// Forget the orders and accounts of a closed sale, to free their memory. Its totals stay.
    Archive {
        /// The sale's id.
        #[arg(value_parser = whole::<u64>)]
        sale: u64,
    },
    /// Show a sale and its items.
    Show {
        /// The sale's id.
        #[arg(value_parser = whole::<u64>)]
        sale: u64,
    },
    /// List all sales.
    List,
    /// List the orders of an account in a sale.
    Orders {
        /// The sale's id.
        #[arg(value_parser = whole::<u64>)]
        sale: u64,
        /// The account: a UUID, or the text that stands for it in HTTP.
        #[arg(long, value_name = "TEXT")]
        account: String,
    },
}

/// A header's value, and an id as HTTP takes it.
fn parse_request_id(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    let is_id = is_plain && (1..=64).contains(&text.len());
    is_id.then(|| text.to_owned()).ok_or_else(|| "an id has 1 to 64 plain characters".to_owned())
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    let (office, json) = (args.server.office()?, args.json);
    match &args.what {
        What::Define { sale, change } => define::sale(&office, *sale, change, json),
        What::Item { sale, item, change } => define::item(&office, (*sale, *item), change, json),
        What::Restock { sale, item, by, request_id } => {
            restock(&office, (*sale, *item, *by), request_id.as_deref(), json)
        }
        What::Open { sale } => turn(&office, *sale, "open", "open", json),
        What::Pause { sale } => turn(&office, *sale, "pause", "paused", json),
        What::Close { sale } => turn(&office, *sale, "close", "closed", json),
        What::Archive { sale } => turn(&office, *sale, "archive", "archived", json),
        What::Show { sale } => {
            let shown = office.get::<SaleShown>(&format!("/v1/sales/{sale}"))?;
            print(&Sale(shown), json)
        }
        What::List => list(&office, json),
        What::Orders { sale, account } => orders(&office, *sale, account, json),
    }
}

/// Prints what a change did: as the server says it, or in a sentence.
fn tell(changed: &Changed, sentence: &str, json: bool) -> Result<(), Failed> {
    if json { print_json(changed) } else { print_line(sentence) }
}

fn print_json(facts: &impl Serialize) -> Result<(), Failed> {
    print_line(&serde_json::to_string_pretty(facts).expect("facts are plain data"))
}

fn restock(
    office: &Admin,
    (sale, item, by): (u64, u32, i64),
    request_id: Option<&str>,
    json: bool,
) -> Result<(), Failed> {
    let fresh = || UuidText::new(RequestIds::new().next_id().0).to_string();
    let id = request_id.map_or_else(fresh, str::to_owned);
    let path = format!("/v1/sales/{sale}/items/{item}/restock");
    let changed: Changed = office.post(&path, Some(&id), Some(&RestockBody { by }))?;
    let sentence = match changed.done[..] {
        [] => format!("item {item} of sale {sale} had {by:+} units already"),
        _ => format!("item {item} of sale {sale} has {by:+} units"),
    };
    tell(&changed, &sentence, json)
}

fn turn(office: &Admin, sale: u64, name: &str, state: &str, json: bool) -> Result<(), Failed> {
    let changed = office.post(&format!("/v1/sales/{sale}/{name}"), None, None::<&()>)?;
    tell(&changed, &format!("sale {sale} is {state}"), json)
}

fn list(office: &Admin, json: bool) -> Result<(), Failed> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let after_text = after.map_or(String::new(), |sale: u64| format!("?after={sale}"));
        let page: SalesShown = office.get(&format!("/v1/sales{after_text}"))?;
        all.extend(page.sales);
        after = page.next;
        if after.is_none() {
            return print(&Sales { sales: all }, json);
        }
    }
}

fn orders(office: &Admin, sale: u64, account: &str, json: bool) -> Result<(), Failed> {
    let (mut all, mut after) = (Vec::new(), None);
    let account = percent_encoded(account);
    loop {
        let after_text = after.map_or(String::new(), |order: u32| format!("&after={order}"));
        let path = format!("/v1/sales/{sale}/orders?account={account}{after_text}");
        let page: AccountOrdersShown = office.get(&path)?;
        all.extend(page.orders);
        after = page.next;
        if after.is_none() {
            return print(&Orders { orders: all }, json);
        }
    }
}

/// A text as a query has it: every byte that could mean something else is escaped.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_account_fits_a_query() {
        assert_eq!(percent_encoded("a-Z.9_~"), "a-Z.9_~");
        assert_eq!(percent_encoded("a b&c=%+é\r\n"), "a%20b%26c%3D%25%2B%C3%A9%0D%0A");
    }

    #[test]
    fn a_request_id_breaks_no_header() {
        assert!(parse_request_id("delivery-7").is_ok());
        for text in ["", "a b", "a\r\nX: y", "é", &"x".repeat(65)] {
            assert!(parse_request_id(text).is_err(), "{text:?}");
        }
    }
}
