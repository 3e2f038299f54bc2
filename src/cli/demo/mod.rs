//! `boxoffice demo`: sells out a sale with a real server, kills it again and again, and proves
//! the rest.
//!
//! ```text
//! serve ─▶ define, open ─▶ ┌ rush ─▶ SIGKILL ─▶ serve again ─▶ check ┐ ─▶ rush ─▶ sold out
//!                          └◀────────────── five times ─────────────┘
//!       ─▶ check every acknowledged answer ─▶ SIGTERM ─▶ audit of the log ─▶ report
//! ```
//!
//! The rush is a customer like any other: it knows what it asked and what it was answered, and
//! its [`ledger`] is held against the server after each kill and at the end. Beside it some
//! buyers come over HTTP ([`web`]). The audit judges the log by itself.

mod check;
mod ledger;
mod report;
mod rush;
mod server;
mod stop;
mod web;

use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Access, access};

use self::check::{Check, Findings};
use self::ledger::Ledger;
use self::report::Report;
use self::rush::{Counts, Rush};
use self::server::ServerProcess;
use self::stop::Stop;
use self::web::WebBuyers;
use super::exit::ExitCode;
use super::{Failed, print};
use crate::audit::audit;
use crate::client::{Client, Options};
use crate::load::{Driver, DriverConfig, DriverError, Lane, Load, Pace};
use crate::model::{ItemId, ItemTerms, Price, Quantity, SaleId, SaleTerms};
use crate::runtime::{SystemClock, cpu, interrupt};

/// The sale of the demo.
const SALE: SaleId = SaleId(2026);

/// The least units that all parts of the rush find something of.
const STOCK_MIN: u32 = 1_000;

/// Connections of the rush, and requests in flight on each.
const CONNECTIONS: usize = 64;
const PIPELINE: usize = 64;

/// How often the server is killed. One kill often falls into a moment at which no answer waits
/// for the disk, and then finds nothing even where answers run ahead of it.
const KILLS: u32 = 5;

/// One unit in so many is for those who come over HTTP.
const WEB_PART: u32 = 50;

/// How long each part of the rush may take before the demo gives up, and each check behind it.
const RUSH_TIME_MAX: Duration = Duration::from_secs(30);

/// Parts of the rush: one before each kill, and the one that sells out.
const PARTS: u32 = KILLS + 1;

/// Requests that one part takes for each unit of the stock, with some to spare: in the last part
/// four of five buyers want what is gone.
const PART_REQUESTS: u64 = 2;

/// A part in which nothing was sold for so long does not lack time: what is wrong then is for the
/// report to judge. Holds that keep units from others live shorter.
const STALL: Duration = Duration::from_secs(10);

const _: () = assert!(STALL.as_millis() > 2 * ledger::HOLD_TTL.0 as u128);

/// How long the last answers may take.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(10);

/// How long the rush goes on behind the moment at which the server is to be killed, times the
/// number of the kill: each falls elsewhere between two writes.
const KILL_DELAY: Duration = Duration::from_micros(5_300);

/// How often the rush is looked at.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Requests a second.
    #[arg(long, value_name = "R", default_value = "100000")]
    rate: NonZeroU32,
    /// Units for sale, over all items.
    #[arg(
        long,
        value_name = "N",
        default_value = "240000",
        value_parser = clap::value_parser!(u32).range(i64::from(STOCK_MIN)..=10_000_000)
    )]
    stock: u32,
    /// How many shards the server has; the sale lives on one of them.
    #[arg(long, value_name = "N", default_value = "1")]
    shards: NonZeroU16,
    /// Where the temporary data directory is made, on the disk to be tried.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The seed of buyers and baskets [default: drawn, and printed].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What every part of the demo needs.
struct Stage<'a> {
    args: &'a Args,
    placement: Placement,
    clock: SystemClock,
    stop: Stop,
}

