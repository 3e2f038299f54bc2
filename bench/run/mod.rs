//! `boxoffice-bench run`: prepares a sale, drives one thread for each CPU, gathers what they saw.
//!
//! All threads connect first and then start at one agreed moment. They share nothing while they
//! run but a counter of answers each, which only the progress line reads.

mod options;
mod random;
mod report;
mod sale;
mod shopper;

use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use boxoffice::load::{
    Driver, DriverConfig, DriverError, Lane, Load, Nanos, Pace, Tally, Traffic, Window,
};
use boxoffice::protocol::binary::KEY_BYTES_MAX;
use boxoffice::runtime::{Clock, SystemClock, cpu};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

pub use options::Options;

use self::random::Random;
use self::report::Report;
use self::sale::Venue;
use self::shopper::{Crowd, Shopper};
use crate::Failure;

/// How long all connections together may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// How long the last answers may take.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// From the moment at which all threads are connected until they start.
const START_DELAY: Duration = Duration::from_millis(20);

/// How often a thread looks whether the run was interrupted.
const LOOK: Duration = Duration::from_millis(100);

/// Runs and reports.
pub fn run(options: &Options) -> Result<(), Failure> {
    options.check()?;
    let key = key(options)?;
    let mut log = match &options.hdr_file {
        Some(path) => Some((path, create(path)?)),
        None => None,
    };
    let venue = sale::prepare(options, &key)?;
    if venue.welcome.in_flight_max < options.pipeline.get() {
        eprintln!(
            "boxoffice-bench: the server reads only {} requests ahead on a connection; \
             what is behind them waits in the socket",
            venue.welcome.in_flight_max
        );
    }
    let report = measure(options, &key, &venue)?;
    if let Some((path, file)) = &mut log {
        report
            .write_histograms(file)
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    }
    print(options, &report)?;
    report.verdict()
}

fn print(options: &Options, report: &Report) -> Result<(), Failure> {
    let text = if options.json { report.json() } else { report.table() };
    std::io::stdout().write_all(text.as_bytes()).map_err(Failure::from_error)
}

fn key(options: &Options) -> Result<Vec<u8>, Failure> {
    let key = match (&options.key, &options.key_file) {
        (Some(key), _) => key.clone(),
        (None, Some(path)) => fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?,
        (None, None) => return Ok(Vec::new()),
    };
    let key = key.lines().next().unwrap_or_default().trim();
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(Failure::usage(format!("a key has 1 to {KEY_BYTES_MAX} bytes")));
    }
    Ok(key.as_bytes().to_vec())
}

