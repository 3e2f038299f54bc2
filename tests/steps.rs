//! The end before every step of what moves files about: re-partitioning, restoring, cutting,
//! backing up, making snapshots and retiring what they cover.
//!
//! The program is killed before its first call of a kind, then before its second, and so on until
//! it comes through: once on files that outlive it (SIGKILL), and once on an ext4 that loses its
//! power in that moment, with all that was not synced. What is then there must be the state from
//! before, or the one behind, or one from which the same command goes on; and what the program
//! said that it had done must be done.
//!
//! A snapshot that does not read back as it was written counts for nothing either.
//!
//! strace kills at the call. Where no file system can be mounted there are only kills, and that is
//! said.

#[path = "support/disk.rs"]
mod disk;
#[path = "support/made_dir.rs"]
mod made_dir;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/program.rs"]
mod program;
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use boxoffice::cli::exit::ExitCode;
use boxoffice::control::snapshots::{Build, Pace, build, retire};
use boxoffice::model::snapshot::Part;
use boxoffice::model::{Lsn, OrderNumber, OrderView, SaleId, SaleStats, ShardIndex, TimeMs};
use boxoffice::server::config::Retention;
use boxoffice::server::restore::restore;
use boxoffice::wal::snapshot::{open_snapshot, snapshot_preparation, snapshots};
use boxoffice::wal::{FileStorage, Identity, LogStorage, SegmentIndex, log_identity, shard_dir};
use disk::Disk;
use made_dir::Made;
use peer::Peer;
use program::{Ended, boxoffice};
use serde_json::Value;
use server::{Serve, Server, contents, first_words, temporary_dir};

/// The calls that change what lies on the disk. Before each of them there is a step; a file is made
/// before something is written to it.
const CALLS: [&str; 12] = [
    "mkdir",
    "rename",
    "unlink",
    "unlinkat",
    "rmdir",
    "ftruncate",
    "write",
    "pwrite64",
    "copy_file_range",
    "fsync",
    "fdatasync",
    "fallocate",
];

/// More of one call than any of these programs makes.
const CALLS_MAX: usize = 200;

/// The size of a file system that loses its power.
const DISK_MIB: u64 = 64;

/// Where the program works, and what is taken from it in the end.
enum Stage {
    Kept(tempfile::TempDir),
    Lost(Box<Disk>),
}

impl Stage {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(home) => home.path(),
            Self::Lost(disk) => &disk.mount,
        }
    }

    /// Puts these directories there, and nothing else, durably.
    fn set(&self, fixtures: &[(&Path, &str)]) {
        for entry in fs::read_dir(self.path()).expect("it lists").flatten() {
            if entry.file_name() != "lost+found" {
                fs::remove_dir_all(entry.path()).expect("it is removed");
            }
        }
        for (from, name) in fixtures {
            copy(from, &self.path().join(name));
        }
        let synced = Command::new("sync").arg("-f").arg(self.path()).status();
        assert!(synced.expect("sync can be run").success());
    }

    /// What was not synced is lost, where that can be.
    fn end(&mut self) {
        if let Self::Lost(disk) = self {
            disk.cut().expect("it was possible before");
            disk.mount_again().expect("it can be mounted again");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.expect("cp can be run").success());
}

fn stages() -> Vec<Stage> {
    let mut stages = vec![Stage::Kept(temporary_dir())];
    let disk = Disk::new(DISK_MIB).and_then(|mut disk| {
        disk.cut()?;
        disk.mount_again()?;
        Ok(disk)
    });
    match disk {
        Ok(disk) => stages.push(Stage::Lost(Box::new(disk))),
        Err(why) => println!("losing what was not synced is skipped: {why}"),
    }
    stages
}

/// Runs the command until it is ready or ends, killed before the call with this number, from 1.
/// `false` where it makes fewer.
fn is_killed(command: &Command, call: &str, number: usize) -> bool {
    let mut traced = Command::new("strace");
    // The tracer is a child of its own, so that the program is ours to wait for and to end.
    traced.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={call}"));
    traced.args(["-e", &format!("inject={call}:signal=KILL:when={number}")]);
    traced.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            traced.env(name, value);
        }
    }
    let said = first_words(traced);
    let is_ready = said.stdout.lines().any(|line| line == "ready");
    assert!(is_ready || [None, Some(0)].contains(&said.code), "{call} {number}: {said:?}");
    said.code.is_none() && !is_ready
}

