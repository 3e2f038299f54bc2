//! Another number of shards at a restart: nothing is lost, and a crash on the way loses nothing.

#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use boxoffice::audit::audit;
use boxoffice::model::{
    Answer, Command, ItemCounts, OrderNumber, OrderView, Outcome, SaleId, SaleStats, SaleTerms,
};
use boxoffice::protocol::binary::Request;
use peer::{Got, Peer, buy, confirm, hold, intent};
use server::{Serve, Server, temporary_dir};

/// More sales than any number of shards here.
const SALES: u64 = 12;

const SEGMENT_BYTES: &str = "1052672";

/// What is sold before the number of shards changes, and what was answered.
struct Sold {
    requests: Vec<Request<'static>>,
    answers: Vec<Outcome>,
    seen: Vec<Seen>,
}

type Seen = (SaleStats, Vec<ItemCounts>, Vec<OrderView>);

fn serve(data_dir: &Path, shards: u16) -> Serve {
    Serve::on(data_dir).with_shards(shards).with("--segment-bytes", SEGMENT_BYTES)
}

fn see(peer: &mut Peer) -> Vec<Seen> {
    let sales = (1..=SALES).map(SaleId);
    let seen = sales.map(|sale| {
        let (stats, counts) = (peer.stats(sale), peer.availability(sale));
        let orders = (1..=stats.orders).map(|order| peer.order(sale, OrderNumber(order)));
        (stats, counts, orders.collect())
    });
    seen.collect()
}

/// Sales with purchases, live holds, confirmed holds and fences.
fn sell(server: &Server) -> Sold {
    let mut peer = Peer::connect(server.address());
    let (mut requests, mut answers) = (Vec::new(), Vec::new());
    for sale in (1..=SALES).map(SaleId) {
        peer.open_sale(sale, SaleTerms::default(), &[(1, 1_000), (2, 50)]);
        for n in 0..6 {
            let fence = Request::Command(Command::Fence { intent: intent(sale, 1 + n, 900 + n) });
            for request in [
                buy(intent(sale, 1 + n, 100 + n), &[(1, 2), (2, 1)]),
                hold(intent(sale, 1 + n, 200 + n), &[(1, 1)]),
                confirm(intent(sale, 1 + n, 300 + n), OrderNumber(2 * n as u32 + 2)),
                fence,
            ] {
                // Every other hold stays one.
                if n % 2 == 0 && matches!(request, Request::Command(Command::Confirm { .. })) {
                    continue;
                }
                answers.push(peer.gets(request.clone()));
                requests.push(request);
            }
        }
    }
    let seen = see(&mut peer);
    Sold { requests, answers, seen }
}

/// Everything is as it was, and what was asked before gets the same answer again.
fn assert_kept(server: &Server, sold: &Sold) {
    let mut peer = Peer::connect(server.address());
    assert_eq!(see(&mut peer), sold.seen);
    for (request, answer) in sold.requests.iter().zip(&sold.answers) {
        let again: Got = peer.ask(request.clone());
        let same = Answer { outcome: answer.clone(), replayed: true };
        assert_eq!(again, Ok(same), "{request:?}");
    }
}

/// The directories of shards that were replaced.
fn replaced(data_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data_dir).expect("the data directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let is_replaced = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("replaced-"))
    };
    paths.filter(is_replaced).collect()
}

#[test]
fn a_restart_divides_the_sales_among_another_number_of_shards() {
    let home = temporary_dir();
    let data_dir = home.path().join("data");
    let mut server = Server::start_on(&data_dir, serve(&data_dir, 1));
    let mut sold = sell(&server);
    server.kill();
    drop(server);
    for (round, shards) in [3, 2, 1].into_iter().enumerate() {
        let mut server = Server::start_on(&data_dir, serve(&data_dir, shards));
        assert_eq!(server.shards(), usize::from(shards));
        assert_kept(&server, &sold);
        // It goes on: the next orders have the next numbers.
        let mut peer = Peer::connect(server.address());
        for sale in (1..=SALES).map(SaleId) {
            let next = peer.stats(sale).orders + 1;
            let bought = peer.gets(buy(intent(sale, 7, 1_000 + round as u128), &[(1, 1)]));
            assert_eq!(bought, Outcome::Confirmed { order: OrderNumber(next) });
        }
        sold.seen = see(&mut peer);
        server.kill();
        // Once more, from the new logs alone.
        server.restart();
        assert_kept(&server, &sold);
        server.terminate();
        assert_eq!(replaced(&data_dir).len(), round + 1);
    }
    // What was replaced is whole, and each a data directory of its own.
    let reports = replaced(&data_dir).into_iter().map(|path| audit(&path).expect("it is read"));
    assert_eq!(reports.filter(boxoffice::audit::Report::is_clean).count(), 3);
}

