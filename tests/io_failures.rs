//! Each system call of a start fails once: the real program, on a new data directory and on one
//! that a crash left with orders and a torn tail.
//!
//! The program either serves all the same, or ends with a documented code and one clear line, and
//! never panics. The next start, without a failure, has every order that was acknowledged, and
//! takes more. strace makes the calls fail, those alone that touch the data directory; so the tests
//! run when asked for, and always in `.ci/run`. What the rings do is not reached by it.
//!
//! A running server ends for want of a log segment only where the disk fails it faster than the
//! control plane hears of it. strace holds that thread back until the shard has used up what was
//! prepared, and only then do its rings find that no segment can be made.

#[path = "support/disk.rs"]
mod disk;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use boxoffice::cli::exit::ExitCode;
use boxoffice::model::{SaleId, SaleTerms};
use boxoffice::wal::BLOCK_BYTES;
use peer::{Peer, buy, intent};
use server::{Refused, Serve, Server, first_words, temporary_dir};

const SALE: SaleId = SaleId(7);

/// Orders that were acknowledged before the crash.
const ORDERS: u128 = 40;

/// The calls by which a start uses its directory, and how each of them fails.
const FAILURES: [(&str, &str); 17] = [
    ("mkdir", "EIO"),
    ("openat", "EIO"),
    ("openat", "ENOSPC"),
    ("flock", "EIO"),
    ("fcntl", "EIO"),
    ("statx", "EIO"),
    ("getdents64", "EIO"),
    ("read", "EIO"),
    ("pread64", "EIO"),
    ("write", "EIO"),
    ("write", "ENOSPC"),
    ("pwrite64", "EIO"),
    ("ftruncate", "EIO"),
    ("fsync", "EIO"),
    ("fdatasync", "EIO"),
    ("rename", "EIO"),
    ("unlink", "EIO"),
];

/// More of one call than a start makes.
const CALLS_MAX: usize = 60;

fn serve(data_dir: &Path) -> Serve {
    let serve = Serve::on(data_dir).with("--segment-bytes", "2097152");
    serve.with("--segments-ahead", "1")
}

/// What a start may touch in a data directory of one shard.
fn paths(data_dir: &Path) -> Vec<PathBuf> {
    let shard = data_dir.join("shard-000");
    let own = ["", "MANIFEST", "MANIFEST.tmp", "LOCK", "shard-000"].map(|name| data_dir.join(name));
    let segments = (1..=3).map(|index| shard.join(format!("{index:020}.wal")));
    let prepared = (1..=3).map(|index| shard.join(format!("{index:020}.wal.tmp")));
    own.into_iter().chain(segments).chain(prepared).collect()
}

/// A start of which the call with this number, from 1, fails; `None` where it makes fewer.
fn start_failing(data_dir: &Path, call: &str, error: &str, number: usize) -> Option<Refused> {
    let home = temporary_dir();
    let trace = home.path().join("trace");
    let serve = serve(data_dir).command();
    let mut command = Command::new("strace");
    // The tracer is a child of its own, so that the program is ours to wait for and to end.
    command.args(["-D", "-f", "-qq", "-o"]).arg(&trace);
    for path in paths(data_dir) {
        command.arg("-P").arg(path);
    }
    command.args(["-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:error={error}:when={number}")]);
    command.arg(serve.get_program()).args(serve.get_args());
    let said = first_words(command);
    let failed = fs::read_to_string(&trace).is_ok_and(|trace| trace.contains("(INJECTED)"));
    failed.then_some(said)
}

fn judge(said: &Refused, place: &str) {
    assert!(!said.stderr.contains("panicked"), "{place}: {said:?}");
    if said.stdout.lines().any(|line| line == "ready") {
        return;
    }
    let documented = ExitCode::ALL.iter().any(|code| said.code == Some(i32::from(code.number())));
    assert!(documented && said.code != Some(0), "{place}: {said:?}");
    let complaints: Vec<&str> =
        said.stderr.lines().filter(|line| line.starts_with("boxoffice: ")).collect();
    assert!(complaints.len() == 1 && complaints[0].len() > 40, "{place}: {said:?}");
}

/// Runs a start with each failure on a directory that `make` makes, and then one without. Returns
/// how many there were.
fn every_failure(make: impl Fn(&Path), orders: u128) -> usize {
    let mut failures = 0;
    for (call, error) in FAILURES {
        for number in 1..=CALLS_MAX {
            let home = temporary_dir();
            let data_dir = home.path().join("data");
            make(&data_dir);
            let Some(said) = start_failing(&data_dir, call, error, number) else { break };
            let place = format!("{call} number {number} fails with {error}");
            judge(&said, &place);
            // What could not be synced may not be on the disk, whatever a read says.
            let is_sync = ["fsync", "fdatasync"].contains(&call);
            let is_ready = said.stdout.lines().any(|line| line == "ready");
            assert!(!is_sync || !is_ready, "{place}: it serves all the same: {said:?}");
            let server = Server::start_on(&data_dir, serve(&data_dir));
            let mut peer = Peer::connect(server.address());
            if orders == 0 {
                peer.open_sale(SALE, SaleTerms::default(), &[(1, 1000)]);
            }
            assert_eq!(u128::from(peer.stats(SALE).sold), orders, "{place}");
            peer.gets(buy(intent(SALE, 2, 1), &[(1, 1)]));
            failures += 1;
        }
    }
    failures
}