/// A directory that is removed at the end, whatever the end is.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: what stays behind is named and harmless.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    if !args.dir.is_dir() {
        let dir = args.dir.display();
        let problem =
            format_args!("--dir {dir}: no such directory; name one on the disk to be tried");
        return Err(Failed::new(ExitCode::Configuration, problem));
    }
    access(&args.dir, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        let dir = args.dir.display();
        let problem = format_args!(
            "--dir {dir}: nothing can be written there: {}; name one on the disk to be tried that \
             this user may write to",
            std::io::Error::from(error)
        );
        Failed::new(ExitCode::Configuration, problem)
    })?;
    refuse_endless(args.rate.get(), args.stock)?;
    let stop = Stop::listen()?;
    let scratch = Scratch(args.dir.join(format!("boxoffice-demo-{}", std::process::id())));
    let placement = Placement::choose(&args.dir)?;
    let stage = Stage { args, placement, clock: SystemClock::new(), stop };
    let mut report = Report::new(args.rate, args.seed.unwrap_or_else(rush::draw_seed));
    let mut server = ServerProcess::start(&scratch.0, args.shards, &stage.placement.server)?;
    keep_to(&stage.placement.rush)?;
    let capacities = define(&server, args.stock)?;
    tell(format_args!(
        "selling {} units of {} items at {} requests/s, seed {}",
        args.stock,
        capacities.len(),
        args.rate,
        report.seed
    ));
    let web = WebBuyers::start(server.http_address(), SALE, report.seed, args.stock / WEB_PART)?;
    let mut ledger = Ledger::new(report.seed, &capacities);
    let mut counts = Counts::new(report.seed);
    for kill in 1..=KILLS {
        let rush = Rush::new(&mut ledger, SALE, counts);
        counts = part(&stage, &mut server, rush, kill, &mut report)?;
        web.follow(server.http_address());
        let findings = verify(&stage, &server, &ledger, &report)?;
        tell(format_args!("kill {kill} in the midst of the rush: {findings}"));
        report.after_kills.add(findings);
    }
    let rush = Rush::new(&mut ledger, SALE, counts);
    sell_out(&stage, &server, rush, &mut report)?;
    report.web = web.finish()?;
    let counts = client(&server)?.availability(SALE).map_err(failure)?;
    report.at_the_end = verify(&stage, &server, &ledger, &report)?;
    report.judge_stock(&capacities, &counts, &ledger);
    server.terminate()?;
    report.judge_audit(&audit(&scratch.0).map_err(failure)?, SALE);
    print(&report, args.json)?;
    if report.is_proof() {
        Ok(())
    } else {
        Err(Failed::new(ExitCode::Violation, "the demo found a broken rule; the report says which"))
    }
}

/// Refuses a rate that cannot sell the stock in the time that each part has.
fn refuse_endless(rate: u32, stock: u32) -> Result<(), Failed> {
    let seconds = RUSH_TIME_MAX.as_secs();
    let rate_min = (u64::from(stock) * PART_REQUESTS).div_ceil(seconds);
    if u64::from(rate) >= rate_min {
        return Ok(());
    }
    let stock_max = u64::from(rate) * seconds / PART_REQUESTS;
    let smaller = if stock_max < u64::from(STOCK_MIN) {
        String::new()
    } else {
        format!(", or at most --stock {stock_max}")
    };
    let problem = format_args!(
        "--rate {rate} is too low to sell --stock {stock} in the demo's time, {seconds} s for each \
         of {PARTS} parts; give it at least --rate {rate_min}{smaller}"
    );
    Err(Failed::new(ExitCode::Usage, problem))
}

/// Sells the part of the stock that ends with this kill, kills the server, starts it again.
fn part(
    stage: &Stage<'_>,
    server: &mut ServerProcess,
    mut rush: Rush<'_>,
    kill: u32,
    report: &mut Report,
) -> Result<Counts, Failed> {
    let Stage { args, placement, clock, .. } = stage;
    let goal = u64::from(args.stock) * u64::from(kill) / u64::from(PARTS);
    let mut driver = connect(server, *clock, &mut rush)?;
    let load = send(stage, &mut driver, &mut rush, report, |rush| rush.units_sold() >= goal)?;
    kill_under_load(server, &mut driver, &mut rush, (load, KILL_DELAY * kill))?;
    report.asked_before_kills = rush.asked();
    let killed = Instant::now();
    // A process starts on the CPUs of the one that starts it.
    keep_to(&placement.all)?;
    server.restart()?;
    keep_to(&placement.rush)?;
    connect(server, *clock, &mut rush)?;
    report.kills = kill;
    report.recovery_ms = killed.elapsed().as_millis().max(report.recovery_ms);
    Ok(rush.pause())
}