#[test]
fn what_is_replaced_goes_as_the_setting_says() {
    let home = temporary_dir();
    let (data_dir, archive) = (home.path().join("data"), home.path().join("archive"));
    let mut server = Server::start_on(&data_dir, serve(&data_dir, 1));
    let sold = sell(&server);
    server.kill();
    let deleting = serve(&data_dir, 2).with("--retention", "delete");
    let mut server = Server::start_on(&data_dir, deleting);
    assert_kept(&server, &sold);
    server.kill();
    assert!(replaced(&data_dir).is_empty());
    let path = archive.to_str().expect("the path is UTF-8");
    let archiving = serve(&data_dir, 1).with("--retention", "archive").with("--archive-dir", path);
    let server = Server::start_on(&data_dir, archiving);
    assert_kept(&server, &sold);
    assert_eq!((replaced(&data_dir).len(), replaced(&archive).len()), (0, 1));
}

/// What cannot be retired now is by a later start, and what stayed on purpose is left alone.
#[test]
fn what_could_not_be_retired_is_by_the_next_start() {
    let home = temporary_dir();
    let (data_dir, archive) = (home.path().join("data"), home.path().join("archive"));
    let mut server = Server::start_on(&data_dir, serve(&data_dir, 1));
    let sold = sell(&server);
    server.kill();
    // The name is taken, by a directory that is not empty.
    let log_id = |data_dir: &Path| -> String {
        let text = fs::read_to_string(data_dir.join("MANIFEST")).expect("a manifest");
        let manifest: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        manifest["logs"][0].as_str().expect("a log id").to_owned()
    };
    let taken = archive.join(format!("replaced-{}", log_id(&data_dir)));
    fs::create_dir_all(taken.join("something")).expect("directories");
    let path = archive.to_str().expect("the path is UTF-8");
    let archiving = serve(&data_dir, 2).with("--retention", "archive").with("--archive-dir", path);
    let mut server = Server::start_on(&data_dir, archiving.clone());
    assert!(server.log().contains("the next start tries it again"), "{}", server.log());
    server.kill();
    assert_eq!(replaced(&data_dir).len(), 1);
    fs::remove_dir_all(&taken).expect("it is removed");
    let mut server = Server::start_on(&data_dir, archiving);
    assert_kept(&server, &sold);
    server.kill();
    assert!(replaced(&data_dir).is_empty() && audit(&taken).expect("a log").is_clean());
    // Those that a setting has kept are the operator's.
    let mut server = Server::start_on(&data_dir, serve(&data_dir, 1));
    server.kill();
    let deleting = serve(&data_dir, 1).with("--retention", "delete");
    let server = Server::start_on(&data_dir, deleting);
    assert_kept(&server, &sold);
    assert_eq!(replaced(&data_dir).len(), 1);
}

#[test]
fn a_kill_on_the_way_leaves_the_old_shards_or_the_new_ones() {
    let home = temporary_dir();
    let data_dir = home.path().join("data");
    let mut server = Server::start_on(&data_dir, serve(&data_dir, 1));
    let sold = sell(&server);
    server.kill();
    // The moments of the kills are the machine's own; the numbers of shards change each time.
    for round in 0..16_u64 {
        let shards = [3, 1, 2][round as usize % 3];
        let mut child = serve(&data_dir, shards).command().spawn().expect("the program can be run");
        thread::sleep(Duration::from_millis(5 + round * 9));
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }
    let mut server = Server::start_on(&data_dir, serve(&data_dir, 2));
    assert_kept(&server, &sold);
    server.kill();
    server.restart();
    assert_kept(&server, &sold);
}
