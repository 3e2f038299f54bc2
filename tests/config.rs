//! The settings of the real program: which source counts, what is refused and where, and what
//! `check-config` says of it.

#[path = "support/server.rs"]
mod server;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use boxoffice::cli::exit::ExitCode;
use serde_json::{Value, json};
use server::{Refused, assert_refused, first_words, temporary_dir};

/// A directory with a configuration file, and the program run on it.
struct Office {
    home: tempfile::TempDir,
    file: PathBuf,
}

impl Office {
    /// With this configuration file.
    fn with(text: &str) -> Self {
        let home = temporary_dir();
        let file = home.path().join("boxoffice.toml");
        fs::write(&file, text).expect("it can be written");
        Self { home, file }
    }

    fn file(&self) -> &str {
        self.file.to_str().expect("UTF-8")
    }

    /// The place of a line of the file.
    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.file())
    }

    /// The program in the directory, with no setting from this test's own environment.
    fn command(&self, words: &[&str], environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_boxoffice"));
        command.env_clear().envs(environment.iter().copied()).current_dir(self.home.path());
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, words: &[&str], environment: &[(&str, &str)]) -> Refused {
        Refused::from_run(self.command(words, environment))
    }

    /// What `check-config --json` says, whether or not it finds problems.
    #[track_caller]
    fn report(&self, flags: &[&str], environment: &[(&str, &str)]) -> Value {
        let done = self.run(&[&["check-config", "--json"], flags].concat(), environment);
        serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"))
    }

    /// `check-config` with the file: the problems that it tells, which end it.
    #[track_caller]
    fn problems(&self) -> Vec<String> {
        let done = self.run(&["check-config", "--config", self.file()], &[]);
        let problems: Vec<String> = done
            .stdout
            .lines()
            .filter_map(|line| line.strip_prefix("# problem: "))
            .map(str::to_owned)
            .collect();
        assert!(!problems.is_empty(), "there should be a problem: {done:?}");
        assert_refused(&done, ExitCode::Configuration, &[&problems[0]]);
        problems
    }
}

#[track_caller]
fn row<'a>(report: &'a Value, name: &str) -> &'a Value {
    let rows = report["settings"].as_array().expect("a list");
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name}: {report}"))
}

/// A setting's value, kind of origin, and place.
#[track_caller]
fn setting(report: &Value, name: &str) -> (Value, Value, Value) {
    let row = row(report, name);
    (row["value"].clone(), row["origin"].clone(), row["place"].clone())
}

#[test]
fn a_flag_counts_more_than_the_environment_than_the_file_than_the_default() {
    let office = Office::with(
        "connections = 11\nproxy_protocol = true\n\ntrusted_proxies = ['10.0.0.0/8']\n",
    );
    let config = ["--config", office.file()];
    let environment = [
        ("BOXOFFICE_CONNECTIONS", "12"),
        ("BOXOFFICE_PROXY_PROTOCOL", "false"),
        ("BOXOFFICE_TRUSTED_PROXIES", "10.1.0.0/16, ::1/128"),
    ];
    let flags =
        ["--connections", "13", "--proxy-protocol", "true", "--trusted-proxy", "10.2.0.0/16"];
    let flags = [&config[..], &flags, &["--trusted-proxy", "10.3.0.0/16"]].concat();

    let report = office.report(&[], &[]);
    assert_eq!(setting(&report, "connections"), (json!(10_000), json!("default"), Value::Null));
    assert_eq!(setting(&report, "proxy_protocol").0, json!(false));
    assert_eq!(setting(&report, "trusted_proxies").0, json!([]));
    assert_eq!(setting(&report, "keys"), (Value::Null, json!("default"), Value::Null));

    let report = office.report(&config, &[]);
    let at = |line| json!(office.at(line));
    assert_eq!(setting(&report, "connections"), (json!(11), json!("file"), at(1)));
    assert_eq!(setting(&report, "proxy_protocol"), (json!(true), json!("file"), at(2)));
    assert_eq!(setting(&report, "trusted_proxies"), (json!(["10.0.0.0/8"]), json!("file"), at(4)));

    let report = office.report(&config, &environment);
    let from = |name: &str| json!(format!("BOXOFFICE_{name}"));
    let is = json!("environment");
    assert_eq!(setting(&report, "connections"), (json!(12), is.clone(), from("CONNECTIONS")));
    assert_eq!(setting(&report, "proxy_protocol").0, json!(false));
    assert_eq!(
        setting(&report, "trusted_proxies"),
        (json!(["10.1.0.0/16", "::1/128"]), is, from("TRUSTED_PROXIES"))
    );

    let report = office.report(&flags, &environment);
    let is = json!("flag");
    assert_eq!(setting(&report, "connections"), (json!(13), is.clone(), json!("--connections")));
    assert_eq!(setting(&report, "proxy_protocol").0, json!(true));
    assert_eq!(
        setting(&report, "trusted_proxies"),
        (json!(["10.2.0.0/16", "10.3.0.0/16"]), is, json!("--trusted-proxy"))
    );
}

