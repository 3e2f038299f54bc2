//! A machine that has too little: a full disk, a log that may not grow, low limits.
//!
//! The server refuses what it has no room for, or ends or does not start, with one clear line and
//! the documented code; and what it had acknowledged is there in any case. Each test needs a right
//! that not everybody has; where it is missing, the test says so and ends.

#[path = "support/disk.rs"]
mod disk;
#[path = "support/http_peer.rs"]
mod http_peer;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use boxoffice::cli::exit::ExitCode;
use boxoffice::model::{OrderNumber, Outcome, Refusal, SaleId, SaleTerms};
use boxoffice::wal::BLOCK_BYTES;
use disk::{Disk, run};
use http_peer::HttpPeer;
use peer::{Peer, buy, confirm, hold, hold_ttl, intent, release};
use serde_json::json;
use server::{Serve, Server, assert_refused, temporary_dir};

const SALE: SaleId = SaleId(7);

/// Buys in batches until the server is gone; the orders that were acknowledged, by request.
fn buy_until_the_end(mut peer: Peer, account: u128) -> HashMap<u128, Outcome> {
    let mut bought = HashMap::new();
    for batch in 0.. {
        let first = batch * 500;
        let requests: Vec<_> = (first..first + 500)
            .map(|request| buy(intent(SALE, account, request), &[(1, 1)]))
            .collect();
        let bytes = peer.encode(&requests);
        // The answers that still arrive count, written or not.
        let _written = peer.write(&bytes);
        for _ in 0..500 {
            let Some((correlation, got)) = peer.read_answer() else { return bought };
            let outcome = got.expect("there is enough").outcome;
            // Hello was the first correlation id.
            bought.insert(u128::from(correlation) - 2, outcome);
        }
    }
    unreachable!("batches never end")
}

/// Each acknowledged purchase is known.
fn assert_all_there(server: &Server, account: u128, bought: &HashMap<u128, Outcome>) {
    let mut peer = Peer::connect(server.address());
    let known: Vec<_> = bought.iter().collect();
    for known in known.chunks(500) {
        let again: Vec<_> = known
            .iter()
            .map(|(request, _)| buy(intent(SALE, account, **request), &[(1, 1)]))
            .collect();
        for ((request, outcome), got) in known.iter().zip(peer.ask_all(&again)) {
            let answer = got.expect("it was acknowledged");
            assert!(answer.replayed && answer.outcome == **outcome, "{request}: {answer:?}");
        }
    }
    let stats = peer.stats(SALE);
    assert!(stats.sold >= bought.len() as u64);
}

/// The last line on stderr, which is the server's one complaint.
#[track_caller]
fn assert_complaint(log: &str, names: &[&str]) {
    let complaints: Vec<_> = log.lines().filter(|line| line.starts_with("boxoffice: ")).collect();
    assert_eq!(complaints.len(), 1, "one clear line:\n{log}");
    assert!(names.iter().all(|name| complaints[0].contains(name)), "{names:?}: {complaints:?}");
    assert!(!log.contains("panicked"), "{log}");
}

/// Orders by the request that made them.
#[derive(Default)]
struct Made {
    held: Vec<(u128, OrderNumber)>,
    bought: HashMap<u128, Outcome>,
}

/// Holds and buys in batches until a whole batch is refused.
fn ask_until_full(peer: &mut Peer, account: u128) -> Made {
    let mut made = Made::default();
    for batch in 0.. {
        let requests: Vec<_> = (batch * 500..batch * 500 + 500).collect();
        let asked: Vec<_> = requests
            .iter()
            .map(|request| {
                let ask = if request % 2 == 0 { hold } else { buy };
                ask(intent(SALE, account, *request), &[(1, 1)])
            })
            .collect();
        let mut refused = 0;
        for (request, got) in requests.iter().zip(peer.ask_all(&asked)) {
            match got.map(|answer| answer.outcome) {
                Ok(Outcome::Held { order, .. }) => made.held.push((*request, order)),
                Ok(outcome) => drop(made.bought.insert(*request, outcome)),
                Err(Refusal::DiskFull) => refused += 1,
                Err(refusal) => panic!("{request}: {refusal:?}"),
            }
        }
        if refused == requests.len() {
            break;
        }
    }
    made
}