/// The end before every step of a command, each held against `check`, which is told whether the
/// command came through. Returns how many there were.
fn every_step(
    fixtures: &[(&Path, &str)],
    command: impl Fn(&Path) -> Command,
    check: impl Fn(&Path, bool, &str),
) -> usize {
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-e", "trace=mkdir", "-e", "inject=mkdir:error=EIO", "true"]);
    let is_there = strace.output().is_ok_and(|output| output.status.success());
    assert!(is_there, "strace is installed and may trace");
    let mut steps = 0;
    for mut stage in stages() {
        let loses = matches!(stage, Stage::Lost(_));
        for call in CALLS {
            for number in 1.. {
                assert!(number < CALLS_MAX, "{call} is called for ever");
                stage.set(fixtures);
                let killed = is_killed(&command(stage.path()), call, number);
                stage.end();
                let place = format!("killed before {call} {number} (power lost: {loses})");
                check(stage.path(), !killed, &place);
                if !killed {
                    break;
                }
                steps += 1;
            }
        }
    }
    println!("{steps} steps");
    steps
}

fn command(args: &[&dyn AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_boxoffice"));
    command.args(args.iter().map(AsRef::as_ref));
    command
}

/// Runs it, and says at which place it did not do what it was asked.
fn succeeds(args: &[&dyn AsRef<std::ffi::OsStr>], place: &str) -> Ended {
    let ended = boxoffice(args);
    assert_eq!(ended.code, Some(0), "{place}: {ended:?}");
    ended
}

/// Every LSN of a directory, by shard; the log may be damaged.
fn lsns(dir: &Path, place: &str) -> Vec<(u64, u64)> {
    let dumped = boxoffice(&[&"wal", &"dump", &dir, &"--json"]);
    let damaged = i32::from(ExitCode::DamagedLog.number());
    assert!([Some(0), Some(damaged)].contains(&dumped.code), "{place}: {dumped:?}");
    let number = |line: &Value, key: &str| line.get(key)?.as_u64();
    let lines = dumped.json_lines();
    lines.iter().filter_map(|line| Some((number(line, "shard")?, number(line, "lsn")?))).collect()
}

type Seen = Vec<(SaleStats, Vec<OrderView>)>;

fn see(server: &Server, sales: &[SaleId]) -> Seen {
    let mut peer = Peer::connect(server.address());
    let see = |sale: &SaleId| {
        let stats = peer.stats(*sale);
        let orders = (1..=stats.orders).map(|order| peer.order(*sale, OrderNumber(order)));
        (stats, orders.collect())
    };
    sales.iter().map(see).collect()
}

#[test]
#[ignore = "needs strace"]
fn another_number_of_shards() {
    let made = Made::new(2, 20);
    let sales = [made.sale(0), made.sale(1)];
    let serve = |data_dir: &Path, shards| {
        let serve = Serve::on(data_dir).with_shards(shards).with("--segment-bytes", "1052672");
        // Nothing is left of what was before.
        serve.with("--segments-ahead", "1").with("--retention", "delete")
    };
    let (plain, stays) = (made.beside("plain"), made.path());
    copy(&stays, &plain);
    let expected = see(&Server::start_on(&plain, serve(&plain, 2)), &sales);
    let check = |home: &Path, _: bool, place: &str| {
        let dir = home.join("data");
        // Looking changes nothing, and is not misled by what is on the way.
        succeeds(&[&"wal", &"verify", &dir], place);
        succeeds(&[&"audit", &dir], place);
        let server = Server::start_on(&dir, serve(&dir, 3));
        assert_eq!(see(&server, &sales), expected, "{place}");
        let entries = fs::read_dir(&dir).expect("it lists").flatten();
        let names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        let is_left = |name: &str| name.starts_with("replaced-") || name.starts_with("shards.new");
        let left = names.iter().filter(|name| is_left(&name.to_string_lossy())).count();
        assert_eq!(left, 0, "{place}: {names:?}");
        for shard in (0..3).map(ShardIndex) {
            // Time does not go back: each shard goes on behind the last record of all.
            let file = snapshots(&shard_dir(&dir, shard)).expect("it lists").remove(0);
            let header = *open_snapshot(&file, |file| file).expect("a snapshot").header();
            assert_eq!(header.last_time, TimeMs(made_dir::TIME + 19_000), "{place}");
        }
    };
    let steps =
        every_step(&[(&stays, "data")], |home| serve(&home.join("data"), 3).command(), check);
    assert!(steps > 50, "{steps}");
}

#[test]
#[ignore = "needs strace"]
fn a_restore() {
    let made = Made::new(2, 20);
    made.snapshot(0, 8, |_| ());
    let backup = made.beside("backup");
    boxoffice(&[&"backup", &made.path(), &"--to", &backup]).succeeds();
    let truth = lsns(&made.path(), "");
    let restore = |home: &Path| command(&[&"restore", &backup, &"--to", &home.join("data")]);
    let check = |home: &Path, is_done: bool, place: &str| {
        let dir = home.join("data");
        if !dir.join("MANIFEST").exists() {
            assert!(!is_done, "{place}: what was restored is gone");
            succeeds(&[&"restore", &backup, &"--to", &dir], place);
        }
        succeeds(&[&"audit", &dir], place);
        assert_eq!(lsns(&dir, place), truth, "{place}");
        drop(Server::start_on(&dir, Serve::on(&dir).with_shards(2)));
    };
    let steps = every_step(&[], restore, check);
    assert!(steps > 20, "{steps}");
}

#[test]
#[ignore = "needs strace"]
fn a_cut() {
    let made = Made::new(1, 20);
    made.flip(0, 9);
    let before = contents(&made.path());
    let cut = |home: &Path, backup: &str| {
        let (dir, backup) = (home.join("data"), home.join(backup));
        let args: [&dyn AsRef<std::ffi::OsStr>; 9] =
            [&"wal", &"truncate", &dir, &"--shard", &"0", &"--at", &"28", &"--yes", &"--backup"];
        let mut command = command(&args);
        command.arg(backup);
        command
    };
    let check = |home: &Path, is_done: bool, place: &str| {
        let (dir, copy) = (home.join("data"), home.join("cut"));
        let is_segment = |path: &Path| path.extension().is_some_and(|kind| kind == "wal");
        for (path, bytes) in before.iter().filter(|(path, _)| is_segment(path)) {
            let is = |root: &Path| fs::read(root.join(path)).is_ok_and(|is| is == *bytes);
            assert!(is(&dir) || is(&copy), "{place}: {} is lost", path.display());
        }
        let kept = lsns(&dir, place);
        assert!(kept.into_iter().take(27).eq((1..=27).map(|lsn| (0, lsn))), "{place}");
        if boxoffice(&[&"wal", &"verify", &dir]).code != Some(0) {
            assert!(!is_done, "{place}: the cut is not made");
            let ended = program::run(cut(home, "again"));
            assert_eq!(ended.code, Some(0), "{place}: {ended:?}");
        }
        succeeds(&[&"audit", &dir], place);
        assert_eq!(lsns(&dir, place).len(), 27, "{place}");
        drop(Server::start_on(&dir, Serve::on(&dir)));
    };
    let steps = every_step(&[(&made.path(), "data")], |home| cut(home, "cut"), check);
    assert!(steps > 20, "{steps}");
}

#[test]
#[ignore = "needs strace"]
fn a_backup() {
    let (early, late) = (Made::new(1, 10), Made::new(1, 20));
    let first = early.beside("backup");
    boxoffice(&[&"backup", &early.path(), &"--to", &first]).succeeds();
    let last = |backup: &Path, place: &str| {
        let facts = succeeds(&[&"restore", &backup, &"--verify", &"--json"], place).json();
        facts["shards"][0]["last_lsn"].as_u64()
    };
    let backup = |home: &Path| command(&[&"backup", &late.path(), &"--to", &home.join("backup")]);
    let run_again = |home: &Path, place: &str| {
        let to = home.join("backup");
        succeeds(&[&"backup", &late.path(), &"--to", &to], place);
        assert_eq!(last(&to, place), Some(60), "{place}");
    };
    // What has come, beside a first run.
    let steps = every_step(&[(&first, "backup")], backup, |home, is_done, place| {
        let last = last(&home.join("backup"), place);
        assert!(last == Some(60) || last == Some(30) && !is_done, "{place}: {last:?}");
        run_again(home, place);
    });
    assert!(steps > 20, "{steps}");
    // The first run itself.
    let steps = every_step(&[], backup, |home, is_done, place| {
        let to = home.join("backup");
        assert!(!is_done || to.join("BACKUP.json").exists(), "{place}: the backup is gone");
        if to.join("BACKUP.json").exists() {
            assert_eq!(last(&to, place), Some(60), "{place}");
        }
        run_again(home, place);
    });
    assert!(steps > 20, "{steps}");
}

/// The command, with an end of this file where it is read the first time.
fn reading_short(command: &Command, file: &Path) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=read", "-P"]).arg(file);
    traced.args(["-e", "inject=read:retval=0:when=1"]);
    traced.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        traced.env(name, value.unwrap_or_default());
    }
    traced
}

