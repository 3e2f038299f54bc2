//! Power cuts under load: what was acknowledged is there, once, and nothing else is.
//!
//! Buyers hold, buy, confirm, release and cancel through two shards, and snapshots are made and old
//! segments deleted as soon as there is a sealed one, until the server is cut off in one of these
//! ways:
//!
//! - `kill`: SIGKILL. The page cache survives.
//! - `ext4`, `xfs`: the file system under the data directory is shut down (`xfs_io -x -c
//!   shutdown`), which fails everything from that moment on and forgets what was not synced, the
//!   journal included. It is then unmounted and mounted anew, which replays the journal, as behind
//!   a power cut. Sometimes the server is killed first.
//! - `device`: the disk itself loses its power, and with it the cache in which it keeps what it
//!   was not told to flush (`nbdkit` with its filter `cache`, under ext4).
//! - `failing`: from one write to the next the disk fails them all (the device mapper's `flakey`
//!   with `error_writes`, under ext4). The server has to end by itself, and its file system cannot
//!   so much as close its journal.
//! - `lying`: from one write to the next the disk forgets them all, and says that it has them
//!   (`drop_writes`). What is answered from that moment on counts as never answered.
//!
//! Then it starts again, every answer that a buyer ever got is held against it, every request is
//! sent again, and now and then the log is audited. The seed is printed and can be set; the
//! moments are the machine's own.
//!
//! ```sh
//! cargo test --test cuts                                            # 20 cuts
//! BOXOFFICE_CUTS=500 cargo test --test cuts -- --nocapture          # the long form
//! BOXOFFICE_CUTS_OF=kill,ext4 cargo test --test cuts                # of these kinds alone
//! tests/power-cut-uml.sh 60                                         # with a device mapper
//! BOXOFFICE_CANARY=skip-sync cargo test --features canaries --test cuts    # must find losses
//! ```
//!
//! The last one is the negative control: the very same campaign on a server that does not sync.
//! It passes where the campaign reports a loss.
//!
//! The shutdown of a file system leaves what it has handed to its disk; what the disk itself may
//! lose is for the others to take. A kind that cannot be done here is skipped, and that is said.
//! The last two need a kernel with a device mapper, which the script starts in user mode.

#[path = "support/buyers.rs"]
mod buyers;
#[path = "support/disk.rs"]
mod disk;
#[path = "support/ledger.rs"]
mod ledger;
#[path = "support/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use boxoffice::audit::audit;
use boxoffice::canary::{Canary, planted};
use boxoffice::cli::exit::ExitCode;
use boxoffice::model::SaleTerms;
use buyers::{Random, Round, SALES, STOCK, await_moment, seed, segments, setting};
use disk::{Disk, Fault};
use ledger::Ledger;
use peer::Peer;
use server::{Serve, Server, temporary_dir};

/// The smallest segment: a few hundred frames, so that many cuts meet the step to the next.
const SEGMENT_BYTES: &str = "1052672";

/// A snapshot with each sealed segment, so that many cuts meet one in the making.
const SNAPSHOT_EVERY: &str = "1";

/// How the names of snapshots end, when they are made and in the making.
const FINISHED: &str = ".snap";
const UNFINISHED: &str = ".snap.tmp";

/// Of so many cuts one waits first until a snapshot begins or, in turn, until one is made.
const AWAITS_SNAPSHOT: u64 = 3;

/// How long it waits, where none is due.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(3);

/// Cuts on one data directory, of which some must have met snapshots.
const CUTS_WITH_SNAPSHOTS: u64 = 15;

const _: () = assert!(CUTS_WITH_SNAPSHOTS <= CUTS_OF_A_CHAPTER_MAX);

/// Cuts on one data directory, at most; behind them everything is checked once more, and audited.
const CUTS_OF_A_CHAPTER_MAX: u64 = 20;

/// Cuts within which a server that does not sync must have been found out.
const CUTS_OF_A_CANARY: u64 = 10;

/// The size of a file system: xfs makes none that is smaller.
const DISK_MIB: u64 = 320;