/// Takes all room that a disk has left.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).expect("a file can be made");
    for bytes in [1 << 20, 4096] {
        while file.write_all(&vec![1; bytes]).is_ok() {}
    }
    // An error says that the last bytes found no room.
    let _ = file.sync_all();
}

/// The end of each hold, in a write of its own.
fn end_holds(peer: &mut Peer, account: u128, held: &[(u128, OrderNumber)]) {
    for (request, order) in held {
        let intent = intent(SALE, account, 1_000_000 + request);
        let end = if request % 4 == 0 { confirm(intent, *order) } else { release(intent, *order) };
        peer.gets(end);
    }
}

/// Whether the log counts on nothing any more that another program could take.
fn is_secured(server: &Server) -> bool {
    let mut office = HttpPeer::connect_unix(Path::new(server.admin_address()));
    let metrics = String::from_utf8(office.get("/metrics").body).expect("it is UTF-8");
    metrics.contains("\nboxoffice_log_unsecured_bytes{shard=\"0\"} 0\n")
}

#[test]
fn a_full_disk_refuses_what_is_new_and_ends_what_is_held() {
    let disk = match Disk::new(24) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped, no disk of its own can be mounted: {why}"),
    };
    let filler = disk.mount.join("filler");
    fs::write(&filler, vec![1; 8 << 20]).expect("there is room");
    let data_dir = disk.mount.join("data");
    let serve = Serve::on(&data_dir).with("--segment-bytes", "2097152");
    let mut server = Server::start_on(&data_dir, serve);
    let mut peer = Peer::connect(server.address());
    peer.open_sale(SALE, hold_ttl(600_000), &[(1, 100_000_000)]);
    let made = ask_until_full(&mut peer, 1);
    assert!(made.held.len() > 500 && made.bought.len() > 500, "{} held", made.held.len());

    // Nobody sends buyers elsewhere: who holds something must get through.
    let mut office = HttpPeer::connect_unix(Path::new(server.admin_address()));
    assert_eq!(office.get("/readyz").status, 200);
    let metrics = String::from_utf8(office.get("/metrics").body).expect("it is UTF-8");
    assert!(metrics.contains("\nboxoffice_log_full{shard=\"0\"} 1\n"), "{metrics}");
    let order = json!({"account": "ann", "action": "hold", "lines": [{"item": 1, "quantity": 1}]});
    let mut http = HttpPeer::connect(server.http_address());
    let refused = http.post("/v1/sales/7/orders", "hold-1", &order);
    assert_eq!((refused.status, refused.code()), (507, "DISK_FULL".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("5"));

    // Another program takes the rest. What was promised before is kept all the same, and through
    // a crash.
    while !is_secured(&server) {
        thread::sleep(Duration::from_millis(20));
    }
    fill(&disk.mount.join("rest"));
    let (first, rest) = made.held.split_at(made.held.len() / 3);
    end_holds(&mut peer, 1, first);
    server.kill();
    server.restart();
    let mut peer = Peer::connect(server.address());
    let late = hold(intent(SALE, 1, 9_000_000), &[(1, 1)]);
    assert_eq!(peer.ask(late.clone()), Err(Refusal::DiskFull));
    end_holds(&mut peer, 1, rest);
    assert_eq!((peer.stats(SALE).held, peer.ask(late.clone())), (0, Err(Refusal::DiskFull)));

    // Service returns by itself.
    fs::remove_file(disk.mount.join("rest")).expect("it can be removed");
    fs::remove_file(&filler).expect("it can be removed");
    while let Err(refusal) = peer.ask(late.clone()) {
        assert_eq!(refusal, Refusal::DiskFull);
        thread::sleep(Duration::from_millis(20));
    }
    server.kill();
    server.restart();
    assert_all_there(&server, 1, &made.bought);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// The one line says where, how much a start needs, and how much there is.
#[track_caller]
fn assert_no_room(refused: &server::Refused, data_dir: &Path) {
    let at = data_dir.to_str().expect("UTF-8");
    let names = [at, "a start needs", "are free", "o space left"];
    assert_refused(refused, ExitCode::NoRoom, &names);
}

#[test]
fn a_start_without_room_says_how_much_it_needs() {
    let disk = match Disk::new(12) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped, no disk of its own can be mounted: {why}"),
    };
    let data_dir = disk.mount.join("data");
    let serve = Serve::on(&data_dir);
    // Eight segments of 4 MiB, and room for two.
    let refused = serve.clone().with_shards(8).refused();
    assert_no_room(&refused, &data_dir);
    assert!(refused.stderr.contains("needs 24."), "{refused:?}");
    // Room for one: it serves, and the next start needs no more.
    let mut server = Server::start_on(&data_dir, serve);
    fill(&disk.mount.join("filler"));
    server.kill();
    server.restart();
}