/// What a disk gives back otherwise than it was given counts for nothing.
#[test]
#[ignore = "needs strace"]
fn snapshots_that_read_back_wrong() {
    let made = Made::new(1, 40);
    let dir = made.shard_dir(0);
    let file = |lsn| snapshot_preparation(&dir, Lsn(lsn));
    let mut child = Command::new(env::current_exe().expect("the path of this program"));
    child.args(["--exact", "making_snapshots", "--ignored", "--nocapture"]);
    child.env(WORK, made.path().parent().expect("it lies in a directory"));
    let said = first_words(reading_short(&child, &file(63)));
    assert!(said.stderr.contains("ReadsBackWrong"), "{said:?}");
    let left: Vec<u64> =
        snapshots(&dir).expect("it lists").iter().map(|known| known.lsn.0).collect();
    assert_eq!(left, [21], "the one before it stays");
    assert!(!file(63).exists());

    let made = Made::new(2, 20);
    let new = made.path().join("shards.new/shard-000");
    let serve = Serve::on(&made.path()).with_shards(3).with("--retention", "delete");
    let said = first_words(reading_short(&serve.command(), &snapshot_preparation(&new, Lsn(60))));
    let is_refused = said.code == Some(i32::from(ExitCode::Failure.number()));
    assert!(is_refused && said.stderr.contains("reads back wrong"), "{said:?}");
    assert!(!made.path().join("shards.new").exists(), "what was begun is thrown away");
    boxoffice(&[&"wal", &"verify", &made.path()]).succeeds();
    assert_eq!(lsns(&made.path(), "").len(), 120);
}

