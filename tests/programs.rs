//! The programs beside `serve`, as a script sees them: what they print, and their exit codes.
//!
//! `sale` runs against a real server, `audit` on directories that a real server wrote, `demo`
//! whole, only smaller. Each failure is one line and the documented code.

#[path = "support/http_peer.rs"]
mod http_peer;
#[path = "support/server.rs"]
mod server;

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::num::NonZeroU16;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use boxoffice::admission::keys::Keys;
use boxoffice::cli::exit::ExitCode;
use boxoffice::model::record::{Bought, Origin, Record};
use boxoffice::model::{
    AccountId, BodyDigest, ItemId, Line, OrderNumber, PaymentRef, Quantity, RequestId, SaleId,
    Scopes, ShardIndex,
};
use boxoffice::wal::{
    BLOCK_BYTES, Batch, FRAME_BYTES_MAX, FileStorage, LogStorage, LogWriter, Position,
    SEGMENT_HEADER_BYTES, SegmentIndex, recover, shard_dir,
};
use http_peer::HttpPeer;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use server::{Refused, Serve, Server, assert_refused, temporary_dir};

/// Runs the program to its end.
fn run(arguments: &[&str]) -> Refused {
    let mut command = Command::new(env!("CARGO_BIN_EXE_boxoffice"));
    command.args(arguments).env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Refused::from_run(command)
}

/// Runs the program, which must succeed, and returns what it printed.
#[track_caller]
fn told(arguments: &[&str]) -> String {
    let done = run(arguments);
    assert_eq!(done.code, Some(0), "{arguments:?}: {done:?}");
    done.stdout
}

#[track_caller]
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("the path is UTF-8")
}

/// `boxoffice sale` with these words, at one server.
struct Office {
    /// Where administration listens.
    address: String,
    key_file: Option<String>,
}

impl Office {
    fn at(server: &Server) -> Self {
        Self { address: server.admin_address().to_owned(), key_file: None }
    }

    fn words<'a>(&'a self, line: &'a str) -> Vec<&'a str> {
        let key = self.key_file.iter().flat_map(|file| ["--key-file", file]);
        ["sale", "--admin", &self.address].into_iter().chain(key).chain(line.split(' ')).collect()
    }

    #[track_caller]
    fn told(&self, line: &str) -> String {
        told(&self.words(line))
    }

    #[track_caller]
    fn refused(&self, line: &str, code: ExitCode, names: &[&str]) {
        let refused = run(&self.words(line));
        assert_refused(&refused, code, names);
        assert_eq!(refused.stdout, "", "{line}: a failure prints no facts");
    }

    #[track_caller]
    fn shown(&self, sale: u64) -> Value {
        json(&self.told(&format!("show {sale} --json")))
    }
}

#[test]
fn a_sale_goes_from_its_definition_to_its_end() {
    let server = Server::start();
    let office = Office::at(&server);
    office.told("define 7 --account-limit 4 --hold-ttl 60");
    office.told("item 7 1 --capacity 100 --price 4500 --account-limit 3");
    let shown = office.shown(7);
    assert_eq!((&shown["state"], &shown["hold_ttl_ms"]), (&"scheduled".into(), &60_000.into()));
    assert_eq!(shown["account_limit"], 4);
    let item = &shown["items"][0];
    assert_eq!((&item["item"], &item["price"]), (&1.into(), &4500.into()));
    assert_eq!((&item["account_limit"], &item["capacity"]), (&3.into(), &100.into()));

    for (line, state, capacity) in [
        ("open 7", "open", 100),
        ("restock 7 1 -40", "open", 60),
        ("pause 7", "paused", 60),
        ("restock 7 1 5", "paused", 65),
        ("open 7", "open", 65),
        ("close 7", "closed", 65),
        ("close 7", "closed", 65),
        ("archive 7", "archived", 65),
    ] {
        assert_eq!(office.told(line).lines().count(), 1, "{line}");
        let shown = office.shown(7);
        let item = &shown["items"][0];
        assert_eq!((&shown["state"], &item["capacity"]), (&state.into(), &capacity.into()));
        assert_eq!(item["available"], capacity, "{line}: nobody bought");
    }
    let text = office.told("show 7");
    assert!(text.starts_with("sale 7: archived\n") && text.contains("4500"), "{text}");
}

