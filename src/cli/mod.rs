//! The edge that people touch: command lines, texts and exit codes.
//!
//! Each subcommand is a file. Errors of the layers below become one line on stderr here, and
//! one of the documented exit codes; nothing below prints or exits.

mod admin;
mod audit;
mod backup;
mod check_config;
mod demo;
mod doctor;
pub mod exit;
mod key;
mod log;
mod moment;
mod sale;
mod serve;
mod settings;
mod token;
mod top;
mod wal;

use std::fmt::Display;
use std::io::Write;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use self::exit::ExitCode;
use crate::runtime::limits::outlive_file_size;
use crate::server::restore::replaying;

/// A single-node ticketing appliance: one immediate, final, durable answer to each request.
#[derive(Debug, Parser)]
#[command(name = "boxoffice", version, after_help = exit_codes(), max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve(serve::Args),
    /// Show the settings in force and where each comes from, and find what is wrong with them.
    CheckConfig(check_config::Args),
    /// Check whether this machine is fit for these settings, and say what to change.
    Doctor(doctor::Args),
    /// Define, open, change and show sales of a running server.
    Sale(sale::Args),
    /// Watch what a running server does: rates, refusals, percentiles, the log, the stock.
    Top(top::Args),
    /// Make an API key.
    Key(key::Args),
    /// Make and check buyers' tokens, and the keys that sign them.
    Token(token::Args),
    /// Check the logs and snapshots of a stopped server, or a backup, against every rule.
    Audit(audit::Args),
    /// Show, judge and cut the logs of a data directory.
    Wal(wal::Args),
    /// Copy a data directory, also of a running server; only what is new since the last time.
    Backup(backup::BackupArgs),
    /// Make a data directory of a backup, whole or up to a point in time.
    Restore(backup::RestoreArgs),
    /// Sell out a sale with a real server, kill it midway, and prove that nothing went wrong.
    Demo(demo::Args),
}

/// Why a program ends without success: its code, and the line that it says.
#[derive(Debug)]
struct Failed {
    code: ExitCode,
    message: String,
}

impl Failed {
    fn new(code: ExitCode, message: impl Display) -> Self {
        Self { code, message: message.to_string() }
    }
}

/// Runs the program that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    // A panic is a bug: it ends the whole process, so that no shard goes on alone.
    std::panic::set_hook(Box::new(|panic| {
        // A panic says where and why in two lines.
        end(&panicked(&panic.to_string().replace('\n', " "), replaying().as_deref()));
    }));
    // Without it the kernel's own way of telling stays.
    let _ = outlive_file_size();
    let done = match Cli::try_parse() {
        Ok(cli) => run(cli.command),
        Err(error) => usage(&error),
    };
    match done {
        Ok(()) => ExitCode::Success,
        Err(failed) => {
            say(&failed);
            failed.code
        }
    }
}

/// A panic, as the process ends with it. One amid a log that is read back comes again at every
/// start.
fn panicked(panic: &str, replaying: Option<&Path>) -> Failed {
    let Some(dir) = replaying.map(Path::display) else {
        let message =
            format_args!("internal error: {panic}; what was acknowledged is safe, start again");
        return Failed::new(ExitCode::Failure, message);
    };
    let panic = panic.strip_prefix("panicked at ").unwrap_or(panic);
    let message = format_args!(
        "{dir}: its log holds a record that is whole and cannot be ({panic}); nothing was changed, \
         and starting again does not help: `boxoffice audit {dir}` says which record it is, \
         `boxoffice wal verify {dir}` whether the log is damaged as well, and `boxoffice restore \
         BACKUP --to NEW_DATA_DIR` goes back to a backup"
    );
    Failed::new(ExitCode::DamagedLog, message)
}

fn run(command: Command) -> Result<(), Failed> {
    match command {
        Command::Serve(args) => serve::run(&args),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Sale(args) => sale::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Key(args) => key::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Wal(args) => wal::run(&args),
        Command::Backup(args) => backup::backup(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::Demo(args) => demo::run(&args),
    }
}

/// Help goes to stdout as it is; a wrong command line becomes one line.
fn usage(error: &clap::Error) -> Result<(), Failed> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A closed pipe is the reader's choice.
        let _ = error.print();
        return Ok(());
    }
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let said: Vec<&str> = lines
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .collect();
    // What a line ends with a colon is listed in those behind it.
    let said = said.join("; ").replace(":; ", ": ");
    let said = said.strip_prefix("error: ").unwrap_or(&said);
    Err(Failed::new(ExitCode::Usage, format_args!("{said}; see --help")))
}

fn say(failed: &Failed) {
    // Nobody is left to tell where stderr is closed.
    let _ = writeln!(std::io::stderr(), "boxoffice: {}", failed.message);
}

/// Ends the process from any thread.
fn end(failed: &Failed) -> ! {
    say(failed);
    std::process::exit(i32::from(failed.code.number()))
}

/// Prints facts: for people, or as JSON.
fn print(facts: &(impl Display + serde::Serialize), json: bool) -> Result<(), Failed> {
    let text = if json {
        serde_json::to_string_pretty(facts).expect("facts are plain data")
    } else {
        facts.to_string()
    };
    print_line(text.trim_end())
}

fn print_line(line: &str) -> Result<(), Failed> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(|error| {
        Failed::new(ExitCode::Failure, format_args!("cannot write to stdout: {error}"))
    })
}

fn exit_codes() -> String {
    let codes = ExitCode::ALL.map(|code| format!("  {:>2}  {}", code.number(), code.meaning()));
    format!("Exit codes:\n{}", codes.join("\n"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_command_line_is_one_line() {
        for args in [
            &["boxoffice", "serve", "--shard", "2"][..],
            &["boxoffice", "serve", "--shards", "none"],
            &["boxoffice", "sell"],
            &["boxoffice"],
            &["boxoffice", "backup"],
        ] {
            let error = Cli::try_parse_from(args).expect_err("it is wrong");
            let failed = usage(&error).expect_err("it is wrong");
            assert_eq!(failed.code, ExitCode::Usage);
            assert_eq!(failed.message.lines().count(), 1, "{}", failed.message);
            assert!(!failed.message.contains(":;"), "{}", failed.message);
        }
    }
}