#[test]
#[ignore = "needs strace"]
fn a_snapshot_that_is_retired_beside_a_backup() {
    // The log has its beginning, or one snapshot is left, or none.
    for (is_whole, retired, is_made) in
        [(true, &[24, 45][..], true), (false, &[24], true), (false, &[24, 45], false)]
    {
        let made = Made::new(1, 20);
        made.snapshot(0, 8, |_| ());
        made.snapshot(0, 15, |_| ());
        if !is_whole {
            fs::remove_file(made.segment(0, 1)).expect("it is removed");
        }
        let to = made.beside("backup");
        let mut traced = Command::new("strace");
        traced.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=openat"]);
        for lsn in retired {
            traced.arg("-P").arg(made.shard_dir(0).join(format!("{lsn:020}.snap")));
        }
        // Each is read to be judged first; then it is gone.
        let from = 1 + retired.len();
        traced.args(["-e", &format!("inject=openat:error=ENOENT:when={from}+")]);
        let backup = command(&[&"backup", &made.path(), &"--to", &to]);
        traced.arg(backup.get_program()).args(backup.get_args());
        let ended = program::run(traced);
        assert_eq!(ended.code == Some(0), is_made, "{ended:?}");
        if is_made {
            boxoffice(&[&"restore", &to, &"--verify"]).succeeds();
        } else {
            assert!(ended.stderr.contains("run this again"), "{ended:?}");
        }
    }
}

