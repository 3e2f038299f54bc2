//! The tools where there are snapshots: an audit that begins with one and holds the others against
//! the log, verdicts, cuts, backups and restores of logs whose beginning is gone.
//!
//! Each field that a snapshot has is a canary: changed alone, in an otherwise sound file, the audit
//! must find it.

#[path = "support/made_dir.rs"]
mod made_dir;
#[path = "support/program.rs"]
mod program;
#[path = "support/server.rs"]
mod server;

use std::fs;
use std::path::Path;

use boxoffice::audit::{Report, Rule, audit};
use boxoffice::cli::exit::ExitCode;
use boxoffice::model::snapshot::{Effect, Part, TalliesPart, TallyOf, TallyRow};
use boxoffice::model::{
    AccountId, BodyDigest, OrderNumber, OrderState, Price, Quantity, RequestId, SaleState, TimeMs,
};
use made_dir::{Made, flip_at};
use program::{Ended, boxoffice, command, run};
use serde_json::Value;
use server::{Serve, Server};

/// Twenty frames, and snapshots of the first eight and fifteen of them.
fn with_snapshots() -> Made {
    let made = Made::new(1, 20);
    made.snapshot(0, 8, |_| ());
    made.snapshot(0, 15, |_| ());
    made
}

fn judge(made: &Made) -> Report {
    audit(&made.path()).expect("there is a log")
}

#[track_caller]
fn assert_serves_and_is_clean(dir: &Path) {
    let mut server = Server::start_on(dir, Serve::on(dir));
    assert!(server.terminate().success());
    boxoffice(&[&"audit", &dir]).succeeds();
    boxoffice(&[&"wal", &"verify", &dir]).succeeds();
}

fn verify(made: &Made) -> Ended {
    boxoffice(&[&"wal", &"verify", &made.path(), &"--json"])
}

fn lsns(dir: &Path) -> Vec<u64> {
    let dumped = boxoffice(&[&"wal", &"dump", &dir, &"--json"]).succeeds().json_lines();
    dumped.iter().filter_map(|line| line.get("lsn")?.as_u64()).collect()
}

#[test]
fn snapshots_are_held_against_the_log() {
    let made = with_snapshots();
    let report = judge(&made);
    assert!(report.is_clean(), "{report}");
    let seen: Vec<_> =
        report.shards[0].snapshots.iter().map(|seen| (seen.lsn, seen.is_base)).collect();
    assert_eq!(seen, [(24, false), (45, false)]);
}

#[test]
fn a_log_without_its_beginning_is_judged_from_a_snapshot_on() {
    let made = with_snapshots();
    let whole = judge(&made);
    fs::remove_file(made.segment(0, 1)).expect("it is removed");
    let report = judge(&made);
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.sales, whole.sales);
    let shard = &report.shards[0];
    assert_eq!(shard.records, 60 - 24);
    let seen: Vec<_> = shard.snapshots.iter().map(|seen| (seen.lsn, seen.is_base)).collect();
    assert_eq!(seen, [(24, true), (45, false)]);
    // Without a snapshot there is nothing to begin with.
    for lsn in [24, 45] {
        fs::remove_file(made.shard_dir(0).join(format!("{lsn:020}.snap"))).expect("it is removed");
    }
    assert!(!judge(&made).is_clean());
}

