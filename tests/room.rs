//! What makes room on a full disk, what only looks like one, and where what is retired cannot go.
//!
//! Those tests that need a file system of their own say so and end where none can be mounted.

#[path = "support/disk.rs"]
mod disk;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/program.rs"]
mod program;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use boxoffice::audit::audit;
use boxoffice::cli::exit::ExitCode;
use boxoffice::model::{Refusal, SaleId};
use disk::Disk;
use peer::{Peer, buy, hold_ttl, intent};
use program::boxoffice;
use server::{Serve, Server, assert_refused, temporary_dir};

const SALE: SaleId = SaleId(7);

/// The smallest segment.
const SEGMENT_BYTES: &str = "1052672";

fn serve(data_dir: &Path, flags: &[(&str, &str)]) -> Serve {
    let serve = Serve::on(data_dir).with("--segment-bytes", SEGMENT_BYTES);
    flags.iter().fold(serve, |serve, (flag, value)| serve.with(flag, value))
}

fn segment(data_dir: &Path, index: u64) -> PathBuf {
    data_dir.join(format!("shard-000/{index:020}.wal"))
}

/// Purchases a few at a time, so that the log grows faster than the state does.
const AT_ONCE: u128 = 4;

struct Buyer {
    peer: Peer,
    at_once: u128,
    next: u128,
    bought: Vec<u128>,
}

impl Buyer {
    fn new(server: &Server) -> Self {
        let peer = Peer::connect(server.address());
        Self { peer, at_once: AT_ONCE, next: 0, bought: Vec::new() }
    }

    fn on_a_new_sale(server: &Server) -> Self {
        let mut buyer = Self::new(server);
        buyer.peer.open_sale(SALE, hold_ttl(600_000), &[(1, 100_000_000)]);
        buyer
    }

    /// Whether any of some was taken; the only refusal is that of a full disk.
    fn buy(&mut self) -> bool {
        let requests: Vec<_> = (self.next..self.next + self.at_once).collect();
        self.next += self.at_once;
        let asked: Vec<_> =
            requests.iter().map(|n| buy(intent(SALE, 1 + n, *n), &[(1, 1)])).collect();
        let mut is_taken = false;
        for (request, got) in requests.into_iter().zip(self.peer.ask_all(&asked)) {
            match got {
                Ok(_) => {
                    is_taken = true;
                    self.bought.push(request);
                }
                Err(refusal) => assert_eq!(refusal, Refusal::DiskFull),
            }
        }
        is_taken
    }

    fn buy_until_full(&mut self) {
        while self.buy() {}
    }