/// Whether strace can make calls fail here.
fn has_strace() -> bool {
    let mut command = Command::new("strace");
    command.args(["-qq", "-e", "trace=mkdir", "-e", "inject=mkdir:error=EIO", "true"]);
    command.output().is_ok_and(|output| output.status.success())
}

/// A data directory as a crash leaves it: orders, and behind them a part of a frame.
fn crashed(home: &Path) -> PathBuf {
    let data_dir = home.join("crashed");
    let mut server = Server::start_on(&data_dir, serve(&data_dir));
    let mut peer = Peer::connect(server.address());
    peer.open_sale(SALE, SaleTerms::default(), &[(1, 1000)]);
    for request in 0..ORDERS {
        peer.gets(buy(intent(SALE, 1, request), &[(1, 1)]));
    }
    server.kill();
    let segment = data_dir.join("shard-000/00000000000000000001.wal");
    let bytes = fs::read(&segment).expect("it can be read");
    let blocks = bytes.chunks(BLOCK_BYTES).rposition(|block| block.iter().any(|byte| *byte != 0));
    let end = (blocks.expect("it has a header") + 1) * BLOCK_BYTES;
    let file = fs::OpenOptions::new().write(true).open(&segment).expect("it can be opened");
    file.write_all_at(b"BXFR torn", end as u64).expect("it can be written");
    data_dir
}

#[test]
#[ignore = "needs strace"]
fn every_call_of_a_first_start_failing() {
    assert!(has_strace(), "strace is installed and may trace");
    let failures = every_failure(|_| (), 0);
    println!("{failures} starts, each with another failure");
    assert!(failures > 20, "{failures}");
}

#[test]
#[ignore = "needs strace"]
fn every_call_of_a_recovery_failing() {
    assert!(has_strace(), "strace is installed and may trace");
    let home = temporary_dir();
    let crashed = crashed(home.path());
    let copy = |to: &Path| {
        let copied = Command::new("cp").arg("-a").args([&crashed, to]).status();
        assert!(copied.expect("cp can be run").success());
    };
    let failures = every_failure(copy, ORDERS);
    println!("{failures} starts, each with another failure");
    assert!(failures > 20, "{failures}");
}

/// What strace makes fail here is what a policy or an old kernel refuses.
#[test]
#[ignore = "needs strace"]
fn a_machine_that_gives_no_ring_is_told_and_left_alone() {
    assert!(has_strace(), "strace is installed and may trace");
    for (call, error, name) in [
        ("io_uring_setup", "ENOSYS", "this kernel has no io_uring"),
        ("io_uring_setup", "EPERM", "io_uring is forbidden here"),
        ("io_uring_register", "EPERM", "io_uring is forbidden here"),
        ("io_uring_enter", "EPERM", "io_uring is forbidden here"),
    ] {
        let home = temporary_dir();
        let data_dir = home.path().join("data");
        let serve = serve(&data_dir).command();
        let mut doctor = Command::new(serve.get_program());
        doctor.args(["doctor", "--data-dir"]).arg(home.path());
        for program in [serve, doctor] {
            let mut command = Command::new("strace");
            command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
            command.args(["-e", &format!("inject={call}:error={error}")]);
            command.arg(program.get_program()).args(program.get_args());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let refused = Refused::from_run(command);
            let said = refused.stdout + &refused.stderr;
            let code = ExitCode::Environment.number();
            assert_eq!(refused.code, Some(i32::from(code)), "{call} {error}: {said}");
            assert!(said.contains(name) && !said.contains("panicked"), "{call} {error}: {said}");
        }
        assert!(!data_dir.exists(), "{call} {error}: nothing is made");
    }
}

/// The thread that prepares segments is the first one of its process; every wait for its rings
/// takes a minute longer while this lives.
struct HeldBack(Child);

impl HeldBack {
    fn new(server: &Server) -> Self {
        let pid = server.pid().to_string();
        let mut command = Command::new("strace");
        command.args(["-qq", "-o", "/dev/null", "-p", &pid, "-e", "trace=io_uring_enter"]);
        command.args(["-e", "inject=io_uring_enter:delay_enter=60000000"]);
        let held = Self(command.spawn().expect("strace is installed"));
        let status = format!("/proc/{pid}/status");
        let is_traced = || {
            let status = fs::read_to_string(&status).expect("the server runs");
            !status.contains("TracerPid:\t0")
        };
        while !is_traced() {
            thread::sleep(Duration::from_millis(10));
        }
        held
    }
}

