//! Running seeds: one, or many, and what is said of one that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::judge::Tally;
use crate::world::World;

/// In so many seeds every kind of fault must strike.
const SEEDS_FOR_ALL_FAULTS: u64 = 200;

/// Which seeds are run.
pub struct Campaign {
    pub first: u64,
    pub count: u64,
    pub time: Option<Duration>,
}

impl Campaign {
    /// What the environment asks for.
    pub fn from_environment(count: u64) -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text} is no number")))
        };
        let first = number("BOXOFFICE_SEED");
        let count = number("BOXOFFICE_SEEDS").unwrap_or(if first.is_some() { 1 } else { count });
        let time = number("BOXOFFICE_MINUTES").map(|minutes| Duration::from_secs(60 * minutes));
        Self { first: first.unwrap_or(1), count, time }
    }

    /// Runs the seeds up to the first that fails; what they amount to. Many in which a kind of
    /// fault never struck are a failure, too.
    pub fn run(&self) -> Result<Tally, String> {
        let (start, mut total) = (Instant::now(), Tally::default());
        for seed in self.first..self.first + self.count {
            if self.time.is_some_and(|time| start.elapsed() > time) {
                break;
            }
            let (tally, _) = run(seed)?;
            total.add(&tally);
        }
        let missing = total.faults.missing();
        if missing.is_empty() || total.seeds < SEEDS_FOR_ALL_FAULTS {
            Ok(total)
        } else {
            Err(format!("no seed met these faults, so nothing is known of them: {missing:?}"))
        }
    }
}

/// Runs a seed; what it amounts to, and its trace.
pub fn run(seed: u64) -> Result<(Tally, u64), String> {
    let mut world = World::new(seed);
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    ended.map(|()| (world.judge.tally, world.trace)).map_err(|panic| {
        let why = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).to_owned()))
            .unwrap_or_default();
        format!(
            "seed {seed} failed after {:?} of its time, at {}: {why}\n  {:?}\n  replay: \
             BOXOFFICE_SEED={seed} cargo test --test simulator -- --nocapture",
            world.now,
            revision(),
            world.plan,
        )
    })
}

/// What was tested: the commit, or the version where there is no repository.
fn revision() -> String {
    let asked = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"])
        .output();
    match asked {
        Ok(output) if output.status.success() => {
            format!("commit {}", String::from_utf8_lossy(&output.stdout).trim())
        }
        _ => format!("version {}", env!("CARGO_PKG_VERSION")),
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.seeds += 1;
        self.steps += other.steps;
        self.restarts += other.restarts;
        self.answers += other.answers;
        self.acknowledged += other.acknowledged;
        self.acknowledged_orders += other.acknowledged_orders;
        self.records += other.records;
        self.damaged += other.damaged;
        self.refused_damage += other.refused_damage;
        self.snapshots += other.snapshots;
        self.snapshot_starts += other.snapshot_starts;
        self.faults.add(&other.faults);
    }
}
