//! `boxoffice wal` as an operator uses it in the night: on whole logs, beside a running server,
//! and on directories that were damaged in every usual way.
//!
//! Each fault is one clear line and a documented exit code, and the line leads to the way out,
//! which the tests then go: they run the commands that the tools print.

#[path = "support/made_dir.rs"]
mod made_dir;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/program.rs"]
mod program;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use boxoffice::audit::audit;
use boxoffice::cli::exit::ExitCode;
use boxoffice::model::{SaleId, UuidText};
use made_dir::{Made, TIME, account, flip_at, poke};
use peer::{Peer, buy, hold_ttl, intent};
use program::{Ended, boxoffice, command, run};
use serde_json::Value;
use server::{Refused, Serve, Server, contents};

fn verify(dir: &Path) -> Ended {
    boxoffice(&[&"wal", &"verify", &dir, &"--json"])
}

fn dump(dir: &Path, flags: &[&str]) -> Ended {
    let mut command = command(&[&"wal", &"dump", &dir, &"--json"]);
    command.args(flags);
    run(command)
}

/// The LSNs of shard 0 that a dump shows.
fn lsns(dumped: &Ended) -> Vec<u64> {
    let lines = dumped.json_lines();
    lines.iter().filter_map(|line| line.get("lsn")?.as_u64()).collect()
}

/// Holds a damaged shard 0 to what is known of it, and returns its facts.
#[track_caller]
fn assert_damaged(made: &Made, next_lsn: u64, readable_behind: u64) -> Value {
    let before = contents(&made.path());
    let facts = verify(&made.path()).fails(ExitCode::DamagedLog, &[]).json();
    assert!(contents(&made.path()) == before, "looking changes nothing");
    let shard = facts["shards"][0].clone();
    assert_eq!(shard["verdict"], "damaged");
    assert_eq!((&shard["next_lsn"], &shard["records"]), (&next_lsn.into(), &(next_lsn - 1).into()));
    assert_eq!(shard["lost"]["records"], readable_behind, "{shard}");
    shard
}

/// The `boxoffice` command that a tool advises, as a shell would split it.
#[track_caller]
fn advised(facts: &Value, what: &str) -> Vec<String> {
    let next = facts["next"].as_array().expect("there is advice");
    let line = next.iter().filter_map(Value::as_str).find(|line| line.contains(what));
    let line = line.unwrap_or_else(|| panic!("nothing leads to {what}: {facts}"));
    let at = line.find("boxoffice ").expect("the advice is a command");
    line[at..].split(' ').skip(1).map(str::to_owned).collect()
}

fn run_advice(args: &[String]) -> Ended {
    let mut command = command(&[]);
    command.args(args).arg("--yes");
    run(command)
}

/// A server serves on the directory, and the audit has nothing to say against it.
#[track_caller]
fn assert_serves_and_is_clean(dir: &Path) {
    let mut server = Server::start_on(dir, Serve::on(dir));
    assert!(server.terminate().success());
    verify(dir).succeeds();
    boxoffice(&[&"audit", &dir]).succeeds();
}

#[test]
fn a_whole_log_is_shown_record_by_record() {
    let made = Made::new(2, 20);
    let dumped = dump(&made.path(), &[]).succeeds().json_lines();
    let of_shard = |shard| dumped.iter().filter(move |line| line["shard"] == shard);
    for shard in [0, 1] {
        let lines: Vec<_> = of_shard(shard).collect();
        let (end, records) = lines.split_last().expect("a shard has an end");
        assert_eq!((end["verdict"].as_str(), &end["shown"]), (Some("clean"), &60.into()));
        let lsns: Vec<_> = records.iter().map(|line| line["lsn"].as_u64().unwrap()).collect();
        assert!(lsns.iter().copied().eq(1..=60));
        assert_eq!(records[0]["record"], "sale_defined");
        let held = records[3];
        assert_eq!((held["record"].as_str(), &held["order"]), (Some("held"), &1.into()));
        assert_eq!(held["time_ms"], TIME + 1000);
        assert_eq!(held["account"], UuidText::from(account(1)).as_str());
        assert_eq!(held["lines"][0]["quantity"], 2);
        assert_eq!((&held["segment"], &held["offset"]), (&1.into(), &(2 * 4096 + 56).into()));
    }
    let text = boxoffice(&[&"wal", &"dump", &made.path(), &"--shard", &"1"]).succeeds().stdout;
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 61);
    assert!(lines[3].starts_with("shard 1 lsn 4 2026-09-21T14:13:21.000Z held sale "), "{lines:?}");
    assert!(lines[60].starts_with("# shard 1: clean: 60 records in 20 frames"), "{lines:?}");
}

