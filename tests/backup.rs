//! `boxoffice backup` and `boxoffice restore` on the real binary: beside a running server, run
//! after run, cut short, damaged, onto a full disk, and back to a point.
//!
//! The truth is what the original directory shows, record by record.

#[path = "support/made_dir.rs"]
mod made_dir;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/program.rs"]
mod program;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use boxoffice::cli::exit::ExitCode;
use boxoffice::model::{Refusal, SaleId};
use made_dir::{FRAMES_OF_SEGMENT, Made, TIME, flip_at};
use peer::{Peer, buy, hold_ttl, intent};
use program::{Ended, boxoffice, command, run};
use serde_json::Value;
use server::{Serve, Server, contents};

fn backup(dir: &Path, to: &Path) -> Ended {
    boxoffice(&[&"backup", &dir, &"--to", &to, &"--json"])
}

fn restore(from: &Path, to: &Path, flags: &[&str]) -> Ended {
    let mut command = command(&[&"restore", &from, &"--to", &to, &"--json"]);
    command.args(flags);
    run(command)
}

fn check(backup: &Path) -> Ended {
    boxoffice(&[&"restore", &backup, &"--verify", &"--json"])
}

/// Every record of a directory.
#[track_caller]
fn records(dir: &Path) -> Vec<Value> {
    let dumped = boxoffice(&[&"wal", &"dump", &dir, &"--json"]).succeeds();
    dumped.json_lines().into_iter().filter(|line| line.get("lsn").is_some()).collect()
}

fn of_shard(records: &[Value], shard: u64) -> impl Iterator<Item = &Value> {
    records.iter().filter(move |record| record["shard"] == shard)
}

fn sum(facts: &Value, key: &str) -> u64 {
    let shards = facts["shards"].as_array().expect("shards");
    shards.iter().map(|shard| shard[key].as_u64().expect("a number")).sum()
}

#[track_caller]
fn assert_serves_and_is_clean(dir: &Path, shards: u16) {
    let mut server = Server::start_on(dir, Serve::on(dir).with_shards(shards));
    assert!(server.terminate().success());
    boxoffice(&[&"audit", &dir]).succeeds();
}

#[test]
fn a_restored_directory_has_every_record_and_another_log() {
    let made = Made::new(2, 20);
    let (to, restored) = (made.beside("backup"), made.beside("restored"));
    let facts = backup(&made.path(), &to).succeeds().json();
    assert_eq!((sum(&facts, "copied_files"), sum(&facts, "last_lsn")), (6, 120));
    check(&to).succeeds();
    // A backup can be looked at by every tool, and served by none.
    assert_eq!(records(&to), records(&made.path()));
    boxoffice(&[&"wal", &"verify", &to]).succeeds();
    let refused = Serve::on(&to).with_shards(2).refused();
    server::assert_refused(&refused, ExitCode::ForeignData, &["no MANIFEST"]);

    let facts = restore(&to, &restored, &["--verify"]).succeeds().json();
    assert_eq!((sum(&facts, "last_lsn"), sum(&facts, "left_out")), (120, 0));
    assert_eq!(records(&restored), records(&made.path()));
    // No segment of the one is taken for one of the other.
    fs::copy(made.segment(0, 3), restored.join("shard-000/00000000000000000003.wal"))
        .expect("it is copied");
    let refused = Serve::on(&restored).with_shards(2).refused();
    server::assert_refused(&refused, ExitCode::ForeignData, &["belongs to the log"]);
    // Nor is the restored directory taken for the original.
    fs::remove_dir_all(&restored).expect("it is removed");
    restore(&to, &restored, &[]).succeeds();
    assert_serves_and_is_clean(&restored, 2);
    backup(&restored, &to).fails(ExitCode::ForeignData, &["another directory", "new directory"]);
    assert_eq!(records(&to), records(&made.path()));
}

#[test]
fn a_second_run_copies_what_is_new() {
    // The same directory, before and after.
    let (early, late) = (Made::new(1, 10), Made::new(1, 20));
    let (to, restored) = (early.beside("backup"), early.beside("restored"));
    backup(&early.path(), &to).succeeds();
    let facts = backup(&early.path(), &to).succeeds().json();
    assert_eq!((sum(&facts, "copied_files"), sum(&facts, "unchanged_files")), (0, 2));
    let facts = backup(&late.path(), &to).succeeds().json();
    assert_eq!((sum(&facts, "copied_files"), sum(&facts, "unchanged_files")), (2, 1));
    check(&to).succeeds();
    restore(&to, &restored, &[]).succeeds();
    assert_eq!(records(&restored), records(&late.path()));
    // A log that has become shorter, or other, never replaces what the backup has.
    let before = contents(&to);
    backup(&early.path(), &to)
        .fails(ExitCode::ForeignData, &["was cut off since", "new directory"]);
    assert!(contents(&to) == before, "the backup is as it was");
    check(&to).succeeds();
}