/// What a repeated definition does not name, a restock included, stays as it was.
#[test]
fn a_definition_that_is_repeated_resets_nothing() {
    let server = Server::start();
    let office = Office::at(&server);
    let opens_at = 4_000_000_000_000_u64;
    office.told(&format!("define 7 --account-limit 4 --hold-ttl 60 --opens-at {opens_at}"));
    office.told("item 7 1 --capacity 100 --price 4500 --account-limit 3");
    office.told("restock 7 1 20");
    let before = office.shown(7);
    assert_eq!(office.told("define 7"), "sale 7 was so already\n");
    office.told("item 7 1");
    office.told("item 7 1 --price 4500");
    assert_eq!(office.shown(7), before);

    assert_eq!(office.told("define 7 --hold-ttl 90"), "sale 7 is changed\n");
    office.told("define 7 --account-limit none");
    assert_eq!(office.told("item 7 1 --price 5000"), "item 1 of sale 7 has 120 units\n");
    let lowered = office.told("item 7 1 --capacity 12");
    assert_eq!(lowered, "item 1 of sale 7 has 12 units, and had 120 before\n");
    let shown = office.shown(7);
    assert_eq!((&shown["hold_ttl_ms"], &shown["opens_at_ms"]), (&90_000.into(), &opens_at.into()));
    assert_eq!(shown["account_limit"], Value::Null);
    let item = &shown["items"][0];
    assert_eq!((&item["capacity"], &item["price"]), (&12.into(), &5000.into()));
    assert_eq!(item["account_limit"], 3);
}

#[test]
fn what_a_sale_does_not_allow_is_one_line_and_changes_nothing() {
    let server = Server::start();
    let office = Office::at(&server);
    office.told("define 7");
    office.told("item 7 1 --capacity 100 --price 4500");
    office.told("open 7");
    let before = office.shown(7);
    for (line, names) in [
        ("show 8", &["NOT_FOUND"][..]),
        ("open 8", &["NOT_FOUND"]),
        ("item 8 1 --capacity 1 --price 1", &["NOT_FOUND"]),
        ("restock 7 2 5", &["BAD_REQUEST", "item"]),
        ("restock 7 1 0", &["BAD_REQUEST", "by"]),
        ("archive 7", &["NOT_CLOSED"]),
        ("orders 7 --account 00000000-0000-0000-0000-000000000000", &["BAD_REQUEST", "account"]),
        ("restock 7 1 -101", &["BAD_REQUEST", "capacity"]),
        ("restock 7 1 4000000000", &["BAD_REQUEST", "capacity"]),
        ("define 7 --account-limit 1", &["BAD_REQUEST", "window"]),
        ("item 7 1 --capacity 9 --price 1", &["BAD_REQUEST", "window"]),
        ("define 8 --hold-ttl 0", &["BAD_REQUEST", "hold_ttl_ms"]),
        ("define 8 --hold-ttl 4294967295", &["BAD_REQUEST", "ttl"]),
        ("define 8 --account-limit 0", &["BAD_REQUEST", "limit"]),
        ("define 8 --opens-at 1", &["BAD_REQUEST", "window"]),
    ] {
        office.refused(line, ExitCode::Refused, names);
    }
    for (line, name) in [
        ("define seven", "seven"),
        ("item 7 2 --capacity 5", "--price"),
        ("item 7 2 --price 5", "--capacity"),
        ("define 8 --account-limit some", "some"),
        ("item 7 1 --capacity 5000000000 --price 1", "5000000000"),
        ("restock 7 1 few", "few"),
        ("sell 7", "sell"),
        ("open 7 --now", "--now"),
    ] {
        office.refused(line, ExitCode::Usage, &[name]);
    }
    assert_eq!(office.shown(7), before);
    office.refused("show 8", ExitCode::Refused, &["NOT_FOUND"]);
    office.told("close 7");
    office.refused("open 7", ExitCode::Refused, &["CLOSED"]);
    office.refused("restock 7 1 1", ExitCode::Refused, &["CLOSED"]);
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let mut server = Server::start();
    let office = Office::at(&server);
    assert!(server.terminate().success());
    office.refused("show 7", ExitCode::NoServer, &[&office.address, "boxoffice serve"]);
    let nowhere = Office { address: "nowhere".to_owned(), key_file: None };
    nowhere.refused("show 7", ExitCode::Usage, &["nowhere"]);
}