fn segment(server: &Server, index: u64) -> PathBuf {
    server.data_dir().join(format!("shard-000/{index:020}.wal"))
}

/// Waits until both segments ahead are prepared and the shard has opened them, so that the
/// process makes no more files and opens none.
fn wait_until_prepared(server: &Server) {
    let segments = [1, 2, 3].map(|index| segment(server, index));
    let is_open = |of: &PathBuf| {
        let files = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("it runs");
        files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|to| to == *of))
    };
    let is_busy = || open_files(server) != open_files(server);
    while !segments.iter().all(is_open) || is_busy() {
        thread::sleep(Duration::from_millis(20));
    }
}

/// The numbers of the open files.
fn open_files(server: &Server) -> HashSet<u64> {
    let files = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("the process runs");
    let numbers = files.flatten().filter_map(|file| file.file_name().to_str()?.parse().ok());
    numbers.collect()
}

/// The offset behind the last block of a file that is not zero.
fn end_of_log(segment: &Path) -> u64 {
    let bytes = fs::read(segment).expect("it can be read");
    let blocks = bytes.chunks(BLOCK_BYTES).rposition(|block| block.iter().any(|byte| *byte != 0));
    ((blocks.expect("it has a header") + 1) * BLOCK_BYTES) as u64
}

/// A limit on the size of files cuts the next frame short behind its first block.
#[test]
fn a_write_that_comes_short_is_not_acknowledged() {
    let mut server = Server::start_with(|serve| serve.with("--segments-ahead", "2"));
    let mut peer = Peer::connect(server.address());
    peer.open_sale(SALE, SaleTerms::default(), &[(1, 1_000_000)]);
    let buyer = Peer::connect(server.address());
    wait_until_prepared(&server);
    let limit = end_of_log(&segment(&server, 1)) + BLOCK_BYTES as u64;
    let pid = server.pid().to_string();
    if let Err(why) = run("prlimit", &["--pid", &pid, &format!("--fsize={limit}")]) {
        return println!("skipped, the limit cannot be set: {why}");
    }
    let bought = buy_until_the_end(buyer, 1);
    let status = server.wait();
    let log = server.log();
    // Not by the signal that the kernel has for this, SIGXFSZ.
    let failed = i32::from(ExitCode::DiskFailed.number());
    assert_eq!(status.code(), Some(failed), "{status}:\n{log}");
    assert_complaint(&log, &["shard-000/00000000000000000001.wal", "offset ", "LSN "]);
    server.restart();
    assert_all_there(&server, 1, &bought);
}