#[test]
fn a_run_that_was_cut_short_leaves_the_last_one_valid() {
    let (early, late) = (Made::new(1, 10), Made::new(1, 20));
    let (to, next) = (early.beside("backup"), early.beside("next"));
    backup(&early.path(), &to).succeeds();
    let truth = records(&early.path());
    // All that the next run copies before it replaces the list, and half a file.
    backup(&late.path(), &next).succeeds();
    for segment in [2, 3] {
        let name = format!("shard-000/{segment:020}.wal");
        fs::copy(next.join(&name), to.join(&name)).expect("it is copied");
    }
    fs::write(to.join("shard-000/00000000000000000004.wal.tmp"), "half").expect("it is written");
    check(&to).succeeds();
    let restored = early.beside("restored");
    restore(&to, &restored, &[]).succeeds();
    assert_eq!(records(&restored), truth);
    // And the run that follows goes through.
    backup(&late.path(), &to).succeeds();
    assert!(!to.join("shard-000/00000000000000000004.wal.tmp").exists());
    check(&to).succeeds();
    // A first run that was cut short has no list: there is nothing to restore, and it is no
    // reason to refuse the next.
    fs::remove_file(to.join("BACKUP.json")).expect("it is removed");
    check(&to).fails(ExitCode::Configuration, &["no BACKUP.json"]);
    backup(&late.path(), &to).succeeds();
    check(&to).succeeds();
}

#[test]
fn a_restore_goes_back_to_a_record_or_a_time() {
    let made = Made::new(2, 20);
    let truth = records(&made.path());
    let to = made.beside("backup");
    backup(&made.path(), &to).succeeds();
    let restored = made.beside("restored");
    // Inside a frame, at its end, at the very beginning, and at the end; the other shard is whole.
    for (lsn, left_out) in [(29_u64, 31), (30, 30), (1, 59), (0, 60), (60, 0)] {
        let point = format!("0:{lsn}");
        let facts = restore(&to, &restored, &["--to-lsn", &point]).succeeds().json();
        assert_eq!(facts["shards"][0]["left_out"], left_out, "{lsn}");
        let shown = records(&restored);
        assert!(of_shard(&shown, 0).eq(of_shard(&truth, 0).take(lsn as usize)), "{lsn}");
        assert!(of_shard(&shown, 1).eq(of_shard(&truth, 1)), "{lsn}");
        assert_serves_and_is_clean(&restored, 2);
        fs::remove_dir_all(&restored).expect("it is removed");
    }
    // Before a frame, at its very time, and behind it.
    for (time, kept) in [(TIME + 3999, 24), (TIME + 4000, 30), (TIME + 4500, 30)] {
        let facts = restore(&to, &restored, &["--to-time", &time.to_string()]).succeeds().json();
        assert_eq!(sum(&facts, "left_out"), 120 - kept);
        let shown = records(&restored);
        assert!(shown.iter().all(|record| record["time_ms"].as_u64() <= Some(time)));
        assert_eq!(shown.len() as u64, kept);
        fs::remove_dir_all(&restored).expect("it is removed");
    }
    let again = made.beside("again");
    restore(&to, &again, &["--to-lsn", "0:61"]).fails(ExitCode::Usage, &["from 0 to 60"]);
    restore(&to, &again, &["--to-lsn", "2:1"]).fails(ExitCode::Usage, &["no shard 2"]);
    restore(&to, &again, &["--to-lsn", "1"]).fails(ExitCode::Usage, &["SHARD:LSN"]);
    assert!(!again.exists(), "a refused restore leaves nothing");
}