fn create(path: &std::path::Path) -> Result<File, Failure> {
    File::create(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// What one thread does.
struct Task {
    cpu: Option<usize>,
    lane: Lane,
    config: DriverConfig,
    rate: Option<NonZeroU32>,
    crowd: Crowd,
    clock: SystemClock,
    progress: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

/// What one thread saw.
struct Share {
    tally: Tally,
    traffic: Traffic,
    missed_sends: u64,
    /// How long it measured: all of the window, unless it was interrupted.
    measured: Duration,
}

/// When to measure.
#[derive(Clone, Copy)]
struct Times {
    start: Nanos,
    window: Window,
}

/// Runs all threads, and merges what they saw.
fn measure(options: &Options, key: &[u8], venue: &Venue) -> Result<Report, Failure> {
    let clock = SystemClock::new();
    let stop = listen_for_signals().map_err(Failure::from_error)?;
    let tasks = tasks(options, key, venue, clock, &stop)?;
    let threads = tasks.len();
    let progress: Vec<_> = tasks.iter().map(|task| Arc::clone(&task.progress)).collect();
    let (ready, connected) = mpsc::channel();
    let (starts, handles): (Vec<Sender<Times>>, Vec<JoinHandle<_>>) = tasks
        .into_iter()
        .map(|task| {
            let (start, started) = mpsc::channel();
            let ready = ready.clone();
            let thread = move || {
                let share = work(task, &ready, &started);
                if share.is_err() {
                    ready.send(false).unwrap_or_default();
                }
                share
            };
            (start, thread::spawn(thread))
        })
        .unzip();
    drop(ready);
    // Where one thread fails nobody is started, and joining tells why.
    if (0..threads).all(|_| connected.recv() == Ok(true)) {
        let start = Nanos(clock.monotonic().as_nanos() as u64).after(START_DELAY);
        let from = start.after(options.warmup);
        let times = Times { start, window: Window { from, until: from.after(options.duration) } };
        for start in &starts {
            start.send(times).unwrap_or_default();
        }
        let measured_at = SystemTime::now() + START_DELAY + options.warmup;
        let cpu_time = watch(times.window, clock, &connected, &progress);
        let mut report = Report::new(options, venue.sale, measured_at, cpu_time);
        drop(starts);
        for share in join(handles)? {
            report.add(&share.tally, share.traffic, share.missed_sends);
            report.measured_for(share.measured);
        }
        if !report.has_measured() {
            return Err(Failure::new("interrupted before anything was measured"));
        }
        return Ok(report);
    }
    drop(starts);
    join(handles).and(Err(Failure::new("a thread ended before its start")))
}

/// Interrupted once, a run ends early and reports; the second signal ends the program.
fn listen_for_signals() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_default(signal, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

fn join(
    handles: Vec<JoinHandle<Result<Option<Share>, DriverError>>>,
) -> Result<Vec<Share>, Failure> {
    let mut shares = Vec::new();
    for handle in handles {
        let share = handle.join().map_err(|_| Failure::new("a thread panicked"))?;
        shares.extend(share.map_err(Failure::from_error)?);
    }
    Ok(shares)
}

fn tasks(
    options: &Options,
    key: &[u8],
    venue: &Venue,
    clock: SystemClock,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<Task>, Failure> {
    let cpus = options.threads()?;
    let count = NonZeroU32::new(cpus.len() as u32).expect("there is a thread");
    let crowd = Crowd {
        sale: venue.sale,
        items: options.items.get(),
        accounts: options.accounts,
        mix: options.weights(),
        seed: Random::seed(),
    };
    let task = |(index, cpu): (usize, Option<usize>)| {
        let connections = options.connections.get() as usize;
        let share = connections / cpus.len() + usize::from(index < connections % cpus.len());
        Task {
            cpu,
            lane: Lane { index: index as u32, count },
            config: DriverConfig {
                address: venue.address,
                connections: share,
                pipeline: options.pipeline.get() as usize,
                key: key.to_vec(),
                name: "boxoffice-bench",
            },
            rate: options.rate,
            crowd,
            clock,
            progress: Arc::default(),
            stop: Arc::clone(stop),
        }
    };
    Ok(cpus.iter().copied().enumerate().map(task).collect())
}

/// One thread, from pinning to its last answer. `None` where nobody started it.
fn work(
    task: Task,
    ready: &Sender<bool>,
    started: &Receiver<Times>,
) -> Result<Option<Share>, DriverError> {
    if let Some(cpu) = task.cpu {
        cpu::pin_current_thread(cpu).map_err(DriverError::Enter)?;
    }
    let in_flight = task.config.connections * task.config.pipeline;
    let mut driver = Driver::new(task.config, task.clock)?;
    let mut shopper = Shopper::new(task.crowd, task.lane, in_flight, task.progress);
    driver.connect(&mut shopper, CONNECT_PATIENCE)?;
    if ready.send(true).is_err() {
        return Ok(None);
    }
    let Ok(Times { start, window }) = started.recv() else { return Ok(None) };
    shopper.count(window);
    driver.run(&mut shopper, Load::Idle, start)?;
    let load = match task.rate {
        Some(rate) => Load::Open(Pace::new(rate, start, task.lane)),
        None => Load::Closed,
    };
    let (load, _) = run_until(&mut driver, &mut shopper, load, (window.from, &task.stop))?;
    let before = driver.traffic();
    let (load, until) = run_until(&mut driver, &mut shopper, load, (window.until, &task.stop))?;
    shopper.count_until(until);
    let traffic = driver.traffic().since(before);
    let missed_sends = match load {
        Load::Open(pace) => pace.missed(until),
        Load::Closed | Load::Idle => 0,
    };
    driver.drain(&mut shopper, until.after(DRAIN_PATIENCE))?;
    shopper.give_up(driver.in_flight());
    let measured = Duration::from_nanos(until.since(window.from));
    Ok(Some(Share { tally: shopper.into_tally(), traffic, missed_sends, measured }))
}

/// Runs a load until a time, or until the run is interrupted, and says when that was.
fn run_until(
    driver: &mut Driver,
    shopper: &mut Shopper,
    mut load: Load,
    (until, stop): (Nanos, &AtomicBool),
) -> Result<(Load, Nanos), DriverError> {
    while !stop.load(Ordering::Relaxed) {
        let look = driver.now().after(LOOK).min(until);
        load = driver.run(shopper, load, look)?;
        if look == until {
            return Ok((load, until));
        }
    }
    Ok((load, driver.now().min(until)))
}

/// Waits until the window is over, shows the progress on a terminal, and measures the
/// generator's own CPU time in the window. Ends early where a thread failed.
fn watch(
    window: Window,
    clock: SystemClock,
    ended: &Receiver<bool>,
    progress: &[Arc<AtomicU64>],
) -> Duration {
    let now = || Nanos(clock.monotonic().as_nanos() as u64);
    let shows = std::io::stderr().is_terminal();
    let answers = || progress.iter().map(|answers| answers.load(Ordering::Relaxed)).sum::<u64>();
    let wait_until = |time: Nanos| {
        ended.recv_timeout(Duration::from_nanos(time.since(now())))
            == Err(RecvTimeoutError::Timeout)
    };
    let mut before = cpu::process_time();
    let (mut seen, mut second) = (0, now());
    while now() < window.until {
        let measuring = now() >= window.from;
        let next = second.after(Duration::from_secs(1));
        let phase_ends = if measuring { window.until } else { window.from };
        if !wait_until(next.min(phase_ends)) {
            break;
        }
        if !measuring && now() >= window.from {
            before = cpu::process_time();
        }
        if now() >= next {
            let all = answers();
            if shows {
                let phase = if measuring { "measuring" } else { "warming up" };
                eprint!("\r{phase}: {:>9} answers/s   ", all - seen);
            }
            (seen, second) = (all, next);
        }
    }
    if shows {
        eprint!("\r{:40}\r", "");
    }
    cpu::process_time().saturating_sub(before)
}