/// A disk that is gone from one moment to the next, under load.
#[test]
fn a_disk_that_fails_ends_the_server_at_once_and_loses_nothing() {
    let mut disk = match Disk::new(64) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped, no disk of its own can be mounted: {why}"),
    };
    let data_dir = disk.mount.join("data");
    let serve = Serve::on(&data_dir).with("--segments-ahead", "2");
    let mut server = Server::start_on(&data_dir, serve.clone());
    let mut peer = Peer::connect(server.address());
    peer.open_sale(SALE, SaleTerms::default(), &[(1, 1_000_000)]);
    let buyer = Peer::connect(server.address());
    let buyer = thread::spawn(move || buy_until_the_end(buyer, 1));
    while peer.stats(SALE).sold < 5_000 {}
    if let Err(why) = disk.cut() {
        server.kill();
        drop(buyer.join());
        return println!("skipped, the file system cannot be shut down: {why}");
    }
    let bought = buyer.join().expect("its own checks hold");
    let status = server.wait();
    let log = server.log();
    assert_eq!(status.code(), Some(i32::from(ExitCode::DiskFailed.number())), "{log}");
    assert_complaint(&log, &["shard-000/0000000000000000000", "offset ", "LSN ", "dmesg"]);
    // Nor does it start on what cannot be read.
    let at = data_dir.to_str().expect("UTF-8");
    assert_refused(&serve.refused(), ExitCode::CannotRead, &[at, "dmesg"]);
    disk.mount_again().expect("it is mounted anew, as after a power cut");
    server.restart();
    assert_all_there(&server, 1, &bought);
}

fn failing_disk() -> Option<Disk> {
    let disk = Disk::on_failing_device(64);
    disk.inspect_err(|why| println!("skipped, there is no device that can fail: {why}")).ok()
}

