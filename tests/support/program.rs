//! Runs `boxoffice` to its end, and holds what it says and how it ends to the promise.
#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use boxoffice::cli::exit::ExitCode;
use serde_json::Value;

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs it without a terminal.
pub fn boxoffice(args: &[&dyn AsRef<OsStr>]) -> Ended {
    run(command(args))
}

/// The command, not yet run.
pub fn command(args: &[&dyn AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_boxoffice"));
    command.args(args.iter().map(AsRef::as_ref));
    command.env_remove("RUST_LOG").env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    command
}

pub fn run(mut command: Command) -> Ended {
    let output = command.output().expect("the program can be run");
    let [stdout, stderr] = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8(bytes).expect("programs speak UTF-8"));
    Ended { code: output.status.code(), stdout, stderr }
}

impl Ended {
    /// It did what it was asked, and complained of nothing.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert!(!self.stderr.contains("boxoffice: "), "{self:?}");
        self
    }

    /// It failed with this code, and with one line that names each of these.
    #[track_caller]
    pub fn fails(self, code: ExitCode, names: &[&str]) -> Self {
        assert_eq!(self.code, Some(i32::from(code.number())), "exit {code}: {self:?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        let complaints = lines.iter().filter(|line| line.starts_with("boxoffice: ")).count();
        let last = lines.last().copied().unwrap_or_default();
        assert!(complaints == 1 && last.starts_with("boxoffice: "), "one clear line: {self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        for name in names {
            assert!(last.contains(name), "the line should name {name}: {last}");
        }
        self
    }

    /// What it printed as one JSON value.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What it printed as a JSON value a line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines.map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }
}
