//! A real server over real sockets: who is let in, what each command answers, what a repeated
//! request gets, what time does by itself, and how a server stops.
//!
//! Numbers are exact. No test measures time; where time has to pass, the test asks until it has.

#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::collections::HashSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command as Process;
use std::thread;
use std::time::Duration;

use boxoffice::model::{
    Answer, Command, DurationMs, Field, ItemId, OrderNumber, OrderState, Outcome, Price, Quantity,
    Query, Refusal, RequestId, SaleId, SaleState, SaleTerms, Scopes, TimeMs, Wanted, WantedLine,
};
use boxoffice::protocol::binary::{ErrorCode, Hello, Request, Response};
use peer::{
    Peer, buy, confirm, define_item, hold, hold_ttl, intent, line, lines, payment, release,
    wall_ms, wanted,
};
use server::{Serve, Server, temporary_dir};

const SALE: SaleId = SaleId(7);
const OTHER: SaleId = SaleId(8);

fn refused(field: Field) -> Refusal {
    Refusal::BadRequest { field }
}

/// Waits a little between two questions whose answer changes with time.
fn let_time_pass() {
    thread::sleep(Duration::from_millis(20));
}

/// Whether the next thing that comes is this error, and then the end.
#[track_caller]
fn assert_ends_in_error(peer: &mut Peer, correlation: u64, code: ErrorCode) {
    match peer.read() {
        Some((told, Response::Error(error))) => assert_eq!((told, error.code), (correlation, code)),
        other => panic!("it should be {code:?}: {other:?}"),
    }
    assert_eq!(peer.read(), None, "the connection closes behind an error");
}

#[test]
fn hello_comes_first_and_once() {
    let server = Server::start();
    let mut hasty = Peer::silent(server.address());
    let sent = hasty.send(&Request::Query(Query::Stats { sale: SALE }));
    assert_ends_in_error(&mut hasty, sent, ErrorCode::HelloExpected);

    let mut polite = Peer::silent(server.address());
    let welcome = polite.hello(b"any key at all").expect("without a key file any key is good");
    assert_eq!((welcome.scopes, welcome.shards().get()), (Scopes::ALL, 1));
    assert_eq!(welcome.ports, [server.shard_address(0).port()]);
    let stats = Request::Query(Query::Stats { sale: SALE });
    let again = Request::Hello(Hello { key: b"", name: "" });
    let last = polite.send_all(&[stats.clone(), again, stats]);
    assert_eq!(polite.read_answer(), Some((last - 2, Err(Refusal::NotFound))));
    assert_ends_in_error(&mut polite, last - 1, ErrorCode::HelloRepeated);

    assert_eq!(Peer::connect(server.address()).ask(Query::Stats { sale: SALE }), {
        Err(Refusal::NotFound)
    });
}