impl Drop for HeldBack {
    fn drop(&mut self) {
        // A tracer that is gone lets go.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Buys until no answer comes any more, lets the control plane go on, and returns how many
/// purchases were acknowledged, and what the server's end says.
fn starve(server: &mut Server, held: HeldBack) -> (u64, Option<i32>, String) {
    let mut peer = Peer::connect(server.address());
    let starved = thread::spawn(move || {
        let mut acknowledged = 0;
        for request in 0.. {
            peer.send(&buy(intent(SALE, 2, request), &[(1, 1)]));
            match peer.read_answer() {
                Some((_, Ok(_))) => acknowledged += 1,
                Some((_, Err(refusal))) => panic!("{refusal:?}"),
                None => break,
            }
        }
        acknowledged
    });
    // The shard waits where it has written the last block of what was prepared.
    let last = server.data_dir().join("shard-000/00000000000000000002.wal");
    let is_used_up = || {
        let bytes = fs::read(&last).unwrap_or_default();
        bytes.chunks(BLOCK_BYTES).next_back().is_some_and(|end| end.iter().any(|byte| *byte != 0))
    };
    while !is_used_up() {
        thread::sleep(Duration::from_millis(50));
    }
    drop(held);
    let code = server.wait().code();
    (starved.join().expect("its own checks hold"), code, server.log())
}

fn assert_ended(code: ExitCode, (acknowledged, ended, log): (u64, Option<i32>, String)) -> u64 {
    assert_eq!(ended, Some(i32::from(code.number())), "{log}");
    let complaints: Vec<&str> =
        log.lines().filter(|line| line.starts_with("boxoffice: ")).collect();
    assert_eq!(complaints.len(), 1, "{log}");
    for name in ["00000000000000000003.wal", "What was answered is safe", "df", "dmesg"] {
        assert!(complaints[0].contains(name), "{name}: {complaints:?}");
    }
    assert!(!log.contains("panicked"), "{log}");
    acknowledged
}

fn started(data_dir: &Path) -> Server {
    let serve = serve(data_dir).with("--segment-bytes", "1052672").with("--snapshot-every", "0");
    let server = Server::start_on(data_dir, serve);
    let mut peer = Peer::connect(server.address());
    peer.open_sale(SALE, SaleTerms::default(), &[(1, 10_000_000)]);
    while !data_dir.join("shard-000/00000000000000000002.wal").exists() {
        thread::sleep(Duration::from_millis(20));
    }
    server
}

#[test]
#[ignore = "needs strace"]
fn a_disk_that_others_fill_in_no_time_ends_a_rush_with_its_own_code() {
    assert!(has_strace(), "strace is installed and may trace");
    let disk = match disk::Disk::new(64) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped, no disk of its own can be mounted: {why}"),
    };
    let data_dir = disk.mount.join("data");
    let mut server = started(&data_dir);
    let held = HeldBack::new(&server);
    let filler = disk.mount.join("filler");
    let file = fs::File::create(&filler).expect("a file can be made");
    for length in [1 << 20, 4096] {
        let bytes = vec![1; length];
        while std::io::Write::write_all(&mut &file, &bytes).is_ok() {}
    }
    // An error says that the last bytes found no room; open, it would keep it.
    let _ = file.sync_all();
    drop(file);
    let acknowledged = assert_ended(ExitCode::NoRoom, starve(&mut server, held));
    fs::remove_file(filler).expect("it is removed");
    server.restart();
    let mut peer = Peer::connect(server.address());
    assert!(peer.stats(SALE).sold >= acknowledged && acknowledged > 0);
    peer.gets(buy(intent(SALE, 3, 1), &[(1, 1)]));
}

#[test]
#[ignore = "needs strace"]
fn a_segment_that_cannot_be_made_ends_a_rush_with_its_own_code() {
    assert!(has_strace(), "strace is installed and may trace");
    let home = temporary_dir();
    let data_dir = home.path().join("data");
    let mut server = started(&data_dir);
    let held = HeldBack::new(&server);
    let in_the_way = data_dir.join("shard-000/00000000000000000003.wal.tmp");
    let _ = fs::remove_file(&in_the_way);
    fs::create_dir(&in_the_way).expect("it is in the way");
    let acknowledged = assert_ended(ExitCode::DiskFailed, starve(&mut server, held));
    fs::remove_dir(&in_the_way).expect("it is removed");
    server.restart();
    let mut peer = Peer::connect(server.address());
    assert!(peer.stats(SALE).sold >= acknowledged && acknowledged > 0);
    peer.gets(buy(intent(SALE, 3, 1), &[(1, 1)]));
}
