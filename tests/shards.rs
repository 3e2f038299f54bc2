//! Several shards behind one address: every door leads to every sale, nothing is lost between
//! shards, and each sale's records lie where the sale's id says.

#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::thread;

use boxoffice::audit::audit;
use boxoffice::cli::exit::ExitCode;
use boxoffice::model::{
    Answer, Outcome, Query, Refusal, SaleId, SaleStats, SaleTerms, Scopes, ShardIndex,
};
use boxoffice::protocol::binary::Request;
use peer::{Answers, Peer, buy, hold, hold_ttl, intent};
use server::{Refused, Serve, Server, temporary_dir};

/// A sale whose home is this shard.
fn sale_on(shard: usize, shards: u16) -> SaleId {
    let shards = NonZeroU16::new(shards).expect("a server has shards");
    let home = ShardIndex(shard as u16);
    let mut sales = (1..1_000).map(SaleId);
    sales.find(|sale| sale.shard(shards) == home).expect("each shard has sales")
}

fn start(shards: u16) -> Server {
    Server::start_with(|serve| serve.with_shards(shards))
}

/// The shared port, and each shard's own.
fn doors(server: &Server) -> Vec<SocketAddr> {
    let own = (0..server.shards()).map(|shard| server.shard_address(shard));
    std::iter::once(server.address()).chain(own).collect()
}

fn sells_through_every_door(shards: u16) {
    let mut server = start(shards);
    let sales: Vec<_> = (1..=6).map(SaleId).collect();
    assert_eq!(server.shards(), usize::from(shards));
    let ports: Vec<_> = doors(&server)[1..].iter().map(SocketAddr::port).collect();
    for (door, address) in doors(&server).into_iter().enumerate() {
        let mut peer = Peer::silent(address);
        let welcome = peer.hello(b"").expect("loopback is let in");
        assert_eq!((welcome.scopes, &welcome.ports), (Scopes::ALL, &ports));
        if door > 0 {
            assert_eq!(usize::from(welcome.shard.0), door - 1, "a shard's own port is its own");
        }
        for &sale in &sales {
            if door == 0 {
                peer.open_sale(sale, hold_ttl(600_000), &[(1, 100)]);
            }
            let account = door as u128 + 1;
            peer.gets(buy(intent(sale, account, 1), &[(1, 2)]));
            peer.gets(hold(intent(sale, account, 2), &[(1, 3)]));
            let doors = door as u64 + 1;
            let stats = peer.stats(sale);
            assert_eq!((stats.sold, stats.held), (2 * doors, 3 * doors));
            let again = peer.ask(buy(intent(sale, account, 1), &[(1, 2)]));
            assert!(again.expect("it was done").replayed);
            let over = peer.ask(hold(intent(sale, account, 3), &[(1, 101)]));
            assert_eq!(over, Err(Refusal::NoneNow));
        }
    }
    let stats = |server: &Server| -> Vec<SaleStats> {
        let mut peer = Peer::connect(server.address());
        sales.iter().map(|&sale| peer.stats(sale)).collect()
    };
    let before = stats(&server);
    for is_crash in [true, false] {
        if is_crash {
            server.kill()
        } else {
            server.terminate()
        };
        server.restart();
        assert_eq!(stats(&server), before);
    }
    server.terminate();
    let report = audit(server.data_dir()).expect("the logs can be read");
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.sales.len(), sales.len());
    let count = NonZeroU16::new(shards).expect("a server has shards");
    for sale in &report.sales {
        let home = SaleId(sale.sale).shard(count);
        assert_eq!(sale.shard, home.0, "sale {} lies elsewhere", sale.sale);
    }
}

#[test]
fn two_shards_sell_through_every_door() {
    sells_through_every_door(2);
}

#[test]
fn three_shards_sell_through_every_door() {
    sells_through_every_door(3);
}

#[test]
fn requests_for_all_shards_share_a_connection() {
    let server = start(2);
    let sales = [sale_on(0, 2), sale_on(1, 2)];
    for address in doors(&server) {
        let mut peer = Peer::connect(address);
        if address == server.address() {
            for sale in sales {
                peer.open_sale(sale, SaleTerms::default(), &[(1, 10_000)]);
            }
        }
        let account = u128::from(address.port());
        let requests: Vec<_> = (1..=4_000)
            .map(|request| match request % 4 {
                0 => Request::Query(Query::Stats { sale: sales[request % 8 / 4] }),
                other => buy(intent(sales[other % 2], account, request as u128), &[(1, 1)]),
            })
            .collect();
        let answers = peer.ask_all(&requests);
        for (request, got) in requests.iter().zip(answers) {
            let Ok(Answer { outcome, replayed: false }) = got else {
                panic!("{request:?}: {got:?}")
            };
            match request {
                Request::Query(_) => assert!(matches!(outcome, Outcome::Stats(_)), "{outcome:?}"),
                _ => assert!(matches!(outcome, Outcome::Confirmed { .. }), "{outcome:?}"),
            }
        }
    }
    let mut peer = Peer::connect(server.address());
    assert_eq!(sales.map(|sale| peer.stats(sale).sold), [3_000, 6_000]);
}

