//! Bad starts of `boxoffice serve`: each is one clear line and the documented exit code, and
//! changes nothing.
//!
//! The line is the last one on standard error; it starts with `boxoffice: ` and names what is
//! wrong. A good start beside the bad ones shows that it is the fault that is refused.

#[path = "support/server.rs"]
mod server;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use boxoffice::cli::exit::ExitCode;
use server::{Refused, Serve, Server, assert_refused, contents, temporary_dir};

/// Starts a server once on `data_dir`, so that the directory is a good one.
fn make_data_dir(data_dir: &Path) {
    let mut server = Server::start_on(data_dir, Serve::on(data_dir));
    let status = server.terminate();
    assert!(status.success(), "a server that is asked to stop ends well: {status}");
}

/// The first segment of the first shard.
fn first_segment(data_dir: &Path) -> PathBuf {
    let files = contents(data_dir).into_iter().map(|(path, _)| path);
    let mut segments: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "wal")).collect();
    segments.sort();
    segments.into_iter().next().expect("a data directory has a segment")
}

/// Puts other bytes at `offset` of a file.
fn overwrite(path: &Path, offset: usize, with: &[u8]) {
    let mut bytes = fs::read(path).expect("the file can be read");
    bytes[offset..offset + with.len()].copy_from_slice(with);
    fs::write(path, bytes).expect("the file can be written");
}

/// Holds a start on `data_dir` to the promise, and the directory to what it was.
#[track_caller]
fn assert_left_alone(data_dir: &Path, code: ExitCode, names: &[&str]) {
    let before = contents(data_dir);
    assert_refused(&Serve::on(data_dir).refused(), code, names);
    assert!(contents(data_dir) == before, "a refused start changes nothing: {names:?}");
}

#[test]
fn a_good_start_says_where_it_listens_and_stops_in_order() {
    let mut server = Server::start();
    assert!(server.address().ip().is_loopback() && server.address().port() != 0);
    assert_eq!(server.shards(), 1);
    // Not before the next segment is there has each part of the server done something.
    let next = server.data_dir().join("shard-000/00000000000000000002.wal");
    let until = Instant::now() + Duration::from_mins(1);
    while !next.exists() && Instant::now() < until {
        thread::sleep(Duration::from_millis(5));
    }
    assert!(next.exists(), "the next segment is made ahead:\n{}", server.log());
    assert!(server.terminate().success(), "SIGTERM is no failure:\n{}", server.log());
    assert!(!server.log().contains("ERROR"), "nothing is wrong:\n{}", server.log());
    server.restart();
    assert!(!server.kill().success(), "a killed server did not end by itself");
    server.restart();
}

/// A full disk or a closed pipe behind the log ends nothing.
#[test]
fn a_log_that_cannot_be_written_is_lost_and_the_server_serves() {
    for format in ["text", "json"] {
        let home = temporary_dir();
        let serve = Serve::on(&home.path().join("data"))
            .with("--log", "debug")
            .with("--log-format", format);
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there");
        let mut child = serve.command().stderr(full).spawn().expect("the program can be run");
        let said = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let is_ready = said.map_while(Result::ok).any(|line| line == "ready");
        child.kill().expect("it can be ended");
        let status = child.wait().expect("it ends");
        assert!(is_ready, "{format}: it ended with {status}");
    }
}

#[test]
fn an_unknown_flag_is_wrong_usage() {
    let home = temporary_dir();
    let data_dir = home.path().join("data");
    let refused = Serve::on(&data_dir).with("--colour", "blue").refused();
    assert_refused(&refused, ExitCode::Usage, &["--colour"]);
    assert!(!data_dir.exists(), "wrong usage makes no data directory");
}

#[test]
fn an_unknown_program_is_wrong_usage() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_boxoffice"));
    command.arg("sevre").stdout(Stdio::piped()).stderr(Stdio::piped());
    assert_refused(&Refused::from_run(command), ExitCode::Usage, &["sevre"]);
}

#[test]
fn a_bad_value_is_wrong_usage_and_names_its_flag() {
    let home = temporary_dir();
    let data_dir = home.path().join("data");
    let bad = [
        ("--shards", "0"),
        ("--shards", "many"),
        ("--shards", "257"),
        ("--shards", "70000"),
        ("--connections", "0"),
        ("--idle-timeout", "0"),
        ("--send-timeout", "0"),
        ("--cpus", "one"),
        ("--cpus", "3-1"),
        ("--binary", "nowhere"),
        ("--binary", "127.0.0.1:70000"),
        ("--segment-bytes", "lots"),
        ("--segment-bytes", "0"),
    ];
    for (flag, value) in bad {
        let refused = Serve::on(&data_dir).with(flag, value).refused();
        assert_refused(&refused, ExitCode::Usage, &[flag, value]);
        assert!(!data_dir.exists(), "{flag} {value} makes no data directory");
    }
}

