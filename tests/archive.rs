//! Archiving a sale and listing sales and orders: by the SDK, against servers of several shards,
//! and again after a crash.

#[path = "support/server.rs"]
mod server;

use std::num::NonZeroU16;

use boxoffice::audit::audit;
use boxoffice::client::{Client, ClientError, Options};
use boxoffice::model::{
    AccountId, DurationMs, Intent, ItemId, ItemTerms, Line, OrderNumber, OrderState, PaymentRef,
    Price, Quantity, Refusal, RequestId, SaleId, SaleState, SaleTerms, ShardIndex, Wanted,
    WantedLine,
};
use server::Server;

const ITEM: ItemId = ItemId(1);
const ANN: AccountId = AccountId(1);
const BOB: AccountId = AccountId(2);

fn connect(server: &Server) -> Client {
    Client::connect(server.address(), Options::default()).expect("loopback is let in")
}

fn limit(limit: u16) -> NonZeroU16 {
    NonZeroU16::new(limit).expect("not zero")
}

fn intent(sale: SaleId, account: AccountId, request: u128) -> Intent {
    Intent { sale, account, request: RequestId(request) }
}

fn units(quantity: u32) -> Wanted {
    let line = Line { item: ITEM, quantity: Quantity(quantity) };
    Wanted::new([WantedLine { line, price: None }]).expect("one line")
}

fn open_sale(client: &mut Client, sale: SaleId) {
    let terms = ItemTerms { capacity: Quantity(100), price: Price(1_000), account_limit: None };
    client.define_sale(sale, SaleTerms::default()).expect("a new sale");
    client.define_item(sale, ITEM, terms).expect("a new item");
    client.open_sale(sale).expect("a scheduled sale");
}

/// The refusal that a call ended with.
fn refusal<T>(result: Result<T, ClientError>) -> Refusal {
    match result {
        Err(ClientError::Refused(refusal)) => refusal,
        Err(error) => panic!("no refusal: {error}"),
        Ok(_) => panic!("no refusal"),
    }
}

/// All sales of all shards with their states, in pages of `page`.
fn list(client: &mut Client, page: u16) -> Vec<(SaleId, SaleState)> {
    let shards = client.welcome().shards();
    let mut sales = Vec::new();
    for shard in (0..shards.get()).map(ShardIndex) {
        let mut after = None;
        loop {
            let got = client.sales(shard, after, limit(page)).expect("a page");
            assert!(got.sales.len() <= usize::from(page));
            assert!(got.sales.iter().all(|summary| summary.sale.shard(shards) == shard));
            sales.extend(got.sales.iter().map(|summary| (summary.sale, summary.stats.state)));
            after = got.next;
            if after.is_none() {
                break;
            }
        }
    }
    sales.sort_unstable_by_key(|entry| entry.0);
    sales
}

/// What is known of an archived sale: its result, and that it is over.
fn assert_archived(client: &mut Client, sale: SaleId) {
    let stats = client.stats(sale).expect("the totals stay");
    assert_eq!((stats.state, stats.orders, stats.accounts), (SaleState::Archived, 2, 2));
    assert_eq!((stats.sold, stats.available, stats.capacity), (3, 97, 100));
    let items = client.availability(sale).expect("the counters stay");
    assert_eq!((items[0].sold, items[0].available), (Quantity(3), Quantity(97)));
    client.archive_sale(sale).expect("it is so already");
    client.close_sale(sale).expect("it is closed");

    let bought = intent(sale, ANN, 1);
    // Nobody knows any more whether this was bought, so "not found" would be a lie.
    assert_eq!(refusal(client.buy(bought, units(3), PaymentRef::default())), Refusal::Closed);
    assert_eq!(refusal(client.request(bought)), Refusal::Closed);
    assert_eq!(refusal(client.fence(bought)), Refusal::Closed);
    assert_eq!(refusal(client.order(sale, OrderNumber(1))), Refusal::Closed);
    assert_eq!(refusal(client.cancel(bought, OrderNumber(1), None)), Refusal::Closed);
    let orders = client.account_orders(sale, ANN, OrderNumber(0), limit(9));
    assert_eq!(refusal(orders), Refusal::Closed);
    assert_eq!(refusal(client.define_sale(sale, SaleTerms::default())), Refusal::Closed);
    assert_eq!(refusal(client.open_sale(sale)), Refusal::Closed);
}

