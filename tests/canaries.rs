//! Planted bugs: each must be caught by the check that is there for it.
//!
//! Every test starts this program again with one bug planted (see `boxoffice::canary`) and
//! expects that run to fail as it should; the same run without a bug must pass. It needs the
//! feature: `cargo test --features canaries --test canaries`.

#[path = "simulator/books.rs"]
mod books;
#[path = "simulator/buyers.rs"]
mod buyers;
#[path = "simulator/campaign.rs"]
mod campaign;
#[path = "simulator/disk.rs"]
mod disk;
#[path = "simulator/faults.rs"]
mod faults;
#[path = "simulator/front.rs"]
mod front;
#[path = "simulator/judge.rs"]
mod judge;
#[path = "simulator/model.rs"]
mod model;
#[path = "simulator/network.rs"]
mod network;
#[path = "simulator/node.rs"]
mod node;
#[path = "simulator/plan.rs"]
mod plan;
#[path = "simulator/random.rs"]
mod random;
#[path = "simulator/repartition.rs"]
mod repartition;
#[path = "simulator/restart.rs"]
mod restart;
#[path = "simulator/snapshots.rs"]
mod snapshots;
#[path = "simulator/tear.rs"]
mod tear;
#[path = "simulator/world.rs"]
mod world;

use std::process::Command;

use boxoffice::canary::{Canary, VARIABLE, planted};
use campaign::Campaign;

/// Seeds in which each planted bug must be caught.
const SEEDS: u64 = 60;

/// What the child runs; says nothing of its own.
#[test]
fn the_seeds() {
    match Campaign::from_environment(SEEDS).run() {
        Ok(tally) => println!("{SEEDS} seeds passed: {tally:?}"),
        Err(failure) => panic!("{failure}"),
    }
}

/// Runs the seeds in a child, with this bug planted; what it said, and whether it passed.
fn seeds_with(canary: Option<Canary>) -> (bool, String) {
    let program = std::env::current_exe().expect("the path of this program");
    let output = Command::new(program)
        .args(["--exact", "the_seeds", "--nocapture"])
        .env(VARIABLE, canary.map_or("", Canary::name))
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("this program starts");
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    (output.status.success(), said.concat())
}

/// Plants a bug and expects one of these to be said.
fn is_caught(canary: Canary, by: &[&str]) {
    let (passed, said) = seeds_with(Some(canary));
    assert!(!passed, "{} was not caught in {SEEDS} seeds:\n{said}", canary.name());
    let is_named = by.iter().any(|words| said.contains(words));
    assert!(is_named, "{} was caught, but not by {by:?}:\n{said}", canary.name());
    assert!(said.contains("replay: BOXOFFICE_SEED="), "nobody can replay it:\n{said}");
}

#[test]
fn without_a_bug_the_seeds_pass() {
    assert!(Canary::ALL.into_iter().all(|canary| !planted(canary)), "{VARIABLE} is set");
    let (passed, said) = seeds_with(None);
    assert!(passed && said.contains("seeds passed"), "{said}");
}

#[test]
fn a_log_that_is_not_synced_is_caught() {
    is_caught(Canary::SkipSync, &["LOST: ", "REFUSED shard"]);
}

#[test]
fn a_checksum_that_is_not_checked_is_caught() {
    is_caught(Canary::SkipCrc, &["CHANGED: ", "REFUSED shard", "a logged sale is defined"]);
}

#[test]
fn an_answer_ahead_of_the_disk_is_caught() {
    is_caught(Canary::AckBeforeDurable, &["ANSWERED AHEAD of the ", "though it is not so"]);
}

#[test]
fn a_limit_that_replay_forgets_is_caught() {
    is_caught(
        Canary::ForgetLimitOnReplay,
        &["READ Ok(Answer { outcome: Stats", "should be No(AccountLimit)"],
    );
}

#[test]
fn a_confirmed_order_that_expires_is_caught() {
    is_caught(
        Canary::ExpireConfirmed,
        &["A HOLD ENDS TWICE", "WRONG: Confirmed", "REFUSED WrongState { state: Held }"],
    );
}

#[test]
fn a_stale_segment_is_caught() {
    is_caught(Canary::AcceptStaleSegment, &["ACCEPTED another segment's content"]);
}

#[test]
fn stock_that_is_not_checked_is_caught() {
    is_caught(Canary::SkipStockCheck, &["no unit is taken twice", "OVERSOLD", "should be No("]);
}

#[test]
fn a_cancellation_that_does_nothing_is_caught() {
    is_caught(Canary::DropCancelled, &["READ ", "REFUSED ", "WRONG: "]);
}

#[test]
fn a_record_that_recovery_skips_is_caught() {
    is_caught(Canary::SkipRecord, &["CHANGED: ", "LOST: ", "REFUSED NotFound: Query"]);
}

#[test]
fn a_request_that_is_forgotten_is_caught() {
    is_caught(Canary::ForgetRequest, &["REFUSED WrongState"]);
}

#[test]
fn http_answers_out_of_turn_are_caught() {
    is_caught(
        Canary::AnswerOutOfTurn,
        &["ANSWERED", "CHANGED ANSWER", "READ ", "REFUSED ", "no number", "no text", "of items"],
    );
}

#[test]
fn a_mailbox_that_is_overfilled_is_caught() {
    is_caught(Canary::OverfillMailbox, &["TAKEN though the mailbox is full"]);
}

#[test]
fn a_division_that_forgets_the_time_is_caught() {
    is_caught(Canary::ForgetTimeOnDivision, &["TIME RAN BACK", "EXPIRED EARLY", "WRONG: "]);
}
