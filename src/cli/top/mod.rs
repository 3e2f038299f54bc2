//! `boxoffice top`: what a running server does, second by second.
//!
//! It reads `/metrics` of the administration, so that it shows nothing that monitoring does not
//! see too. On a terminal it draws a screen; elsewhere it prints a line, or JSON, a second.

mod facts;
mod numbers;
mod view;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::facts::Facts;
use self::numbers::{Between, Numbers};
use super::admin::{Admin, AdminArgs};
use super::exit::ExitCode;
use super::{Failed, print_line};
use crate::runtime::terminal::{self, Keys};

/// How long lies between two readings.
const INTERVAL: Duration = Duration::from_secs(1);

/// How soon a key or a signal is noticed.
const PATIENCE: Duration = Duration::from_millis(100);

/// Into the second screen of a terminal, and without a cursor; back again.
const ENTER_SCREEN: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE_SCREEN: &str = "\x1b[?25h\x1b[?1049l";

/// What comes before the first line, behind each, and behind the last: nothing old stays.
const FIRST_LINE: &str = "\x1b[H";
const LINE_END: &str = "\x1b[K\r\n";
const SCREEN_END: &str = "\x1b[K\x1b[J";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    server: AdminArgs,
    /// Print one second's numbers and end.
    #[arg(long)]
    once: bool,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// A reading and its time.
struct Reading {
    numbers: Numbers,
    at: Instant,
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    let office = args.server.office()?;
    if args.once || args.json || !io::stdout().is_terminal() {
        return print_facts(&office, args);
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        let caught = signal_hook::flag::register(signal, Arc::clone(&stop));
        caught.map_err(|error| failed("catch signals", &error))?;
    }
    let mut before = read(&office)?;
    let keys = Keys::listen().map_err(|error| failed("set the terminal up", &error))?;
    let screen = Screen::enter()?;
    screen.show(&["reading the numbers of a second".to_owned()])?;
    loop {
        while before.at.elapsed() < INTERVAL {
            let key = keys.next(PATIENCE);
            // In this mode of the terminal Ctrl-C is a key as well.
            if stop.load(Ordering::Relaxed) || matches!(key, Some(b'q' | b'Q' | 3)) {
                return Ok(());
            }
        }
        let after = read(&office)?;
        let facts = between(&before, &after);
        let size = terminal::size().unwrap_or((80, 24));
        screen.show(&view::screen(&facts, &office.to_string(), size))?;
        before = after;
    }
}

/// Without a terminal: a line, or an object, a second.
fn print_facts(office: &Admin, args: &Args) -> Result<(), Failed> {
    let mut before = read(office)?;
    loop {
        std::thread::sleep(INTERVAL);
        let after = read(office)?;
        let facts = between(&before, &after);
        if args.json {
            print_line(&serde_json::to_string(&facts).expect("facts are plain data"))?;
        } else if args.once {
            let lines = view::screen(&facts, &office.to_string(), (usize::MAX, usize::MAX));
            // What the last line says about keys is for a terminal.
            print_line(&lines[..lines.len() - 1].join("\n"))?;
        } else {
            print_line(&view::line(&facts))?;
        }
        if args.once {
            return Ok(());
        }
        before = after;
    }
}

fn read(office: &Admin) -> Result<Reading, Failed> {
    let text = office.text("/metrics")?;
    let numbers = Numbers::parse(&text).ok_or_else(|| {
        let message = format_args!("{office}: what it says at /metrics are no numbers").to_string();
        Failed::new(ExitCode::Failure, message)
    })?;
    Ok(Reading { numbers, at: Instant::now() })
}

fn between(before: &Reading, after: &Reading) -> Facts {
    let seconds = after.at.duration_since(before.at).as_secs_f64();
    let between = Between { before: &before.numbers, after: &after.numbers, seconds };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Facts::new(&between, now.as_secs_f64())
}

fn failed(what: &str, error: &io::Error) -> Failed {
    Failed::new(ExitCode::Failure, format_args!("cannot {what}: {error}"))
}

/// The terminal's second screen; left again when this is dropped.
struct Screen;

impl Screen {
    fn enter() -> Result<Self, Failed> {
        print_raw(ENTER_SCREEN)?;
        Ok(Self)
    }

    #[expect(clippy::unused_self, reason = "only who has entered the screen draws on it")]
    fn show(&self, lines: &[String]) -> Result<(), Failed> {
        print_raw(&format!("{FIRST_LINE}{}{SCREEN_END}", lines.join(LINE_END)))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is there to be told where the terminal has gone.
        let _ = print_raw(LEAVE_SCREEN);
    }
}

fn print_raw(text: &str) -> Result<(), Failed> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| failed("write to the terminal", &error))
}