#[test]
fn a_socket_of_others_is_told_from_no_server() {
    let home = temporary_dir();
    let open = Permissions::from_mode(0o755);
    fs::set_permissions(home.path(), open).expect("it is ours");
    let socket = home.path().join("admin.sock");
    let server = Server::start_with(|serve| serve.with("--admin", utf8(&socket)));
    let mut nobody = Command::new("true");
    if !nobody.uid(65534).gid(65534).status().is_ok_and(|status| status.success()) {
        return println!("skipped, nobody else can be");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_boxoffice"));
    command.args(Office::at(&server).words("show 7")).uid(65534).gid(65534);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let refused = Refused::from_run(command);
    assert_refused(&refused, ExitCode::Refused, &[utf8(&socket), "permission denied"]);
}

#[test]
fn sales_and_orders_are_listed() {
    let server = Server::start();
    let office = Office::at(&server);
    assert_eq!(office.told("list").lines().count(), 1, "the names of the columns");
    for sale in 1..=150 {
        office.told(&format!("define {sale} --json"));
    }
    let listed = json(&office.told("list --json"));
    let ids: Vec<u64> = listed["sales"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|sale| sale["sale"].as_u64().expect("an id"))
        .collect();
    assert!(ids.into_iter().eq(1..=150), "more than one page: {listed}");
    let text = office.told("list");
    assert_eq!(text.lines().count(), 151, "{text}");

    office.told("item 7 1 --capacity 10 --price 1");
    office.told("open 7");
    let mut http = HttpPeer::connect(server.http_address());
    let order = |account: &str| {
        let line = serde_json::json!({"item": 1, "quantity": 2});
        serde_json::json!({"action": "buy", "account": account, "lines": [line]})
    };
    for (key, account) in [("1", "ann & co"), ("2", "bob"), ("3", "ann & co")] {
        assert_eq!(http.post("/v1/sales/7/orders", key, &order(account)).status, 201);
    }
    let words = ["sale", "--admin", &office.address, "orders", "7", "--account", "ann & co"];
    let text = told(&words);
    assert_eq!(text.lines().count(), 3, "{text}");
    let orders = json(&told(&[&words[..], &["--json"]].concat()));
    let numbers: Vec<&Value> =
        orders["orders"].as_array().expect("a list").iter().map(|order| &order["order"]).collect();
    assert_eq!(numbers, [1, 3]);

    let again = "restock 7 1 5 --request-id delivery-9 --json";
    for steps in [1, 0] {
        let changed = json(&office.told(again));
        assert_eq!(changed["done"].as_array().map(Vec::len), Some(steps), "{changed}");
        assert_eq!(changed["sale"]["units"]["capacity"], 15);
    }
}

/// The variables of the server's settings lead its tools to it too.
#[test]
fn sale_finds_the_server_that_the_environment_names() {
    let server = Server::start();
    let sale = |variable: &str, value: &str, flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_boxoffice"));
        command.arg("sale").args(flags).args(["list", "--json"]).env(variable, value);
        command.output().expect("the program can be run")
    };
    let data_dir = utf8(server.data_dir());
    for (variable, value) in
        [("BOXOFFICE_ADMIN", server.admin_address()), ("BOXOFFICE_DATA_DIR", data_dir)]
    {
        let listed = sale(variable, value, &[]);
        assert!(listed.status.success(), "{variable}: {listed:?}");
    }
    let flag = sale("BOXOFFICE_ADMIN", "./nobody", &["--admin", server.admin_address()]);
    assert!(flag.status.success(), "a flag comes before the environment: {flag:?}");
    let nowhere = sale("BOXOFFICE_ADMIN", "here", &[]);
    let said = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(said.contains("BOXOFFICE_ADMIN: `here`") && said.contains("`/`"), "{said}");
}