    /// Asks on until something is taken again.
    fn buy_again(&mut self) {
        while !self.buy() {
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Each purchase that was acknowledged is known, and they are all that was sold.
    fn assert_kept(&self, server: &Server) {
        let mut peer = Peer::connect(server.address());
        for known in self.bought.chunks(500) {
            let again: Vec<_> =
                known.iter().map(|n| buy(intent(SALE, 1 + n, *n), &[(1, 1)])).collect();
            for (request, got) in known.iter().zip(peer.ask_all(&again)) {
                assert!(got.as_ref().is_ok_and(|answer| answer.replayed), "{request}: {got:?}");
            }
        }
        assert_eq!(peer.stats(SALE).sold, self.bought.len() as u64);
    }
}

fn small_disk(mebibytes: u64) -> Option<Disk> {
    let disk = Disk::new(mebibytes);
    disk.inspect_err(|why| println!("skipped, no disk of its own can be mounted: {why}")).ok()
}

#[test]
fn a_log_that_retires_goes_on_for_ever_on_a_small_disk() {
    let Some(disk) = small_disk(24) else { return };
    let data_dir = disk.mount.join("data");
    let flags = [("--snapshot-every", SEGMENT_BYTES), ("--retention", "delete")];
    let mut server = Server::start_on(&data_dir, serve(&data_dir, &flags));
    let mut buyer = Buyer::on_a_new_sale(&server);
    // More log than the disk could ever have.
    while !segment(&data_dir, 26).exists() {
        buyer.buy_again();
    }
    assert!(!segment(&data_dir, 1).exists(), "the beginning was retired");
    server.kill();
    server.restart();
    buyer.assert_kept(&server);
    assert!(server.terminate().success());
    assert!(audit(&data_dir).expect("there is a log").is_clean());
}

/// The log has filled the disk, and the operator starts the server with retention: it frees the
/// disk by itself, although there is hardly room for a snapshot.
#[test]
fn retention_frees_a_disk_that_the_log_has_filled() {
    let Some(disk) = small_disk(24) else { return };
    let data_dir = disk.mount.join("data");
    let keep = serve(&data_dir, &[("--snapshot-every", "0")]);
    let mut server = Server::start_on(&data_dir, keep);
    let mut buyer = Buyer::on_a_new_sale(&server);
    buyer.buy_until_full();
    server.kill();
    let flags = [("--snapshot-every", SEGMENT_BYTES), ("--retention", "delete")];
    let mut server = Server::start_on(&data_dir, serve(&data_dir, &flags));
    buyer.peer = Peer::connect(server.address());
    buyer.buy_again();
    while segment(&data_dir, 1).exists() {
        thread::sleep(Duration::from_millis(20));
    }
    server.kill();
    server.restart();
    buyer.assert_kept(&server);
}

/// What stands in backquotes behind `boxoffice`, as an operator copies it.
fn commands(line: &str) -> Vec<Vec<&str>> {
    let quoted = line.split('`').skip(1).step_by(2);
    let commands = quoted.filter_map(|quoted| quoted.strip_prefix("boxoffice "));
    commands.map(|command| command.split(' ').collect()).collect()
}

/// The log has filled the disk with what no snapshot has room beside. The one line about it leads
/// onto a larger disk, and every purchase is there.
#[test]
fn a_disk_that_no_snapshot_fits_on_is_left_by_the_way_that_the_log_says() {
    let Some(disk) = small_disk(24) else { return };
    let data_dir = disk.mount.join("data");
    let mut server = Server::start_on(&data_dir, serve(&data_dir, &[("--snapshot-every", "0")]));
    let mut buyer = Buyer::on_a_new_sale(&server);
    buyer.at_once = 500;
    buyer.buy_until_full();
    assert!(server.terminate().success());
    let flags = [("--snapshot-every", SEGMENT_BYTES), ("--retention", "delete")];
    let mut server = Server::start_on(&data_dir, serve(&data_dir, &flags));
    while !server.log().contains("no snapshot could be made") {
        thread::sleep(Duration::from_millis(20));
    }
    assert!(server.terminate().success());
    let log = server.log();
    let line = log.lines().find(|line| line.contains("no snapshot could")).expect("the line");
    for said in ["MiB have to be free", "it goes on by itself", "stop the server", "it takes "] {
        assert!(line.contains(said), "{said}: {line}");
    }
    // The larger disk.
    let home = temporary_dir();
    let [to, new] = [home.path().join("backup"), home.path().join("new")];
    let place = |word: &str| match word {
        "BACKUP" => to.clone(),
        "NEW_DATA_DIR" => new.clone(),
        word => PathBuf::from(word),
    };
    let commands = commands(line);
    assert_eq!(commands.len(), 2, "{line}");
    for command in commands {
        let words: Vec<PathBuf> = command.into_iter().map(place).collect();
        let words: Vec<&dyn AsRef<std::ffi::OsStr>> =
            words.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>).collect();
        boxoffice(&words).succeeds();
    }
    assert!(audit(&new).expect("there is a log").is_clean());
    let server = Server::start_on(&new, serve(&new, &flags));
    buyer.assert_kept(&server);
    buyer.peer = Peer::connect(server.address());
    assert!(buyer.buy(), "there is room");
    // And so there is for the snapshots.
    while segment(&new, 1).exists() {
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_archive_that_is_full_keeps_the_log_whole_until_it_has_room() {
    let Some(disk) = small_disk(8) else { return };
    let home = temporary_dir();
    let data_dir = home.path().join("data");
    let archive = disk.mount.join("archive");
    let at = archive.to_str().expect("UTF-8");
    let flags =
        [("--snapshot-every", SEGMENT_BYTES), ("--retention", "archive"), ("--archive-dir", at)];
    let filler = disk.mount.join("filler");
    fs::write(&filler, vec![1; 4 << 20]).expect("there is room");
    let mut server = Server::start_on(&data_dir, serve(&data_dir, &flags));
    let mut buyer = Buyer::on_a_new_sale(&server);
    let refusal = format!("{at}/log-");
    while !server.log().contains("cannot be retired") {
        assert!(buyer.buy(), "the log itself has room");
    }
    let said = server.log();
    let said = said.lines().find(|line| line.contains("cannot be retired")).expect("a line");
    assert!(said.contains(&refusal) && said.contains("No space left"), "{said}");
    // Every segment is either there or here, whole, and no half of one.
    let moved = |index: u64| {
        let logs = fs::read_dir(&archive).expect("the archive").flatten();
        logs.map(|log| log.path().join(format!("{index:020}.wal"))).find(|path| path.exists())
    };
    let first = (1..1000).find(|index| segment(&data_dir, *index).exists()).expect("a segment");
    for index in 1..first {
        let bytes = fs::metadata(moved(index).expect("it was moved")).expect("a file").len();
        assert_eq!(bytes.to_string(), SEGMENT_BYTES, "segment {index}");
    }
    let logs = fs::read_dir(&archive).expect("the archive").flatten();
    let files = logs.flat_map(|log| fs::read_dir(log.path()).expect("it lists").flatten());
    assert!(files.map(|file| file.path()).all(|path| path.extension().unwrap() == "wal"));
    // Room, and the next snapshot: what waited is moved.
    fs::remove_file(&filler).expect("it is removed");
    while moved(first).is_none() {
        assert!(buyer.buy(), "the log itself has room");
    }
    server.kill();
    server.restart();
    buyer.assert_kept(&server);
}

#[test]
fn an_archive_that_cannot_be_is_refused_at_the_start() {
    let home = temporary_dir();
    let file = home.path().join("file");
    fs::write(&file, "x").expect("a file");
    for archive in [file.join("below"), file, PathBuf::from("/proc/boxoffice-archive")] {
        let at = archive.to_str().expect("UTF-8");
        let flags = [("--retention", "archive"), ("--archive-dir", at)];
        let refused = serve(&home.path().join("data"), &flags).refused();
        let leads = ["--archive-dir", at, "name a directory that the server can write to"];
        assert_refused(&refused, ExitCode::Configuration, &leads);
    }
}

/// Segments cannot be prepared, and no lack of space is the reason: nobody is sent to look for
/// space, and once the reason is gone, so is the refusal.
#[test]
fn what_is_not_a_full_disk_is_not_called_one() {
    let home = temporary_dir();
    let data_dir = home.path().join("data");
    let flags = [("--segments-ahead", "1"), ("--snapshot-every", "0")];
    let server = Server::start_on(&data_dir, serve(&data_dir, &flags));
    let mut buyer = Buyer::on_a_new_sale(&server);
    let in_the_way: Vec<PathBuf> =
        (3..6).map(|index| segment(&data_dir, index).with_extension("wal.tmp")).collect();
    let in_the_way: Vec<&PathBuf> =
        in_the_way.iter().filter(|path| fs::create_dir(path).is_ok()).collect();
    buyer.buy_until_full();
    while !server.log().contains("not for want of space") {
        thread::sleep(Duration::from_millis(20));
    }
    assert!(!server.log().contains("free some space"), "{}", server.log());
    for path in in_the_way {
        fs::remove_dir(path).expect("it is removed");
    }
    buyer.buy_again();
    buyer.assert_kept(&server);
}