#[test]
fn a_dump_is_filtered() {
    let made = Made::new(1, 20);
    let shown = |flags: &[&str]| lsns(&dump(&made.path(), flags).succeeds());
    assert_eq!(shown(&["--from-lsn", "7", "--to-lsn", "9"]), [7, 8, 9]);
    assert_eq!(shown(&["--sale", "7", "--order", "3"]), [7, 9]);
    assert_eq!(shown(&["--sale", "8"]), [] as [u64; 0]);
    let third = UuidText::from(account(3)).to_string();
    assert_eq!(shown(&["--account", &third]), [10, 11, 12]);
    let (from, to) = ((TIME + 2000).to_string(), "2026-09-21T14:13:23Z");
    assert_eq!(shown(&["--from-time", &from, "--to-time", to]), [7, 8, 9, 10, 11, 12]);
    dump(&made.path(), &["--order", "3"]).fails(ExitCode::Usage, &["--sale"]);
    dump(&made.path(), &["--to-time", "noon"]).fails(ExitCode::Usage, &["2026-11-23T20:00:00Z"]);
    dump(&made.path(), &["--shard", "9"]).fails(ExitCode::Configuration, &["no shard 9"]);
}

#[test]
fn a_clean_log_and_a_torn_tail_have_codes_of_their_own() {
    let made = Made::new(1, 20);
    let facts = verify(&made.path()).succeeds().json();
    assert_eq!((facts["verdict"].as_str(), &facts["in_use"]), (Some("clean"), &false.into()));
    assert_eq!(facts["shards"][0]["next_lsn"], 61);

    let (segment, offset) = Made::place(20);
    poke(&made.segment(0, segment), offset, b"BXFR torn");
    let facts = verify(&made.path()).fails(ExitCode::TornTail, &["next start"]).json();
    let torn = &facts["shards"][0]["torn"];
    assert_eq!((&torn["offset"], &torn["bytes"]), (&offset.into(), &4096.into()));
    assert_eq!(lsns(&dump(&made.path(), &[]).succeeds()).len(), 60);
    let args: &[&dyn AsRef<std::ffi::OsStr>] =
        &[&"wal", &"truncate", &made.path(), &"--shard", &"0", &"--at", &"4", &"--yes"];
    let mut truncate = command(args);
    truncate.arg("--backup").arg(made.beside("cut"));
    run(truncate).fails(ExitCode::Usage, &["not damaged", "restore"]);
    assert_serves_and_is_clean(&made.path());
}

