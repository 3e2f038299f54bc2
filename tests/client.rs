//! The client against a peer that fails in every way a network and a server can: it drops
//! connections midway, cuts frames, answers twice, answers garbage, stalls, and restarts.
//!
//! The peer sells nothing. What a real server makes of the requests is tested elsewhere.

#[path = "support/client_peer.rs"]
mod peer;

use std::net::TcpListener;
use std::num::NonZeroU16;
use std::time::Duration;

use boxoffice::client::{
    Cause, Client, ClientError, Held, Options, Pending, Settled, UNCLAIMED_MAX,
};
use boxoffice::model::{
    AccountId, Answer, Command, Intent, ItemCounts, ItemId, Line, OrderNumber, Outcome, PaymentRef,
    Price, Quantity, Query, Refusal, RequestId, SaleId, ShardIndex, TimeMs, Wanted, WantedLine,
};
use boxoffice::protocol::binary::{DecodeError, ErrorCode, Welcome, encode_answer};
use peer::{Peer, Script, Talk, answer_to, fault, welcome};
use proptest::prelude::*;

const SALE: SaleId = SaleId(1);

/// Patient as to the request, quick to take a connection for broken.
fn options() -> Options {
    Options {
        key: "bo_test".into(),
        silence_timeout: Duration::from_millis(300),
        request_timeout: Duration::from_secs(30),
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(20),
        ..Options::default()
    }
}

/// Soon out of patience.
fn hasty() -> Options {
    Options { request_timeout: Duration::from_millis(200), ..options() }
}

fn connect(peer: &Peer) -> Client {
    Client::connect(peer.address, options()).expect("the peer greets")
}

fn script(run: impl FnOnce(&mut Talk) + Send + 'static) -> Script {
    Box::new(run)
}

/// A connection on which everything goes well.
fn healthy() -> Script {
    script(|talk| {
        talk.greet();
        talk.serve();
    })
}

fn intent(request: u128) -> Intent {
    Intent { sale: SALE, account: AccountId(7), request: RequestId(request) }
}

fn wanted(lines: u32) -> Wanted {
    let line = |item| Line { item: ItemId(item), quantity: Quantity(1) };
    Wanted::new((0..lines).map(|item| WantedLine { line: line(item), price: Some(Price(1)) }))
        .expect("sound lines")
}

fn buy(request: u128) -> Command {
    let payment = PaymentRef::new(b"pay").expect("short enough");
    Command::Buy { intent: intent(request), lines: wanted(1), payment }
}

fn submit_all(client: &mut Client, requests: std::ops::Range<u128>) -> Vec<(u128, Pending)> {
    let submit = |request| (request, client.submit(&buy(request)).expect("there is room"));
    requests.map(submit).collect()
}

/// Each request has its own answer, whatever happened on the way.
fn assert_all_answered(client: &mut Client, pending: Vec<(u128, Pending)>) {
    for (request, pending) in pending {
        let answer = client.wait(pending).expect("an answer").expect("a success");
        assert_eq!(answer, answer_to(RequestId(request)));
    }
}

/// Two requests, the first connection as given, the second healthy: both are answered, and what
/// was sent again is the same to the byte.
fn survives(first: impl FnOnce(&mut Talk) + Send + 'static) -> Vec<Vec<u8>> {
    let peer = Peer::start(vec![script(first), healthy()]);
    let mut client = connect(&peer);
    let pending = submit_all(&mut client, 1..3);
    assert_all_answered(&mut client, pending);
    drop(client);
    let seen = peer.finish();
    let mut distinct = seen.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 2, "a request was sent again with another body or id");
    seen
}

#[test]
fn typed_calls_return_what_the_answer_says() {
    let peer = Peer::start(vec![script(|talk| {
        talk.greet();
        let (order, expires_at) = (OrderNumber(5), TimeMs(99));
        let held = Answer { outcome: Outcome::Held { order, expires_at }, replayed: true };
        let asked = talk.expect();
        talk.answer_with(&asked, &held);
        let asked = talk.expect();
        talk.answer(&asked);
        let asked = talk.expect();
        talk.refuse(asked.correlation, Refusal::SoldOut);
        let asked = talk.expect();
        talk.answer_with(&asked, &Answer { outcome: Outcome::Done, replayed: false });
        let asked = talk.expect();
        talk.answer_with(&asked, &held);
    })]);
    let mut client = connect(&peer);
    assert_eq!(client.welcome(), &welcome(peer.address.port()));
    let held = client.hold(intent(1), wanted(1), None);
    assert_eq!(held, Ok(Held { order: OrderNumber(5), expires_at: TimeMs(99), replayed: true }));
    let payment = PaymentRef::default();
    let bought = client.buy(intent(8), wanted(1), payment.clone());
    assert_eq!(bought, Ok(Settled { order: OrderNumber(8), replayed: false }));
    let refused = client.buy(intent(9), wanted(1), payment);
    assert_eq!(refused, Err(ClientError::Refused(Refusal::SoldOut)));
    assert_eq!(client.open_sale(SALE), Ok(()));
    let other = client.close_sale(SALE);
    assert_eq!(other, Err(ClientError::Definite(Cause::OtherOutcome)));
    peer.finish();
}