/// What tells [`making_snapshots`] where to work, and how.
const WORK: &str = "BOXOFFICE_STEPS_WORK";

fn identity(dir: &Path) -> Identity {
    let storage = FileStorage::open_read_only(dir).expect("a log");
    log_identity(&storage).expect("it has a first segment")
}

/// What a child of [`snapshots_and_what_they_cover`] does: a snapshot behind every other
/// segment.
#[test]
#[ignore = "is run by another test"]
fn making_snapshots() {
    let Some(work) = env::var_os(WORK).map(PathBuf::from) else { return };
    let directory = work.join("data/shard-000");
    let retention = match work.join("archive") {
        archive if archive.exists() => Retention::Archive(archive.join("old")),
        _ => Retention::Delete,
    };
    let (identity, pace) = (identity(&directory), Pace::new(1 << 40, 1 << 40));
    for sealed in [1, 3, 5].map(SegmentIndex) {
        let (directory, pace) = (&directory, &pace);
        let built = build(&Build { directory, identity, sealed, spare_bytes: 0, pace });
        retire(directory, identity, &built.expect("a snapshot"), &retention, pace)
            .expect("segments are retired");
    }
}

#[test]
#[ignore = "needs strace"]
fn snapshots_and_what_they_cover() {
    let made = Made::new(1, 40);
    let parts_of = |dir: &Path, place: &str| -> (Vec<Part>, u64) {
        let restored = restore(dir, identity(dir));
        let restored = restored.unwrap_or_else(|error| panic!("{place}: {error}"));
        (restored.engine.export().collect(), restored.recovered.next_lsn.0)
    };
    let plain = made.beside("plain");
    copy(&made.path(), &plain);
    let truth = parts_of(&plain.join("shard-000"), "at first");
    let archive = made.beside("archive");
    fs::create_dir(&archive).expect("a directory");
    let run = |home: &Path| {
        let mut child = Command::new(env::current_exe().expect("the path of this program"));
        child.args(["--exact", "making_snapshots", "--ignored", "--test-threads=1"]);
        child.env(WORK, home);
        child
    };
    let segments = |dir: &Path| -> BTreeSet<u64> {
        let storage = FileStorage::open_read_only(dir);
        let found = storage.ok().and_then(|storage| storage.segments().ok()).unwrap_or_default();
        found.into_iter().map(|segment| segment.index.0).collect()
    };
    for is_archived in [false, true] {
        let fixtures = [(&*made.path(), "data"), (&*archive, "archive")];
        let fixtures = if is_archived { &fixtures[..] } else { &fixtures[..1] };
        let steps = every_step(fixtures, run, |home, is_done, place| {
            let dir = home.join("data/shard-000");
            let sound = snapshots(&dir).expect("it lists").len();
            assert!(!is_done || sound == 2 && !segments(&dir).contains(&3), "{place}");
            assert_eq!(parts_of(&dir, place), truth, "{place}");
            let left = segments(&dir);
            let first = left.first().copied().expect("there are segments");
            assert!(left.into_iter().eq(first..=6), "{place}: there is a gap");
            // The older snapshot is enough as well.
            if let [newest, _, ..] = &snapshots(&dir).expect("it lists")[..] {
                fs::write(&newest.path, "damaged").expect("it is written");
                assert_eq!(parts_of(&dir, place), truth, "{place}: without the newest snapshot");
            }
            if is_archived {
                let moved = home.join(format!("archive/old/log-{}", identity(&dir).log));
                let all: BTreeSet<u64> = &segments(&dir) | &segments(&moved);
                assert!(all.into_iter().eq(1..=6), "{place}: a segment is nowhere");
            }
        });
        assert!(steps > 20, "{steps}");
    }
}
