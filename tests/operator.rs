//! An operator at three in the morning: what is missing, damaged or confused, and whether the last
//! line of each program leads to a way out that works.

#[path = "support/made_dir.rs"]
mod made_dir;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/program.rs"]
mod program;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use boxoffice::cli::exit::ExitCode;
use boxoffice::model::SaleId;
use made_dir::{Made, flip_at};
use peer::{Peer, buy, hold_ttl, intent};
use program::{Ended, boxoffice, command};
use serde_json::Value;
use server::{Serve, Server, assert_refused, contents};

fn backup(dir: &Path, to: &Path) -> Ended {
    boxoffice(&[&"backup", &dir, &"--to", &to])
}

fn restore(from: &Path, to: &Path) -> Ended {
    boxoffice(&[&"restore", &from, &"--to", &to])
}

#[track_caller]
fn assert_same_records(one: &Path, other: &Path) {
    let dump = |dir: &Path| boxoffice(&[&"wal", &"dump", &dir, &"--json"]).succeeds().stdout;
    assert!(dump(one) == dump(other), "{} and {}", one.display(), other.display());
}

#[test]
fn a_lost_manifest_costs_nothing() {
    let made = Made::new(2, 20);
    let truth = Made::new(2, 20);
    let dir = made.path();
    let manifest = dir.join("MANIFEST");
    for (content, code) in [
        (None, ExitCode::ForeignData),
        (Some(&b"{"[..]), ExitCode::DamagedLog),
        (Some(b"\x9c\xff\x00\xfe"), ExitCode::DamagedLog),
    ] {
        match content {
            None => fs::remove_file(&manifest).expect("it is removed"),
            Some(content) => fs::write(&manifest, content).expect("it is written"),
        }
        let leads = ["MANIFEST", "boxoffice backup", "boxoffice restore"];
        assert_refused(&Serve::on(&dir).with_shards(2).refused(), code, &leads);
        boxoffice(&[&"audit", &dir]).fails(code, &leads);
        // The logs are clean, and the directory is not.
        let verified = boxoffice(&[&"wal", &"verify", &dir, &"--json"]);
        let facts = verified.fails(ExitCode::DamagedLog, &leads).json();
        assert_eq!(
            (&facts["verdict"], &facts["shards"][0]["verdict"]),
            (&"damaged".into(), &"clean".into())
        );
        // The way out that they lead to.
        let (to, restored) = (made.beside("backup"), made.beside("restored"));
        backup(&dir, &to).succeeds();
        restore(&to, &restored).succeeds();
        assert_same_records(&restored, &truth.path());
        boxoffice(&[&"audit", &restored]).succeeds();
        for made in [to, restored] {
            fs::remove_dir_all(made).expect("it is removed");
        }
    }
    // Half of a directory is not taken for all of it.
    let to = made.beside("backup");
    fs::rename(made.shard_dir(1), made.beside("away")).expect("it moves");
    backup(&dir, &to).fails(ExitCode::DamagedLog, &["shard-000", "put the shards"]);
    assert!(!to.exists());
}

#[test]
fn a_shard_that_is_gone_is_never_taken_for_a_new_one() {
    let made = Made::new(2, 20);
    let away = made.beside("away");
    fs::rename(made.shard_dir(1), &away).expect("it moves");
    let before = contents(&made.path());
    let leads = ["shard-001", "missing", "boxoffice wal verify"];
    assert_refused(&Serve::on(&made.path()).with_shards(2).refused(), ExitCode::DamagedLog, &leads);
    backup(&made.path(), &made.beside("backup")).fails(ExitCode::DamagedLog, &leads);
    let segments = |files: Vec<(std::path::PathBuf, Vec<u8>)>| -> Vec<_> {
        files.into_iter().filter(|(path, _)| path.extension().is_some()).collect()
    };
    assert!(segments(contents(&made.path())) == segments(before), "nothing was changed");
    fs::rename(&away, made.shard_dir(1)).expect("it is put back");
    let mut server = Server::start_on(&made.path(), Serve::on(&made.path()).with_shards(2));
    assert!(server.terminate().success());
}