#[test]
fn a_second_instance_stays_off_the_data_directory() {
    let mut server = Server::start();
    let data_dir = server.data_dir().to_owned();
    let refused = Serve::on(&data_dir).refused();
    assert_refused(&refused, ExitCode::DirectoryInUse, &[data_dir.to_str().expect("UTF-8")]);
    // The first one goes on, and the lock ends with it, however it ends.
    assert!(TcpStream::connect(server.address()).is_ok(), "the first instance still serves");
    server.kill();
    server.restart();
}

#[test]
fn a_port_in_use_is_named() {
    let home = temporary_dir();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it has an address").to_string();
    let data_dir = home.path().join("data");
    for flag in ["--binary", "--http", "--admin"] {
        let refused = Serve::on(&data_dir).with(flag, &address).refused();
        assert_refused(&refused, ExitCode::CannotListen, &[&address, flag]);
        assert!(!data_dir.exists() && refused.stdout.is_empty(), "nothing was begun: {refused:?}");
    }
    // A data directory that exists is not made another one either.
    make_data_dir(&data_dir);
    let before = contents(&data_dir);
    let refused = Serve::on(&data_dir).with("--http", &address).refused();
    assert_refused(&refused, ExitCode::CannotListen, &[&address]);
    assert!(contents(&data_dir) == before, "a refused start changes nothing");
}

#[test]
fn settings_that_want_the_same_port_are_both_named() {
    let home = temporary_dir();
    let serve = Serve::on(&home.path().join("data")).with_shards(2);
    let refused = serve.clone().with("--binary", "127.0.0.1:65534").refused();
    let names = ["--binary 127.0.0.1:65534", "own ports", "no room", "at most 65533"];
    assert_refused(&refused, ExitCode::CannotListen, &names);
    let serve = serve.with("--binary", "127.0.0.1:7400");
    for (flag, address, name) in [
        ("--http", "127.0.0.1:7402", "shard 1"),
        ("--http", "127.0.0.1:7400", "--binary 127.0.0.1:7400"),
        ("--admin", "127.0.0.1:7401", "shard 0"),
    ] {
        let refused = serve.clone().with(flag, address).refused();
        let names = [flag, address, "collides", "--binary", name];
        assert_refused(&refused, ExitCode::CannotListen, &names);
        assert!(!refused.stderr.contains("stop the process"), "{refused:?}");
    }
    assert!(!home.path().join("data").exists(), "nothing was begun");
}

/// A limit on the size of files is an error that names it, and not the end by a signal.
#[test]
fn a_limit_on_the_size_of_files_is_named() {
    let home = temporary_dir();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -f 1000; exec \"$0\" serve --data-dir \"$1\" --binary \
        127.0.0.1:0 --http 127.0.0.1:0 --shards 1",
    ]);
    command.arg(env!("CARGO_BIN_EXE_boxoffice")).arg(home.path().join("data"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let refused = Refused::from_run(command);
    assert_refused(&refused, ExitCode::Environment, &["ulimit -f", "LimitFSIZE="]);
}

/// As the ports of a server are for a moment after it was killed.
#[test]
fn a_port_that_becomes_free_is_waited_for() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it has an address");
    let leaving = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        drop(taken);
    });
    let server = Server::start_with(|serve| serve.with("--http", &address.to_string()));
    assert_eq!(server.http_address(), address);
    leaving.join().expect("it only sleeps");
}

#[test]
fn a_data_directory_that_is_a_file_is_a_wrong_setting() {
    let home = temporary_dir();
    let file = home.path().join("file");
    fs::write(&file, "precious").expect("it can be written");
    for data_dir in [file.clone(), file.join("below")] {
        let refused = Serve::on(&data_dir).refused();
        let names = [file.to_str().expect("UTF-8"), "a file", "--data-dir"];
        assert_refused(&refused, ExitCode::Configuration, &names);
    }
    assert_eq!(fs::read_to_string(&file).expect("it is still there"), "precious");
}

/// In `/proc` nobody can make a directory, not even the superuser.
#[test]
fn a_data_directory_that_cannot_be_made_is_a_wrong_setting() {
    let refused = Serve::on(Path::new("/proc/boxoffice-data")).refused();
    assert_refused(&refused, ExitCode::Configuration, &["/proc/boxoffice-data"]);
}