#[test]
fn a_connection_dropped_before_any_answer_is_replaced() {
    let seen = survives(|talk| {
        talk.greet();
        talk.expect();
    });
    assert!(seen.len() >= 3, "the first request went out twice");
}

#[test]
fn only_what_is_unanswered_is_sent_again() {
    let seen = survives(|talk| {
        talk.greet();
        let first = talk.expect();
        talk.expect();
        talk.answer(&first);
    });
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[1], seen[2]);
}

/// A server that stops looks nothing up: its refusal settles only what is new.
#[test]
fn a_server_that_stops_does_not_settle_what_was_sent_before() {
    let ends = |refusal: Option<Refusal>| {
        script(move |talk| {
            talk.greet();
            let correlation = talk.expect().correlation;
            if let Some(refusal) = refusal {
                talk.refuse(correlation, refusal);
            }
        })
    };
    let stops = || ends(Some(Refusal::Draining));
    let peer = Peer::start(vec![ends(None), stops(), healthy(), stops()]);
    let mut client = connect(&peer);
    let pending = submit_all(&mut client, 1..2);
    assert_all_answered(&mut client, pending);
    drop(client);
    let refused = connect(&peer).call(&buy(2));
    assert_eq!(refused, Err(ClientError::Refused(Refusal::Draining)));
    assert_eq!(peer.finish().len(), 4);
}

#[test]
fn answers_in_another_order_find_their_requests() {
    let peer = Peer::start(vec![script(|talk| {
        talk.greet();
        let mut asked: Vec<_> = (0..10).map(|_| talk.expect()).collect();
        asked.reverse();
        talk.answer_all(&asked);
    })]);
    let mut client = connect(&peer);
    let pending = submit_all(&mut client, 1..11);
    assert_all_answered(&mut client, pending);
    peer.finish();
}

#[test]
fn a_frame_cut_by_the_end_of_a_connection_is_no_answer() {
    survives(|talk| {
        talk.greet();
        let asked = talk.expect();
        let mut bytes = Vec::new();
        encode_answer(&mut bytes, asked.correlation, &answer_to(asked.request));
        talk.raw(&bytes[..bytes.len() - 1]);
    });
}

#[test]
fn garbage_breaks_the_connection_and_nothing_else() {
    survives(|talk| {
        talk.greet();
        talk.expect();
        talk.raw(&[0x5a; 64]);
        talk.serve();
    });
}

#[test]
fn an_answer_that_was_not_asked_for_breaks_the_connection() {
    survives(|talk| {
        talk.greet();
        let mut asked = talk.expect();
        asked.correlation += 1_000;
        talk.answer(&asked);
        talk.serve();
    });
}

#[test]
fn a_second_answer_is_not_taken_for_another_requests() {
    let seen = survives(|talk| {
        talk.greet();
        let first = talk.expect();
        talk.answer(&first);
        talk.answer(&first);
        while talk.next().is_some() {}
    });
    assert!(seen.len() >= 3, "the second request went out twice");
}

#[test]
fn a_silent_connection_is_replaced() {
    survives(|talk| {
        talk.greet();
        // The client hangs up when it has waited long enough.
        while talk.next().is_some() {}
    });
}

#[test]
fn a_server_that_cannot_be_reached_for_a_while_is_waited_for() {
    survives(Talk::greet);
    let peer = Peer::start(vec![
        script(Talk::greet),
        script(|_| ()),
        script(|talk| {
            let hello = talk.hello();
            talk.refuse(hello, Refusal::Draining);
        }),
        healthy(),
    ]);
    let mut client = connect(&peer);
    let pending = submit_all(&mut client, 1..2);
    assert_all_answered(&mut client, pending);
    drop(client);
    peer.finish();
}