#[test]
fn directories_of_other_kinds_are_named_with_what_to_do() {
    let made = Made::new(1, 20);
    let (to, half) = (made.beside("backup"), made.beside("half"));
    backup(&made.path(), &to).succeeds();
    let lead = format!("boxoffice restore {}", to.display());
    assert_refused(&Serve::on(&to).refused(), ExitCode::ForeignData, &["a backup", &lead]);
    fs::create_dir_all(half.join("shard-000")).expect("a directory");
    fs::copy(made.segment(0, 1), half.join("shard-000/00000000000000000001.wal")).expect("a copy");
    fs::write(half.join("RESTORE-UNFINISHED"), "").expect("a marker");
    assert_refused(&Serve::on(&half).refused(), ExitCode::ForeignData, &["cut short", "run that"]);
    backup(&half, &made.beside("other")).fails(ExitCode::Configuration, &["no readable MANIFEST"]);
    // Nothing is put into a backup but by `backup`.
    let before = contents(&to);
    for inside in [to.clone(), to.join("x"), to.join("shard-000/x/y")] {
        restore(&to, &inside).fails(ExitCode::Configuration, &["inside the backup", "another"]);
    }
    assert!(contents(&to) == before);
    let nowhere = made.beside("nowhere");
    boxoffice(&[&"audit", &nowhere]).fails(ExitCode::Configuration, &["name a data directory"]);
    boxoffice(&[&"restore", &to]).fails(ExitCode::Usage, &["not provided: --to <DATA_DIR>"]);
}

#[test]
fn a_damaged_backup_is_not_told_to_be_repaired() {
    let made = Made::new(1, 20);
    let to = made.beside("backup");
    backup(&made.path(), &to).succeeds();
    let segment = to.join("shard-000/00000000000000000002.wal");
    flip_at(&segment, 3 * 4096 + 70);
    for _ in 0..2 {
        let verified = boxoffice(&[&"wal", &"verify", &to, &"--json"]);
        let facts = verified.fails(ExitCode::DamagedLog, &[]).json();
        let next = facts["shards"][0]["next"].as_array().expect("a list").clone();
        assert_eq!(next.len(), 1, "{next:?}");
        assert!(next[0].as_str().is_some_and(|next| next.contains("use another one")), "{next:?}");
        // Once more with the file gone altogether.
        let _ = fs::remove_file(&segment);
    }
    restore(&to, &made.beside("restored"))
        .fails(ExitCode::DamagedLog, &["00000000000000000002.wal is missing", "another"]);
}

/// What the disk does not give back of a snapshot stops no server, and no tool either. A directory
/// in its place cannot be read, as a bad sector cannot.
#[test]
fn a_snapshot_that_cannot_be_read_stops_neither_verify_nor_backup() {
    let made = Made::new(1, 20);
    let snapshots = [made.snapshot(0, 8, |_| ()), made.snapshot(0, 15, |_| ())];
    fs::remove_file(&snapshots[1]).expect("it is removed");
    fs::create_dir(&snapshots[1]).expect("a directory");
    let verified = boxoffice(&[&"wal", &"verify", &made.path(), &"--json"]);
    let facts = verified.fails(ExitCode::DamagedLog, &["each way out"]).json();
    let shard = &facts["shards"][0];
    assert_eq!((&shard["serves"], &shard["snapshots"][1]["fault"]), (&true.into(), &Value::Null));
    assert!(shard["damages"][0].as_str().is_some_and(|what| what.contains("directory")), "{shard}");
    let to = made.beside("backup");
    backup(&made.path(), &to).succeeds();
    restore(&to, &made.beside("restored")).succeeds();
    let mut server = Server::start_on(&made.path(), Serve::on(&made.path()));
    assert!(server.terminate().success());
}