#[test]
fn large_answers_cross_shards() {
    let server = start(2);
    let sales = [sale_on(0, 2), sale_on(1, 2)];
    let items: Vec<_> = (1..=1_024).map(|item| (item, item)).collect();
    let mut peer = Peer::connect(server.address());
    for sale in sales {
        peer.open_sale(sale, SaleTerms::default(), &items);
    }
    for address in doors(&server) {
        let mut peer = Peer::connect(address);
        let requests: Vec<_> = (0..100)
            .map(|index| Request::Query(Query::Availability { sale: sales[index % 2] }))
            .collect();
        for got in peer.ask_all(&requests) {
            let Ok(Answer { outcome: Outcome::Availability(counts), .. }) = got else {
                panic!("no counters: {got:?}")
            };
            let seen: Vec<_> = counts.iter().map(|item| (item.item.0, item.available.0)).collect();
            assert_eq!(seen, items);
        }
    }
}

/// Purchases through a shard that does not own the sale, written while the answers are read.
struct Flood {
    peer: Peer,
    writing: thread::JoinHandle<std::io::Result<()>>,
}

impl Flood {
    fn start(door: SocketAddr, sale: SaleId, account: u128, count: u128) -> Self {
        let mut peer = Peer::connect(door);
        let requests: Vec<_> =
            (1..=count).map(|request| buy(intent(sale, account, request), &[(1, 1)])).collect();
        let bytes = peer.encode(&requests);
        let mut writer = peer.writer();
        Self { peer, writing: thread::spawn(move || writer.write_all(&bytes)) }
    }

    fn written(self) -> Peer {
        let written = self.writing.join().expect("a thread that ends");
        written.expect("the server took it all");
        self.peer
    }
}

#[test]
fn a_flood_through_the_wrong_shard_loses_nothing() {
    const PEERS: u128 = 6;
    const REQUESTS: u128 = 4_000;
    let server = start(2);
    let sales = [sale_on(0, 2), sale_on(1, 2)];
    let mut admin = Peer::connect(server.address());
    for sale in sales {
        admin.open_sale(sale, SaleTerms::default(), &[(1, 1_000_000)]);
    }
    // Both ways at once, each from the shard that is not the sale's own.
    let floods: Vec<_> = (0..PEERS)
        .map(|index| {
            let home = index as usize % 2;
            Flood::start(server.shard_address(1 - home), sales[home], index + 1, REQUESTS)
        })
        .collect();
    let readers: Vec<_> = floods
        .into_iter()
        .map(|mut flood| {
            thread::spawn(move || {
                let answers = flood.peer.answers(REQUESTS as usize);
                flood.written();
                answers
            })
        })
        .collect();
    for reader in readers {
        let answers = reader.join().expect("the peer's own checks hold");
        assert!(answers.values().all(|got| got.as_ref().is_ok_and(|answer| !answer.replayed)));
    }
    let expected = (PEERS * REQUESTS / 2) as u64;
    assert_eq!(sales.map(|sale| admin.stats(sale).sold), [expected; 2]);
}

#[test]
fn shards_that_stop_wait_for_each_other() {
    const REQUESTS: usize = 6_000;
    let mut server = start(3);
    let sales = [0, 1, 2].map(|shard| sale_on(shard, 3));
    let mut admin = Peer::connect(server.address());
    for sale in sales {
        admin.open_sale(sale, SaleTerms::default(), &[(1, 1_000_000)]);
    }
    drop(admin);
    // All through the first shard: the others have no connection of their own.
    let readers: Vec<_> = (0..9)
        .map(|index| {
            let sale = sales[index % 3];
            let door = server.shard_address(0);
            let mut flood = Flood::start(door, sale, index as u128 + 1, REQUESTS as u128);
            let first = flood.peer.read_answer().expect("an answer");
            thread::spawn(move || {
                let mut answers = flood.peer.answers_to_the_end();
                answers.insert(first.0, first.1);
                flood.written();
                (sale, answers)
            })
        })
        .collect();
    assert_eq!(server.terminate().code(), Some(0), "{}", server.log());
    let mut sold = [0; 3];
    for reader in readers {
        let (sale, answers): (SaleId, Answers) = reader.join().expect("the peer's checks hold");
        assert_eq!(answers.len(), REQUESTS, "each request has an answer");
        for got in answers.values() {
            assert!(matches!(got, Ok(_) | Err(Refusal::Draining)), "{got:?}");
            let home = sales.iter().position(|known| *known == sale).expect("one of them");
            sold[home] += u64::from(got.is_ok());
        }
    }
    server.restart();
    let mut peer = Peer::connect(server.address());
    assert_eq!(sales.map(|sale| peer.stats(sale).sold), sold);
}

#[test]
fn a_port_without_ports_behind_it_is_refused() {
    let home = temporary_dir();
    let serve = Serve::on(&home.path().join("data")).with("--binary", "127.0.0.1:65535");
    let Refused { code, stderr, .. } = serve.with_shards(2).refused();
    assert_eq!(code, Some(i32::from(ExitCode::CannotListen.number())), "{stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("boxoffice: ") && last.contains(":65535"), "{last}");
}