/// Each setting from each source, with the values of the sample file.
#[test]
fn every_setting_can_come_from_every_source() {
    let sample = Office::with("").run(&["check-config", "--sample"], &[]).stdout;
    let names: Vec<String> = Office::with("").report(&[], &[])["settings"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| row["name"].as_str().expect("a name").to_owned())
        .collect();
    let lines: Vec<String> = sample
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| {
            line.split_once(" = ").is_some_and(|(name, _)| names.iter().any(|n| n == name))
        })
        .map(str::to_owned)
        .collect();
    assert_eq!(lines.len(), names.len(), "the sample has each setting once:\n{sample}");
    let office = Office::with(&lines.join("\n"));
    let help = office.run(&["serve", "--help"], &[]).stdout;
    let report = office.report(&["--config", office.file()], &[]);
    for (line, text) in (1..).zip(&lines) {
        let (name, value) = text.split_once(" = ").expect("it was found by that");
        let value: Value = serde_json::from_str(value).expect("TOML that is JSON as well");
        assert_eq!(
            setting(&report, name),
            (value.clone(), json!("file"), json!(office.at(line))),
            "{name}"
        );
        let one = match &value {
            Value::Array(list) => list[0].clone(),
            one => one.clone(),
        };
        let one = one.as_str().map_or_else(|| one.to_string(), str::to_owned);
        let variable = format!("BOXOFFICE_{}", name.to_uppercase());
        let from_environment = office.report(&[], &[(&variable, &one)]);
        assert_eq!(
            setting(&from_environment, name),
            (value.clone(), json!("environment"), json!(variable)),
            "{name}"
        );
        // A flag leaves the unit out, and takes one of several values at a time.
        let bare = name.trim_end_matches("_ms").trim_end_matches("_s").replace('_', "-");
        let flag = match &value {
            Value::Array(_) if bare.ends_with("ies") => {
                format!("--{}y", bare.trim_end_matches("ies"))
            }
            Value::Array(_) => format!("--{}", bare.trim_end_matches('s')),
            _ => format!("--{bare}"),
        };
        assert!(help.contains(&flag), "{flag}:\n{help}");
        let from_flag = office.report(&[&format!("{flag}={one}")], &[]);
        assert_eq!(setting(&from_flag, name), (value, json!("flag"), json!(flag)), "{name}");
    }
}

#[test]
fn the_environment_can_name_the_file_and_the_flag_counts_more() {
    let [first, second] = ["connections = 11", "connections = 12"].map(Office::with);
    let environment = [("BOXOFFICE_CONFIG", first.file())];
    assert_eq!(setting(&first.report(&[], &environment), "connections").0, json!(11));
    let report = first.report(&["--config", second.file()], &environment);
    assert_eq!(setting(&report, "connections").0, json!(12));
}