/// How a server is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kill,
    Ext4,
    Xfs,
    Device,
    Failing,
    Lying,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Kill, Self::Ext4, Self::Xfs, Self::Device, Self::Failing, Self::Lying];

    /// The file system that is shut down; `Err` where none can be.
    fn disk(self) -> Result<Option<Disk>, String> {
        match self {
            Self::Kill => Ok(None),
            Self::Ext4 => Disk::new(DISK_MIB).map(Some),
            Self::Xfs => Disk::with("mkfs.xfs", &["-q", "-f"], DISK_MIB).map(Some),
            Self::Device => Disk::on_caching_device(DISK_MIB).map(Some),
            Self::Failing => Disk::on_flaky_device(Fault::Error, DISK_MIB).map(Some),
            Self::Lying => Disk::on_flaky_device(Fault::Lie, DISK_MIB).map(Some),
        }
    }

    /// Those that are asked for by name, which then have to be possible; or all that are.
    fn asked_for() -> Vec<Self> {
        let Ok(names) = std::env::var("BOXOFFICE_CUTS_OF") else {
            return Self::ALL.into_iter().filter(|kind| kind.is_possible()).collect();
        };
        let possible = |name: &str| {
            let kind =
                Self::ALL.into_iter().find(|kind| format!("{kind:?}").to_lowercase() == name);
            let kind = kind.unwrap_or_else(|| panic!("{name} is no kind of cut"));
            assert!(kind.is_possible(), "{name} cannot be done here");
            kind
        };
        names.split(',').map(possible).collect()
    }

    /// Whether it can be done here.
    fn is_possible(self) -> bool {
        let tried = self.disk().and_then(|disk| disk.map_or(Ok(()), |mut disk| disk.cut()));
        if let Err(why) = &tried {
            println!("{self:?} is skipped: {why}");
        }
        tried.is_ok()
    }
}

/// What a campaign has done.
#[derive(Debug, Default)]
struct Tally {
    cuts: [u64; Kind::ALL.len()],
    /// Requests that were answered before the cut.
    answered: u64,
    /// Those of them that had an effect, which is then acknowledged for ever.
    acknowledged: u64,
    /// Requests that a cut left without an answer.
    unanswered: u64,
    /// Servers that ended by themselves, since their disk failed.
    ended: u64,
    audits: u64,
    /// Those of data directories that had snapshots.
    with_snapshots: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [kill, ext4, xfs, device, failing, lying] = self.cuts;
        write!(
            f,
            "{} cuts ({kill} SIGKILL, {ext4} ext4, {xfs} xfs, {device} device, {failing} failing, \
             {lying} lying), {} answers, {} acknowledged effects, {} requests without an answer, \
             {} servers ended by themselves, {} audits ({} with snapshots)",
            self.cuts.iter().sum::<u64>(),
            self.answered,
            self.acknowledged,
            self.unanswered,
            self.ended,
            self.audits,
            self.with_snapshots
        )
    }
}

/// One data directory and its cuts.
struct Chapter {
    kind: Kind,
    ledger: Ledger,
    server: Server,
    // Behind the server, which has files open there.
    disk: Option<Disk>,
    _home: tempfile::TempDir,
}

impl Chapter {
    fn begin(kind: Kind) -> Self {
        let home = temporary_dir();
        let disk = kind.disk().expect("it was possible before");
        let at: PathBuf =
            disk.as_ref().map_or_else(|| home.path().to_owned(), |disk| disk.mount.clone());
        let data_dir = at.join("data");
        let serve = Serve::on(&data_dir)
            .with_shards(2)
            .with("--segment-bytes", SEGMENT_BYTES)
            .with("--snapshot-every", SNAPSHOT_EVERY)
            .with("--retention", "delete");
        let server = Server::start_on(&data_dir, serve);
        let mut peer = Peer::connect(server.address());
        for sale in SALES {
            peer.open_sale(sale, SaleTerms::default(), &STOCK);
        }
        Self { kind, ledger: Ledger::default(), server, disk, _home: home }
    }

    /// Buyers at work, the cut, the start behind it, and every answer held against it.
    fn cut(&mut self, random: &mut Random, round: u64, tally: &mut Tally) -> Result<(), String> {
        let start = self.ledger.entries.len();
        if round.is_multiple_of(AWAITS_SNAPSHOT) {
            let is_end = round.is_multiple_of(2 * AWAITS_SNAPSHOT);
            self.await_snapshot(if is_end { FINISHED } else { UNFINISHED });
        }
        let buyers = Round::start(&self.server, random, round);
        await_moment(&self.server, random, round % 2 == 1);
        if self.kind == Kind::Lying {
            buyers.stop_believing();
        }
        let is_killed_first = random.below(4) == 0;
        self.cut_off(is_killed_first);
        self.ledger.entries.extend(buyers.end());
        let is_cut_short = self.ledger.entries[start..].iter().any(|entry| entry.got.is_none());
        let status = if self.kind == Kind::Failing && !is_killed_first && is_cut_short {
            self.server.wait()
        } else {
            // It is over already, but where the buyers had enough before the cut.
            self.server.kill()
        };
        let failed = i32::from(ExitCode::DiskFailed.number());
        assert!([None, Some(failed)].contains(&status.code()), "{status}: {}", self.server.log());
        tally.ended += u64::from(status.code() == Some(failed));
        if let Some(disk) = &mut self.disk {
            disk.mount_again()?;
        }
        tally.cuts[self.kind as usize] += 1;
        for entry in &self.ledger.entries[start..] {
            match &entry.got {
                Some(got) => {
                    tally.answered += 1;
                    tally.acknowledged += u64::from(got.is_ok());
                }
                None => tally.unanswered += 1,
            }
        }
        self.check(start)
    }

