//! The load generator against a real server: what it measures is what the server did.

#[path = "support/server.rs"]
mod server;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use server::{Server, temporary_dir};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_boxoffice-bench"))
        .arg("run")
        .args(arguments)
        .output()
        .expect("the program can be run")
}

/// A short run against a server, which must succeed, and its JSON.
fn measured(server: &Server, flags: &str) -> Value {
    let address = server.address().to_string();
    let mut arguments = vec!["--addr", &address, "--json", "--duration", "0.5", "--warmup", "0.1"];
    arguments.extend(flags.split_whitespace());
    let output = bench(&arguments);
    let [stdout, stderr] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{flags}: {stdout}{stderr}");
    assert_eq!(stdout.lines().count(), 1, "one object, and nothing beside it: {stdout}");
    serde_json::from_str(&stdout).expect("it prints JSON")
}

fn count(report: &Value, of: &str) -> u64 {
    report[of]["count"].as_u64().expect("a count")
}

#[test]
fn a_closed_loop_buys() {
    let server = Server::start();
    let report =
        measured(&server, "--op buy --closed --connections 4 --pipeline 4 --stock 50000000");
    assert!(count(&report, "success") > 0, "{report}");
    assert_eq!(count(&report, "refused"), 0, "{report}");
    assert_eq!(report["errors"], serde_json::json!({}));
    assert_eq!((&report["offered_rate"], &report["missed_sends"]), (&Value::Null, &0.into()));
    for field in ["achieved_rate", "cpu_use", "bytes_in", "bytes_out", "duration_s"] {
        assert!(report[field].as_f64().is_some_and(|value| value > 0.0), "{field}: {report}");
    }
    let at = |field: &str| report["success"][field].as_f64().expect("a latency");
    let latencies = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(at);
    assert!(latencies[0] > 0.0 && latencies.is_sorted(), "{report}");
}

#[test]
fn an_open_loop_accounts_for_every_intended_send() {
    let server = Server::start();
    let report = measured(&server, "--op mix --rate 2000 --connections 4 --warmup 0");
    let answered = count(&report, "success") + count(&report, "refused");
    let missed = report["missed_sends"].as_u64().expect("a count");
    assert_eq!(answered + missed, 1_000, "{report}");
    assert!(answered > 0 && report["offered_rate"] == 2_000, "{report}");
}

#[test]
fn more_than_the_server_can_do_shows_as_latency_and_missed_sends() {
    let server = Server::start();
    let report = measured(&server, "--op buy --rate 4000000 --connections 1 --pipeline 1");
    assert!(report["missed_sends"].as_u64() > Some(0), "{report}");
    assert!(report["late_sends"].as_u64() > Some(0), "{report}");
    assert!(report["success"]["p50_us"].as_f64() > Some(1_000.0), "{report}");
}

#[test]
fn a_sold_out_sale_refuses_by_code_and_other_operations_are_answered() {
    let server = Server::start();
    let report = measured(&server, "--op buy --stock 1 --closed --connections 2");
    let refused = count(&report, "refused");
    assert!(refused > 0 && count(&report, "success") <= 1, "{report}");
    assert_eq!(report["refused"]["by_code"], serde_json::json!({ "SOLD_OUT": refused }));
    let flags = [
        "--op availability --items 3 --closed --connections 2",
        "--op hold --closed --connections 2 --pipeline 2",
        "--op mix --mix hold=2,buy=1,availability=1,confirm=1,release=1,leave=1 --accounts 9 \
         --items 4 --closed --connections 3",
    ];
    for flags in flags {
        let report = measured(&server, flags);
        assert!(count(&report, "success") > 0, "{flags}: {report}");
        assert_eq!(count(&report, "refused"), 0, "{flags}: {report}");
    }
}

#[test]
fn a_named_sale_is_used_as_it_stands() {
    let server = Server::start();
    let made = measured(&server, "--op buy --stock 1 --closed --connections 1");
    let sale = made["sale"].as_u64().expect("an id").to_string();
    let report = measured(&server, &format!("--op buy --sale {sale} --closed --connections 1"));
    assert_eq!(count(&report, "success"), 0, "it was sold out before: {report}");
    assert!(report["refused"]["by_code"]["SOLD_OUT"].as_u64() > Some(0), "{report}");
}

#[test]
fn the_histogram_file_holds_what_the_report_says() {
    let server = Server::start();
    let home = temporary_dir();
    let path = home.path().join("latency.hlog");
    let flags = format!("--op buy --closed --connections 2 --hdr-file {}", path.display());
    let report = measured(&server, &flags);
    let text = fs::read(&path).expect("it was written");
    let mut seen = Vec::new();
    for entry in IntervalLogIterator::new(&text) {
        let LogEntry::Interval(interval) = entry.expect("a sound log") else { continue };
        let tag = interval.tag().expect("a tag").as_str().to_owned();
        seen.push((tag, decode(interval.encoded_histogram())));
    }
    let [(success, bought), (refused, none)] = &seen[..] else {
        panic!("{} intervals", seen.len())
    };
    assert_eq!((success.as_str(), refused.as_str()), ("success", "refused"));
    assert_eq!((bought.len(), none.len()), (count(&report, "success"), 0));
    let p99_us = bought.value_at_quantile(0.99) as f64 / 1_000.0;
    assert!((p99_us - report["success"]["p99_us"].as_f64().expect("a latency")).abs() < 0.001);
}

