//! The generator's own sale: defined and opened over the wire like any other.

use std::net::SocketAddr;
use std::time::Duration;

use boxoffice::load::{
    Answered, Ask, Broken, Driver, DriverConfig, Load, Nanos, Planned, Script, Tag,
};
use boxoffice::model::{Command, ItemId, ItemTerms, Price, Quantity, Refusal, SaleId, SaleTerms};
use boxoffice::protocol::binary::Welcome;
use boxoffice::protocol::codes::WireCode;
use boxoffice::runtime::SystemClock;

use super::options::Options;
use super::random::Random;
use crate::Failure;

/// How long the server may take to greet.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// How long the server may take to answer all of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The price of a unit: any will do.
const PRICE: Price = Price(4_200);

/// A sale to ask about, and where.
#[derive(Clone, Debug)]
pub struct Venue {
    pub sale: SaleId,
    pub address: SocketAddr,
    pub welcome: Welcome,
}

/// Finds the server and the sale, and makes the sale where none is named.
pub fn prepare(options: &Options, key: &[u8]) -> Result<Venue, Failure> {
    let sale = options.sale().unwrap_or(SaleId(Random::seed()));
    let config = DriverConfig {
        address: options.addr,
        connections: 1,
        pipeline: 1,
        key: key.to_vec(),
        name: "boxoffice-bench",
    };
    let mut driver = Driver::new(config, SystemClock::new()).map_err(Failure::from_error)?;
    let commands = if options.sale.is_some() { Vec::new() } else { opening(sale, options) };
    let mut steps = Steps { commands, answered: 0, asked: 0, failure: None };
    driver.connect(&mut steps, CONNECT_PATIENCE).map_err(|error| {
        Failure::new(format!("{error}; is a server listening there? (`boxoffice serve`)"))
    })?;
    steps.failure = None;
    let until = driver.now().after(PATIENCE);
    driver.set_load(Load::Closed);
    while steps.answered < steps.commands.len() {
        driver.turn(&mut steps, until).map_err(Failure::from_error)?;
        if let Some(failure) = steps.failure {
            return Err(Failure::new(format!("the sale could not be made: {failure}")));
        }
        if driver.now() >= until {
            return Err(Failure::new("the sale could not be made: no answer"));
        }
    }
    let welcome = driver.welcome().expect("it connected").clone();
    let mut address = options.addr;
    if options.own_shard {
        address.set_port(welcome.ports[usize::from(sale.shard(welcome.shards()).0)]);
    }
    Ok(Venue { sale, address, welcome })
}

/// The commands that make a sale and open it.
fn opening(sale: SaleId, options: &Options) -> Vec<Command> {
    let terms = ItemTerms { capacity: Quantity(options.stock), price: PRICE, account_limit: None };
    let items = (1..=options.items.get()).map(ItemId);
    let mut commands = vec![Command::DefineSale { sale, terms: SaleTerms::default() }];
    commands.extend(items.map(|item| Command::DefineItem { sale, item, terms }));
    commands.push(Command::OpenSale { sale });
    commands
}

/// One command after the other, until one fails.
struct Steps {
    commands: Vec<Command>,
    asked: usize,
    answered: usize,
    failure: Option<String>,
}

impl Script for Steps {
    fn next(&mut self, _intended: Nanos, _now: Nanos) -> Option<Planned<'_>> {
        let command = self.commands.get(self.asked)?;
        self.asked += 1;
        Some(Planned { tag: Tag::default(), ask: Ask::Command(command) })
    }

    fn answered(&mut self, answered: &Answered<'_>) {
        self.answered += 1;
        match answered.answer {
            Ok(_) => {}
            Err(Refusal::BadRequest { field }) => {
                self.failure = Some(format!("BAD_REQUEST ({})", field.name()));
            }
            Err(refusal) => self.failure = Some(refusal.code().name().to_owned()),
        }
    }

    fn lost(&mut self, _tag: Tag) {}

    fn broken(&mut self, cause: &Broken) {
        self.failure = Some(cause.to_string());
    }
}