#[test]
fn what_stays_unsettled_is_an_unknown_outcome() {
    let peer = Peer::start(vec![script(|talk| {
        talk.greet();
        while talk.next().is_some() {}
    })]);
    let mut client = Client::connect(peer.address, hasty()).expect("the peer greets");
    let command = client.submit(&buy(77)).expect("there is room");
    let query = client.submit_query(&Query::Stats { sale: SALE }).expect("there is room");
    let administration = client.submit(&Command::OpenSale { sale: SALE }).expect("room");
    let error = client.wait(command).expect_err("nobody answers");
    let ClientError::UnknownOutcome { request: Some(RequestId(77)), .. } = &error else {
        panic!("{error:?}");
    };
    assert!(!error.is_retryable() && error.to_string().contains("fence"), "{error}");
    let error = client.wait(query).expect_err("nobody answers");
    assert!(matches!(error, ClientError::NotExecuted(_)) && error.is_retryable(), "{error:?}");
    let error = client.wait(administration).expect_err("nobody answers");
    assert!(matches!(error, ClientError::UnknownOutcome { request: None, .. }), "{error:?}");
    peer.finish();

    // Nobody listens any more, so the next command certainly reaches nobody.
    let error = client.call(&buy(78)).expect_err("nobody is there");
    assert!(matches!(error, ClientError::NotExecuted(Cause::Io(_))), "{error:?}");
}

#[test]
fn an_answer_that_came_in_time_counts_however_late_it_is_read() {
    let peer = Peer::start(vec![healthy()]);
    let mut client = Client::connect(peer.address, hasty()).expect("the peer greets");
    let pending = submit_all(&mut client, 1..50);
    client.flush();
    std::thread::sleep(Duration::from_millis(400));
    assert_all_answered(&mut client, pending);
    drop(client);
    assert_eq!(peer.finish().len(), 49);
}

#[test]
fn connecting_tells_what_must_be_mended_from_what_may_pass() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = listener.local_addr().expect("bound");
    drop(listener);
    let error = Client::connect(nobody, options()).err().expect("nobody listens");
    assert!(matches!(error, ClientError::NotExecuted(Cause::Io(_))), "{error:?}");

    let long = Options { key: "k".repeat(129), ..options() };
    let error = Client::connect(nobody, long).err().expect("no such key");
    assert!(matches!(error, ClientError::Definite(Cause::Options(_))), "{error:?}");

    let version = |version| Welcome { version, ..welcome(1) };
    let scripts = vec![
        script(|talk| {
            let hello = talk.hello();
            talk.refuse(hello, Refusal::BadToken);
        }),
        script(move |talk| talk.greet_with(&version(2))),
        script(|talk| {
            let hello = talk.hello();
            talk.refuse(hello, Refusal::Overloaded);
        }),
        script(|talk| {
            talk.hello();
            while talk.next().is_some() {}
        }),
    ];
    let peer = Peer::start(scripts);
    let quick = Options { connect_timeout: Duration::from_millis(200), ..options() };
    let error = || Client::connect(peer.address, quick.clone()).err().expect("not welcome");
    assert_eq!(error(), ClientError::Definite(Cause::HelloRefused(Refusal::BadToken)));
    assert_eq!(error(), ClientError::Definite(Cause::OtherVersion(2)));
    assert_eq!(error(), ClientError::NotExecuted(Cause::HelloRefused(Refusal::Overloaded)));
    assert_eq!(error(), ClientError::NotExecuted(Cause::Silent(quick.connect_timeout)));
    peer.finish();
}

#[test]
fn a_key_that_is_withdrawn_ends_the_waiting_at_once() {
    let peer = Peer::start(vec![
        script(|talk| {
            talk.greet();
            talk.expect();
        }),
        script(|talk| {
            let hello = talk.hello();
            talk.refuse(hello, Refusal::BadToken);
        }),
    ]);
    let mut client = connect(&peer);
    let error = client.call(&buy(1)).expect_err("the key is gone");
    let cause = Cause::HelloRefused(Refusal::BadToken);
    assert_eq!(error, ClientError::UnknownOutcome { request: Some(RequestId(1)), cause });
    peer.finish();
}

