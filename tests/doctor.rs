//! `boxoffice doctor` on the real machine: good and bad directories, low limits, taken ports.
//!
//! What a test needs rights for that not everybody has is left out where they are missing, and
//! the test says so.

#[path = "support/server.rs"]
mod server;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use boxoffice::cli::exit::ExitCode;
use serde_json::Value;
use server::{Refused, Server, assert_refused, contents, temporary_dir};

/// What it found.
struct Diagnosis {
    done: Refused,
    checks: Vec<Value>,
}

impl Diagnosis {
    #[track_caller]
    fn of(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let done = Refused::from_run(command);
        let report: Value =
            serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
        let checks = report["checks"].as_array().expect("a list").clone();
        Self { done, checks }
    }

    #[track_caller]
    fn on(data_dir: &Path) -> Self {
        Self::of(doctor(data_dir, &[]))
    }

    /// The state of a check, where it was done.
    fn state(&self, name: &str) -> Option<&str> {
        self.find(name)?["state"].as_str()
    }

    fn find(&self, name: &str) -> Option<&Value> {
        self.checks.iter().find(|check| check["check"] == name)
    }

    /// This check failed, says so by these words, and the program ended by its code.
    #[track_caller]
    fn assert_failed(&self, name: &str, words: &str) {
        assert_eq!(self.state(name), Some("fail"), "{name}: {:#?}", self.checks);
        let check = self.find(name).expect("it has a state").to_string();
        assert!(check.contains(words), "{words}: {check}");
        assert_refused(&self.done, ExitCode::Environment, &["failed"]);
    }
}

/// The doctor's command: one shard, and ports that the system would choose, unless these flags
/// say otherwise.
fn doctor(data_dir: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_boxoffice"));
    command.env_clear().args(["doctor", "--json", "--data-dir"]).arg(data_dir).args(flags);
    let defaults = [
        ("--shards", "1"),
        ("--segment-bytes", "2097152"),
        ("--binary", "127.0.0.1:0"),
        ("--http", "127.0.0.1:0"),
    ];
    for (flag, value) in defaults.into_iter().filter(|(flag, _)| !flags.contains(flag)) {
        command.args([flag, value]);
    }
    command
}

/// The doctor behind a shell's `ulimit`, which must succeed.
fn below(limit: &str, data_dir: &Path) -> Command {
    let doctor = doctor(data_dir, &[]);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit {limit} && exec \"$@\""), "sh"]);
    command.arg(doctor.get_program()).args(doctor.get_args());
    command
}

#[test]
fn a_machine_that_serves_is_fit_and_nothing_stays_behind() {
    let home = temporary_dir();
    let found = Diagnosis::on(&home.path().join("data"));
    assert_eq!(found.done.code, Some(0), "{:?}", found.done);
    for check in &found.checks {
        let state = check["state"].as_str().expect("a state");
        assert!(["ok", "warn"].contains(&state), "{check}");
        assert!(check["fact"].as_str().is_some_and(|fact| !fact.is_empty()), "{check}");
        assert_eq!(check["change"].is_string(), state != "ok", "{check}");
    }
    for name in [
        "kernel",
        "io_uring",
        "locked memory",
        "control plane",
        "open files",
        "file system",
        "free space",
        "disk interrupts",
        "disk writes",
        "data directory",
        "addresses",
        "swap",
        "clock",
    ] {
        assert!(found.find(name).is_some(), "{name}: {:#?}", found.checks);
    }
    let writes = found.find("disk writes").expect("it was found").to_string();
    assert!(writes.contains("median") && writes.contains("p99"), "{writes}");
    let left = fs::read_dir(home.path()).expect("it can be listed").count();
    assert_eq!(left, 0, "neither a data directory nor a file");
}