/// A change of one field, and the rule that it breaks.
type Canary = (&'static str, Rule, fn(&mut Part));

const CANARIES: [Canary; 18] = [
    ("terms", Rule::SnapshotDiffers, |part| {
        if let Part::Sale(sale) = part {
            sale.terms.hold_ttl.0 += 1000;
        }
    }),
    ("state", Rule::SnapshotDiffers, |part| {
        if let Part::Sale(sale) = part {
            sale.state = SaleState::Paused;
        }
    }),
    ("price", Rule::SnapshotDiffers, |part| {
        if let Part::Sale(sale) = part {
            sale.items[0].terms.price = Price(1);
        }
    }),
    ("capacity", Rule::SnapshotDiffers, |part| {
        if let Part::Sale(sale) = part {
            sale.items[0].terms.capacity.0 += 1;
            sale.items[0].available.0 += 1;
        }
    }),
    ("available", Rule::SnapshotDisagrees, |part| {
        if let Part::Sale(sale) = part {
            sale.items[0].available.0 += 1;
        }
    }),
    ("sold", Rule::SnapshotDisagrees, |part| {
        if let Part::Sale(sale) = part {
            sale.items[0].sold.0 -= 1;
            sale.items[0].held.0 += 1;
        }
    }),
    ("account", Rule::SnapshotDiffers, |part| {
        if let Part::Accounts(accounts) = part {
            accounts.rows[1].account = AccountId(5);
        }
    }),
    ("units", Rule::SnapshotDisagrees, |part| {
        if let Part::Accounts(accounts) = part {
            accounts.rows[1].units = Quantity(1);
        }
    }),
    ("order's request", Rule::SnapshotDiffers, |part| {
        if let Part::Orders(orders) = part {
            orders.rows[2].request = RequestId(99);
        }
    }),
    ("order's digest", Rule::SnapshotDiffers, |part| {
        if let Part::Orders(orders) = part {
            orders.rows[2].digest = BodyDigest(99);
        }
    }),
    ("order's account", Rule::SnapshotDiffers, |part| {
        if let Part::Orders(orders) = part {
            orders.rows[2].account = 0;
        }
    }),
    ("order's state", Rule::SnapshotDiffers, |part| {
        if let Part::Orders(orders) = part {
            orders.rows[2].state = OrderState::Held;
        }
    }),
    ("ended order", Rule::SnapshotDisagrees, |part| {
        if let Part::Orders(orders) = part {
            orders.rows[2].state = OrderState::Released;
        }
    }),
    ("line", Rule::SnapshotDisagrees, |part| {
        if let Part::Orders(orders) = part {
            orders.lines[2].quantity = Quantity(3);
        }
    }),
    ("deadline", Rule::SnapshotDiffers, |part| {
        if let Part::Orders(orders) = part {
            orders.deadlines[1] = TimeMs(7);
        }
    }),
    ("request", Rule::SnapshotDiffers, |part| {
        if let Part::Requests(requests) = part {
            requests.rows[1].request = RequestId(99);
        }
    }),
    ("effect", Rule::SnapshotDiffers, |part| {
        if let Part::Requests(requests) = part {
            requests.rows[1].effect = Effect::Released(OrderNumber(3));
        }
    }),
    ("request reused", Rule::RequestReused, |part| {
        if let Part::Requests(requests) = part {
            requests.rows[1].request = RequestId(1);
        }
    }),
];

#[test]
fn every_field_of_a_snapshot_is_compared() {
    for (field, rule, change) in CANARIES {
        let made = Made::new(1, 20);
        made.snapshot(0, 8, change);
        let report = judge(&made);
        let found: Vec<_> = report.violations.iter().map(|found| found.rule).collect();
        assert!(found.contains(&rule), "{field}: {found:?}\n{report}");
        assert!(report.violations.iter().all(|found| found.lsn == 24), "{field}: {report}");
    }
}

#[test]
fn a_damaged_snapshot_is_passed_over_and_said() {
    let made = with_snapshots();
    flip_at(&made.shard_dir(0).join(format!("{:020}.snap", 45)), 200);
    let facts = verify(&made).fails(ExitCode::DamagedLog, &[]).json();
    let shard = &facts["shards"][0];
    assert_eq!((shard["verdict"].as_str(), &shard["serves"]), (Some("damaged"), &true.into()));
    assert!(shard["next"][0].as_str().is_some_and(|next| next.contains("starts all the same")));
    assert!(shard["snapshots"][0]["fault"].is_string() && shard["snapshots"][1]["fault"].is_null());
    let report = judge(&made);
    assert!(!report.is_clean() && report.violation_count == 0, "{report}");
    let mut server = Server::start_on(&made.path(), Serve::on(&made.path()));
    assert!(server.terminate().success());
}

#[test]
fn damage_before_a_snapshot_stops_no_server_and_no_backup() {
    let made = with_snapshots();
    made.flip(0, 4);
    let facts = verify(&made).fails(ExitCode::DamagedLog, &[]).json();
    let shard: &Value = &facts["shards"][0];
    assert_eq!((&shard["serves"], &shard["next_lsn"]), (&true.into(), &61.into()), "{shard}");
    let mut truncate = command(&[&"wal", &"truncate", &made.path(), &"--shard", &"0", &"--yes"]);
    truncate.args(["--at", "13", "--backup"]).arg(made.beside("cut"));
    run(truncate).fails(ExitCode::Usage, &["nothing to give up"]);
    let (to, restored) = (made.beside("backup"), made.beside("restored"));
    boxoffice(&[&"backup", &made.path(), &"--to", &to]).succeeds();
    boxoffice(&[&"restore", &to, &"--to", &restored, &"--verify"]).succeeds();
    assert_serves_and_is_clean(&restored);
}

#[test]
fn damage_behind_a_snapshot_is_cut_off() {
    // In the log behind it.
    let made = with_snapshots();
    fs::remove_file(made.segment(0, 1)).expect("it is retired");
    assert_eq!(lsns(&made.path()), (22..=60).collect::<Vec<_>>());
    verify(&made).succeeds();
    made.flip(0, 17);
    let cut = |made: &Made, at: &str| {
        let mut cut = command(&[&"wal", &"truncate", &made.path(), &"--shard", &"0", &"--yes"]);
        cut.args(["--at", at, "--backup"]).arg(made.beside("cut"));
        run(cut)
    };
    cut(&made, "40").fails(ExitCode::Usage, &["the earliest cut is --at 46"]);
    cut(&made, "52").succeeds();
    assert_eq!(lsns(&made.path()), (22..=51).collect::<Vec<_>>());
    assert_serves_and_is_clean(&made.path());
    // Where the segment is gone in which the log goes on.
    let made = with_snapshots();
    fs::remove_file(made.segment(0, 3)).expect("it is lost");
    let facts = verify(&made).fails(ExitCode::DamagedLog, &[]).json();
    let next = facts["shards"][0]["next"].as_array().expect("advice").clone();
    let leads = |next: &Value| next.as_str().is_some_and(|next| next.contains("--at 46"));
    assert!(next.iter().any(leads), "{next:?}");
    cut(&made, "46").succeeds();
    assert_serves_and_is_clean(&made.path());
}

#[test]
fn a_backup_keeps_what_the_server_retires() {
    let made = with_snapshots();
    let (to, restored) = (made.beside("backup"), made.beside("restored"));
    let backup = |flags: &[&str]| {
        let mut backup = command(&[&"backup", &made.path(), &"--json", &"--to", &to]);
        backup.args(flags);
        run(backup).succeeds().json()["shards"][0].clone()
    };
    let restore = |point: &str| {
        let _ = fs::remove_dir_all(&restored);
        boxoffice(&[&"restore", &to, &"--to", &restored, &"--verify", &"--to-lsn", &point])
    };
    assert_eq!(backup(&[])["copied_files"], 5);
    fs::remove_file(made.segment(0, 1)).expect("it is retired");
    let facts = backup(&[]);
    assert_eq!((&facts["copied_files"], &facts["dropped_files"]), (&0.into(), &0.into()));
    for last in [5_u64, 24, 30, 44, 45, 46, 60] {
        restore(&format!("0:{last}")).succeeds();
        assert_eq!(lsns(&restored), (1..=last).collect::<Vec<_>>());
        let kept = [24, 45].into_iter().filter(|lsn| *lsn <= last);
        let is_there = |lsn: u64| restored.join(format!("shard-000/{lsn:020}.snap")).exists();
        assert!([24, 45].into_iter().filter(|lsn| is_there(*lsn)).eq(kept), "{last}");
        assert_serves_and_is_clean(&restored);
    }
    assert_eq!(backup(&["--prune"])["dropped_files"], 1);
    restore("0:5").fails(ExitCode::Usage, &["from 24 to 60"]);
    restore("0:30").succeeds();
    assert_eq!(lsns(&restored), (22..=30).collect::<Vec<_>>());
    assert_serves_and_is_clean(&restored);
    boxoffice(&[&"audit", &to]).succeeds();
}

#[test]
fn a_backup_drops_what_it_has_before_a_gap() {
    let made = with_snapshots();
    let to = made.beside("backup");
    // What an early run copied: a part of the first segment.
    let early = Made::new(1, 5);
    boxoffice(&[&"backup", &early.path(), &"--to", &to]).succeeds();
    // The rest of it came, and was retired, before the next run.
    fs::remove_file(made.segment(0, 1)).expect("it is retired");
    let facts = boxoffice(&[&"backup", &made.path(), &"--to", &to, &"--json"]).succeeds().json();
    assert_eq!(facts["shards"][0]["dropped_files"], 1);
    boxoffice(&[&"restore", &to, &"--verify"]).succeeds();
    assert_eq!(lsns(&to), (22..=60).collect::<Vec<_>>());
}

#[test]
fn a_restore_that_the_audit_finds_fault_with_is_none() {
    let made = Made::new(1, 20);
    // Sound byte by byte, and not what the log says.
    made.snapshot(0, 8, |part| {
        if let Part::Sale(sale) = part {
            sale.terms.hold_ttl.0 += 1000;
        }
    });
    let (to, restored) = (made.beside("backup"), made.beside("restored"));
    boxoffice(&[&"backup", &made.path(), &"--to", &to]).succeeds();
    let differs = ["audit", "snapshot_differs"];
    boxoffice(&[&"restore", &to, &"--verify"]).fails(ExitCode::Violation, &differs);
    boxoffice(&[&"restore", &to, &"--to", &restored, &"--verify"])
        .fails(ExitCode::Violation, &differs);
    assert!(!restored.exists(), "nothing is half restored");
    boxoffice(&[&"restore", &to, &"--to", &restored]).succeeds();
}

#[test]
fn a_tally_must_have_something_behind_it() {
    let made = Made::new(1, 20);
    // The rows are counted in the sale's part, and lie between the accounts and the orders.
    let row = TallyRow { account: 0, of: TallyOf::Fences, count: 2 };
    made.snapshot_with(0, 8, |parts| {
        if let Part::Sale(sale) = &mut parts[0] {
            sale.tallies = 1;
        }
        let sale = parts[0].sale();
        let tallies = TalliesPart { sale, rows: vec![row] };
        parts.insert(2, Part::Tallies(tallies));
    });
    let report = judge(&made);
    let found: Vec<_> = report.violations.iter().map(|found| found.rule).collect();
    assert!(found.contains(&Rule::SnapshotDisagrees), "{report}");
}