/// Neither a directory that cannot be written, nor one in which none can be made.
#[test]
fn a_data_directory_without_the_right_to_write_is_a_wrong_setting() {
    let home = temporary_dir();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let mut nobody = Command::new("true");
    if !nobody.uid(65534).gid(65534).status().is_ok_and(|status| status.success()) {
        return println!("skipped, nobody else can be");
    }
    for data_dir in [home.path().to_owned(), home.path().join("new")] {
        let mut command = Serve::on(&data_dir).command();
        command.uid(65534).gid(65534);
        let refused = Refused::from_run(command);
        let name = data_dir.to_str().expect("UTF-8");
        assert_refused(&refused, ExitCode::Configuration, &[name, "ermission denied"]);
    }
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    let home = temporary_dir();
    fs::write(home.path().join("letters"), "precious").expect("it can be written");
    assert_left_alone(home.path(), ExitCode::ForeignData, &[home.path().to_str().expect("UTF-8")]);
}

#[test]
fn a_data_directory_of_a_newer_layout_is_left_alone() {
    let home = temporary_dir();
    make_data_dir(home.path());
    let manifest = home.path().join("MANIFEST");
    let text = fs::read_to_string(&manifest).expect("a data directory has a manifest");
    let mut json: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    json["format"] = 999.into();
    fs::write(&manifest, json.to_string()).expect("it can be written");
    assert_left_alone(home.path(), ExitCode::ForeignData, &["MANIFEST", "999"]);
}

#[test]
fn a_log_of_a_newer_format_is_left_alone() {
    let home = temporary_dir();
    make_data_dir(home.path());
    let segment = first_segment(home.path());
    // The version lies behind the eight bytes of the magic.
    overwrite(&segment, 8, &999_u16.to_le_bytes());
    let name = segment.to_str().expect("UTF-8").to_owned();
    assert_left_alone(home.path(), ExitCode::ForeignData, &[&name, "999"]);
}

#[test]
fn the_log_of_another_data_directory_is_left_alone() {
    let [home, other] = [temporary_dir(), temporary_dir()];
    make_data_dir(home.path());
    make_data_dir(other.path());
    let segment = first_segment(home.path());
    fs::copy(first_segment(other.path()), &segment).expect("it can be copied");
    let name = segment.to_str().expect("UTF-8").to_owned();
    assert_left_alone(home.path(), ExitCode::ForeignData, &[&name]);
}

#[test]
fn a_damaged_log_is_left_alone() {
    let home = temporary_dir();
    make_data_dir(home.path());
    let segment = first_segment(home.path());
    // Unused bytes of the header, which its checksum covers like all others.
    overwrite(&segment, 2048, b"damage");
    let name = segment.to_str().expect("UTF-8").to_owned();
    assert_left_alone(home.path(), ExitCode::DamagedLog, &[&name, "offset 0"]);
}

/// A segment that is there and cannot be read: here a directory, elsewhere a bad sector.
#[test]
fn a_log_that_cannot_be_read_is_left_alone() {
    let home = temporary_dir();
    make_data_dir(home.path());
    let segment = first_segment(home.path());
    fs::remove_file(&segment).expect("it can be removed");
    fs::create_dir(&segment).expect("a directory can be made");
    let name = segment.to_str().expect("UTF-8").to_owned();
    assert_refused(&Serve::on(home.path()).refused(), ExitCode::CannotRead, &[&name, "s a dir"]);
}

#[test]
fn an_address_that_others_reach_needs_keys() {
    let home = temporary_dir();
    for address in ["0.0.0.0:0", "[::]:0"] {
        let refused = Serve::on(&home.path().join("data")).with("--binary", address).refused();
        assert_refused(&refused, ExitCode::Configuration, &[address, "--keys"]);
    }
    assert!(!home.path().join("data").exists(), "a wrong setting makes no data directory");
}

#[test]
fn a_key_file_that_is_missing_or_bad_is_a_wrong_setting() {
    let home = temporary_dir();
    let keys = home.path().join("keys");
    let name = keys.to_str().expect("UTF-8");
    let serve = Serve::on(&home.path().join("data")).with("--keys", name);
    assert_refused(&serve.refused(), ExitCode::Configuration, &[name]);
    // No scope, a scope that is none, bytes that are no text: a bad line is named by its number.
    for bad in [&b"nonsense\n"[..], b"sell 00\n", b"\xff\xfe\x00\n"] {
        fs::write(&keys, bad).expect("it can be written");
        assert_refused(&serve.refused(), ExitCode::Configuration, &[&format!("{name}:1")]);
    }
    assert!(!home.path().join("data").exists(), "a wrong setting makes no data directory");
}