/// Goes on until sold out, and finishes what was begun.
fn sell_out(
    stage: &Stage<'_>,
    server: &ServerProcess,
    mut rush: Rush<'_>,
    report: &mut Report,
) -> Result<(), Failed> {
    let mut driver = connect(server, stage.clock, &mut rush)?;
    send(stage, &mut driver, &mut rush, report, |rush: &Rush<'_>| Rush::is_sold_out(rush))?;
    rush.stop_asking();
    let until = driver.now().after(SETTLE_TIME_MAX);
    while !rush.is_settled() && driver.now() < until {
        stage.stop.check()?;
        let look = driver.now().after(LOOK);
        driver.run(&mut rush, Load::Closed, look).map_err(driven)?;
    }
    report.sold_out = rush.is_sold_out();
    report.unanswered = rush.unanswered();
    report.take_counts(&rush.pause());
    Ok(())
}

/// Which CPUs the server and the rush have.
struct Placement {
    all: Vec<usize>,
    server: Vec<usize>,
    rush: Vec<usize>,
}

impl Placement {
    /// The server where the disk's interrupts go, the rush elsewhere; both everywhere where
    /// there is one CPU.
    fn choose(dir: &Path) -> Result<Self, Failed> {
        let allowed = cpu::allowed()
            .map_err(|error| failure(format_args!("cannot ask for the CPUs: {error}")))?;
        let disk = interrupt::disk_cpus(dir);
        let rush = allowed.iter().rev().find(|cpu| !disk.contains(cpu)).or(allowed.last());
        let rush: Vec<usize> = rush.copied().into_iter().collect();
        let server: Vec<usize> = allowed
            .iter()
            .copied()
            .filter(|cpu| allowed.len() == 1 || !rush.contains(cpu))
            .collect();
        Ok(Self { all: allowed, server, rush })
    }
}

fn keep_to(cpus: &[usize]) -> Result<(), Failed> {
    cpu::restrict_current_thread(cpus)
        .map_err(|error| failure(format_args!("cannot set the CPU affinity: {error}")))
}

/// Defines the sale: two hot items that hold half of the stock, and six others.
fn define(server: &ServerProcess, stock: u32) -> Result<Vec<(ItemId, Quantity)>, Failed> {
    let mut client = client(server)?;
    let terms = SaleTerms {
        hold_ttl: ledger::HOLD_TTL,
        account_limit: Some(ledger::ACCOUNT_LIMIT),
        ..SaleTerms::default()
    };
    client.define_sale(SALE, terms).map_err(failure)?;
    let mut capacities = Vec::new();
    let mut left = stock;
    for number in 1..=ledger::ITEMS {
        let share = if number <= ledger::HOT_ITEMS { stock / 4 } else { stock / 12 };
        let capacity = Quantity(if number == ledger::ITEMS { left } else { share });
        left -= capacity.0;
        let price = Price(u64::from(number) * 1_500);
        let terms = ItemTerms { capacity, price, account_limit: None };
        client.define_item(SALE, ItemId(number), terms).map_err(failure)?;
        capacities.push((ItemId(number), capacity));
    }
    client.open_sale(SALE).map_err(failure)?;
    Ok(capacities)
}

fn client(server: &ServerProcess) -> Result<Client, Failed> {
    Client::connect(server.address(), Options::default()).map_err(failure)
}

fn driver(server: &ServerProcess, clock: SystemClock) -> Result<Driver, Failed> {
    let config = DriverConfig {
        address: server.address(),
        connections: CONNECTIONS,
        pipeline: PIPELINE,
        key: Vec::new(),
        name: "demo",
    };
    Driver::new(config, clock).map_err(driven)
}

fn connect(
    server: &ServerProcess,
    clock: SystemClock,
    script: &mut impl crate::load::Script,
) -> Result<Driver, Failed> {
    let mut driver = driver(server, clock)?;
    driver.connect(script, Duration::from_secs(10)).map_err(driven)?;
    Ok(driver)
}

/// Sends the rush at its rate until it is enough. Gives the load back. Time that is up while
/// there was still something sold is a failure.
fn send(
    stage: &Stage<'_>,
    driver: &mut Driver,
    rush: &mut Rush<'_>,
    report: &Report,
    is_enough: impl Fn(&Rush<'_>) -> bool,
) -> Result<Load, Failed> {
    let lane = Lane { index: 0, count: NonZeroU32::MIN };
    let mut load = Load::Open(Pace::new(stage.args.rate, driver.now(), lane));
    let start = driver.now();
    let until = start.after(RUSH_TIME_MAX);
    let (mut sold, mut sold_at) = (rush.units_sold(), start);
    while !is_enough(rush) && driver.now() < until {
        stage.stop.check()?;
        let look = driver.now().after(LOOK);
        load = driver.run(rush, load, look).map_err(driven)?;
        if rush.units_sold() > sold {
            (sold, sold_at) = (rush.units_sold(), driver.now());
        }
    }
    if !is_enough(rush) && Duration::from_nanos(driver.now().since(sold_at)) < STALL {
        return Err(late(report, format_args!("{sold} of {} units are sold", stage.args.stock)));
    }
    rush.sent_for(Duration::from_nanos(driver.now().since(start)));
    Ok(load)
}

/// Kills the server in the midst of the rush, and hears of every request whose answer will never
/// come. What was acknowledged last is what a server would lose that answers too early, and with
/// a pause before the kill it would have caught up.
fn kill_under_load(
    server: &mut ServerProcess,
    driver: &mut Driver,
    rush: &mut Rush<'_>,
    (load, delay): (Load, Duration),
) -> Result<(), Failed> {
    driver.set_load(load);
    let until = driver.now().after(Duration::from_secs(10));
    thread::scope(|scope| {
        let killer = scope.spawn(|| {
            thread::sleep(delay);
            server.kill()
        });
        while driver.live() > 0 && driver.now() < until {
            let look = driver.now().after(Duration::from_millis(10));
            driver.turn(rush, look).map_err(driven)?;
        }
        killer.join().expect("a panic ends the process")
    })
}

/// Asks the server for every acknowledged answer again.
fn verify(
    stage: &Stage<'_>,
    server: &ServerProcess,
    ledger: &Ledger,
    report: &Report,
) -> Result<Findings, Failed> {
    let mut check = Check::new(ledger, SALE);
    let mut driver = connect(server, stage.clock, &mut check)?;
    let until = driver.now().after(RUSH_TIME_MAX);
    while !check.is_done() && driver.now() < until {
        stage.stop.check()?;
        let look = driver.now().after(LOOK);
        driver.run(&mut check, Load::Closed, look).map_err(driven)?;
    }
    let is_done = check.is_done();
    let findings = check.into_findings();
    if !is_done && findings.lost == 0 {
        let checked = findings.checked;
        return Err(late(report, format_args!("{checked} of its answers are checked")));
    }
    Ok(findings)
}

/// Time is up, and nothing is proven, unless something was found before.
fn late(report: &Report, done: std::fmt::Arguments<'_>) -> Failed {
    let lost = report.after_kills.lost;
    if lost > 0 {
        let message = format_args!("the demo ran out of time, and {lost} answers were lost before");
        return Failed::new(ExitCode::Violation, message);
    }
    failure(format_args!(
        "the demo ran out of time and proves nothing: {done} after {} s; this machine is too slow \
         for it, so give it less --stock",
        RUSH_TIME_MAX.as_secs()
    ))
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn driven(error: DriverError) -> Failed {
    failure(format_args!("the rush cannot go on: {error}"))
}

fn failure(error: impl std::fmt::Display) -> Failed {
    Failed::new(ExitCode::Failure, error)
}

fn tell(line: std::fmt::Arguments<'_>) {
    eprintln!("demo: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_that_cannot_end_is_refused_with_one_that_can() {
        assert!(refuse_endless(100_000, 240_000).is_ok(), "the defaults");
        let refused = refuse_endless(100, 100_000).expect_err("it takes half an hour");
        assert_eq!(refused.code, ExitCode::Usage);
        assert!(refused.message.contains("--rate 6667, or at most --stock 1500"), "{refused:?}");
        assert!(refuse_endless(6_667, 100_000).is_ok() && refuse_endless(100, 1_500).is_ok());
        let refused = refuse_endless(1, 1_000).expect_err("it takes half an hour");
        assert!(!refused.message.contains("at most"), "no stock is small enough: {refused:?}");
    }
}