    /// Waits for another snapshot of this kind, which there will be where one is due. They are made
    /// at leisure, in longer than most servers live here.
    fn await_snapshot(&self, kind: &str) {
        let before = snapshots(self.server.data_dir(), kind);
        let deadline = Instant::now() + SNAPSHOT_PATIENCE;
        while snapshots(self.server.data_dir(), kind) == before && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn cut_off(&mut self, is_killed_first: bool) {
        if self.disk.is_none() || is_killed_first {
            self.server.kill();
        }
        if let Some(disk) = &mut self.disk {
            disk.cut().expect("it was possible before");
        }
    }

    /// Starts the server again and holds it to the books from `start` on.
    fn check(&mut self, start: usize) -> Result<(), String> {
        let server = &mut self.server;
        // What it says is in its log, which a failed start shows.
        catch_unwind(AssertUnwindSafe(|| server.restart()))
            .map_err(|_| "it does not start again".to_owned())?;
        let mut peer = Peer::connect(self.server.address());
        let ledger = &mut self.ledger;
        ledger
            .check(&mut peer, start, &SALES)
            .and_then(|()| ledger.resend(&mut peer, start))
            .and_then(|()| ledger.check(&mut peer, start, &SALES))
    }

    /// All rounds together, once more, and the log by itself.
    fn end(mut self, tally: &mut Tally) -> Result<(), String> {
        self.server.kill();
        self.check(0)?;
        self.server.kill();
        let report = audit(self.server.data_dir()).map_err(|error| error.to_string())?;
        tally.audits += 1;
        let is_without = snapshots(self.server.data_dir(), FINISHED).is_empty();
        tally.with_snapshots += u64::from(!is_without);
        if report.is_clean() { Ok(()) } else { Err(format!("the audit found {report:?}")) }
    }
}

/// The names of the snapshots of this kind, of all shards.
fn snapshots(data_dir: &Path, kind: &str) -> Vec<PathBuf> {
    let mut files = segments(data_dir);
    files.retain(|path| path.to_string_lossy().ends_with(kind));
    files
}

fn campaign(cuts: u64, kinds: &[Kind], tally: &mut Tally) -> Result<(), String> {
    let mut random = Random(seed("cuts"));
    // Every kind has its turn in a short campaign, too.
    let most = (cuts / kinds.len() as u64).clamp(1, CUTS_OF_A_CHAPTER_MAX);
    let chapters = (0..cuts).step_by(most as usize).zip(kinds.iter().cycle());
    for (first, kind) in chapters {
        let mut chapter = Chapter::begin(*kind);
        for round in 1..=most.min(cuts - first) {
            chapter
                .cut(&mut random, round, tally)
                .map_err(|why| format!("{kind:?}, cut {round} of its chapter: {why}"))?;
        }
        chapter.end(tally)?;
        println!("{tally}");
        if most >= CUTS_WITH_SNAPSHOTS && tally.with_snapshots == 0 {
            return Err("no snapshot was met".to_owned());
        }
    }
    Ok(())
}

/// The negative control.
fn assert_loss_is_reported(kind: Kind) {
    let mut tally = Tally::default();
    let complaint = campaign(CUTS_OF_A_CANARY, &[kind], &mut tally)
        .expect_err("a server that does not sync loses what it has acknowledged");
    println!("{tally}\nreported: {complaint}");
    let is_loss = complaint.contains("is looked up as Err(NotFound)")
        || complaint.contains("it does not start again");
    assert!(is_loss, "{complaint}");
}

#[test]
fn what_was_acknowledged_survives_cuts() {
    let mut kinds = Kind::asked_for();
    let mut tally = Tally::default();
    if planted(Canary::SkipSync) {
        // The page cache survives a kill, synced or not.
        kinds.retain(|kind| *kind != Kind::Kill);
        let is_asked = std::env::var_os("BOXOFFICE_CUTS_OF").is_some();
        assert!(!(is_asked && kinds.is_empty()), "a kill alone loses nothing, synced or not");
        if kinds.is_empty() {
            println!("NOT RUN: no file system can be mounted here, and kills lose nothing");
        }
        for kind in kinds {
            assert_loss_is_reported(kind);
        }
        return;
    }
    let cuts = setting("BOXOFFICE_CUTS").unwrap_or(20);
    let outcome = campaign(cuts, &kinds, &mut tally);
    assert_eq!(outcome, Ok(()), "{tally}");
    println!("{tally}, lost 0");
}