#[test]
fn a_server_is_started_with_what_the_file_says() {
    let office = Office::with(
        "data_dir = 'data'\nshards = 2\nbinary = '127.0.0.1:0'\nhttp = '127.0.0.1:0'\n\
         segment_bytes = 2097152\nlog = 'debug'\n",
    );
    let words = ["serve", "--config", office.file()];
    let said = first_words(office.command(&words, &[("BOXOFFICE_LOG", "warn")]));
    assert!(said.stdout.lines().any(|line| line == "ready"), "{said:?}");
    assert!(said.stdout.contains("listening shard 1 "), "two shards: {said:?}");
    assert!(!said.stderr.contains("INFO"), "the environment counts more: {said:?}");
    assert!(office.home.path().join("data/MANIFEST").exists());
}

#[test]
fn every_error_of_a_file_has_its_line_and_all_are_told() {
    let office = Office::with(
        "# settings\n\
         shards = 300\n\
         shard = 2\n\
         log = \"loud\"\n\
         connections = \"many\"\n\
         cors_origins = [\"https://a.example\", \"a.example/path\"]\n\
         [limits]\n\
         connections = 3\n",
    );
    let at = |line, problem: &str| format!("{}: {problem}", office.at(line));
    assert_eq!(
        office.problems(),
        [
            at(3, "there is no setting `shard`; did you mean `shards`?"),
            at(
                5,
                "connections = \"many\": expected a whole number from 1 to 1000000, without quotes"
            ),
            at(7, "[limits] is a table; settings stand at the top level, outside of tables"),
            at(2, "shards = 300: expected a whole number from 1 to 256"),
            at(4, "log = \"loud\": expected error, warn, info, debug or trace"),
            at(
                6,
                "cors_origins = [\"https://a.example\", \"a.example/path\"]: expected a list; each \
                 of it an origin such as https://tickets.example, or *"
            ),
        ]
    );
    // The server tells the first, and how many more there are.
    let refused = office.run(&["serve", "--config", office.file()], &[]);
    assert_refused(&refused, ExitCode::Configuration, &[&office.at(3), "5 more", "check-config"]);
    assert!(!office.home.path().join("boxoffice-data").exists(), "and starts nothing");
}

#[test]
fn a_duplicate_and_what_is_no_toml_have_their_lines() {
    let office = Office::with("shards = 1\n\nshards = 1\n");
    assert_eq!(
        office.problems(),
        [format!("{}: `shards` is given twice: remove one of them", office.at(3))]
    );
    let office = Office::with("shards = 1\nconnections =\n");
    let problems = office.problems();
    assert!(problems[0].starts_with(&format!("{}: not TOML: ", office.at(2))), "{problems:?}");
    let office = Office::with("");
    fs::write(&office.file, b"shards = 1\nkeys = '\xff'\n").expect("it can be written");
    assert_eq!(office.problems(), [format!("{}: not UTF-8 text", office.at(2))]);
    fs::remove_file(&office.file).expect("it can be removed");
    assert!(office.problems()[0].contains("cannot read the configuration"));
}

#[test]
fn a_wrong_variable_is_a_wrong_setting_and_a_wrong_flag_is_wrong_usage() {
    let office = Office::with("");
    for program in ["check-config", "serve", "doctor"] {
        let refused = office.run(&[program], &[("BOXOFFICE_BINARY", "nowhere")]);
        assert_refused(
            &refused,
            ExitCode::Configuration,
            &["BOXOFFICE_BINARY", "nowhere", "an address"],
        );
        let refused = office.run(&[program, "--binary", "nowhere"], &[]);
        assert_refused(&refused, ExitCode::Usage, &["--binary", "nowhere", "an address"]);
    }
    // Not ours to judge, and not given.
    let strange = [("BOXOFFICE_SERVICE_HOST", "10.0.0.1"), ("BOXOFFICE_SHARDS", "")];
    assert_eq!(office.run(&["check-config"], &strange).code, Some(0));
}