#[test]
fn what_was_archived_can_be_put_back() {
    let made = Made::new(1, 20);
    let snapshots = [made.snapshot(0, 8, |_| ()), made.snapshot(0, 15, |_| ())];
    let archived = made.beside("archived");
    fs::rename(made.segment(0, 1), &archived).expect("it moves");
    for snapshot in &snapshots {
        flip_at(snapshot, 300);
    }
    let refused = Serve::on(&made.path()).refused();
    let leads = ["segment 2", "none of its 2", "archived", "boxoffice restore", "wal verify"];
    assert_refused(&refused, ExitCode::DamagedLog, &leads);
    fs::rename(&archived, made.segment(0, 1)).expect("it moves back");
    let mut server = Server::start_on(&made.path(), Serve::on(&made.path()));
    assert!(server.terminate().success());
}

/// A reader that stops midway, while what it has not read yet is retired.
#[test]
fn a_dump_goes_on_behind_what_is_retired_meanwhile() {
    let frames = 2_000;
    let made = Made::new(1, frames);
    let mut snapshots = Vec::new();
    for covered in [1_700, 1_750] {
        snapshots.push(made.snapshot(0, covered, |_| ()));
    }
    let mut dump = command(&[&"wal", &"dump", &made.path(), &"--json"]);
    let mut child = dump.stdout(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut first = String::new();
    lines.read_line(&mut first).expect("a line");
    // What the server does with segments that both snapshots cover, the oldest first.
    let (retired, _) = Made::place(1_700);
    for segment in 1..retired {
        fs::remove_file(made.segment(0, segment)).expect("it is removed");
    }
    let mut rest = String::new();
    lines.read_to_string(&mut rest).expect("it is UTF-8");
    assert!(child.wait().expect("it ends").success());
    let shown: Vec<Value> =
        (first + &rest).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let lsns: Vec<u64> = shown.iter().filter_map(|line| line.get("lsn")?.as_u64()).collect();
    assert!(lsns.is_sorted_by(|one, next| one < next), "each record once, in order");
    assert_eq!(lsns.last(), Some(&made.records()));
    // What is missing is named, to the record.
    let gap = lsns.windows(2).find(|pair| pair[1] > pair[0] + 1).expect("some were not read");
    let end = shown.last().expect("an end");
    assert_eq!(end["verdict"], "clean");
    assert_eq!(end["retired"]["first_lsn"], gap[0] + 1);
    assert_eq!(end["retired"]["last_lsn"], gap[1] - 1);
}

#[test]
fn a_log_whose_beginning_is_retired_all_the_time_is_clean() {
    let server = Server::start_with(|serve| {
        let serve = serve.with("--segment-bytes", "1052672").with("--retention", "delete");
        serve.with("--snapshot-every", "1052672")
    });
    let dir = server.data_dir().to_owned();
    let mut peer = Peer::connect(server.address());
    let sale = SaleId(7);
    peer.open_sale(sale, hold_ttl(600_000), &[(1, 10_000_000)]);
    let stop = AtomicBool::new(false);
    let segment = |index: u64| dir.join(format!("shard-000/{index:020}.wal"));
    thread::scope(|scope| {
        let seller = scope.spawn(|| {
            for batch in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let requests: Vec<_> = (batch * 400..batch * 400 + 400)
                    .map(|n| buy(intent(sale, 1 + n, n), &[(1, 1)]))
                    .collect();
                peer.ask_all(&requests);
                // The log does not outgrow those who read it.
                thread::sleep(Duration::from_millis(20));
            }
        });
        // Until some were retired between the first look and the last.
        for looks in 0.. {
            boxoffice(&[&"wal", &"verify", &dir]).succeeds();
            boxoffice(&[&"wal", &"dump", &dir, &"--json"]).succeeds();
            if looks > 4 && !segment(4).exists() {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        seller.join().expect("it sells");
    });
}