#[test]
fn a_wrong_number_is_told_in_words() {
    let done = run(&["sale", "item", "7", "1", "--capacity", "10", "--price", "45.00"]);
    assert_eq!(done.code, Some(i32::from(ExitCode::Usage.number())), "{done:?}");
    for word in ["45.00", "--price", "such as 250", "45.00 is 4500"] {
        assert!(done.stderr.contains(word), "{word}: {done:?}");
    }
    let done = run(&["sale", "show", "seven"]);
    assert!(done.stderr.contains("a whole number is expected"), "{done:?}");
}

#[test]
fn a_key_is_made_with_the_line_that_admits_it() {
    let home = temporary_dir();
    let [buy, admin] = [("shop", "buy"), ("office", "buy,admin")].map(|(name, scopes)| {
        let made = json(&told(&["key", name, "--scopes", scopes, "--json"]));
        let [key, line] = ["key", "line"].map(|field| made[field].as_str().expect("a text"));
        let keys = Keys::parse(line, "made").expect("it is a line of a key file");
        let (index, scope) = keys.verify(key.as_bytes()).expect("the line admits the key");
        assert_eq!((keys.name(index), scope.admin), (name, scopes.contains("admin")));
        assert!(scope.buy && !line.contains(key), "the line keeps the key to itself");
        let file = home.path().join(name);
        fs::write(&file, key).expect("it can be written");
        (file, line.to_owned())
    });
    assert_ne!(json(&told(&["key", "shop", "--json"])), json(&told(&["key", "shop", "--json"])));
    assert!(told(&["key", "shop"]).contains("bo_"), "for people, too");
    assert_refused(&run(&["key", "my shop"]), ExitCode::Usage, &["my shop"]);
    assert_refused(&run(&["key", "shop", "--scopes", "sell"]), ExitCode::Usage, &["sell"]);

    let keys = home.path().join("keys");
    fs::write(&keys, format!("{}\n{}\n", buy.1, admin.1)).expect("it can be written");
    let server = Server::start_with(|serve| {
        serve.with("--keys", utf8(&keys)).with("--admin", "127.0.0.1:0")
    });
    let mut office = Office::at(&server);
    office.refused("define 7", ExitCode::Refused, &["BAD_TOKEN", "--key-file"]);
    office.key_file = Some(utf8(&buy.0).to_owned());
    office.refused("define 7", ExitCode::Refused, &["FORBIDDEN", "admin"]);
    office.key_file = Some(utf8(&admin.0).to_owned());
    office.told("define 7");
    let missing = home.path().join("missing");
    office.key_file = Some(utf8(&missing).to_owned());
    office.refused("define 7", ExitCode::Configuration, &[utf8(&missing)]);
    assert_eq!(Scopes::default(), Scopes { buy: false, admin: false });
}

/// A stopped server's directory with one open sale of ten units.
fn stopped_with_a_sale(data_dir: &Path) {
    let mut server = Server::start_on(data_dir, Serve::on(data_dir));
    let office = Office::at(&server);
    for line in ["define 7", "item 7 1 --capacity 10 --price 1", "open 7"] {
        office.told(line);
    }
    let in_use = run(&["audit", utf8(data_dir)]);
    let leads = [utf8(data_dir), "boxoffice backup", "boxoffice audit BACKUP"];
    assert_refused(&in_use, ExitCode::DirectoryInUse, &leads);
    assert!(!in_use.stderr.contains("--data-dir"), "it has no such flag: {in_use:?}");
    assert!(server.terminate().success());
}