#[test]
fn damage_in_the_middle_is_shown_explained_and_cut_off() {
    let made = Made::new(1, 20);
    made.flip(0, 9);
    // The server leads to `verify`, and `verify` to the cut.
    let refused = Serve::on(&made.path()).refused();
    let lead = format!("boxoffice wal verify {}", made.path().display());
    server::assert_refused(&refused, ExitCode::DamagedLog, &[&lead]);

    let shard = assert_damaged(&made, 28, 30);
    let damage = shard["damages"][0].as_str().expect("a text");
    let (segment, offset) = Made::place(9);
    let file = made.segment(0, segment).display().to_string();
    for name in [file.as_str(), &format!("offset {offset}"), "LSN 28"] {
        assert!(damage.contains(name), "{damage}");
    }
    let lost = &shard["lost"];
    assert_eq!((&lost["from_lsn"], &lost["to_lsn"]), (&28.into(), &60.into()));
    assert_eq!((&lost["unreadable"], &lost["orders"]), (&3.into(), &20.into()));
    assert_eq!(lost["sales"][0]["bought"], 10);
    assert_eq!(lost["to_time_ms"], TIME + 19_000);

    let dumped = dump(&made.path(), &[]).fails(ExitCode::DamagedLog, &[&lead]);
    assert!(lsns(&dumped).into_iter().eq(1..=27));
    let dumped = dump(&made.path(), &["--past-damage"]).fails(ExitCode::DamagedLog, &[]);
    assert!(lsns(&dumped).into_iter().eq((1..=27).chain(31..=60)));
    let beyond = dumped.json_lines().into_iter().filter(|line| line["beyond"] == true);
    assert_eq!(beyond.count(), 30);

    let before = contents(&made.path());
    run_advice(&advised(&shard, "wal truncate")).succeeds();
    assert_serves_and_is_clean(&made.path());
    assert_eq!(lsns(&dump(&made.path(), &["--to-lsn", "27"]).succeeds()).len(), 27);
    // What was given up lies in the copy, byte by byte.
    let copy = PathBuf::from(format!("{}.cut", made.path().display()));
    for segment in [2, 3] {
        let was = before.iter().find(|(path, _)| made.segment(0, segment).ends_with(path));
        let is = fs::read(copy.join(format!("shard-000/{segment:020}.wal"))).expect("a copy");
        assert!(was.is_some_and(|(_, bytes)| *bytes == is), "segment {segment}");
    }
    let note: Value =
        serde_json::from_slice(&fs::read(copy.join("CUT.json")).expect("a note")).expect("JSON");
    assert_eq!(note["at_lsn"], 28);
    // Whoever comes upon it, is led to its records, and to no repair.
    let lead = format!("boxoffice wal dump {}", copy.display());
    server::assert_refused(&Serve::on(&copy).refused(), ExitCode::ForeignData, &[&lead]);
    let verified = verify(&copy).fails(ExitCode::DamagedLog, &[]).json();
    assert!(verified["manifest_fault"].as_str().is_some_and(|fault| fault.contains(&lead)));
    assert_eq!(verified["shards"][0]["next"], Value::Array(Vec::new()));
    let given_up = dump(&copy, &["--past-damage", "--from-lsn", "28"]);
    assert!(lsns(&given_up.fails(ExitCode::DamagedLog, &[])).into_iter().eq(31..=60));
}

#[test]
fn a_cut_needs_a_sound_place_and_a_yes() {
    let made = Made::new(1, 20);
    made.flip(0, 9);
    let before = contents(&made.path());
    let backup = made.beside("cut");
    let truncate = |at: &str, backup: &Path, flags: &[&str]| {
        let mut command = command(&[&"wal", &"truncate", &made.path(), &"--shard", &"0"]);
        command.args(["--at", at]).arg("--backup").arg(backup).args(flags);
        run(command)
    };
    truncate("28", &backup, &[]).fails(ExitCode::Usage, &["--yes", "nothing was changed"]);
    truncate("29", &backup, &["--yes"]).fails(ExitCode::Usage, &["--at 28"]);
    truncate("26", &backup, &["--yes"]).fails(ExitCode::Usage, &["cut at 25 or at 28"]);
    truncate("0", &backup, &["--yes"]).fails(ExitCode::Usage, &["no such LSN"]);
    let inside = made.path().join("cut");
    truncate("28", &inside, &["--yes"]).fails(ExitCode::Usage, &["inside the data directory"]);
    fs::create_dir(&backup).expect("a directory");
    fs::write(backup.join("precious"), "x").expect("a file");
    truncate("28", &backup, &["--yes"]).fails(ExitCode::Usage, &["is not empty"]);
    let file = backup.join("precious");
    truncate("28", &file, &["--yes"]).fails(ExitCode::Configuration, &["--backup"]);
    let left = |(path, _): &(PathBuf, Vec<u8>)| !path.ends_with("LOCK");
    let after: Vec<_> = contents(&made.path()).into_iter().filter(left).collect();
    assert!(after.into_iter().eq(before.into_iter().filter(left)), "nothing was changed");
    // An earlier frame is a sound place, too.
    truncate("25", &made.beside("cut-2"), &["--yes"]).succeeds();
    assert!(lsns(&dump(&made.path(), &[]).succeeds()).into_iter().eq(1..=24));
    assert_serves_and_is_clean(&made.path());
}