/// A key and its line, made by the program itself.
fn make_key(name: &str, scopes: &str) -> (String, String) {
    let mut program = Process::new(env!("CARGO_BIN_EXE_boxoffice"));
    let output = program.args(["key", name, "--scopes", scopes, "--json"]).output();
    let output = output.expect("the program can be run");
    assert!(output.status.success(), "{output:?}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let text = |field: &str| json[field].as_str().expect("it is a text").to_owned();
    (text("key"), text("line"))
}

#[test]
fn a_key_opens_what_its_scopes_say() {
    let home = temporary_dir();
    let ((shop, shop_line), (office, office_line)) =
        (make_key("shop", "buy"), make_key("office", "admin"));
    let file = home.path().join("keys");
    fs::write(&file, format!("{shop_line}\n{office_line}\n")).expect("it can be written");
    let file = file.to_str().expect("UTF-8");
    let server = Server::start_with(|serve| serve.with("--keys", file));

    for key in [&b""[..], b"bo_wrong", &shop.as_bytes()[1..], shop_line.as_bytes()] {
        let mut stranger = Peer::silent(server.address());
        assert_eq!(stranger.hello(key), Err(Refusal::BadToken));
        assert_eq!(stranger.read(), None, "a stranger is sent away");
    }

    let mut office_peer = Peer::silent(server.address());
    let welcome = office_peer.hello(office.as_bytes()).expect("the office has a key");
    assert_eq!(welcome.scopes, Scopes { buy: false, admin: true });
    office_peer.open_sale(SALE, SaleTerms::default(), &[(1, 10)]);
    let purchase = buy(intent(SALE, 1, 1), &[(1, 1)]);
    assert_eq!(office_peer.ask(purchase.clone()), Err(Refusal::Forbidden));

    let mut shop_peer = Peer::silent(server.address());
    let welcome = shop_peer.hello(shop.as_bytes()).expect("the shop has a key");
    assert_eq!(welcome.scopes, Scopes { buy: true, admin: false });
    for forbidden in [Command::CloseSale { sale: SALE }, Command::OpenSale { sale: OTHER }] {
        assert_eq!(shop_peer.ask(forbidden), Err(Refusal::Forbidden));
    }
    assert_eq!(shop_peer.gets(purchase), Outcome::Confirmed { order: OrderNumber(1) });
    assert_eq!(shop_peer.stats(SALE), office_peer.stats(SALE));
    assert_eq!(shop_peer.stats(SALE).sold, 1);
}

#[test]
fn every_command_works_with_exact_numbers() {
    let server = Server::start();
    let mut peer = Peer::connect(server.address());
    peer.open_sale(SALE, hold_ttl(60_000), &[(1, 100), (2, 10)]);
    let (first, second) = (OrderNumber(1), OrderNumber(2));

    let before = wall_ms();
    let held = peer.gets(hold(intent(SALE, 1, 1), &[(1, 4), (2, 2)]));
    let Outcome::Held { order, expires_at } = held else { panic!("no hold: {held:?}") };
    assert_eq!(order, first);
    assert!((before + 60_000..=wall_ms() + 60_000).contains(&expires_at.0), "{expires_at}");
    let extended = peer.gets(Command::Extend { intent: intent(SALE, 1, 2), order });
    let Outcome::Extended { order: _, expires_at: later } = extended else {
        panic!("{extended:?}")
    };
    assert!(later >= expires_at);
    let again = peer.ask(Command::Extend { intent: intent(SALE, 1, 3), order });
    assert_eq!(again, Err(Refusal::WrongState { state: OrderState::Held }));
    let view = peer.order(SALE, order);
    assert_eq!((view.state, view.expires_at), (OrderState::Held, Some(later)));
    assert_eq!(view.lines, [line(1, 4), line(2, 2)]);

    let partly = Command::Confirm {
        intent: intent(SALE, 1, 4),
        order,
        payment: payment("card 1"),
        lines: Some(lines(&[(1, 3)])),
    };
    assert_eq!(peer.gets(partly), Outcome::Confirmed { order });
    assert_eq!(peer.order(SALE, order).lines, [line(1, 3)]);
    assert!(matches!(peer.gets(hold(intent(SALE, 2, 1), &[(2, 5)])), Outcome::Held { .. }));
    let stranger = peer.ask(release(intent(SALE, 1, 5), second));
    assert_eq!(stranger, Err(Refusal::Forbidden));
    let released = peer.gets(release(intent(SALE, 2, 2), second));
    assert_eq!(released, Outcome::Released { order: second });
    let bought = peer.gets(buy(intent(SALE, 3, 1), &[(1, 10), (2, 1)]));
    assert_eq!(bought, Outcome::Confirmed { order: OrderNumber(3) });
    let cancel = Command::Cancel {
        intent: intent(SALE, 3, 2),
        order: OrderNumber(3),
        lines: Some(lines(&[(1, 4)])),
    };
    assert_eq!(peer.gets(cancel), Outcome::Cancelled { order: OrderNumber(3) });
    let restock = Command::Restock { sale: SALE, request: RequestId(1), item: ItemId(2), by: -3 };
    assert_eq!(peer.gets(restock), Outcome::Done);
    let fenced = intent(SALE, 4, 9);
    assert_eq!(peer.gets(Command::Fence { intent: fenced }), Outcome::Fenced);
    assert_eq!(peer.ask(hold(fenced, &[(1, 1)])), Err(Refusal::KeyConflict));
    let known = peer.ask(Query::Request { intent: intent(SALE, 3, 1) });
    assert_eq!(known, Ok(Answer { outcome: bought, replayed: true }));
    let unknown = peer.ask(Query::Request { intent: intent(SALE, 3, 99) });
    assert_eq!(unknown, Err(Refusal::NotFound));

    let counts: Vec<_> = peer
        .availability(SALE)
        .iter()
        .map(|item| [item.item.0, item.capacity.0, item.available.0, item.held.0, item.sold.0])
        .collect();
    assert_eq!(counts, [[1, 100, 91, 0, 9], [2, 7, 6, 0, 1]]);
    let stats = peer.stats(SALE);
    assert_eq!((stats.state, stats.items, stats.accounts), (SaleState::Open, 2, 4));
    let orders = [stats.orders, stats.orders_held, stats.orders_confirmed, stats.orders_released];
    assert_eq!(orders, [3, 0, 2, 1]);
    assert_eq!([stats.orders_expired, stats.orders_cancelled], [0, 0]);
    assert_eq!([stats.capacity, stats.available, stats.held, stats.sold], [107, 97, 0, 10]);
}

#[test]
fn a_sale_that_is_paused_or_closed_keeps_its_holds() {
    let server = Server::start();
    let mut peer = Peer::connect(server.address());
    peer.open_sale(SALE, hold_ttl(60_000), &[(1, 10)]);
    for account in 1..=3 {
        peer.gets(hold(intent(SALE, account, 1), &[(1, 1)]));
    }
    let late = hold(intent(SALE, 4, 1), &[(1, 1)]);
    let confirmed = |order| Outcome::Confirmed { order: OrderNumber(order) };
    assert_eq!(peer.gets(Command::PauseSale { sale: SALE }), Outcome::Done);
    assert_eq!(peer.ask(late.clone()), Err(Refusal::Paused));
    assert_eq!(peer.gets(confirm(intent(SALE, 1, 2), OrderNumber(1))), confirmed(1));
    assert_eq!(peer.gets(Command::OpenSale { sale: SALE }), Outcome::Done);
    assert_eq!(peer.gets(Command::CloseSale { sale: SALE }), Outcome::Done);
    assert_eq!(peer.ask(late), Err(Refusal::Closed));
    assert_eq!(peer.gets(confirm(intent(SALE, 2, 2), OrderNumber(2))), confirmed(2));
    let stats = peer.stats(SALE);
    assert_eq!((stats.state, stats.held, stats.sold), (SaleState::Closed, 1, 2));
}

#[test]
fn a_thousand_requests_in_one_write_are_all_answered() {
    let server = Server::start();
    let mut peer = Peer::connect(server.address());
    peer.open_sale(SALE, SaleTerms::default(), &[(1, 600)]);
    let requests: Vec<_> =
        (1..=1_000).map(|account| buy(intent(SALE, account, 1), &[(1, 1)])).collect();
    let answers = peer.ask_all(&requests);
    let orders: HashSet<_> = answers
        .iter()
        .filter_map(|got| match got {
            Ok(Answer { outcome: Outcome::Confirmed { order }, replayed: false }) => Some(order.0),
            _ => None,
        })
        .collect();
    assert_eq!(orders.len(), 600, "each order has a number of its own");
    let sold_out = answers.iter().filter(|got| **got == Err(Refusal::SoldOut)).count();
    assert_eq!(sold_out, 400);
    assert_eq!(peer.stats(SALE).sold, 600);
}

#[test]
fn a_request_id_that_is_used_twice_at_once_makes_one_order() {
    let server = Server::start();
    let (mut one, mut two) = (Peer::connect(server.address()), Peer::connect(server.address()));
    one.open_sale(SALE, SaleTerms::default(), &[(1, 1_000)]);
    let twice = buy(intent(SALE, 1, 1), &[(1, 2)]);
    let answers = one.ask_all(&[twice.clone(), twice]);
    let outcome = Outcome::Confirmed { order: OrderNumber(1) };
    for (got, replayed) in answers.into_iter().zip([false, true]) {
        assert_eq!(got, Ok(Answer { outcome: outcome.clone(), replayed }));
    }
    for request in 2..=20 {
        let same = hold(intent(SALE, 1, request), &[(1, 1)]);
        one.send(&same);
        two.send(&same);
        let [first, second] = [&mut one, &mut two].map(|peer| {
            let (_, got) = peer.read_answer().expect("an answer");
            got.expect("there is enough")
        });
        assert_eq!(first.outcome, second.outcome);
        assert!(first.replayed != second.replayed, "{first:?} and {second:?}");
        let other = hold(intent(SALE, 1, request), &[(1, 2)]);
        assert_eq!(two.ask(other), Err(Refusal::KeyConflict));
    }
    let stats = one.stats(SALE);
    assert_eq!((stats.orders, stats.held, stats.sold), (20, 19, 2));
}

#[test]
fn impossible_requests_are_refused_by_name_and_change_nothing() {
    let server = Server::start();
    let mut peer = Peer::connect(server.address());
    peer.open_sale(SALE, hold_ttl(60_000), &[(1, 10)]);
    let before = peer.stats(SALE);
    let mine = |request| intent(SALE, 1, request);
    let order = OrderNumber(1);
    let dear = WantedLine { line: line(1, 1), price: Some(Price(999)) };
    let dear = Wanted::new([dear]).expect("a sound line");
    let long =
        Command::Hold { intent: mine(1), lines: wanted(&[(1, 1)]), ttl: Some(DurationMs(60_001)) };
    let restock = |item, by| {
        let request = RequestId(1);
        Request::Command(Command::Restock { sale: SALE, request, item: ItemId(item), by })
    };
    let cases = [
        (hold(mine(1), &[(1, 11)]), Refusal::NoneNow),
        (hold(mine(1), &[(1, u32::MAX)]), Refusal::NoneNow),
        (buy(mine(1), &[(1, u32::MAX), (2, u32::MAX)]), refused(Field::Item)),
        (hold(mine(1), &[(9, 1)]), refused(Field::Item)),
        (Request::Command(long), refused(Field::Ttl)),
        (
            Request::Command(Command::Buy { intent: mine(1), lines: dear, payment: payment("") }),
            Refusal::PriceMismatch,
        ),
        (hold(intent(OTHER, 1, 1), &[(1, 1)]), Refusal::NotFound),
        (hold(intent(SaleId(u64::MAX), 1, 1), &[(1, 1)]), Refusal::NotFound),
        (confirm(mine(1), order), Refusal::NotFound),
        (confirm(mine(1), OrderNumber(0)), Refusal::NotFound),
        (release(mine(1), OrderNumber(u32::MAX)), Refusal::NotFound),
        (restock(1, 0), refused(Field::Quantity)),
        (restock(1, i64::MAX), refused(Field::Capacity)),
        (restock(1, i64::MIN), refused(Field::Capacity)),
        (restock(1, -11), refused(Field::Capacity)),
        (restock(9, 1), refused(Field::Item)),
        (define_item(SALE, 2, 1), refused(Field::Window)),
        (define_item(OTHER, 1, 1), Refusal::NotFound),
        (Request::Query(Query::Stats { sale: OTHER }), Refusal::NotFound),
        (Request::Query(Query::Availability { sale: OTHER }), Refusal::NotFound),
        (Request::Query(Query::Order { sale: SALE, order }), Refusal::NotFound),
    ];
    for (request, refusal) in cases {
        assert_eq!(peer.ask(request.clone()), Err(refusal), "{request:?}");
    }
    assert_eq!(peer.stats(SALE), before);
}

#[test]
fn a_hold_that_runs_out_gives_its_units_back() {
    let server = Server::start();
    let mut peer = Peer::connect(server.address());
    peer.open_sale(SALE, hold_ttl(1_000), &[(1, 1)]);
    let held = peer.gets(hold(intent(SALE, 1, 1), &[(1, 1)]));
    let Outcome::Held { order, expires_at } = held else { panic!("no hold: {held:?}") };
    let got = peer.ask(buy(intent(SALE, 2, 1), &[(1, 1)]));
    if wall_ms() < expires_at.0 {
        assert_eq!(got, Err(Refusal::NoneNow));
    }
    let mut got = got;
    while got == Err(Refusal::NoneNow) {
        let_time_pass();
        got = peer.ask(buy(intent(SALE, 2, 1), &[(1, 1)]));
    }
    assert!(wall_ms() >= expires_at.0, "a hold is kept as long as it was promised");
    assert_eq!(got.expect("its turn").outcome, Outcome::Confirmed { order: OrderNumber(2) });
    assert_eq!(peer.ask(confirm(intent(SALE, 1, 2), order)), Err(Refusal::HoldExpired));
    assert_eq!(peer.order(SALE, order).state, OrderState::Expired);
    assert_eq!(peer.ask(buy(intent(SALE, 3, 1), &[(1, 1)])), Err(Refusal::SoldOut));
    let stats = peer.stats(SALE);
    assert_eq!((stats.orders_expired, stats.orders_confirmed, stats.sold), (1, 1, 1));
}

#[test]
fn a_wave_of_expiring_holds_is_returned_whole() {
    const HOLDS: u32 = 20_000;
    let mut server = Server::start();
    let mut peer = Peer::connect(server.address());
    peer.open_sale(SALE, hold_ttl(2_000), &[(1, HOLDS)]);
    for start in (0..u128::from(HOLDS)).step_by(1_000) {
        let requests: Vec<_> = (start..start + 1_000)
            .map(|account| hold(intent(SALE, account + 1, 1), &[(1, 1)]))
            .collect();
        assert!(peer.ask_all(&requests).iter().all(Result::is_ok), "there is one for each");
    }
    while peer.stats(SALE).orders_expired < HOLDS {
        let_time_pass();
    }
    let after = peer.stats(SALE);
    let units = [after.available, after.held, after.sold].map(|units| units as u32);
    assert_eq!((units, after.orders, after.orders_held), ([HOLDS, 0, 0], HOLDS, 0));
    server.kill();
    server.restart();
    assert_eq!(Peer::connect(server.address()).stats(SALE), after);
}

#[test]
fn a_sale_opens_and_closes_by_itself() {
    let server = Server::start();
    let mut peer = Peer::connect(server.address());
    let (opens_at, closes_at) = (TimeMs(wall_ms() + 2_000), TimeMs(wall_ms() + 4_000));
    let terms =
        SaleTerms { opens_at: Some(opens_at), closes_at: Some(closes_at), ..SaleTerms::default() };
    peer.gets(Command::DefineSale { sale: SALE, terms });
    peer.gets(define_item(SALE, 1, 1_000_000));
    let mut seen = Vec::new();
    for request in 1.. {
        let before = wall_ms();
        let got = peer.ask(buy(intent(SALE, 1, request), &[(1, 1)]));
        let is_early = before < opens_at.0 && got.is_ok() && wall_ms() < opens_at.0;
        assert!(!is_early, "it sold before it opened");
        assert!(before < closes_at.0 || got.is_err(), "it sold after it closed");
        let said = got.map(|answer| answer.replayed);
        if seen.last() != Some(&said) {
            seen.push(said);
        }
        if said == Err(Refusal::Closed) {
            break;
        }
        let_time_pass();
    }
    let not_open = Refusal::NotOpen { opens_at: Some(opens_at) };
    assert_eq!(seen, [Err(not_open), Ok(false), Err(Refusal::Closed)]);
    assert_eq!(peer.stats(SALE).state, SaleState::Closed);
}

#[test]
fn a_peer_that_has_finished_sending_gets_every_answer() {
    let server = Server::start();
    let mut peer = Peer::connect(server.address());
    peer.open_sale(SALE, SaleTerms::default(), &[(1, 5_000)]);
    let requests: Vec<_> =
        (1..=5_000).map(|account| buy(intent(SALE, account, 1), &[(1, 1)])).collect();
    let bytes = peer.encode(&requests);
    let writer = peer.writer();
    let writing = thread::spawn(move || {
        std::io::Write::write_all(&mut &writer, &bytes).expect("the server takes requests");
        writer.shutdown(std::net::Shutdown::Write).expect("the connection is open");
    });
    let answers = peer.answers_to_the_end();
    writing.join().expect("all was written");
    assert_eq!(answers.len(), 5_000);
    assert!(answers.values().all(Result::is_ok));

    // One that finishes before its hello is answered, and one inside of a request.
    let mut short = Peer::silent(server.address());
    short.send(&Request::Hello(Hello { key: b"", name: "" }));
    let half = short.encode(&[Request::Query(Query::Stats { sale: SALE })]);
    short.write(&half[..half.len() - 1]).expect("it is open");
    short.finish();
    assert!(matches!(short.read(), Some((1, Response::Welcome(_)))));
    assert_eq!(short.read(), None);
}

#[test]
fn a_server_that_stops_answers_what_was_asked() {
    let mut server = Server::start();
    let mut admin = Peer::connect(server.address());
    admin.open_sale(SALE, SaleTerms::default(), &[(1, 1_000_000)]);
    let (begun, beginning) = std::sync::mpsc::channel();
    let peers: Vec<_> = (1..=4_u128)
        .map(|account| {
            let mut peer = Peer::connect(server.address());
            let begun = begun.clone();
            thread::spawn(move || {
                let requests: Vec<_> = (1..=5_000)
                    .map(|request| buy(intent(SALE, account, request), &[(1, 1)]))
                    .collect();
                let bytes = peer.encode(&requests);
                let mut writer = peer.writer();
                let writing = thread::spawn(move || std::io::Write::write_all(&mut writer, &bytes));
                let first = peer.read_answer().expect("an answer");
                begun.send(()).expect("the test waits");
                let mut answers = peer.answers_to_the_end();
                answers.insert(first.0, first.1);
                writing.join().expect("a thread that ends").expect("the server took it all");
                answers
            })
        })
        .collect();
    for _ in &peers {
        beginning.recv().expect("each peer begins");
    }
    let status = server.terminate();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    let mut sold = 0;
    for peer in peers {
        let answers = peer.join().expect("the peer's own checks hold");
        assert_eq!(answers.len(), 5_000, "each request has an answer");
        for got in answers.values() {
            match got {
                Ok(answer) => sold += u64::from(!answer.replayed),
                Err(refusal) => assert_eq!(*refusal, Refusal::Draining),
            }
        }
    }
    assert_eq!(admin.read(), None, "an idle connection is closed");
    assert!(!server.log().contains("WARN"), "stopping is nothing to warn of:\n{}", server.log());
    server.restart();
    let after = Peer::connect(server.address()).stats(SALE);
    assert_eq!((u64::from(after.orders), after.sold), (sold, sold));
}

/// A peer that takes no answers keeps a stopping server busy for a while.
fn stuck_peer(server: &Server) -> Peer {
    let mut peer = Peer::connect(server.address());
    let items: Vec<_> = (1..=1_024).map(|item| (item, 1)).collect();
    peer.open_sale(SALE, SaleTerms::default(), &items);
    let query = Request::Query(Query::Availability { sale: SALE });
    peer.send_all(&vec![query; 1_000]);
    peer
}

#[test]
fn a_second_signal_ends_a_server_that_takes_too_long_to_stop() {
    let mut server = Server::start_with(|serve| serve.with("--send-timeout", "60"));
    let stuck = stuck_peer(&server);
    server.ask_to_stop();
    while !server.log().contains("stopping") {
        let_time_pass();
    }
    server.ask_to_stop();
    let status = server.wait();
    assert!(status.signal() == Some(15) || status.code() == Some(0), "{status}");
    drop(stuck);
    server.restart();
    assert_eq!(Peer::connect(server.address()).stats(SALE).items, 1_024);
}

#[test]
fn a_peer_that_takes_nothing_does_not_keep_a_server_from_stopping() {
    let mut server = Server::start_with(|serve| serve.with("--send-timeout", "60"));
    let stuck = stuck_peer(&server);
    assert_eq!(server.terminate().code(), Some(0), "{}", server.log());
    drop(stuck);
}

#[test]
fn everything_is_there_after_a_stop_and_after_a_crash() {
    let mut server = Server::start_with(|serve: Serve| serve.with("--segment-bytes", "1052672"));
    let mut peer = Peer::connect(server.address());
    peer.open_sale(SALE, hold_ttl(600_000), &[(1, 100)]);
    peer.open_sale(OTHER, SaleTerms::default(), &[(1, 50)]);
    for round in 1..=3 {
        peer.gets(hold(intent(SALE, 1, round), &[(1, 3)]));
        peer.gets(buy(intent(OTHER, 2, round), &[(1, 2)]));
        let seen = (peer.stats(SALE), peer.stats(OTHER), peer.availability(SALE));
        if round == 1 {
            server.terminate()
        } else {
            server.kill()
        };
        server.restart();
        peer = Peer::connect(server.address());
        assert_eq!((peer.stats(SALE), peer.stats(OTHER), peer.availability(SALE)), seen);
        let again = peer.ask(hold(intent(SALE, 1, round), &[(1, 3)]));
        assert!(again.expect("it was done").replayed);
        let again = peer.ask(buy(intent(OTHER, 2, round), &[(1, 2)]));
        assert!(again.expect("it was done").replayed);
    }
    let counts = peer.availability(SALE)[0];
    assert_eq!((counts.held, counts.available), (Quantity(9), Quantity(91)));
}