/// What lies before the log that is left is in a snapshot, and cannot be left out.
#[test]
fn a_restore_does_not_go_back_behind_what_was_retired() {
    let made = Made::new(2, 20);
    made.snapshot(0, FRAMES_OF_SEGMENT, |_| ());
    fs::remove_file(made.segment(0, 1)).expect("it is retired");
    let (to, restored) = (made.beside("backup"), made.beside("restored"));
    backup(&made.path(), &to).succeeds();
    let of_snapshot = TIME + (FRAMES_OF_SEGMENT - 1) * 1000;
    for time in [TIME - 1, TIME + 1000, of_snapshot - 1] {
        let ended = restore(&to, &restored, &["--to-time", &time.to_string()]);
        ended.fails(ExitCode::Usage, &["shard 0", "reaches back to LSN 21 of", "older backup"]);
        assert!(!restored.exists(), "nothing is half restored");
    }
    let last = restore(&to, &restored, &["--to-time", &of_snapshot.to_string()]).succeeds().json();
    assert_eq!(last["shards"][0]["last_lsn"], 21);
    assert_serves_and_is_clean(&restored, 2);
}

#[test]
fn a_damaged_backup_is_never_restored() {
    let made = Made::new(1, 20);
    let to = made.beside("backup");
    backup(&made.path(), &to).succeeds();
    let whole = contents(&to);
    let segment = to.join("shard-000/00000000000000000002.wal");
    let restored = made.beside("restored");
    let faults: [(&str, &dyn Fn()); 5] = [
        ("its size or checksum differs", &|| flip_at(&segment, 3 * 4096 + 70)),
        ("00000000000000000002.wal", &|| {
            fs::OpenOptions::new().write(true).open(&segment).unwrap().set_len(9000).unwrap();
        }),
        ("00000000000000000002.wal", &|| fs::remove_file(&segment).unwrap()),
        ("BACKUP.json", &|| fs::write(to.join("BACKUP.json"), "{").unwrap()),
        ("00000000000000000003.wal", &|| {
            fs::copy(&segment, to.join("shard-000/00000000000000000003.wal")).unwrap();
        }),
    ];
    for (named, plant) in faults {
        plant();
        for ended in [check(&to), restore(&to, &restored, &[])] {
            ended.fails(ExitCode::DamagedLog, &[named, "another"]);
        }
        // A log that lacks its end looks whole: these too go by the list.
        for words in [&["wal", "verify"][..], &["audit"]] {
            let mut command = command(&[]);
            command.args(words).arg(&to);
            run(command).fails(ExitCode::DamagedLog, &[]);
        }
        assert!(!restored.exists(), "nothing is half restored: {named}");
        for (path, bytes) in &whole {
            fs::write(to.join(path), bytes).expect("it is put back");
        }
        check(&to).succeeds();
    }
}

/// Bits rot in a backup, and the data directory still has them; or has them no more.
#[test]
fn what_a_backup_has_lost_is_copied_again_or_missed() {
    let made = Made::new(1, 20);
    for covered in [8, 15] {
        made.snapshot(0, covered, |_| ());
    }
    let to = made.beside("backup");
    backup(&made.path(), &to).succeeds();
    let whole = contents(&to);
    let [first, second] = [1, 2].map(|n| to.join(format!("shard-000/{n:020}.wal")));
    flip_at(&second, 3 * 4096 + 70);
    let leads = ["00000000000000000002.wal", "remove that file", "`boxoffice backup`"];
    check(&to).fails(ExitCode::DamagedLog, &leads);
    fs::remove_file(&second).expect("it is removed");
    check(&to).fails(ExitCode::DamagedLog, &["00000000000000000002.wal", "`boxoffice backup`"]);
    backup(&made.path(), &to).succeeds();
    check(&to).succeeds();
    // Now the server retires the first segment, and later on the backup loses it.
    fs::remove_file(made.segment(0, 1)).expect("it is removed");
    backup(&made.path(), &to).succeeds();
    let truth = fs::read(&first).expect("it is kept");
    for lose in [&|| fs::remove_file(&first), &|| fs::write(&first, "short")] as [&dyn Fn() -> _; 2]
    {
        lose().expect("it is lost");
        let leads = ["00000000000000000001.wal", "retired it", "archived", "--prune"];
        backup(&made.path(), &to).fails(ExitCode::DamagedLog, &leads);
        check(&to).fails(ExitCode::DamagedLog, &["00000000000000000001.wal"]);
    }
    // Each of the ways out.
    let late = made.beside("late");
    backup(&made.path(), &late).succeeds();
    check(&late).succeeds();
    fs::write(&first, truth).expect("it is put back");
    backup(&made.path(), &to).succeeds();
    check(&to).succeeds();
    let segments = |files: &[(PathBuf, Vec<u8>)]| -> Vec<_> {
        files
            .iter()
            .filter(|(path, _)| path.extension().is_some_and(|e| e == "wal"))
            .cloned()
            .collect()
    };
    assert!(segments(&contents(&to)) == segments(&whole), "as it was at first");
    fs::remove_file(&first).expect("it is removed");
    boxoffice(&[&"backup", &made.path(), &"--to", &to, &"--prune"]).succeeds();
    check(&to).succeeds();
}