#[test]
fn files_and_addresses_that_cannot_be_used_are_told_together() {
    let office = Office::with(
        "data_dir = 'no/such/data'\nkeys = 'keys'\nbinary = '0.0.0.0:7400'\ncpus = '1000'\n\
         http = '127.0.0.1:7401'\ntoken_keys = ['tokens']\nproxy_protocol = true\n",
    );
    fs::write(office.home.path().join("keys"), "shop buy 00\n").expect("it can be written");
    let problems = office.problems();
    for (line, words) in [
        (1, "no directory no/such"),
        (2, "keys:1: "),
        (4, "CPU 1000 is not available"),
        (5, "port 7401 is one of those of `binary`"),
        (6, "tokens: cannot read the token key"),
        (7, "nobody is trusted to speak it"),
    ] {
        let place = office.at(line);
        let found = problems.iter().any(|p| p.starts_with(&place) && p.contains(words));
        assert!(found, "{place} {words}: {problems:#?}");
    }
    assert_eq!(problems.len(), 6, "{problems:#?}");
    assert!(!office.home.path().join("no").exists(), "nothing is made");

    for (flags, place, words) in [
        (&["--retention", "archive"][..], "--retention", "set `archive_dir`"),
        (&["--archive-dir", "old"], "--archive-dir", "`retention = \"archive\"`"),
        (
            &["--retention", "archive", "--archive-dir", "keys"],
            "--archive-dir",
            "keys is not a directory",
        ),
        (&["--admin", "./keys"], "--admin", "is no socket"),
        (&["--admin", "no/such/socket"], "--admin", "no directory no/such"),
        (&["--admin", &"d/".repeat(60)], "--admin", "at most 107"),
    ] {
        let report = office.report(flags, &[]);
        let [problem] = report["problems"].as_array().expect("a list").as_slice() else {
            panic!("{flags:?} is one problem: {report}");
        };
        assert_eq!(problem["place"], place, "{report}");
        let told = problem["problem"].as_str();
        assert!(told.is_some_and(|text| text.contains(words)), "{words}: {report}");
    }
    let archive = ["--retention", "archive", "--archive-dir", "old/logs"];
    assert_eq!(office.report(&archive, &[])["problems"], json!([]), "it is made at the start");

    let report = office.report(&["--token-issuer", "me", "--token-audience", "us"], &[]);
    for (index, flag) in ["--token-issuer", "--token-audience"].into_iter().enumerate() {
        let problem = report["problems"][index].to_string();
        assert!(problem.contains(flag) && problem.contains("without `token_keys`"), "{report}");
    }
    let report = office.report(&["--binary", "0.0.0.0:7400"], &[]);
    let problem = &report["problems"][0];
    assert_eq!(problem["place"], "--binary");
    assert!(problem["problem"].as_str().is_some_and(|text| text.contains("no key")), "{report}");

    let report = office.report(&["--buyers-confirm"], &[]);
    let problem = &report["problems"][0];
    assert!(problem["problem"].as_str().is_some_and(|text| text.contains("`token_keys`")));
    // As the server starts: over HTTP a token is a credential, in the binary protocol it is none.
    let key = office.home.path().join("shop.secret");
    fs::write(&key, "hs256 text a secret of the identity system, 32 bytes or more\n")
        .expect("it can be written");
    let key = key.to_str().expect("the path is UTF-8");
    let report = office.report(&["--token-key", key, "--http", "0.0.0.0:7480"], &[]);
    assert_eq!(report["problems"], json!([]));
    let report = office.report(&["--token-key", key, "--binary", "0.0.0.0:7400"], &[]);
    assert_eq!(report["problems"][0]["place"], "--binary");
}

#[test]
fn what_check_config_prints_is_a_configuration_file_again() {
    let office = Office::with("shards = 2\ncors_origins = ['*']\ndata_dir = 'a \"b\" \\ c'\n");
    let printed = office.run(&["check-config", "--config", office.file()], &[]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let again = Office::with(&printed.stdout);
    let values = |report: &Value| -> Vec<Value> {
        let rows = report["settings"].as_array().expect("a list");
        rows.iter().map(|row| row["value"].clone()).collect()
    };
    let [first, second] =
        [&office, &again].map(|office| values(&office.report(&["--config", office.file()], &[])));
    assert_eq!(first, second);
}