/// Sells more than there is, as a broken server would: a good frame with a bad record.
fn oversell(data_dir: &Path) {
    let dir = shard_dir(data_dir, ShardIndex(0));
    let storage = FileStorage::open(&dir).expect("the log");
    let recovered = recover(&storage, None, |_| ()).expect("a good log");
    assert_eq!(recovered.identity.shards, NonZeroU16::MIN);
    let mut writer = LogWriter::new(&recovered);
    let mut batch = Batch::new(vec![0; FRAME_BYTES_MAX]);
    let origin = Origin {
        sale: SaleId(7),
        account: AccountId(1),
        request: RequestId(1),
        digest: BodyDigest(0),
    };
    let lines = [Line { item: ItemId(1), quantity: Quantity(11) }].into_iter().collect();
    let bought = Bought { origin, order: OrderNumber(1), lines, payment: PaymentRef::default() };
    let record = Record::Bought(bought);
    writer.append(&mut batch, recovered.last_time, &record).expect("room in the batch");
    let sealed = writer.seal(&mut batch).expect("room in the segment");
    overwrite(&storage, sealed.position, &batch.buffer()[..sealed.bytes]);
}

fn overwrite(storage: &FileStorage, position: Position, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(storage.path(position.segment));
    let file = file.expect("the segment can be opened");
    file.write_all_at(bytes, position.offset).expect("it can be written");
}

#[test]
fn an_audit_tells_by_its_exit_code_what_it_found() {
    let home = temporary_dir();
    let data_dir = home.path().join("data");
    let dir = utf8(&data_dir);
    assert_refused(&run(&["audit", dir]), ExitCode::Configuration, &[dir, "MANIFEST"]);
    stopped_with_a_sale(&data_dir);

    let report = json(&told(&["audit", dir, "--json"]));
    assert_eq!((&report["violation_count"], &report["sales"][0]["sale"]), (&0.into(), &7.into()));
    assert_eq!(report["sales"][0]["items"][0]["available"], 10);
    assert_eq!(report["shards"][0]["records"], 3);
    assert!(told(&["audit", dir]).ends_with("clean: every rule holds at every record\n"));

    oversell(&data_dir);
    let leads = ["boxoffice audit", "wal verify", "boxoffice restore", "does not help", dir];
    assert_refused(&Serve::on(&data_dir).refused(), ExitCode::DamagedLog, &leads);
    let broken = run(&["audit", dir, "--json"]);
    assert_refused(&broken, ExitCode::Violation, &["1 violation"]);
    let report = json(&broken.stdout);
    assert_eq!(report["violation_count"], 1);
    assert_eq!(report["violations"][0]["rule"], "capacity");
    assert_eq!(report["sales"][0]["items"][0]["sold"], 11);

    // The frame before the last: what comes behind it shows that it was whole once.
    let storage = FileStorage::open(&shard_dir(&data_dir, ShardIndex(0))).expect("the log");
    let offset = (SEGMENT_HEADER_BYTES + BLOCK_BYTES) as u64;
    overwrite(&storage, Position { segment: SegmentIndex::FIRST, offset }, b"damage");
    let damaged = run(&["audit", dir, "--json"]);
    assert_refused(&damaged, ExitCode::DamagedLog, &["report"]);
    let failure = json(&damaged.stdout)["shards"][0]["failure"].to_string();
    assert!(failure.contains(&format!("offset {offset}")), "{failure}");
}