#[test]
fn a_request_that_the_server_does_not_understand_is_not_sent_again() {
    let misunderstood = DecodeError { code: ErrorCode::UnknownOpcode, offset: 17 };
    let peer = Peer::start(vec![
        script(move |talk| {
            talk.greet();
            let first = talk.expect();
            talk.expect();
            talk.error(first.correlation, misunderstood);
        }),
        healthy(),
    ]);
    let mut client = connect(&peer);
    let mut pending = submit_all(&mut client, 1..3).into_iter();
    let (_, first) = pending.next().expect("two were submitted");
    let cause = Cause::Misunderstood(misunderstood);
    assert_eq!(client.wait(first), Err(ClientError::Definite(cause)));
    assert_all_answered(&mut client, pending.collect());
    drop(client);
    let seen = peer.finish();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[1], seen[2]);
}

#[test]
fn no_more_requests_are_in_flight_than_the_server_grants() {
    const GRANTED: usize = 4;
    let peer = Peer::start(vec![script(|talk| {
        talk.greet_with(&Welcome { in_flight_max: GRANTED as u32, ..welcome(1) });
        for _ in 0..5 {
            let asked: Vec<_> = (0..GRANTED).map(|_| talk.expect()).collect();
            assert!(!talk.has_more(), "a request too many");
            talk.answer_all(&asked);
        }
    })]);
    let mut client = connect(&peer);
    let pending = submit_all(&mut client, 0..5 * GRANTED as u128);
    assert_all_answered(&mut client, pending);
    peer.finish();
}

/// The peer answers one request after the other and reads nothing while it writes, so once its
/// answers fill the sockets it waits for the client to read; and the client has more to write
/// than the sockets hold.
#[test]
fn full_sockets_in_both_directions_block_nobody() {
    const REQUESTS: u128 = 40_000;
    const LARGE: usize = 600;
    let large = {
        let items = (0..1_024).map(|item| ItemCounts {
            item: ItemId(item),
            price: Price(1),
            account_limit: None,
            capacity: Quantity(1),
            available: Quantity(1),
            held: Quantity(0),
            sold: Quantity(0),
        });
        Answer { outcome: Outcome::Availability(items.collect()), replayed: false }
    };
    let of_peer = large.clone();
    let peer = Peer::start(vec![script(move |talk| {
        talk.greet_with(&Welcome { in_flight_max: u32::MAX, ..welcome(1) });
        for _ in 0..LARGE {
            let asked = talk.expect();
            talk.answer_with(&asked, &of_peer);
        }
        talk.serve();
    })]);
    let patient = Options { silence_timeout: Duration::from_secs(30), ..options() };
    let mut client = Client::connect(peer.address, patient).expect("the peer greets");
    let payment = PaymentRef::new(&[1; 64]).expect("short enough");
    let lines = wanted(16);
    let pending: Vec<_> = (0..REQUESTS)
        .map(|request| {
            let (intent, lines, payment) = (intent(request), lines.clone(), payment.clone());
            let buy = Command::Buy { intent, lines, payment };
            (request, client.submit(&buy).expect("there is room"))
        })
        .collect();
    for (index, (request, pending)) in pending.into_iter().enumerate() {
        let answer = client.wait(pending).expect("an answer").expect("a success");
        let expected = if index < LARGE { large.clone() } else { answer_to(RequestId(request)) };
        assert_eq!(answer, expected);
    }
    drop(client);
    peer.finish();
}

/// A sale of each of two shards.
fn sales_of_two_shards() -> [SaleId; 2] {
    let two = NonZeroU16::new(2).expect("two");
    [0, 1].map(|shard| {
        (1..1_000).map(SaleId).find(|sale| sale.shard(two) == ShardIndex(shard)).expect("some sale")
    })
}

fn question_about(sale: SaleId) -> Query {
    Query::Request { intent: Intent { sale, ..intent(1) } }
}

/// A connection to one shard of two, which takes requests for these sales only.
fn of_shard(shard: u16, boot: u64, ports: Vec<u16>, sales: Vec<SaleId>) -> Script {
    script(move |talk| {
        talk.greet_with(&Welcome { shard: ShardIndex(shard), boot, ports, ..welcome(1) });
        while let Some(asked) = talk.next() {
            assert!(sales.contains(&asked.sale), "{} came to shard {shard}", asked.sale);
            talk.answer(&asked);
        }
    })
}