#[test]
fn a_full_disk_for_the_copy_leaves_the_log_alone() {
    let made = Made::new(1, 20);
    made.flip(0, 3);
    let mount = made.beside("small");
    fs::create_dir(&mount).expect("a directory");
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=40k", "tmpfs"])
        .arg(&mount)
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        return println!("skipped: nothing can be mounted here");
    }
    let before = contents(&made.path());
    let mut truncate = command(&[&"wal", &"truncate", &made.path(), &"--shard", &"0", &"--yes"]);
    truncate.args(["--at", "10", "--backup"]).arg(mount.join("cut"));
    let ended = run(truncate);
    let is_empty = fs::read_dir(&mount).expect("it lists").next().is_none();
    let unmounted = Command::new("umount").arg(&mount).status();
    ended.fails(ExitCode::NoRoom, &["room", "nothing was changed"]);
    assert!(is_empty, "half a copy is left");
    assert!(unmounted.is_ok_and(|status| status.success()));
    let segments = |files: Vec<(PathBuf, Vec<u8>)>| -> Vec<_> {
        files.into_iter().filter(|(path, _)| path.extension().is_some()).collect()
    };
    assert!(segments(contents(&made.path())) == segments(before));
}

#[test]
fn a_missing_segment_is_named_and_putting_it_back_is_enough() {
    let made = Made::new(1, 20);
    let away = made.beside("away");
    fs::rename(made.segment(0, 2), &away).expect("it moves");
    let shard = assert_damaged(&made, 22, 18);
    let file = made.segment(0, 2).display().to_string();
    assert!(shard["damages"][0].as_str().is_some_and(|damage| damage.contains(&file)));
    assert!(shard["next"][0].as_str().is_some_and(|next| next.contains(&file)), "{shard}");
    let refused = Serve::on(&made.path()).refused();
    server::assert_refused(&refused, ExitCode::DamagedLog, &[&file, "boxoffice wal verify"]);
    let dumped = dump(&made.path(), &["--past-damage"]).fails(ExitCode::DamagedLog, &[]);
    assert!(lsns(&dumped).into_iter().eq((1..=21).chain(43..=60)));
    fs::rename(&away, made.segment(0, 2)).expect("it moves back");
    verify(&made.path()).succeeds();
    // Where it is lost for good, the cut is the way on.
    fs::remove_file(made.segment(0, 2)).expect("it is removed");
    run_advice(&advised(&shard, "wal truncate")).succeeds();
    assert_serves_and_is_clean(&made.path());
}

#[test]
fn swapped_segments_are_recognised_by_what_they_say() {
    let made = Made::new(1, 20);
    let (two, three) = (made.segment(0, 2), made.segment(0, 3));
    let swap = || {
        let other = made.beside("other");
        fs::rename(&two, &other).expect("it moves");
        fs::rename(&three, &two).expect("it moves");
        fs::rename(&other, &three).expect("it moves");
    };
    swap();
    let shard = assert_damaged(&made, 22, 39);
    let next: Vec<_> = shard["next"].as_array().expect("a list").iter().collect();
    for (is, says) in [(&two, &three), (&three, &two)] {
        let [is, says] = [is, says].map(|path| path.display().to_string());
        let advice = |next: &&&Value| {
            next.as_str().is_some_and(|next| next.starts_with(&is) && next.ends_with(&says))
        };
        assert!(next.iter().any(|line| advice(&line)), "{next:?}");
    }
    swap();
    verify(&made.path()).succeeds();
}