#[test]
fn no_backup_is_made_of_a_damaged_log() {
    let made = Made::new(1, 20);
    let to = made.beside("backup");
    backup(&made.path(), &to).succeeds();
    let before = contents(&to);
    made.flip(0, 9);
    backup(&made.path(), &to).fails(ExitCode::DamagedLog, &["wal verify", "still valid"]);
    assert!(contents(&to) == before);
    // Where there is none yet, none is promised.
    let ended = backup(&made.path(), &made.beside("first"));
    assert!(!ended.stderr.contains("still valid"), "{ended:?}");
    ended.fails(ExitCode::DamagedLog, &["wal verify", "no backup is made"]);
    // The way out that `verify` names.
    let restored = made.beside("restored");
    restore(&to, &restored, &[]).succeeds();
    assert_serves_and_is_clean(&restored, 1);
}

#[test]
fn directories_that_are_not_meant_are_left_alone() {
    let made = Made::new(1, 2);
    let (to, full) = (made.beside("backup"), made.beside("full"));
    backup(&made.path(), &to).succeeds();
    fs::create_dir(&full).expect("a directory");
    fs::write(full.join("precious"), "x").expect("a file");
    let file = full.join("precious");
    restore(&to, &full, &[]).fails(ExitCode::Configuration, &["precious", "new directory"]);
    restore(&to, &made.path(), &[]).fails(ExitCode::Configuration, &["writes over nothing"]);
    restore(&to, &file, &[]).fails(ExitCode::Configuration, &["precious", "new directory"]);
    restore(&full, &made.beside("new"), &[]).fails(ExitCode::Configuration, &["no BACKUP.json"]);
    backup(&made.path(), &full).fails(ExitCode::Configuration, &["precious", "new or an empty"]);
    let inside = made.path().join("backup");
    backup(&made.path(), &inside).fails(ExitCode::Configuration, &["inside the data directory"]);
    backup(&made.beside("nowhere"), &to).fails(ExitCode::Configuration, &["nowhere"]);
    backup(&to, &made.beside("new")).fails(ExitCode::Configuration, &["no readable MANIFEST"]);
    assert!(!made.beside("new").exists() && fs::read(&file).is_ok_and(|bytes| bytes == b"x"));
}

#[test]
fn an_interrupted_restore_serves_nothing_and_is_done_again() {
    let made = Made::new(1, 20);
    let (to, restored) = (made.beside("backup"), made.beside("restored"));
    backup(&made.path(), &to).succeeds();
    // What a kill leaves: the marker, and some of the log.
    fs::create_dir_all(restored.join("shard-000")).expect("a directory");
    fs::write(restored.join("RESTORE-UNFINISHED"), "").expect("a marker");
    fs::write(restored.join("shard-000/00000000000000000001.wal"), "half").expect("a segment");
    let refused = Serve::on(&restored).refused();
    server::assert_refused(&refused, ExitCode::ForeignData, &["no MANIFEST"]);
    restore(&to, &restored, &[]).succeeds();
    assert!(!restored.join("RESTORE-UNFINISHED").exists());
    assert_eq!(records(&restored), records(&made.path()));
}

/// A server starts all the same, and what it does not need may be wanted for other reasons.
#[test]
fn a_backup_without_older_damaged_records_says_so() {
    let made = Made::new(1, 2 * FRAMES_OF_SEGMENT);
    made.snapshot(0, FRAMES_OF_SEGMENT + 2, |_| ());
    made.flip(0, 1);
    let told = backup(&made.path(), &made.beside("json")).succeeds().json();
    let why = told["shards"][0]["older_is_damaged"].as_str().expect("why");
    assert!(why.contains("00000000000000000001.wal"), "{why}");
    let told = boxoffice(&[&"backup", &made.path(), &"--to", &made.beside("text")]).succeeds();
    assert!(told.stdout.contains("WARNING: its older records are not in"), "{told:?}");
    let whole = Made::new(1, 20);
    let told = backup(&whole.path(), &whole.beside("backup")).succeeds();
    assert!(!told.stdout.contains("older_is_damaged"), "{told:?}");
}

/// A small file system of its own; `None` where nothing can be mounted.
struct Small(PathBuf);

impl Small {
    fn new(at: PathBuf, kibibytes: u64) -> Option<Self> {
        fs::create_dir(&at).expect("a directory");
        let size = format!("size={kibibytes}k");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at).status();
        mount.is_ok_and(|status| status.success()).then_some(Self(at))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{}", self.0.display());
    }
}