#[test]
fn each_request_goes_to_the_shard_of_its_sale() {
    let sales = sales_of_two_shards();
    let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let ports: Vec<u16> =
        listeners.iter().map(|listener| listener.local_addr().expect("bound").port()).collect();
    let mut shards = listeners.into_iter().zip(0_u16..).map(|(listener, shard)| {
        let sales = vec![sales[usize::from(shard)]];
        Peer::on(listener, vec![of_shard(shard, 1, ports.clone(), sales)])
    });
    let (first, second) = (shards.next().expect("two"), shards.next().expect("two"));
    let mut client = connect(&first);
    for sale in [sales[1], sales[0], sales[1]] {
        assert_eq!(client.ask(&question_about(sale)), Ok(answer_to(RequestId(1))));
    }
    drop(client);
    assert_eq!((first.finish().len(), second.finish().len()), (1, 2));
}

#[test]
fn the_first_address_serves_the_shards_that_cannot_be_reached() {
    let sales = sales_of_two_shards();
    let unreachable = TcpListener::bind("127.0.0.1:0").expect("a port");
    let ports = vec![1, unreachable.local_addr().expect("bound").port()];
    drop(unreachable);
    let peer = Peer::start(vec![of_shard(0, 1, ports, sales.to_vec())]);
    let mut client = connect(&peer);
    for sale in sales {
        assert_eq!(client.ask(&question_about(sale)), Ok(answer_to(RequestId(1))));
    }
    drop(client);
    assert_eq!(peer.finish().len(), 2);
}

#[test]
fn a_restart_with_another_number_of_shards_is_followed() {
    let sales = sales_of_two_shards();
    let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
    let ports: Vec<u16> =
        listeners.iter().map(|listener| listener.local_addr().expect("bound").port()).collect();
    let [first, second] = listeners;
    let both = ports.clone();
    // The second shard takes a request, and with that the server dies.
    let second = Peer::on(
        second,
        vec![script(move |talk| {
            talk.greet_with(&Welcome { shard: ShardIndex(1), ports: both, ..welcome(1) });
            talk.expect();
        })],
    );
    let one_shard = vec![ports[0]];
    let first = Peer::on(
        first,
        vec![
            script(move |talk| talk.greet_with(&Welcome { ports, ..welcome(1) })),
            of_shard(0, 2, one_shard, sales.to_vec()),
        ],
    );
    let mut client = connect(&first);
    for sale in [sales[1], sales[0], sales[1]] {
        assert_eq!(client.ask(&question_about(sale)), Ok(answer_to(RequestId(1))));
    }
    assert_eq!((client.welcome().boot, client.welcome().ports.len()), (2, 1));
    drop(client);
    assert_eq!((first.finish().len(), second.finish().len()), (3, 1));
}

/// Who gives up half of a batch drops the rest of it, and goes on with the same client.
#[test]
fn unclaimed_answers_are_bounded_and_those_of_dropped_requests_thrown_away() {
    let peer = Peer::start(vec![healthy()]);
    let mut client = connect(&peer);
    for request in 0..2 * UNCLAIMED_MAX as u128 {
        drop(client.submit(&buy(request)).expect("the dropped ones take no room"));
    }
    let mut kept = Vec::new();
    let refused = loop {
        let request = kept.len() as u128;
        match client.submit(&buy(request)) {
            Ok(pending) => kept.push((request, pending)),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, ClientError::Definite(Cause::Unclaimed));
    let waited_for = kept.split_off(UNCLAIMED_MAX / 2);
    assert_all_answered(&mut client, waited_for);
    drop(kept);
    let pending = submit_all(&mut client, 1..3);
    assert_all_answered(&mut client, pending);
}

#[test]
#[should_panic(expected = "another client")]
fn a_pending_request_belongs_to_its_client() {
    let peer = Peer::start(vec![healthy(), healthy()]);
    let mut one = connect(&peer);
    let pending = one.submit(&buy(1)).expect("there is room");
    drop(one);
    let mut other = connect(&peer);
    let _ = other.wait(pending);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever the first connections do, each request ends with its own answer, and every copy
    /// of it that went out is the same to the byte.
    #[test]
    fn any_sequence_of_faults_is_survived(
        faults in prop::collection::vec(prop::collection::vec(fault(), 1..12), 0..5),
        requests in 1_u128..40,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let peer = peer::Endless::on(listener, faults, peer::misbehave);
        let mut client = Client::connect(peer.address(), options()).expect("the peer greets");
        let pending = submit_all(&mut client, 0..requests);
        assert_all_answered(&mut client, pending);
        drop(client);
        let mut seen = peer.finish();
        seen.sort();
        seen.dedup();
        prop_assert_eq!(seen.len() as u128, requests);
    }
}