#[test]
fn a_foreign_segment_is_none_of_this_log() {
    let (made, other) = (Made::new(1, 20), Made::new(2, 20));
    // Shard 1 of the other directory has another log id.
    fs::copy(other.segment(1, 2), made.segment(0, 2)).expect("it is copied");
    let shard = assert_damaged(&made, 22, 18);
    let next = shard["next"][0].as_str().expect("advice");
    assert!(next.contains("put the right file in the place of"), "{next}");
    let refused = Serve::on(&made.path()).refused();
    server::assert_refused(&refused, ExitCode::ForeignData, &["boxoffice wal verify"]);
    fs::write(made.segment(0, 2), vec![0x55; 8 * 4096]).expect("it is written");
    let shard = assert_damaged(&made, 22, 18);
    run_advice(&advised(&shard, "wal truncate")).succeeds();
    assert_serves_and_is_clean(&made.path());
}

#[test]
fn a_segment_that_was_cut_short_is_kept_as_far_as_it_goes() {
    let made = Made::new(1, 20);
    let last = made.segment(0, 3);
    // In the middle of its third frame.
    let file = fs::OpenOptions::new().write(true).open(&last).expect("it opens");
    file.set_len(3 * 4096 + 100).expect("it is cut");
    let shard = assert_damaged(&made, 49, 0);
    run_advice(&advised(&shard, "wal truncate")).succeeds();
    assert_eq!(fs::metadata(&last).expect("it is there").len(), 8 * 4096);
    assert_serves_and_is_clean(&made.path());
    // In the middle of the log, all that follows is behind the damage.
    let made = Made::new(1, 20);
    let file = fs::OpenOptions::new().write(true).open(made.segment(0, 1)).expect("it opens");
    file.set_len(2 * 4096).expect("it is cut");
    assert_damaged(&made, 4, 39);
}

/// A backup helps; and without one the other shards need not stay down with it.
#[test]
fn a_shard_without_a_readable_beginning_can_be_given_up() {
    let made = Made::new(2, 20);
    flip_at(&made.segment(0, 1), 20);
    let facts = verify(&made.path()).fails(ExitCode::DamagedLog, &[]).json();
    let shard = &facts["shards"][0];
    assert_eq!((&shard["next_lsn"], &shard["lost"]["records"]), (&Value::Null, &60.into()));
    advised(shard, "boxoffice restore");
    let truncate = advised(shard, "so that the others serve");
    let dumped = dump(&made.path(), &["--past-damage"]).fails(ExitCode::DamagedLog, &[]);
    let lost = lsns(&dumped).len() as u64;
    assert_eq!(lost, 2 * made.records(), "all that can be read, of both shards");
    run_advice(&truncate).succeeds();
    let facts = verify(&made.path()).succeeds().json();
    assert_eq!(facts["shards"][0]["next_lsn"], 1);
    assert_eq!(facts["shards"][1]["records"], made.records(), "the other has all it had");
    let mut server = Server::start_on(&made.path(), Serve::on(&made.path()).with_shards(2));
    assert!(server.terminate().success());
    boxoffice(&[&"audit", &made.path()]).succeeds();
    // What was given up is not gone.
    let cut = Path::new(truncate.last().expect("where to"));
    assert_eq!(lsns(&dump(cut, &["--past-damage"])).len(), 60);
}

#[test]
fn a_directory_that_is_none_is_one_clear_line() {
    let made = Made::new(1, 2);
    let file = made.beside("file");
    fs::write(&file, "x").expect("a file");
    let empty = made.beside("empty");
    fs::create_dir(&empty).expect("a directory");
    for tool in ["verify", "dump"] {
        let run = |dir: &Path| boxoffice(&[&"wal", &tool, &dir]);
        let lead = "name a data directory or a backup";
        run(&made.beside("nowhere")).fails(ExitCode::Configuration, &["nowhere", lead]);
        run(&file).fails(ExitCode::Configuration, &["file", lead]);
        run(&empty).fails(ExitCode::Configuration, &["empty", lead]);
    }
    // A shard's directory that is gone, or a file, is damage of that shard.
    let away = made.beside("away");
    fs::rename(made.shard_dir(0), &away).expect("it moves");
    let shard = &verify(&made.path()).fails(ExitCode::DamagedLog, &[]).json()["shards"][0];
    assert!(shard["damages"][0].as_str().is_some_and(|damage| damage.ends_with("is missing")));
    fs::write(made.shard_dir(0), "x").expect("a file");
    let shard = &verify(&made.path()).fails(ExitCode::DamagedLog, &[]).json()["shards"][0];
    assert!(shard["damages"][0].as_str().is_some_and(|damage| damage.ends_with("not a directory")));
}