#[test]
fn a_full_disk_costs_neither_the_last_backup_nor_the_target() {
    let (early, late) = (Made::new(1, FRAMES_OF_SEGMENT), Made::new(1, 40));
    let Some(small) = Small::new(early.beside("small"), 96) else {
        return println!("skipped: nothing can be mounted here");
    };
    let to = small.0.join("first");
    backup(&late.path(), &to).fails(ExitCode::NoRoom, &["free some space"]);
    // Moved to where there is room: a part of the logs, and nothing takes it for more.
    let half = late.beside("half");
    let moved = Command::new("cp").arg("-a").args([&to, &half]).status();
    assert!(moved.is_ok_and(|status| status.success()), "it can be copied");
    fs::remove_dir_all(&to).expect("it is removed");
    let ended = boxoffice(&[&"wal", &"verify", &half]);
    ended.fails(ExitCode::DamagedLog, &["cut short", "run `boxoffice backup"]);
    backup(&half, &late.beside("new")).fails(ExitCode::Configuration, &["no readable MANIFEST"]);
    server::assert_refused(&Serve::on(&half).refused(), ExitCode::ForeignData, &["cut short"]);
    backup(&late.path(), &half).succeeds();
    check(&half).succeeds();
    assert_eq!(records(&half), records(&late.path()));
    boxoffice(&[&"wal", &"verify", &half]).succeeds();
    let to = small.0.join("backup");
    backup(&early.path(), &to).succeeds();
    backup(&late.path(), &to).fails(ExitCode::NoRoom, &["still valid", "free some space"]);
    check(&to).succeeds();
    assert_eq!(records(&to).len(), 21 + 3 * FRAMES_OF_SEGMENT as usize, "two segments had room");
    let big = early.beside("big");
    backup(&late.path(), &big).succeeds();
    fs::remove_dir_all(&to).expect("it is removed");
    let restored = small.0.join("restored");
    restore(&big, &restored, &[]).fails(ExitCode::NoRoom, &["nothing was restored"]);
    assert!(!restored.exists(), "nothing is half restored");
}

#[test]
fn a_backup_beside_a_running_server_has_all_that_was_acknowledged() {
    let server = Server::start();
    let (dir, home) = (server.data_dir().to_owned(), server::temporary_dir());
    let (to, restored) = (home.path().join("backup"), home.path().join("restored"));
    let sale = SaleId(7);
    let mut peer = Peer::connect(server.address());
    peer.open_sale(sale, hold_ttl(600_000), &[(1, 1_000_000)]);
    let mut sold = 0;
    for round in 0..3_u128 {
        // Enough for several segments of four megabytes, and a backup in the midst of it.
        let requests = |from: u128| -> Vec<_> {
            (from..from + 400).map(|n| buy(intent(sale, 1 + n, n), &[(1, 1)])).collect()
        };
        for part in 0..5 {
            let requests = requests(round * 2000 + part * 400);
            sold += peer.ask_all(&requests).into_iter().flatten().count() as u64;
        }
        let before = peer.stats(sale).sold;
        let bytes = peer.encode(&requests(1_000_000 + round * 400));
        peer.write(&bytes).expect("the server listens");
        backup(&dir, &to).succeeds();
        (0..400).for_each(|_| assert!(peer.read_answer().is_some()));
        sold += 400;
        check(&to).succeeds();
        assert!(sold >= before && restored_sales(&to, &restored) >= before);
    }
    // The original goes on, and so does the copy, each with numbers of its own.
    let copy = Server::start_on(&restored, Serve::on(&restored));
    let mut other = Peer::connect(copy.address());
    let known = other.ask(buy(intent(sale, 1, 0), &[(1, 1)])).expect("it was bought");
    assert!(known.replayed, "what is in the backup is still the same intent");
    let unknown = other.ask(buy(intent(sale, 9_999_999, 1), &[(1, 2_000_000)]));
    assert!(matches!(unknown, Err(Refusal::NoneNow | Refusal::SoldOut)), "{unknown:?}");
    assert_eq!(peer.stats(sale).sold, sold);
}

/// Restores and says how many units were sold there.
fn restored_sales(backup: &Path, restored: &Path) -> u64 {
    let _ = fs::remove_dir_all(restored);
    restore(backup, restored, &["--verify"]).succeeds();
    let bought = records(restored);
    bought.iter().filter(|record| record["record"] == "bought").count() as u64
}