/// A histogram as an interval log holds it: base64 of the compressed V2 form.
fn decode(text: &str) -> Histogram<u64> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for character in text.bytes().filter(|byte| *byte != b'=') {
        let value = ALPHABET.iter().position(|byte| *byte == character).expect("base64");
        bits = bits << 6 | value as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Deserializer::new().deserialize(&mut &bytes[..]).expect("a histogram")
}

/// A run that fails: its exit code, and the one line that it says.
fn refused(arguments: &[&str]) -> (Option<i32>, String) {
    let output = bench(arguments);
    let stderr = String::from_utf8(output.stderr).expect("it says text");
    assert!(output.stdout.is_empty(), "nothing was measured");
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    (output.status.code(), stderr)
}

#[test]
fn a_wrong_command_line_is_one_clear_line() {
    let cases: &[(&[&str], &str)] = &[
        (&[], "--closed"),
        (&["--closed", "--bogus"], "--bogus"),
        (&["--closed", "--rate", "5"], "--rate"),
        (&["--rate", "0"], "--rate"),
        (&["--closed", "--op", "steal"], "steal"),
        (&["--closed", "--mix", "hold=1"], "confirm"),
        (&["--closed", "--duration=-1"], "--duration"),
        (&["--closed", "--duration", "0"], "--duration"),
        (&["--closed", "--connections", "2000", "--pipeline", "2000"], "--pipeline"),
        (&["--closed", "--items", "1025"], "--items"),
        (&["--closed", "--cpus", "1-"], "--cpus"),
        (&["--closed", "--cpus", "4096000"], "--cpus"),
        (&["--closed", "--key-file", "/nonexistent"], "/nonexistent"),
        (&["--closed", "--hdr-file", "/nonexistent/file"], "/nonexistent/file"),
    ];
    for (arguments, named) in cases {
        let (code, line) = refused(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {line}");
        assert!(line.contains(named), "{arguments:?}: {line}");
    }
}

#[test]
fn no_server_and_a_server_that_dies_are_failures() {
    let mut server = Server::start();
    let address = server.address().to_string();
    let running = Command::new(env!("CARGO_BIN_EXE_boxoffice-bench"))
        .args(["run", "--addr", &address, "--op", "buy", "--rate", "500", "--connections", "2"])
        .args(["--duration", "2", "--warmup", "0", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be run");
    wait_for_sale(&server);
    server.kill();
    let output = running.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("it reports all the same");
    assert!(report["errors"].as_object().is_some_and(|errors| !errors.is_empty()), "{report}");

    let (code, line) = refused(&["--closed", "--addr", &address]);
    assert_eq!(code, Some(1));
    assert!(line.contains(&address) && line.contains("boxoffice serve"), "{line}");
}

#[test]
fn a_sale_that_is_not_there_is_a_failure() {
    let server = Server::start();
    let address = server.address().to_string();
    for op in ["buy", "availability"] {
        let arguments = ["--addr", &address, "--op", op, "--sale", "999", "--closed", "--json"];
        let output = bench(&[&arguments[..], &["--duration", "0.3", "--warmup", "0"]].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{op}: {stderr}");
        assert!(stderr.contains("NOT_FOUND") && stderr.contains("sale 999"), "{op}: {stderr}");
    }
}

#[test]
fn an_interrupted_run_reports_what_it_measured() {
    let server = Server::start();
    let running = Command::new(env!("CARGO_BIN_EXE_boxoffice-bench"))
        .args(["run", "--addr", &server.address().to_string(), "--op", "buy", "--rate", "500"])
        .args(["--connections", "2", "--duration", "600", "--warmup", "0", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be run");
    wait_for_sale(&server);
    std::thread::sleep(Duration::from_millis(500));
    kill_process(Pid::from_child(&running), Signal::INT).expect("it runs");
    let output = running.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("interrupted"), "{stderr}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("it reports all the same");
    let seconds = report["duration_s"].as_f64().expect("a number");
    assert!(0.0 < seconds && seconds < 600.0 && count(&report, "success") > 0, "{report}");
    let rate = report["achieved_rate"].as_f64().expect("a number");
    assert!(100.0 < rate && rate < 1_000.0, "{report}");
}

/// Waits until purchases are in the log.
fn wait_for_sale(server: &Server) {
    let written = |path: &Path| {
        let files = server::contents(path);
        files
            .iter()
            .map(|(_, bytes)| bytes.iter().filter(|byte| **byte != 0).count())
            .sum::<usize>()
    };
    let before = written(server.data_dir());
    let deadline = Instant::now() + Duration::from_mins(1);
    while written(server.data_dir()) < before + 4096 {
        assert!(Instant::now() < deadline, "nothing is bought");
        std::thread::sleep(Duration::from_millis(20));
    }
}