#[test]
fn whoever_may_not_read_is_told_so() {
    let made = Made::new(1, 2);
    let segment = made.segment(0, 1);
    fs::set_permissions(&segment, fs::Permissions::from_mode(0o600)).expect("it is closed");
    // Somebody else, where this test may become somebody else.
    let mut verify = command(&[&"wal", &"verify", &made.path()]);
    if rustix::process::geteuid().is_root() {
        for parent in made.path().ancestors().skip(1).take(1) {
            fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).expect("it is opened");
        }
        verify.uid(65_534).gid(65_534);
    } else {
        fs::set_permissions(&segment, fs::Permissions::from_mode(0o000)).expect("it is closed");
    }
    let names = [segment.to_str().expect("UTF-8"), "run this as the server's user"];
    run(verify).fails(ExitCode::Configuration, &names);
}

#[test]
fn a_log_that_is_being_written_is_whole_at_every_moment() {
    let server = Server::start();
    let dir = server.data_dir().to_owned();
    let mut peer = Peer::connect(server.address());
    let sale = SaleId(7);
    peer.open_sale(sale, hold_ttl(600_000), &[(1, 1_000_000)]);
    let stop = AtomicBool::new(false);
    let sold = thread::scope(|scope| {
        let seller = scope.spawn(|| {
            let mut sold = 0;
            while !stop.load(Ordering::Relaxed) {
                sold += 1;
                peer.gets(buy(intent(sale, 1 + sold, sold), &[(1, 1)]));
            }
            sold
        });
        let mut seen = 0;
        for _ in 0..20 {
            let facts = verify(&dir).succeeds().json();
            assert_eq!(facts["in_use"], true);
            let records = facts["shards"][0]["records"].as_u64().expect("a number");
            assert!(records >= seen, "the log only grows");
            seen = records;
        }
        assert!(lsns(&dump(&dir, &[]).succeeds()).into_iter().zip(1..).all(|(lsn, n)| lsn == n));
        stop.store(true, Ordering::Relaxed);
        seller.join().expect("it sells")
    });
    // The lock is the server's: what changes the directory has to wait.
    let mut truncate = command(&[&"wal", &"truncate", &dir, &"--shard", &"0", &"--yes"]);
    truncate.args(["--at", "1", "--backup", "/nowhere"]);
    run(truncate).fails(ExitCode::DirectoryInUse, &["in use"]);
    let bought = dump(&dir, &["--sale", "7"]).succeeds().json_lines();
    let bought = bought.iter().filter(|line| line["record"] == "bought").count();
    assert_eq!(bought as u128, sold, "what was acknowledged is shown");
}

#[test]
fn audit_and_refusals_agree_on_a_cut_log() {
    let made = Made::new(2, 20);
    made.flip(1, 4);
    let refused = Serve::on(&made.path()).with_shards(2).refused();
    let Refused { stderr, .. } = &refused;
    assert!(stderr.contains("wal verify"), "{stderr}");
    let facts = verify(&made.path()).fails(ExitCode::DamagedLog, &[]).json();
    assert_eq!(facts["shards"][0]["verdict"], "clean");
    run_advice(&advised(&facts["shards"][1], "--shard 1 --at 13")).succeeds();
    let report = audit(&made.path()).expect("there are logs");
    assert!(report.is_clean(), "{report}");
    let records: Vec<_> = report.shards.iter().map(|shard| shard.records).collect();
    assert_eq!(records, [60, 12]);
}