/// A server that prepares one segment after the other, at its leisure, and sold some before.
fn preparing(disk: &Disk) -> (Server, HashMap<u128, Outcome>) {
    let data_dir = disk.mount.join("data");
    let serve = Serve::on(&data_dir).with("--segment-bytes", "1052672");
    let server = Server::start_on(&data_dir, serve.with("--segments-ahead", "8"));
    let mut peer = Peer::connect(server.address());
    peer.open_sale(SALE, SaleTerms::default(), &[(1, 1_000_000)]);
    let requests: Vec<_> = (0..300).map(|n| buy(intent(SALE, 1, n), &[(1, 1)])).collect();
    let answers = peer.ask_all(&requests).into_iter();
    (server, (0..).zip(answers.map(|got| got.expect("it is sold").outcome)).collect())
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// How often the server has said this.
fn said(server: &Server, what: &str) -> usize {
    server.log().matches(what).count()
}

const CANNOT_PREPARE: &str = "cannot prepare a log segment";

/// Writes fail while a segment is filled with zeros, and no request waits for it: it is thrown
/// away, and made anew once the disk is mended.
#[test]
fn a_segment_that_cannot_be_filled_is_made_anew() {
    let Some(mut disk) = failing_disk() else { return };
    let (mut server, bought) = preparing(&disk);
    let preparation = |index| segment(&server, index).with_extension("wal.tmp");
    wait_until(|| (3..9).any(|index| preparation(index).exists()));
    disk.cut().expect("it can fail");
    wait_until(|| said(&server, CANNOT_PREPARE) > 0);
    disk.mend();
    let log = server.log();
    let line = log.lines().find(|line| line.contains(CANNOT_PREPARE)).expect("it said so");
    assert!(line.contains("Input/output error") && line.contains("every second"), "{line}");
    wait_until(|| said(&server, "log segments are prepared again") > 0);
    wait_until(|| segment(&server, 6).exists());
    server.kill();
    server.restart();
    assert_all_there(&server, 1, &bought);
}

/// The directory is synced right behind the renaming of a new segment. Where that fails, nobody
/// knows whether the segment will be there, and so nothing is written to it.
#[test]
fn a_directory_that_cannot_be_synced_ends_the_server() {
    let Some(mut disk) = failing_disk() else { return };
    let (mut server, bought) = preparing(&disk);
    let is_over = |server: &Server| said(server, "syncing the directory") > 0;
    for index in 3.. {
        assert!(index < 9, "every cut came too late");
        wait_until(|| segment(&server, index).exists());
        let before = said(&server, CANNOT_PREPARE);
        disk.cut().expect("it can fail");
        wait_until(|| is_over(&server) || said(&server, CANNOT_PREPARE) > before);
        if is_over(&server) {
            break;
        }
        // The sync was faster. The next one is as good.
        disk.mend();
    }
    let status = server.wait();
    let log = server.log();
    assert_eq!(status.code(), Some(i32::from(ExitCode::DiskFailed.number())), "{log}");
    assert_complaint(&log, &["shard-000", "syncing the directory", "what was answered is safe"]);
    disk.mount_again().expect("it is mounted anew");
    server.restart();
    assert_all_there(&server, 1, &bought);
}

/// Starts as somebody without rights, below these limits: it serves, or says the one line.
fn start_below(limits: &[&str]) -> Result<(), String> {
    let home = temporary_dir();
    let data_dir = home.path().join("data");
    fs::create_dir(&data_dir).expect("a directory can be made");
    let mut path = home.path();
    run("chmod", &["755", path.to_str().expect("UTF-8")])?;
    path = &data_dir;
    run("chown", &["65534:65534", path.to_str().expect("UTF-8")])?;
    let somebody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    run(somebody[0], &[&somebody[1..], &["test", "-w", path.to_str().expect("UTF-8")]].concat())?;
    let serve = Serve::on(&data_dir).command();
    let mut command = Command::new("prlimit");
    command.args(limits).args(somebody).arg(serve.get_program()).args(serve.get_args());
    let said = server::first_words(command);
    if said.stdout.lines().any(|line| line == "ready") {
        println!("{limits:?}: it serves");
        return Ok(());
    }
    println!("{limits:?}: {}", said.stderr);
    assert_eq!(said.code, Some(i32::from(ExitCode::Environment.number())), "{limits:?}: {said:?}");
    assert_complaint(&said.stderr, &["limit"]);
    Ok(())
}

#[test]
fn low_limits_are_enough_or_are_named() {
    for limits in [
        &["--memlock=0"][..],
        &["--memlock=65536"],
        &["--memlock=8388608"],
        &["--memlock=0", "--nofile=1024"],
        &["--memlock=8388608", "--nofile=300"],
        &["--memlock=8388608", "--nofile=256"],
        &["--memlock=8388608", "--nofile=32"],
        &["--memlock=8388608", "--nofile=16"],
        &["--memlock=8388608", "--nofile=12"],
    ] {
        if let Err(why) = start_below(limits) {
            return println!("skipped, nobody else can be: {why}");
        }
    }
}

/// Nobody is told that it works who then finds no room for a connection.
#[test]
fn a_low_limit_on_open_files_still_lets_peers_in() {
    let home = temporary_dir();
    let data_dir = home.path().join("data");
    let server = Server::start_on(&data_dir, Serve::on(&data_dir).with("--segments-ahead", "2"));
    wait_until_prepared(&server);
    let pid = server.pid().to_string();
    // Room for two more files: the third connection has to wait for one of them.
    let open = open_files(&server);
    let limit = (0..).filter(|number| !open.contains(number)).nth(1).expect("two are free") + 1;
    if let Err(why) = run("prlimit", &["--pid", &pid, &format!("--nofile={limit}")]) {
        return println!("skipped, the limit cannot be set: {why}");
    }
    let mut first = Peer::connect(server.address());
    first.open_sale(SALE, SaleTerms::default(), &[(1, 10)]);
    let second = Peer::connect(server.address());
    let mut waiting = Peer::silent(server.address());
    let (said, hears) = std::sync::mpsc::channel();
    let waiter = thread::spawn(move || {
        said.send(()).expect("the test waits");
        waiting.hello(b"").expect("there is room at last")
    });
    hears.recv().expect("it has begun");
    first.gets(buy(intent(SALE, 1, 1), &[(1, 1)]));
    drop(second);
    assert_eq!(waiter.join().expect("it was let in").shards().get(), 1);
    assert_eq!(first.stats(SALE).sold, 1);
}
