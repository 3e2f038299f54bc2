//! `boxoffice-bench`: measures a server as its customers see it.
//!
//! Exit codes: 0 it ran, 1 it could not connect, something failed, nothing but mistakes was asked
//! or it was interrupted, 2 wrong command line.

mod ceiling;
mod crowd;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures a Boxoffice server as its customers see it.
#[derive(Debug, Parser)]
#[command(name = "boxoffice-bench", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Asks at a fixed rate or as fast as answers come, and reports rates and latencies. Of
    /// a flag that is given twice, the last counts.
    #[command(args_override_self = true)]
    Run(run::Options),
    /// Echoes on the same ring runtime, with a durable append and nothing else: what the machine
    /// allows.
    Ceiling(ceiling::Options),
    /// Holds HTTP connections that are in the way: silent ones, or ones that drip.
    Crowd(crowd::Options),
}

/// What a program says when it cannot go on, and its exit code.
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// Something failed that tells about itself.
    fn from_error(error: impl std::error::Error) -> Self {
        Self::new(error.to_string())
    }

    /// Something failed.
    fn new(text: impl Into<String>) -> Self {
        Self { code: 1, text: text.into() }
    }

    /// The command line is wrong.
    fn usage(text: impl Into<String>) -> Self {
        Self { code: 2, text: text.into() }
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::try_parse() {
        Ok(Cli { command: Command::Run(options) }) => run::run(&options),
        Ok(Cli { command: Command::Ceiling(options) }) => ceiling::run(&options),
        Ok(Cli { command: Command::Crowd(options) }) => crowd::run(&options),
        Err(error) if error.use_stderr() && error.kind() != HELP => {
            Err(Failure::usage(one_line(&error.to_string())))
        }
        Err(error) => error.exit(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, text }) => {
            eprintln!("boxoffice-bench: {text}");
            ExitCode::from(code)
        }
    }
}

/// Without any argument the help is shown.
const HELP: clap::error::ErrorKind =
    clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;

/// The message of a usage error, without the synopsis below it.
fn one_line(error: &str) -> String {
    let message: Vec<&str> =
        error.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let message = message.join(" ");
    format!("{}; see `boxoffice-bench run --help`", message.trim_start_matches("error: "))
}
