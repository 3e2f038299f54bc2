//! `boxoffice doctor`: whether this machine is fit for these settings, and what to change.
//!
//! It tries what a start would do, by the very calls that a start makes: a ring and an executor
//! are set up, a file is written past the page cache, addresses are bound. Nothing of it stays,
//! and no setting of the machine is changed. The settings are those that `serve` would see.

mod instance;
mod kernel;
mod machine;
mod storage;

use std::fmt;
use std::num::NonZeroU16;

use super::check_config::refuse;
use super::exit::ExitCode;
use super::serve::expected_shards;
use super::settings::Settings;
use super::settings::check::check;
use super::settings::flags::SettingsArgs;
use super::{Failed, print};
use crate::server::datadir::{DataDirError, Found, inspect};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    let resolved = args.settings.resolve();
    refuse(&resolved.problems)?;
    let subject = Subject::new(&resolved.settings);
    let clock = machine::ClockWatch::start();
    let mut findings = Vec::new();
    findings.extend(check(&resolved).into_iter().map(|problem| {
        Finding::fail("settings", problem, "correct it; `boxoffice check-config` shows all of them")
    }));
    kernel::examine(&subject, &mut findings);
    storage::examine(&subject, &mut findings);
    instance::examine(&subject, &mut findings);
    machine::examine(&mut findings);
    findings.push(clock.examine());
    let report = Report { checks: findings };
    print(&report, args.json)?;
    match report.checks.iter().find(|check| check.state == State::Fail) {
        None => Ok(()),
        Some(first) => Err(Failed::new(
            ExitCode::Environment,
            format_args!("{} of the checks failed, the first: {}", report.failures(), first.line()),
        )),
    }
}

/// What is examined.
struct Subject<'a> {
    settings: &'a Settings,
    shards: NonZeroU16,
    /// What lies at the data directory's path.
    found: Result<Found, DataDirError>,
}

impl<'a> Subject<'a> {
    fn new(settings: &'a Settings) -> Self {
        let shards = expected_shards(&settings.data_dir, settings.shards);
        Self { settings, shards, found: inspect(&settings.data_dir) }
    }

    /// Whether a server runs on the data directory now.
    fn is_served(&self) -> bool {
        matches!(self.found, Ok(Found::InUse { .. }))
    }
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Ok,
    /// A server would run, worse than it could.
    Warn,
    /// A server would not start, or could not keep its promises.
    Fail,
}

/// The result of one check.
#[derive(Clone, Debug, serde::Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    /// What was found, in one line.
    fact: String,
    /// What to change: a command, or a setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, fact: impl fmt::Display) -> Self {
        Self { check, state: State::Ok, fact: fact.to_string(), change: None }
    }

    fn warn(check: &'static str, fact: impl fmt::Display, change: impl fmt::Display) -> Self {
        Self { check, state: State::Warn, fact: fact.to_string(), change: Some(change.to_string()) }
    }

    fn fail(check: &'static str, fact: impl fmt::Display, change: impl fmt::Display) -> Self {
        Self { state: State::Fail, ..Self::warn(check, fact, change) }
    }

    fn line(&self) -> String {
        let change = self.change.as_ref().map(|change| format!("; {change}"));
        format!("{}: {}{}", self.check, self.fact, change.unwrap_or_default())
    }
}

#[derive(serde::Serialize)]
struct Report {
    checks: Vec<Finding>,
}

impl Report {
    fn failures(&self) -> usize {
        self.checks.iter().filter(|check| check.state == State::Fail).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let state = match check.state {
                State::Ok => "ok",
                State::Warn => "warn",
                State::Fail => "fail",
            };
            writeln!(f, "{state:<5} {:<18} {}", check.check, check.fact)?;
            if let Some(change) = &check.change {
                writeln!(f, "{:<24} to change: {change}", "")?;
            }
        }
        Ok(())
    }
}