#[test]
fn a_demo_that_cannot_begin_says_why_by_its_exit_code() {
    let home = temporary_dir();
    let missing = home.path().join("missing");
    let refused = run(&["demo", "--dir", utf8(&missing)]);
    assert_refused(&refused, ExitCode::Configuration, &["--dir", utf8(&missing)]);
    assert!(!missing.exists(), "it makes no directory that it does not remove");

    let endless = run(&["demo", "--rate", "100", "--stock", "100000", "--dir", utf8(home.path())]);
    assert_refused(&endless, ExitCode::Usage, &["--rate 6667", "--stock 1500"]);
    assert_unwritable(home.path());

    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$0\" demo --dir \"$1\""]);
    command.args([env!("CARGO_BIN_EXE_boxoffice"), utf8(home.path())]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let refused = Refused::from_run(command);
    assert_eq!(refused.code, Some(i32::from(ExitCode::Environment.number())), "{refused:?}");
    assert!(refused.stderr.contains("limit of 64 open files"), "{refused:?}");
    assert_eq!(fs::read_dir(home.path()).expect("it can be listed").count(), 0);
}

/// A demo of somebody who may not write to `dir`.
fn assert_unwritable(dir: &Path) {
    fs::set_permissions(dir, Permissions::from_mode(0o755)).expect("it is ours");
    let mut nobody = Command::new("true");
    if !nobody.uid(65534).gid(65534).status().is_ok_and(|status| status.success()) {
        return println!("skipped, nobody else can be");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_boxoffice"));
    command.args(["demo", "--dir", utf8(dir)]).uid(65534).gid(65534);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let refused = Refused::from_run(command);
    assert_refused(&refused, ExitCode::Configuration, &["--dir", "ermission denied"]);
    assert!(!refused.stderr.contains("--data-dir"), "it has no such flag: {refused:?}");
}

/// Who has seen enough presses Ctrl-C, a supervisor sends SIGTERM, a test harness SIGKILL: none of
/// them is left with a server that nobody knows of.
#[test]
fn an_interrupted_demo_leaves_no_server_and_no_directory() {
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let home = temporary_dir();
        let mut command = Command::new(env!("CARGO_BIN_EXE_boxoffice"));
        command.args(["demo", "--rate", "5000", "--stock", "70000", "--dir", utf8(home.path())]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut demo = command.spawn().expect("the program can be run");
        let mut said = BufReader::new(demo.stderr.take().expect("it is piped")).lines();
        let selling = said.by_ref().map_while(Result::ok).find(|line| line.contains("selling"));
        assert!(selling.is_some(), "it begins to sell");
        kill_process(Pid::from_child(&demo), signal).expect("it runs");
        // The server holds stderr as well: what is read to its end is held by nobody.
        let said: Vec<String> = said.map_while(Result::ok).collect();
        let status = demo.wait().expect("it ends");
        if signal == Signal::KILL {
            continue;
        }
        assert_eq!(status.code(), Some(i32::from(ExitCode::Failure.number())), "{said:?}");
        assert!(said.last().is_some_and(|line| line.contains("interrupted")), "{said:?}");
        let left = fs::read_dir(home.path()).expect("it can be listed").count();
        assert_eq!(left, 0, "{signal:?}: the demo cleans up");
    }
}

#[test]
fn a_small_demo_proves_what_a_large_one_does() {
    let home = temporary_dir();
    let demo = ["demo", "--rate", "5000", "--stock", "5000", "--json", "--dir", utf8(home.path())];
    let done = run(&demo);
    assert_eq!(done.code, Some(0), "{}\n{}", done.stdout, done.stderr);
    let report = json(&done.stdout);
    for zero in ["oversold", "undersold", "lost", "contradictions", "unanswered", "unaccounted"] {
        assert_eq!(report[zero], 0, "{zero}: {report}");
    }
    assert_eq!((&report["sold"], &report["audit_violations"]), (&5000.into(), &0.into()));
    for positive in
        ["kills", "asked_before_kills", "duplicates", "resent_after_kills", "audited_records"]
    {
        assert!(report[positive].as_u64().is_some_and(|count| count > 0), "{positive}: {report}");
    }
    assert!(report["web"]["bought"].as_u64() > Some(0), "{report}");
    assert!(report["after_kills"]["checked"].as_u64() > Some(0), "{report}");
    let left = fs::read_dir(home.path()).expect("it can be listed").count();
    assert_eq!(left, 0, "the demo cleans up");
}