#[test]
fn an_archived_sale_keeps_its_result_and_nothing_else() {
    let mut server = Server::start();
    let mut client = connect(&server);
    let (sale, other) = (SaleId(1), SaleId(2));
    open_sale(&mut client, sale);
    open_sale(&mut client, other);
    client.buy(intent(sale, ANN, 1), units(3), PaymentRef::default()).expect("stock");
    let held = client.hold(intent(sale, BOB, 1), units(2), None).expect("stock");
    assert_eq!(refusal(client.archive_sale(sale)), Refusal::NotClosed);
    client.close_sale(sale).expect("an open sale");
    let alive = Refusal::WrongState { state: OrderState::Held };
    assert_eq!(refusal(client.archive_sale(sale)), alive);
    client.release(intent(sale, BOB, 2), held.order).expect("a live hold");
    client.archive_sale(sale).expect("a closed sale without holds");
    assert_archived(&mut client, sale);

    // The other sale goes on, and all of it is so after a crash.
    client.buy(intent(other, ANN, 1), units(1), PaymentRef::default()).expect("stock");
    drop(client);
    server.kill();
    server.restart();
    let mut client = connect(&server);
    assert_archived(&mut client, sale);
    let again = client.buy(intent(other, ANN, 1), units(1), PaymentRef::default());
    assert!(again.expect("it is remembered").replayed);
    drop(client);
    assert!(server.terminate().success());
    let report = audit(server.data_dir()).expect("there is a log");
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.sales[0].logged_state, "archived");
}

#[test]
fn sales_of_all_shards_are_listed_page_by_page() {
    let server = Server::start_with(|serve| serve.with_shards(3));
    let mut client = connect(&server);
    assert_eq!(list(&mut client, 5), []);
    let sales: Vec<SaleId> = (1..=20).map(|sale| SaleId(sale * 7)).collect();
    for &sale in &sales {
        open_sale(&mut client, sale);
    }
    client.close_sale(sales[3]).expect("an open sale");
    client.close_sale(sales[4]).expect("an open sale");
    client.archive_sale(sales[4]).expect("a closed sale");
    let state = |at| match at {
        3 => SaleState::Closed,
        4 => SaleState::Archived,
        _ => SaleState::Open,
    };
    let expected: Vec<_> = sales.iter().enumerate().map(|(at, &sale)| (sale, state(at))).collect();
    for page in [1, 2, 5, u16::MAX] {
        assert_eq!(list(&mut client, page), expected);
    }
    // From a connection that knows one door only, too.
    let one_door = Options { shard_aware: false, ..Options::default() };
    let mut client = Client::connect(server.address(), one_door).expect("loopback is let in");
    assert_eq!(list(&mut client, 2), expected);
    assert_eq!(refusal(client.sales(ShardIndex(3), None, limit(1))), Refusal::NotFound);
    assert_eq!(refusal(client.sales(ShardIndex(u16::MAX), None, limit(1))), Refusal::NotFound);
}

#[test]
fn orders_of_an_account_are_listed_as_they_stand() {
    let server = Server::start();
    let mut client = connect(&server);
    let sale = SaleId(1);
    open_sale(&mut client, sale);
    for request in 1..=10 {
        let account = if request % 2 == 0 { ANN } else { BOB };
        let ttl = Some(DurationMs(60_000));
        client.hold(intent(sale, account, request), units(1), ttl).expect("stock");
    }
    client.release(intent(sale, ANN, 99), OrderNumber(4)).expect("a live hold");
    let mut page = |account, after| {
        let page = client.account_orders(sale, account, OrderNumber(after), limit(3));
        let page = page.expect("a page");
        let orders = page.orders.iter().inspect(|view| assert_eq!(view.account, account));
        let orders: Vec<_> = orders.map(|view| (view.order.0, view.state)).collect();
        (orders, page.next.map(|next| next.0))
    };
    let (held, released) = (OrderState::Held, OrderState::Released);
    assert_eq!(page(ANN, 0), (vec![(2, held), (4, released), (6, held)], Some(6)));
    assert_eq!(page(ANN, 6), (vec![(8, held), (10, held)], None));
    assert_eq!(page(BOB, 4), (vec![(5, held), (7, held), (9, held)], Some(9)));
    assert_eq!(page(BOB, 9), (vec![], None));
    assert_eq!(page(AccountId(3), 0), (vec![], None));
}