#[test]
fn for_people_it_is_one_line_for_each_check() {
    let home = temporary_dir();
    let mut command = Command::new(env!("CARGO_BIN_EXE_boxoffice"));
    command.env_clear().arg("doctor").arg("--data-dir").arg(home.path());
    command.args(["--binary", "127.0.0.1:0", "--http", "127.0.0.1:0", "--connections", "1000000"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = Refused::from_run(command);
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert!(lines.iter().any(|line| line.starts_with("ok    kernel ")), "{done:?}");
    for line in lines {
        let start = line.split(' ').next().unwrap_or_default();
        let known = ["ok", "warn", "fail"].contains(&start);
        assert!(known || line.trim_start().starts_with("to change: "), "{line}");
    }
}

#[test]
fn memory_is_no_disk() {
    let memory = Path::new("/dev/shm");
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let is_memory = mounts.lines().any(|line| line.starts_with("tmpfs /dev/shm "));
    let Some(home) = is_memory.then(|| tempfile::tempdir_in(memory).ok()).flatten() else {
        return println!("skipped, /dev/shm is no tmpfs to write to");
    };
    let found = Diagnosis::on(&home.path().join("data"));
    found.assert_failed("file system", "tmpfs");
}

#[test]
fn a_directory_that_is_read_only_is_told() {
    let home = temporary_dir();
    let at = home.path().to_str().expect("UTF-8");
    let mount = ["-t", "tmpfs", "-o", "ro", "boxoffice-test", at];
    if !Command::new("mount").args(mount).status().is_ok_and(|status| status.success()) {
        return println!("skipped, nothing can be mounted");
    }
    let found = std::panic::catch_unwind(|| {
        let found = Diagnosis::on(Path::new(at));
        found.assert_failed("file system", "read-only");
        found.assert_failed("disk writes", at);
    });
    let unmounted = Command::new("umount").arg(at).status().is_ok_and(|status| status.success());
    assert!(unmounted, "{at} stays mounted");
    if let Err(panic) = found {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_directory_of_somebody_else_is_told() {
    let home = temporary_dir();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let mut nobody = Command::new("true");
    if !nobody.uid(65534).gid(65534).status().is_ok_and(|status| status.success()) {
        return println!("skipped, nobody else can be");
    }
    let mut command = doctor(home.path(), &[]);
    command.uid(65534).gid(65534);
    let found = Diagnosis::of(command);
    found.assert_failed("disk writes", "ermission denied");
}

#[test]
fn a_low_limit_on_open_files_is_told_with_what_to_set() {
    let home = temporary_dir();
    let found = Diagnosis::of(below("-n 200", home.path()));
    found.assert_failed("open files", "LimitNOFILE=10256");
    let found = Diagnosis::of(below("-n 1000", home.path()));
    assert_eq!(found.state("open files"), Some("warn"), "{:#?}", found.checks);
    assert_eq!(found.done.code, Some(0), "a server would run: {:?}", found.done);
}

#[test]
fn no_locked_memory_is_told_with_what_to_set() {
    let home = temporary_dir();
    let found = Diagnosis::of(below("-l 0", home.path()));
    found.assert_failed("locked memory", "LimitMEMLOCK=8M");
    found.assert_failed("control plane", "locked");
}

#[test]
fn a_taken_port_is_told() {
    let home = temporary_dir();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it has an address").to_string();
    let found = Diagnosis::of(doctor(home.path(), &["--binary", &address]));
    found.assert_failed("addresses", &address);
}

#[test]
fn a_server_that_runs_is_told_and_left_alone() {
    let mut server = Server::start();
    let found = Diagnosis::on(server.data_dir());
    assert_eq!(found.done.code, Some(0), "{:#?}", found.checks);
    assert_eq!(found.state("data directory"), Some("warn"));
    let fact = found.find("data directory").expect("it has a state").to_string();
    assert!(fact.contains(&format!("process {}", server.pid())), "{fact}");
    assert!(server.terminate().success(), "it ran on until it was stopped");

    let found = Diagnosis::of(doctor(server.data_dir(), &["--shards", "3"]));
    assert_eq!(found.state("data directory"), Some("warn"));
    let fact = found.find("data directory").expect("it has a state").to_string();
    assert!(fact.contains("a start divides them into 3"), "{fact}");
}

#[test]
fn a_directory_with_other_things_and_a_full_disk_are_told() {
    let home = temporary_dir();
    fs::write(home.path().join("letters"), "precious").expect("it can be written");
    let before = contents(home.path());
    Diagnosis::on(home.path()).assert_failed("data directory", "letters");
    assert!(contents(home.path()) == before, "nothing was changed");
    let huge = ["--segment-bytes", "1099511627776"];
    let found = Diagnosis::of(doctor(&home.path().join("new"), &huge));
    found.assert_failed("free space", "a start needs 1024.");
}

#[test]
fn a_wrong_setting_is_one_of_the_findings() {
    let home = temporary_dir();
    let found = Diagnosis::of(doctor(home.path(), &["--keys", "/no/such/keys"]));
    found.assert_failed("settings", "/no/such/keys");
}
